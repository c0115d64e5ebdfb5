"""The picture of a graph of calls: as text, as mermaid, as JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, final

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
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


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
    """A graph of calls, by layers; `str()` draws it as text."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    layers: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """Return one line a call: its layer, state, id, tool, what it waits for, how it went."""
        before: dict[str, list[str]] = {}
        for source, target in self.edges:
            before.setdefault(target, []).append(source)
        nodes = {node.id: node for node in self.nodes}
        width = max((len(printable(f"{node.id} {node.tool}")) for node in self.nodes), default=0)
        lines: list[str] = []
        for depth, layer in enumerate(self.layers, 1):
            for name in layer:
                node = nodes[name]
                label = printable(f"{node.id} {node.tool}").ljust(width)
                sources = printable(", ".join(before.get(name, ())))
                line = f"{depth:>3}  {GLYPHS[node.state]} {label}"
                line += f"  <- {sources}" if sources else ""
                lines.append((line + (f"  {node.note}" if node.note else "")).rstrip())
        return "\n".join(lines) if lines else "(no calls)"

    def to_mermaid(self) -> str:
        """Return a mermaid flowchart; ids and labels of any content are escaped."""
        names = {node.id: f"c{index}" for index, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes:
            glyph = "" if node.state == "plan" else GLYPHS[node.state] + " "
            label = f"{glyph}{node.id}: {node.tool}" + (f" {node.note}" if node.note else "")
            lines.append(f'    {names[node.id]}["{_mermaid_text(label)}"]')
        lines.extend(f"    {names[source]} --> {names[target]}" for source, target in self.edges)
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return nodes, edges and layers for JSON."""
        return {
            "nodes": [
                {"id": node.id, "tool": node.tool, "state": node.state, "note": node.note}
                for node in self.nodes
            ],
            "edges": [list(edge) for edge in self.edges],
            "layers": [list(layer) for layer in self.layers],
        }


def printable(text: str) -> str:
    """Return text without what would move a terminal's cursor or turn its direction."""
    return _CONTROL.sub("�", text)


def _mermaid_text(text: str) -> str:
    # Mermaid reads entities written with #; every character that it could take for syntax is one.
    return "".join(
        character if character.isalnum() or character in " _-:,." else f"#{ord(character)};"
        for character in printable(text)
    )
