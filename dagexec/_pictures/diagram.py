"""The picture of a graph of calls: as text, mermaid, SVG, JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from dagexec._pictures.fold import MOST, Folded, Group
from dagexec._pictures.fold import fold as folded
from dagexec._pictures.glyphs import GLYPHS, json_text, mermaid_text, printable
from dagexec._pictures.graph import Graph
from dagexec._pictures.mime import ShowsItself

if TYPE_CHECKING:
    from dagexec._pictures.svg import ThemeName

# Beyond these mermaid draws an error instead (its maxEdges and maxTextSize).
_MERMAID_EDGES: Final = 500
_MERMAID_TEXT: Final = 50_000


@final
@dataclass(frozen=True, slots=True)
class Diagram(ShowsItself, Graph):
    """A graph of calls, by layers; in a notebook it shows itself, `str()` draws it as text.

    More than 60 calls are folded: what failed, waits or runs and the critical path stay single,
    what is alike becomes one node. `to_dict` has always every call.

    `path` is the critical path; `caption` one line on the whole.
    """

    def __str__(self) -> str:
        """Return one line a call: its layer, state, id, tool, what it waits for, how it went."""
        return self.to_text()

    def to_text(self, *, fold: bool = True) -> str:
        """Return the picture as text; `fold=False` gives every call a line, however many."""
        if not self.nodes:
            return "(no calls)"
        if fold and len(self.nodes) > MOST:
            return _folded_text(folded(self))
        before: dict[str, list[str]] = {}
        for source, target in self.edges:
            before.setdefault(target, []).append(source)
        nodes = {node.id: node for node in self.nodes}
        rows = [
            (
                depth,
                nodes[name].state,
                f"{name} {nodes[name].tool}",
                ", ".join(before.get(name, ())),
                nodes[name].note,
            )
            for depth, layer in enumerate(self.layers, 1)
            for name in layer
        ]
        return _text(rows)

    def to_mermaid(self) -> str:
        """Return a mermaid flowchart; ids and labels of any content are escaped.

        It is folded where mermaid would refuse to draw it: beyond 500 edges or 50 000 characters.
        """
        names = {node.id: f"c{index}" for index, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes:
            glyph = "" if node.state == "plan" else GLYPHS[node.state] + " "
            text = f"{glyph}{node.id}: {node.tool}" + (f" {node.note}" if node.note else "")
            lines.append(f'    {names[node.id]}["{mermaid_text(text)}"]')
        lines.extend(f"    {names[source]} --> {names[target]}" for source, target in self.edges)
        drawn = "\n".join(lines)
        if len(self.edges) < _MERMAID_EDGES and len(drawn) < _MERMAID_TEXT:
            return drawn
        return _folded_mermaid(folded(self))

    def to_svg(self, *, theme: ThemeName = "light", interactive: bool = False) -> str:
        """Return the picture as SVG: on a card of its own, readable on any page, with a text.

        `theme` is "light" or "dark"; "page" takes the colours from CSS variables. With
        `interactive` each node can be reached by keyboard and has its calls as a JSON list in
        `data-calls`.
        Raises ValueError for another theme.
        """
        from dagexec._pictures import graph_svg, svg

        return svg.picture(
            lambda colours: graph_svg.body(self, colours, interactive=interactive),
            title=f"Graph of {len(self.nodes)} calls",
            spoken=self.spoken(),
            theme=theme,
            interactive=interactive,
        )

    def _forms(self) -> tuple[Callable[..., str], Callable[[], str]]:
        return self.to_svg, self.to_text

    def to_dict(self) -> dict[str, Any]:
        """Return nodes, edges, layers and the critical path for JSON."""
        return {
            "nodes": [
                {"id": node.id, "tool": node.tool, "state": node.state, "note": node.note}
                for node in self.nodes
            ],
            "edges": [list(edge) for edge in self.edges],
            "layers": [list(layer) for layer in self.layers],
            "critical_path": list(self.path),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text."""
        return json_text(self.to_dict(), indent)


def _text(rows: list[tuple[int, str, str, str, str]]) -> str:
    """Return rows of layer, state, label, sources and note, aligned."""
    width = max(len(printable(row[2])) for row in rows)
    lines: list[str] = []
    for depth, state, text, sources, note in rows:
        line = f"{depth:>3}  {GLYPHS[state]} {printable(text).ljust(width)}"
        line += f"  <- {printable(sources)}" if sources else ""
        lines.append((line + (f"  {printable(note)}" if note else "")).rstrip())
    return "\n".join(lines)


def _folded_text(small: Folded) -> str:
    before: dict[int, list[str]] = {}
    for source, target in small.edges:
        before.setdefault(target, []).append(_name(small.groups[source]))
    rows = [
        (
            group.depth + 1,
            group.state,
            _label(group),
            ", ".join(before.get(index, ())),
            group.nodes[0].note if group.single else "",
        )
        for layer in small.layers
        for index in layer
        for group in (small.groups[index],)
    ]
    return _text(rows)


def _folded_mermaid(small: Folded) -> str:
    lines = ["flowchart LR"]
    for index, group in enumerate(small.groups):
        glyph = "" if group.state == "plan" else GLYPHS[group.state] + " "
        lines.append(f'    g{index}["{mermaid_text(glyph + _label(group))}"]')
    for (source, target), count in small.edges.items():
        arrow = "-->" if count == 1 else f"-->|{count}|"
        lines.append(f"    g{source} {arrow} g{target}")
    return "\n".join(lines)


def _name(group: Group) -> str:
    """Return how other lines name a group."""
    first = group.nodes[0].id
    return first if group.single else f"{first} … {group.nodes[-1].id}"


def _label(group: Group) -> str:
    """Return a group's line: the call, or how many of what and in which states."""
    node = group.single
    if node is not None:
        return f"{node.id} {node.tool}"
    states = group.states
    tools = list(group.tools)
    what = tools[0] if len(tools) == 1 else f"{len(tools)} tools"
    text = f"{len(group.nodes)} × {what} ({_name(group)})"
    if len(states) > 1:
        text += ": " + ", ".join(f"{count} {state}" for state, count in states.items())
    return text
