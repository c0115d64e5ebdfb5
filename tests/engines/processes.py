"""Processes of the tests: workers, what is said to them, and what they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
# Kills in a row: twenty, and fewer where the time of CI is short.
ROUNDS = 8 if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") == "1" else 20


def run_python(code: str) -> str:
    """Run code in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Line(NamedTuple):
    """What a tool did."""

    run: str
    call: str
    what: str
    process: int
    attempt: int
    key: str


class Worker:
    """A worker process, and what is said to it."""

    def __init__(self, command: list[str], errors: Path) -> None:
        self.errors = errors
        with errors.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        self.pid = self.process.pid

    def wait_until_ready(self) -> Worker:
        assert self.line() == "ready\n", self.errors.read_text()[-3000:]
        return self

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        return json.loads(self.line())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Let it close its engine; one that was killed has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()


def lines(folder: Path, run: str = "") -> list[Line]:
    """Return what tools did so far."""
    path = folder / "log"
    rows = [line.split(" ") for line in path.read_text().splitlines()] if path.exists() else []
    found = [Line(*row[:3], int(row[3]), int(row[4]), row[5]) for row in rows]
    return [line for line in found if run in ("", line.run)]


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something can be seen."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begun(folder: Path, run: str = "") -> Counter[str]:
    """Return how often the tool of each call was begun."""
    return Counter(line.call for line in lines(folder, run) if line.what == "begin")
