"""A run as text while it lasts: lines, or a table that is drawn again and again.

Both are readers of the scheduler's events and actions, which `executor.start` hands out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, TextIO, TypeAlias, final

from dagexec import Call, Executor, Outcome, Report, lowlevel
from dagexec._core.outcomes import STATUSES
from dagexec._core.report_pictures import word
from dagexec._pictures.critical import Span, critical_links
from dagexec._pictures.durations import duration
from dagexec._pictures.glyphs import GLYPHS, listed, printable
from dagexec.lowlevel import (
    Action,
    Added,
    Conclude,
    Event,
    Launch,
    Reopened,
    Retrying,
    Settled,
    Started,
    Waiting,
    text_of,
)

Item: TypeAlias = "Event | Action | Retrying | Waiting | lowlevel.Progress | Unshown"
Unshown: TypeAlias = "lowlevel.Blocked | lowlevel.Abandoned"

ROWS: Final = 12
HEARTBEAT: Final = 5.0
_REDRAW: Final = 0.1
_PATH_EACH: Final = 1.0
_TALL: Final = 4  # rows that leave one for the path
_SHORT: Final = 6  # calls of a path that a line of a terminal holds
_BAR: Final = 18
_TEXT: Final = 160
_COLOURS: Final = {"running": "36", "ready": "2", "failed": "31", "timed_out": "33"}


class View(Protocol):
    """What shows a run: it is given every item, called each `interval` seconds, and closed."""

    interval: float

    def take(self, item: Item) -> None:
        """Learn what happened."""
        ...

    def tick(self) -> None:
        """Show that time passes."""
        ...

    def close(self) -> None:
        """Take away what must not stay."""
        ...


def view_for(mode: str, executor: Executor, stream: TextIO, *, verbose: bool) -> View:
    """Return the view of a mode: live, plain or none."""
    if mode == "none":
        return Nothing()
    if mode == "plain":
        return Plain(stream, verbose=verbose)
    return Live(executor, stream, Plain(stream, verbose=True) if verbose else None)


@dataclass(slots=True)
class Progress:
    """What is known of a run: which call is where; times are seconds since it began."""

    zero: float = field(default_factory=time.monotonic)
    tools: dict[str, str] = field(default_factory=dict[str, str])
    calls: dict[str, Call] = field(default_factory=dict[str, "Call"])
    ready: dict[str, float] = field(default_factory=dict[str, float])
    running: dict[str, float] = field(default_factory=dict[str, float])
    ended: dict[str, Outcome] = field(default_factory=dict[str, "Outcome"])

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.zero

    def take(self, item: Item) -> None:
        """Move the calls that an event or an action is about."""
        match item:
            case Added(call=call):
                self.tools[call.id] = call.tool
                self.calls[call.id] = call
            case Launch(calls=names):
                self.ready.update(dict.fromkeys(names, self.now))
                for name in names:  # it may have waited for a person in the run before
                    self.ended.pop(name, None)
            case Started(call=name, at=at):
                self.ready.pop(name, None)
                self.running[name] = at
            case Settled(call=name, outcome=outcome) | Conclude(call=name, outcome=outcome):
                self.ready.pop(name, None)
                self.running.pop(name, None)
                self.ended[name] = outcome
            case Reopened(call=name):
                self.ended.pop(name, None)
            case _:
                pass

    def counts(self) -> str:
        """Return the head line: how many calls are where."""
        ended = dict.fromkeys(STATUSES, 0)
        for outcome in self.ended.values():
            ended[outcome.status] += 1
        done = ended.pop("done")
        waiting = len(self.tools) - len(self.ended) - len(self.running)
        parts = {"running": len(self.running), **ended, "waiting": waiting}
        shown = "  ".join(f"{count} {name}" for name, count in parts.items() if count)
        return f"{done}/{len(self.tools)} done  {shown}".rstrip()

    @property
    def path(self) -> tuple[str, ...]:
        """The critical path so far: what the call that has run longest has waited for."""
        spans = {
            name: Span(each.started - (each.queued or 0.0), each.started, each.ended)
            for name, each in self.ended.items()
            if each.started is not None and each.ended is not None
        }
        now = self.now
        # Of what runs, the first to start is what the run has waited for longest.
        for name in sorted(self.running, key=self.running.__getitem__)[:1]:
            started = self.running[name]
            spans[name] = Span(started, started, max(now, started))
        return tuple(link.call for link in critical_links(self.calls, spans))

    @property
    def bad(self) -> list[str]:
        """The calls that failed or timed out, as they ended."""
        return [name for name, each in self.ended.items() if each.status in _COLOURS]


@final
class Nothing:
    """Shows nothing."""

    interval = 60.0

    def take(self, item: Item) -> None:
        """Ignore it."""

    def tick(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@final
class Plain:
    """A line for each call that fails or times out, and now and then the counts.

    `verbose`: a line for each start and each end.
    """

    interval = HEARTBEAT

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        """Begin with nothing shown."""
        self.progress = Progress()
        self._stream = stream
        self._verbose = verbose
        self._ticks = 0

    def take(self, item: Item) -> None:
        """Write the line of a call."""
        self.progress.take(item)
        match item:
            case Started(call=name, at=at) if self._verbose:
                self._line(at, "running", name, "")
            case Settled(call=name, outcome=outcome) | Conclude(call=name, outcome=outcome):
                if self._verbose or outcome.status in _COLOURS:
                    at = self.progress.now if outcome.ended is None else outcome.ended
                    self._line(at, outcome.status, name, said(outcome))
            case _:
                pass

    def tick(self) -> None:
        """Write the counts, from the second time on."""
        if self._ticks:
            self._write(f"{self.progress.now:6.2f} s  {self.progress.counts()}")
        self._ticks += 1

    def close(self) -> None:
        """Leave the lines."""

    def _line(self, at: float, state: str, name: str, text: str) -> None:
        label = f"{name} {self.progress.tools.get(name, '')}"
        self._write(f"{at:6.2f} s  {GLYPHS[state]} {label:<20} {text}".rstrip())

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(printable(line) + "\n")
            self._stream.flush()


@final
class Live:
    """A table of what runs, failed or is slow, drawn over itself; it leaves nothing behind.

    With a `log`, the log's lines stay, above the table.
    """

    interval = _REDRAW

    def __init__(self, executor: Executor, stream: TextIO, log: Plain | None = None) -> None:
        """Begin with nothing drawn."""
        self.progress = Progress()
        self._log = log
        self._executor = executor
        self._stream = stream
        self._drawn = 0
        # The critical path, and when it was found: for hundreds of calls it takes milliseconds.
        self._path: tuple[str, ...] = ()
        self._path_at = -_PATH_EACH
        self._colour = not os.environ.get("NO_COLOR")

    def take(self, item: Item) -> None:
        """Learn what happened; it shows with the next tick."""
        self.progress.take(item)
        if self._log is not None:
            self.close()
            self._log.take(item)

    def tick(self) -> None:
        """Draw the table over the last one."""
        size = shutil.get_terminal_size()
        rows = max(1, min(ROWS, size.lines - 1))
        lines = [
            self._coloured(state, clip(printable(text), size.columns - 1))
            for state, text in self.table(rows)
        ]
        # One write, so that the terminal never shows an empty table in between.
        self._write(self._back() + "".join(f"{line}\n" for line in lines))
        self._drawn = len(lines)

    def close(self) -> None:
        """Take the table away; the lines at the end of the run say what stays."""
        if self._drawn:
            self._write(self._back())
        self._drawn = 0

    def table(self, rows: int) -> list[tuple[str, str]]:
        """Return at most `rows` pairs of state and text; the first has the counts."""
        progress, now = self.progress, self.progress.now
        limit = self._executor.timeouts.workflow
        clock = f"{now:.1f} s" + (f" of {limit:g} s" if limit is not None else "")
        head = ("", f"dagexec  {progress.counts()}      {clock}")
        # The longest first: they are what the run waits for.
        running = sorted(progress.running, key=progress.running.__getitem__)
        bad, ready = progress.bad, list(progress.ready)
        path = self._critical() if rows >= _TALL else []
        room = rows - 1 - len(path)
        if len(running) + len(bad) + len(ready) > room:
            room -= 1
        last = bad[len(bad) - min(len(bad), max(room // 3, room - len(running))) :]
        first = running[: max(0, room - len(last))]
        queued = ready[: max(0, room - len(last) - len(first))]
        body = [
            *(("running", self._running(name, now)) for name in first),
            *(("ready", self._ready(name, now)) for name in queued),
            *((progress.ended[name].status, self._bad(name)) for name in last),
        ]
        hidden = {
            "running": len(running) - len(first),
            "ready": len(ready) - len(queued),
            "failed": len(bad) - len(last),
        }
        more = ", ".join(f"{count} {state}" for state, count in hidden.items() if count)
        return [head, *body, *([("ready", f"  + {more}, not shown")] if more else []), *path][:rows]

    def _critical(self) -> list[tuple[str, str]]:
        progress = self.progress
        if progress.now - self._path_at >= _PATH_EACH:
            self._path, self._path_at = progress.path, progress.now
        if len(self._path) < 2:  # noqa: PLR2004 - one call is no path
            return []
        return [("ready", f"  critical path so far: {listed(self._path, _SHORT)}")]

    def _running(self, name: str, now: float) -> str:
        took = now - self.progress.running[name]
        limit = self._limit(name)
        if limit is None:
            return self._row("running", name, took, "")
        full = min(_BAR, int(_BAR * took / limit))
        bar = "#" * full + "-" * (_BAR - full)
        return self._row("running", name, took, f"{bar}  timeout {limit:g} s")

    def _ready(self, name: str, now: float) -> str:
        return self._row("ready", name, now - self.progress.ready[name], "waiting for a slot")

    def _bad(self, name: str) -> str:
        outcome = self.progress.ended[name]
        skipped = sum(each.because == name for each in self.progress.ended.values())
        costs = f"; {skipped} skipped because of it" if skipped else ""
        return self._row(outcome.status, name, _took(outcome), said(outcome, took=False) + costs)

    def _row(self, state: str, name: str, seconds: float, text: str) -> str:
        tool = self.progress.tools.get(name, "")
        return (
            f"  {GLYPHS[state]} {clip(tool, 20):<20} {clip(name, 12):<12} {seconds:6.1f} s  {text}"
        )

    def _limit(self, name: str) -> float | None:
        tool = self._executor.tools.get(self.progress.tools.get(name, ""))
        own = None if tool is None else tool.timeout
        return self._executor.timeouts.call if own is None else own

    def _coloured(self, state: str, text: str) -> str:
        code = _COLOURS.get(state)
        return f"\x1b[{code}m{text}\x1b[0m" if code and self._colour else text

    def _back(self) -> str:
        return f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def ending(report: Report, *, told: bool) -> Iterator[str]:
    """Return the lines that stay: the counts, and one for each call that is not done.

    `told`: the failures and timeouts have had their lines already.
    """
    yield str(report)
    path = report.critical_path
    if len(path) > 1:
        yield f"  critical path: {listed(path, _SHORT)}"
    known = {"done", *_COLOURS} if told else {"done"}
    bad = [name for name in report if report[name].status not in known]
    for name in bad[:ROWS]:
        outcome = report[name]
        label = f"{name} {report.plan[name].tool}"
        yield f"  {GLYPHS[outcome.status]} {label:<20} {said(outcome)}".rstrip()
    if len(bad) > ROWS:
        yield f"  + {len(bad) - ROWS} more, which the report names"


def said(outcome: Outcome, *, took: bool = True) -> str:
    """Return one line on how a call went, with the message of its error."""
    if outcome.status != "failed":
        return word(outcome)
    seconds = f"{duration(_took(outcome))}  " if took and outcome.started is not None else ""
    error = outcome.error
    kind, message = type(error).__name__, one_line(text_of(error))
    return f"{seconds}{kind}: {message}" if message else f"{seconds}{kind}"


def one_line(text: str) -> str:
    """Return a text in one line of a length that can be read."""
    joined = " ".join(text.split())
    return joined if len(joined) <= _TEXT else joined[: _TEXT - 1] + "…"


def clip(text: str, width: int) -> str:
    """Return what of a text fits into so many columns of a terminal."""
    return text if _columns(text) <= width else _fitting(text, width - 1) + "…"


def _fitting(text: str, width: int) -> str:
    kept: list[str] = []
    for character in text:
        width -= _columns(character)
        if width < 0:
            break
        kept.append(character)
    return "".join(kept)


def _columns(text: Iterable[str]) -> int:
    return sum(_column(character) for character in text)


def _column(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _took(outcome: Outcome) -> float:
    if outcome.started is None or outcome.ended is None:
        return 0.0
    return outcome.ended - outcome.started
