"""The scheduler's events as records, and back.

What is recorded is what the scheduler was told. Told the same again, a fresh scheduler says the
same: that is how a run is resumed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from typing import Any, Final, cast

from pydantic_core import to_json

from dagexec import _errors
from dagexec._core import outcome_json
from dagexec._core.nested import InnerAnswers
from dagexec._core.outcome_json import RecordedError, outcome_body
from dagexec._core.outcomes import Approve, Deny, Done, Edit, Failed, Outcome
from dagexec._core.plan import Call, as_ran
from dagexec._core.report import Report
from dagexec._core.results import Underway
from dagexec._core.scheduler import (
    Added,
    Closed,
    Event,
    Expired,
    Refused,
    Reopened,
    Scheduler,
    Settled,
    Spread,
    Started,
    Stop,
)
from dagexec._core.states import State
from dagexec._errors import CallError, CallTimeout, DagexecError, JournalError
from dagexec.journal._base import Record

# Kinds that the scheduler does not hear of.
_SILENT: Final = ("stream", "answer", "void", "end")
# Records that the scheduler is told of only once durable; it was told of the others earlier.
_AWAITED: Final = ("settled", "added", "closed", "expired", "stop", "spread")


def policies(on_failure: str, *, barrier: bool) -> dict[str, Any]:
    """Return what the scheduler of a run does by, for the run's first record."""
    return {"on_failure": on_failure, "barrier": barrier}


def first_record(calls: list[dict[str, Any]] | None, on_failure: str, *, barrier: bool) -> Record:
    """Return the record that begins a run: of these calls, or of a stream if None."""
    body = {**policies(on_failure, barrier=barrier), "began": time.time()}
    if calls is None:
        return Record("stream", None, body)
    return Record("plan", None, {"calls": calls, **body})


def began_of(first: Record) -> float | None:
    """Return when a run began, in seconds since the epoch, by its first record, if that says so."""
    body: dict[str, Any] = first.body or {}
    return body.get("began")


def policies_of(first: Record) -> tuple[str, bool]:
    """Return `on_failure` and `barrier` of a run, by its first record."""
    body: dict[str, Any] = first.body or {}
    return body.get("on_failure", "skip"), body.get("barrier", False)


def to_record(event: Event) -> Record:  # noqa: C901, PLR0911 - one a kind
    """Return an event as a record."""
    match event:
        case Added(call, eager):
            return Record("added", call.id, {"call": call.to_dict(), "eager": eager})
        case Closed():
            return Record("closed")
        case Started(call, at):
            return Record("started", call, {"at": at})
        case Settled(call, outcome):
            return Record("settled", call, outcome_body(outcome))
        case Expired(layer):
            return Record("expired", None, layer)
        case Stop(outcome):
            return Record("stop", None, outcome_body(outcome))
        case Reopened(call):
            return Record("reopened", call)
        case Spread(call, count, ordered):
            return Record("spread", call, {"count": count, "ordered": ordered})


def to_event(record: Record) -> Event:  # noqa: C901, PLR0911 - one a kind
    """Return the event of a record; raise JournalError if it is none."""
    call, body = record.call or "", record.body
    try:
        match record.kind:
            case "added":
                return Added(Call.from_dict(body["call"]), body["eager"])
            case "closed":
                return Closed()
            case "started":
                return Started(call, body["at"])
            case "settled":
                return Settled(call, outcome_of(body))
            case "expired":
                return Expired(body)
            case "stop":
                return Stop(outcome_of(body))
            case "reopened":
                return Reopened(call)
            case "spread":
                ordered = tuple((earlier, later) for earlier, later in body["ordered"])
                return Spread(call, body["count"], ordered)
            case _:
                msg = f"there is no event {record.kind!r}"
                raise JournalError(msg)
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, DagexecError):
            raise
        msg = f"the record {record.kind!r} of call {call!r} cannot be read: {error!r:.200}"
        raise JournalError(msg) from None


def batches(
    records: Iterable[Record], calls: Mapping[str, Call] | None = None
) -> Iterator[tuple[Event, ...]]:
    """Return the events of records, each batch as the scheduler was told it.

    A start that was recorded and then withdrawn is left out: the call never began. `calls` are
    taken instead of those recorded, which lack what is secret.
    """
    whole = calls or {}
    left = iter(_effective(list(records)))
    for record in left:
        if record.kind == "plan":
            kept = [Call.from_dict(body) for body in record.body["calls"]]
            yield (*(Added(_whole(call, whole)) for call in kept), Closed())
        elif record.kind == "batch":
            yield tuple(_event(each, whole) for each in islice(left, record.body))
        elif record.kind not in _SILENT:
            yield (_event(record, whole),)


def _event(record: Record, calls: Mapping[str, Call]) -> Event:
    event = to_event(record)
    return Added(_whole(event.call, calls), event.eager) if isinstance(event, Added) else event


def _whole(call: Call, calls: Mapping[str, Call]) -> Call:
    given = calls.get(call.id)
    return call if given is None else replace(given, ordered=call.ordered, problem=call.problem)


def _effective(records: list[Record]) -> list[Record]:
    """Return the records without withdrawn starts, in the order in which the machine heard them."""
    withdrawn: dict[str, int] = {}
    kept: list[Record] = []
    for record in reversed(records):
        name = record.call or ""
        if record.kind == "void":
            withdrawn[name] = withdrawn.get(name, 0) + 1
        elif record.kind == "started" and withdrawn.get(name):
            withdrawn[name] -= 1
        else:
            kept.append(record)
    heard: list[Record] = []
    for record in reversed(kept):
        ahead = record.body.get("ahead", 0) if record.kind == "started" else 0
        place = len(heard)
        while ahead:
            place -= 1
            ahead -= heard[place].kind in _AWAITED
        heard.insert(place, record)
    return heard


def replay(
    records: Iterable[Record], machine: Scheduler, calls: Mapping[str, Call] | None = None
) -> None:
    """Tell a fresh machine what was recorded; raise JournalError if that cannot have happened."""
    for events in batches(records, calls):
        try:
            machine.receive(*events)
        except Refused as error:
            if machine.stopped:
                continue  # what ended while the run was being stopped; the stop came first
            msg = f"the records of the run contradict one another: {error}"
            raise JournalError(msg) from None


def end_record(
    elapsed: float,
    abandoned: int,
    blocked: int,
    blocked_seconds: float,
    blocked_by: Mapping[str, float],
) -> Record:
    """Return the last record of a run that has ended; times in seconds."""
    body: dict[str, Any] = {"elapsed": elapsed, "abandoned": abandoned}
    if blocked:
        calls = dict(blocked_by)
        body["blocked"] = {"count": blocked, "seconds": blocked_seconds, "calls": calls}
    return Record("end", None, body)


def blocked_in(body: Mapping[str, Any]) -> tuple[int, float, Mapping[str, float]]:
    """Return how many steps blocked the event loop, their seconds, and the seconds by call.

    `body` is a run's last record. Older journals do not say it.
    """
    blocked = body.get("blocked", {})
    return blocked.get("count", 0), blocked.get("seconds", 0.0), blocked.get("calls", {})


def report_of(run_id: str, records: Sequence[Record]) -> Report:
    """Return the report of a run as it was recorded; what had begun and not ended is `underway`."""
    on_failure, barrier = policies_of(records[0])
    machine = Scheduler(on_failure=on_failure, barrier=barrier)
    replay(records, machine)
    ends = [record.body for record in records if record.kind == "end"]
    last: dict[str, Any] = ends[-1] if ends else {"elapsed": _lasted(records), "abandoned": 0}
    blocked, blocked_seconds, blocked_by = blocked_in(last)
    underway = {} if ends else _underway(records, machine)
    return Report(
        as_ran(machine.calls),
        machine.outcomes,
        run_id=run_id,
        elapsed=last["elapsed"],
        abandoned=last["abandoned"],
        blocked=blocked,
        blocked_seconds=blocked_seconds,
        blocked_by=blocked_by,
        underway=underway,
        began=began_of(records[0]),
    )


def _lasted(records: Sequence[Record]) -> float:
    """Return how long a run lasted, as far as its records tell, in seconds."""
    found = [record.body["at"] for record in records if record.kind == "started"]
    found += [record.body.get("ended") or 0.0 for record in records if record.kind == "settled"]
    return max(found, default=0.0)


def _underway(records: Sequence[Record], machine: Scheduler) -> dict[str, Underway]:
    """Return the calls that had begun, and of which no end is recorded, and when they began."""
    begun = {record.call: record.body["at"] for record in records if record.kind == "started"}
    running = [call.id for call in machine.calls if machine.state(call.id) is State.RUNNING]
    return {name: Underway("running", started=begun[name]) for name in running if name in begun}


def outcome_of(body: dict[str, Any]) -> Outcome:
    """Return the outcome of what `outcome_body` made; an error becomes a RecordedError."""
    return outcome_json.outcome_of(body, _error_of)


def _error_of(body: list[str], scope: str | None) -> Exception:
    """Return an error as it was, if dagexec raised it for a call; its name and text otherwise."""
    kind, message = body
    if kind == "CallTimeout" and scope is not None:
        return CallTimeout(message, scope)
    known = getattr(_errors, kind, None) if kind in _errors.__all__ else None
    if isinstance(known, type) and issubclass(known, CallError):
        return known(message)
    return RecordedError(kind, message)


def answer_body(answer: object) -> dict[str, Any]:
    """Return an answer as a dict."""
    match answer:
        case Approve():
            return {"answer": "approve"}
        case Deny(reason):
            return {"answer": "deny", "reason": reason}
        case Edit(args):
            return {"answer": "edit", "args": dict(args)}
        case Done(value):
            return {"answer": "done", "value": value}
        case InnerAnswers(items):
            return {"answer": "nested", "items": list(items)}
        case _:
            return {"answer": "value", "value": answer}


def answer_of(body: dict[str, Any]) -> object:
    """Return the answer of what `answer_body` made."""
    match body["answer"]:
        case "approve":
            return Approve()
        case "deny":
            return Deny(body["reason"])
        case "edit":
            return Edit(body["args"])
        case "done":
            return Done(body["value"])
        case "nested":
            return InnerAnswers(tuple(body["items"]))
        case _:
            return body["value"]


def same_call(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two calls as dicts are the same as a planner wrote them."""
    return _as_written(one) == _as_written(other)


def _as_written(call: dict[str, Any]) -> bytes:
    # Edges that were added follow from the tools' declarations, not from the plan.
    body = {key: item for key, item in call.items() if key not in ("ordered", "problem")}
    return canonical(body)


def fingerprint(arguments: dict[str, Any], secret: Sequence[str] = ()) -> str:
    """Return a fingerprint of validated arguments, without the secret ones: 32 hex digits."""
    if secret:
        arguments = {name: item for name, item in arguments.items() if name not in secret}
    return sha256(canonical(arguments)).hexdigest()[:32]


def canonical(value: Any, fallback: Callable[[Any], str] | None = None) -> bytes:
    """Return a value as JSON, to be compared with others; `fallback` writes what JSON cannot."""
    fallback = fallback or _type_name
    try:
        return to_json(value, inf_nan_mode="constants", fallback=fallback)
    except ValueError:  # bytes, huge integers, or half of a surrogate pair
        return json.dumps(_for_json(value, fallback), default=fallback).encode()


def _for_json(value: Any, fallback: Callable[[Any], str]) -> Any:  # noqa: PLR0911 - one a kind
    """Return what JSON can hold and `to_json` refuses, distinct for distinct values."""
    if isinstance(value, dict):
        body = cast("dict[Any, Any]", value)
        if all(isinstance(key, str) for key in body):
            return {key: _for_json(item, fallback) for key, item in body.items()}
        return [[_for_json(each, fallback) for each in pair] for pair in body.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [_for_json(item, fallback) for item in cast("Iterable[Any]", value)]
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    if value is None or isinstance(value, str | float | bool):
        return value
    try:
        return to_json(value, inf_nan_mode="constants", fallback=fallback).decode()
    except ValueError:
        return fallback(value)


def _type_name(value: Any) -> str:
    return f"<{type(value).__qualname__}>"


def unrecorded(outcome: Outcome, error: Exception, *, writes: bool) -> Failed:
    """Return the outcome of a call whose own outcome could not be recorded because of an error."""
    ran = outcome.started is not None
    what = f"the call ended as {outcome.status}, and that" if ran else "what became of it"
    return Failed(
        JournalError(f"{what} could not be recorded: {error}"),
        started=outcome.started,
        ended=outcome.ended,
        queued=outcome.queued,
        attempts=outcome.attempts,
        maybe=ran and writes,
    )
