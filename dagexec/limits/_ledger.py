"""What the machine behind limiters works on: ledgers, and the tickets that queue for them.

The rules are at the top of `_machine`, which alone decides what happens to a ticket.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Final, Literal, TypeAlias, final

from dagexec._errors import OversizeError
from dagexec.limits._crowd import Crowd
from dagexec.limits._rates import Bucket, Rate

Oversize: TypeAlias = Literal["debt", "reject"]
Needs: TypeAlias = "Mapping[str, float]"

# Turns of a priority for each turn of the one below.
STEP: Final = 4.0
_COMPACT: Final = 64

_numbers: Final = count(1)


@final
class Ticket:
    """One call's place: what it needs of which ledger, and what it holds."""

    __slots__ = (
        "admitted",
        "asks",
        "booked",
        "deadline",
        "held",
        "holds_slot",
        "number",
        "priority",
        "waiting",
        "wake",
    )

    def __init__(
        self, asks: Sequence[tuple[Ledger, Needs]], deadline: float, priority: int
    ) -> None:
        """Take a number; `deadline` is a point on the clock, infinity for none."""
        self.number = next(_numbers)
        self.asks = asks
        self.deadline = deadline
        self.priority = priority
        self.waiting = False
        self.holds_slot = False
        # Those whose stores have charged what is held.
        self.booked: list[Ledger] = []
        # When it was admitted last; None if it never was.
        self.admitted: float | None = None
        # Amounts held, for each of `asks`; None while it is not admitted.
        self.held: list[dict[str, float]] | None = None
        # The driver's own: what wakes the task that waits with this ticket.
        self.wake: object = None


@final
class _Line:
    """The tickets of one priority that wait, in order."""

    __slots__ = ("count", "passed", "stride", "tickets", "totals")

    def __init__(self, priority: int) -> None:
        # Tickets that left stay inside until they come to the front.
        self.tickets: deque[Ticket] = deque()
        self.count = 0
        self.totals: dict[str, float] = {}
        self.stride = STEP**-priority
        self.passed = 0.0

    def head(self) -> Ticket | None:
        while self.tickets:
            if self.tickets[0].waiting:
                return self.tickets[0]
            self.tickets.popleft()
        return None

    def put(self, ticket: Ticket, needs: Needs) -> None:
        tickets = self.tickets
        if not tickets or tickets[-1].number < ticket.number:
            tickets.append(ticket)
        else:  # it was refused and comes back to its place, which is near the front
            index = next(i for i, each in enumerate(tickets) if each.number > ticket.number)
            tickets.insert(index, ticket)
        self.count += 1
        for name, amount in needs.items():
            self.totals[name] = self.totals.get(name, 0.0) + amount

    def drop(self, ticket: Ticket, needs: Needs) -> None:
        """Take a ticket out that no longer waits."""
        self.count -= 1
        if self.tickets and self.tickets[0] is ticket:
            self.tickets.popleft()
        if not self.count:
            self.tickets.clear()
            self.totals.clear()  # and with them the rounding errors
            return
        for name, amount in needs.items():
            self.totals[name] -= amount
        if len(self.tickets) > 2 * self.count + _COMPACT:
            self.tickets = deque(each for each in self.tickets if each.waiting)

    def purge(self, ticket: Ticket) -> None:
        """Leave nothing of a ticket behind that may come back."""
        if ticket in self.tickets:
            self.tickets.remove(ticket)


@final
class Ledger:
    """The state of one key: its buckets, slots, gate and queue."""

    __slots__ = (
        "_lines",
        "_turn",
        "buckets",
        "crowd",
        "gate",
        "in_flight",
        "key",
        "oversize",
        "owed",
        "pinned",
        "used",
    )

    def __init__(
        self,
        key: str,
        rates: Mapping[str, Rate],
        *,
        now: float,
        in_flight: int | None = None,
        margin: float = 0.0,
        oversize: Oversize = "debt",
        peers: float = 1,
    ) -> None:
        """Start with full buckets, free slots and an open gate."""
        self.key = key
        self.buckets = {name: Bucket(rate, margin, now, peers) for name, rate in rates.items()}
        self.in_flight = math.inf if in_flight is None else in_flight
        self.oversize = oversize
        # Learns how many use the key; None where that is given.
        self.crowd: Crowd | None = None
        # Changes of levels after the admission that a store has not heard of; None without one.
        self.owed: dict[str, float] | None = None
        self.used = 0
        # Nothing is admitted before this time.
        self.gate = -math.inf
        # Goes first: it breaks a circle of tickets that wait for one another.
        self.pinned: Ticket | None = None
        self._lines: dict[int, _Line] = {}
        # How far the turns have come.
        self._turn = 0.0

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return sum(line.count for line in self._lines.values())

    @property
    def tickets(self) -> Iterator[Ticket]:
        """Those that wait."""
        return (each for line in self._lines.values() for each in line.tickets if each.waiting)

    def head(self) -> Ticket | None:
        """Return the ticket whose turn it is."""
        if self.pinned is not None:
            return self.pinned
        best: tuple[float, float] | None = None
        found: Ticket | None = None
        for priority, line in self._lines.items():
            first = line.head()
            if first is not None and (best is None or (line.passed, -priority) < best):
                best, found = (line.passed, -priority), first
        return found

    def check(self, needs: Needs) -> None:
        """Refuse by name what can never fit; raise OversizeError."""
        if self.oversize == "debt":
            return
        for name, amount in needs.items():
            bucket = self.buckets[name]
            whole = bucket.cap * bucket.peers  # a part that is full lets it go, into debt
            if amount > whole and bucket.rule.settle != "expected":
                msg = (
                    f"this needs {amount:g} {name} and the limit {self.key!r} lets at most"
                    f" {whole:g} go at once: make it smaller, or split it"
                )
                raise OversizeError(msg)

    def wait(self, needs: Needs, now: float) -> float:
        """Return the seconds until its head can go; infinity while no slot is free."""
        if self.used >= self.in_flight:
            return math.inf
        if self.crowd is not None and self.crowd.grow(now, may_send=now >= self.gate):
            self._widen(self.crowd, now)
        seconds = self.gate - now
        for name, amount in needs.items():
            seconds = max(seconds, self.buckets[name].wait(amount, now))
        return max(seconds, 0.0)

    def soonest(self, needs: Needs, priority: int, now: float) -> float:
        """Return the seconds that a newcomer waits at least."""
        line = self._lines.get(priority)
        ahead = {} if line is None else line.totals
        seconds = max(0.0, self.gate - now)
        for name, amount in needs.items():
            bucket = self.buckets[name]
            seconds = max(seconds, bucket.soonest(amount, ahead.get(name, 0.0), now))
        return seconds

    def put(self, ticket: Ticket, needs: Needs) -> None:
        """Let a ticket queue up."""
        line = self._lines.get(ticket.priority)
        if line is None:
            line = self._lines[ticket.priority] = _Line(ticket.priority)
        if not line.count:  # a line that was empty has no claim to turns that it did not take
            line.passed = max(line.passed, self._turn)
        line.put(ticket, needs)

    def drop(self, ticket: Ticket, needs: Needs, *, admitted: bool) -> None:
        """Take a ticket out of the queue."""
        line = self._lines[ticket.priority]
        line.drop(ticket, needs)
        if self.pinned is ticket:
            self.pinned = None
            line.purge(ticket)
        if admitted:
            self._turn = max(self._turn, line.passed)
            line.passed += line.stride

    def note(self, name: str, change: float) -> None:
        """Keep a change of a level for the store."""
        if self.owed is not None:
            self.owed[name] = self.owed.get(name, 0.0) + change

    def close_gate(self, until: float) -> None:
        """Let nothing go before `until`; a gate that is closed for longer stays so."""
        self.gate = max(self.gate, until)

    def learn(self, crowd: Crowd | None, now: float) -> None:
        """Keep to what a crowd says from now on; with None, to the whole."""
        self.crowd = crowd
        self.divide(1 if crowd is None else 1 / crowd.share, now)

    def sync(self, now: float) -> None:
        """Refill all buckets up to now."""
        for bucket in self.buckets.values():
            bucket.sync(now)

    def divide(self, peers: float, now: float) -> None:
        """Keep to this process's part, where so many use the key."""
        for bucket in self.buckets.values():
            bucket.divide(peers, now)

    def _widen(self, crowd: Crowd, now: float) -> None:
        """Keep to a share that has grown; at first, of what was there from the beginning, too."""
        for bucket in self.buckets.values():
            before = bucket.cap
            bucket.divide(1 / crowd.share, now)
            if crowd.is_new:
                bucket.level += bucket.cap - before

    def shift(self, seconds: float) -> None:
        """Move all times: another clock is used from now on."""
        self.gate += seconds
        if self.crowd is not None:
            self.crowd.shift(seconds)
        for bucket in self.buckets.values():
            bucket.shift(seconds)

    def reset(self) -> None:
        """Forget all tickets: their event loop is gone. What they spent stays spent."""
        for ticket in list(self.tickets):
            ticket.waiting = False
        self._lines.clear()
        self.pinned = None
        self.used = 0
        for bucket in self.buckets.values():
            bucket.reset()
