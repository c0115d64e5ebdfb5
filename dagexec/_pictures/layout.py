"""Where the nodes of a layered graph stand, so that edges are short and cross little.

Longest-path layers come in; long edges get a place in each layer that they pass; two barycentre
sweeps order the layers (Sugiyama, Tagawa, Toda 1981); then each layer is moved towards its
neighbours, by least squares under the order and the gaps (the pool-adjacent-violators algorithm).
The same graph always gets the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

GAP: Final = 14.0
_BEND: Final = 6.0  # the room that a passing edge takes
_SWEEPS: Final = 4
_MOST_BENDS: Final = 600  # beyond, long edges run straight: too many to follow anyway


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """The middle of each node across its layer, the way of each edge, and the extent.

    A way is a list of (layer, position); the first and the last are its nodes'.
    """

    places: list[float]
    ways: list[list[tuple[int, float]]]
    extent: float


@final
class _Item:
    """A node, or the bend of a long edge, in a layer."""

    __slots__ = ("after", "at", "before", "index", "rank", "size")

    def __init__(self, index: int, size: float) -> None:
        self.index = index
        self.size = size
        self.at = 0.0
        self.rank = 0.0
        self.before: list[_Item] = []
        self.after: list[_Item] = []


def arrange(
    layers: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]], sizes: Sequence[float]
) -> Layout:
    """Place nodes, given by number: `layers` holds each once, `sizes` their extent in pixels."""
    layer_of = {node: depth for depth, layer in enumerate(layers) for node in layer}
    items = {node: _Item(node, sizes[node]) for layer in layers for node in layer}
    columns = [[items[node] for node in layer] for layer in layers]
    bends = _bend(edges, layer_of, items, columns)
    _order(columns)
    extent = _place(columns)
    ways: list[list[tuple[int, float]]] = []
    for source, target in edges:
        through = bends.get((source, target), [])
        ways.append(
            [
                (layer_of[source], items[source].at),
                *((layer_of[source] + 1 + n, bend.at) for n, bend in enumerate(through)),
                (layer_of[target], items[target].at),
            ]
        )
    places = [items[node].at for node in range(len(items))]
    return Layout(places, ways, extent)


def _bend(
    edges: Sequence[tuple[int, int]],
    layer_of: dict[int, int],
    items: dict[int, _Item],
    columns: list[list[_Item]],
) -> dict[tuple[int, int], list[_Item]]:
    """Connect the items; edges of one source share their bends, as a bundle."""
    room = sum(max(0, layer_of[b] - layer_of[a] - 1) for a, b in edges) <= _MOST_BENDS
    shared: dict[tuple[int, int], _Item] = {}
    bends: dict[tuple[int, int], list[_Item]] = {}
    for source, target in edges:
        first, last = layer_of[source], layer_of[target]
        if last <= first or (last > first + 1 and not room):
            continue
        before, through = items[source], bends.setdefault((source, target), [])
        for depth in range(first + 1, last):
            bend = shared.get((source, depth))
            if bend is None:
                bend = shared[source, depth] = _Item(-1, _BEND)
                columns[depth].append(bend)
                _connect(before, bend)
            before = bend
            through.append(bend)
        _connect(before, items[target])
    return bends


def _connect(before: _Item, after: _Item) -> None:
    before.after.append(after)
    after.before.append(before)


def _order(columns: list[list[_Item]]) -> None:
    """Sort each layer by where its neighbours stand: first by those before, then by those after."""
    for column in columns:
        _rank(column)
    for column in columns[1:]:
        column.sort(key=lambda item: _mean([each.rank for each in item.before], item.rank))
        _rank(column)
    for column in reversed(columns[:-1]):
        column.sort(key=lambda item: _mean([each.rank for each in item.after], item.rank))
        _rank(column)


def _rank(column: list[_Item]) -> None:
    # As a share of the layer: a layer of two and one of twenty have the same middle.
    for position, item in enumerate(column):
        item.rank = (position + 0.5) / len(column)


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _place(columns: list[list[_Item]]) -> float:
    """Give each item its position; return the extent of them all."""
    for column in columns:
        _settle(column, [0.0] * len(column))
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns[1:] if forward else reversed(columns[:-1]):
            wanted = [
                _mean([each.at for each in (item.before if forward else item.after)], item.at)
                for item in column
            ]
            _settle(column, wanted)
    items = [item for column in columns for item in column]
    low = min((item.at - item.size / 2 for item in items), default=0.0)
    for item in items:
        item.at -= low
    return max((item.at + item.size / 2 for item in items), default=0.0)


def _settle(column: list[_Item], wanted: list[float]) -> None:
    """Move a layer as near to the wanted positions as its order and its gaps allow."""
    offsets: list[float] = []
    offset = 0.0
    for position, item in enumerate(column):
        if position:
            offset += column[position - 1].size / 2 + GAP + item.size / 2
        offsets.append(offset)
    # Blocks of items that touch: the sum of what they want, and how many they are.
    blocks: list[tuple[float, int]] = []
    for position, at in enumerate(wanted):
        total, count = at - offsets[position], 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            before = blocks.pop()
            total, count = total + before[0], count + before[1]
        blocks.append((total, count))
    starts = [total / count for total, count in blocks for _ in range(count)]
    for item, start, more in zip(column, starts, offsets, strict=True):
        item.at = start + more
