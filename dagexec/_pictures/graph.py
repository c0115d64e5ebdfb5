"""A graph of calls as data: what is drawn as text, mermaid and SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from dagexec._pictures.glyphs import listed

_SPOKEN: Final = 6
_BAD: Final = ("failed", "timed_out", "in_doubt", "pending", "running")


@final
@dataclass(frozen=True, slots=True)
class Node:
    """A call in a picture: its id, its tool, its state, and a word on how it went.

    `blocked` marks one that blocked the event loop, whatever its state.
    """

    id: str
    tool: str
    state: str
    note: str = ""
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Calls, their edges and layers; `path` is the critical path, `caption` one line on all."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    layers: tuple[tuple[str, ...], ...]
    path: tuple[str, ...] = ()
    caption: str = ""

    def spoken(self) -> str:
        """Return what the picture shows, for readers who cannot see it."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[node.state] = counts.get(node.state, 0) + 1
        states = ", ".join(
            f"{count} {'planned' if state == 'plan' else state.replace('_', ' ')}"
            for state, count in counts.items()
        )
        parts = [self.caption or f"{len(self.nodes)} calls: {states}"]
        parts[0] += f"; {len(self.layers)} layers, {len(self.edges)} dependencies."
        bad = [node for node in self.nodes if node.blocked or node.state in _BAD]
        parts += [
            f"{node.id} {node.tool}: {node.state.replace('_', ' ')}, {node.note}."
            for node in bad[:_SPOKEN]
        ]
        if len(bad) > _SPOKEN:
            parts.append(f"{len(bad) - _SPOKEN} more like these.")
        if self.path:
            parts.append(f"Critical path: {listed(self.path)}.")
        return " ".join(parts)
