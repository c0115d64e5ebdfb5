"""What a forked child must not take over from its parent.

After `os.fork` the child has a copy of everything but the threads: queues that nobody serves, locks
that another thread held, event loops that never turn again, processes and leases that are the
parent's. Whoever has such a thing registers here, and is told in the child before any other code
runs. `subprocess` does not fork in this sense: its child runs no Python of the parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn, Protocol
from weakref import WeakSet

_log: Final = logging.getLogger("dagexec")


class Inherits(Protocol):
    """An object with state that is of no use in a forked child."""

    def after_fork(self) -> None:
        """Drop what is the parent's, in the child; must not wait, raise or take a lock."""
        ...


class Pauses(Protocol):
    """An object with a thread that must not be in the middle of something when a process forks."""

    def pause(self) -> None:
        """Stop, in the parent before the fork; must not raise."""
        ...

    def go_on(self) -> None:
        """Go on, in the parent after the fork; must not raise."""
        ...


_inherits: WeakSet[Inherits] = WeakSet()
_pauses: WeakSet[Pauses] = WeakSet()
_paused: list[Pauses] = []
_functions: list[Callable[[], object]] = []
_later: list[Callable[[], object]] = []


def forgets(inherits: Inherits) -> None:
    """Have an object told in each forked child; held weakly."""
    _inherits.add(inherits)


def pauses(pausing: Pauses) -> None:
    """Have an object told before and after each fork, in the parent; held weakly."""
    _pauses.add(pausing)


def in_child(function: Callable[[], object]) -> None:
    """Call a module's function in each forked child; it must not wait, raise or take a lock."""
    _functions.append(function)


def later(function: Callable[[], object]) -> None:
    """Call a function when this process next begins a run; for what needs a thread."""
    _later.append(function)


def catch_up() -> None:
    """Do what was put off until a run begins."""
    while _later:
        _later.pop()()


def end_child(*_: object) -> NoReturn:
    """End this process, a child that a tool has forked and that came back out of the tool.

    It is no part of the run: to go on would do again what the parent does too.
    """
    _log.error(
        "a tool forked, and process %d, the child, came back out of it; it ends here. A child ends"
        " itself, with os._exit() or as multiprocessing's do",
        os.getpid(),
    )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(1)


def _before() -> None:
    _paused[:] = list(_pauses)
    for each in _paused:
        each.pause()


def _in_parent() -> None:
    for each in _paused:
        each.go_on()
    _paused.clear()


def _in_child() -> None:
    _paused.clear()
    for function in _functions:
        function()
    for each in list(_inherits):
        each.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
