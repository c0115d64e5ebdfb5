"""The report of a run: every call's outcome, and what it adds up to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, final

from dagexec import _errors
from dagexec._core.outcomes import OUTCOMES, STATUSES, Outcome
from dagexec._core.plan import Plan
from dagexec._core.secrets import shown
from dagexec._core.setup import Mark, Setup, Underway
from dagexec._errors import DagexecError, text_of
from dagexec._pictures.diagram import bundle

if TYPE_CHECKING:
    from collections.abc import Container
    from os import PathLike
    from pathlib import Path

    from dagexec._core.plan import Call
    from dagexec._pictures.diagram import Diagram
    from dagexec._pictures.svg import ThemeName
    from dagexec._pictures.timeline import Timeline

_VERSION: Final = 1


@final
class Report(Mapping[str, Outcome]):
    """The outcomes of a run by call id, in plan order.

    `elapsed` is in seconds. `abandoned` counts synchronous tools that were left running in a
    thread when their deadline passed. While the run is live, calls that have not ended are not in
    it; `underway` says where they are. `setup` has the timeouts that the run had, None where it is
    not known. `marks` are the waits for limits and the failed attempts of calls, where they were
    watched.
    """

    __slots__ = (
        "_outcomes",
        "abandoned",
        "elapsed",
        "marks",
        "plan",
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
        underway: Mapping[str, Underway] | None = None,
        setup: Setup | None = None,
        marks: Mapping[str, tuple[Mark, ...]] | None = None,
    ) -> None:
        """Bring the outcomes into plan order."""
        self.plan = plan
        self.run_id = run_id
        self.elapsed = elapsed
        self.abandoned = abandoned
        self.underway: Mapping[str, Underway] = {} if underway is None else underway
        self.setup = setup
        self.marks: Mapping[str, tuple[Mark, ...]] = {} if marks is None else marks
        self._outcomes = {call.id: outcomes[call.id] for call in plan if call.id in outcomes}

    def __getitem__(self, key: str) -> Outcome:
        """Return the outcome of the call with this id."""
        return self._outcomes[key]

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
        """Return one line: `12 calls: 9 done, 1 failed, 2 skipped in 2.31 s`."""
        counts = dict.fromkeys(STATUSES, 0)
        for outcome in self._outcomes.values():
            counts[outcome.status] += 1
        parts = [f"{count} {status}" for status, count in counts.items() if count]
        unfinished = len(self.plan) - len(self._outcomes)
        parts += [f"{unfinished} unfinished"] if unfinished else []
        total = f"{len(self.plan)} call{'' if len(self.plan) == 1 else 's'}"
        return f"{total}: {', '.join(parts) or 'nothing to do'} in {self.elapsed:.2f} s"

    @property
    def ok(self) -> bool:
        """Whether every call of the plan is done."""
        done = all(outcome.status == "done" for outcome in self._outcomes.values())
        return done and len(self._outcomes) == len(self.plan)

    @property
    def outputs(self) -> dict[str, Any]:
        """The values of the calls that are done, by id, with their types."""
        return {
            name: outcome.value
            for name, outcome in self._outcomes.items()
            if outcome.status == "done"
        }

    @property
    def exceptions(self) -> ExceptionGroup[Exception] | None:
        """What the failed and timed-out calls raised, as one group in plan order, or None.

        Each member has a note that names its call.
        """
        errors: list[Exception] = []
        for name, outcome in self._outcomes.items():
            if outcome.error is not None:
                _note(outcome.error, self.plan[name])
                errors.append(outcome.error)
        if not errors:
            return None
        count = f"{len(errors)} of {len(self.plan)} calls failed"
        return ExceptionGroup(count, errors)

    def raise_for_failures(self) -> None:
        """Raise `exceptions` if a call failed or timed out, DagexecError if one is not done."""
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

    @property
    def critical_path(self) -> tuple[str, ...]:
        """The ids of the calls that the run's end waited for, first to last.

        From the call that ended last, back over what let each one start: the dependency that ended
        last or, where a call was ready and waited for a slot, the call that gave it back.
        """
        from dagexec._core.report_pictures import path_of

        return tuple(link.call for link in path_of(self))

    @property
    def diagram(self) -> Diagram:
        """The graph with what became of each call: text, mermaid, SVG or JSON."""
        from dagexec._core.report_pictures import diagram_of

        return diagram_of(self)

    @property
    def timeline(self) -> Timeline:
        """When each call waited, for what, and ran: text, mermaid, SVG or JSON."""
        from dagexec._core.report_pictures import timeline_of

        return timeline_of(self)

    def to_svg(self, *, theme: ThemeName = "light") -> str:
        """Return both pictures as one SVG; `theme` is "light" or "dark"."""
        from dagexec._pictures.card import draw

        return draw(self.diagram, self.timeline, theme=theme)

    def to_html(self, *, values: bool = True) -> str:
        """Return a page that needs nothing else: both pictures, every call, a search.

        With `values=False` arguments and results are left out; errors stay.
        """
        from dagexec._pictures.page import page

        return page(self, values=values)

    def save_html(self, path: str | PathLike[str], *, values: bool = True) -> Path:
        """Write `to_html` to a file and return its path; raise OSError where that fails."""
        from pathlib import Path

        file = Path(path)
        file.write_text(self.to_html(values=values), encoding="utf-8")
        return file

    def to_text(self) -> str:
        """Return the counts and both pictures as text."""
        return f"{self}\n{self.diagram}\n\n{self.timeline}"

    def _repr_svg_(self) -> str:
        """Show itself in a notebook."""
        return self.to_svg()

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Show itself in a notebook, as picture and as text."""
        return bundle(self._repr_svg_, self.to_text, include, exclude)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the values of secret arguments.

        A value that JSON cannot hold is shown by its type's name.
        """
        body: dict[str, Any] = {
            "version": _VERSION,
            "run_id": self.run_id,
            "elapsed": self.elapsed,
            "abandoned": self.abandoned,
            "plan": _jsonable(self._shown_plan()),
            "outcomes": {name: _outcome_body(each) for name, each in self._outcomes.items()},
        }
        if self.underway:
            body["underway"] = {
                name: {"state": each.state, "ready": each.ready, "started": each.started}
                for name, each in self.underway.items()
            }
        if self.marks:
            body["marks"] = {
                name: [{"kind": mark.kind, "at": mark.at, "delay": mark.delay} for mark in marks]
                for name, marks in self.marks.items()
            }
        if self.setup is not None:
            body["setup"] = self.setup.to_dict({call.tool for call in self.plan})
        return body

    def _shown_plan(self) -> dict[str, Any]:
        secret = (self.setup or Setup()).secret
        return {"calls": [_shown(call, secret.get(call.tool, ())) for call in self.plan]}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @classmethod
    def from_dict(cls, body: Any) -> Report:
        """Read what `to_dict` wrote; errors come back as RecordedError with type and message.

        Raises DagexecError for anything else.
        """
        try:
            version = body["version"]
            if version != _VERSION:
                msg = f"the report has version {version!r}; this dagexec reads {_VERSION}"
                raise DagexecError(msg)
            outcomes = {name: _outcome(item) for name, item in body["outcomes"].items()}
            setup = body.get("setup")
            return cls(
                Plan.from_dict(body["plan"]),
                outcomes,
                run_id=body["run_id"],
                elapsed=body["elapsed"],
                abandoned=body["abandoned"],
                underway={
                    name: Underway(**each) for name, each in body.get("underway", {}).items()
                },
                marks={
                    name: tuple(Mark(**mark) for mark in marks)
                    for name, marks in body.get("marks", {}).items()
                },
                setup=None if setup is None else Setup(**setup),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, DagexecError):
                raise
            msg = f"this is no report of dagexec: {error!r:.200}"
            raise DagexecError(msg) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Read what `to_json` wrote; raise DagexecError for anything else."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError, TypeError) as error:
            msg = f"this is no report of dagexec: {error!r:.200}"
            raise DagexecError(msg) from None
        return cls.from_dict(body)


class RecordedError(DagexecError):
    """An error of a call, read back from a report: its type's name and its message."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep both apart."""
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message

    @property
    def foreign(self) -> bool:
        """Whether a tool raised it, so that its text may be meant for nobody else."""
        return self.kind not in _errors.__all__


def _shown(call: Call, secret: tuple[str, ...]) -> dict[str, Any]:
    args = shown(call.tool, call.args, secret)
    return (call if args is call.args else replace(call, args=args)).to_dict()


def _note(error: BaseException, call: Call) -> None:
    note = f"in call {call.id!r} of tool {call.tool!r}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _outcome_body(outcome: Outcome) -> dict[str, Any]:
    body: dict[str, Any] = {"status": outcome.status}
    if outcome.status == "done" or outcome.value is not None:
        body["value"] = _jsonable(outcome.value)
    if outcome.error is not None:
        error = outcome.error
        kind = error.kind if isinstance(error, RecordedError) else type(error).__name__
        text = error.message if isinstance(error, RecordedError) else text_of(error)
        body["error"] = {"type": kind, "message": text}
    for name in ("scope", "because", "question", "started", "ended", "queued"):
        value = getattr(outcome, name)
        if value is not None:
            body[name] = _jsonable(value)
    body["attempts"] = outcome.attempts
    if outcome.maybe:
        body["maybe"] = True
    return body


def _outcome(body: dict[str, Any]) -> Outcome:
    fields = {**body}
    kind = OUTCOMES[fields.pop("status")]
    if "error" in fields:
        fields["error"] = RecordedError(fields["error"]["type"], fields["error"]["message"])
    return kind(**fields)


def _jsonable(value: Any) -> Any:
    try:
        from pydantic_core import to_jsonable_python

        return to_jsonable_python(value, inf_nan_mode="strings", fallback=_type_name)
    except (ValueError, RecursionError):
        return _type_name(value)


def _type_name(value: Any) -> str:
    return f"<{type(value).__name__}>"
