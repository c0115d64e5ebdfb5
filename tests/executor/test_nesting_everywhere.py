"""Nested runs over async, thread and process tools, mixed: no lock, no leak, never too many."""

from __future__ import annotations

import importlib.util
import random
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from dagexec import Call, Executor, Plan, Timeouts, tool
from dagexec.lowlevel import Progress

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc"),
]


class Leaves:
    """Counts the leaf calls that run at a time, from any thread."""

    def __init__(self):
        self.now = self.peak = self.total = 0
        self.lock = threading.Lock()

    @contextmanager
    def running(self):
        """Count a leaf for the block, which this process and its parents are told of."""
        with self.lock:
            self.now += 1
            self.total += 1
            self.peak = max(self.peak, self.now)
        M.note("in")
        try:
            yield
        finally:
            M.note("out")
            with self.lock:
                self.now -= 1


def _module():
    """Import the process tools; they know their executor by the names of its tools."""
    name = "tools_for_nesting"
    if name not in sys.modules:
        path = Path(__file__).with_name("tools_for_nesting.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


M = _module()


def tools(leaves, observers=()):
    """Return an executor with nodes and leaves of the three kinds."""

    @tool(effect="read")
    async def async_leaf(seconds: float = 0, fails: bool = False) -> int:
        """Be a leaf in the event loop."""
        with leaves.running():
            await anyio.sleep(seconds)
            if fails:
                raise ValueError
            return 1

    @tool(effect="read")
    def thread_leaf(seconds: float = 0, fails: bool = False) -> int:
        """Be a leaf in a thread."""
        with leaves.running():
            time.sleep(seconds)
            if fails:
                raise ValueError
            return 1

    @tool(effect="read")
    async def async_node(calls: list) -> int:
        """Run a plan below."""
        report = await executor.run(M.plan_of(calls))
        return sum(report.outputs.values())

    @tool(effect="read")
    def thread_node(calls: list) -> int:
        """Run a plan below, from a thread."""
        return sum(executor.run_sync(M.plan_of(calls)).outputs.values())

    executor = Executor(
        [async_leaf, thread_leaf, async_node, thread_node, M.process_leaf, M.process_node],
        concurrency=2,
        timeouts=Timeouts(call=60, workflow=120),
        observers=observers,
    )
    return executor


def free(executor):
    """Check that every slot is free and nobody waits for one."""
    for slots in executor._slots.values():
        assert slots.free == 2
        assert not slots.waiters


def tree(depth, fan_out, chance):
    """Return nested calls: at each level a node of another kind."""
    if not depth:
        kind = chance.choice(["async_leaf", "thread_leaf", "process_leaf"])
        return {"tool": kind, "args": {"seconds": chance.choice([0, 0.001])}}
    kind = ("async_node", "thread_node", "process_node")[(depth + chance.randrange(3)) % 3]
    below = [tree(depth - 1, fan_out, chance) for _ in range(fan_out)]
    return {"tool": kind, "args": {"calls": below}}


async def test_depth_3_fan_out_3(anyio_backend_name):
    """13 nodes and 27 leaves of all kinds for each of three roots; never more leaves than slots."""
    leaves = Leaves()
    told = []
    executor = tools(leaves, observers=[told.append])
    async with executor:
        for seed in range(3):
            report = await executor.run(M.plan_of([tree(3, 3, random.Random(seed))]))
            report.raise_for_failures()
            assert sum(report.outputs.values()) == 27
            free(executor)
    # Leaves tell when they begin and end by a clock that all processes of a machine share.
    moments = sorted((each.done, each.message) for each in told if isinstance(each, Progress))
    running = peak = 0
    for _, word in moments:
        running += 1 if word == "in" else -1
        peak = max(peak, running)
    assert len(moments) == 3 * 27 * 2
    assert peak <= 2
    assert running == leaves.now == 0


async def test_300_random_trials(anyio_backend_name):
    """Failures, timeouts and cancellations at any moment: all slots come back, each time."""
    leaves = Leaves()
    executor = tools(leaves)

    def some(chance, depth):
        calls = []
        for _ in range(chance.randint(1, 3)):
            # A process that is killed costs the next one a new interpreter: not too often.
            kinds = ["async", "thread"] if chance.random() < 0.93 else ["process"]
            kind = chance.choice(kinds)
            if depth and chance.random() < 0.6:
                calls.append({"tool": f"{kind}_node", "args": {"calls": some(chance, depth - 1)}})
            else:
                args = {"seconds": chance.choice([0, 0, 0.002]), "fails": chance.random() < 0.2}
                calls.append({"tool": f"{kind}_leaf", "args": args})
        return calls

    async with executor:
        for seed in range(300):
            chance = random.Random(seed)
            patience = chance.choice([0, 0.002, 0.01, 60, 60, 60])
            with anyio.move_on_after(patience):
                async with anyio.create_task_group() as group:
                    for _ in range(chance.randint(1, 2)):
                        group.start_soon(executor.run, M.plan_of(some(chance, 3)))
            with anyio.fail_after(30):
                while leaves.now:  # threads that were left behind end by themselves
                    await anyio.sleep(0.001)
            free(executor)
        report = await executor.run([Call("a", "async_leaf"), Call("b", "thread_leaf")])
        assert report.ok
    assert leaves.total > 500


def test_a_plan_of_nothing():
    """The helper itself."""
    assert len(M.plan_of([])) == len(Plan()) == 0
