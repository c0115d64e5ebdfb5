"""Both pictures of a run on one card: what a notebook shows."""

from __future__ import annotations

from typing import Final

from dagexec._pictures import graph_svg, timeline_svg
from dagexec._pictures.chart import Chart
from dagexec._pictures.graph import Graph
from dagexec._pictures.svg import card, label, safe, theme_of

_HEAD: Final = 30.0


def draw(graph: Graph, chart: Chart, *, theme: str = "light") -> str:
    """Return one SVG: a line of counts, the graph, the timeline below."""
    colours = theme_of(theme)
    drawn, (wide, high) = graph_svg.body(graph, colours)
    parts = [
        label(12, 22, graph.caption, fill=colours.ink, size=13, bold=True),
        f'<g transform="translate(0 {_HEAD:.0f})">{"".join(drawn)}</g>',
    ]
    height = _HEAD + high
    width = max(wide, 12 + len(safe(graph.caption)) * 9)
    if chart.bars:
        bars, (more, tall) = timeline_svg.body(chart, colours)
        parts.append(f'<g transform="translate(0 {height:.0f})">{"".join(bars)}</g>')
        width, height = max(width, more), height + tall
    desc = f"{graph.spoken()} {chart.spoken()}"
    return card(parts, (width, height), colours, title=f"Run: {graph.caption}", desc=desc)
