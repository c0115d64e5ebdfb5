"""Workloads times systems: the rows of the table, and the figures that follow from them."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio

from tests.benchmarks import journal, libraries
from tests.benchmarks import systems as own
from tests.benchmarks.figures import Choice, Figure, Row
from tests.benchmarks.streamed import Reply
from tests.benchmarks.workloads import NOOP, Workload, graphs, random_graph, same

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from tests.benchmarks.systems import System

    Work = Callable[[System], Awaitable[float]]

ASYNCIO, TRIO = "dagexec, asyncio", "dagexec, trio"
SCOPED, SCOPED_TRIO = "anyio, a scope each", "anyio, a scope each, trio"
NODE = "LangGraph ToolNode"
CLOCK = "waits alone, one after the other"
MAKERS: dict[str, Callable[[], System]] = {
    ASYNCIO: own.dagexec,
    TRIO: own.dagexec,
    "asyncio.gather": own.gather,
    "asyncio.TaskGroup": own.task_group,
    "anyio": partial(own.anyio_group, scope=False),
    SCOPED: partial(own.anyio_group, scope=True),
    SCOPED_TRIO: partial(own.anyio_group, scope=True),
    "asyncio, an event each": own.events,
    "polling, 10 ms": own.polling,
    NODE: libraries.tool_node,
    "LangGraph Send": libraries.send,
    "Pydantic AI": libraries.pydantic_ai,
    "OpenAI Agents": libraries.openai_agents,
    "Dask threaded": libraries.dask,
    CLOCK: own.clock,
}
PATIENCE = 10.0  # seconds that one run of a workload may take before a system is left out of it
LARGE = 100_000_000  # bytes


class Matrix:
    """Measures rows; systems take turns, one event loop for each turn."""

    def __init__(self, repeats: int, wanted: Choice) -> None:
        self.repeats = repeats
        self.wanted = wanted
        self.rows: dict[str, Row] = {}
        self.systems: dict[str, System | str] = {}
        # The longest that a call took, by system and shape: what a larger one would take.
        self._slowest: dict[tuple[str, str], float] = {}
        for name, make in MAKERS.items():
            try:
                self.systems[name] = make()
            except ImportError as missing:
                self.systems[name] = f"not installed: {missing.name}"

    def measure(self) -> None:
        """Measure all rows that are asked for."""
        for load in graphs():
            self._graph(load)
        for count in (30, 300):
            load = random_graph(count, 0.100, slow=count > 30)
            self._graph(load, only=(ASYNCIO, TRIO, CLOCK))
        self._streamed("first", lambda delays: delays[0])
        self._streamed("median", median)
        self._memory()
        self._carried()
        self._recorded()

    def _turns(
        self, cells: dict[str, float | str], work: Work, repeats: int | None = None
    ) -> dict[str, list[float]]:
        """Return what each system without a reason in `cells` takes, in turns after a warm-up."""
        taken: dict[str, list[float]] = {
            name: [] for name in self.systems if not isinstance(cells.get(name), str)
        }
        for turn in range((repeats or self.repeats) + 1):
            for name, times in taken.items():
                gc.collect()
                backend = "trio" if name.endswith("trio") else "asyncio"
                took = anyio.run(work, self.systems[name], backend=backend)
                if turn:
                    times.append(took)
        return taken

    def _row(self, name: str, unit: str, cells: dict[str, float | str]) -> None:
        ordered = {system: cells[system] for system in self.systems}
        self.rows[name] = Row(name, unit, ordered)
        print(f"measured: {name}", file=sys.stderr, flush=True)

    def _without(self, part: str = "run") -> dict[str, float | str]:
        """Return why some systems cannot be measured."""
        reasons: dict[str, float | str] = {}
        for name, system in self.systems.items():
            reason = system if isinstance(system, str) else getattr(system, part)
            if isinstance(reason, str):
                reasons[name] = reason
        return reasons

    def _graph(self, load: Workload, only: Iterable[str] = ()) -> None:
        if not self.wanted(load.name, slow=load.slow):
            return
        cells = self._without()
        shape = load.name.split(" of ")[0]
        for name in self.systems:
            seconds = self._slowest.get((name, shape), 0.0) * len(load)
            if only and name not in only:
                cells[name] = "measured for dagexec only: the shorter waits show the difference"
            elif seconds > PATIENCE and name not in cells:
                cells[name] = f"left out, because one run would take more than {PATIENCE:g} s"
        critical = sum(load.path)
        if not critical:
            cells[CLOCK] = ""
        for name, times in self._turns(cells, lambda system: own.taken(system, load)).items():
            seconds = median(times)
            cells[name] = seconds / critical if critical else seconds / len(load) * 1e6
            if not critical:
                self._slowest[name, shape] = seconds / len(load)
        self._row(load.name, "x path" if critical else "us a call", cells)

    def _streamed(self, which: str, pick: Callable[[list[float]], float]) -> None:
        name = f"streamed: last byte to start, {which} call"
        if not self.wanted(name):
            return

        async def work(system: System) -> float:
            reply = Reply()
            await system.stream(reply)  # type: ignore[operator]
            return pick(reply.delays)

        cells = self._without("stream")
        for system, times in self._turns(cells, work).items():
            cells[system] = median(times) * 1e3
        self._row(name, "ms", cells)

    def _memory(self) -> None:
        name = "memory at the peak, fan-out of 1,000"
        if not self.wanted(name):
            return
        load = same(name, 1_000, NOOP)

        async def work(system: System) -> float:
            return await peak(lambda: own.taken(system, load)) / len(load) / 1024

        cells = self._without() | {CLOCK: ""}
        for system, sizes in self._turns(cells, work, 1).items():  # the same each time
            cells[system] = median(sizes)
        self._row(name, "KiB a call", cells)

    def _carried(self) -> None:
        name = "100 MB through 5 tools: memory"
        if not self.wanted(name):
            return
        value = bytes(LARGE)

        async def work(system: System) -> float:
            async def carry() -> None:
                assert await system.carry(value) is value  # type: ignore[operator]

            return await peak(carry) / 1024**2

        cells = self._without("carry")
        for system, sizes in self._turns(cells, work, 1).items():
            cells[system] = median(sizes)
        self._row(name, "MiB", cells)

    def _recorded(self) -> None:
        name = f"chain of {journal.STEPS} writes, journaled"
        if not self.wanted(name, slow=True):
            return

        async def work(system: System) -> float:
            with TemporaryDirectory(prefix="dagexec-bench-", dir=journal.DISK) as folder:
                return await system.record(Path(folder, "journal.db"))  # type: ignore[operator]

        cells = self._without("record")
        for system, times in self._turns(cells, work).items():
            cells[system] = median(times) * 1e6
        self._row(name, "us a call", cells)

    def figures(self) -> Iterator[Figure]:
        """Yield what is required of the rows that were measured."""
        for row in self.rows.values():
            cells: dict[str, Any] = {
                name: value for name, value in row.cells.items() if not isinstance(value, str)
            }
            if ASYNCIO in cells and TRIO in cells:
                yield from _figures(row, cells)


async def peak(work: Callable[[], Awaitable[object]]) -> float:
    """Return the bytes that were allocated at the peak, above those before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def _figures(row: Row, cells: dict[str, float]) -> Iterator[Figure]:
    name, pairs = row.name, ((ASYNCIO, SCOPED), (TRIO, SCOPED_TRIO))
    if name in ("fan-out of 1,000", "fan-out of 10,000"):
        for ours, raw in pairs:
            yield Figure(f"{name}: {ours} / a scope each", cells[ours] / cells[raw], "x", 0.7)
    if name.startswith("chain") and SCOPED in cells:
        for ours, raw in pairs:
            ratio = cells[ours] / cells[raw]
            yield Figure(f"{name}: {ours} / a group and scope a link", ratio, "x", 0.4)
    if name == "fan-out of 1,000" and NODE in cells:
        yield Figure(f"{name}: {NODE} / dagexec", cells[NODE] / cells[ASYNCIO], "x", 15, more=True)
    if row.unit == "us a call":
        yield Figure(f"{name}: trio / asyncio", cells[TRIO] / cells[ASYNCIO], "x", 1.3)
    goals = {"x path": 1.02, "ms": 1.0, "KiB a call": 2.0, "MiB": 1.0}
    if row.unit in goals:
        for ours, _ in pairs:
            yield Figure(f"{name}: {ours}", cells[ours], row.unit, goals[row.unit])
