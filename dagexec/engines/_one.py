"""The half of an engine that works: runs one call of a run, wherever the engine put it.

The call becomes a plan of its own, and an `Executor` runs it, so that timeouts, retries, threads,
approvals, questions and doubt are what they are in any run. What it had been through before comes
to the executor as the records of a journal, and what is recorded of it goes back to the engine: its
intent while it runs, its outcome at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, final

from anyio import get_cancelled_exc_class

from dagexec import (
    ArgumentError,
    Call,
    CallError,
    Executor,
    Failed,
    JournalError,
    Outcome,
    Plan,
    PlanError,
    Report,
    Run,
    TimedOut,
    Timeouts,
)
from dagexec.engines._out import late
from dagexec.journal import Record, RunInfo, Types
from dagexec.lowlevel import outcome_body, text_of

if TYPE_CHECKING:
    Done = Callable[[Exception | None], None]

# Seconds. A deadline that has passed is one that is about to: the call may still say that it is in
# doubt, or that it was done before.
_AT_ONCE: Final = 0.001


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One call, as it travels to a worker; all of it can be written as JSON with types.

    `timeout` is that of the executor, in seconds; `until` the point at which `scope` ends, `zero`
    the one at which the run began, both on the engine's clock; `ready` is in seconds of the run.
    `past` is what the call had been through in earlier rounds.
    """

    run: str
    call: str
    tool: str
    args: Mapping[str, Any]
    timeout: float | None
    until: float | None
    scope: str
    zero: float
    ready: float
    past: Mapping[str, Any]


def assignment_of(body: Mapping[str, Any]) -> Assignment:
    """Return the assignment in what travelled with more around it."""
    return Assignment(**{each.name: body[each.name] for each in fields(Assignment)})


@final
class Attempt:
    """One try of a worker at one call.

    `marks` has one entry for each time that this assignment was begun before and came to no end,
    because its worker died: the fingerprint of its arguments. `intend` is called before the tool
    starts, with this fingerprint and with what to call when it is durable.
    """

    def __init__(
        self,
        executor: Executor,
        work: Assignment,
        *,
        types: Types,
        clock: Callable[[], float],
        marks: Sequence[str],
        intend: Callable[[str, Done], None],
    ) -> None:
        """Prepare; nothing is started."""
        self._executor = executor
        self._work = work
        self._types = types
        self._clock = clock
        self._intend = intend
        self._before = int(work.past["starts"]) + len(marks)
        self._starts = 0
        self._marks = marks
        self._run: Run | None = None
        self._stops = False
        self._because: str | None = None
        # Seconds of the run at which this attempt began.
        self._began = 0.0

    def stop(self, because: str | None) -> None:
        """Tell the call to stop: the run was stopped, by the failure of `because` if that is it."""
        self._stops = True
        self._because = because
        if self._run is not None:
            self._run.cancel()

    async def run(self) -> dict[str, Any]:
        """Run the call to its outcome; return it as JSON, with how often it was started."""
        work, now = self._work, self._clock()
        self._began = now - work.zero
        if work.until is not None and now >= work.until and not self._before:
            return self._result(_unstarted(work.scope))
        left = None if work.until is None else max(_AT_ONCE, work.until - now)
        inner = self._executor.within(
            Timeouts(call=work.timeout, layer=None, turn=None, workflow=left),
            journal=_Journal(self),
        )
        try:
            run = self._run = self._started(inner)
        except PlanError as error:
            return self._result(self._refused(error))
        if self._stops:
            run.cancel()
        try:
            async with run:
                pass
        except (Exception, get_cancelled_exc_class()):
            raise
        except BaseException as error:  # noqa: BLE001 - here nobody could catch it, and all would wait
            return self._result(self._thrown(error, run.report[work.call]), run.report)
        return self._result(self._in_the_run(run.report[work.call]), run.report)

    def _started(self, inner: Executor) -> Run:
        """Start the call; raise PlanError where its arguments do not fit."""
        work = self._work
        edited = _edited(work.past)
        for args in (work.args, {**work.args, **edited}):
            given = {name: {"$literal": value} for name, value in args.items()}
            try:
                return inner.start(Plan([Call(work.call, work.tool, given)]), run_id=work.run)
            except PlanError:
                # The tool may have changed while a person was asked, whose answer mends that.
                if args is not work.args or not edited:
                    raise
        raise AssertionError

    def _thrown(self, error: BaseException, outcome: Outcome) -> Outcome:
        """Return the outcome of a call whose tool raised what is no Exception."""
        text = f"the tool raised {type(error).__name__}: {text_of(error)}"
        reruns = self._executor.tools[self._work.tool].effect.reruns
        return Failed(
            CallError(text),
            started=outcome.started,
            ended=outcome.ended,
            attempts=outcome.attempts,
            maybe=not reruns,
        )

    def _refused(self, error: PlanError) -> Outcome:
        problem = error.problems[0]
        kind = ArgumentError if problem.kind == "bad_arguments" else CallError
        return Failed(kind(problem.message), ended=0.0)

    def _in_the_run(self, outcome: Outcome) -> Outcome:
        """Return an outcome of the plan of one call as one of the whole run."""
        scope = self._work.scope
        if outcome.scope == "workflow":
            if outcome.started is None:
                return replace(_unstarted(scope), ended=outcome.ended)
            return replace(outcome, scope=scope, error=late(scope).error)
        if outcome.status == "cancelled" and outcome.because is None:
            return replace(outcome, because=self._because)
        return outcome

    def _result(self, outcome: Outcome, report: Report | None = None) -> dict[str, Any]:
        started, ended, queued = outcome.started, outcome.ended, outcome.queued
        if started is not None:
            started += self._began
            queued = max(0.0, started - self._work.ready)
        if ended is not None:
            ended += self._began
        outcome = replace(outcome, started=started, ended=ended, queued=queued)
        return {
            "outcome": outcome_body(outcome),
            "starts": self._before + self._starts,
            "abandoned": 0 if report is None else report.abandoned,
            "blocked": [0, 0.0] if report is None else [report.blocked, report.blocked_seconds],
        }

    # ------------------------------------------------------------------ what the executor records

    def records(self, first: Record) -> list[Record]:
        """Return what the call had been through, as its journal would have it."""
        past, name = self._work.past, self._work.call
        kept = [first]
        self._add_starts(kept, [""] * int(past["starts"]))
        if past["waited"] is not None:
            # The outcome waits in the scheduler's log too; here only that it waits counts.
            kept.append(Record("settled", name, past["waited"]))
        kept += [Record("answer", name, body) for body in past["answers"]]
        if self._marks and past["waited"] is not None:
            kept.append(Record("reopened", name))
        self._add_starts(kept, self._marks)
        return kept

    def _add_starts(self, kept: list[Record], marks: Sequence[str]) -> None:
        for mark in marks:
            if kept[-1].kind == "started":
                kept.append(Record("reopened", self._work.call))
            kept.append(Record("started", self._work.call, {"at": 0.0, "args": mark}))

    def record(self, record: Record, done: Done) -> None:
        """Take in a record of the executor."""
        if record.kind == "started":
            self._starts += 1
            self._intend(record.body["args"], done)
            return
        if record.kind == "void":
            self._starts -= 1
        try:
            self._types.dumps(record.body)
        except JournalError as error:
            done(error)
        else:
            done(None)


@final
class _Journal:
    """The journal of one attempt: a run of one call."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    async def claim(self, run_id: str, first: Record | None = None) -> _Session:
        assert first is not None  # noqa: S101 - an attempt is started, never resumed
        return _Session(run_id, self._attempt, self._attempt.records(first))

    async def read(self, run_id: str) -> Sequence[Record]:
        msg = f"the engine's journal of one call cannot be read: {run_id!r}"
        raise JournalError(msg)

    async def runs(self) -> Sequence[RunInfo]:
        return []


@final
class _Session:
    """The one run of that journal."""

    def __init__(self, run_id: str, attempt: Attempt, records: list[Record]) -> None:
        self.run_id = run_id
        self.records = records
        self._attempt = attempt

    def append(self, record: Record, done: Done) -> None:
        self._attempt.record(record, done)

    async def release(self, state: str, summary: str = "", waiting: Sequence[str] = ()) -> None:
        """Nothing to give up: the engine owns the call."""


def _edited(past: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a person gave with the last answer, if any."""
    last: dict[str, Any] = past["answers"][-1] if past["answers"] else {}
    args: dict[str, Any] = last["args"] if last.get("answer") == "edit" else {}
    return {name: value for name, value in args.items() if value != "<secret>"}


def _unstarted(scope: str) -> Outcome:
    """Return the outcome of a call that a deadline caught before it began."""
    return TimedOut(scope) if scope == "layer" else late(scope)
