"""The picture of a graph of calls: as text, mermaid, SVG, JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from dagexec._pictures.fold import Folded, Group
    from dagexec._pictures.svg import ThemeName

# By glyph and not by colour alone; each of these is in the fonts that terminals come with.
GLYPHS: Final = {
    "plan": "·",
    "waiting": "·",
    "ready": "○",
    "running": "▶",
    "done": "✓",
    "failed": "✗",
    "timed_out": "!",
    "skipped": "-",
    "cancelled": "⊘",
    "pending": "?",
    "in_doubt": "‽",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Beyond these mermaid draws an error instead (its maxEdges and maxTextSize).
_MERMAID_EDGES: Final = 500
_MERMAID_TEXT: Final = 50_000
_SPOKEN: Final = 6
_BAD: Final = ("failed", "timed_out", "in_doubt", "pending", "running")


@final
@dataclass(frozen=True, slots=True)
class Node:
    """A call in a picture: its id, its tool, its state, and a word on how it went."""

    id: str
    tool: str
    state: str
    note: str = ""


@final
@dataclass(frozen=True, slots=True)
class Diagram:
    """A graph of calls, by layers; in a notebook it shows itself, `str()` draws it as text.

    More than 60 calls are folded: what failed, waits or runs and the critical path stay single,
    what is alike becomes one node. `to_dict` has always every call.

    `path` is the critical path; `caption` one line on the whole.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    layers: tuple[tuple[str, ...], ...]
    path: tuple[str, ...] = ()
    caption: str = ""

    def __str__(self) -> str:
        """Return one line a call: its layer, state, id, tool, what it waits for, how it went."""
        return self.to_text()

    def to_text(self, *, fold: bool = True) -> str:
        """Return the picture as text; `fold=False` gives every call a line, however many."""
        if not self.nodes:
            return "(no calls)"
        from dagexec._pictures.fold import MOST
        from dagexec._pictures.fold import fold as folded_by

        if fold and len(self.nodes) > MOST:
            return _folded_text(folded_by(self))
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
        from dagexec._pictures.fold import fold

        return _folded_mermaid(fold(self))

    def to_svg(self, *, theme: ThemeName = "light", interactive: bool = False) -> str:
        """Return the picture as SVG: on a card of its own, readable on any page, with a text.

        `theme` is "light" or "dark"; "page" takes the colours from CSS variables. With
        `interactive` each node can be reached by keyboard and has its calls as a JSON list in
        `data-calls`.
        Raises ValueError for another theme.
        """
        from dagexec._pictures.graph_svg import draw

        return draw(self, GLYPHS, theme=theme, interactive=interactive)

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
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def spoken(self) -> str:
        """Return what the picture shows, for who cannot see it."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[node.state] = counts.get(node.state, 0) + 1
        states = ", ".join(
            f"{count} {'planned' if state == 'plan' else state.replace('_', ' ')}"
            for state, count in counts.items()
        )
        parts = [self.caption or f"{len(self.nodes)} calls: {states}"]
        parts[0] += f"; {len(self.layers)} layers, {len(self.edges)} dependencies."
        bad = [node for node in self.nodes if node.state in _BAD]
        parts += [
            f"{node.id} {node.tool}: {node.state.replace('_', ' ')}, {node.note}."
            for node in bad[:_SPOKEN]
        ]
        if len(bad) > _SPOKEN:
            parts.append(f"{len(bad) - _SPOKEN} more like these.")
        if self.path:
            parts.append(f"Critical path: {listed(self.path)}.")
        return " ".join(parts)

    def _repr_svg_(self) -> str:
        """Show itself in a notebook."""
        return self.to_svg()

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Show itself in a notebook, as picture and as text."""
        return bundle(self._repr_svg_, self.to_text, include, exclude)


def bundle(
    svg: Callable[[], str],
    text: Callable[[], str],
    include: Container[str] | None = None,
    exclude: Container[str] | None = None,
) -> dict[str, str]:
    """Return the forms in which a notebook may show something; only those it asks for are made."""
    forms = {"image/svg+xml": svg, "text/plain": text}
    return {
        kind: make()
        for kind, make in forms.items()
        if (include is None or kind in include) and (exclude is None or kind not in exclude)
    }


def listed(names: tuple[str, ...], most: int = 2 * _SPOKEN) -> str:
    """Return a path as text; of a long one the beginning and the end."""
    if len(names) > most:
        half = most // 2
        names = (*names[:half], f"… {len(names) - 2 * half} more …", *names[-half:])
    return " -> ".join(names)


def printable(text: str) -> str:
    """Return text without what would move a terminal's cursor or turn its direction."""
    return _CONTROL.sub("�", text)


def mermaid_text(text: str, kept: str = " _-:,.") -> str:
    """Return text in which mermaid takes nothing for syntax: its entities are written with #."""
    return "".join(
        character if character.isalnum() or character in kept else f"#{ord(character)};"
        for character in printable(text)
    )


def _text(rows: list[tuple[int, str, str, str, str]]) -> str:
    """Return rows of layer, state, label, sources and note, aligned."""
    width = max(len(printable(row[2])) for row in rows)
    lines: list[str] = []
    for depth, state, text, sources, note in rows:
        line = f"{depth:>3}  {GLYPHS[state]} {printable(text).ljust(width)}"
        line += f"  <- {printable(sources)}" if sources else ""
        lines.append((line + (f"  {printable(note)}" if note else "")).rstrip())
    return "\n".join(lines)


def _folded_text(folded: Folded) -> str:
    before: dict[int, list[str]] = {}
    for source, target in folded.edges:
        before.setdefault(target, []).append(_name(folded.groups[source]))
    rows = [
        (
            group.depth + 1,
            group.state,
            _label(group),
            ", ".join(before.get(index, ())),
            group.nodes[0].note if group.single else "",
        )
        for layer in folded.layers
        for index in layer
        for group in (folded.groups[index],)
    ]
    return _text(rows)


def _folded_mermaid(folded: Folded) -> str:
    lines = ["flowchart LR"]
    for index, group in enumerate(folded.groups):
        glyph = "" if group.state == "plan" else GLYPHS[group.state] + " "
        lines.append(f'    g{index}["{mermaid_text(glyph + _label(group))}"]')
    for (source, target), count in folded.edges.items():
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
