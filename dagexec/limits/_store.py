"""What several processes that share a key have in common: levels and a gate, kept in a store.

Each process keeps its own queue, slots and model; the head of its queue also books with the store,
one call at a time. A booking always succeeds and says how long to wait: the store serves strictly
in the order of the bookings, over all processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, final

from anyio import current_time
from anyio.lowlevel import checkpoint

# Seconds.
STEP: Final = 5.0


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

    All three are atomic, on a clock that the processes share: the server's, where there is one.
    After an error, which leaves open whether a call took effect, charges may be told once more and
    refunds are not: a level is then too low for a while, never too high.
    """

    async def book(self, key: str, asks: Mapping[str, Ask]) -> float:
        """Charge all amounts at once; return the seconds to wait before the call may go."""
        ...

    async def add(self, key: str, amounts: Mapping[str, float]) -> None:
        """Give back what was not used, or with a minus charge what was used beyond it.

        A level is refilled up to now first, and never gets above the size of its bucket; what no
        call has booked yet stays unknown.
        """
        ...

    async def gate(self, key: str, seconds: float = 0.0) -> float:
        """Close the gate for so many seconds; return those for which it is closed."""
        ...


class Level(NamedTuple):
    """What a store knows of one dimension."""

    left: float
    at: float
    """When that was so, on the store's clock."""
    rate: float
    cap: float


@final
class Levels:
    """The levels and the gate of one key: the arithmetic of every store.

    Stores that are servers do the same in their own language. A clock that went back by more than
    `STEP` seconds was set, so time is counted from there; less than that is two readers of one
    clock who came in another order.
    """

    __slots__ = ("_closed", "known")

    def __init__(self) -> None:
        """Know nothing: an unknown dimension is full, and the gate is open."""
        self.known: dict[str, Level] = {}
        # When the gate was closed, and for how many seconds.
        self._closed = (0.0, 0.0)

    def book(self, asks: Mapping[str, Ask], now: float) -> float:
        """Charge all amounts at once; return the seconds to wait."""
        wait = self.gate(0.0, now)
        for name, ask in asks.items():
            before = self.known.get(name, Level(ask.cap, now, ask.rate, ask.cap))
            # Where two limiters of a key differ, the smaller limit counts between their bookings.
            rate, cap = min(ask.rate, before.rate), min(ask.cap, before.cap)
            left, at = refilled(Level(before.left, before.at, rate, cap), now)
            wait = max(wait, (min(ask.room, cap) - left) / rate)
            self.known[name] = Level(left - ask.held, at, ask.rate, ask.cap)
        return wait

    def add(self, amounts: Mapping[str, float], now: float) -> None:
        """Change levels, of which none gets above the size of its bucket."""
        for name, amount in amounts.items():
            if name in self.known:
                before = self.known[name]
                left, at = refilled(before, now)
                self.known[name] = Level(
                    min(before.cap, left + amount), at, before.rate, before.cap
                )

    def gate(self, seconds: float, now: float) -> float:
        """Close the gate; return the seconds for which it is closed."""
        at, length = self._closed
        left = max(0.0, min(length, at + length - now))
        if seconds > left:
            self._closed = (now, seconds)
        return max(left, seconds)


def refilled(level: Level, now: float) -> tuple[float, float]:
    """Return what is left now, and the time from which the next refill counts."""
    passed = now - level.at
    at = now if passed < -STEP else max(now, level.at)
    return min(level.cap, level.left + level.rate * max(0.0, passed)), at


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
        self._of(key).add(amounts, current_time())

    async def gate(self, key: str, seconds: float = 0.0) -> float:
        """See `Store.gate`."""
        await checkpoint()
        return self._of(key).gate(seconds, current_time())
