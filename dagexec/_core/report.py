"""The report of a run: every call's outcome, its pictures, and its JSON form."""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from dataclasses import replace
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from dagexec._core.json_form import json_form
from dagexec._core.outcome_json import RecordedError, outcome_body, outcome_of
from dagexec._core.plan import Call, Plan
from dagexec._core.results import Mark, Results, Setup, Underway
from dagexec._core.secrets import shown
from dagexec._errors import DagexecError
from dagexec._pictures.diagram import Diagram
from dagexec._pictures.glyphs import json_text
from dagexec._pictures.mime import ShowsItself

if TYPE_CHECKING:
    from dagexec._core.compare import Comparison
    from dagexec._pictures.svg import ThemeName
    from dagexec._pictures.timeline import Timeline

_VERSION: Final = 1


@final
class Report(ShowsItself, Results):
    """The outcomes of a run by call id, in plan order.

    `report.ok` says whether every call is done. `if report:` asks whether it has any outcome, as
    for every mapping, and is True after a failure.

    `elapsed` is in seconds. `abandoned` counts synchronous tools that were left running in a
    thread when their deadline passed. `blocked` counts steps of async tools that blocked the event
    loop for more than 0.1 s, as `time.sleep` does; they took `blocked_seconds` in all, and
    `blocked_by` has the seconds of each call that did. While the run is live, calls that have not
    ended are not in it; `underway` says where they are. `setup` has the timeouts that the run had,
    None where it is not known. `marks` are the waits for limits and the failed attempts of calls,
    where they were watched.
    """

    __slots__ = ()

    @property
    def critical_path(self) -> tuple[str, ...]:
        """The ids of the calls that the run's end waited for, first to last.

        From the call that ended last, back over what let each one start: the dependency that ended
        last or, where a call was ready and waited for a slot, the call that gave it back. It leaves
        out what calls waited for at a `barrier`.
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

    def compare(self, other: Report) -> Comparison:
        """Return this run beside another: `str()` of it is a text, `.rows()` and `.tools()` tables.

        Raises DagexecError for what is no report.
        """
        from dagexec._core.compare import Comparison

        given: object = other
        if not isinstance(given, Report):
            kind = type(given).__name__
            msg = f"compare() takes the report of another run, not {kind}; see Report.from_json"
            raise DagexecError(msg)
        return Comparison(self, other)

    def to_svg(self, *, theme: ThemeName = "light") -> str:
        """Return both pictures as one SVG; `theme` is "light" or "dark"."""
        from dagexec._pictures.card import draw

        return draw(self.diagram, self.timeline, theme=theme)

    def to_html(self, *, values: bool = True) -> str:
        """Return a page that needs nothing else: both pictures, every call, a search.

        Images of at most 512 KiB that calls returned are on it, 8 MiB in all. With `values=False`
        arguments and results are left out; errors stay.
        """
        from dagexec._core.thumbnails import thumbnails_of
        from dagexec._pictures.page import page

        images = thumbnails_of(self) if values else {}
        return page(self.diagram, self.timeline, self.to_dict(), values=values, images=images)

    def save_html(self, path: str | PathLike[str], *, values: bool = True) -> Path:
        """Write `to_html` to a file and return its path; raise OSError where that fails."""
        from pathlib import Path

        file = Path(path)
        file.write_text(self.to_html(values=values), encoding="utf-8")
        return file

    def to_text(self) -> str:
        """Return the counts and both pictures as text."""
        return f"{self}\n{self.diagram}\n\n{self.timeline}"

    def _forms(self) -> tuple[Callable[..., str], Callable[[], str]]:
        return self.to_svg, self.to_text

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Show itself in a notebook, with the images that calls returned."""
        from dagexec._core.thumbnails import figures

        shown = super()._repr_mimebundle_(include, exclude)
        if "text/html" in shown:
            shown["text/html"] += figures(self)
        return shown

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without the values of secret arguments.

        A value that JSON cannot hold is shown by its type's name.
        """
        body: dict[str, Any] = {
            "version": _VERSION,
            "run_id": self.run_id,
            "elapsed": self.elapsed,
            "abandoned": self.abandoned,
            "plan": json_form(self._shown_plan()),
            "outcomes": {
                name: outcome_body(each, json_form, _error_body)
                for name, each in self._outcomes.items()
            },
        }
        if self.started_at is not None:
            body["started_at"] = self.started_at.isoformat()
        if self.blocked:
            seconds, calls = self.blocked_seconds, dict(self.blocked_by)
            body["blocked"] = {"count": self.blocked, "seconds": seconds, "calls": calls}
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
        return json_text(self.to_dict(), indent)

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
            outcomes = {
                name: outcome_of(item, _error_of) for name, item in body["outcomes"].items()
            }
            setup = body.get("setup")
            return cls(
                Plan.from_dict(body["plan"]),
                outcomes,
                run_id=body["run_id"],
                elapsed=body["elapsed"],
                abandoned=body["abandoned"],
                blocked=body.get("blocked", {}).get("count", 0),
                blocked_seconds=body.get("blocked", {}).get("seconds", 0.0),
                blocked_by=body.get("blocked", {}).get("calls"),
                underway={
                    name: Underway(**each) for name, each in body.get("underway", {}).items()
                },
                marks={
                    name: tuple(Mark(**mark) for mark in marks)
                    for name, marks in body.get("marks", {}).items()
                },
                setup=None if setup is None else Setup(**setup),
                began=_began(body.get("started_at")),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, DagexecError):
                raise
            cause = f"it has no {error}" if isinstance(error, KeyError) else f"{error!r:.200}"
            msg = f"this is no report of dagexec, as report.to_dict() makes it: {cause}"
            raise DagexecError(msg) from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """Read what `to_json` wrote; raise DagexecError for anything else."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError, TypeError) as error:
            msg = f"this is no report of dagexec, as report.to_json() makes it: {error!r:.200}"
            raise DagexecError(msg) from None
        return cls.from_dict(body)


def _began(text: str | None) -> float | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        msg = f"started_at={text!r} has no time zone"
        raise ValueError(msg)
    return moment.timestamp()


def _shown(call: Call, secret: tuple[str, ...]) -> dict[str, Any]:
    args = shown(call.tool, call.args, secret)
    return (call if args is call.args else replace(call, args=args)).to_dict()


def _error_body(kind: str, message: str) -> dict[str, str]:
    return {"type": kind, "message": message}


def _error_of(body: dict[str, str], _scope: str | None) -> RecordedError:
    return RecordedError(body["type"], body["message"])
