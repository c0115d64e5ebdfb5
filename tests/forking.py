"""Run a function in a forked child, and return what it says; the child never outlives the test."""

from __future__ import annotations

import os
import select
import signal
import traceback
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds that no child here takes, on the slowest machine: what hangs would take longer.
LONG = 40


def start(function: Callable[[], object]) -> tuple[int, int]:
    """Fork; return the child's id and the end of a pipe to which it writes what it returns."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: that is the subject
        pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    signal.set_wakeup_fd(-1)  # as asyncio does itself from 3.12 on; trio warns of the parent's
    try:
        text = str(function())
    except BaseException:
        text = traceback.format_exc()
    os.write(writer, text.encode())
    os._exit(0)


def said(pid: int, reader: int, seconds: float = LONG) -> str:
    """Wait for what a child says, and for its end; kill one that says nothing."""
    try:
        ready, _, _ = select.select([reader], [], [], seconds)
        text = os.read(reader, 65536).decode() if ready else ""
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return text or "nothing: it hangs"


def in_fork(function: Callable[[], object], seconds: float = LONG) -> str:
    """Return what a function returns in a forked child, as text."""
    return said(*start(function), seconds)
