"""Large graphs folded: what matters stays a node of its own, what is alike becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from dagexec._pictures.graph import Graph, Node

# What can be read at a glance, and what fits a screen.
MOST: Final = 60
_ALONE: Final = 18
_DEPTHS: Final = 10
# What is kept by itself first: a person looks for these.
_RANKS: Final = ("failed", "timed_out", "in_doubt", "pending", "running", "cancelled")


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Calls that are drawn as one node; most often one call."""

    nodes: tuple[Node, ...]
    depth: int

    @property
    def single(self) -> Node | None:
        """The call, if it is only one."""
        return self.nodes[0] if len(self.nodes) == 1 else None

    @property
    def state(self) -> str:
        """The state of the calls; of several, the one to look at first."""
        states = self.states
        return next((state for state in (*_RANKS, *states) if state in states), "plan")

    @property
    def states(self) -> dict[str, int]:
        """How many calls are in which state."""
        return _counts(node.state for node in self.nodes)

    @property
    def tools(self) -> dict[str, int]:
        """How many calls are of which tool."""
        return _counts(node.tool for node in self.nodes)


@final
@dataclass(frozen=True, slots=True)
class Folded:
    """The groups in plan order, their layers, and the edges between them by number.

    `edges` counts the edges that each stands for.
    """

    groups: tuple[Group, ...]
    layers: tuple[tuple[int, ...], ...]
    edges: dict[tuple[int, int], int]
    group_of: dict[str, int]


def _counts(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def fold(graph: Graph, most: int = MOST) -> Folded:
    """Return a graph with at most about `most` nodes; one that has no more is left as it is."""
    depths = {name: depth for depth, layer in enumerate(graph.layers) for name in layer}
    nodes = graph.nodes
    if len(nodes) <= most:
        return _folded(graph, [((node.id,), depths[node.id]) for node in nodes])
    many = len(graph.layers)
    scale = max(1, -(-many // _DEPTHS))
    depth_of = {name: depth // scale for name, depth in depths.items()}
    alone = _alone(graph)
    keys: Sequence[Callable[[Node], tuple[str, ...]]] = (
        lambda node: (node.tool, node.state),
        lambda node: (node.state,),
        lambda _: (),
    )
    members: dict[tuple[object, ...], list[str]] = {}
    for key in keys:
        members = {}
        for node in nodes:
            own = ("alone", node.id) if node.id in alone else key(node)
            members.setdefault((depth_of[node.id], *own), []).append(node.id)
        if len(members) <= most:
            break
    return _folded(graph, [(tuple(ids), depth_of[ids[0]]) for ids in members.values()])


def _alone(graph: Graph) -> dict[str, None]:
    """Return the calls that keep a node of their own."""
    kept: dict[str, None] = {}
    share = _ALONE // 2
    blocked = [node.id for node in graph.nodes if node.blocked]
    kept.update(dict.fromkeys(blocked[: share // 2]))
    for state in _RANKS:
        found = [node.id for node in graph.nodes if node.state == state]
        kept.update(dict.fromkeys(found[: max(0, share - len(kept))]))
    if len(graph.path) <= _ALONE - share:
        kept.update(dict.fromkeys(graph.path))
    return kept


def _folded(graph: Graph, parts: list[tuple[tuple[str, ...], int]]) -> Folded:
    nodes = {node.id: node for node in graph.nodes}
    groups = tuple(Group(tuple(nodes[name] for name in ids), depth) for ids, depth in parts)
    group_of = {name: index for index, (ids, _) in enumerate(parts) for name in ids}
    edges: dict[tuple[int, int], int] = {}
    for source, target in graph.edges:
        pair = (group_of[source], group_of[target])
        if pair[0] != pair[1]:
            edges[pair] = edges.get(pair, 0) + 1
    layers: list[list[int]] = [[] for _ in range(max((d for _, d in parts), default=-1) + 1)]
    for index, (_, depth) in enumerate(parts):
        layers[depth].append(index)
    return Folded(groups, tuple(tuple(layer) for layer in layers if layer), edges, group_of)
