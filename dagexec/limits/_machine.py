"""The machine behind limiters: who may go when. Times go in with each event; it never waits.

A `Ledger` is the state of one key: buckets, slots, the gate, and the queue. A `Ticket` is one call
that wants to be admitted by one ledger or several.

    waiting ──> admitted ──> ended
       ^            │
       └─ refused <─┘     (a refused ticket comes back to its place)

Rules:

1. Within a priority tickets go strictly in the order of their numbers. Only the head of a queue
   looks at the buckets; a smaller ticket never overtakes it.
2. A ticket is admitted when it is the head of all its ledgers, each has a slot, all its amounts
   fit, and no gate is closed. Everything is then charged in one step.
3. Between priorities, turns are shared by weight (stride scheduling): each step of priority gets
   `STEP` times the turns of the one below, so nobody starves.
4. Larger than the bucket: refused by name, or admitted when the bucket is full, into debt.
5. What is charged comes back once: on refusal, or on a withdrawal before anything was sent.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from dagexec._errors import OversizeError
from dagexec.limits._rates import EPS, Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dagexec.limits._rates import Rate

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
        # Whether a store has charged what is held.
        self.booked = False
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
        peers: int = 1,
    ) -> None:
        """Start with full buckets, free slots and an open gate."""
        self.key = key
        self.buckets = {name: Bucket(rate, margin, now, peers) for name, rate in rates.items()}
        self.in_flight = math.inf if in_flight is None else in_flight
        self.oversize = oversize
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
            if amount > bucket.cap and bucket.rule.settle != "expected":
                msg = (
                    f"this needs {amount:g} {name} and the limit {self.key!r} lets at most"
                    f" {bucket.cap:g} go at once: make it smaller, or split it"
                )
                raise OversizeError(msg)

    def wait(self, needs: Needs, now: float) -> float:
        """Return the seconds until its head can go; infinity while no slot is free."""
        if self.used >= self.in_flight:
            return math.inf
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

    def shift(self, seconds: float) -> None:
        """Move all times: another clock is used from now on."""
        self.gate += seconds
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


# ----------------------------------------------------------------- what happens to a ticket


def soonest(ticket: Ticket, now: float) -> float:
    """Return the seconds that a new ticket waits at least; raise OversizeError for one too large.

    Nothing changes.
    """
    seconds = 0.0
    for ledger, needs in ticket.asks:
        ledger.check(needs)
        seconds = max(seconds, ledger.soonest(needs, ticket.priority, now))
    return seconds


def join(ticket: Ticket) -> None:
    """Queue up with all ledgers at once; a refused ticket comes back to its place."""
    ticket.waiting = True
    for ledger, needs in ticket.asks:
        ledger.put(ticket, needs)


def leave(ticket: Ticket) -> None:
    """Leave the queues; does nothing for a ticket that is in none."""
    if ticket.waiting:
        ticket.waiting = False
        for ledger, needs in ticket.asks:
            ledger.drop(ticket, needs, admitted=False)


def admit(ticket: Ticket, now: float) -> float:
    """Admit a waiting ticket and return 0, or return the seconds to wait before asking again.

    Infinity: something else has to happen first, and `heads` will name the ticket then.
    """
    seconds = 0.0
    for ledger, needs in ticket.asks:
        if ledger.head() is not ticket:
            return math.inf
        seconds = max(seconds, ledger.wait(needs, now))
    if seconds > EPS:
        return seconds
    ticket.waiting = False
    ticket.held = []
    for ledger, needs in ticket.asks:
        ledger.drop(ticket, needs, admitted=True)
        ledger.used += 1
        buckets = ledger.buckets
        ticket.held.append(
            {name: buckets[name].charge(amount, now) for name, amount in needs.items()}
        )
    ticket.holds_slot = True
    ticket.admitted = now
    return 0.0


def untangle(ticket: Ticket) -> Ticket | None:
    """Return the ticket that goes first where tickets wait for one another in a circle, if any.

    Priorities may order two tickets differently in two ledgers; each is the head of one and waits
    for the other.
    """
    seen: list[Ticket] = []
    each = ticket
    while each not in seen:
        seen.append(each)
        ahead = next((led for led, _ in each.asks if led.head() is not each), None)
        following = None if ahead is None else ahead.head()
        if following is None:
            return None
        each = following
    first = min(seen[seen.index(each) :], key=_number)
    for ledger, _ in first.asks:
        ledger.pinned = first
    return first


def _number(ticket: Ticket) -> int:
    return ticket.number


def heads(ticket: Ticket) -> list[Ticket]:
    """Return who may have to look again after something happened to this ticket."""
    found: list[Ticket] = []
    for ledger, _ in ticket.asks:
        head = ledger.head()
        if head is not None and head not in found:
            found.append(head)
    return found


def release(ticket: Ticket) -> None:
    """Give the slots back; once, whatever is asked."""
    if ticket.holds_slot:
        ticket.holds_slot = False
        for ledger, _ in ticket.asks:
            ledger.used -= 1


def withdraw(ticket: Ticket) -> None:
    """Undo an admission that nothing came of: nothing was sent."""
    release(ticket)
    for (ledger, _), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in held.items():
            change = ledger.buckets[name].cancel(amount)
            if ticket.booked:
                ledger.note(name, change)
    ticket.held = None
    ticket.booked = False


def refuse(ticket: Ticket, said: Needs, after: float, spread: float, now: float) -> None:
    """Note that the other side refused: refund once, free the slots, close the first gate.

    It asked to come back `after` seconds, to which `spread` is added, and `said` what is left.
    """
    release(ticket)
    for (ledger, _), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in held.items():
            bucket = ledger.buckets[name]
            if bucket.rule.refund:
                ledger.note(name, bucket.cancel(amount))
            else:
                bucket.close(amount)
    ticket.held = None
    ticket.booked = False
    observe(ticket, said, now)
    ledger, needs = ticket.asks[0]
    for name, left in said.items():
        if name in needs:
            ledger.buckets[name].lacked(needs[name], left, after, now)
    ledger.close_gate(now + after + spread)


def settle(ticket: Ticket, used: Needs) -> None:
    """Put what was used in the place of what was reserved, once for each dimension."""
    for (ledger, needs), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in used.items():
            if name in held:
                change = ledger.buckets[name].settle(needs[name], held.pop(name), amount)
                ledger.note(name, change)


def close(ticket: Ticket) -> None:
    """End a ticket: what was not settled stays spent."""
    leave(ticket)
    release(ticket)
    for (ledger, _), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in held.items():
            ledger.buckets[name].close(amount)
    ticket.held = None


def observe(ticket: Ticket, remaining: Needs, now: float) -> None:
    """Lower levels to what the other side says is left."""
    if ticket.admitted is None:
        return
    for index, (ledger, _) in enumerate(ticket.asks):
        held = ticket.held[index] if ticket.held else {}
        for name, left in remaining.items():
            bucket = ledger.buckets.get(name)
            if bucket is not None:
                bucket.observe(left, ticket.admitted, held.get(name, 0.0), now)
