from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dagexec.processes import _tree


def living(mark):
    """Return the ids of processes, zombies left out, that have a text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        stat = _tree.stat(int(entry.name))
        if mark.encode() in line and stat is not None and stat.state not in "ZX":
            found.append(int(entry.name))
    return found


@pytest.fixture
def mark():
    """A text for command lines; no process that has it may be left after the test."""
    text = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    yield text
    deadline = time.monotonic() + 5
    while living(text) and time.monotonic() < deadline:
        time.sleep(0.02)  # one that was just killed may take a moment
    assert living(text) == []
