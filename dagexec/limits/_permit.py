"""A permit: one call's way through its limiters, driven with anyio."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, final

from anyio import Event, current_time, get_cancelled_exc_class, move_on_after
from anyio.lowlevel import checkpoint_if_cancelled

from dagexec._concurrency.slots import Holder, persist
from dagexec._errors import AdmissionTimeout, DagexecError
from dagexec.limits import _machine as machine
from dagexec.limits._counted import Counted
from dagexec.limits._crowd import LOOK
from dagexec.limits._headers import longest, remaining_in, retry_after_in
from dagexec.limits._ledger import Ledger, Needs, Ticket
from dagexec.limits._rates import is_count
from dagexec.limits._sharing import book, flush

# Seconds. No provider's word closes a gate for longer; what comes later is refused again.
MAX_GATE: Final = 3600.0
# The window of the jitter after a refusal: so many seconds, doubled each time, at most the other.
_SPREAD: Final = 0.5
_MAX_SPREAD: Final = 8.0
# Of that, where a store lets those who waited go one after the other anyway.
_LED: Final = 0.1


@final
class Permit:
    """Leave for one call, made by `Limiter.acquire` or `acquire` and entered with `async with`.

        async with limiter.acquire({"tokens": 2000}) as permit:
            reply = await call()
            permit.settle(tokens=reply.usage.total_tokens)
            permit.observe(reply.headers)

    Entering waits for the turn; a wait that is cancelled leaves no trace. Leaving the block gives
    the slot back; what was not settled stays spent, for the other side has counted it.

    `queued` is how long it has waited, in seconds; `refusals` how often it was refused.
    """

    __slots__ = (
        "_gate",
        "_limiters",
        "_outages",
        "_resting",
        "_shared",
        "_ticket",
        "_waits",
        "queued",
        "refusals",
    )

    def __init__(self, limiters: Sequence[Counted], ticket: Ticket) -> None:
        """Take a ticket that has not queued up yet."""
        self._limiters = limiters
        self._ticket = ticket
        # Those of them that have a store.
        self._shared = [each for each in limiters if each.store is not None]
        # How many outages of each store there were when the ticket was admitted.
        self._outages: list[int] = []
        # Seconds for which the first one's gate has to be closed in its store.
        self._gate = 0.0
        self._waits = False
        # How many runs the call waits for.
        self._resting = 0
        self.queued = 0.0
        self.refusals = 0

    @property
    def held(self) -> bool:
        """Whether it is admitted: it holds its slots."""
        return self._ticket.holds_slot

    async def __aenter__(self) -> Permit:
        """Wait until the call may go; return this permit.

        Raises OversizeError for what can never go, and AdmissionTimeout as soon as it is clear
        that it cannot go before its deadline. Both cost nothing.
        """
        if self._ticket.admitted is not None or self._waits:
            msg = "this permit has been used: ask its limiter for another with acquire()"
            raise DagexecError(msg)
        await self._enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the slot back."""
        self.close()
        if self._shared:
            await self.flush()

    def enter_now(self) -> bool:
        """Go without waiting if that is possible now, else stand in the queue; for drivers.

        After False, `await wait()` in the queue, or `close()`. Raises what entering raises.
        """
        ticket = self._ticket
        now = current_time()
        for limiter in self._limiters:
            now = limiter.now()
        least = machine.soonest(ticket, now)
        if now + least > ticket.deadline:
            raise self._late(least)
        machine.join(ticket)
        self._count_outages()
        return machine.admit(ticket, now) == 0.0 and not self._shared

    async def _enter(self) -> None:
        await checkpoint_if_cancelled()
        if not self.enter_now():
            await self.wait()

    async def wait(self) -> None:
        """Wait in the queue, and leave it if the wait ends otherwise than by admission."""
        begun = current_time()
        self._waits = True
        try:
            while True:
                if not self.held:
                    await self._queue(current_time())
                if not self._shared or await self._book():
                    break
        except BaseException as error:
            machine.leave(self._ticket)
            machine.withdraw(self._ticket)
            if self._shared and not isinstance(error, GeneratorExit):
                await self.flush()  # others wait behind what it had booked
            raise
        finally:
            self._waits = False
            self._ticket.wake = None
            self.queued += current_time() - begun
            self._wake()

    async def _queue(self, now: float) -> None:
        ticket = self._ticket
        while (seconds := self._look(now)) > 0.0:
            event = Event()
            ticket.wake = event
            if seconds < math.inf and any(ledger.crowd is not None for ledger, _ in ticket.asks):
                seconds = min(seconds, LOOK)
            with move_on_after(min(seconds, ticket.deadline - now)):
                await event.wait()
            # On trio, a cancellation at the instant of the wake-up would come only later.
            await checkpoint_if_cancelled()
            now = current_time()
        self._count_outages()
        self._wake()

    def _count_outages(self) -> None:
        self._outages = [limiter.outage.count for limiter in self._shared]

    async def _book(self) -> bool:
        """Have the stores charge what the machine has charged; False: queue anew."""
        for limiter, outages in zip(self._shared, self._outages, strict=True):
            if not await book(limiter, self._ticket, self._late, outages):
                machine.requeue(self._ticket, limiter.ledger)
                return False
        return True

    async def flush(self) -> None:
        """Tell the stores what has changed; a cancellation gives it a few seconds."""
        gate, self._gate = self._gate, 0.0
        for limiter in self._shared:
            await flush(limiter, gate if limiter is self._limiters[0] else 0.0)

    def _look(self, now: float) -> float:
        """Return 0 if it is admitted now, else the seconds until it has to look again."""
        ticket = self._ticket
        seconds = math.inf if now > ticket.deadline else machine.admit(ticket, now)
        if now + seconds > ticket.deadline and (seconds < math.inf or now >= ticket.deadline):
            raise self._late(seconds)
        if seconds == math.inf and len(ticket.asks) > 1:
            first = machine.untangle(ticket)
            if first is ticket:
                return self._look(now)
            if first is not None:
                _wake(first)
        return seconds

    def _late(self, seconds: float) -> AdmissionTimeout:
        keys = ", ".join(limiter.key for limiter in self._limiters)
        when = "" if seconds == math.inf else f": it would have to wait {seconds:.3g} s"
        return AdmissionTimeout(
            f"the limit {keys!r} cannot let it go before its deadline{when}", "call"
        )

    def _wake(self) -> None:
        """Let those look who may be next."""
        for each in machine.heads(self._ticket):
            _wake(each)

    # ---------------------------------------------------------------------- while it is admitted

    def settle(self, used: Mapping[str, float] | None = None, /, **more: float) -> None:
        """Say what was really used, such as `tokens=1234`; once for each dimension.

        What the limiter does not count is ignored, and so is what is no amount: a number from 0 to
        2**53. What a provider says of itself must not cost a call that it has answered.
        """
        amounts = {**(used or {}), **more}
        machine.settle(self._ticket, {name: float(n) for name, n in amounts.items() if is_count(n)})
        self._wake()

    def observe(self, headers: Mapping[Any, Any]) -> None:
        """Read a provider's headers; they can only lower the levels.

        Takes the HTTP headers of OpenAI and Anthropic, or `{"tokens": {"remaining": 1200}}`.
        """
        remaining = remaining_in(headers)
        if remaining:
            machine.observe(self._ticket, remaining, current_time())

    def rejected(
        self, retry_after: float | None = None, headers: Mapping[Any, Any] | None = None
    ) -> None:
        """Say that the other side refused: refund, give the slot back, close the key's gate.

        The gate opens after `retry_after` seconds, by default what the headers say, plus full
        jitter. The place in the queue is kept for `await again()`. With several limiters the first
        is the one that refused. Does nothing if the permit is not held.
        """
        if not self.held:
            return
        self.refusals += 1
        headers = headers or {}
        asked = retry_after_in(headers) if retry_after is None else retry_after
        window = min(_MAX_SPREAD, _SPREAD * 2.0**self.refusals)
        if self._limiters[0].is_led:
            window *= _LED
        spread = window * self._limiters[0].random()
        after = longest(asked, MAX_GATE)
        machine.refuse(self._ticket, remaining_in(headers), after, spread, current_time())
        self._gate = after + spread
        self._wake()
        # Those that cannot go before their deadline now should hear of it at once.
        gate = self._limiters[0].ledger.gate
        for each in self._limiters[0].ledger.tickets:
            if each.deadline < gate:
                _wake(each)

    async def again(self) -> None:
        """Wait for the turn again after a refusal, in the old place; raises as entering does."""
        if self.held or self._waits:
            msg = "again() waits after rejected(); this permit is admitted or waits already"
            raise DagexecError(msg)
        await checkpoint_if_cancelled()
        if self._shared:
            await self.flush()
        machine.join(self._ticket)
        await self.wait()

    @asynccontextmanager
    async def rest(self, holder: Holder | None) -> AsyncGenerator[None]:
        """Give the slot back for this block, and take it again in turn.

        For a call that waits for a run of its own, whose calls may need the slot. Nothing is
        charged again. It waits for its turn also where the tool cut the run off, and may go on; if
        the call itself is to end, the slot counts again at once.
        """
        if not self._limiters[0].is_here:
            yield  # a thread's own event loop cannot give back what is counted in another
            return
        self._resting += 1
        if self._resting == 1:
            machine.release(self._ticket)
            self._wake()
        try:
            try:
                yield
            except (Exception, get_cancelled_exc_class()):
                if holder is not None and self._returns() and not holder.is_ending():
                    await persist(self._return, holder)
                raise
            if self._returns():
                await (persist(self._return, holder) if holder else self._return())
        finally:
            self._resting -= 1
            if not self._resting:
                machine.regain(self._ticket)

    def _returns(self) -> bool:
        return self._resting == 1 and self._ticket.held is not None

    async def _return(self) -> None:
        asks: list[tuple[Ledger, Needs]] = [(ledger, {}) for ledger, _ in self._ticket.asks]
        place = Permit(self._limiters, Ticket(asks, math.inf, self._ticket.priority))
        machine.join(place._ticket)
        try:
            await place._queue(current_time())
        finally:
            # In the same step the slot is this one's: nobody can come between.
            machine.close(place._ticket)

    def withdraw(self) -> None:
        """Undo an admission: nothing was sent."""
        machine.leave(self._ticket)
        machine.withdraw(self._ticket)
        self._wake()

    def close(self) -> None:
        """Give the slot back; what was not settled stays spent. Twice is as once."""
        machine.close(self._ticket)
        self._wake()


def _wake(ticket: Ticket) -> None:
    if isinstance(ticket.wake, Event):
        ticket.wake.set()
