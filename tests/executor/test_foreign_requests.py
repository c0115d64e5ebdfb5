"""Somebody cancels the tasks of a run that is not theirs: all tasks of the event loop, say.

On asyncio only, where `asyncio.all_tasks()` hands them to anybody.
"""

from __future__ import annotations

import asyncio
import sys

import pytest

from dagexec import Call, Executor, Ref, Timeouts, tool
from dagexec.journal import MemoryJournal

pytestmark = [
    pytest.mark.anyio,
    # anyio's, of a task of a group that is cancelled before its first step
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@tool(effect="read")
async def quick(x: int = 0) -> int:
    return x + 1


@tool(effect="read")
async def naps(x: int = 0) -> int:
    await asyncio.sleep(0.01)
    return x + 1


CALLS = [
    Call("a", "naps"),
    Call("b", "quick"),
    Call("c", "naps", {"x": Ref("a")}),
    Call("d", "quick", {"x": Ref("c")}),
]
SETTINGS = {
    "usual": {},
    "one": {"concurrency": 1},
    "layers": {"timeouts": Timeouts(layer=50)},
    "journal": {"journal": True},
}


def executor_of(settings: dict[str, object]) -> Executor:
    if "journal" in settings:
        settings = {**settings, "journal": MemoryJournal()}
    return Executor([quick, naps], **settings)


def cancel_others(but: set[asyncio.Task[object]]) -> None:
    for task in asyncio.all_tasks() - but - {asyncio.current_task()}:
        task.cancel()


def check(executor: Executor, before: set[asyncio.Task[object]]) -> None:
    assert asyncio.all_tasks() == before
    for slots in executor._slots.values():
        assert slots.free == executor.concurrency
        assert not slots.waiters
    assert executor.snapshot().runs == ()


@pytest.mark.parametrize("eager", [False, True], ids=["tasks", "eager"])
@pytest.mark.parametrize("kind", SETTINGS)
async def test_tasks_that_are_cancelled_also_before_their_first_step(
    kind: str, eager: bool
) -> None:
    """A call fails, or the run is cancelled: none hangs, none is said to have ended in order."""
    if eager and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    if eager:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    before, ends = asyncio.all_tasks(), set()
    for turns in range(12):
        executor = executor_of(SETTINGS[kind])
        task = asyncio.create_task(executor.run(CALLS, run_id="r"))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancel_others({*before, task})
        await asyncio.wait([task], timeout=60)
        assert task.done(), turns
        check(executor, before)
        if task.cancelled():
            ends.add("cancelled")
            if executor.journal is not None:
                assert (await executor.run(CALLS, run_id="r")).ok
            continue
        report = task.result()
        ends.add(str(report).split(" in ")[0])
        assert len(report) == len(CALLS)
        assert all(each.status in ("done", "failed", "skipped") for each in report.values())
    assert "cancelled" in ends or eager
    asyncio.get_running_loop().set_task_factory(None)


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("turns", range(4))
async def test_a_live_run_whose_task_is_cancelled(turns: int, reads: bool) -> None:
    """Its events end, and its block says that it was cancelled: not all was well."""
    executor = executor_of({})
    before = asyncio.all_tasks()
    with pytest.raises(asyncio.CancelledError):
        async with executor.start(CALLS) as run:
            for _ in range(turns):
                await asyncio.sleep(0)
            cancel_others(before)
            if reads:
                async for _ in run:
                    pass
    check(executor, before)
