"""A context copied into another thread carries the call along, but not the loop that it is in."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextvars import copy_context

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, ask, current_call, tool
from dagexec.journal import MemoryJournal
from dagexec.lowlevel import Progress, run_in_loop, run_in_thread


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


@pytest.mark.real_time
@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["tool", "run_in_thread"])
async def test_a_synchronous_tool_may_run_a_loop_of_its_own(kind):
    """Its thread has none, and nothing in its context says that it has trio's."""

    async def wait() -> str:
        await anyio.sleep(0.001)
        return "ok"

    if kind == "tool":

        @tool(effect="read")
        def fetch() -> str:
            current_call().progress(1)
            return asyncio.run(wait()) + run_in_loop(wait)

    else:

        @tool(effect="read")
        async def fetch() -> str:
            return await run_in_thread(lambda: asyncio.run(wait())) + await wait()

    told: list[object] = []
    report = await Executor([fetch], observers=[told.append]).run([Call("f", "fetch")])
    report.raise_for_failures()
    assert report["f"].value == "okok"
    assert any(isinstance(item, Progress) for item in told) == (kind == "tool")


# ----------------------------------------------------------------------------------- one by one


def nesting(executor_of):
    """Return an executor whose tools nest, synchronous and asynchronous ones by turns."""

    @tool
    def outer(x: int) -> list[object]:
        where = threading.current_thread() is threading.main_thread()
        report = executor.run_sync([Call("m", "middle", {"x": x})])
        return [where, *report.outputs["m"]]

    @tool
    async def middle(x: int) -> list[int]:
        await anyio.sleep(0.001)
        report = await executor.run([Call("i", "inner", {"x": x}), Call("j", "inner", {"x": -x})])
        return list(report.outputs.values())

    @tool
    def inner(x: int) -> int:
        return executor.run_sync([Call("l", "leaf", {"x": x})]).outputs["l"]

    @tool
    def leaf(x: int) -> int:
        seen.append((current_call().id, x))
        return x * 10

    seen: list[tuple[str, int]] = []
    executor = executor_of([outer, middle, inner, leaf])
    return executor, seen


@pytest.mark.real_time
@pytest.mark.anyio
async def test_synchronous_tools_nest_one_by_one(anyio_backend_name):
    """To debug: the outer tool stays in the caller's thread, and all run in plan order."""
    executor, seen = nesting(lambda tools: Executor(tools, concurrency=0))
    report = await executor.run([Call("a", "outer", {"x": 1}), Call("b", "outer", {"x": 2})])
    report.raise_for_failures()
    assert report.outputs == {"a": [True, 10, -10], "b": [True, 20, -20]}
    assert seen == [("l", 1), ("l", -1), ("l", 2), ("l", -2)]


@pytest.mark.real_time
def test_a_program_that_works_also_works_one_by_one(monkeypatch):
    """DAGEXEC_CONCURRENCY=0 changes what runs where, not what comes out."""
    executor, _ = nesting(Executor)
    parallel = executor.run_sync([Call("a", "outer", {"x": 1})]).outputs["a"]
    monkeypatch.setenv("DAGEXEC_CONCURRENCY", "0")
    executor, _ = nesting(Executor)
    assert executor.run_sync([Call("a", "outer", {"x": 1})]).outputs["a"][1:] == parallel[1:]


@pytest.mark.real_time
@pytest.mark.anyio
async def test_an_asynchronous_tool_still_has_to_await():
    """It could, and it would stop the loop that it needs."""

    @tool
    async def wrong() -> None:
        executor.run_sync([])

    executor = Executor([wrong], concurrency=0)
    report = await executor.run([Call("w", "wrong")])
    assert "write: await executor.run(plan)" in str(report["w"].error)


@pytest.mark.real_time
@pytest.mark.anyio
@pytest.mark.parametrize("concurrency", [0, 3])
async def test_a_synchronous_tool_asks_a_person(concurrency):
    """Through `run_in_loop`; it runs again with the answer."""

    @tool
    def which() -> str:
        return "got " + run_in_loop(lambda: ask("Which?"))

    executor = Executor([which], concurrency=concurrency, journal=MemoryJournal())
    report = await executor.run([Call("w", "which")], run_id="r")
    assert (report["w"].status, report["w"].question) == ("pending", "Which?")
    report = await executor.resume("r", {"w": "this"})
    assert report.outputs == {"w": "got this"}


@pytest.mark.real_time
@pytest.mark.anyio
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the alarm is a signal of Unix")
async def test_an_interrupt_ends_a_nested_run_one_by_one():
    """It passes through, and leaves no thread behind."""

    @tool
    def outer() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        executor.run_sync([Call("l", "leaf")])

    @tool
    async def leaf() -> None:
        try:
            await anyio.sleep(30)
        finally:
            ended.append(True)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ended: list[bool] = []
    executor = Executor([outer, leaf], concurrency=0)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            await executor.run([Call("o", "outer")])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended == [True]
