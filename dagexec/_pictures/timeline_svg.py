"""The timeline of a run, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from dagexec._pictures.chart import Bar, Chart, Cluster, Wait, concurrency
from dagexec._pictures.durations import duration
from dagexec._pictures.glyphs import GLYPHS
from dagexec._pictures.svg import Theme, clickable, fitting, label, safe, stroked

_EDGE: Final = 12.0
_LABELS: Final = 170.0
_PLOT: Final = 510.0
_NOTES: Final = 194.0
_ROW: Final = 22.0
_BAR: Final = 13.0
_CLUSTER: Final = 38.0
_TOP: Final = 34.0
_SIZE, _SMALL = 11.5, 10.5
_TICKS: Final = 6
_COLUMNS: Final = 160
_LEAST: Final = 2.0  # pixels of the shortest bar

WIDTH: Final = 2 * _EDGE + _LABELS + _PLOT + _NOTES

# How a wait is drawn: width and dashes of a line, so that no colour is needed to tell them apart.
_WAITS: Final = {
    "dependencies": (1.0, "1 4"),
    "slot": (5.0, "2 2"),
    "limit": (9.0, "1 3"),
    "retry": (2.0, "6 3"),
}
_WORDS: Final = {
    "dependencies": "waits for dependencies",
    "slot": "waits for a slot",
    "limit": "waits for a limit",
    "retry": "waits before its next attempt",
}


@final
@dataclass(frozen=True, slots=True)
class Scale:
    """From seconds to pixels."""

    end: float

    def x(self, at: float) -> float:
        """Return where a time stands; what is beyond the axis stands at its end."""
        return _EDGE + _LABELS + min(1.0, max(0.0, at / self.end)) * _PLOT


def body(
    chart: Chart, theme: Theme, *, interactive: bool = False
) -> tuple[list[str], tuple[float, float]]:
    """Return the parts of the picture and its size, for a card."""
    if not chart.bars:
        return [label(_EDGE, 26, "no calls", fill=theme.faint)], (200, 42)
    bars, clusters = chart.rows()
    scale = Scale(chart.end)
    bottom = _TOP + len(bars) * _ROW + len(clusters) * _CLUSTER
    parts = _axis(scale, theme, bottom)
    middles = {bar.id: _TOP + (row + 0.5) * _ROW for row, bar in enumerate(bars)}
    critical = {link.call: None for link in chart.path}
    parts.extend(_links(chart, scale, theme, middles))
    for bar in bars:
        drawn = _row(bar, chart, scale, theme, middle=middles[bar.id], critical=bar.id in critical)
        spoken = f"{bar.id} {bar.tool}: {bar.state.replace('_', ' ')}. {_times(bar)}"
        parts.append(clickable([bar.id], spoken, drawn, interactive=interactive))
    for row, cluster in enumerate(clusters):
        top = _TOP + len(bars) * _ROW + row * _CLUSTER
        drawn = _cluster(cluster, chart, scale, theme, top=top)
        names = [bar.id for bar in cluster.bars]
        spoken = f"{cluster.label}, not drawn one by one: {_tally(cluster)}"
        parts.append(clickable(names, spoken, drawn, interactive=interactive))
    parts.extend(_deadlines(chart, scale, theme, bottom))
    legend, more = _legend(chart, theme, bottom + 16)
    parts.extend(legend)
    return parts, (WIDTH, bottom + more + 20)


# ---------------------------------------------------------------------------------- axis and lines


def ticks(end: float, most: int = _TICKS) -> list[float]:
    """Return round times from 0 to `end`, at most about so many."""
    rough = end / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [n * step for n in range(int(end / step + 1e-9) + 1)]


def _axis(scale: Scale, theme: Theme, bottom: float) -> list[str]:
    marks = ticks(scale.end)
    lines = "".join(f"M{scale.x(at):.1f} {_TOP - 6:.0f}V{bottom:.0f}" for at in marks)
    parts = [f'<path d="{lines}" stroke="{theme.frame}" stroke-width="1" fill="none"/>']
    digits = max(0, -math.floor(math.log10(marks[1]))) if len(marks) > 1 else 3
    for at in marks:
        text = f"{at:.{digits}f}" + (" s" if at == marks[-1] else "")
        parts.append(
            label(scale.x(at), _TOP - 12, text, fill=theme.faint, size=_SMALL, end="middle")
        )
    return parts


def _links(chart: Chart, scale: Scale, theme: Theme, middles: Mapping[str, float]) -> list[str]:
    """Return the lines from the end of each critical call to the start that it allowed."""
    bars = {bar.id: bar for bar in chart.bars}
    solid: list[str] = []
    dashed: list[str] = []
    before: str | None = None
    for link in chart.path:
        if before in middles and link.call in middles and before is not None:
            ended, started = bars[before].ended, bars[link.call].started
            if ended is not None and started is not None:
                line = (
                    f"M{scale.x(ended):.1f} {middles[before]:.0f}V{middles[link.call]:.0f}"
                    f"H{scale.x(started):.1f}"
                )
                (dashed if link.via == "slot" else solid).append(line)
        before = link.call
    parts: list[str] = []
    for lines, dash in ((solid, ""), (dashed, ' stroke-dasharray="4 3"')):
        if lines:
            parts.append(
                f'<path d="{"".join(lines)}" fill="none" stroke="{theme.critical}"'
                f' stroke-width="1.4"{dash}/>'
            )
    return parts


def _deadlines(chart: Chart, scale: Scale, theme: Theme, bottom: float) -> list[str]:
    parts: list[str] = []
    for each in chart.deadlines:
        if each.at > scale.end:
            continue
        x = scale.x(each.at)
        parts.append(
            f'<path d="M{x:.1f} {_TOP - 8:.0f}V{bottom:.0f}" stroke="{theme.alarm}"'
            ' stroke-width="2" stroke-dasharray="8 3" fill="none"/>'
        )
        end = "end" if x > _EDGE + _LABELS + _PLOT / 2 else ""
        text = f"deadline of the {each.scope}: {each.at:g} s"
        parts.append(
            label(
                x + (-4 if end else 4),
                _TOP - 24,
                text,
                fill=theme.alarm,
                size=_SMALL,
                end=end,
                bold=True,
            )
        )
    if chart.live:
        x = scale.x(chart.now)
        parts.append(
            f'<path d="M{x:.1f} {_TOP - 6:.0f}V{bottom:.0f}" stroke="{theme.faint}"'
            ' stroke-width="1" stroke-dasharray="1 2" fill="none"/>'
        )
    return parts


# --------------------------------------------------------------------------------------------- rows


def _row(
    bar: Bar,
    chart: Chart,
    scale: Scale,
    theme: Theme,
    *,
    middle: float,
    critical: bool,
) -> str:
    look = theme.states[bar.state]
    name = f"{GLYPHS[bar.state]} {bar.id} {bar.tool}"
    parts = [
        label(
            _EDGE,
            middle + 4,
            fitting(name, _LABELS - 12, _SIZE),
            fill=theme.ink,
            size=_SIZE,
            bold=critical,
        )
    ]
    parts.extend(_wait(wait, scale, theme, middle) for wait in bar.waits)
    end = scale.x(bar.begins)
    if bar.started is None:
        parts.append(label(end, middle + 4, GLYPHS[bar.state], fill=look.stroke, bold=True))
        end += 12
    else:
        end = scale.x(bar.started + bar.seconds(chart.now))
        parts.append(_block(bar, chart, scale, theme, middle=middle, critical=critical))
    if _is_near(bar, chart, scale):
        assert bar.limit is not None  # noqa: S101 - near what there is
        x = scale.x(bar.limit)
        parts.append(
            f'<path d="M{x:.1f} {middle - 9:.0f}V{middle + 9:.0f}" stroke="{theme.alarm}"'
            ' stroke-width="2"/>'
        )
    faint = theme.alarm if bar.blocked else theme.faint
    note = bar.note + (f" ({bar.attempts} attempts)" if bar.attempts > 1 else "")
    x = _EDGE + _LABELS + _PLOT + 12
    parts.append(label(x, middle + 4, fitting(note, _NOTES - 14, _SMALL), fill=faint, size=_SMALL))
    return "".join(parts)


def _is_near(bar: Bar, chart: Chart, scale: Scale) -> bool:
    """Whether to draw the call's deadline: where it mattered, or still may."""
    if bar.limit is None or bar.started is None or bar.limit > scale.end * 1.001:
        return False
    close = bar.seconds(chart.now) >= (bar.limit - bar.started) / 2
    return close or bar.state == "running"


def _wait(wait: Wait, scale: Scale, theme: Theme, middle: float) -> str:
    width, dash = _WAITS[wait.kind]
    first, last = scale.x(wait.begins), scale.x(wait.ends)
    if last - first < 1:
        return ""
    colour = theme.line if wait.kind == "dependencies" else theme.faint
    return (
        f'<path d="M{first:.1f} {middle:.0f}H{last:.1f}" stroke="{colour}"'
        f' stroke-width="{width:g}" stroke-dasharray="{dash}"/>'
    )


def _block(
    bar: Bar, chart: Chart, scale: Scale, theme: Theme, *, middle: float, critical: bool
) -> str:
    """Return the bar itself, and its attempts where they are known."""
    look = theme.states[bar.state]
    assert bar.started is not None  # noqa: S101 - checked by the caller
    first = scale.x(bar.started)
    last = max(first + _LEAST, scale.x(bar.started + bar.seconds(chart.now)))
    top = middle - _BAR / 2
    parts: list[str] = []
    if critical:
        parts.append(
            f'<rect x="{first - 3:.1f}" y="{top - 3:.1f}" width="{last - first + 6:.1f}"'
            f' height="{_BAR + 6:.0f}" rx="4" fill="none" stroke="{theme.critical}"'
            ' stroke-width="1.6"/>'
        )
    spans = [(first, last, look)]
    if bar.tries:
        spans = [
            (
                scale.x(each.started),
                scale.x(chart.now if each.ended is None else each.ended),
                look if each.ok else theme.states["failed"],
            )
            for each in bar.tries
        ]
    for begin, end, how in spans:
        parts.append(
            f'<rect x="{begin:.1f}" y="{top:.1f}" width="{max(_LEAST, end - begin):.1f}"'
            f' height="{_BAR:.0f}" rx="2" {stroked(how)}/>'
        )
    return "".join(parts)


def _cluster(
    cluster: Cluster,
    chart: Chart,
    scale: Scale,
    theme: Theme,
    *,
    top: float,
) -> str:
    """Return how many of the calls ran at a time, as a hill."""
    counts = concurrency(cluster.bars, chart.now, scale.end, _COLUMNS)
    most = max(counts) or 1
    base, height = top + _CLUSTER - 8, _CLUSTER - 14
    step = _PLOT / _COLUMNS
    drawn = [f"M{scale.x(0):.0f} {base:.0f}"]
    level = 0
    for column, count in enumerate(counts):
        if count != level:
            x = scale.x(0) + column * step
            drawn.append(f"H{x:.0f}V{base - height * count / most:.1f}")
            level = count
    drawn.append(f"H{scale.x(0) + _PLOT:.0f}V{base:.0f}Z")
    look = theme.states["done"]
    text = _tally(cluster)
    x = _EDGE + _LABELS + _PLOT + 12
    return "".join(
        [
            label(
                _EDGE,
                top + _CLUSTER / 2 + 4,
                fitting(cluster.label, _LABELS - 12, _SIZE),
                fill=theme.ink,
                size=_SIZE,
            ),
            f'<path d="{"".join(drawn)}" fill="{look.fill}" stroke="{look.stroke}"/>',
            label(x, top + 16, fitting(text, _NOTES - 14, _SMALL), fill=theme.faint, size=_SMALL),
            label(x, top + 30, f"at most {most} at a time", fill=theme.faint, size=_SMALL),
        ]
    )


def _tally(cluster: Cluster) -> str:
    counts: dict[str, int] = {}
    for bar in cluster.bars:
        counts[bar.state] = counts.get(bar.state, 0) + 1
    return ", ".join(
        f"{GLYPHS[state]} {count} {state.replace('_', ' ')}" for state, count in counts.items()
    )


def _times(bar: Bar) -> str:
    parts = [bar.note] if bar.note else []
    parts += [
        f"{_WORDS[wait.kind]} {duration(wait.ends - wait.begins)}"
        for wait in bar.waits
        if wait.ends > wait.begins
    ]
    if bar.started is not None:
        parts.append(f"started at {duration(bar.started)}")
    if bar.attempts > 1:
        parts.append(f"{bar.attempts} attempts")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------- legend


def _legend(chart: Chart, theme: Theme, y: float) -> tuple[list[str], float]:
    """Return what the lines mean, of those that are drawn, and the height that it takes."""
    end = chart.end
    least = end / _PLOT
    used = {
        wait.kind for bar in chart.bars for wait in bar.waits if wait.ends - wait.begins >= least
    }
    items: list[tuple[str, str]] = []
    for kind, (width, dash) in _WAITS.items():
        if kind in used:
            colour = theme.line if kind == "dependencies" else theme.faint
            mark = (
                f'<path d="M0 0H26" stroke="{colour}" stroke-width="{width:g}"'
                f' stroke-dasharray="{dash}"/>'
            )
            items.append((mark, _WORDS[kind]))
    if chart.path:
        mark = (
            f'<rect x="0" y="-6" width="26" height="12" rx="4" fill="none"'
            f' stroke="{theme.critical}" stroke-width="1.6"/>'
        )
        items.append((mark, "critical path"))
        if any(link.via == "slot" for link in chart.path):
            mark = (
                f'<path d="M0 0H26" stroke="{theme.critical}" stroke-width="1.4"'
                ' stroke-dasharray="4 3"/>'
            )
            items.append((mark, "gave its slot to"))
    if any(_is_near(bar, chart, Scale(end)) for bar in chart.rows()[0]):
        mark = f'<path d="M13 -8V8" stroke="{theme.alarm}" stroke-width="2"/>'
        items.append((mark, "deadline of the call"))
    parts: list[str] = []
    x = _EDGE
    for mark, text in items:
        parts.append(
            f'<g transform="translate({x:.0f} {y:.0f})">{mark}'
            f'<text x="32" y="4" font-size="{_SMALL:g}" fill="{theme.faint}">{safe(text)}</text>'
            "</g>"
        )
        x += 50 + len(text) * 6.3
    return parts, 24.0 if items else 8.0
