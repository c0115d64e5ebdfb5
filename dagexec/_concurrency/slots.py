"""Slots: how many calls of an executor may run at a time, shared by all its runs on a loop.

A slot is handed on, first come, first served, by a call of `grant`, never by waking a task to look:
nothing is held by a task that only waits, so a cancelled waiter cannot lose one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol, final
from weakref import ref

from anyio import Event

if TYPE_CHECKING:
    from types import TracebackType


class Waiter(Protocol):
    """Who waits for a slot."""

    def grant(self) -> None:
        """Take over a slot that was given back; must not wait or raise."""


@final
class Slots:
    """A counter of free slots and the queue of those who wait for one."""

    __slots__ = ("free", "loop", "waiters")

    def __init__(self, total: float, loop: object) -> None:
        """Start with `total` slots free, of calls in `loop`; infinity for no limit."""
        self.free = total
        # The event loop whose tasks it wakes; from any other it must not be touched. Weak, because
        # an executor keeps its slots by loop as long as the loop lives.
        self.loop = ref(loop)
        self.waiters: deque[Waiter] = deque()

    def take(self) -> bool:
        """Take a slot if one is free and nobody came before."""
        if self.free > 0 and not self.waiters:
            self.free -= 1
            return True
        return False

    def give(self) -> None:
        """Give a slot back: to the first in the queue, if there is one."""
        if self.waiters and self.free >= 0:
            self.waiters.popleft().grant()
        else:
            self.free += 1

    def take_on_credit(self) -> None:
        """Take a slot that may not be free; the next that are given back pay for it."""
        self.free -= 1

    def withdraw(self, waiter: Waiter) -> None:
        """Leave the queue; does nothing for one who is not in it."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)


@final
class Lease:
    """A slot held by a call, given back while the call waits for a run of its own.

    Without this, calls that wait for nested runs would fill all slots and wait for ever.
    """

    __slots__ = ("_returning", "held", "nested", "slots")

    def __init__(self, slots: Slots) -> None:
        """Hold a slot that has just been taken."""
        self.slots = slots
        self.held = True
        # How many runs the call waits for; a tool may start several side by side.
        self.nested = 0
        # Whether it stands in the queue for its slot.
        self._returning = False

    def end(self) -> None:
        """Give the slot back for good, unless it is not held."""
        if self.held:
            self.held = False
            self.slots.give()

    async def __aenter__(self) -> None:
        """Begin to wait for a nested run."""
        self.nested += 1
        self.end()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the wait; take the slot again, in turn.

        An error on its way out does not wait: the tool may catch it and go on, so it counts again
        at once.
        """
        self.nested -= 1
        if self.nested or self.held or self._returning:
            return
        self._returning = True
        try:
            if exc is not None:
                self.slots.take_on_credit()
            elif not self.slots.take():
                await _Turn(self.slots).wait()
        except BaseException:
            self.slots.take_on_credit()
            raise
        finally:
            self._returning = False
            self.held = True
            if self.nested:  # another run was begun meanwhile
                self.end()


@final
class _Turn:
    """One place in the queue, for a task that waits."""

    __slots__ = ("_event", "_slots")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._event = Event()

    def grant(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        # In front of new calls: one that has begun frees more by ending than they do by starting.
        self._slots.waiters.appendleft(self)
        try:
            await self._event.wait()
        except BaseException:
            self._slots.withdraw(self)
            if self._event.is_set():  # granted and cancelled at the same instant
                self._slots.give()
            raise


UNLIMITED = math.inf
