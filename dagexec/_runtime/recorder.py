"""The recorder: between a runner and a journal, for one run.

What the scheduler is told is recorded first. A write starts when its intent is durable; a call has
ended for the rest of the run when its outcome is. So whatever crashes, the journal knows of every
write that may have begun, and nothing was built on an outcome that can be lost. Calls that may run
again need not wait for their intent.

A caller's cancellation, Ctrl-C and a source that breaks are no outcomes: the run stays open, as
after a crash, and can be resumed.
"""

from __future__ import annotations

import logging
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, final

from anyio import CancelScope

from dagexec._core.outcome_json import outcome_body
from dagexec._core.outcomes import (
    Approve,
    Cancelled,
    Failed,
    InDoubt,
    Outcome,
    Pending,
)
from dagexec._core.scheduler import Added, Closed, Expired, Reopened, Settled, State, Stop
from dagexec._errors import DagexecError, JournalError, RunOwned
from dagexec._runtime.admission import approval_question, arguments_of, needs_approval, resolved
from dagexec._runtime.history import Past
from dagexec._runtime.intake import all_of
from dagexec._tools.context import CallContext
from dagexec.journal._answers import answer_entry, apply_answer, check_answer
from dagexec.journal._backlog import Backlog
from dagexec.journal._base import RUNS, Record, other_kind
from dagexec.journal._records import (
    fingerprint,
    policies,
    same_call,
    to_record,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import anyio

    from dagexec._core.plan import Call, Plan
    from dagexec._core.scheduler import Event
    from dagexec._runtime.lane import Lane
    from dagexec._runtime.runner import Runner
    from dagexec._tools.tool import Tool
    from dagexec.journal._answers import Given
    from dagexec.journal._backlog import Entry
    from dagexec.journal._base import Journal, Session

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
    ) -> None:
        """Prepare; `answers` is None for `run`, which begins a run that is not there yet."""
        self._journal = journal
        self._run_id = run_id
        self._in_doubt = in_doubt
        self._past = Past(run_id, answers)
        self._runner: Runner
        self._session: Session
        self._backlog: Backlog
        self._answering: list[Entry] = []
        # Calls of a stream that was cut off: it brings them again.
        self._to_come: set[str] = set()
        # Fingerprints of the arguments of calls that are about to start.
        self._marks: dict[str, str] = {}

    @property
    def given(self) -> dict[str, Given]:
        """What people answered, by call."""
        return self._past.given

    @property
    def starts(self) -> dict[str, int]:
        """How often each call was started."""
        return self._past.starts

    # ------------------------------------------------------------------------------- the whole run

    async def drive(
        self, runner: Runner, plan: Plan | None, source: AsyncIterator[Call] | None
    ) -> None:
        """Claim the run, do what is left of it, and give it up; raises what the runner raises."""
        self._runner = self._past.runner = runner
        first = None
        if self._past.asked_to_resume:
            pass
        elif plan is not None:
            calls = [self._past.kept(call) for call in plan.calls]
            first = Record("plan", None, {"calls": calls, **policies(runner.settings)})
        elif source is not None:
            first = Record("stream", None, policies(runner.settings))
        self._session = session = await self._journal.claim(self._run_id, first)
        if session.records[0].kind not in RUNS:
            await self._refuse_kind(session.records[0].kind)
        self._backlog = Backlog(session)
        try:
            self._past.restore(plan, session.records, new=session.records[0] is first)
            machine = runner.machine
            if source is not None and machine.closed:
                self._past.compare(await all_of(source), session.records)
                source = None
            self._to_come = {call.id for call in machine.calls}
            if machine.finished and not (self._past.answers or self._past.answered):
                return
            runner.recorder = self
            await runner.drive(plan, source)
            if machine.finished and not runner.interrupted:
                body = {"elapsed": runner.elapsed, "abandoned": runner.abandoned}
                self._backlog.add(Record("end", None, body))
        finally:
            with CancelScope(shield=True):
                await self._release()

    async def _refuse_kind(self, kind: str) -> None:
        state = "open"
        try:
            text, state = await other_kind(self._journal, self._run_id, kind)
        finally:
            with CancelScope(shield=True):
                await self._session.release(state)
        raise DagexecError(text)

    async def _release(self) -> None:
        machine = self._runner.machine
        counts: dict[str, int] = {}
        for outcome in machine.outcomes.values():
            counts[outcome.status] = counts.get(outcome.status, 0) + 1
        summary = ", ".join(f"{count} {status}" for status, count in counts.items())
        waiting = [name for name in machine.outcomes if self._past.waits(name)]
        state = "waiting" if waiting else "done"
        if self._runner.interrupted or not machine.finished:
            state = "open"
        try:
            await self._session.release(state, summary, waiting)
        except JournalError as error:
            _log.error("the end of run %r could not be recorded: %s", self._run_id, error)

    # ------------------------------------------------------------------------------------ going on

    async def begin(self, plan: Plan | None) -> None:
        """Give the machine what it needs to go on: a new plan, or what the crash left."""
        runner, machine = self._runner, self._runner.machine
        left = [call.id for call in machine.calls if machine.state(call.id) in _IN_FLIGHT]
        if plan is not None and not machine.closed:
            self._complete(plan)
        reopened: list[Event] = []
        settled: list[Event] = []
        for name in dict.fromkeys((*left, *self._past.answered, *self._past.answers)):
            event = await self._fate(name)
            (reopened if isinstance(event, Reopened) else settled).append(event)
        for entry in self._answering:
            await self._backlog.wait(entry)
            if entry.error is not None:
                raise entry.error
        # First what runs again: the machine must not find itself at its end.
        self._note(*reopened, *settled)
        if reopened or settled:
            runner.feed(*reopened, *settled)

    def _complete(self, plan: Plan) -> None:
        """Add what the machine has not had of a plan: all of it, or the rest of a stream."""
        runner = self._runner
        known = {call.id for call in runner.machine.calls}
        missing = [Added(call) for call in plan.calls if call.id not in known]
        if self._session.records[0].kind == "stream":
            self._note(*map(self._hidden, missing), Closed())
        runner.feed(*missing, Closed())

    async def _fate(self, name: str) -> Event:
        """Return what becomes of a call that was under way, or was answered."""
        machine = self._runner.machine
        state, lost = machine.state(name), self._past.lost(name)
        if name in self._past.answers:
            outcome = InDoubt() if lost else machine.outcomes[name]
            self._take(name, self._past.answers[name], outcome)
            return Reopened(name)
        if name in self._past.answered:
            return Reopened(name)
        if lost:
            answer = await self._decided(name)
            if answer is not None:
                self._take(name, answer, InDoubt())
                return Reopened(name)
            return Settled(name, InDoubt(attempts=self._past.starts.get(name, 1)))
        if state is State.STOPPING:
            return Settled(name, self._past.stopped_by)
        return Reopened(name)

    def _take(self, name: str, answer: object, outcome: Outcome) -> None:
        body = answer_entry(answer, outcome)
        apply_answer(self._past.given, name, body)
        self._answering.append(self._backlog.enter(Record("answer", name, body)))

    async def _decided(self, name: str) -> object:
        """Ask the tool's own hook, then the policy, what became of a write; None if unknown."""
        machine, tools = self._runner.machine, self._runner.settings.tools
        call = machine.call(name)
        tool = tools[call.tool]
        context = CallContext(name, tool.name, self._run_id, attempt=self._past.starts.get(name, 1))
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

    def added(self, call: Call) -> bool:
        """Whether a call of a stream is new; raise DagexecError if it is not what it was."""
        try:
            known = self._runner.machine.call(call.id)
        except KeyError:
            return True
        if call.id not in self._to_come:
            msg = f"the stream holds two calls with the id {call.id!r}"
            raise DagexecError(msg)
        if not same_call(self._past.kept(known), self._past.kept(call)):
            self._past.refuse_other_plan()
        self._to_come.remove(call.id)
        return False

    def ending(self) -> None:
        """Raise DagexecError if a stream ends without calls that it had before."""
        if self._to_come:
            self._past.refuse_other_plan()

    async def record(self, event: Added | Closed) -> None:
        """Tell the machine of an event once it is recorded; raise JournalError if it cannot be."""
        problem: Exception | None = None

        def hear(error: Exception | None) -> None:
            nonlocal problem
            problem = error
            if error is None and not self._runner.machine.closed:
                self._runner.feed(event)

        await self._backlog.hear(to_record(self._hidden(event)), hear)
        if problem is not None:
            raise problem

    def _hidden(self, event: Event) -> Event:
        if isinstance(event, Added):
            from dagexec._core.plan import Call

            return Added(Call.from_dict(self._past.kept(event.call)), event.eager)
        return event

    def _arguments(self, call: Call, tool: Tool[..., Any]) -> dict[str, Any]:
        """Return the validated arguments, with what a person changed in them."""
        given = self._past.given.get(call.id)
        outcomes = self._runner.machine.outcomes
        if given is None or given.edit is None:
            return arguments_of(call, tool, outcomes)
        return tool.validate({**resolved(call, outcomes), **given.edit})

    def admit(
        self,
        lane: Lane,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any] | None,
    ) -> dict[str, Any] | None:
        """Return the arguments of a call that may start when `intend` says so, or settle it."""
        name = call.id
        given = self._past.given.get(name)
        if given is not None and given.verdict is not None:
            self.settle(lane, name, given.verdict)
            return None
        arguments, mark, outcome = self._judged(call, tool, arguments, given)
        if outcome is not None:
            self.settle(lane, name, outcome)
            return None
        self._marks[name] = mark
        return arguments

    def again(self, call: Call, tool: Tool[..., Any]) -> dict[str, Any]:
        """Return the arguments of one more attempt; it is given the same answers as the first."""
        given = self._past.given.get(call.id)
        if given is not None:
            given.rewind()
        return self._arguments(call, tool)

    def _judged(
        self,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any] | None,
        given: Given | None,
    ) -> tuple[dict[str, Any], str, Outcome | None]:
        """Return arguments and their fingerprint, and the outcome of a call that may not start."""
        try:
            if arguments is None or given is not None:
                arguments = self._arguments(call, tool)
            mark = fingerprint(arguments, tool.secret) if arguments else ""
            if not (given and given.approved) and needs_approval(tool, arguments):
                return arguments, mark, Pending(approval_question(tool, arguments))
            differs = self._differs(tool, given, call.id, mark)
            return arguments, mark, InDoubt() if differs else None
        except Exception as error:  # noqa: BLE001 - validators and approval are a user's code too
            return {}, "", Failed(error, ended=self._runner.now())

    def _differs(self, tool: Tool[..., Any], given: Given | None, name: str, mark: str) -> bool:
        """Whether an idempotent call would run again with other arguments under the same key."""
        before = self._past.fingerprints.get(name, mark)
        return tool.effect == "idempotent" and given is None and before != mark

    async def intend(self, lane: Lane, name: str, tool: Tool[..., Any]) -> bool:
        """Record that a call is about to start; return whether it may."""
        given, starts = self._past.given.get(name), self._past.starts
        if given is not None:
            given.rewind()
        body = {"at": self._runner.now(), "args": self._marks.pop(name, "")}
        intent = Record("started", name, body)
        if tool.effect.reruns:
            if self._backlog.under_way and self._runner.machine.stops_on_failure:
                # The machine hears of this start first: one of those may be a failure that ends
                # the run, and the replay must not find the call unstarted then.
                body["ahead"] = self._backlog.under_way
            self._backlog.add(intent)
        elif not await self._recorded(lane, intent, name):
            return False
        starts[name] = starts.get(name, 0) + 1
        return True

    async def _recorded(self, lane: Lane, intent: Record, name: str) -> bool:
        """Wait until the intent of a write is durable; return whether it may still start."""
        runner = self._runner
        entry = self._backlog.enter(intent)
        try:
            await self._backlog.wait(entry)
        except BaseException:
            self._backlog.add(Record("void", name))
            raise
        if isinstance(entry.error, RunOwned):
            self._lose(entry.error)
            return False
        if entry.error is not None:
            msg = f"the call was not started, because it could not be recorded: {entry.error}"
            failed = Failed(JournalError(msg), ended=runner.now())
            self._append(lane, name, failed, last=True)
            return False
        if runner.is_over(lane) or runner.machine.state(name) is not State.READY:
            self._backlog.add(Record("void", name))
            return False
        return True

    # ---------------------------------------------------------------------------- after a call ran

    def settle(self, lane: Lane, name: str, outcome: Outcome) -> None:
        """Record an outcome; the machine hears of it when it is durable."""
        earlier = self._past.starts.get(name, 1) - 1
        if earlier > 0 and outcome.attempts:
            from dataclasses import replace

            outcome = replace(outcome, attempts=outcome.attempts + earlier)
        if self._runner.interrupted and outcome.status == "cancelled":
            self._runner.settled(name, outcome)  # nothing that is kept: it runs again
            return
        self._append(lane, name, outcome)

    def _append(self, lane: Lane, name: str, outcome: Outcome, *, last: bool = False) -> None:
        record = Record("settled", name, outcome_body(outcome))
        self._backlog.put(record, partial(self._hear, lane, name, outcome, last=last))

    def _hear(
        self, lane: Lane, name: str, outcome: Outcome, error: Exception | None, *, last: bool
    ) -> None:
        if isinstance(error, RunOwned):
            self._lose(error)
        if error is not None and not last:
            self._failing(lane, name, outcome, error)
        else:
            self._runner.settled(name, outcome)

    def wake(self) -> None:
        """Let `deliver` look: the run has ended."""
        self._backlog.wake()

    async def deliver(self, ended: anyio.Event) -> None:
        """Tell the machine of what becomes durable, until the run has ended."""
        await self._backlog.deliver(ended)

    async def drain(self) -> None:
        """Wait until the machine has been told of all that is under way."""
        await self._backlog.drain()

    def _lose(self, error: RunOwned) -> None:
        """End the run here: it goes on in another process."""
        if not self._runner.interrupted:
            self._runner.end_by(error, Cancelled())

    def _failing(self, lane: Lane, name: str, outcome: Outcome, error: Exception) -> None:
        """Fail a call whose outcome cannot be recorded; try to record at least that."""
        tool = self._runner.settings.tools.get(self._runner.machine.call(name).tool)
        ran = outcome.started is not None
        what = f"the call ended as {outcome.status}, and that" if ran else "what became of it"
        failed = Failed(
            JournalError(f"{what} could not be recorded: {error}"),
            started=outcome.started,
            ended=outcome.ended,
            queued=outcome.queued,
            attempts=outcome.attempts,
            maybe=ran and tool is not None and not tool.effect.reruns,
        )
        self._append(lane, name, failed, last=True)

    def note(self, event: Stop | Expired) -> None:
        """Record that the run was stopped, or a layer's deadline passed, and tell the machine.

        At once, unless outcomes are on their way that stand before it in the journal.
        """
        runner, under_way = self._runner, self._backlog.under_way
        if runner.interrupted or runner.machine.finished:
            runner.feed(event)
        elif under_way:
            self._backlog.put(to_record(event), lambda _error: runner.feed(event))
        else:
            self._note(event)
            runner.feed(event)

    def _note(self, *events: Event) -> None:
        """Record events that the machine is told in one batch."""
        if len(events) > 1:
            self._backlog.add(Record("batch", None, len(events)))
        self._backlog.add(*map(to_record, events))
