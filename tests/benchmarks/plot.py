"""The picture of the table: what a call costs, and how close to the critical path a graph comes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dagexec._pictures.svg import THEMES, Theme, card, label, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    Cells = dict[str, float | str]

# The marks of the panels: workload, its short name, shape, whose colour.
COSTS = (
    ("fan-out of 1,000", "fan-out of 1,000", "circle", "running"),
    ("10 x 10 dense layers", "10 x 10 dense layers", "square", "timed_out"),
    ("chain of 200", "chain of 200", "diamond", "in_doubt"),
)
WAITING = (
    ("random graph of 30, 10 to 50 ms", "30 calls", "circle", "cancelled"),
    ("random graph of 300, 10 to 50 ms", "300 calls", "square", "done"),
)
WIDTH, NAMES, GAP, MARGIN = 880.0, 188.0, 34.0, 16.0
LEFT, RIGHT = 400.0, 226.0  # widths of the panels
TOP, ROW, SIZE = 86.0, 25.0, 5.0


def complete(body: dict[str, Any]) -> bool:
    """Whether all that is drawn was measured."""
    return {name for name, *_ in (*COSTS, *WAITING)} <= {row["name"] for row in body["table"]}


def write(body: dict[str, Any], folder: Path) -> None:
    """Draw both themes from a programme's results, as `--json` keeps them."""
    rows = {row["name"]: row["cells"] for row in body["table"]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, theme in (("bench.svg", "light"), ("bench-dark.svg", "dark")):
        text = draw(rows, body["machine"], THEMES[theme])
        (folder / name).write_text(text + "\n", encoding="utf-8")


def draw(rows: dict[str, Cells], machine: dict[str, Any], theme: Theme) -> str:
    """Return the picture; raises KeyError if a workload was not measured."""
    costs = [(rows[name], shape, state) for name, _, shape, state in COSTS]
    waits = [(rows[name], shape, state) for name, _, shape, state in WAITING]
    systems = [name for name in costs[0][0] if any(_number(row, name) for row, *_ in costs)]
    height = TOP + ROW * len(systems) + 82
    most = max(_number(row, name) for row, *_ in costs for name in systems)
    longest = max(_number(row, name) for row, *_ in waits for name in systems)
    bounds = math.log10(2), math.log10(most * 1.3)
    first, second = MARGIN + NAMES, MARGIN + NAMES + LEFT + GAP

    def logarithmic(value: float) -> float:
        return first + LEFT * (math.log10(value) - bounds[0]) / (bounds[1] - bounds[0])

    def linear(value: float) -> float:
        return second + RIGHT * (value - 0.95) / (longest * 1.04 - 0.95)

    title = "What running tool calls costs"
    quarters = [at / 4 for at in range(4, int(longest * 4.16) + 1)]
    parts = [
        label(MARGIN, 24, title, fill=theme.ink, size=14, bold=True),
        label(first, 48, "a call of a tool that does nothing, in microseconds", fill=theme.ink),
        label(second, 48, "a graph of waits / its longest path", fill=theme.ink),
        *_legend(first, 68, COSTS, theme),
        *_legend(second, 68, WAITING, theme),
        *_stripes(systems, theme),
        *_axis(_ticks(most), logarithmic, len(systems), theme),
        *_axis([(at, f"{at:g}") for at in quarters], linear, len(systems), theme),
    ]
    for at, name in enumerate(systems):
        y = TOP + ROW * (at + 0.5)
        bold = name.startswith("dagexec")
        parts.append(label(MARGIN, y + 4, name, fill=theme.ink, size=12, bold=bold))
        for panel, place in ((costs, logarithmic), (waits, linear)):
            for row, shape, state in panel:
                if value := _number(row, name):
                    parts.append(_mark(shape, place(value), y, theme.states[state].stroke))
    parts += _notes(machine, height, theme)
    fan_out = COSTS[0][0]
    said = [f"{name} {_number(rows[fan_out], name):.1f} us" for name in systems]
    desc = f"{fan_out}, a call: {'; '.join(said)}."
    return card(parts, (WIDTH, height), theme, title=title, desc=desc)


def _number(row: Cells, name: str) -> float:
    """Return what was measured, 0 if it was not."""
    value = row.get(name, 0.0)
    return 0.0 if isinstance(value, str) else value


def _ticks(most: float) -> Iterator[tuple[float, str]]:
    """Yield 2, 3 ... 10, 20 ... up to the largest value, with a text at the powers of ten."""
    for exponent in range(6):
        for factor in range(1, 10):
            tick = factor * 10**exponent
            if 2 <= tick <= most * 1.3:
                yield tick, f"{tick:,}" if factor == 1 else ""


def _axis(
    ticks: Iterable[tuple[float, str]], place: Callable[[float], float], count: int, theme: Theme
) -> Iterator[str]:
    """Yield the lines and numbers of an axis."""
    bottom = TOP + ROW * count
    for value, text in ticks:
        x = place(value)
        yield (
            f'<path d="M{x:.1f} {TOP:.0f}V{bottom + 4:.0f}" stroke="{theme.frame}"'
            f' stroke-width="{1.4 if text else 0.6}"/>'
        )
        yield label(x, bottom + 18, text, fill=theme.faint, size=11, end="middle") if text else ""


def _stripes(systems: list[str], theme: Theme) -> Iterator[str]:
    """Yield a band behind dagexec's rows, and a line under every row."""
    for at, name in enumerate(systems):
        y = TOP + ROW * at
        if name.startswith("dagexec"):
            fill = theme.states["running"].fill
            yield (
                f'<rect x="{MARGIN - 6}" y="{y:.0f}" width="{WIDTH - 2 * MARGIN + 12:.0f}"'
                f' height="{ROW:.0f}" fill="{fill}" fill-opacity="0.55"/>'
            )


def _mark(shape: str, x: float, y: float, colour: str) -> str:
    """Return a mark: told apart by its shape as well as by its colour."""
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{SIZE}" fill="{colour}"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == "diamond" else ""
    side = SIZE * 1.7
    return (
        f'<rect x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}"'
        f' height="{side:.1f}" fill="{colour}"{turn}/>'
    )


def _legend(x: float, y: float, marks: Any, theme: Theme) -> Iterator[str]:
    for _, text, shape, state in marks:
        yield _mark(shape, x + SIZE, y - 4, theme.states[state].stroke)
        yield label(x + 15, y, text, fill=theme.faint, size=11)
        x += 30 + width_of(text, 11)


def _notes(machine: dict[str, Any], height: float, theme: Theme) -> Iterator[str]:
    python = machine["python"].split()[0]
    where = f"{machine['cpus']} x {machine['processor']}, Python {python}"
    notes = (
        "Only dagexec and anyio with a scope each give every call a deadline here.",
        "Systems without dependencies get one depth of a graph at a time.",
        f"Medians on {where}, {machine['date'][:10]}. To measure again: make bench",
    )
    for at, text in enumerate(notes):
        yield label(MARGIN, height - 44 + 16 * at, text, fill=theme.faint, size=11)
