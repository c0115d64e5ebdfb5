"""`executor.background`: services that outlive runs, are started again, and end with it."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, tool
from dagexec.processes import Restart

pytestmark = pytest.mark.anyio


async def test_a_service_outlives_runs_and_ends_with_the_executor():
    """It is not cancelled by the end of the run in which it was started."""
    beats, ended = [], []

    async def beat(pause):
        try:
            while True:
                beats.append(anyio.current_time())
                await anyio.sleep(pause)
        finally:
            ended.append(True)

    @tool(timeout=0.5)
    async def start() -> str:
        """Start it, from a call that times out."""
        executor.background(beat, 1, name="heart")
        await anyio.sleep(100)

    executor = Executor([start])
    async with executor:
        report = await executor.run([Call("a", "start")])
        assert report["a"].status == "timed_out"
        await anyio.sleep(10)
        assert len(beats) == pytest.approx(11, abs=1)
        assert not ended
        (service,) = executor._services
        assert service.running
    assert ended == [True]
    assert not service.running


async def test_it_may_run_plans():
    """As itself, not as part of the call that started it."""
    results = []

    @tool(effect="pure")
    async def double(x: int) -> int:
        """Double."""
        return 2 * x

    async def watch():
        results.append((await executor.run([Call("a", "double", {"x": 4})])).outputs)

    executor = Executor([double], concurrency=1)
    async with executor:
        service = executor.background(watch)
        await service.wait()
        assert results == [{"a": 8}]
        assert not service.running


async def test_it_is_started_again_as_its_policy_says(caplog):
    """Twice as late each time, and not for ever; the last error stays."""
    times = []

    async def fail():
        times.append(anyio.current_time())
        raise ValueError("no")

    async with Executor() as executor:
        restart = Restart(times=3, within=100, delay=1, longest=3)
        service = executor.background(fail, restart=restart)
        with pytest.raises(ValueError, match="no"):
            await service.wait()
        assert [b - a for a, b in pairwise(times)] == [1, 2, 3]
        assert (service.restarts, service.running) == (3, False)
    assert "given up" in caplog.text


async def test_failures_long_ago_are_forgotten():
    """The policy counts within a time."""
    count = 0

    async def now_and_then():
        nonlocal count
        count += 1
        await anyio.sleep(100)
        raise ValueError

    async with Executor() as executor:
        service = executor.background(now_and_then, restart=Restart(times=1, within=50))
        await anyio.sleep(1000)
        assert service.running
        assert count >= 9


async def test_leaving_in_another_task_than_entering():
    """As a notebook's cells and a framework's hooks do."""
    executor = Executor()
    service = None

    async def enter():
        nonlocal service
        await executor.__aenter__()
        service = executor.background(anyio.sleep, 10**6, name="long")

    async with anyio.create_task_group() as group:
        group.start_soon(enter)
    await anyio.sleep(1)
    assert service.running
    async with anyio.create_task_group() as group:
        group.start_soon(executor.aclose)
    assert not service.running


async def test_stopping_one():
    """By its handle; the others go on."""
    async with Executor() as executor:
        one = executor.background(anyio.sleep, 1000)
        other = executor.background(anyio.sleep, 1000)
        await one.stop()
        assert not one.running
        assert other.running


async def test_what_is_no_service():
    """The errors say what is."""
    with pytest.raises(DagexecError, match="async function"):
        Executor().background(print)
    with pytest.raises(DagexecError, match="not negative"):
        Restart(times=-1)


def test_outside_of_an_event_loop():
    """There it could not live."""
    with pytest.raises(DagexecError, match="event loop"):
        Executor().background(anyio.sleep, 1)
