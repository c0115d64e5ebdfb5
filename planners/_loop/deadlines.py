"""The deadlines of a conversation: of a turn, and of all of it."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar, final

import anyio

from dagexec import Timeouts

T = TypeVar("T")


class Expired(Exception):
    """A deadline of the conversation has passed; its scope."""


@final
@dataclass(slots=True)
class Deadlines:
    """Points on the event loop's clock, infinity for none."""

    workflow: float
    turn: float = math.inf

    @property
    def nearest(self) -> float:
        return min(self.turn, self.workflow)

    @property
    def scope(self) -> str:
        """Whose the nearest is; the outer one's if they are the same."""
        return "turn" if self.turn < self.workflow else "workflow"

    def move(self, seconds: float) -> None:
        """Put them off, for a time that a person took."""
        self.workflow += seconds
        self.turn += seconds

    def left(self, timeouts: Timeouts) -> Timeouts:
        """Return what is left of them as timeouts; raise Expired if nothing is."""
        now = anyio.current_time()
        if now >= self.nearest:
            raise Expired(self.scope)
        turn, workflow = (None if at == math.inf else at - now for at in (self.turn, self.workflow))
        return Timeouts(call=timeouts.call, layer=timeouts.layer, turn=turn, workflow=workflow)


async def by_deadline(deadlines: Deadlines, awaitable: Awaitable[T]) -> T:
    """Wait for something until the nearest deadline; raise Expired then."""
    with anyio.CancelScope(deadline=deadlines.nearest) as scope:
        return await awaitable
    assert scope.cancelled_caught  # noqa: S101 - nothing else leaves the block without a value
    raise Expired(deadlines.scope)
