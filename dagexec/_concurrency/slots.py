"""Slots: how many calls of an executor may run at a time, shared by all its runs on a loop.

A slot is handed on, first come, first served, by a call of `grant`, never by waking a task to look:
nothing is held by a task that only waits, so a cancelled waiter cannot lose one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, final
from weakref import ref

from anyio import CancelScope, Event, get_cancelled_exc_class


class Waiter(Protocol):
    """Whatever waits for a slot."""

    def grant(self) -> None:
        """Take over a slot that was given back; must not wait or raise."""


class Holder(Protocol):
    """Whatever runs the call that a slot is held for: a worker."""

    def is_ending(self) -> bool:
        """Whether the end of the call was asked for, from outside of its tool."""
        ...

    def patience(self) -> AbstractContextManager[CancelScope]:
        """Return a shielded scope that ends when the end of the call is asked for."""
        ...


@final
class Slots:
    """A counter of free slots and the queue of those who wait for one."""

    __slots__ = ("free", "loop", "waiters")

    def __init__(self, total: float, loop: object) -> None:
        """Start with `total` slots free, of calls in `loop`; infinity for no limit."""
        # Below zero while calls that end hold some on credit. When nothing runs it is `total`.
        self.free = total
        # The event loop whose tasks it wakes; from any other it must not be touched. Weak, because
        # an executor keeps its slots by loop as long as the loop lives.
        self.loop = ref(loop)
        # In the order of their turns. Nobody waits while a slot is free.
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

    __slots__ = ("_is_over", "_turn", "call", "held", "holder", "nested", "slots")

    def __init__(self, slots: Slots, holder: Holder) -> None:
        """Hold a slot that has just been taken."""
        self.slots = slots
        self.holder = holder
        # The call that it is held for at this moment; any other has no part in it.
        self.call: object = None
        self.held = True
        # How many runs the call waits for; a tool may start several side by side.
        self.nested = 0
        # While the call stands in the queue for its slot.
        self._turn: _Turn | None = None
        # Whether it was given back for good. A run that the call left behind changes nothing then.
        self._is_over = False

    def end(self) -> None:
        """Give the slot back for good, whether the call waits for a run or for its turn."""
        self._is_over = True
        if self._turn is not None:
            self._turn.leave()
        self._give_back()

    def _give_back(self) -> None:
        if self.held:
            self.held = False
            self.slots.give()

    async def __aenter__(self) -> None:
        """Begin to wait for a nested run."""
        self.nested += 1
        if not self._is_over:
            self._give_back()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the wait; take the slot again, in turn.

        Also where an error is on its way out, or the tool has cut its nested run off: it may go on,
        and must not do so beside those that have the slots. A call that is to end does not wait:
        its slot counts again at once, on credit.
        """
        self.nested -= 1
        if self._is_over or self.nested or self.held or self._turn is not None:
            return
        if not self.slots.take():
            cannot_wait = exc is not None and not isinstance(
                exc, (Exception, get_cancelled_exc_class())
            )
            if cannot_wait or self.holder.is_ending():
                self.slots.take_on_credit()
            else:
                await self._queue_up()
                return
        self.held = True

    async def _queue_up(self) -> None:
        turn = self._turn = _Turn(self.slots)
        try:
            await persist(turn.event.wait, self.holder)
        finally:
            self._turn = None
            if not self._is_over:
                if not turn.granted:
                    turn.leave()
                    self.slots.take_on_credit()
                self.held = True
                if self.nested:  # another run was begun meanwhile
                    self._give_back()


@final
class _Turn:
    """One place in the queue, for a call that takes its slot again."""

    __slots__ = ("_slots", "event", "granted")

    def __init__(self, slots: Slots) -> None:
        """Stand in front of new calls: one that has begun frees more by ending than they do."""
        self._slots = slots
        self.granted = False
        self.event = Event()
        slots.waiters.appendleft(self)

    def grant(self) -> None:
        """Take over a slot."""
        self.granted = True
        self.event.set()

    def leave(self) -> None:
        """Leave the queue; what was granted meanwhile goes on to the next."""
        self._slots.withdraw(self)
        if self.granted:
            self.granted = False
            self._slots.give()
        self.event.set()


async def persist(waiting: Callable[[], Awaitable[object]], holder: Holder) -> None:
    """Wait until a call may go on, also where its tool has cut itself off; not when it is to end.

    What cut it off is raised after that. `waiting` may be left and begun again.
    """
    cancelled = get_cancelled_exc_class()
    try:
        await waiting()
    except cancelled:
        if not holder.is_ending():
            with holder.patience() as scope:
                while not scope.cancel_called:
                    try:
                        await waiting()
                    except cancelled:  # asyncio's own goes through a shield
                        continue
                    break
        raise


UNLIMITED = math.inf
