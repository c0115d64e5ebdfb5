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

from dagexec.limits._ledger import Ledger, Needs, Ticket
from dagexec.limits._rates import EPS


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


def regain(ticket: Ticket) -> None:
    """Take back slots that were only lent, whether there are any or not."""
    if ticket.held is not None and not ticket.holds_slot:
        ticket.holds_slot = True
        for ledger, _ in ticket.asks:
            ledger.used += 1


def withdraw(ticket: Ticket) -> None:
    """Undo an admission that nothing came of: nothing was sent."""
    release(ticket)
    for (ledger, _), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in held.items():
            change = ledger.buckets[name].cancel(amount)
            _note(ticket, ledger, name, change)
    ticket.held = None
    ticket.booked = []


def refuse(ticket: Ticket, said: Needs, after: float, spread: float, now: float) -> None:
    """Note that the other side refused: refund once, free the slots, close the first gate.

    It asked to come back `after` seconds, to which `spread` is added, and `said` what is left.
    """
    release(ticket)
    for (ledger, _), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in held.items():
            bucket = ledger.buckets[name]
            if bucket.rule.refund:
                _note(ticket, ledger, name, bucket.cancel(amount))
            else:
                bucket.close(amount)
    ticket.held = None
    ticket.booked = []
    ledger, needs = ticket.asks[0]
    crowd = ledger.crowd
    if crowd is not None and ticket.admitted is not None and crowd.refused(ticket.admitted, now):
        ledger.divide(1 / crowd.share, now)
    observe(ticket, said, now)
    _lower(ledger, needs, said, after, now)
    ledger.close_gate(now + after + spread)


def _lower(ledger: Ledger, needs: Needs, said: Needs, after: float, now: float) -> None:
    """Take the levels to be what a refusal shows them to be."""
    if ledger.crowd is not None and not said:
        # Else what comes until the gate opens would pile up, and all of it would go at once to a
        # side that has enough for one. Any of them may be what lacked.
        for name, need in needs.items():
            ledger.buckets[name].hold_back(need, after, now)
    for name, left in said.items():
        if name in needs:
            ledger.buckets[name].lacked(needs[name], left, after, now)


def settle(ticket: Ticket, used: Needs) -> None:
    """Put what was used in the place of what was reserved, once for each dimension."""
    for (ledger, needs), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in used.items():
            if name in held:
                change = ledger.buckets[name].settle(needs[name], held.pop(name), amount)
                _note(ticket, ledger, name, change)


def _note(ticket: Ticket, ledger: Ledger, name: str, change: float) -> None:
    """Keep a change for the store that has charged the ticket; no other knows of it."""
    if ledger in ticket.booked:
        ledger.note(name, change)


def requeue(ticket: Ticket, gone: Ledger) -> None:
    """Send a ticket that was admitted for a store that is gone back to its place.

    Nothing was sent. Of the ledger whose store it is nothing comes back: its levels were set when
    the store went.
    """
    release(ticket)
    for (ledger, _), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in held.items():
            if ledger is gone:
                ledger.buckets[name].forget(amount)
            else:
                _note(ticket, ledger, name, ledger.buckets[name].cancel(amount))
    ticket.held = None
    ticket.booked = []
    join(ticket)


def close(ticket: Ticket) -> None:
    """End a ticket: what was not settled stays spent."""
    leave(ticket)
    release(ticket)
    _spend(ticket)


def _spend(ticket: Ticket) -> None:
    for (ledger, _), held in zip(ticket.asks, ticket.held or (), strict=False):
        for name, amount in held.items():
            ledger.buckets[name].close(amount)
    ticket.held = None


def observe(ticket: Ticket, remaining: Needs, now: float) -> None:
    """Lower levels to what the other side says is left; a crowd takes little as a warning."""
    if ticket.admitted is None:
        return
    for index, (ledger, _) in enumerate(ticket.asks):
        held = ticket.held[index] if ticket.held else {}
        crowd, scarce = ledger.crowd, False
        for name, left in remaining.items():
            bucket = ledger.buckets.get(name)
            if bucket is not None:
                spare = 0.0 if crowd is None else bucket.spare
                own = held.get(name, 0.0)
                bucket.observe(left, ticket.admitted, own, now, spare=spare)
                # Less than nothing: the limit is another than ours, so it says nothing.
                scarce |= 0.0 <= bucket.there(left) < spare
        if crowd is not None and scarce and crowd.warned(ticket.admitted, now):
            ledger.divide(1 / crowd.share, now)
