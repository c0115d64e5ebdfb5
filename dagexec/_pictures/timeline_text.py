"""The timeline as text."""

from __future__ import annotations

from typing import Final

from dagexec._pictures.chart import FILLS, Bar, Chart, Cluster, column_of, concurrency
from dagexec._pictures.durations import duration
from dagexec._pictures.glyphs import GLYPHS, printable

_LABEL: Final = 30
_LEAST: Final = 20
_TAIL: Final = 26
_STEPS: Final = " ▁▂▃▄▅▆▇█"


def draw(chart: Chart, width: int) -> str:
    """Return one line a call, in about so many columns."""
    if not chart.bars:
        return "(no calls)"
    bars, clusters = chart.rows()
    end = chart.end
    labels = [printable(f"{bar.id} {bar.tool}") for bar in bars]
    names = [*labels, *(printable(cluster.label) for cluster in clusters)]
    wide = min(_LABEL, max(map(len, names)))
    plot = max(_LEAST, width - wide - _TAIL)
    critical = {link.call for link in chart.path}
    lines = [_axis(end, wide, plot)]
    for bar, name in zip(bars, labels, strict=True):
        mark = "*" if bar.id in critical else " "
        glyph = GLYPHS[bar.state]
        body = _bar(bar, chart, end, plot)
        lines.append(f"{mark}{glyph} {_cut(name, wide)}  {body}  {printable(bar.note)}".rstrip())
    for cluster in clusters:
        body = _histogram(cluster, chart, end, plot)
        lines.append(f"   {_cut(printable(cluster.label), wide)}  {body}  {_tally(cluster)}")
    lines.append(_legend(chart))
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)


def _axis(end: float, wide: int, plot: int) -> str:
    shown = duration(end)
    return f"{'':{wide + 5}}0{shown.rjust(plot - 1)}"


def _bar(bar: Bar, chart: Chart, end: float, plot: int) -> str:
    cells = [" "] * plot
    for wait in bar.waits:
        first = column_of(wait.begins, end, plot)
        # What is shorter than a column is not drawn, or every row would begin with it.
        for column in range(first, column_of(wait.ends, end, plot)):
            cells[column] = FILLS[wait.kind]
    if bar.started is None:
        cells[column_of(bar.begins, end, plot)] = GLYPHS[bar.state]
    else:
        ended = chart.now if bar.ended is None else bar.ended
        first, last = (column_of(at, end, plot) for at in (bar.started, ended))
        for column in range(first, max(first + 1, last)):
            if cells[column] != FILLS["retry"]:
                cells[column] = "█"
    for deadline in chart.deadlines:
        if deadline.at <= end:
            cells[column_of(deadline.at, end, plot)] = "|"
    return "".join(cells)


def _histogram(cluster: Cluster, chart: Chart, end: float, plot: int) -> str:
    """Return how many of the calls ran at a time, column by column."""
    counts = concurrency(cluster.bars, chart.now, end, plot)
    most = max(counts) or 1
    return "".join(_STEPS[-(-count * (len(_STEPS) - 1) // most)] for count in counts)


def _tally(cluster: Cluster) -> str:
    counts: dict[str, int] = {}
    for bar in cluster.bars:
        counts[bar.state] = counts.get(bar.state, 0) + 1
    return " ".join(f"{GLYPHS[state]}{count}" for state, count in counts.items())


def _legend(chart: Chart) -> str:
    used = {wait.kind for bar in chart.bars for wait in bar.waits if wait.ends > wait.begins}
    words = {
        "dependencies": "waits for dependencies",
        "slot": "for a slot",
        "limit": "for a limit",
        "retry": "before its next attempt",
    }
    parts = ["█ runs", *(f"{FILLS[kind]} {words[kind]}" for kind in words if kind in used)]
    parts += ["* critical path"] if chart.path else []
    parts += [
        f"| deadline of the {each.scope}, {each.at:g} s"
        for each in chart.deadlines
        if each.at <= chart.end
    ]
    return "  ".join(parts)
