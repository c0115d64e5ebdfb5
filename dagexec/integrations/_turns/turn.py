"""One turn of a model, while a framework starts its calls and dagexec runs them.

The calls run in tasks of dagexec's, under its deadlines, each in a copy of the context that the
framework started it in: tracing and the framework's own variables are what the call expects.
It needs asyncio, as the frameworks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar, copy_context
from dataclasses import replace
from typing import Any, Final, final

from dagexec import (
    Call,
    Cancelled,
    Executor,
    Failed,
    Outcome,
    Pending,
    Plan,
    Report,
    TimedOut,
)
from dagexec.integrations._turns.budget import Budget
from dagexec.integrations._turns.conversation import Conversation
from dagexec.integrations._turns.crew import Crew
from dagexec.integrations._turns.rendezvous import (
    Action,
    Announced,
    Came,
    Close,
    Ended,
    Enter,
    Lack,
    Late,
    Left,
    Rendezvous,
    State,
)
from dagexec.integrations._turns.source import Source, until_done
from dagexec.integrations._turns.ticket import Handler, Ticket
from dagexec.lowlevel import Conclude, Settled, current_id

# Seconds after which nobody waits any longer for a call that a framework has not started, while
# all the others wait for it: whoever was to start it has forgotten it without a word.
PATIENCE: Final = 30.0

# Seconds for which a plan stays open while none of its calls is there: a framework that starts only
# so many at a time, or that a guardrail holds up, starts the next ones soon, or it never will.
LINGER: Final = 0.05

_TURN: Final[ContextVar[Turn]] = ContextVar("dagexec_turn")


@final
class Observer:
    """Tells each turn of what its own run decides; one for all turns of an executor."""

    def begin(self, run_id: str, tools: object) -> Callable[[object], object]:
        """Return what is told of this run's events and actions."""
        del run_id, tools
        turn = _TURN.get(None)
        return _nothing if turn is None else turn.observe


def _nothing(event: object) -> None:
    del event


async def perform(**args: Any) -> Any:
    """Run the current call of the turn that runs: the function of each tool."""
    return await _TURN.get().perform(args)


@final
class Turn:
    """The calls of one reply.

    Args:
        crew: the settings and the executor.
        conversation: the calls, as the model wrote them, and what they can refer to.
        groups: by key, which calls the framework starts after others have ended.
        value: what a later call gets for what the handler returned.
        asks: which errors say that a person has to answer first.
    """

    def __init__(
        self,
        crew: Crew,
        conversation: Conversation,
        *,
        groups: dict[str, int] | None = None,
        value: Callable[[Any], Any] = lambda raw: raw,
        asks: tuple[type[BaseException], ...] = (),
    ) -> None:
        """Announce the calls; nothing is started."""
        self._crew = crew
        self._value = value
        self._asks = asks
        self.conversation = conversation
        self.executor: Executor = crew.executor(call.tool for call in conversation.calls)
        self._names = dict(crew.names())
        self._calls = self._planned()
        self._spoken = {call.key: call for call in conversation.calls}
        self.groups = found = groups or {}
        self._rendezvous = Rendezvous(
            Announced(key, _within(self._calls, call), found.get(key, 0))
            for key, call in self._calls.items()
        )
        self._tickets: dict[str, Ticket] = {}
        # The ids in the plan of calls that entered it by another name.
        self._keys: dict[str, str] = {}
        self._source: Source | None = None
        self._driver: asyncio.Task[None] | None = None
        # How many of the framework's tasks wait for an outcome.
        self._present = 0
        # Calls that wait for one that waits for a person, and which that is.
        self._suspended: dict[str, str] = {}
        # What became of the turn before all of its calls had come.
        self._over: Outcome | None = None
        self._moved = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._budget = Budget()
        # Whether the plan was ended because nobody was there.
        self._resting = False
        # Whether the framework is about to cancel its tasks.
        self._ending = False
        self._one_by_one = asyncio.Lock()
        self._base: Context = copy_context()

    def _planned(self) -> dict[str, Call]:
        tools = {name: self.executor.tools[known] for name, known in self._names.items()}
        return self.conversation.plan_calls(tools, self._names)

    # --------------------------------------------------------------------- what the framework does

    def expects(self, key: str) -> bool:
        """Whether a call is announced and has not come."""
        return key in self._calls and self._rendezvous.state(key) is State.EXPECTED

    def admits(self, key: str) -> bool:
        """Whether a call may come: it is announced and has not come in this turn."""
        if key not in self._calls or key in self._tickets:
            return False
        return self._rendezvous.state(key) in (State.EXPECTED, State.GONE)

    def leave(self, keys: Iterable[str]) -> None:
        """Say of calls that they will not come."""
        for key in keys:
            if self.expects(key):
                self._do(self._rendezvous.receive(Left(key)))

    async def run(self, key: str, handler: Handler, *, limit: int | None = None) -> Ticket:
        """Run a call that has come; return its ticket with the outcome.

        The framework starts at most `limit` calls at a time, None for no limit. A cancellation of
        the caller ends this call and passes through.
        """
        ticket = Ticket(
            self._spoken[key], handler, copy_context(), asyncio.get_running_loop().create_future()
        )
        if self.executor.concurrency == 0:
            return await self._run_alone(ticket)
        if self._over is not None:
            ticket.settle(self._over)
            return ticket
        if self._resting and self._driver is not None:
            await until_done(self._driver)
        if (self._driver is None or self._driver.done()) and not self._start():
            ticket.settle(TimedOut("turn"))
            return ticket
        self._tickets[key] = ticket
        self._present += 1
        try:
            self._do(self._rendezvous.receive(Came(key, limit)))
            if key in self._suspended:
                self._settle(key, Pending(because=self._suspended[key]))
            await ticket.ended
        except asyncio.CancelledError:
            await self._withdraw(ticket)
            raise
        finally:
            self._present -= 1
            source = self._source
            if self._present == 0 and source is not None and not self._rendezvous.closed:
                source.loop.call_later(LINGER, self._rest, source)
        await self._leave_last()
        return ticket

    async def release(self) -> None:
        """End the turn when the framework's tasks have left it, which it is about to cancel.

        They take the outcomes that are there with them; at once if there are no such tasks.
        """
        self._ending = True
        if not self._present:
            await self.aclose()

    async def aclose(self) -> None:
        """End what still runs of the turn; to be called when the framework has ended it."""
        if self._driver is not None and not self._driver.done():
            self.leave(list(self._calls))
            if not self._rendezvous.closed:
                self._driver.cancel()
            await until_done(self._driver)

    # ------------------------------------------------------------------------------------ the run

    def _start(self) -> bool:
        """Begin a plan; return False if the time of the turn is over."""
        loop = asyncio.get_running_loop()
        executor = self._budget.left_for(self.executor)
        if executor is None:
            return False
        self._resting = False
        if self._driver is not None:
            # The plan before has ended; what is known of it counts as a value now.
            self._rendezvous.restart()
            self._suspended.clear()
            self._keys.clear()
            self.conversation.aliases.clear()
            for key, call in self._spoken.items():
                if self._rendezvous.state(key) in (State.EXPECTED, State.GONE):
                    self._calls[key] = self.conversation.plan_call(call, self._names[call.tool])
        self._source = Source()
        driving = self._drive(executor, self._source)
        self._driver = loop.create_task(driving, name="dagexec turn")
        return True

    def _rest(self, source: Source) -> None:
        """End a plan of which no call is there any more; what comes later begins another."""
        if self._present == 0 and source is self._source and not self._rendezvous.closed:
            self._resting = True
            source.end()

    async def _drive(self, executor: Executor, source: Source) -> None:
        loop = asyncio.get_running_loop()
        _TURN.set(self)
        self._base = copy_context()
        self._moved = loop.time()
        self._timer = loop.call_later(PATIENCE, self._look_late)
        end: Outcome = Cancelled()
        try:
            report = await executor.run(source)
            self._crew.report(report)
            if not self._rendezvous.closed and not self._resting:
                end = self._over = _verdict(report)
        except Exception as error:  # noqa: BLE001 - each call that waits gets it
            end = self._over = Failed(error)
        finally:
            self._timer.cancel()
            self._source = None
            for key, ticket in self._tickets.items():
                if ticket.outcome is None:
                    self._settle(key, end)

    def observe(self, event: object) -> None:
        """Take an outcome from the run."""
        if isinstance(event, Settled | Conclude):
            key = self._keys.get(event.call, event.call)
            ticket = self._tickets.get(key)
            # What was lacking has an outcome too, and nobody who waits for it.
            if ticket is not None and ticket.outcome is None and self._stands_for(event.call, key):
                self._settle(key, event.outcome)

    def _stands_for(self, id_: str, key: str) -> bool:
        return id_ in self._keys or key not in self.conversation.aliases

    def _settle(self, key: str, outcome: Outcome) -> None:
        self._tickets[key].settle(outcome)
        if self._rendezvous.state(key) is State.INSIDE:
            self._do(self._rendezvous.receive(Ended(key)))
        if outcome.status == "pending" and key not in self._suspended:
            self._suspend(key)

    def _suspend(self, key: str) -> None:
        """End the wait for a call that waits for a person: the plan keeps it to its end."""
        todo = [key]
        while todo:
            source = todo.pop()
            for name, call in self._calls.items():
                if name not in self._suspended and source in (*call.needs, *call.waits):
                    self._suspended[name] = key
                    todo.append(name)
                    ticket = self._tickets.get(name)
                    if ticket is not None and ticket.outcome is None:
                        self._settle(name, Pending(because=key))

    def _do(self, actions: Iterable[Action]) -> None:
        source = self._source
        if source is None:
            return
        for action in actions:
            match action:
                case Enter(key, again):
                    source.put(self._entering(key, again=again))
                case Lack(key, gone):
                    why = _GONE if gone else _NOT_YET
                    call = self._calls[key]
                    source.put(Call(key, call.tool, problem=why))
                case Close():
                    source.end()
        self._moved = source.loop.time()

    def _entering(self, key: str, *, again: bool) -> Call:
        """Return a call for the plan, by another name if something stands there for it."""
        call = self._calls[key]
        aliases = self.conversation.aliases
        if aliases and not aliases.keys().isdisjoint((*call.needs, *call.waits)):
            spoken = self._spoken[key]
            call = self.conversation.plan_call(spoken, self._names[spoken.tool])
        if again:
            call = replace(call, id=f"{key} again")
            self._keys[call.id] = key
            aliases[key] = call.id
        return call

    def _look_late(self) -> None:
        """Wait no longer for calls that nobody has started, if nothing has moved for long."""
        source = self._source
        if source is None:
            return
        now = source.loop.time()
        if now - self._moved >= PATIENCE:
            self._do(self._rendezvous.receive(Late()))
        self._timer = source.loop.call_at(self._moved + PATIENCE, self._look_late)

    # ------------------------------------------------------------------------------------ one call

    async def perform(self, args: dict[str, Any]) -> Any:
        """Run the current call."""
        id_ = current_id()
        key = self._keys.get(id_, id_)
        ticket = self._tickets[key]
        given = args if self.conversation.refers(ticket.spoken) else None
        return self._value(await ticket.perform(given, self._base, self._asks))

    async def _withdraw(self, ticket: Ticket) -> None:
        """End a call whose task the framework has cancelled, and all if nobody is left."""
        ticket.withdraw()
        while ticket.running:
            ticket.ended = asyncio.get_running_loop().create_future()
            try:
                await ticket.ended
            except asyncio.CancelledError:
                ticket.withdraw()
        if self._present == 1 and self._driver is not None and not self._driver.done():
            self._driver.cancel()
            await until_done(self._driver)

    async def _leave_last(self) -> None:
        """Wait for the end of the run, if that was the last call of the turn."""
        whole = self._rendezvous.closed
        if self._present == 0 and (whole or self._ending) and self._driver is not None:
            if not whole:
                self._driver.cancel()
            await until_done(self._driver)

    async def _run_alone(self, ticket: Ticket) -> Ticket:
        """Run a call by itself, one after the other, where there are no tasks: to debug."""
        spoken = ticket.spoken
        async with self._one_by_one:
            self._tickets[spoken.key] = ticket
            call = self.conversation.plan_call(spoken, self._names[spoken.tool])
            if call.needs and call.problem is None:
                call = Call(call.id, call.tool, problem=_NOT_YET)
            self._calls[spoken.key] = call
            # References with a default: what they lead to has no value yet.
            others = [Call(name, call.tool, problem=_NOT_YET) for name in call.waits]
            token = _TURN.set(self)
            self._base = copy_context()
            try:
                report = await self.executor.run(Plan([*others, call]))
            finally:
                _TURN.reset(token)
            ticket.settle(report[call.id])
        return ticket


_GONE: Final = "It was not run."
_NOT_YET: Final = "It is run only after the calls that wait for it: it is not run beside them."


def _within(calls: dict[str, Call], call: Call) -> tuple[str, ...]:
    if call.problem is not None:
        return ()
    return tuple(name for name in (*call.needs, *call.waits) if name in calls)


def _verdict(report: Report) -> Outcome:
    """Return what a turn that ended early means for calls that come later."""
    for outcome in report.values():
        if outcome.status == "timed_out" and outcome.scope != "call":
            return replace(outcome, started=None, maybe=False)
    for outcome in report.values():
        if outcome.status == "cancelled":
            return Cancelled(because=outcome.because)
    return Cancelled()
