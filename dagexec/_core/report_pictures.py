"""What the two pictures show of a report: states, words, times, the critical path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._core.results import Mark, Results, Underway
from dagexec._pictures.chart import Bar, Deadline, Try, Wait, WaitKind
from dagexec._pictures.critical import Link, Span, critical_links
from dagexec._pictures.diagram import Diagram
from dagexec._pictures.durations import duration
from dagexec._pictures.graph import Node
from dagexec._pictures.timeline import Timeline

# A wait that is shorter than this is the event loop's own business. Seconds.
_NOTICED: Final = 0.001
_STOPPED: Final = ("cancelled", "timed_out")
_PENDING: Final = ("pending", "in_doubt")


def spans_of(report: Results) -> dict[str, Span]:
    """Return when the calls that started were ready, started and ended."""
    spans: dict[str, Span] = {}
    for name, outcome in report.items():
        if outcome.started is not None and outcome.ended is not None:
            ready = outcome.started - (outcome.queued or 0.0)
            spans[name] = Span(ready, outcome.started, outcome.ended)
    for name, each in report.underway.items():
        if each.started is not None and name not in spans:
            ready = each.started if each.ready is None else each.ready
            spans[name] = Span(ready, each.started, max(report.elapsed, each.started))
    return spans


def path_of(report: Results) -> tuple[Link, ...]:
    """Return the critical path of a report."""
    return critical_links(report.plan, spans_of(report))


def diagram_of(report: Results) -> Diagram:
    """Return the graph with what became of each call."""
    nodes: list[Node] = []
    for call in report.plan:
        outcome = report.get(call.id)
        state: str
        if outcome is not None:
            state, note = outcome.status, word(outcome)
        else:
            each = report.underway.get(call.id, Underway("waiting"))
            state, note = each.state, _underway_word(each, report.elapsed)
        note = _placed(note, call.id, report)
        nodes.append(Node(call.id, call.tool, state, note, blocked=call.id in report.blocked_by))
    path = tuple(link.call for link in path_of(report))
    return Diagram(tuple(nodes), report.plan.edges, report.plan.layers, path, str(report))


def _placed(note: str, name: str, report: Results) -> str:
    """Add how long a call blocked the event loop, and the line of the program that made it."""
    if (seconds := report.blocked_by.get(name)) is not None:
        note = f"{note}, loop blocked {duration(seconds)}"
    line = None if report.program is None else report.program.lines.get(name)
    if line is None:
        return note
    return f"{note}, line {line}" if note else f"line {line}"


def timeline_of(report: Results) -> Timeline:
    """Return when each call waited and ran."""
    ends: dict[str, float] = {
        name: outcome.ended for name, outcome in report.items() if outcome.ended is not None
    }
    bars = [
        _bar(call, report.get(call.id), report, ends)
        for call in report.plan
        if call.id in report or call.id in report.underway
    ]
    setup = report.setup
    deadlines: tuple[Deadline, ...] = ()
    if setup is not None and setup.run is not None:
        deadlines = (Deadline(setup.scope, setup.run),)
    return Timeline(
        tuple(bars),
        report.elapsed,
        live=len(report) < len(report.plan),
        path=path_of(report),
        deadlines=deadlines,
        caption=str(report),
    )


def _bar(call: Call, outcome: Outcome | None, report: Results, ends: Mapping[str, float]) -> Bar:
    if outcome is None:
        return _bar_underway(call, report.underway[call.id], report)
    started, ended = outcome.started, outcome.ended
    queued = outcome.queued or 0.0
    ready = None if started is None else max(0.0, started - queued)
    if started is None and ended is None:
        # It was settled without a time of its own: when what it waited for was lost, or had ended.
        ended = ends.get(outcome.because or "", None)
        before = [ends[name] for name in (*call.needs, *call.waits) if name in ends]
        if ended is None and (outcome.status in _PENDING or before):
            ended = max(before, default=0.0)
        if ended is None or outcome.status in _STOPPED:
            ended = report.elapsed
        if outcome.status in _STOPPED and len(before) == len(call.needs) + len(call.waits):
            # It could have started, and had no slot when the run was stopped.
            ready = max(before, default=0.0)
    limit = None
    if started is not None and report.setup is not None:
        seconds = report.setup.of(call.tool)
        limit = None if seconds is None else started + seconds
    marks = report.marks.get(call.id, ())
    limit = _moved(limit, marks, outcome.attempts, ended or report.elapsed)
    waits: tuple[Wait, ...] = ()
    if ready is not None:
        waits = tuple(_waits(ready, started, marks, outcome.attempts, ended or 0.0))
    return Bar(
        call.id,
        call.tool,
        outcome.status,
        _placed(word(outcome), call.id, report),
        ready,
        started,
        ended,
        waits,
        tuple(_tries(started, ended, marks, outcome.attempts, ok=outcome.status == "done")),
        attempts=outcome.attempts,
        limit=limit,
        blocked=call.id in report.blocked_by,
    )


def _waits(
    ready: float | None,
    started: float | None,
    marks: tuple[Mark, ...],
    tried: int,
    until: float,
) -> Iterator[Wait]:
    """Return what a call waited for, one after the other; `until` is its end, or now."""
    first = until if ready is None else ready
    if first >= _NOTICED:
        yield Wait("dependencies", 0.0, first)
    if ready is None:
        return
    begun = until if started is None else started
    yield from _queued(ready, begun, [mark for mark in marks if mark.at <= begun])
    for _, ends, within in _between(marks, tried, until):
        failed = within[0]
        wakes = min(ends, failed.at + failed.delay)
        yield Wait("retry", failed.at, wakes)
        yield from _queued(wakes, ends, within[1:])


def _queued(ready: float, begun: float, marks: Sequence[Mark]) -> Iterator[Wait]:
    """Return how long it waited for a slot and for limits, from when it was ready."""
    limited = next((mark.at for mark in marks if mark.kind == "limit"), None)
    let_in = next((mark.at for mark in marks if mark.kind == "slot"), begun)
    moments: list[tuple[WaitKind, float, float]] = (
        [("slot", ready, begun)]
        if limited is None
        else [("slot", ready, limited), ("limit", limited, let_in), ("slot", let_in, begun)]
    )
    for kind, begins, ends in moments:
        if ends - begins >= _NOTICED:
            yield Wait(kind, begins, ends)


def _between(
    marks: Sequence[Mark], tried: int, until: float
) -> Iterator[tuple[float, float, tuple[Mark, ...]]]:
    """Yield when each attempt failed, when the next of `tried` ones began, and the marks from then.

    `until` stands for attempts that never began. Reports of older versions do not say when one
    began: then as soon as it may.
    """
    failures = [index for index, mark in enumerate(marks) if mark.kind == "retry"]
    for number, index in enumerate(failures, 1):
        failed = marks[index]
        behind = failures[number] if number < len(failures) else len(marks)
        within = marks[index:behind]
        began = next((mark.at for mark in within if mark.kind == "again"), None)
        if began is None:
            began = failed.at + failed.delay if tried > number else until
        yield failed.at, began, tuple(mark for mark in within if mark.kind != "again")


def _moved(limit: float | None, marks: Sequence[Mark], tried: int, until: float) -> float | None:
    """Return when the call's own deadline is: time in a queue between attempts is no part of it."""
    if limit is None:
        return None
    waits = _between(marks, tried, until)
    return limit + sum(max(0.0, ends - begins - within[0].delay) for begins, ends, within in waits)


def _tries(
    started: float | None,
    ended: float | None,
    marks: tuple[Mark, ...],
    tried: int,
    *,
    ok: bool,
) -> Iterator[Try]:
    """Return the attempts of a call, if it had several; `ok` is whether the last one did it."""
    begun = started
    for failed, again, _ in _between(marks, tried, math.inf):
        if begun is not None:
            yield Try(begun, failed, ok=False)
        begun = None if again == math.inf else again
    if begun is not None and begun != started:
        yield Try(begun, ended, ok=ok)


def _bar_underway(call: Call, each: Underway, report: Results) -> Bar:
    marks = report.marks.get(call.id, ())
    tried = 1 + sum(mark.kind == "again" for mark in marks)
    waits = tuple(_waits(each.ready, each.started, marks, tried, report.elapsed))
    limit = None
    if each.started is not None and report.setup is not None:
        seconds = report.setup.of(call.tool)
        limit = None if seconds is None else each.started + seconds
    limit = _moved(limit, marks, tried, report.elapsed)
    note = _placed(_underway_word(each, report.elapsed), call.id, report)
    return Bar(
        call.id,
        call.tool,
        each.state,
        note,
        each.ready,
        each.started,
        None,
        waits,
        tuple(_tries(each.started, None, marks, tried, ok=True)),
        attempts=int(each.started is not None) + sum(mark.kind == "retry" for mark in marks),
        limit=limit,
    )


def _underway_word(each: Underway, now: float) -> str:
    if each.started is not None:
        return f"running {duration(now - each.started)}"
    if each.ready is not None:
        return f"ready {duration(now - each.ready)}"
    return "waiting"


def word(outcome: Outcome) -> str:
    """Return a few words on how a call went, for a picture."""
    took = ""
    if outcome.started is not None and outcome.ended is not None:
        took = duration(outcome.ended - outcome.started)
    if outcome.status == "failed":
        return f"{error_name(outcome.error)} {took}".strip()
    if outcome.status == "timed_out":
        return f"timed out ({outcome.scope}) {took}".strip()
    if outcome.because is not None:
        return f"{outcome.status} because of {outcome.because}"
    return took or outcome.status


def error_name(error: Exception | None) -> str:
    """Return the name of an error's type; of one read back from a report, the name it had."""
    return str(getattr(error, "kind", None) or type(error).__name__)
