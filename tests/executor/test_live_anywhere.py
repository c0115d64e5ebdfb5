"""A live run whose block is entered in one task and left in another, or never left by itself."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from dagexec import Call, Executor, Report, tool
from dagexec.testing import run_virtual

CALLS = [Call("a", "quick"), Call("b", "slow"), Call("c", "quick", after=("b",))]


@tool(effect="read")
async def quick() -> int:
    """End soon."""
    await anyio.sleep(0.02)
    return 1


@tool(effect="read")
async def slow() -> int:
    """Take a while."""
    await anyio.sleep(0.3)
    return 2


def free(executor):
    """Check that nothing was kept."""
    assert executor.snapshot().runs == ()
    for slots in executor._slots.values():
        assert slots.free == executor.concurrency


class Consumer:
    """Generators over a run, as frameworks make them."""

    def __init__(self):
        self.executor = Executor([quick, slow])
        self.runs = []

    async def events(self):
        """Give a run's events, then its report."""
        async with self.executor.start(CALLS) as run:
            self.runs.append(run)
            async for event in run:
                yield event
        yield run.report


async def broken_off(consumer):
    """Left to the garbage collector."""
    async for _ in consumer.events():
        break
    gc.collect()
    await asyncio.sleep(0.2)


async def closed_here(consumer):
    """As contextlib.aclosing does."""
    generator = consumer.events()
    async for _ in generator:
        break
    await generator.aclose()


async def closed_by_another_task(consumer):
    """As a web server does when its client has gone."""
    generator = consumer.events()
    async for _ in generator:
        break
    await asyncio.create_task(generator.aclose())


async def stepped_by_wait_for(consumer):
    """A task for each step, as heartbeats are made."""
    generator = consumer.events()
    last = None
    while True:
        try:
            last = await asyncio.wait_for(anext(generator), 5)
        except StopAsyncIteration:
            break
    assert isinstance(last, Report)
    assert last.ok


async def stepped_with_a_heartbeat(consumer):
    """Steps that time out in vain are shielded, and waited for again."""
    generator = consumer.events()
    beats, last = 0, None
    step = asyncio.ensure_future(anext(generator))
    while True:
        done, _ = await asyncio.wait([step], timeout=0.05)
        if not done:
            beats += 1
            continue
        try:
            last = step.result()
        except StopAsyncIteration:
            break
        step = asyncio.ensure_future(anext(generator))
    assert beats
    assert last.ok


async def cancelled_step(consumer):
    """A step that is cut off ends the generator, and the run with it."""
    generator = consumer.events()
    with pytest.raises(TimeoutError):
        while True:
            await asyncio.wait_for(anext(generator), 0.1)
    assert consumer.runs[0].report["b"].status == "cancelled"


async def cancelled_consumer(consumer):
    """All of it is cut off."""

    async def consume():
        async for _ in consumer.events():
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(consume(), 0.1)


async def error_in_the_block(consumer):
    """It goes on bare, when the run has ended."""
    with pytest.raises(KeyError):
        async with aclosing(consumer.events()) as events:
            async for _ in events:
                raise KeyError
    with pytest.raises(KeyError):
        async with consumer.executor.start(CALLS):
            raise KeyError


async def fixture(consumer):
    """Set up in one task and torn down in another, as pytest-asyncio does."""
    run = consumer.executor.start(CALLS)
    await asyncio.create_task(run.__aenter__())
    await asyncio.sleep(0.1)
    assert run.report["a"].ok
    await asyncio.create_task(run.__aexit__(None, None, None))
    assert run.report.ok


async def two_generators_at_once(consumer):
    """Left in another order than entered."""
    one, two = consumer.events(), consumer.events()
    await anext(one)
    await anext(two)
    await one.aclose()
    async for _ in two:
        pass
    assert consumer.runs[1].report.ok


async def generator_in_a_tool(consumer):
    """The call that reads it waits for it, and its slot comes back."""

    @tool(effect="read")
    async def reads() -> int:
        count = 0
        async for _ in consumer.events():
            count += 1
            if count == 3:
                break
        gc.collect()
        return count

    executor = Executor([reads])
    report = await executor.run([Call("r", "reads"), Call("s", "reads")])
    assert report.ok
    await asyncio.sleep(0.2)
    free(executor)


async def cancelled_again_and_again(consumer):
    """A consumer that is cancelled while it waits for the end goes on waiting for it."""

    async def consume():
        async with consumer.executor.start([Call("s", "shielded")]) as run:
            consumer.runs.append(run)
            await asyncio.sleep(10)

    @tool(effect="read")
    async def shielded() -> int:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.5)
        return 1

    consumer.executor = Executor([shielded])
    task = asyncio.create_task(consume())
    for _ in range(5):
        await asyncio.sleep(0.05)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(consumer.runs[0].report) == 1


WAYS = [
    broken_off,
    closed_here,
    closed_by_another_task,
    stepped_by_wait_for,
    stepped_with_a_heartbeat,
    cancelled_step,
    cancelled_consumer,
    error_in_the_block,
    fixture,
    two_generators_at_once,
    generator_in_a_tool,
    cancelled_again_and_again,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("eager", [False, True], ids=["tasks", "eager"])
def test_the_consumer_is_not_hurt(way, eager):
    """No RuntimeError, no cancelled consumer; the run has ended, and nothing is kept."""
    if eager and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")

    async def main():
        if eager:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        consumer = Consumer()
        await way(consumer)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)
        free(consumer.executor)
        for run in consumer.runs:
            assert len(run.report) == len(run.report.plan.calls)

    run_virtual(main)


@pytest.mark.anyio
async def test_generators_on_both_backends():
    """Closed by the task that began it, and by another."""
    consumer = Consumer()
    generator = consumer.events()
    await anext(generator)
    await generator.aclose()
    generator = consumer.events()
    await anext(generator)
    async with anyio.create_task_group() as group:
        group.start_soon(generator.aclose)
    free(consumer.executor)


NESTED = """
import asyncio, nest_asyncio
nest_asyncio.apply()
from dagexec import Call, Executor, tool

@tool(effect="read")
async def nap() -> int:
    await asyncio.sleep(0.01)
    return 1

executor = Executor([nap], concurrency={concurrency})
TWO = [Call("a", "nap"), Call("b", "nap", after=("a",))]

async def live():
    async with executor.start(TWO) as run:
        async for _ in run:
            pass
    return run.report.ok

async def main():
    assert (await executor.run(TWO)).ok
    loop = asyncio.get_running_loop()
    assert loop.run_until_complete(executor.run(TWO)).ok
    assert loop.run_until_complete(live())
    assert await live()
    task = asyncio.ensure_future(executor.run(TWO))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("fine")

asyncio.run(main())
"""


@pytest.mark.real_time
@pytest.mark.parametrize("concurrency", [20, 0])
def test_with_nest_asyncio(concurrency):
    """It changes asyncio for the whole process, so in one of its own."""
    pytest.importorskip("nest_asyncio")
    found = subprocess.run(
        [sys.executable, "-c", NESTED.format(concurrency=concurrency)],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout == "fine\n", found.stderr


@pytest.mark.real_time
def test_with_uvloop():
    """A run, live and not, on another event loop of asyncio's."""

    async def main():
        consumer = Consumer()
        await stepped_by_wait_for(consumer)
        await closed_by_another_task(consumer)
        return await consumer.executor.run(CALLS)

    assert pytest.importorskip("uvloop").run(main()).ok
