"""asyncio's Task.cancel(), asked for by a tool: it is the tool's own affair, early or late."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from dagexec import Call, CallCancelled, Executor, Ref, Timeouts, tool
from dagexec.limits import Limiter, Retry
from dagexec.testing import run_virtual

CONCURRENCY = pytest.mark.parametrize("concurrency", [20, 1, 0])


def cancel_later(seconds):
    """Cancel the task of whoever asks, in so many seconds; as hand-made watchdogs do."""
    return asyncio.get_running_loop().call_later(seconds, asyncio.current_task().cancel)


@tool(effect="read")
async def leaves_a_timer():
    """End at once, and have the task cancelled when this is over."""
    cancel_later(0.05)
    return "done"


@tool(effect="read")
async def leaves_a_child():
    """The same by a task that outlives the call."""
    mine = asyncio.current_task()

    async def later():
        await asyncio.sleep(0.05)
        mine.cancel()

    CHILDREN.append(asyncio.ensure_future(later()))
    return "done"


@tool(effect="read")
async def leaves_a_timer_later():
    """The same from a call that waited."""
    await asyncio.sleep(0.01)
    cancel_later(0.05)
    return "done"


@tool(effect="read")
async def cancels_itself():
    """Leave a request that has not arrived."""
    asyncio.current_task().cancel()
    return "done"


@tool(effect="read")
async def cancels_itself_often():
    """Leave several."""
    await asyncio.sleep(0.01)
    for _ in range(3):
        asyncio.current_task().cancel()
    return "done"


@tool(effect="read")
async def meets_its_own():
    """Swallow it, and leave `cancelling()` raised, as aiohttp did before 3.10."""
    timer = cancel_later(0.05)
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        return "done"
    finally:
        timer.cancel()


@tool(effect="read")
async def has_a_timeout():
    """Use asyncio's own, which takes its request back."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.sleep(1)
    return "done"


@tool(effect="read")
async def lets_its_own_out():
    """End with the CancelledError."""
    cancel_later(0.05)
    await asyncio.sleep(1)


@tool(effect="read")
async def sleeps(x=None, seconds=0.2):
    """Sleep in one go."""
    await asyncio.sleep(seconds)
    return "slept"


@tool(effect="read")
async def steps(x=None):
    """Wait often, also for the next turn only."""
    for each in range(60):
        await asyncio.sleep(0 if each % 2 else 0.004)
    return "stepped"


@tool(effect="read")
async def does_nothing(x=None):
    """Return."""
    return 1


CHILDREN = []
INNOCENT = [sleeps, steps, does_nothing]
GUILTY = [
    leaves_a_timer,
    leaves_a_child,
    leaves_a_timer_later,
    cancels_itself,
    cancels_itself_often,
    meets_its_own,
    has_a_timeout,
]


def calls_after(guilty):
    """Calls beside the guilty one and after it, in its task or another."""
    value = Ref("a", default=None)
    return [
        Call("a", guilty.name),
        Call("b", "does_nothing", {"x": value}),
        Call("c", "sleeps", {"x": Ref("b")}),
        Call("d", "steps", {"x": Ref("b")}),
        Call("e", "sleeps", {"x": Ref("d")}),
        Call("f", "sleeps"),
    ]


@pytest.mark.parametrize("guilty", GUILTY, ids=lambda each: each.name)
@CONCURRENCY
def test_a_request_of_a_tools_own_costs_nobody_anything(guilty, concurrency):
    """Neither itself, nor its siblings, nor what comes after it, nor the caller."""

    async def main():
        caller = asyncio.current_task()
        executor = Executor([guilty, *INNOCENT], concurrency=concurrency)
        report = await executor.run(calls_after(guilty))
        await asyncio.gather(*CHILDREN)
        CHILDREN.clear()
        await asyncio.sleep(0.2)
        assert caller.cancelling() == 0
        return report

    report = run_virtual(main)
    assert report.ok, report.exceptions


@CONCURRENCY
def test_a_request_that_a_tool_lets_out_fails_it(concurrency):
    """As CallCancelled; dependants take their defaults, all others are done."""

    async def main():
        executor = Executor([lets_its_own_out, *INNOCENT], concurrency=concurrency)
        return await executor.run(calls_after(lets_its_own_out))

    report = run_virtual(main)
    assert isinstance(report["a"].error, CallCancelled)
    assert {each.status for name, each in report.items() if name != "a"} == {"done"}


@CONCURRENCY
def test_a_deadline_after_a_request_of_its_own(concurrency):
    """Anyio's scope lets a cancellation through when it sees another request: still a timeout."""

    @tool(effect="read", timeout=0.5)
    async def patient():
        with suppress(asyncio.CancelledError):
            cancel_later(0.05)
            await asyncio.sleep(1)
        await asyncio.sleep(10)

    async def main():
        executor = Executor([patient, *INNOCENT], concurrency=concurrency)
        return await executor.run(calls_after(patient))

    report = run_virtual(main)
    assert report["a"].status == "timed_out"
    assert report["a"].scope == "call"
    assert {each.status for name, each in report.items() if name != "a"} == {"done"}


@CONCURRENCY
def test_attempts_of_one_call(concurrency):
    """The next attempt begins without the request that the one before has left."""
    tries = []

    @tool(effect="read", retry=Retry(3), limits=[Limiter("own", in_flight=2)])
    async def flaky():
        tries.append(asyncio.current_task().cancelling())
        with suppress(asyncio.CancelledError):
            cancel_later(0.05)
            await asyncio.sleep(1)
        if len(tries) < 3:
            raise TimeoutError("again")
        return "done"

    async def main():
        executor = Executor([flaky, *INNOCENT], concurrency=concurrency)
        return await executor.run(calls_after(flaky))

    report = run_virtual(main)
    assert report.ok, report.exceptions
    assert tries == [0, 0, 0]


@pytest.mark.parametrize("guilty", [meets_its_own, cancels_itself, leaves_a_timer])
@pytest.mark.parametrize("native", [False, True])
@CONCURRENCY
def test_the_callers_request_beside_a_tools_own(guilty, native, concurrency):
    """It is not lost among them: the run ends at once, and the caller is cancelled."""

    @tool(effect="read")
    async def deaf(x=None):
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
        return 1

    async def main():
        loop = asyncio.get_running_loop()
        executor = Executor([guilty, deaf, *INNOCENT], concurrency=concurrency)
        calls = [Call("0", "deaf", {"x": Ref("a")}), *calls_after(guilty)]
        task = asyncio.create_task(caller(executor, calls))
        await asyncio.sleep(0.3)
        began = loop.time()
        if native:
            task.cancel()
        else:
            loop.call_soon(scopes[0].reschedule, loop.time())
        await asyncio.wait([task])
        assert loop.time() - began < 0.01
        return task

    scopes = []

    async def caller(executor, calls):
        if native:
            return await executor.run(calls)
        async with asyncio.timeout(None) as scope:
            scopes.append(scope)
            return await executor.run(calls)

    task = run_virtual(main)
    if native:
        assert task.cancelled()
    else:
        assert isinstance(task.exception(), TimeoutError)


def test_a_call_that_waits_has_a_task_of_its_own():
    """What a library keeps by task is the call's; calls that never wait may share one."""
    seen = {}

    @tool(effect="read")
    async def waits(n, x=None):
        before = asyncio.current_task()
        await asyncio.sleep(0.1)
        assert asyncio.current_task() is before
        seen[n] = before
        return n

    async def main():
        calls = [Call(str(n), "waits", {"n": n}) for n in range(5)]
        calls += [Call(f"{n}b", "waits", {"n": n + 10, "x": Ref(str(n))}) for n in range(5)]
        assert (await Executor([waits], concurrency=2).run(calls)).ok

    run_virtual(main)
    assert len({id(each) for each in seen.values()}) == 10


def test_timeouts_of_the_caller_leave_no_request():
    """asyncio.timeout round a run, with a run in the clean-up of the first."""

    async def main():
        executor = Executor(INNOCENT, timeouts=Timeouts(call=None))
        for concurrency in (20, 0):
            executor = Executor(INNOCENT, concurrency=concurrency)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    try:
                        await executor.run([Call("a", "sleeps", {"seconds": 5})])
                    finally:
                        assert (await executor.run([Call("a", "sleeps"), Call("b", "steps")])).ok
            assert asyncio.current_task().cancelling() == 0

    run_virtual(main)
