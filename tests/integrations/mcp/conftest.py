from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest


@pytest.fixture
def bad(mark):
    """Return the command of the server that behaves badly, in these modes from its start."""
    server = Path(__file__).with_name("bad_server.py")
    return lambda *modes: [sys.executable, str(server), mark, *modes]


@pytest.fixture
def mark(mark):
    """Give what is left by the text of its command line more time to end: machines are slow."""
    yield mark
    end = time.monotonic() + 60
    while time.monotonic() < end and any(map(partial(shows, mark.encode()), processes())):
        time.sleep(0.05)


def processes():
    """Return the folders of all processes but this one."""
    return [each for each in Path("/proc").glob("[0-9]*") if each.name != str(os.getpid())]


def shows(text, folder):
    """Whether a process has a text in its command line."""
    try:
        return text in (folder / "cmdline").read_bytes()
    except OSError:
        return False
