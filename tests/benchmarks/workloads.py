"""What is measured: shapes of plans, and graphs for systems of every kind."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dagexec import Call, Executor, Plan, Ref, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a call does: the name of a tool, and its arguments.
Do = tuple[str, dict[str, Any]]
NOOP: Do = ("noop", {})
CAP = 20  # calls of the tool `capped` that may run at a time
INNER = 50  # calls in a batch of the tool `nested`


@tool(effect="read")
async def noop() -> None:
    """Do nothing."""


@tool(effect="read")
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def executor() -> Executor:
    """Return an executor with default settings."""
    return Executor([noop, add])


def fan_out(count: int) -> Plan:
    """Return calls that depend on nothing."""
    return Plan(Call(str(index), "noop") for index in range(count))


def chain(count: int) -> Plan:
    """Return calls that each wait for the one before."""
    return Plan(
        Call(str(index), "noop", after=(str(index - 1),) if index else ()) for index in range(count)
    )


def passing(count: int) -> Plan:
    """Return calls that each take the value of the one before."""
    return Plan(
        Call(str(index), "add", {"a": Ref(str(index - 1)) if index else 0})
        for index in range(count)
    )


@dataclass(frozen=True)
class Workload:
    """A graph: for each call the calls before it, and what it does. Run `times` times in a row."""

    name: str
    before: dict[str, tuple[str, ...]]
    does: dict[str, Do] = field(default_factory=dict)  # noop, where it says nothing
    times: int = 1
    slow: bool = False
    """Whether it takes so long that `--quick` leaves it out."""

    def __len__(self) -> int:
        """How many calls."""
        return len(self.before)

    def do(self, call: str) -> Do:
        """Return what a call does."""
        return self.does.get(call, NOOP)

    def seconds(self, call: str) -> float:
        """Return how long a call waits."""
        return self.do(call)[1].get("seconds", 0.0)

    @cached_property
    def plan(self) -> Plan:
        """The graph as a plan."""
        return Plan(Call(call, *self.do(call), before) for call, before in self.before.items())

    @cached_property
    def batches(self) -> list[list[Do]]:
        """What the calls do, by depth: for a system that knows no dependencies."""
        depth: dict[str, int] = {}
        found: list[list[Do]] = []
        for call, before in self.before.items():
            level = depth[call] = max((depth[each] + 1 for each in before), default=0)
            if level == len(found):
                found.append([])
            found[level].append(self.do(call))
        return found

    @cached_property
    def path(self) -> list[float]:
        """The waits along the critical path, in seconds; no waits, if no call waits."""
        paths: dict[str, list[float]] = {}
        for call, before in self.before.items():
            longest = max((paths[each] for each in before), key=sum, default=[])
            seconds = self.seconds(call)
            paths[call] = [*longest, seconds] if seconds else longest
        return max(paths.values(), key=sum)


def same(name: str, count: int, do: Do, **options: Any) -> Workload:
    """Return calls that depend on nothing and do the same."""
    calls = [str(each) for each in range(count)]
    return Workload(name, dict.fromkeys(calls, ()), dict.fromkeys(calls, do), **options)


def links(count: int) -> Workload:
    """Return calls that each wait for the one before."""
    before = {str(n): (str(n - 1),) if n else () for n in range(count)}
    return Workload(f"chain of {count:,}", before)


def random_graph(count: int, least: float, seed: int = 0, *, slow: bool = False) -> Workload:
    """Return calls of `least` to 5 x `least` seconds with at most 3 dependencies each."""
    chance = random.Random(seed)
    names = [str(each) for each in range(count)]
    before = {
        name: tuple(chance.sample(names[:at], min(at, chance.randint(0, 3))))
        for at, name in enumerate(names)
    }
    does: dict[str, Do] = {
        name: ("wait", {"seconds": chance.uniform(least, 5 * least)}) for name in names
    }
    waits = f"{least * 1e3:g} to {least * 5e3:g} ms"
    return Workload(f"random graph of {count}, {waits}", before, does, slow=slow)


def graphs() -> Iterator[Workload]:
    """Yield what every system runs."""
    yield same("one call", 1, NOOP, times=100)
    for count in (1_000, 10_000, 100_000):
        yield same(f"fan-out of {count:,}", count, NOOP, slow=count > 10_000)
    yield same("fan-out of 1,000, an argument each", 1_000, ("wait", {"seconds": 0.0}))
    yield same(f"fan-out of 1,000, {CAP} at a time", 1_000, ("capped", {}))
    yield same(f"nested: 20 calls of {INNER} calls", 20, ("nested", {}))
    yield links(200)
    yield links(2_000)
    yield Workload("diamond", {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}, times=100)
    dense = {
        f"{row}.{column}": tuple(f"{row - 1}.{each}" for each in range(10)) if row else ()
        for row in range(10)
        for column in range(10)
    }
    yield Workload("10 x 10 dense layers", dense, times=10)
    for count in (30, 300):
        yield random_graph(count, 0.010)
