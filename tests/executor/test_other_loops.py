"""A context copied into another thread carries the call along, but not the loop that it is in."""

from __future__ import annotations

import threading
from contextvars import copy_context

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, tool
from dagexec.lowlevel import run_in_loop, run_in_thread


@pytest.mark.real_time
@pytest.mark.anyio
async def test_a_run_in_a_thread_of_the_tools_own_leaves_the_slots_of_the_loop_above_alone():
    """It has a loop of its own, so it neither gives back nor takes what that loop counts."""

    @tool
    def inner(text: str) -> str:
        return text

    @tool
    async def outer() -> str:
        found: list[str] = []

        def work() -> None:
            report = executor.run_sync([Call("i", "inner", {"text": "inner"})])
            found.append(report["i"].value)

        context = copy_context()
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        return found[0]

    executor = Executor([inner, outer], concurrency=1)
    for _ in range(20):
        report = await executor.run([Call("a", "outer"), Call("b", "outer")])
        assert report.outputs == {"a": "inner", "b": "inner"}


@pytest.mark.real_time
@pytest.mark.anyio
async def test_an_async_tool_calls_what_is_synchronous_and_back_again():
    """Both ways are those of `dagexec.lowlevel`."""
    where: list[str] = []

    async def in_loop() -> int:
        await anyio.sleep(0)
        where.append(threading.current_thread().name)
        return 7

    @tool
    def blocking() -> int:
        where.append(threading.current_thread().name)
        return run_in_loop(in_loop)

    @tool
    async def waiting() -> str:
        return await run_in_thread(lambda: threading.current_thread().name)

    here = threading.current_thread().name
    report = await Executor([blocking, waiting]).run([Call("b", "blocking"), Call("w", "waiting")])
    assert report["b"].value == 7
    assert where[0] != here
    assert where[1] == here
    assert report["w"].value != here


def test_run_in_loop_needs_a_tools_thread():
    """Anywhere else there is no loop that waits."""

    async def nothing() -> None:
        pass

    with pytest.raises(DagexecError, match="thread of a synchronous tool"):
        run_in_loop(nothing)
