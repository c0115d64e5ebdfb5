"""Many runs in one process leave nothing behind: no memory, threads, tasks, descriptors."""

from __future__ import annotations

import gc
import logging
import threading
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from dagexec import Call, Executor, Ref, Timeouts, tool
from dagexec.limits import Limiter, Retry
from tests.replaying import machines

RUNS, WARM = 200, 40


@tool(effect="read")
async def waits(x: object = None) -> int:
    """Wait a little."""
    await anyio.sleep(0.001)
    return 1


@tool(effect="read")
async def does_nothing(x: object = None) -> int:
    """Return."""
    return 1


@tool(effect="read")
def in_a_thread(x: object = None) -> int:
    """Block a thread."""
    time.sleep(0.001)
    return 1


@tool(effect="read")
async def fails() -> int:
    """Raise."""
    raise ValueError("no")


@tool(effect="read", timeout=0.005)
async def too_slow() -> int:
    """Meet the deadline."""
    await anyio.sleep(5)
    return 1


@tool(effect="read", retry=Retry(2), limits=[Limiter("many", in_flight=2)])
async def limited() -> int:
    """Wait under a limit."""
    await anyio.sleep(0.001)
    return 1


@tool(effect="read")
async def nests() -> bool:
    """Run a plan, and cut another off."""
    with anyio.move_on_after(0.002):
        await EXECUTOR.run([Call("i", "waits"), Call("j", "too_slow")])
    return (await EXECUTOR.run([Call("i", "does_nothing"), Call("j", "waits")])).ok


TOOLS = [waits, does_nothing, in_a_thread, fails, too_slow, limited, nests]
EXECUTOR = Executor(TOOLS, concurrency=4, timeouts=Timeouts(workflow=20))
CALLS = [
    Call("a", "waits"),
    Call("b", "does_nothing", {"x": Ref("a")}),
    Call("c", "in_a_thread", {"x": Ref("b")}),
    Call("d", "fails"),
    Call("e", "waits", {"x": Ref("d")}),
    Call("f", "too_slow"),
    Call("g", "limited"),
    Call("h", "nests"),
    Call("i", "waits", {"x": Ref("h")}),
]


async def one(number: int) -> None:
    """Run the plan in one of the ways in which it may be run or left."""
    if number % 4 == 0:
        async with EXECUTOR.start(CALLS) as run:
            async for _ in run:
                pass
        assert run.report["f"].status == "timed_out"
    elif number % 4 == 1:
        with anyio.move_on_after(0.003):
            await EXECUTOR.run(CALLS)
    elif number % 4 == 2:
        async with EXECUTOR.start(CALLS) as run:
            run.cancel()
    else:
        report = await EXECUTOR.run(CALLS)
        assert [each.status for each in report.values()].count("done") == 6


def descriptors() -> int:
    """Return how many files are open (Linux)."""
    with suppress(OSError):
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    return 0


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.anyio
async def test_200_runs_of_a_mixed_plan_leave_nothing(caplog):
    """Compared after the first 40, which fill caches and start threads that are kept."""
    caplog.set_level(logging.CRITICAL, "dagexec")  # pytest keeps what is logged

    def held() -> tuple[int, int, int]:
        gc.collect()
        tasks = {each.id for each in anyio.get_running_tasks()}
        return len(tasks), threading.active_count(), descriptors()

    for number in range(WARM):
        await one(number)
    await anyio.sleep(0.05)
    before = held()
    tracemalloc.start()
    try:
        for number in range(WARM):
            await one(number)
        machines.clear()
        gc.collect()
        memory, _ = tracemalloc.get_traced_memory()
        for number in range(RUNS):
            await one(number)
            machines.clear()  # the tests' own, which are replayed at the end
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - memory
    finally:
        tracemalloc.stop()
    await anyio.sleep(0.05)
    after = held()
    # At most: what tests before this one left may end meanwhile.
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 4  # idle threads are kept for the next call
    assert after[2] <= before[2] + 4  # a leak of each run would be hundreds
    assert grown < RUNS * 1000, f"{grown / RUNS:.0f} bytes a run"
    for slots in EXECUTOR._slots.values():
        assert slots.free == 4
        assert not slots.waiters
