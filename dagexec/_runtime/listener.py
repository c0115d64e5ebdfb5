"""Answers the doctor's questions from inside a process: what its executors do at this moment.

A thread of its own answers, so that it can say where a blocked event loop stands. The socket is a
file that only its user may open, in a folder that only its user may enter; whoever connects must
be that user, or root. Answers hold ids, names and lines of code, never arguments or values.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import socket
import stat
import struct
import sys
import threading
from pathlib import Path
from typing import Final

from dagexec._concurrency import forks
from dagexec._errors import DagexecError
from dagexec._runtime.waits import snapshot_of_all

_log: Final = logging.getLogger("dagexec")
PREFIX: Final = "dagexec-doctor-"
# Seconds that one who asks may take.
_PATIENCE: Final = 5.0
_lock = threading.Lock()
_listening: dict[int, tuple[Path, socket.socket]] = {}


def folders(user: int) -> tuple[Path, ...]:
    """Return where the sockets of a user's processes may be, the best place first."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    places = [Path(given)] if given and user == os.getuid() else []
    return (*places, Path(f"/run/user/{user}"), Path(f"/tmp/dagexec-{user}"))  # noqa: S108 - private_folder makes it 0700


def listen() -> Path:
    """Answer `dagexec doctor` from now on, in a thread of its own; return the socket's path.

    May be called more than once, and again in a forked child. Raises DagexecError where there are
    no unix sockets, and where no folder can be had that is the user's alone.
    """
    if not sys.platform.startswith("linux"):
        msg = f"the doctor's questions come over Linux's unix sockets; this is {sys.platform}"
        raise DagexecError(msg)
    pid = os.getpid()
    with _lock:
        if pid not in _listening:
            path = _private_folder() / f"{PREFIX}{pid}.sock"
            server = _bound(path)
            _listening[pid] = (path, server)
            threading.Thread(
                target=_serve, args=(server,), name="dagexec doctor", daemon=True
            ).start()
            atexit.register(_remove, path, pid)
        return _listening[pid][0]


def _forget() -> None:
    """Let go of the parent's socket in a forked child; it listens anew when it runs something."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    for _, server in _listening.values():
        server.close()  # or the parent's path would take questions after the parent's end
    if _listening:
        forks.later(listen_if_possible)
    _listening.clear()


forks.in_child(_forget)


def listen_if_possible() -> None:
    """Do so, or say in the log why not: what was only switched on to look must stop nothing."""
    try:
        listen()
    except DagexecError as error:
        _log.warning("DAGEXEC_DOCTOR is set, but %s", error)


def _private_folder() -> Path:
    user = os.getuid()
    for folder in folders(user):
        with contextlib.suppress(OSError):
            if folder.name == f"dagexec-{user}":
                folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
            if found.st_uid == user and private and os.access(folder, os.W_OK):
                return folder
    msg = (
        "no folder for the doctor's socket: set XDG_RUNTIME_DIR to a folder that belongs to you"
        " and that nobody else may enter (mode 0700)"
    )
    raise DagexecError(msg)


def listening() -> tuple[int, ...]:
    """Return the ids of this user's processes that answer, in order."""
    found: dict[int, None] = {}
    if not hasattr(socket, "AF_UNIX"):
        return ()
    for folder in folders(os.getuid()):
        with contextlib.suppress(OSError):
            for path in folder.glob(f"{PREFIX}*.sock"):
                name = path.name.removeprefix(PREFIX).removesuffix(".sock")
                if name.isdecimal() and _answers(path):
                    found[int(name)] = None
    return tuple(sorted(found))


def _answers(path: Path) -> bool:
    """Whether somebody listens there; a process that was killed leaves its socket behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _bound(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)  # left by a process that had this id and was killed
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(4)
    except OSError as error:
        server.close()
        msg = f"cannot listen for the doctor at {path}: {error.strerror or error}"
        raise DagexecError(msg) from error
    return server


def _serve(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            continue
        with client, contextlib.suppress(OSError):
            client.settimeout(_PATIENCE)
            if _user_of(client) in (0, os.getuid()):
                client.sendall(_answer())


def _user_of(client: socket.socket) -> int:
    """Return the user who asks, as the kernel has it."""
    data = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("=iii", data)[1])


def _answer() -> bytes:
    try:
        snapshot = snapshot_of_all()
        answer = {**snapshot.to_dict(), "text": str(snapshot)}
    except Exception as error:  # noqa: BLE001 - the next question must find this thread
        answer = {"error": f"{type(error).__name__}: {error}", "text": f"no answer: {error}"}
    return json.dumps(answer).encode()


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            path.unlink()
