"""Programs that a model wrote: how close to their data flow, and what a statement or a call costs.

Beside other systems that run such programs; the ones with awaits wait for each call at once, as
models write them, where none of them gathers.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import Any

import anyio

from dagexec import Call, Executor, Plan
from dagexec.programs import Program
from dagexec.testing import run_virtual
from tests.benchmarks import code_mode
from tests.benchmarks import workloads as work
from tests.benchmarks.code_mode import LIMIT, Lost, Runs
from tests.benchmarks.figures import Choice, Figure, Row, medians
from tests.programs.flows import MOST, ratios

ASYNCIO, TRIO = "dagexec, asyncio", "dagexec, trio"
MAKERS: dict[str, Callable[[], Runs]] = {
    ASYNCIO: code_mode.dagexec,
    TRIO: code_mode.dagexec,
    "Pydantic AI CodeMode": partial(code_mode.pydantic_ai, speculate=False),
    "CodeMode, speculate": partial(code_mode.pydantic_ai, speculate=True),
    "spec-ptc": code_mode.spec_ptc,
    "smolagents": code_mode.smolagents,
    "ez-ptc": code_mode.ez_ptc,
}
BACKENDS = ("asyncio", "trio")
GENERATED = range(1_000, 1_300)
STATEMENTS = 10_000
CALLS = 1_000
HUNG = 4.0  # seconds of a call that is said to hang: a thread that waits for it must end


@dataclass(frozen=True)
class Text:
    """A program, the seconds that its data flow takes, and its value."""

    name: str
    seconds: float
    source: str
    value: object
    gathered: str = ""
    """The same with `gather`, for systems whose tools are async."""

    def written_for(self, system: Runs, *, ours: bool) -> str:
        """Return it as a model writes it for a system."""
        if not system.awaits:
            return self.source.replace("await ", "")
        return self.source if ours or not self.gathered else self.gathered


TEXTS = (
    Text(
        "3 independent calls",
        0.3,
        """\
a = await look(label=1, seconds=0.3)
b = await look(label=2, seconds=0.3)
c = await look(label=3, seconds=0.3)
result = a + b + c
result""",
        6,
    ),
    Text(
        "2 chains of 2 calls",
        0.6,
        """\
a = await look(label=1, seconds=0.3)
b = await look(label=2, seconds=0.3, after=a)
c = await look(label=3, seconds=0.3)
d = await look(label=4, seconds=0.3, after=c)
result = b + d
result""",
        6,
    ),
    Text(
        "loop of 3 calls",
        0.3,
        """\
found = []
for n in range(3):
    found.append(await look(label=n, seconds=0.3))
result = sum(found)
result""",
        3,
    ),
    Text(
        "loop of 3 dependent pairs",
        0.4,
        """\
found = []
for n in range(3):
    first = await look(label=n, seconds=0.2)
    found.append(await look(label=n, seconds=0.2, after=first))
result = sum(found)
result""",
        3,
    ),
    Text(
        "2 unequal chains",
        0.7,
        """\
a = await look(label=1, seconds=0.1)
b = await look(label=2, seconds=0.6, after=a)
c = await look(label=3, seconds=0.6)
d = await look(label=4, seconds=0.1, after=c)
result = b + d
result""",
        6,
        """\
import asyncio
async def first():
    a = await look(label=1, seconds=0.1)
    return await look(label=2, seconds=0.6, after=a)
async def second():
    c = await look(label=3, seconds=0.6)
    return await look(label=4, seconds=0.1, after=c)
b, d = await asyncio.gather(first(), second())
result = b + d
result""",
    ),
)
FIRST = Text("", 0, "result = await look(label=1, seconds=0.0)\nresult", 1)
HANGING = Text(
    f"one call of three hangs, limit {LIMIT:g} s",
    LIMIT,
    f"""\
a = await look(label=1, seconds=0.3)
hung = await look(label=2, seconds={HUNG:g})
b = await look(label=3, seconds=0.3)
result = [a, hung, b]
result""",
    [1, 3],
)


class Programs:
    """Measures rows of programs; systems take turns, one event loop for each turn."""

    def __init__(self, repeats: int, wanted: Choice) -> None:
        self.repeats = min(repeats, 3)  # they wait, which differs little
        self.wanted = wanted
        self.rows: dict[str, Row] = {}
        self.systems: dict[str, Runs | str] = {}

    def measure(self) -> None:
        """Measure all rows that are asked for."""
        wanted = [text for text in (*TEXTS, HANGING) if self.wanted(f"programs: {text.name}")]
        if wanted:
            for name, make in MAKERS.items():
                try:
                    self.systems[name] = make()
                except ImportError as missing:
                    reason = f"not installed: {missing.name}" if missing.name else str(missing)
                    self.systems[name] = reason
                else:
                    self._once(name, FIRST)  # imports, and starts what it needs
        for text in wanted:
            self._row(text)

    def _row(self, text: Text) -> None:
        taken: dict[str, list[float]] = {name: [] for name in self.systems}
        cells: dict[str, float | str] = {
            name: each for name, each in self.systems.items() if isinstance(each, str)
        }
        # A call that hangs takes long, and some systems never come back from it sooner.
        for _ in range(1 if text is HANGING else self.repeats):
            for name, times in taken.items():
                if name not in cells:
                    found = self._once(name, text)
                    if isinstance(found, str):
                        cells[name] = found
                    else:
                        times.append(found / text.seconds)
        cells.update({name: median(times) for name, times in taken.items() if times})
        name = f"programs: {text.name}"
        self.rows[name] = Row(name, "x optimum", {each: cells[each] for each in self.systems})
        print(f"measured: {name}", file=sys.stderr, flush=True)

    def _once(self, name: str, text: Text) -> float | str:
        """Return the seconds to the program's value, or what came in its place."""
        system = self.systems[name]
        assert not isinstance(system, str)
        source = text.written_for(system, ours=name in (ASYNCIO, TRIO))

        async def timed() -> float | str:
            begin = perf_counter()
            try:
                found: object = await system.run(source)
            except Lost:
                found = None
            took = perf_counter() - begin
            if found == text.value:
                return took
            return f"back after {took:.1f} s without the results of the calls that had ended"

        gc.collect()
        return anyio.run(timed, backend="trio" if name == TRIO else "asyncio")

    def figures(self) -> Iterator[Figure]:
        """Yield what is required of the rows that were measured."""
        for row in self.rows.values():
            for name in (ASYNCIO, TRIO):
                value = row.cells[name]
                if not isinstance(value, str):
                    yield Figure(f"{row.name}: {name}", value, "x", MOST)


# ----------------------------------------------------------------------------------- statements

KINDS = {
    "loops": """\
total = 0
for i in range(2500):
    x = i * 3
    y = x + total
    if y % 2 == 0:
        total = total + 1
    total = total + x % 7
total""",
    "functions": """\
def add(a, b=1):
    c = a + b
    return c
total = 0
for i in range(3333):
    total = add(total, i)
total""",
    "containers": """\
xs = []
d = {}
for i in range(2000):
    xs.append(i)
    d[i % 10] = len(xs)
    y = xs[i] + d[i % 10]
    z = [y, i]
    w = z[0]
len(xs)""",
    "strings": """\
parts = []
for i in range(2500):
    s = f"item {i}"
    t = s.upper().replace("ITEM", "x")
    parts.append(t[:3])
    n = len(t)
len("-".join(parts))""",
    # In less than the characters that a program may have.
    "one flat text": "\n".join(
        ["v9=0", *(f"v{n % 10}=v{(n - 1) % 10}+{n % 10}" for n in range(STATEMENTS)), "v0"]
    ),
}


async def statements(repeats: int) -> list[Figure]:
    """Measure programs that call nothing, in interpreters that walk the same tree, and in Monty."""
    executor = Executor([])

    async def ours(source: str) -> object:
        report: Any = await executor.run(Program(source))
        assert report.error is None, report.error
        return report.result

    async def timed(run: Callable[[str], Any], source: str) -> float:
        begin = perf_counter()
        found = run(source)
        if found is not None and hasattr(found, "__await__"):
            await found
        return (perf_counter() - begin) * 1e3

    figures: list[Figure] = []
    with ExitStack() as stack:
        ways: dict[str, Callable[[str], Any]] = {"dagexec": ours, **_interpreters(stack)}
        found = {
            kind: await medians(repeats, *[partial(timed, run, text) for run in ways.values()])
            for kind, text in KINDS.items()
        }
    for kind, each in found.items():
        times = dict(zip(ways, each, strict=True))
        name = f"programs: {STATEMENTS:,} statements, {kind}"
        figures += [Figure(f"{name}: {way}", took, "ms") for way, took in times.items()]
        if "smolagents" in times:
            ratio = times["dagexec"] / times["smolagents"]
            figures.append(Figure(f"{name}: dagexec / smolagents", ratio, "x", 3))
    return figures


def _interpreters(stack: ExitStack) -> dict[str, Callable[[str], Any]]:
    """Return the interpreters that are installed; those that are processes end with the stack."""
    found: dict[str, Callable[[str], Any]] = {}
    try:
        from smolagents.local_python_executor import BASE_PYTHON_TOOLS, evaluate_python_code
    except ImportError:
        pass
    else:
        found["smolagents"] = lambda source: evaluate_python_code(
            source, dict(BASE_PYTHON_TOOLS), state={}, authorized_imports=[]
        )[0]
    try:
        from pydantic_monty import Monty
    except ImportError:
        pass
    else:
        pool: Any = stack.enter_context(Monty())

        def fed(source: str) -> None:
            with pool.checkout() as session:
                session.feed_run(source)

        found["Monty"] = fed
    return found


async def calls(repeats: int) -> list[Figure]:
    """Measure a program's calls beside a plan of the same calls, in time of the processor."""
    executor = Executor([work.add], concurrency=None)
    planned = [Call(str(n), "add", {"a": n}) for n in range(CALLS)]
    source = f"[add(n) for n in range({CALLS})]\n0"

    async def plan() -> float:
        begin = process_time()
        await executor.run(Plan(planned))
        return (process_time() - begin) / CALLS * 1e6

    async def program() -> float:
        begin = process_time()
        report: Any = await executor.run(Program(source))
        took = (process_time() - begin) / CALLS * 1e6
        assert report.error is None, report.error
        return took

    first, second = await medians(repeats, plan, program)
    name = f"programs: {CALLS:,} calls"
    return [
        Figure(f"{name}: a call of a plan", first, "us"),
        Figure(f"{name}: a call of a program, above that", second - first, "us", 60),
    ]


def generated() -> Iterator[Figure]:
    """Yield how long generated programs take, in virtual time, over their data flow."""
    for backend in BACKENDS:
        found = run_virtual(partial(ratios, GENERATED), backend=backend)
        name = f"programs: {len(GENERATED)} generated, over the longest path of their data flow"
        yield Figure(f"{name}, the worst", max(found), "x", MOST).on(backend)


def costs(repeats: int, wanted: Choice) -> Iterator[Figure]:
    """Measure what is no row of the table."""
    if wanted("programs: generated", slow=True):
        yield from generated()
    if wanted("programs: calls"):
        for backend in BACKENDS:
            for each in anyio.run(calls, repeats, backend=backend):
                yield each.on(backend)
    if wanted("programs: statements", slow=True):
        yield from anyio.run(statements, repeats)
