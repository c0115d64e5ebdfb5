"""Who owns a run, and whether that process is still alive."""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from dagexec._errors import JournalError

_PROC: Final = Path("/proc")
# Field 22 of /proc/PID/stat, counted behind the command's name: when it began, in clock ticks.
_START_TIME: Final = 19


def new_owner() -> str:
    """Return a name for one ownership: where this process can be looked up, and what is its own."""
    return json.dumps([_place(), os.getpid(), _start(os.getpid()), uuid4().hex])


def is_dead(owner: str) -> bool:
    """Whether the process of an owner is known to have ended; False where that cannot be known.

    Only a process of the same boot and the same process namespace can be looked up. Its start time
    tells it from another that was given its number.
    """
    try:
        place, pid, start, _ = json.loads(owner)
    except (ValueError, TypeError):
        msg = f"the owner of a run cannot be read: {owner!r:.80}"
        raise JournalError(msg) from None
    if place is None or place != _place() or not isinstance(pid, int):
        return False
    now = _start(pid)
    # A system may hide the processes of others in /proc; a signal 0 finds them all the same.
    return now != start if now is not None else not _exists(pid)


def described(owner: str) -> str:
    """Return a few words about an owner."""
    try:
        place, pid, _, _ = json.loads(owner)
    except (ValueError, TypeError):
        return "an unknown process"
    here = "" if place == _place() else " on another machine"
    return f"process {pid}{here}"


@cache
def _place() -> Any:
    """Return what tells this kernel and process namespace from every other; None if unknown."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return [boot, str((_PROC / "self/ns/pid").readlink())]
    except OSError:
        return None


def _start(pid: int) -> int | None:
    """Return when a process began, -1 for one that waits to be reaped, None if it is not shown."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        parts = stat.rpartition(")")[2].split()
        return -1 if parts[0] in ("Z", "X") else int(parts[_START_TIME])
    except (OSError, ValueError, IndexError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
