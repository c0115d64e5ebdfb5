"""Promise 9: nested runs neither lock themselves nor exceed the concurrency; fair slots."""

from __future__ import annotations

import random

import anyio
import pytest

from dagexec import Call, Executor, Plan, Timeouts, current_call, tool
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio


def free(executor):
    """Check that every slot is free and nobody waits for one."""
    for slots in executor._slots.values():
        assert slots.free == executor.concurrency
        assert not slots.waiters


class Leaves:
    """Counts the leaf calls that run at a time."""

    def __init__(self):
        self.now = self.peak = self.total = 0

    async def run(self, seconds):
        self.now += 1
        self.total += 1
        self.peak = max(self.peak, self.now)
        try:
            await anyio.sleep(seconds)
        finally:
            self.now -= 1


@pytest.mark.parametrize("concurrency", [1, 2, 5])
@pytest.mark.parametrize(
    "timeouts", [Timeouts(call=None), Timeouts(call=None, layer=500)], ids=["", "layers"]
)
async def test_async_tools_nest(concurrency, timeouts):
    """Depth 3, fan-out 3: all 27 leaves run, never more at a time than asked for."""
    leaves = Leaves()

    @tool
    async def leaf() -> int:
        """Be a leaf."""
        await leaves.run(1)
        return 1

    @tool
    async def node(depth: int) -> int:
        """Run three below."""
        name, args = ("node", {"depth": depth - 1}) if depth else ("leaf", {})
        report = await executor.run(Plan([Call(str(n), name, args) for n in range(3)]))
        await leaves.run(0.5)
        return sum(report.outputs.values())

    executor = Executor([leaf, node], concurrency=concurrency, timeouts=timeouts)
    report = await executor.run(Plan([Call("top", "node", {"depth": 2})]))
    assert report.outputs == {"top": 27}
    assert leaves.peak == concurrency
    assert leaves.total == 27 + 13
    free(executor)


@pytest.mark.real_time
@pytest.mark.parametrize("concurrency", [1, 2])
async def test_sync_tools_nest(concurrency):
    """The same with run_sync in threads."""
    leaves = Leaves()

    @tool
    async def leaf() -> int:
        """Be a leaf."""
        await leaves.run(0.001)
        return 1

    @tool
    def node(depth: int) -> int:
        """Run three below, from a thread."""
        assert current_call().tool == "node"
        name, args = ("node", {"depth": depth - 1}) if depth else ("leaf", {})
        report = executor.run_sync(Plan([Call(str(n), name, args) for n in range(3)]))
        assert current_call().tool == "node"
        return sum(report.outputs.values())

    executor = Executor([leaf, node], concurrency=concurrency)
    report = await executor.run(Plan([Call("top", "node", {"depth": 2})]))
    assert report.outputs == {"top": 27}
    assert leaves.peak == concurrency
    free(executor)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_live_runs_nest(concurrency):
    """A tool that follows a live run gives its slot back meanwhile."""
    leaves = Leaves()

    @tool
    async def leaf() -> int:
        """Be a leaf."""
        await leaves.run(1)
        return 1

    @tool
    async def node() -> int:
        """Follow a run."""
        async with executor.start(Plan([Call("a", "leaf"), Call("b", "leaf")])) as run:
            events = [event async for event in run]
        await leaves.run(1)
        return len(events)

    executor = Executor([leaf, node], concurrency=concurrency)
    report = await executor.run(Plan([Call("a", "node"), Call("b", "node"), Call("c", "node")]))
    assert report.ok
    assert leaves.peak == concurrency
    free(executor)


async def test_runs_side_by_side_inside_one_tool():
    """A tool may wait for several runs at once."""
    leaves = Leaves()

    @tool
    async def leaf() -> int:
        """Be a leaf."""
        await leaves.run(1)
        return 1

    @tool
    async def node() -> None:
        """Run two plans side by side."""
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(executor.run, Plan([Call("a", "leaf"), Call("b", "leaf")]))
        await leaves.run(1)

    executor = Executor([leaf, node], concurrency=2)
    assert (await executor.run(Plan([Call("a", "node"), Call("b", "node")]))).ok
    assert leaves.peak == 2
    free(executor)


@pytest.mark.parametrize(
    "seed", [*range(20), *(pytest.param(n, marks=pytest.mark.slow) for n in range(20, 60))]
)
async def test_random_trials_leak_no_slot(seed):
    """Failures, timeouts, cancellations and nested runs at random: all slots come back."""
    chance = random.Random(seed)
    leaves = Leaves()

    @tool
    async def leaf() -> int:
        """Sleep or fail."""
        await leaves.run(chance.choice([0, 0, 0.5, 1, 2]))
        if chance.random() < 0.2:
            raise ValueError("no")
        return 1

    @tool
    async def node(depth: int) -> object:
        """Run a random plan below, live perhaps."""
        plan = some(depth - 1)
        with anyio.move_on_after(chance.choice([0, 1, 3, 1000])):
            if chance.random() < 0.3:
                async with executor.start(plan) as run:
                    if chance.random() < 0.5:
                        await anyio.sleep(1)
                        run.cancel()
                return len(run.report)
            return len(await executor.run(plan))
        return None

    def some(depth):
        calls = []
        for n in range(chance.randint(1, 4)):
            after = tuple(call.id for call in calls if chance.random() < 0.3)
            if depth and chance.random() < 0.6:
                calls.append(Call(str(n), "node", {"depth": depth}, after=after))
            else:
                calls.append(Call(str(n), "leaf", after=after))
        return Plan(calls)

    executor = Executor(
        [leaf, node],
        concurrency=chance.choice([1, 2, 3]),
        on_failure=chance.choice(["skip", "stop"]),
        timeouts=Timeouts(
            call=chance.choice([2, 30]),
            layer=chance.choice([None, 3]),
            workflow=chance.choice([5, 60]),
        ),
    )
    with anyio.move_on_after(chance.choice([0, 1, 2.5, 1000])):
        async with anyio.create_task_group() as group:
            for _ in range(chance.randint(1, 3)):
                group.start_soon(executor.run, some(3))
    free(executor)
    assert leaves.now == 0
    assert leaves.peak <= executor.concurrency
    box = ToolBox()
    report = await executor.run(Plan([Call("a", "node", {"depth": 0})]))
    assert len(report) == 1
    assert box.log == []


async def test_runs_that_overlap_in_one_tool_leak_no_slot():
    """A run that begins or ends while the tool queues up for its slot again changes nothing."""

    @tool
    async def leaf(seconds: float) -> None:
        """Sleep."""
        await anyio.sleep(seconds)

    @tool
    async def node() -> None:
        """Start runs that end and begin at different times."""

        async def later(start, seconds):
            await anyio.sleep(start)
            await executor.run(Plan([Call("x", "leaf", {"seconds": seconds})]))

        async with anyio.create_task_group() as group:
            for start in (0, 0, 1, 1.5, 2.2, 4):
                group.start_soon(later, start, 1)

    for concurrency in (1, 2, 3):
        executor = Executor([leaf, node], concurrency=concurrency, timeouts=Timeouts(call=None))
        calls = [Call("n", "node"), Call("m", "node")]
        calls += [Call(str(n), "leaf", {"seconds": 0.7}) for n in range(6)]
        assert (await executor.run(Plan(calls))).ok
        free(executor)


async def test_two_runs_share_the_slots_fairly():
    """The second run does not wait until the first one is through."""
    box = ToolBox()
    box.tool("big", seconds=1)
    box.tool("small", seconds=1)
    executor = Executor(box.tools, concurrency=2)
    ended = {}

    async def run(name, count):
        await executor.run(Plan([Call(str(n), name) for n in range(count)]))
        ended[name] = anyio.current_time()

    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(run, "big", 100)
        await anyio.sleep(0.5)
        group.start_soon(run, "small", 10)
    assert ended["small"] - start <= 13
    assert ended["big"] - start == pytest.approx(55, abs=1e-9)
    assert box.peak == 2
    free(executor)


async def test_a_run_goes_on_when_another_is_cancelled_in_the_queue():
    """A cancelled waiter gives its place and its slot on."""
    box = ToolBox()
    box.tool("t", seconds=1)
    executor = Executor(box.tools, concurrency=1)
    plan = Plan([Call(str(n), "t") for n in range(5)])
    for tenths in range(1, 40, 2):
        reports = []

        async def run(reports=reports):
            reports.append(await executor.run(plan))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            with anyio.move_on_after(tenths / 10):
                await executor.run(plan)
        assert reports[0].ok
        free(executor)
