"""Measure what dagexec adds to the work: `python -m tests.benchmarks [--json FILE]`.

Every ratio compares medians of runs that took turns in this process. The goals are those of the
design: "required" must hold, "later" is where it should get.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import subprocess
import sys
import tracemalloc
from dataclasses import asdict, dataclass
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from statistics import linear_regression, median
from typing import TYPE_CHECKING

import anyio

from tests.benchmarks import workloads as work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Measure = Callable[[], Awaitable[float]]

BACKENDS = ("asyncio", "trio")
LIBRARIES = ("anyio", "trio", "pydantic", "networkx")
IMPORT = "from time import perf_counter as t; a = t(); import dagexec; print(t() - a)"


@dataclass(frozen=True)
class Figure:
    """One measured figure; goals are upper bounds, None where there is none."""

    name: str
    backend: str
    value: float
    unit: str
    required: float | None = None
    later: float | None = None

    def __str__(self) -> str:
        required = "" if self.required is None else f"{self.required:g}"
        later = "" if self.later is None else f"{self.later:g}"
        missed = self.required is not None and self.value > self.required
        mark = "MISSED" if missed else ""
        return (
            f"{self.name:<58}{self.backend:<9}{self.value:>9.3f} {self.unit:<5}"
            f"{required:>9}{later:>7} {mark}"
        )


async def medians(repeats: int, *measures: Measure) -> list[float]:
    """Return the median of each; they take turns, so that a slow moment of the machine hits all."""
    taken: list[list[float]] = [[] for _ in measures]
    for measure in measures:
        await measure()
    for _ in range(repeats):
        for measure, times in zip(measures, taken, strict=True):
            gc.collect()
            times.append(await measure())
    return [median(times) for times in taken]


class Suite:
    """The figures of one backend."""

    def __init__(self, backend: str, repeats: int) -> None:
        self.backend = backend
        self.repeats = repeats
        self.figures: list[Figure] = []
        self.executor = work.executor()

    def note(
        self,
        name: str,
        value: float,
        unit: str = "x",
        required: float | None = None,
        later: float | None = None,
    ) -> None:
        """Keep a figure and show it."""
        figure = Figure(name, self.backend, value, unit, required, later)
        self.figures.append(figure)
        print(figure, flush=True)

    async def run(self) -> None:
        """Measure everything."""
        await self.fan_out()
        await self.chain()
        await self.one_call()
        await self.growth()
        await self.memory()
        await self.graphs()

    async def fan_out(self) -> None:
        """Measure calls without dependencies against one task and one scope for each."""
        for count in (1_000, 10_000):
            plan, adding = work.fan_out(count), work.adding(count)
            hand, ours, built, added = await medians(
                self.repeats,
                lambda count=count: work.fan_out_by_hand(count),
                lambda plan=plan: work.run(plan, self.executor),
                lambda count=count: work.run_built(lambda: work.fan_out(count), self.executor),
                lambda plan=adding: work.run(plan, self.executor),
            )
            what = f"fan-out of {count:,}"
            self.note(f"{what}: by hand, per call", hand / count * 1e6, "us")
            self.note(f"{what}: dagexec, per call", ours / count * 1e6, "us")
            self.note(f"{what}: dagexec / by hand", ours / hand, "x", 1.0, 0.7)
            self.note(f"{what}, the plan built too / by hand", built / hand)
            self.note(f"{what}, an argument each / by hand", added / hand)

    async def chain(self, count: int = 200) -> None:
        """Measure a chain against a task group for each link, and against a fan-out's task."""
        plan, passing = work.chain(count), work.passing(count)
        hand, task, ours, passed = await medians(
            self.repeats * 3,
            lambda: work.chain_by_hand(count),
            lambda: work.fan_out_by_hand(1_000),
            lambda: work.run(plan, self.executor),
            lambda: work.run(passing, self.executor),
        )
        task = task / 1_000 * count
        self.note(f"chain of {count}: a group for each link, per link", hand / count * 1e6, "us")
        self.note(f"chain of {count}: dagexec, per link", ours / count * 1e6, "us")
        self.note(f"chain of {count}: dagexec / a group for each link", ours / hand, "x", 0.5, 0.4)
        self.note(f"chain of {count}: dagexec / a call of the fan-out", ours / task, "x", 0.5, 0.4)
        self.note(f"chain of {count}, values passed / a group for each link", passed / hand)

    async def one_call(self, count: int = 300) -> None:
        """Measure a run's fixed cost."""
        plan = work.fan_out(1)

        async def runs() -> float:
            return sum([await work.run(plan, self.executor) for _ in range(count)])

        (took,) = await medians(self.repeats, runs)
        self.note("a plan of one call", took / count * 1e6, "us", None, 100)

    async def growth(self) -> None:
        """Fit cost = count ** exponent; 1 is a cost per call that does not grow."""
        counts = (1_000, 3_000, 10_000, 30_000, 100_000)
        costs: list[float] = []
        for count in counts:
            plan = work.fan_out(count)
            (took,) = await medians(self.repeats, lambda plan=plan: work.run(plan, self.executor))
            costs.append(took)
        slope = linear_regression([math.log(n) for n in counts], [math.log(c) for c in costs]).slope
        self.note("100,000 calls: per call", costs[-1] / counts[-1] * 1e6, "us")
        each = [cost / count for cost, count in zip(costs, counts, strict=True)]
        self.note("100,000 calls / 1,000 calls, per call", each[-1] / each[0])
        self.note("growth from 1,000 to 100,000 calls: exponent", slope, "", 1.1, 1.05)

    async def memory(self, count: int = 10_000) -> None:
        """Measure the peak of what a run allocates, the plan not counted."""
        plan = work.fan_out(count)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await work.run(plan, self.executor)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        self.note("memory at the peak, per call", peak / count / 1024, "KiB", None, 2)

    async def graphs(self) -> None:
        """Measure random graphs of real waits against their critical path."""
        for seed in range(5):
            plan, critical = work.random_graph(seed)
            hand, ours = await medians(
                self.repeats,
                lambda plan=plan: work.graph_by_hand(plan),
                lambda plan=plan: work.run(plan, self.executor),
            )
            self.note(f"random graph {seed}: by hand / critical path", hand / critical)
            self.note(f"random graph {seed}: dagexec / critical path", ours / critical, "x", 1.03)


def import_times(repeats: int) -> float:
    """Return the median time of `import dagexec` in a fresh interpreter, in milliseconds."""
    times: list[float] = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True
        )
        times.append(float(done.stdout) * 1e3)
    return median(times)


def machine() -> dict[str, object]:
    """Return what a figure depends on."""
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": cpu_count(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def compared(figures: list[Figure]) -> list[Figure]:
    """Return trio's times over asyncio's."""
    ours = [f for f in figures if f.unit == "us" and "by hand" not in f.name]
    ours = [f for f in ours if "for each link" not in f.name]
    base = {f.name: f.value for f in ours if f.backend == "asyncio"}
    return [
        Figure(f"{f.name}: trio / asyncio", "both", f.value / base[f.name], "x", None, 1.3)
        for f in ours
        if f.backend == "trio" and f.name in base
    ]


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--repeats", type=int, default=5, help="runs for each median (5)")
    parser.add_argument("--backend", choices=BACKENDS, help="only this one")
    parser.add_argument("--only", metavar="NAME", help="fan_out, chain, one_call, growth, …")
    options = parser.parse_args()
    print(f"{'':<58}{'backend':<9}{'value':>9} {'unit':<5}{'required':>9}{'later':>7}")
    figures: list[Figure] = []
    for backend in (options.backend,) if options.backend else BACKENDS:
        suite = Suite(backend, options.repeats)
        anyio.run(getattr(suite, options.only or "run"), backend=backend)
        figures += suite.figures
    rest = compared(figures)
    if not options.only:
        rest.append(Figure("import dagexec", "", import_times(options.repeats), "ms"))
    for figure in rest:
        print(figure)
    if options.json is not None:
        body = {"machine": machine(), "figures": [asdict(each) for each in (*figures, *rest)]}
        options.json.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
