"""A limiter and its store: bookings in turn, what the store is owed, and what if it is gone.

A store that fails is left alone for a pause, which grows. Meanwhile a limiter that has `peers` goes
on alone, with its part; any other lets no call go, and says so at once.

What a failure leaves open is taken to be the worse for this limiter: what may not have been booked
is not given back, and what may have been given back is not given back again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Final

from anyio import CancelScope, current_time, sleep

from dagexec._errors import AdmissionTimeout, StoreLost
from dagexec.limits._counted import Counted
from dagexec.limits._ledger import Ticket
from dagexec.limits._rates import EPS
from dagexec.limits._store import Ask

_log: Final = logging.getLogger("dagexec")

# Seconds that leaving a block may wait for a store while it is being cancelled.
_PARTING: Final = 5.0


async def book(
    limiter: Counted, ticket: Ticket, late: Callable[[float], AdmissionTimeout], outages: int
) -> bool:
    """Have the store charge what the machine has charged, and wait as long as it says.

    `outages` is how many this limiter had seen when the ticket was admitted. Returns False where
    the ticket was admitted for a store that is gone: it has to queue for the limiter's own part.
    Raises what `late` returns, and StoreLost.
    """
    with CancelScope(deadline=ticket.deadline) as scope:
        await limiter.turn.acquire()
    if scope.cancelled_caught:
        raise late(math.inf)
    try:
        if not limiter.outage.pauses(current_time()):
            try:
                await _book(limiter, ticket, late)
            except AdmissionTimeout:
                raise
            except Exception as error:  # noqa: BLE001 - a client's own, whatever it is
                lose(limiter, error)
        if limiter.ledger not in ticket.booked:
            if not limiter.outage.is_bridged:
                raise _lost(limiter) from limiter.outage.error
            if outages != limiter.outage.count:
                return False
    finally:
        limiter.turn.release()
    ticket.admitted = current_time()
    return True


async def _book(
    limiter: Counted, ticket: Ticket, late: Callable[[float], AdmissionTimeout]
) -> None:
    if limiter.outage.error is not None:
        await _return(limiter, ticket)
    await flush(limiter)
    store = limiter.reached()
    seconds = await store.book(limiter.key, _asks(limiter, ticket))
    ticket.booked.append(limiter.ledger)
    while current_time() + seconds <= ticket.deadline + EPS:
        if seconds <= EPS:
            return
        await sleep(seconds)
        seconds = await store.gate(limiter.key)
    raise late(seconds)


def _asks(limiter: Counted, ticket: Ticket) -> dict[str, Ask]:
    index = next(i for i, (led, _) in enumerate(ticket.asks) if led is limiter.ledger)
    asks: dict[str, Ask] = {}
    for name, held in (ticket.held or [])[index].items():
        bucket = limiter.ledger.buckets[name]
        amount = bucket.booked(held)
        asks[name] = Ask(amount, amount + bucket.margin, bucket.rate, bucket.cap)
    return asks


async def flush(limiter: Counted, gate: float = 0.0) -> None:
    """Tell the store what has changed, and close its gate; a cancellation gives it a few seconds.

    While it is not reached, only charges are kept for it. One tells at a time: those that wait for
    it meanwhile have nothing left to tell, and need no connections of their own.
    """
    if not limiter.ledger.owed and not gate:
        return
    with CancelScope(shield=True, deadline=current_time() + _PARTING) as scope:
        await limiter.telling.acquire()
    if scope.cancelled_caught:
        return
    try:
        owed, limiter.ledger.owed = limiter.ledger.owed or {}, {}
        if (owed or gate) and not await _told(limiter, owed, gate):
            for name, change in owed.items():
                if change < 0:
                    limiter.ledger.note(name, change)
    finally:
        limiter.telling.release()


async def _told(limiter: Counted, owed: Mapping[str, float], gate: float) -> bool:
    if limiter.outage.pauses(current_time()):
        return False
    with CancelScope(shield=True, deadline=current_time() + _PARTING):
        try:
            if gate:
                await limiter.reached().gate(limiter.key, gate)
            if owed:
                await limiter.reached().add(limiter.key, owed)
        except Exception as error:  # noqa: BLE001 - the call itself has ended, and not by this
            lose(limiter, error)
        else:
            return True
    return False


def lose(limiter: Counted, error: Exception) -> None:
    """Take the store to be gone."""
    outage, now = limiter.outage, current_time()
    first = outage.begin(error, now)
    if not first:
        return
    if outage.is_bridged:
        outage.bridge(limiter.ledger, now)
        then = "this process goes on alone, with its part of the limits"
    else:
        then = "calls fail until it is reached again (with peers= they would go on)"
    _log.warning("the store of limiter %r failed, so %s", limiter.key, then, exc_info=error)


async def _return(limiter: Counted, ticket: Ticket) -> None:
    """Try the store again; it has to hear what was used meanwhile and is not refilled."""
    ledger, outage, store = limiter.ledger, limiter.outage, limiter.reached()
    if not outage.is_bridged:
        await store.gate(limiter.key)
    else:
        ledger.sync(current_time())
        own = _asks(limiter, ticket)  # is still to be booked
        asks: dict[str, Ask] = {}
        levels: dict[str, float] = {}
        for name, bucket in ledger.buckets.items():
            used = bucket.cap - bucket.level - (own[name].held if name in own else 0.0)
            rate, cap = bucket.rate * bucket.peers, bucket.cap * bucket.peers
            asks[name] = Ask(max(0.0, used), 0.0, rate, cap)
            # Of the whole as much is left as of the part.
            levels[name] = max(bucket.level, bucket.level * bucket.peers)
        await store.book(limiter.key, asks)
        ledger.learn(None, current_time())
        for name, level in levels.items():
            ledger.buckets[name].level = level
    outage.end()
    _log.warning("the store of limiter %r is reached again", limiter.key)


def _lost(limiter: Counted) -> StoreLost:
    error = limiter.outage.error
    return StoreLost(
        f"the store of limiter {limiter.key!r} failed ({type(error).__name__}: {error}), and no"
        " call goes without it: see that it runs, or give the limiter peers= (the number of"
        " processes), with which each goes on with its part"
    )
