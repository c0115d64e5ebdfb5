"""A conversation with a model: its messages, its calls, and JSON both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, cast, final
from uuid import uuid4

from pydantic_core import PydanticSerializationError, to_jsonable_python

from dagexec import DagexecError, Report
from dagexec.lowlevel import checked_id
from planners._core.call_log import CallLog, CallRecord, RawCall
from planners._core.planner import Planner

_VERSION: Final = 1
_NUMBERED: Final = re.compile(r"\[call (\d{1,9})[\]:,]")


@final
class Dialogue:
    """A conversation that `solve` leads: look into it, go on with it, keep it.

    Attributes:
        messages: what was said, as dicts in the form of the planner's API, without the system
            prompt. Whenever it is read, every call in it has its answer: a reply is added together
            with the answers to its calls. Messages may be added, at the end or before a turn.
        reports: one for each turn that had calls. A call's id is its number, across all turns.
        planner: holds the numbers of the calls and their values.
        system: text for the system prompt, before the planner's own instructions.
        id: names it; a turn's run has the id `{id}.{turn}`.
        turns: how many replies there were.

    A planner that belongs to another conversation already lends its tools and options only.
    """

    def __init__(
        self, planner: Planner, *, system: str = "", messages: Iterable[Any] = (), id: str = ""
    ) -> None:
        """Begin, or go on from messages that were exchanged elsewhere."""
        used = planner.calls.owned or planner.calls.records
        self.planner = planner.fresh() if used else planner
        self.planner.calls.owned = True
        self.messages: list[Any] = list(messages)
        self.reports: list[Report] = []
        self.system = system
        self.id = checked_id(id or "") or uuid4().hex
        self.turns = 0
        # What the next request must have because of the last reply.
        self.carried: dict[str, Any] = {}
        self.adopt()
        # The answers of each turn with calls, as they stand in `messages`.
        self._answers: list[list[Any]] = []

    @property
    def instructions(self) -> str:
        """The whole system prompt: `system` and the planner's instructions."""
        own = self.planner.instructions
        own = "" if own in self.system else own
        return "\n\n".join(part for part in (self.system, own) if part)

    def adopt(self) -> None:
        """Number calls from behind those of messages that were exchanged elsewhere."""
        calls = self.planner.calls
        if self.messages and not calls.records:
            ids = {str(at[key]) for at, key in self.planner.api.places(self.messages)}
            calls.adopt(max(len(ids), *self._seen(self.messages), 0))

    @staticmethod
    def _seen(messages: Iterable[Any]) -> set[int]:
        """Return the numbers of calls that answers in messages begin with."""
        text = json.dumps(list(messages), default=_plain)
        return {int(found) for found in _NUMBERED.findall(text)}

    def look(self, messages: Any) -> None:
        """See which answers a request still holds: what the model does not see has no number."""
        calls = self.planner.calls
        told = [
            each.number
            for each in calls.records
            if each.answered and not each.void and not each.raw.from_code and each.turn
        ]
        if told and isinstance(messages, list):
            seen = self._seen(cast("list[Any]", messages))
            calls.hide(max((number for number in told if number not in seen), default=0))

    def say(self, text: str) -> None:
        """Add a message of the user."""
        self.messages += self.planner.api.question(text)

    def keep(self, response: Any, report: Report | None, *, whole: bool = True) -> None:
        """Add a reply and the answers to its calls, in one step.

        Without a report its calls are answered as not run. A reply that is not `whole` is kept
        only for its calls.
        """
        said = self.planner.reply(response)
        self.carried |= self.planner.api.carried(response)
        planner = self.planner
        answers = planner.close_out() if report is None else planner.results(report)
        if answers and report is not None:
            self.reports.append(report)
            self._answers.append(answers)
        if whole or answers:
            self._tell_apart(said, answers)
            self.messages += [*said, *answers]

    def _tell_apart(self, said: list[Any], answers: list[Any]) -> None:
        """Give calls whose id an earlier turn had, or that have none, an id of their own.

        Some servers count from the beginning in each reply, and others refuse what comes of it.
        """
        places = self.planner.api.places
        used = {str(at[key]) for at, key in places(self.messages)}
        renamed: dict[str, str] = {}
        for part in (said, answers):
            nameless = 0
            for at, key in places(part):
                id_ = str(at.get(key) or "")
                if not id_:  # answers come in the order of the calls
                    nameless += 1
                if not id_ or id_ in used:
                    new = f"{id_[:20] or f'call{nameless}'}-{self.turns}"
                    at[key] = renamed.setdefault(new, _unused(new, used))

    def update(self, report: Report) -> None:
        """Replace the known outcomes of calls by those of a report, in the answers too.

        For a turn whose calls had to wait for a person: after `executor.resume`, give its report
        here, then go on with `solve(None, conversation=...)`.

        Errors: DagexecError for a report of calls that are not in this conversation.
        """
        ids = list(report)
        at = next((at for at, known in enumerate(self.reports) if list(known) == ids), None)
        if at is None:
            raise DagexecError(
                "this report is of no turn of this conversation: its calls are"
                f" {', '.join(report) or 'none'}"
            )
        start, end = self._place(self._answers[at])
        if start == end:
            raise DagexecError("the answers of this turn are not in `messages` any more")
        new = self.planner.answers_of(report)
        places = self.planner.api.places
        for (known, _), (answer, key) in zip(places(self._answers[at]), places(new), strict=True):
            answer[key] = known[key]
        self.messages[start:end] = new
        self.reports[at], self._answers[at] = report, new

    # ----------------------------------------------------------------------------------------- JSON

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form. A value that JSON cannot hold is lost, and known to be."""
        return {
            "version": _VERSION,
            "id": self.id,
            "api": self.planner.api.name,
            "system": self.system,
            "turns": self.turns,
            "messages": self.messages,
            "answers": [self._place(answers) for answers in self._answers],
            "reports": [report.to_dict() for report in self.reports],
            "calls": [_record_body(record) for record in self.planner.calls.records],
            "hidden": self.planner.calls.hidden,
            "carried": self.carried,
        }

    def _place(self, answers: list[Any]) -> list[int]:
        """Return where answers stand; an empty place if somebody has taken them out."""
        first = answers[0] if answers else None
        at = next((i for i, message in enumerate(self.messages) if message is first), None)
        return [0, 0] if at is None else [at, at + len(answers)]

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the conversation as JSON text, for `from_json` in this or another process."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, default=_plain)

    @classmethod
    def from_json(cls, text: str | bytes, planner: Planner) -> Dialogue:
        """Read what `to_json` wrote; the numbering and the earlier results go on.

        `planner` has the tools, which are not part of the JSON, and is for the same API.

        Errors: DagexecError for anything else.
        """
        try:
            body = json.loads(text)
            if body["version"] != _VERSION:
                msg = f"it has version {body['version']!r}; this dagexec reads {_VERSION}"
                raise DagexecError(msg)  # noqa: TRY301 - one way out, with one text before it
            if body["api"] != planner.api.name:
                msg = f"it was had over the API {body['api']!r}, not {planner.api.name!r}"
                raise DagexecError(msg)  # noqa: TRY301
            return cls._restored(body, planner)
        except (ValueError, LookupError, TypeError, AttributeError, DagexecError) as error:
            why = str(error) if isinstance(error, DagexecError) else repr(error)
            raise DagexecError(f"this conversation cannot be read: {why:.200}") from None

    @classmethod
    def _restored(cls, body: dict[str, Any], planner: Planner) -> Dialogue:
        found = cls(planner, system=body["system"], id=body["id"])
        found.messages = body["messages"]
        found.carried = body.get("carried", {})
        found.turns = body["turns"]
        found.reports = [Report.from_json(json.dumps(report)) for report in body["reports"]]
        found._answers = [found.messages[start:end] for start, end in body["answers"]]
        _restore(found.planner.calls, body["calls"], found.reports)
        found.planner.calls.hidden = body.get("hidden", 0)
        return found


def _unused(id_: str, used: set[str]) -> str:
    """Return an id that no call has; at most 40 characters, which is what the APIs take."""
    found = id_
    number = 2
    while found in used:
        found = f"{id_}-{number}"
        number += 1
    return found


def _plain(value: Any) -> Any:
    """Return an SDK's object, which a user may have put among the messages, as JSON."""
    return to_jsonable_python(value, exclude_none=True)


def _record_body(record: CallRecord) -> dict[str, Any]:
    raw = record.raw
    body: dict[str, Any] = {
        "turn": record.turn,
        "id": raw.id,
        "name": raw.name,
        "arguments": raw.arguments,
        "kind": raw.kind,
        "answered": record.answered,
    }
    rest = {
        "echo": dict(raw.echo),
        "refused": raw.problem,
        "problem": record.problem,
        "void": record.void,
        "from_code": raw.from_code,
        "lost": record.outcome is not None
        and (record.taken_back or not _holds(record.outcome.value)),
    }
    return body | {name: value for name, value in rest.items() if value}


def _holds(value: Any) -> bool:
    """Whether JSON can hold a value."""
    try:
        to_jsonable_python(value, inf_nan_mode="strings")
    except (PydanticSerializationError, ValueError, RecursionError):
        return False
    return True


def _restore(calls: CallLog, bodies: list[dict[str, Any]], reports: list[Report]) -> None:
    """Number the calls as they were; their outcomes are those of the reports."""
    outcomes = {id_: outcome for report in reports for id_, outcome in report.items()}
    for body in bodies:
        while calls.number_of_turn < body["turn"]:
            calls.begin()
        raw = RawCall(
            body["id"],
            body["name"],
            body["arguments"],
            body["kind"],
            body.get("echo", {}),
            body.get("refused"),
            body.get("from_code", False),
        )
        record = calls.add(raw)
        record.problem = body.get("problem")
        record.answered = body["answered"]
        record.void = body.get("void", False)
        # A reference to a value that is lost is told so, instead of getting its type's name.
        record.outcome = None if body.get("lost") else outcomes.get(record.id)
