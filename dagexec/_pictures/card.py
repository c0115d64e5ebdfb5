"""Both pictures of a run on one card: what a notebook shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dagexec._pictures import graph_svg, timeline_svg
from dagexec._pictures.diagram import GLYPHS
from dagexec._pictures.svg import card, label, safe, theme_of

if TYPE_CHECKING:
    from dagexec._pictures.diagram import Diagram
    from dagexec._pictures.timeline import Timeline

_HEAD: Final = 30.0


def draw(diagram: Diagram, timeline: Timeline, *, theme: str = "light") -> str:
    """Return one SVG: a line of counts, the graph, the timeline below."""
    colours = theme_of(theme)
    graph, (wide, high) = graph_svg.body(diagram, GLYPHS, colours)
    parts = [
        label(12, 22, diagram.caption, fill=colours.ink, size=13, bold=True),
        f'<g transform="translate(0 {_HEAD:.0f})">{"".join(graph)}</g>',
    ]
    height = _HEAD + high
    width = max(wide, 12 + len(safe(diagram.caption)) * 9)
    if timeline.bars:
        bars, (more, tall) = timeline_svg.body(timeline, GLYPHS, colours)
        parts.append(f'<g transform="translate(0 {height:.0f})">{"".join(bars)}</g>')
        width, height = max(width, more), height + tall
    desc = f"{diagram.spoken()} {timeline.spoken()}"
    return card(parts, (width, height), colours, title=f"Run: {diagram.caption}", desc=desc)
