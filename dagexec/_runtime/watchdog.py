"""The watchdog: names in the log what goes on after its end was asked for.

A run waits for an async tool that keeps its cancellation for itself, or that hides from it in a
shielded scope. It cannot do otherwise, but it must not do so silently. The task of the run itself,
which does nothing but wait, wakes when the nearest deadline has been over for `GRACE`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, final

import anyio
from anyio import CancelScope

_log: Final = logging.getLogger("dagexec")

# Seconds that a call may go on after its end was asked for.
GRACE: Final = 1.0


class Watched(Protocol):
    """What runs a call that waits: a worker."""

    @property
    def names(self) -> tuple[str, str]:
        """The call that runs, and its tool."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the end of the call was asked for."""
        ...


@final
class Watchdog:
    """Watches over the calls of one run that wait for something."""

    __slots__ = ("_calls", "_shield", "_sleep", "_wakes")

    def __init__(self) -> None:
        """Start with no calls."""
        # By worker: the point on the clock at which its call is overdue; None once it was named.
        self._calls: dict[Watched, float | None] = {}
        # The scope in which the run waits, whose deadline is `_wakes`, and what hides it from the
        # end of the run: set while the calls of a cancelled run are waited for.
        self._sleep: CancelScope | None = None
        self._shield: CancelScope | None = None
        # When the first of the calls is overdue.
        self._wakes = math.inf

    def watch(self, worker: Watched, deadline: float) -> None:
        """Watch a call that has to end at `deadline`, until `release`."""
        self._calls[worker] = math.inf
        self.expect(worker, deadline)

    def expect(self, worker: Watched, deadline: float) -> None:
        """Expect the end of a call at `deadline`, or where it was expected before that."""
        due = self._calls.get(worker)
        if due is None:
            return
        due = self._calls[worker] = min(due, deadline + GRACE)
        if due < self._wakes:
            self._wakes = due
            if self._sleep is not None:
                self._sleep.deadline = due

    def release(self, worker: Watched) -> None:
        """Forget a call that has ended."""
        self._calls.pop(worker, None)
        if not self._calls and self._shield is not None:
            self._shield.cancel()

    async def wait(self, waiting: Callable[[], Awaitable[object]]) -> None:
        """Wait, and name what is overdue; `waiting` may be left and begun again."""
        while True:
            with CancelScope(deadline=self._wakes) as self._sleep:
                await waiting()
                return
            self._look()

    async def outlast(self) -> None:
        """Wait for the calls of a run that was cancelled; each of them has been, too."""
        now = anyio.current_time()
        for worker in self._calls:
            self.expect(worker, now)
        with CancelScope(shield=True) as self._shield:
            while self._calls:
                with CancelScope(deadline=self._wakes) as self._sleep:
                    await anyio.sleep_forever()
                self._look()

    def _look(self) -> None:
        """Name each call that is overdue."""
        now = anyio.current_time()
        for worker, due in self._calls.items():
            if due is not None and due <= now:
                self._calls[worker] = None if self._name(worker) else math.inf
        left = [due for due in self._calls.values() if due is not None]
        self._wakes = min(left, default=math.inf)

    def _name(self, worker: Watched) -> bool:
        # What was thrown into the tool may also have come from a scope of its own.
        if self._shield is None and not worker.is_cancelled():
            return False
        call, tool = worker.names
        text = "call %r: tool %r still runs %g s after it was cancelled; the run waits for it"
        _log.warning(text, call, tool, GRACE)
        return True
