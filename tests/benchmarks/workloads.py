"""What is measured: shapes of plans, and the same work written by hand with anyio."""

from __future__ import annotations

import random
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio
from anyio import create_task_group, move_on_after

from dagexec import Call, Executor, Plan, Ref, tool

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 30


async def plain() -> None:
    """Do nothing."""


@tool(effect="read")
async def noop() -> None:
    """Do nothing."""


@tool(effect="read")
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="read")
async def wait(seconds: float) -> None:
    """Wait."""
    await anyio.sleep(seconds)


def executor() -> Executor:
    """Return an executor with default settings."""
    return Executor([noop, add, wait])


def fan_out(count: int) -> Plan:
    """Return calls that depend on nothing."""
    return Plan(Call(str(index), "noop") for index in range(count))


def adding(count: int) -> Plan:
    """Return calls that depend on nothing, each with an argument to be checked."""
    return Plan(Call(str(index), "add", {"a": index}) for index in range(count))


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


def random_graph(seed: int, count: int = 30) -> tuple[Plan, float]:
    """Return calls of 10 to 50 ms with at most 3 dependencies, and the critical path in seconds."""
    chance = random.Random(seed)
    calls: list[Call] = []
    ends: list[float] = []
    for index in range(count):
        seconds = chance.uniform(0.010, 0.050)
        needs = chance.sample(range(index), min(index, chance.randint(0, 3)))
        calls.append(Call(str(index), "wait", {"seconds": seconds}, after=tuple(map(str, needs))))
        ends.append(seconds + max((ends[need] for need in needs), default=0.0))
    return Plan(calls), max(ends)


async def run(plan: Plan, using: Executor) -> float:
    """Run a plan; the seconds until its report is there."""
    begin = perf_counter()
    report = await using.run(plan)
    took = perf_counter() - begin
    assert report.ok, report
    return took


async def run_built(build: Callable[[], Plan], using: Executor) -> float:
    """Build a plan and run it; the seconds of both."""
    begin = perf_counter()
    await using.run(build())
    return perf_counter() - begin


async def fan_out_by_hand(count: int) -> float:
    """One task and one `move_on_after` for each call, in one task group."""
    results: list[Any] = [None] * count

    async def call(index: int) -> None:
        with move_on_after(TIMEOUT):
            results[index] = await plain()

    begin = perf_counter()
    async with create_task_group() as group:
        for index in range(count):
            group.start_soon(call, index)
    return perf_counter() - begin


async def chain_by_hand(count: int) -> float:
    """A fresh task group under `move_on_after` for each link, with one task in it."""
    begin = perf_counter()
    for _ in range(count):
        async with create_task_group() as group:
            with move_on_after(TIMEOUT):
                group.start_soon(plain)
    return perf_counter() - begin


async def graph_by_hand(plan: Plan) -> float:
    """One task for each call, which waits for an event of each dependency."""
    ended = {call.id: anyio.Event() for call in plan}

    async def call(each: Call) -> None:
        for need in each.after:
            await ended[need].wait()
        await anyio.sleep(each.args["seconds"])
        ended[each.id].set()

    begin = perf_counter()
    async with create_task_group() as group:
        for each in plan:
            group.start_soon(call, each)
    return perf_counter() - begin
