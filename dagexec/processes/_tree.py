"""Everything that a child has started: its group, its session, and what left both.

A child is made the leader of a session of its own, so its group can be signalled as one, also
after it has gone itself. What calls `setsid` leaves that group; it is found by a tag in the
environment, which it has inherited unless it threw its environment away. That needs Linux, whose
/proc shows both. Elsewhere on POSIX only the group is reached; on Windows what `taskkill /T`
finds, which are the children of processes that are still there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Final, NamedTuple, final
from uuid import uuid4

# Tags are appended: a child that supervises children itself must not hide them.
VARIABLE: Final = "DAGEXEC_CHILD_OF"
_PROC: Final = Path("/proc")
SEES_TREE: Final = sys.platform == "linux"
# Seconds after SIGKILL until a process that does not die is given up.
_UNKILLABLE: Final = 5.0
# How often in a row nothing must be found, to be sure that nothing is there.
_SURE: Final = 2
# How many processes may end by themselves meanwhile, on a busy machine, until they count no more.
_DOUBTS: Final = 50


def tagged(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the environment with a new tag in it, and the tag."""
    tag = uuid4().hex
    above = environment.get(VARIABLE)
    return {**environment, VARIABLE: f"{above}:{tag}" if above else tag}, tag


@final
class Stat(NamedTuple):
    """What /proc/PID/stat says; `ticks` is processor time in clock ticks."""

    state: str
    parent: int
    group: int
    session: int
    ticks: int
    began: int


def stat(pid: int) -> Stat | None:
    """Return what is known of a process, or None if there is no such."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # Behind the last parenthesis: the name in it may hold anything.
    parts = text[text.rindex(b")") + 2 :].split()
    numbers = [int(part) for part in parts[1:20]]
    return Stat(
        parts[0].decode(),
        parent=numbers[0],
        group=numbers[1],
        session=numbers[2],
        ticks=numbers[10] + numbers[11],
        began=numbers[18],
    )


def members(leader: int, tag: str) -> dict[int, Stat]:
    """Return the living processes of a child's tree by their ids, itself included.

    Empty where /proc does not tell.
    """
    if not SEES_TREE:
        return {}
    living = _living()
    first = stat(leader)  # also of one that has ended and is not reaped yet
    began = first.began if first is not None else 0
    found = {
        pid
        for pid, each in living.items()
        if leader in (pid, each.group, each.session) or (each.began >= began and _has_tag(pid, tag))
    }
    grown = True
    while grown:
        more = {pid for pid, each in living.items() if each.parent in found} - found
        found |= more
        grown = bool(more)
    return {pid: living[pid] for pid in sorted(found) if pid != os.getpid()}


def _living() -> dict[int, Stat]:
    found: dict[int, Stat] = {}
    for name in os.listdir(_PROC):  # noqa: PTH208 - names, not paths: this is the hot part
        if name.isdecimal():
            each = stat(int(name))
            if each is not None and each.state not in "ZX":
                found[int(name)] = each
    return found


def _has_tag(pid: int, tag: str) -> bool:
    try:
        return tag.encode() in (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # another user's, or it has just ended
        return False


def signal_tree(leader: int, tag: str, *, kill: bool) -> bool:
    """Ask all of a child's tree to end, or kill it; return whether there was anything to signal.

    Not to be called once the leader has been reaped and its group is empty: its number may by
    then be another's.
    """
    if sys.platform == "win32":
        return _signal_windows(leader, kill=kill)
    number = signal.SIGKILL if kill else signal.SIGTERM
    others = members(leader, tag)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
    for pid in others:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if others[pid].group != leader:
                os.kill(pid, number)
    return bool(others) or not SEES_TREE


def kill_tree(leader: int, tag: str) -> bool:
    """Kill a child's tree until nothing of it is left; return whether that came to be.

    It may be starting processes meanwhile: one that is not seen yet, because it was just forked or
    is in the middle of an exec, is seen the next time. The leader is stopped first and killed
    last, so that it starts nothing more, and that one of dagexec's own goes on to adopt what its
    children leave behind. Blocks, for 5 seconds at most. Not to be called once the leader has been
    reaped and its group is empty.
    """
    if not SEES_TREE:
        signal_tree(leader, tag, kill=True)
        return True
    hunt = _Hunt(leader, tag)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(leader, signal.SIGSTOP)
    hunt.run(spare=leader)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    return hunt.run()


@final
class _Hunt:
    """Finds and kills the processes of one tree, until none is there.

    What forks and ends in a chain is there at every moment, and never for long. So each process is
    killed the moment it is found, the newest first, and one that went away before it could be
    looked at may have left another behind.
    """

    def __init__(self, leader: int, tag: str) -> None:
        first = stat(leader)  # also of one that has ended and is not reaped yet
        self._leader = leader
        self._tag = tag
        self._began = first.began if first is not None else 0
        self._end = monotonic() + _UNKILLABLE
        self._found = {leader}
        # Those that were there before it began: they need no second look.
        self._others = {os.getpid()}

    def run(self, *, spare: int = 0) -> bool:
        """Kill all but `spare`; return whether nothing else was left in time."""
        empty = gone = 0
        while empty < _SURE:
            killed, vanished = self._scan(spare)
            gone += vanished
            quiet = not killed and (not vanished or gone > _DOUBTS)
            empty = empty + 1 if quiet else 0
            if monotonic() > self._end:
                return False
            if not killed and empty < _SURE:
                sleep(0.002)
        return True

    def _scan(self, spare: int) -> tuple[bool, bool]:
        """Return whether something was killed, and whether something went away by itself."""
        killed = vanished = False
        pids = {int(name) for name in os.listdir(_PROC) if name.isdecimal()}  # noqa: PTH208 - names, not paths: this is the hot part
        for pid in sorted(pids - self._others, reverse=True):
            each = stat(pid)
            if each is None:
                vanished = True
            elif each.began < self._began:
                self._others.add(pid)
            elif each.state not in "ZX" and pid != spare and self._belongs(pid, each):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                killed = True
        return killed, vanished

    def _belongs(self, pid: int, each: Stat) -> bool:
        leader = self._leader
        if (
            pid in self._found
            or leader in (pid, each.group, each.session)
            or each.parent in self._found
            or _has_tag(pid, self._tag)
        ):
            self._found.add(pid)
            return True
        return False


def _signal_windows(leader: int, *, kill: bool) -> bool:
    if kill:
        subprocess.run(  # noqa: S603
            ["taskkill", "/T", "/F", "/PID", str(leader)],  # noqa: S607 - Windows' own
            check=False,
            capture_output=True,
        )
    else:
        with contextlib.suppress(OSError):
            os.kill(leader, getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
    return True
