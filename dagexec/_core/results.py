"""The outcomes of a run as data: what the pictures are drawn from, and what a report adds to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from dagexec._core.names import Names, cut
from dagexec._core.outcomes import STATUSES, Outcome, error_line, note_call
from dagexec._core.plan import Plan
from dagexec._errors import DagexecError
from dagexec._pictures.durations import duration


@final
@dataclass(frozen=True, slots=True)
class Underway:
    """A call of a live run that has not ended: its state, and since when.

    `ready` and `started` are seconds since the run began, None before they happened.
    """

    state: Literal["waiting", "ready", "running"]
    ready: float | None = None
    started: float | None = None


MarkKind: TypeAlias = Literal["limit", "slot", "retry", "again"]


@final
@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened to a call on its way, at a number of seconds since the run began.

    | kind | the call |
    |---|---|
    | `limit` | began to wait for its limits |
    | `slot` | has what its limits allow, and began to wait for a slot |
    | `retry` | failed; for another attempt it waits `delay` seconds, then for limits and a slot |
    | `again` | began that attempt |
    """

    kind: MarkKind
    at: float
    delay: float = 0.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What of an executor's settings the pictures of its runs show; timeouts in seconds.

    `run` is that of the whole run and `scope` whose it is: `turn` or `workflow`. `tools` are those
    that tools bring themselves, by name; `secret` the arguments that must not be shown, by tool.
    """

    call: float | None = None
    layer: float | None = None
    run: float | None = None
    scope: str = "workflow"
    tools: Mapping[str, float] = field(default_factory=dict[str, float])
    secret: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def of(self, tool: str) -> float | None:
        """Return the timeout of a call of this tool."""
        return self.tools.get(tool, self.call)

    def to_dict(self, tools: set[str]) -> dict[str, Any]:
        """Return the JSON form, with the tools that are used."""
        return {
            "call": self.call,
            "layer": self.layer,
            "run": self.run,
            "scope": self.scope,
            "tools": {name: seconds for name, seconds in self.tools.items() if name in tools},
            "secret": {name: list(args) for name, args in self.secret.items() if name in tools},
        }


@final
@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """What a program came to: the value of its last expression, what it printed, its error.

    `lines` has the line that made each call, by the call's id. `variables` are those that it left
    at its end, of JSON's kinds. Of a program that corrects an earlier one, `reused` has the earlier
    calls in whose place none was made, by the id that the call has in this program, and `unused`
    the earlier calls that it did not come to: each a `dagexec.programs.EarlierCall`. `left` are the
    variables of a program that failed, as they were where it did, and `definitions` the functions
    of the program's own that the next one can use: text by name.
    """

    result: Any = None
    printed: str = ""
    error: DagexecError | None = None
    lines: Mapping[str, int] = field(default_factory=dict[str, int])
    variables: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reused: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unused: Sequence[Any] = ()
    left: Mapping[str, Any] = field(default_factory=dict[str, Any])
    definitions: Mapping[str, str] = field(default_factory=dict[str, str])


class Results(Mapping[str, Outcome]):
    """The outcomes of a run by call id, in plan order; the parts of `Report` that only tell."""

    __slots__ = (
        "_outcomes",
        "abandoned",
        "began",
        "blocked",
        "blocked_by",
        "blocked_seconds",
        "elapsed",
        "marks",
        "plan",
        "program",
        "run_id",
        "setup",
        "underway",
    )

    def __init__(
        self,
        plan: Plan,
        outcomes: Mapping[str, Outcome],
        *,
        run_id: str = "",
        elapsed: float = 0.0,
        abandoned: int = 0,
        blocked: int = 0,
        blocked_seconds: float = 0.0,
        blocked_by: Mapping[str, float] | None = None,
        underway: Mapping[str, Underway] | None = None,
        setup: Setup | None = None,
        marks: Mapping[str, tuple[Mark, ...]] | None = None,
        program: ProgramEnd | None = None,
        began: float | None = None,
    ) -> None:
        """Bring the outcomes into plan order; `began` is in seconds since the epoch."""
        self.began = began
        self.plan = plan
        self.run_id = run_id
        self.elapsed = elapsed
        self.abandoned = abandoned
        self.blocked = blocked
        self.blocked_seconds = blocked_seconds
        self.blocked_by: Mapping[str, float] = {} if blocked_by is None else blocked_by
        self.underway: Mapping[str, Underway] = {} if underway is None else underway
        self.setup = setup
        self.marks: Mapping[str, tuple[Mark, ...]] = {} if marks is None else marks
        # Of the run of a program; None for plans.
        self.program = program
        self._outcomes = {call.id: outcomes[call.id] for call in plan if call.id in outcomes}

    def __getitem__(self, key: str) -> Outcome:
        """Return the outcome of the call with this id.

        Raises KeyError, which says whether the call has not ended or is not in the plan.
        """
        outcome = self._outcomes.get(key)
        if outcome is None:
            raise NoOutcome(self._missing(key))
        if outcome.call is None or outcome.call.id != key:
            # One object may stand for many calls, as where a deadline ended them all.
            outcome = self._outcomes[key] = replace(outcome, call=self.plan[key])
        return outcome

    if not TYPE_CHECKING:  # as Mapping's own, without the text of an error that nobody reads

        def get(self, key: str, default: Any = None, /) -> Any:
            """Return the outcome of a call, or the default for one that has none."""
            return self[key] if key in self._outcomes else default

    def __contains__(self, key: object) -> bool:
        """Whether the call has an outcome."""
        return key in self._outcomes

    def _missing(self, key: object) -> str:
        if key in self.plan:
            return f"call {key!r} has not ended"
        close = Names({call.id: None for call in self.plan}, 10)
        near = close.near(str(key))
        hint = f"; did you mean {near!r}?" if near else f". Its calls are: {close.shown or 'none'}"
        return f"the report has no call {cut(str(key))!r}{hint}"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            msg = f"a report has no attribute {name!r}"
            if not name.startswith("_"):
                hint = _MEANT.get(name) or (f"report[{name!r}]" if name in self.plan else "")
                msg += f"; write {hint}" if hint else ""
            raise AttributeError(msg)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids, in plan order."""
        return iter(self._outcomes)

    def __len__(self) -> int:
        """Return the number of calls that have an outcome."""
        return len(self._outcomes)

    def __repr__(self) -> str:
        """Return the counts; never a value, which may be large or secret."""
        return f"<Report: {self}>"

    def __str__(self) -> str:
        """Return one line: `12 calls: 9 done, 1 failed, 2 skipped in 2.31 s`.

        The calls that `$each` made of one are counted apart, behind the others.
        """
        calls, items = self._calls_and_items()
        text = _tally("call", calls)
        if any(items.values()):
            text += f"; {_tally('item', items)}"
        text += f" in {duration(self.elapsed)}"
        if self.blocked:
            text += f", {duration(self.blocked_seconds)} of it with the event loop blocked"
        if self.error is not None:
            # The type only: the text may hold values.
            cause, line = self.error.__cause__ or self.error, getattr(self.error, "line", None)
            text += f"; the program ended with {type(cause).__name__}"
            text += f" in line {line}" if line else ""
        return text

    def _calls_and_items(self) -> tuple[dict[str, int], dict[str, int]]:
        """Count the states of the calls of the plan, and of those that `$each` made of one."""
        calls, items = dict.fromkeys(_COUNTED, 0), dict.fromkeys(_COUNTED, 0)
        spread = {call.id for call in self.plan if call.each}
        for call in self.plan:
            outcome = self._outcomes.get(call.id)
            parent, _, place = call.id.rpartition("[")
            counts = items if parent in spread and place[:-1].isdecimal() else calls
            counts["unfinished" if outcome is None else outcome.status] += 1
        return calls, items

    @property
    def ok(self) -> bool:
        """Whether every call of the plan is done; whether a program came to its end."""
        if self.program is not None:
            return self.program.error is None
        done = all(outcome.status == "done" for outcome in self._outcomes.values())
        return done and len(self._outcomes) == len(self.plan)

    @property
    def outputs(self) -> dict[str, Any]:
        """The values of the calls that are done, by id, with their types.

        Asked for another call it raises KeyError, which says what became of it.
        """
        done = (item for item in self._outcomes.items() if item[1].status == "done")
        return Outputs(self, {name: outcome.value for name, outcome in done})

    @property
    def started_at(self) -> datetime | None:
        """When the run began, in UTC; None where it is not known.

        Of a run that was resumed it is when it began first, so `elapsed` may be less than the time
        since then.
        """
        return None if self.began is None else datetime.fromtimestamp(self.began, UTC)

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict a call, in plan order, for a table: `pandas.DataFrame(report.rows())`.

        | key | holds |
        |---|---|
        | `id`, `tool` | the call's |
        | `status` | the outcome's, or of a live run `waiting`, `ready`, `running`, `unfinished` |
        | `started` | when it was admitted, in seconds since the run began; None if it never was |
        | `seconds` | how long it ran from then on; None if it did not start, or has not ended |
        | `queued` | how long it was ready before it was admitted; None if it never was |
        | `attempts` | how often its tool was called |
        | `error` | the error's type and text; None without one |
        | `because` | the call whose failure skipped or stopped it, or which it waits for; or None |
        | `blocked` | how many seconds of its time it blocked the event loop; 0.0 if it did not |
        """
        return [self._row(call.id, call.tool) for call in self.plan]

    def _row(self, name: str, tool: str) -> dict[str, Any]:
        outcome = self._outcomes.get(name)
        if outcome is None:
            under = self.underway.get(name)
            state: str = "unfinished" if under is None else under.state
            started = None if under is None else under.started
            outcome = Outcome(attempts=int(started is not None), started=started)
        else:
            state = outcome.status
        return {
            "id": name,
            "tool": tool,
            "status": state,
            "started": outcome.started,
            "seconds": outcome.seconds,
            "queued": outcome.queued,
            "attempts": outcome.attempts,
            "error": error_line(outcome.error),
            "because": outcome.because,
            "blocked": self.blocked_by.get(name, 0.0),
        }

    @property
    def result(self) -> Any:
        """The value of a program's last expression, or of its `return`; None for a plan."""
        return None if self.program is None else self.program.result

    @property
    def printed(self) -> str:
        """What a program printed; the empty text for a plan."""
        return "" if self.program is None else self.program.printed

    @property
    def error(self) -> DagexecError | None:
        """What ended a program early, None if it came to its end, and for a plan."""
        return None if self.program is None else self.program.error

    @property
    def exceptions(self) -> ExceptionGroup[Exception] | None:
        """What the failed and timed-out calls raised, as one group in plan order, or None.

        Each member has a note that names its call.
        """
        errors: list[Exception] = []
        for name, outcome in self._outcomes.items():
            if outcome.error is not None:
                note_call(outcome.error, self.plan[name])
                errors.append(outcome.error)
        if not errors:
            return None
        count = f"{len(errors)} of {len(self.plan)} calls failed"
        return ExceptionGroup(count, errors)

    def raise_for_failures(self) -> None:
        """Raise `exceptions` if a call failed or timed out, DagexecError if one is not done.

        Of a program it is the program's own error, if it has one: calls may fail in it.
        """
        if self.program is not None:
            if self.program.error is not None:
                raise self.program.error
            return
        group = self.exceptions
        if group is not None:
            raise group
        if not self.ok:
            left = next(
                call.id for call in self.plan if getattr(self.get(call.id), "status", "") != "done"
            )
            status = self[left].status if left in self else "unfinished"
            msg = f"call {left!r} is {status}: {self}"
            error = DagexecError(msg)
            error.report = self
            raise error


_COUNTED: Final = (*STATUSES, "unfinished")


def _tally(what: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    return f"{total} {what}{'' if total == 1 else 's'}: {', '.join(parts) or 'nothing to do'}"


# What people look for, and how it is called.
_MEANT: Final = {
    "results": "report.outputs for the values, report[id] for an outcome",
    "values_by_id": "report.outputs",
    "errors": "report.exceptions",
    "failures": "report.exceptions",
    "failed": "report.exceptions, or [name for name, each in report.items() if not each.ok]",
    "outcomes": "report.items(): a report is a mapping of call ids to outcomes",
    "status": "report.ok, or report[id].status",
    "duration": "report.elapsed",
    "success": "report.ok",
}


@final
class NoOutcome(DagexecError, KeyError):
    """A report was asked for a call that it does not have; the text says why."""

    __str__ = Exception.__str__  # a KeyError's own shows its text in quotes


@final
class Outputs(dict[str, Any]):
    """Values by call id, which knows what became of the calls that have none."""

    __slots__ = ("_report",)

    def __init__(self, report: Results, values: Mapping[str, Any]) -> None:
        """Keep the report, to look up what is not there."""
        super().__init__(values)
        self._report = report

    def __missing__(self, key: str) -> Any:
        """Raise KeyError that names the status of the call and its cause."""
        outcome = self._report[key]  # raises it where there is no outcome
        if outcome.ok:  # it was taken out
            raise KeyError(key)
        raise NoOutcome(f"{outcome.told()}; report[{key!r}] is its whole outcome")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as the plain dict that it is."""
        return dict, (dict(self),)
