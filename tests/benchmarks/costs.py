"""Figures beside the table: growth, memory, fixed costs, journal, limits, patterns."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from statistics import linear_regression, median
from time import perf_counter
from typing import TYPE_CHECKING

import anyio

from dagexec import Executor
from dagexec.testing import run_virtual
from tests.benchmarks import journal, limits, patterns, pictures
from tests.benchmarks import workloads as work
from tests.benchmarks.figures import Choice, Figure, medians
from tests.benchmarks.matrix import peak
from tests.benchmarks.systems import Gate, tools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dagexec import Plan

BACKENDS = ("asyncio", "trio")
TIMEOUT = 30
IMPORT = "from time import perf_counter as t; a = t(); import dagexec; print(t() - a)"
COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000)


async def run(plan: Plan, using: Executor) -> float:
    """Run a plan; the seconds until its report is there."""
    begin = perf_counter()
    report = await using.run(plan)
    took = perf_counter() - begin
    assert report.ok, report
    return took


async def scoped(do: Callable[[], Awaitable[object]]) -> None:
    """Call under a deadline: the task of a call by hand."""
    with anyio.move_on_after(TIMEOUT):
        await do()


async def by_hand() -> None:
    """One task group with one task with one deadline."""
    async with anyio.create_task_group() as group:
        group.start_soon(scoped, work.noop.function)


async def one_call(repeats: int, count: int = 300) -> list[Figure]:
    """Measure a run's fixed cost: above calling the tool, and against raw anyio."""
    executor, plan = work.executor(), work.fan_out(1)

    async def timed(do: Callable[[], Awaitable[object]]) -> float:
        begin = perf_counter()
        for _ in range(count):
            await do()
        return (perf_counter() - begin) / count * 1e6

    tool, hand, ours = await medians(
        repeats * 3,
        partial(timed, work.noop.function),
        partial(timed, by_hand),
        partial(timed, lambda: executor.run(plan)),
    )
    return [
        Figure("one call: above calling the tool", ours - tool, "us", 100),
        Figure("one call: dagexec / a task group with one task and scope", ours / hand),
    ]


async def variants(repeats: int) -> list[Figure]:
    """Measure what the table's plain calls leave out."""
    executor = work.executor()
    plan, chain, passing = work.fan_out(1_000), work.chain(200), work.passing(200)

    async def built() -> float:
        begin = perf_counter()
        await executor.run(work.fan_out(1_000))
        return perf_counter() - begin

    ready, whole, plain, passed = await medians(
        repeats,
        lambda: run(plan, executor),
        built,
        lambda: run(chain, executor),
        lambda: run(passing, executor),
    )
    return [
        Figure("fan-out of 1,000: with the plan built / without", whole / ready),
        Figure("chain of 200: values passed / none", passed / plain),
    ]


async def growth(repeats: int) -> list[Figure]:
    """Fit cost = count ** exponent; 1 is a cost per call that does not grow."""
    executor = work.executor()
    plans = [work.fan_out(count) for count in COUNTS]
    times = await medians(repeats, *[partial(run, plan, executor) for plan in plans])
    slope = linear_regression(list(map(math.log, COUNTS)), list(map(math.log, times))).slope
    memory = await peak(lambda: run(plans[-1], executor))
    return [
        Figure("1,000 calls: a call", times[0] / COUNTS[0] * 1e6, "us"),
        Figure("100,000 calls: a call", times[-1] / COUNTS[-1] * 1e6, "us"),
        Figure("1,000 to 100,000 calls: growth exponent", slope, "", 1.05),
        Figure("100,000 calls: memory at the peak, a call", memory / COUNTS[-1] / 1024, "KiB", 2),
    ]


async def graphs(repeats: int) -> list[Figure]:
    """Measure what a run adds to its waits, which the event loop's timers make longer."""
    figures: list[Figure] = []
    for count in (30, 300):
        load = work.random_graph(count, 0.010)
        executor = Executor([tools(anyio.sleep, Gate())["wait"]], concurrency=None)
        ratios: list[float] = []
        for _ in range(repeats):
            report = await executor.run(load.plan)
            waits = [report[call].ended - report[call].started for call in report.critical_path]
            ratios.append(report.elapsed / sum(waits))
        figures.append(
            Figure(f"{load.name}: run / its waits as they were", median(ratios), "x", 1.02)
        )
    return figures


async def limited(repeats: int) -> list[Figure]:
    """Measure what limits and retries cost a call that does nothing."""
    times = await limits.costs(repeats=repeats * 3)
    plain = times.pop("no limits")
    return [Figure(f"limits: {name} / no limits", took / plain) for name, took in times.items()]


def paper() -> Iterator[Figure]:
    """Yield the seconds of the four patterns of the LLMCompiler paper, in virtual time."""
    for result in run_virtual(patterns.measure_all):
        for way in ("react", "parallel", "dagexec", "streaming"):
            yield Figure(f"{result.pattern}: {way}", getattr(result, way), "s")
        goal = result.paper.speedup
        yield Figure(
            f"{result.pattern}: streaming over ReAct", result.speedup, "x", goal, more=True
        )
        yield Figure(f"{result.pattern}: the most that its model allows", result.limit)


def import_time(repeats: int) -> Figure:
    """Return the median time of `import dagexec` in a fresh interpreter."""
    command = [sys.executable, "-c", IMPORT]
    times = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) * 1e3
        for _ in range(repeats)
    ]
    return Figure("import dagexec", median(times), "ms")


PARTS = {
    "one call": one_call,
    "variants": variants,
    "growth": growth,
    "random graph": graphs,
    "limits": limited,
    "journal": journal.figures,
}


def measure(repeats: int, wanted: Choice) -> Iterator[Figure]:
    """Measure the parts that are asked for, on both backends."""
    for name, part in PARTS.items():
        if not wanted(name, slow=name in ("growth", "journal")):
            continue
        for backend in BACKENDS:
            found = anyio.run(part, repeats, backend=backend)
            print(f"measured: {name}, {backend}", file=sys.stderr, flush=True)
            for each in found:
                yield each.on(backend)
    if wanted("patterns"):
        yield from paper()
    if wanted("langgraph") and find_spec("langgraph.prebuilt"):
        from tests.benchmarks import langgraph_node

        yield from langgraph_node.figures(repeats)
    if wanted("pictures"):
        yield from pictures.figures()
    if wanted("import"):
        yield import_time(repeats)
