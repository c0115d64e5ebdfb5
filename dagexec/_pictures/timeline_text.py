"""The timeline as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dagexec._pictures.diagram import GLYPHS, printable
from dagexec._pictures.timeline import fills

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dagexec._pictures.timeline import Bar, Cluster, Timeline

_LABEL: Final = 30
_LEAST: Final = 20
_TAIL: Final = 26
_STEPS: Final = " ▁▂▃▄▅▆▇█"


def draw(timeline: Timeline, width: int) -> str:
    """Return one line a call, in about so many columns."""
    if not timeline.bars:
        return "(no calls)"
    bars, clusters = timeline.rows()
    end = timeline.end
    labels = [printable(f"{bar.id} {bar.tool}") for bar in bars]
    names = [*labels, *(printable(cluster.label) for cluster in clusters)]
    wide = min(_LABEL, max(map(len, names)))
    plot = max(_LEAST, width - wide - _TAIL)
    critical = {link.call for link in timeline.path}
    lines = [_axis(end, wide, plot)]
    for bar, name in zip(bars, labels, strict=True):
        mark = "*" if bar.id in critical else " "
        glyph = GLYPHS[bar.state]
        body = _bar(bar, timeline, end, plot)
        lines.append(f"{mark}{glyph} {_cut(name, wide)}  {body}  {printable(bar.note)}".rstrip())
    for cluster in clusters:
        body = _histogram(cluster, timeline, end, plot)
        lines.append(f"   {_cut(printable(cluster.label), wide)}  {body}  {_tally(cluster)}")
    lines.append(_legend(timeline))
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)


def _axis(end: float, wide: int, plot: int) -> str:
    shown = f"{end:.2f} s"
    return f"{'':{wide + 5}}0{shown.rjust(plot - 1)}"


def _column(at: float, end: float, plot: int) -> int:
    return min(plot - 1, max(0, int(at / end * plot)))


def _bar(bar: Bar, timeline: Timeline, end: float, plot: int) -> str:
    cells = [" "] * plot
    waits = fills()
    for wait in bar.waits:
        first = _column(wait.begins, end, plot)
        # What is shorter than a column is not drawn, or every row would begin with it.
        for column in range(first, _column(wait.ends, end, plot)):
            cells[column] = waits[wait.kind]
    if bar.started is None:
        cells[_column(bar.begins, end, plot)] = GLYPHS[bar.state]
    else:
        ended = timeline.now if bar.ended is None else bar.ended
        first, last = (_column(at, end, plot) for at in (bar.started, ended))
        for column in range(first, max(first + 1, last)):
            if cells[column] != waits["retry"]:
                cells[column] = "█"
    for deadline in timeline.deadlines:
        if deadline.at <= end:
            cells[_column(deadline.at, end, plot)] = "|"
    return "".join(cells)


def _histogram(cluster: Cluster, timeline: Timeline, end: float, plot: int) -> str:
    """Return how many of the calls ran at a time, column by column."""
    counts = concurrency(cluster.bars, timeline.now, end, plot)
    most = max(counts) or 1
    return "".join(_STEPS[-(-count * (len(_STEPS) - 1) // most)] for count in counts)


def concurrency(bars: Iterable[Bar], now: float, end: float, columns: int) -> list[int]:
    """Return how many bars ran at a time, at most, in each of so many equal parts of the axis."""
    moments: list[tuple[float, int]] = []
    for bar in bars:
        if bar.started is not None:
            # At the same moment an end comes before a start: a slot changes hands.
            moments += ((bar.started, 1), (bar.started + bar.seconds(now), -1))
    moments.sort()
    counts = [0] * columns
    running, column = 0, 0
    for at, change in moments:
        here = _column(at, end, columns)
        for between in range(column + 1, here + 1):
            counts[between] = running
        column = here
        running += change
        counts[here] = max(counts[here], running)
    return counts


def _tally(cluster: Cluster) -> str:
    counts: dict[str, int] = {}
    for bar in cluster.bars:
        counts[bar.state] = counts.get(bar.state, 0) + 1
    return " ".join(f"{GLYPHS[state]}{count}" for state, count in counts.items())


def _legend(timeline: Timeline) -> str:
    used = {wait.kind for bar in timeline.bars for wait in bar.waits if wait.ends > wait.begins}
    words = {
        "dependencies": "waits for dependencies",
        "slot": "for a slot",
        "limit": "for a limit",
        "retry": "before its next attempt",
    }
    parts = ["█ runs", *(f"{fills()[kind]} {words[kind]}" for kind in words if kind in used)]
    parts += ["* critical path"] if timeline.path else []
    parts += [
        f"| deadline of the {each.scope}, {each.at:g} s"
        for each in timeline.deadlines
        if each.at <= timeline.end
    ]
    return "  ".join(parts)
