"""Starts the programs that are looked at, and ends them with all that they started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a program and returns its process, once it is set up."""
    running = []

    def starts(code, *, settle=0.0):
        script = tmp_path / f"program{len(running)}.py"
        script.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            start_new_session=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 90)[0], "the program did not get ready"
        assert process.stdout.readline() == b"ready\n"
        time.sleep(settle)
        return process

    yield starts
    for process in running:
        tree = descendants(process.pid)
        for group in {process.pid, *tree}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(group, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def descendants(pid):
    """Return all processes below one."""
    found = []
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        for child in map(int, text.split()):
            found += [child, *descendants(child)]
    return found
