"""The recorder: between a run and its journal.

What the scheduler is told is recorded first. A write starts when its intent is durable; a call has
ended for the rest of the run when its outcome is. So whatever crashes, the journal knows of every
write that may have begun, and nothing was built on an outcome that can be lost. Calls that may run
again need not wait for their intent.

A caller's cancellation, Ctrl-C and a source that breaks are no outcomes: the run stays open, as
after a crash, and can be resumed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import isawaitable
from typing import Any, Final, TypeAlias, final

import anyio
from anyio import CancelScope

from dagexec._core.nested import awaits_answer
from dagexec._core.outcome_json import outcome_body
from dagexec._core.outcomes import Approve, Cancelled, Failed, InDoubt, Outcome, Pending
from dagexec._core.plan import Call, Plan
from dagexec._core.scheduler import (
    Added,
    Closed,
    Event,
    Expired,
    Reopened,
    Settled,
    Spread,
    State,
    Stop,
)
from dagexec._errors import DagexecError, JournalError, RunOwned
from dagexec._runtime.history import History
from dagexec._runtime.intake import Listens, all_of
from dagexec._runtime.lane import Lane
from dagexec._runtime.observers import tell_past
from dagexec._runtime.resumption import Resumption
from dagexec._runtime.state import RunState
from dagexec._tools.checking import approval_question, needs_approval
from dagexec._tools.context import CallContext
from dagexec._tools.tool import Tool
from dagexec.journal._answers import (
    Given,
    answer_entry,
    check_answer,
    edited_arguments,
    kept_call,
    question_again,
)
from dagexec.journal._backlog import Backlog, Entry
from dagexec.journal._base import RUNS, Journal, Record, Session, other_kind
from dagexec.journal._records import (
    began_of,
    end_record,
    fingerprint,
    first_record,
    same_call,
    to_record,
    unrecorded,
)

# Does what is left of a run: `Runner.drive`.
Rest: TypeAlias = "Callable[[Plan | None, AsyncIterator[Call] | None], Awaitable[None]]"

_log: Final = logging.getLogger("dagexec")

_IN_FLIGHT: Final = (State.READY, State.RUNNING, State.STOPPING)


@final
class Recorder:
    """Records one run, and resumes it from what was recorded."""

    def __init__(
        self,
        journal: Journal,
        run_id: str,
        in_doubt: Any = "ask",
        answers: Mapping[str, object] | None = None,
        inner: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Prepare; `answers` is None for `run`, which begins a run that is not there yet.

        `inner` are answers that were given to the call that this run is nested in.
        """
        self._journal = journal
        self._run_id = run_id
        self._in_doubt = in_doubt
        self._asked = answers
        self._inner = inner
        # Set by `drive`, before anything is recorded.
        self._run: RunState
        self._session: Session
        self._backlog: Backlog
        self._history: History
        self._resumption: Resumption
        # Answers given now: the run goes on when they are durable.
        self._answering: list[Entry] = []
        # Calls of a stream that was cut off, and that it has not brought again.
        self._to_come: set[str] = set()
        # Whether it may end without some of them: that of a program, which runs ahead.
        self._runs_ahead = False
        # Of the arguments of calls that were admitted; `intend` takes them out.
        self._fingerprints: dict[str, str] = {}

    # ------------------------------------------------------------------------------- the whole run

    async def drive(
        self, run: RunState, rest: Rest, plan: Plan | None, source: AsyncIterator[Call] | None
    ) -> None:
        """Claim the run, have the rest of it done, and give it up; raises what `rest` raises."""
        self._run = run
        first = None
        if self._asked is None and (plan is not None or source is not None):
            calls = None if plan is None else [self._kept(call) for call in plan.calls]
            settings = run.settings
            first = first_record(calls, settings.on_failure, barrier=settings.barrier)
            if isinstance(source, Listens) and (begun := source.begun_with()):
                first.body["program"] = begun
        self._session = session = await self._journal.claim(self._run_id, first)
        run.began_at = began_of(session.records[0])
        if session.records[0].kind not in RUNS:
            await self._refuse_kind(session.records[0].kind)
        self._backlog = Backlog(session)
        try:
            source = await self._restore(plan, source, new=session.records[0] is first)
            machine = run.machine
            if machine.finished and not (self._resumption.answers or self._history.answered):
                return
            await rest(plan, source)
            if machine.finished and not run.interrupted:
                self._backlog.append(end_record(*run.counted()))
        finally:
            with CancelScope(shield=True):
                await self._release()

    async def _restore(
        self, plan: Plan | None, source: AsyncIterator[Call] | None, *, new: bool
    ) -> AsyncIterator[Call] | None:
        """Apply the history of the run; return the source unless all of it is known."""
        run = self._run
        history = self._history = History.read(self._session.records)
        resumption = self._resumption = Resumption(
            run, history, self._asked, self._inner, arriving=source is not None
        )
        resumption.restore(plan, new=new)
        self._runs_ahead = isinstance(source, Listens)
        if isinstance(source, Listens):
            body: dict[str, Any] = history.records[0].body or {}
            if "program" in body:
                source.go_on_with(body["program"])
            tell_past((source.observe,), run.machine, over=False)
            # It must not give up for a call whose answer is there, before the machine hears of it.
            for name in dict.fromkeys((*history.answered, *resumption.answers)):
                source.observe(Reopened(name))
        if source is not None and run.machine.closed:
            calls = await all_of(source)
            if self._runs_ahead:
                for call in calls:
                    self._refuse_other(run.machine.call(call.id), call)
            else:
                resumption.compare(calls)
            source = None
        machine = run.machine
        made = {item.id for call in machine.calls if call.each for item in machine.items(call.id)}
        self._to_come = {call.id for call in machine.calls} - made
        run.given, run.starts = history.given, history.starts
        return source

    def _kept(self, call: Call) -> dict[str, Any]:
        """Return a call as it is recorded: without the arguments that are secret."""
        return kept_call(call, self._run.settings.tools)

    async def _refuse_kind(self, kind: str) -> None:
        state = "open"
        try:
            text, state = await other_kind(self._journal, self._run_id, kind)
        finally:
            with CancelScope(shield=True):
                await self._session.release(state)
        raise DagexecError(text)

    async def _release(self) -> None:
        machine = self._run.machine
        counts = Counter(outcome.status for outcome in machine.outcomes.values())
        summary = ", ".join(f"{count} {status}" for status, count in counts.items())
        waiting = [name for name, each in machine.outcomes.items() if awaits_answer(each)]
        state = "waiting" if waiting else "done"
        if self._run.interrupted or not machine.finished:
            state = "open"
        try:
            await self._session.release(state, summary, waiting)
        except JournalError as error:
            _log.error("the end of run %r could not be recorded: %s", self._run_id, error)

    # ------------------------------------------------------------------------------------ going on

    async def begin(self, plan: Plan | None) -> None:
        """Give the machine what it needs to go on: a new plan, or what the crash left."""
        run, machine = self._run, self._run.machine
        left = [call.id for call in machine.calls if machine.state(call.id) in _IN_FLIGHT]
        if plan is not None and not machine.closed:
            self._complete(plan)
        reopened: list[Event] = []
        settled: list[Event] = []
        for name in dict.fromkeys((*left, *self._history.answered, *self._resumption.answers)):
            event = await self._resolution_of(name)
            (reopened if isinstance(event, Reopened) else settled).append(event)
        for entry in self._answering:
            await self._backlog.wait(entry)
            if entry.error is not None:
                raise entry.error
        # Reopened calls first, or the machine would think the run finished.
        self._note(*reopened, *settled)
        if reopened or settled:
            run.feed(*reopened, *settled)

    def _complete(self, plan: Plan) -> None:
        """Add what the machine has not had of a plan: all of it, or the rest of a stream."""
        run = self._run
        known = {call.id for call in run.machine.calls}
        missing = [Added(call) for call in plan.calls if call.id not in known]
        if self._session.records[0].kind == "stream":
            self._note(*map(self._hidden, missing), Closed())
        run.feed(*missing, Closed())

    async def _resolution_of(self, name: str) -> Event:
        """Return what becomes of a call that was under way, or was answered."""
        machine = self._run.machine
        state, lost = machine.state(name), self._resumption.is_doubtful(name)
        if name in self._resumption.answers:
            outcome = InDoubt() if lost else machine.outcomes[name]
            self._record_answer(name, self._resumption.answers[name], outcome)
            return Reopened(name)
        if name in self._history.answered:
            return Reopened(name)
        if lost:
            answer = await self._decided(name)
            if answer is not None:
                self._record_answer(name, answer, InDoubt())
                return Reopened(name)
            return Settled(name, InDoubt(attempts=self._history.starts.get(name, 1)))
        if state is State.STOPPING:
            return Settled(name, self._history.stopped_by)
        return Reopened(name)

    def _record_answer(self, name: str, answer: object, outcome: Outcome) -> None:
        tool = self._run.settings.tools[self._run.machine.call(name).tool]
        body = self._history.take(name, answer_entry(answer, outcome), tool.secret)
        self._answering.append(self._backlog.append_awaited(Record("answer", name, body)))

    async def _decided(self, name: str) -> object:
        """Ask the tool's own hook, then the policy, what became of a write; None if unknown."""
        machine, tools = self._run.machine, self._run.settings.tools
        call = machine.call(name)
        tool = tools[call.tool]
        context = CallContext(
            name, tool.name, self._run_id, attempt=self._history.starts.get(name, 1)
        )
        for decide in (tool.reconcile, self._in_doubt if callable(self._in_doubt) else None):
            if decide is None:
                continue
            try:
                arguments = self._arguments(call, tool)
                answer = decide(context, dict(arguments))
                if isawaitable(answer):
                    answer = await answer
                if answer is not None:
                    check_answer(call, tool, answer, InDoubt(), "in_doubt")
                    return answer
            except Exception:  # noqa: BLE001 - what cannot be found out stays in doubt
                _log.exception("call %r: asking what became of it failed", name)
        return {"rerun": Approve()}.get(self._in_doubt) if isinstance(self._in_doubt, str) else None

    # --------------------------------------------------------------------------- before a call runs

    async def arrived(self, *events: Added) -> None:
        """Tell the machine of calls of a stream once they are recorded; not of those it knows.

        Raises DagexecError if one is not what it was, JournalError if it cannot be recorded.
        """
        new = [event for event in events if not self._came_before(event.call)]
        if new:
            await self._told_when_recorded(*new)

    def _came_before(self, call: Call) -> bool:
        try:
            known = self._run.machine.call(call.id)
        except KeyError:
            return False
        if call.id not in self._to_come:
            msg = f"the stream holds two calls with the id {call.id!r}"
            raise DagexecError(msg)
        self._refuse_other(known, call)
        self._to_come.remove(call.id)
        return True

    def _refuse_other(self, known: Call, call: Call) -> None:
        if not same_call(self._kept(known), self._kept(call)):
            self._resumption.refuse_other_plan()

    async def complete(self) -> None:
        """Tell the machine that its stream has ended, once that is recorded.

        Raises DagexecError if it ends without calls that it had before, JournalError if it cannot
        be recorded.
        """
        if self._to_come and not self._runs_ahead:
            self._resumption.refuse_other_plan()
        await self._told_when_recorded(Closed())

    async def _told_when_recorded(self, *events: Added | Closed) -> None:
        problems: list[Exception] = []

        def hear(event: Added | Closed, error: Exception | None) -> None:
            if error is not None:
                problems.append(error)
            elif not problems and not self._run.machine.closed:
                self._run.feed(event)

        *first, last = ((to_record(self._hidden(each)), partial(hear, each)) for each in events)
        for record, told in first:
            self._backlog.append_reported(record, told)
        await self._backlog.append_reported_and_wait(*last)
        if problems:
            raise problems[0]

    def _hidden(self, event: Event) -> Event:
        if isinstance(event, Added):
            return Added(Call.from_dict(self._kept(event.call)), event.eager)
        return event

    def _arguments(self, call: Call, tool: Tool[..., Any]) -> dict[str, Any]:
        """Return the validated arguments, with what a person changed in them."""
        given = self._history.given.get(call.id)
        return edited_arguments(given, call, tool, self._run.machine.outcomes)

    def admit(
        self,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any] | None,
    ) -> dict[str, Any] | None:
        """Return the arguments of a call that may start when `intend` says so, or settle it."""
        name = call.id
        given = self._history.given.get(name)
        if given is not None and given.verdict is not None:
            self.settle(name, given.verdict)
            return None
        arguments, digest, outcome = self._admission_of(call, tool, arguments, given)
        if outcome is not None:
            self.settle(name, outcome)
            return None
        self._fingerprints[name] = digest
        return arguments

    def again(self, call: Call, tool: Tool[..., Any]) -> dict[str, Any]:
        """Return the arguments of one more attempt; it is given the same answers as the first."""
        given = self._history.given.get(call.id)
        if given is not None:
            given.rewind()
        return self._arguments(call, tool)

    def _admission_of(
        self,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any] | None,
        given: Given | None,
    ) -> tuple[dict[str, Any], str, Outcome | None]:
        """Return arguments and their fingerprint, and the outcome of a call that may not start."""
        try:
            if given is not None and given.lost:
                outcomes = self._run.machine.outcomes
                return {}, "", Pending(question_again(given, call, tool, outcomes))
            if arguments is None or given is not None:
                arguments = self._arguments(call, tool)
            digest = fingerprint(arguments, tool.secret) if arguments else ""
            if not (given and given.approved) and needs_approval(tool, arguments):
                return arguments, digest, Pending(approval_question(tool, arguments))
            # An idempotent call does not run again with other arguments under the same key.
            before = self._history.fingerprints.get(call.id, digest)
            differs = tool.effect == "idempotent" and given is None and before != digest
            return arguments, digest, InDoubt() if differs else None
        except Exception as error:  # noqa: BLE001 - validators and approval are a user's code too
            return {}, "", Failed(error, ended=self._run.now())

    async def intend(self, lane: Lane, name: str, tool: Tool[..., Any]) -> bool:
        """Record that a call is about to start; return whether it may."""
        given, starts = self._history.given.get(name), self._history.starts
        if given is not None:
            given.rewind()
        body = {"at": self._run.now(), "args": self._fingerprints.pop(name, "")}
        intent = Record("started", name, body)
        if tool.effect.reruns:
            if self._backlog.under_way and self._run.machine.stops_on_failure:
                # The machine hears of this start first: one of those may be a failure that ends
                # the run, and the replay must not find the call unstarted then.
                body["ahead"] = self._backlog.under_way
            self._backlog.append(intent)
        elif not await self._recorded(lane, intent, name):
            return False
        starts[name] = starts.get(name, 0) + 1
        return True

    async def _recorded(self, lane: Lane, intent: Record, name: str) -> bool:
        """Wait until the intent of a write is durable; return whether it may still start."""
        run = self._run
        entry = self._backlog.append_awaited(intent)
        try:
            await self._backlog.wait(entry)
        except BaseException:
            self._backlog.append(Record("void", name))
            raise
        if isinstance(entry.error, RunOwned):
            self._taken_over(entry.error)
            return False
        if entry.error is not None:
            msg = f"the call was not started, because it could not be recorded: {entry.error}"
            failed = Failed(JournalError(msg), ended=run.now())
            self._append(name, failed, last=True)
            return False
        if lane.is_over() or run.machine.state(name) is not State.READY:
            self._backlog.append(Record("void", name))
            return False
        return True

    # ---------------------------------------------------------------------------- after a call ran

    def settle(self, name: str, outcome: Outcome) -> None:
        """Record an outcome; the machine hears of it when it is durable."""
        earlier = self._history.starts.get(name, 1) - 1
        if earlier > 0 and outcome.attempts:
            outcome = replace(outcome, attempts=outcome.attempts + earlier)
        if self._run.interrupted and outcome.status == "cancelled":
            self._run.settle_recorded(name, outcome)  # nothing that is kept: it runs again
            return
        self._append(name, outcome)

    def spread(self, event: Spread) -> None:
        """Record that a call becomes one for each item; the machine hears of it when it is durable.

        Not behind what interrupts the run: it is found out again when the run is resumed.
        """
        if not self._run.interrupted:
            hear = partial(self._hear_spread, event)
            self._backlog.append_reported(to_record(event), hear)

    def _hear_spread(self, event: Spread, error: Exception | None) -> None:
        if isinstance(error, RunOwned):
            self._taken_over(error)
        elif error is not None:
            self._fail_unrecorded(event.call, Failed(error), error)
        else:
            self._run.spread(event)

    def _append(self, name: str, outcome: Outcome, *, last: bool = False) -> None:
        record = Record("settled", name, outcome_body(outcome))
        self._backlog.append_reported(record, partial(self._hear, name, outcome, last=last))

    def _hear(self, name: str, outcome: Outcome, error: Exception | None, *, last: bool) -> None:
        if isinstance(error, RunOwned):
            self._taken_over(error)
        if error is not None and not last:
            self._fail_unrecorded(name, outcome, error)
        else:
            self._run.settle_recorded(name, outcome)

    def wake(self) -> None:
        """Let `deliver` look: the run has ended."""
        self._backlog.wake()

    async def deliver(self, ended: anyio.Event) -> None:
        """Tell the machine of what becomes durable, until the run has ended."""
        await self._backlog.report_until(ended)

    async def drain(self) -> None:
        """Wait until the machine has been told of all that is under way."""
        await self._backlog.drain()

    def _taken_over(self, error: RunOwned) -> None:
        """End the run here: it goes on in another process."""
        if not self._run.interrupted:
            self._run.end_by(error, Cancelled())

    def _fail_unrecorded(self, name: str, outcome: Outcome, error: Exception) -> None:
        """Fail a call whose outcome cannot be recorded; try to record at least that."""
        tool = self._run.settings.tools.get(self._run.machine.call(name).tool)
        writes = tool is not None and not tool.effect.reruns
        self._append(name, unrecorded(outcome, error, writes=writes), last=True)

    def note(self, event: Stop | Expired) -> None:
        """Record that the run was stopped, or a layer's deadline passed, and tell the machine.

        At once, unless outcomes are on their way that stand before it in the journal.
        """
        run, under_way = self._run, self._backlog.under_way
        if run.interrupted or run.machine.finished:
            run.feed(event)
        elif under_way:
            self._backlog.append_reported(to_record(event), lambda _error: run.feed(event))
        else:
            self._note(event)
            run.feed(event)

    def _note(self, *events: Event) -> None:
        """Record events that the machine is told in one batch."""
        if len(events) > 1:
            self._backlog.append(Record("batch", None, len(events)))
        self._backlog.append(*map(to_record, events))
