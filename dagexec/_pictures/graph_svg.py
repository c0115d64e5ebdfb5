"""The graph of a plan or a run, drawn as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from dagexec._pictures.fold import Folded, Group, fold
from dagexec._pictures.glyphs import GLYPHS
from dagexec._pictures.graph import Graph
from dagexec._pictures.layout import GAP, Layout, arrange
from dagexec._pictures.svg import ROOM, Theme, clickable, fitting, label, stroked, width_of

_EDGE: Final = 12.0  # margin of the card
_HEIGHT: Final = 42.0
_NARROW, _WIDE = 96.0, 200.0
_BETWEEN: Final = 46.0  # between two layers
_BETWEEN_ROWS: Final = 34.0
_SIZE, _SMALL = 12.0, 10.5
_SHOWN: Final = 3
_ALL_IN_ORDER: Final = frozenset({"plan", "done", "waiting"})


@final
@dataclass(frozen=True, slots=True)
class Box:
    """A node on the card, in pixels."""

    x: float
    y: float
    width: float
    height: float


def body(
    graph: Graph, theme: Theme, *, interactive: bool = False
) -> tuple[list[str], tuple[float, float]]:
    """Return the parts of the picture and its size, for a card."""
    if not graph.nodes:
        return [label(_EDGE, 26, "no calls", fill=theme.faint)], (200, 42)
    folded = fold(graph)
    down = _goes_down(folded)
    widths = [_width(group) for group in folded.groups]
    if down:
        widths = [max(widths)] * len(widths)
    sizes = widths if down else [_HEIGHT] * len(widths)
    edges = list(folded.edges)
    layout = arrange(folded.layers, edges, sizes)
    boxes = _boxes(folded, layout, widths, down=down)
    if len(folded.layers) == 1:
        boxes = _grid(widths)
    path = _path_of(graph, folded)
    parts = _edges(folded, layout, boxes, theme, path, down=down)
    for index, group in enumerate(folded.groups):
        drawn = _node(group, boxes[index], theme, critical=index in path)
        parts.append(
            clickable(
                [node.id for node in group.nodes], _spoken(group), drawn, interactive=interactive
            )
        )
    width = max(box.x + box.width for box in boxes) + _EDGE
    height = max(box.y + box.height for box in boxes) + _EDGE
    # Across the layers also the edges that pass beside the nodes need room.
    across = layout.extent + 2 * _EDGE if len(folded.layers) > 1 else 0.0
    width, height = (max(width, across), height) if down else (width, max(height, across))
    return parts, (max(width, 120), height)


def _goes_down(folded: Folded) -> bool:
    """Whether layers stand below one another: when side by side they would not fit."""
    across = len(folded.layers) * (_WIDE + _BETWEEN)
    downwards = max(len(layer) for layer in folded.layers) * (_WIDE + 14)
    return across > ROOM * 1.1 and downwards < across


def _width(group: Group) -> float:
    first, second = _lines(group)
    wanted = max(width_of(first, _SIZE) + 6, width_of(second, _SMALL)) + 20
    return min(_WIDE, max(_NARROW, wanted))


def _lines(group: Group) -> tuple[str, str]:
    """Return the two lines of a node's text."""
    glyph = "" if group.state == "plan" else f"{GLYPHS[group.state]} "
    node = group.single
    if node is not None:
        return f"{glyph}{node.id} {node.tool}", node.note
    tools = list(group.tools)
    what = tools[0] if len(tools) == 1 else f"{len(tools)} tools"
    states = group.states
    if len(states) > 1:
        tally = "  ".join(f"{count} {GLYPHS[state]}" for state, count in states.items())
        return f"{len(group.nodes)} × {what}", tally
    ids = [each.id for each in group.nodes]
    return f"{glyph}{len(ids)} × {what}", f"{ids[0]} … {ids[-1]}"


def _spoken(group: Group) -> str:
    """Return the full text of a node, for a tooltip and for a screen reader."""
    node = group.single
    if node is not None:
        return f"{node.id} {node.tool}: {node.state.replace('_', ' ')}. {node.note}".strip()
    states = ", ".join(f"{count} {state}" for state, count in group.states.items())
    tools = list(group.tools)
    named = ", ".join(tools[:_SHOWN]) + (" …" if len(tools) > _SHOWN else "")
    return f"{len(group.nodes)} calls of {named}: {states}"


def _boxes(folded: Folded, layout: Layout, widths: list[float], *, down: bool) -> list[Box]:
    boxes = [Box(0, 0, 0, 0)] * len(widths)
    along = _EDGE
    for layer in folded.layers:
        thick = max(widths[index] for index in layer)
        for index in layer:
            middle = layout.places[index] + _EDGE
            width = widths[index]
            if down:
                boxes[index] = Box(middle - width / 2, along, width, _HEIGHT)
            else:
                boxes[index] = Box(along, middle - _HEIGHT / 2, thick, _HEIGHT)
        along += (_HEIGHT + _BETWEEN_ROWS) if down else (thick + _BETWEEN)
    return boxes


def _grid(widths: list[float]) -> list[Box]:
    """Return the places of calls that do not depend on one another: row by row."""
    width = max(widths)
    columns = max(1, int((ROOM - 2 * _EDGE + GAP) // (width + GAP)))
    return [
        Box(
            _EDGE + index % columns * (width + GAP),
            _EDGE + index // columns * (_HEIGHT + GAP),
            width,
            _HEIGHT,
        )
        for index in range(len(widths))
    ]


def _path_of(graph: Graph, folded: Folded) -> dict[int, None]:
    """Return the groups that hold a call of the critical path, in its order."""
    return dict.fromkeys(folded.group_of[name] for name in graph.path if name in folded.group_of)


def _node(group: Group, box: Box, theme: Theme, *, critical: bool) -> str:
    look = theme.states[group.state]
    at = f'x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="6"'
    parts: list[str] = []
    if group.single is None:
        # A second card behind it: this is a stack of calls.
        parts.append(
            f'<rect x="{box.x + 4:.0f}" y="{box.y + 4:.0f}" width="{box.width:.0f}"'
            f' height="{box.height:.0f}" rx="6" {stroked(look)}/>'
        )
    parts.append(f"<rect {at} {stroked(look)}/>")
    if critical:
        parts.append(
            f'<rect x="{box.x - 4:.0f}" y="{box.y - 4:.0f}" width="{box.width + 8:.0f}"'
            f' height="{box.height + 8:.0f}" rx="9" fill="none" stroke="{theme.critical}"'
            ' stroke-width="1.8"/>'
        )
    first, second = _lines(group)
    room = box.width - 18
    ink = theme.faint if group.state == "skipped" else theme.ink
    middle = box.y + (18 if second else 26)
    parts.append(
        label(
            box.x + 9,
            middle,
            fitting(first, room, _SIZE),
            fill=ink,
            bold=group.state not in _ALL_IN_ORDER,
        )
    )
    if second:
        faint = theme.alarm if any(node.blocked for node in group.nodes) else theme.faint
        text = fitting(second, room, _SMALL)
        parts.append(label(box.x + 9, box.y + 33, text, fill=faint, size=_SMALL))
    return "".join(parts)


def _edges(
    folded: Folded,
    layout: Layout,
    boxes: list[Box],
    theme: Theme,
    path: dict[int, None],
    *,
    down: bool,
) -> list[str]:
    """Return all edges as two paths: the common ones, and above them the critical ones."""
    along = _edge_of_layers(folded, boxes, down=down)
    steps = set(zip(list(path), list(path)[1:], strict=False))
    plain: list[str] = []
    thick: list[str] = []
    for pair, way in zip(folded.edges, layout.ways, strict=True):
        line = _curve(pair, way, boxes, along, down=down)
        (thick if pair in steps else plain).append(line)
    # Where the path goes on without an edge, a call got its slot from the one before.
    handed = [
        _sideways(boxes[pair[0]], boxes[pair[1]], down=down)
        for pair in steps
        if pair not in folded.edges and all(folded.groups[index].single for index in pair)
    ]
    parts: list[str] = []
    for lines, colour, width, dash in (
        (plain, theme.line, 1.2, ""),
        (thick, theme.critical, 2.6, ""),
        (handed, theme.critical, 2.0, ' stroke-dasharray="4 4"'),
    ):
        if lines:
            parts.append(
                f'<path d="{"".join(lines)}" fill="none" stroke="{colour}"'
                f' stroke-width="{width}" stroke-linecap="round"{dash}/>'
            )
    return parts


def _edge_of_layers(folded: Folded, boxes: list[Box], *, down: bool) -> list[tuple[float, float]]:
    """Return where each layer begins and ends, along the direction of the edges."""
    spans: list[tuple[float, float]] = []
    for layer in folded.layers:
        first = boxes[layer[0]]
        start = first.y if down else first.x
        spans.append((start, start + (first.height if down else first.width)))
    return spans


def _curve(
    pair: tuple[int, int],
    way: list[tuple[int, float]],
    boxes: list[Box],
    along: list[tuple[float, float]],
    *,
    down: bool,
) -> str:
    """Return the path of an edge, with an open arrowhead that needs no marker."""
    if way[-1][0] <= way[0][0]:
        return _sideways(boxes[pair[0]], boxes[pair[1]], down=down)
    # Points of the way: out of each layer, into the next; straight through those between.
    first_layer, cross = way[0]
    at = (along[first_layer][1], cross + _EDGE)
    drawn = [f"M{_xy(at, down=down)}"]
    for layer, cross in way[1:]:
        enter = (along[layer][0] - (2 if layer == way[-1][0] else 0), cross + _EDGE)
        half = (enter[0] - at[0]) / 2
        drawn.append(
            f"C{_xy((at[0] + half, at[1]), down=down)}"
            f" {_xy((enter[0] - half, enter[1]), down=down)} {_xy(enter, down=down)}"
        )
        at = enter
        if layer != way[-1][0]:
            at = (along[layer][1], cross + _EDGE)
            drawn.append(f"L{_xy(at, down=down)}")
    sides = [_xy((at[0] - 6, at[1] + side), down=down) for side in (-4, 4)]
    tip = _xy(at, down=down)
    return "".join([*drawn, f"M{sides[0]}L{tip}L{sides[1]}"])


def _sideways(source: Box, target: Box, *, down: bool) -> str:
    """Return an edge inside one folded layer: out at the end of one node, into the other's."""
    if down:
        x1, y1 = source.x + source.width / 2, source.y + source.height
        x2, y2 = target.x + target.width / 2, target.y + target.height
        return f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + 22:.0f} {x2:.0f} {y2 + 22:.0f} {x2:.0f} {y2:.0f}"
    x1, y1 = source.x + source.width, source.y + source.height / 2
    x2, y2 = target.x + target.width, target.y + target.height / 2
    return f"M{x1:.0f} {y1:.0f}C{x1 + 22:.0f} {y1:.0f} {x2 + 22:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"


def _xy(point: tuple[float, float], *, down: bool) -> str:
    x, y = (point[1], point[0]) if down else point
    return f"{x:.0f} {y:.0f}"
