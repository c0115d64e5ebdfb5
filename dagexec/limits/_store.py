"""What several processes that share a key have in common: levels and a gate, kept in a store.

Each process keeps its own queue, slots and model; the head of its queue also books with the store,
one call at a time. A booking always succeeds and says how long to wait: the store serves strictly
in the order of the bookings, over all processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol, final

from anyio import current_time
from anyio.lowlevel import checkpoint


class Ask(NamedTuple):
    """What a call takes of one dimension, and the rate that the dimension has."""

    held: float
    """What to charge."""
    room: float
    """What has to be there when the call goes."""
    rate: float
    """Refill per second."""
    cap: float
    """The size of the bucket."""


class Store(Protocol):
    """Keeps levels and gates for all processes; every method may raise what its client raises.

    All three are atomic, on a clock that the processes share. They may be called again after an
    error that left open whether they took effect: a level is then too low for a while, never too
    high.
    """

    async def book(self, key: str, asks: Mapping[str, Ask]) -> float:
        """Charge all amounts at once; return the seconds to wait before the call may go."""
        ...

    async def add(self, key: str, amounts: Mapping[str, float]) -> None:
        """Give back what was not used, or with a minus charge what was used beyond it."""
        ...

    async def gate(self, key: str, seconds: float = 0.0) -> float:
        """Close the gate for so many seconds; return those for which it is closed."""
        ...


@final
class Levels:
    """The levels and the gate of one key: the arithmetic of every store."""

    __slots__ = ("closed", "known")

    def __init__(
        self, known: Mapping[str, tuple[float, float]] | None = None, closed: float = -math.inf
    ) -> None:
        """Go on from `(level, time)` of each dimension; unknown ones are full."""
        self.known = dict(known or {})
        self.closed = closed

    def book(self, asks: Mapping[str, Ask], now: float) -> float:
        """Charge all amounts at once; return the seconds to wait."""
        wait = max(0.0, self.closed - now)
        for name, ask in asks.items():
            level, at = self.known.get(name, (ask.cap, now))
            level = min(ask.cap, level + ask.rate * max(0.0, now - at))
            wait = max(wait, (min(ask.room, ask.cap) - level) / ask.rate)
            self.known[name] = (level - ask.held, max(now, at))
        return wait

    def add(self, amounts: Mapping[str, float]) -> None:
        """Change levels; the next booking keeps them below the size of the bucket."""
        for name, amount in amounts.items():
            if name in self.known:
                level, at = self.known[name]
                self.known[name] = (level + amount, at)

    def gate(self, seconds: float, now: float) -> float:
        """Close the gate; return the seconds for which it is closed."""
        if seconds > 0:
            self.closed = max(self.closed, now + seconds)
        return max(0.0, self.closed - now)


@final
class MemoryStore:
    """A store for limiters of one event loop: for tests, and to try out what a store does."""

    def __init__(self) -> None:
        """Start with full buckets."""
        self._keys: dict[str, Levels] = {}

    def _of(self, key: str) -> Levels:
        return self._keys.setdefault(key, Levels())

    async def book(self, key: str, asks: Mapping[str, Ask]) -> float:
        """See `Store.book`."""
        await checkpoint()
        return self._of(key).book(asks, current_time())

    async def add(self, key: str, amounts: Mapping[str, float]) -> None:
        """See `Store.add`."""
        await checkpoint()
        self._of(key).add(amounts)

    async def gate(self, key: str, seconds: float = 0.0) -> float:
        """See `Store.gate`."""
        await checkpoint()
        return self._of(key).gate(seconds, current_time())
