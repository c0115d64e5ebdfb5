"""Deadlocks on trio: imported only where trio is running."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from math import inf

import outcome
import trio
from trio.testing import MockClock

from ._deadlock import DeadlockError, deadlock

__all__ = ["deadlock_watch"]


@contextmanager
def deadlock_watch() -> Generator[None]:
    """Watch the block where the run's clock is a virtual one of trio; raise `DeadlockError`."""
    if not trio.lowlevel.in_trio_run() or not _jumps(trio.lowlevel.current_clock()):
        yield
        return
    scope = trio.CancelScope()
    watch = _Watch(scope)
    with scope:
        trio.lowlevel.add_instrument(watch)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(watch)
    if watch.error is not None:
        raise watch.error


def _jumps(clock: trio.abc.Clock) -> bool:
    return isinstance(clock, MockClock) and clock.autojump_threshold == 0


class _Watch(trio.abc.Instrument):
    """Sees that every task waits without a deadline, and ends it.

    `MockClock` does not: it jumps only where there is a deadline and otherwise spins for ever. An
    exception from an instrument does not stop a run either, so the scope of the watched block is
    cancelled; what is shielded from that, and waits on, gets the error itself.
    """

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._root = trio.lowlevel.current_task()
        self._idle = 0
        self.error: DeadlockError | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - an interface
        """Note that something happens."""
        self._idle = 0

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - an interface
        """Act on the second look that finds everything idle.

        The first may only be a task in `wait_all_tasks_blocked`, which is woken after it.
        """
        now = trio.lowlevel.current_statistics()
        busy = now.tasks_runnable or now.run_sync_soon_queue_size
        if busy or now.seconds_to_next_deadline < inf:
            self._idle = 0
            return
        self._idle += 1
        if self._idle > 1:
            self._idle = 0
            self._end()

    def _end(self) -> None:
        tasks = list(_tree(self._root))
        error = deadlock((task.name, _stack(task)) for task in tasks)
        if self.error is None:
            self.error = error
            self._scope.cancel()
            return
        for task in tasks:
            if not task.child_nurseries:
                trio.lowlevel.reschedule(task, outcome.Error(error))


def _tree(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda child: child.name):
            yield from _tree(child)


def _stack(task: trio.lowlevel.Task) -> list[str]:
    return traceback.StackSummary.extract(task.iter_await_frames()).format()
