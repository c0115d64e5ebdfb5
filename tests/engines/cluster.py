"""A PostgreSQL of the tests' own: a throwaway cluster from installed binaries, on the loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
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


@contextmanager
def cluster() -> Iterator[str]:
    """Start a cluster and yield its URL, without a database; no process of it is left."""
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="dagexec-pg-"))
    who = _owner()
    if who:
        os.chown(folder, who["user"], who["group"])
    data = folder / "data"
    options: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, **who}
    with (folder / "log").open("wb") as log:
        options["stderr"] = log
        command = [
            programs / "initdb",
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "tests",
            "-N",
            "-E",
            "UTF8",
        ]
        subprocess.run(command, check=True, **options)
        port = _free_port()
        settings = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
        ]
        flags = [item for each in (*settings, *FAST) for item in ("-c", each)]
        server = subprocess.Popen([programs / "postgres", "-D", data, *flags], **options)
    try:
        url = f"postgresql://tests@127.0.0.1:{port}"
        _wait_for(url, server, folder)
        yield url
    finally:
        server.send_signal(2)  # SIGINT: the fast way down, which ends every connection
        server.wait(30)
        shutil.rmtree(folder)


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


def _wait_for(url: str, server: subprocess.Popen[bytes], folder: Path) -> None:
    import time

    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"{url}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return
