"""README's picture: what running tool calls costs, in four short lists of bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagexec._pictures.svg import THEMES, Theme, card, label

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Cells = dict[str, float | str]

OURS = "dagexec, asyncio"
# Title, what the numbers are, the best that there can be, how they are written; rows by the name
# in the results, and by that which is shown.
PANELS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "random graph of 300, 10 to 50 ms",
        "Graph of 300 calls that wait: time over its critical path (1 is ideal)",
        (OURS, "asyncio.gather", "polling, 10 ms", "LangGraph ToolNode", "Pydantic AI"),
    ),
    (
        "programs: 2 unequal chains",
        "Program of a model, two chains of calls: time over its data flow (1 is ideal)",
        (OURS, "spec-ptc", "Pydantic AI CodeMode", "smolagents"),
    ),
    (
        "fan-out of 1,000",
        "1,000 calls that do nothing: microseconds a call",
        (OURS, "anyio, a scope each", "LangGraph ToolNode", "Pydantic AI", "OpenAI Agents"),
    ),
)
SHOWN = {
    OURS: "dagexec",
    "asyncio.gather": "asyncio.gather, by level",
    "polling, 10 ms": "polling, as LLMCompiler",
    "LangGraph ToolNode": "LangGraph ToolNode",
    "anyio, a scope each": "anyio, a deadline each",
}
WIDTH, NAMES, MARGIN = 720.0, 190.0, 18.0
TOP, ROW, HEAD, GAP = 52.0, 24.0, 26.0, 14.0
SPACE = WIDTH - NAMES - 2 * MARGIN - 60.0  # for bars, beside their numbers


def complete(body: dict[str, Any]) -> bool:
    """Whether all that is drawn was measured."""
    return {name for name, *_ in PANELS} <= _rows(body).keys()


def write(body: dict[str, Any], folder: Path) -> None:
    """Draw both themes from a programme's results, as `--json` keeps them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, theme in (("bench.svg", "light"), ("bench-dark.svg", "dark")):
        text = draw(_rows(body), body["machine"], THEMES[theme])
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _rows(body: dict[str, Any]) -> dict[str, Cells]:
    return {row["name"]: row["cells"] for row in (*body["table"], *body.get("programs", ()))}


def draw(rows: dict[str, Cells], machine: dict[str, Any], theme: Theme) -> str:
    """Return the picture; raises KeyError if a workload was not measured."""
    title = "What running tool calls costs: shorter is better"
    parts = [label(MARGIN, 28, title, fill=theme.ink, size=15, bold=True)]
    said: list[str] = []
    y = TOP
    for name, heading, systems in PANELS:
        cells = rows[name]
        values = {each: value for each in systems if (value := _number(cells, each))}
        parts.append(label(MARGIN, y + 14, heading, fill=theme.faint, size=12))
        y += HEAD
        parts += _bars(values, y, theme)
        y += ROW * len(values) + GAP
        spoken = "; ".join(f"{SHOWN.get(each, each)} {_text(v)}" for each, v in values.items())
        said.append(f"{heading}: {spoken}.")
    parts += _notes(machine, y + 8, theme)
    return card(parts, (WIDTH, y + 36), theme, title=title, desc=" ".join(said))


def _number(row: Cells, name: str) -> float:
    """Return what was measured, 0 if it was not."""
    value = row.get(name, 0.0)
    return 0.0 if isinstance(value, str) else value


def _text(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _bars(values: dict[str, float], top: float, theme: Theme) -> Iterator[str]:
    """Yield the bars of a list, with names and numbers; ours stands out."""
    longest = max(values.values())
    left = MARGIN + NAMES
    for at, (name, value) in enumerate(values.items()):
        y, ours = top + ROW * at, name == OURS
        wide = max(2.0, SPACE * value / longest)
        fill = theme.states["done"].stroke if ours else theme.faint
        opacity = 1 if ours else 0.45
        shown = SHOWN.get(name, name)
        yield label(MARGIN + 8, y + 16, shown, fill=theme.ink, size=13, bold=ours)
        yield (
            f'<rect x="{left:.0f}" y="{y + 4:.0f}" width="{wide:.1f}" height="{ROW - 8:.0f}"'
            f' rx="2" fill="{fill}" fill-opacity="{opacity}"/>'
        )
        text = _text(value)
        yield label(left + wide + 8, y + 16, text, fill=theme.ink, size=13, bold=ours)


def _notes(machine: dict[str, Any], y: float, theme: Theme) -> Iterator[str]:
    python = machine["python"].split()[0]
    where = f"{machine['cpus']} x {machine['processor']}, Python {python}"
    text = f"Medians on {where}, {machine['date'][:10]}. To measure again: make bench"
    yield label(MARGIN, y + 8, text, fill=theme.faint, size=11)
