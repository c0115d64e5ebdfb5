"""Figures with their goals, rows of the table, and what both depend on."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count, getloadavg
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Measure = Callable[[], Awaitable[float]]

LIBRARIES = (
    *("dagexec", "anyio", "trio", "pydantic", "networkx"),
    *("langgraph", "langgraph-prebuilt", "langgraph-checkpoint-sqlite"),
    *("pydantic-ai-slim", "openai-agents", "dask"),
    *("pydantic-ai-harness", "pydantic-monty", "spec-ptc", "smolagents", "ez-ptc"),
)


@dataclass(frozen=True)
class Figure:
    """One measured figure. The goal is an upper bound, or a lower one where more is better."""

    name: str
    value: float
    unit: str = "x"
    goal: float | None = None
    more: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more else self.value <= self.goal

    def on(self, backend: str) -> Figure:
        """Return it with the name of its backend."""
        return replace(self, name=f"{self.name}, {backend}")

    def __str__(self) -> str:
        bound = "at least" if self.more else "at most"
        goal = "" if self.goal is None else f"  {bound} {self.goal:g}"
        missed = "  MISSED" if self.met is False else ""
        return f"{self.name:<66}{self.value:>10.3f} {self.unit:<4}{goal}{missed}"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "goal": self.goal,
            "bound": None if self.goal is None else "at least" if self.more else "at most",
            "met": self.met,
        }


@dataclass(frozen=True)
class Choice:
    """What is asked for: parts with one of these texts in their names; `quick` leaves slow ones."""

    only: tuple[str, ...] = ()
    quick: bool = False

    def __call__(self, name: str, *, slow: bool = False) -> bool:
        """Whether to measure a part."""
        if self.quick and slow:
            return False
        return not self.only or any(text in name for text in self.only)


@dataclass(frozen=True)
class Row:
    """One workload: by system what was measured, or why it was not."""

    name: str
    unit: str
    cells: dict[str, float | str]


async def medians(repeats: int, *measures: Measure) -> list[float]:
    """Return the median of each; they take turns, so that a slow moment of the machine hits all."""
    taken: list[list[float]] = [[] for _ in measures]
    for measure in measures:
        await measure()  # warms up
    for _ in range(repeats):
        for measure, times in zip(measures, taken, strict=True):
            gc.collect()
            times.append(await measure())
    return [median(times) for times in taken]


def machine() -> dict[str, Any]:
    """Return what a figure depends on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": sys.version,
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": cpu_count(),
        "load": getloadavg(),  # of the last 1, 5 and 15 minutes, as the measuring begins
        "libraries": {name: _installed(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def columns(head: Sequence[str], body: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table that can be read as text too."""
    rows = [list(head), *map(list, body)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for at, (first, *rest) in enumerate(rows):
        cells = [first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]
        yield f"| {' | '.join(cells)} |"
        if not at:
            rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            yield f"| {' | '.join(rules)} |"


def tables(rows: Sequence[Row], width: int = 5) -> Iterator[str]:
    """Yield the lines of workloads times systems, and below them why a cell is empty."""
    reasons: dict[str, int] = {}

    def cell(value: float | str) -> str:
        if isinstance(value, str):
            return f"({reasons.setdefault(value, len(reasons) + 1)})" if value else ""
        return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"

    for first in range(0, len(rows), width):
        part = rows[first : first + width]
        yield from columns(
            ("", *(f"{row.name} ({row.unit})" for row in part)),
            [
                (system, *(cell(row.cells.get(system, "")) for row in part))
                for system in dict.fromkeys(name for row in rows for name in row.cells)
            ],
        )
        yield ""
    for reason, number in reasons.items():
        yield f"({number}) {reason}"
