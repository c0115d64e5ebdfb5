"""A PostgreSQL of the tests' own: a throwaway cluster from installed binaries, on the loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where Debian has them; they are not on the PATH there.
DEBIAN = Path("/usr/lib/postgresql")
# Nothing here has to survive a power cut.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest that is installed."""
    found = shutil.which("initdb")
    if found is not None and shutil.which("postgres") is not None:
        return Path(found).resolve().parent
    versions = [path for path in DEBIAN.glob("*/bin") if (path / "initdb").exists()]
    return max(versions, key=lambda path: float(path.parent.name), default=None)


class Cluster:
    """A server of its own, and its folder."""

    def __init__(self) -> None:
        """Make the folder and the data in it."""
        programs = binaries()
        assert programs is not None
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="dagexec-pg-"))
        self._who = _owner()
        if self._who:
            os.chown(self._folder, self._who["user"], self._who["group"])
        self._server: subprocess.Popen[bytes] | None = None
        flags = ("-A", "trust", "-U", "tests", "-N", "-E", "UTF8")
        self._start("initdb", "-D", str(self._folder / "data"), *flags).wait(120)
        self._port = _free_port()  # now: in the seconds before, another program might have taken it
        self.url = f"postgresql://tests@127.0.0.1:{self._port}"

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        # Not to the caller's output: who waits for the end of that would wait for the server.
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, *arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._who,
            )

    def start(self) -> None:
        """Start the server, and wait until it can be reached."""
        import psycopg

        own = f"port={self._port}", "listen_addresses=127.0.0.1"
        settings = (*own, f"unix_socket_directories={self._folder}", *FAST)
        flags = [item for each in settings for item in ("-c", each)]
        server = self._server = self._start("postgres", "-D", str(self._folder / "data"), *flags)
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(f"{self.url}/postgres", connect_timeout=2).close()
            except psycopg.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop the server; every connection ends at once."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # PostgreSQL's fast way down
            self._server.wait(30)
            self._server = None

    def remove(self) -> None:
        """Stop the server, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self._folder)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Return a server that runs, on a free port of the loopback; no process of it is left."""
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        made.remove()


def _owner() -> dict[str, Any]:
    """Return the user to run as: initdb refuses root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
