"""Servers of the tests' own, for stores: a Redis behind a socket in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path


class Redis:
    """A server, and its folder; nothing listens on a port."""

    def __init__(self):
        """Make the folder."""
        self._folder = Path(tempfile.mkdtemp(prefix="dagexec-redis-"))
        self._socket = self._folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self._process = None

    def start(self):
        """Start the server, and wait until it answers."""
        import redis

        program = shutil.which("redis-server") or shutil.which("valkey-server")
        options = ["--port", "0", "--unixsocket", self._socket, "--save", "", "--dir", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, *options], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError((self._folder / "log").read_text()) from None
                    time.sleep(0.02)
                else:
                    return

    def stop(self):
        """Kill the server: what it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self):
        """Let it answer nothing, and refuse nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self):
        """Let it answer again."""
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server():
    """Return a server that runs; nothing of it is left."""
    made = Redis()
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made._folder)
