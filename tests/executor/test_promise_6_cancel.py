"""Promises 2 and 6: cancellation at every point, bare interrupts, nothing left alive."""

from __future__ import annotations

import asyncio
import logging
import sys

import anyio
import pytest

from dagexec import Call, CallCancelled, Executor, Plan, Ref, Timeouts, tool
from dagexec._runtime.recorder import Recorder
from dagexec.journal import MemoryJournal
from dagexec.testing import ToolBox, run_virtual

pytestmark = pytest.mark.anyio
CHAIN = Plan(
    [
        Call("a", "t"),
        Call("b", "t", {"x": Ref("a")}),
        Call("c", "t"),
        Call("d", "t", {"x": Ref("c"), "y": Ref("b")}),
        Call("e", "t"),
    ]
)
LAYERS = Timeouts(call=50, layer=40, turn=60)
SETTINGS = [
    {},
    {"concurrency": 1},
    {"concurrency": 0},
    {"timeouts": LAYERS},
    {"timeouts": LAYERS, "concurrency": 1},
    {"barrier": True, "on_failure": "stop"},
]


def free(executor):
    """Check that every slot is free and nobody waits for one."""
    for slots in executor._slots.values():
        assert slots.free == (executor.concurrency or float("inf"))
        assert not slots.waiters


def alive():
    """Return the tasks that are alive beside the caller's."""
    return {task.id for task in anyio.get_running_tasks()}


async def streamed(calls):
    """Give calls one second apart."""
    for call in calls:
        await anyio.sleep(1)
        yield call


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("stream", [False, True], ids=["plan", "stream"])
async def test_cancelling_at_every_instant(settings, stream):
    """A scope of the caller that expires at any instant ends the run at that instant."""
    for tenths in range(-1, 55):
        box = ToolBox()
        box.tool("t", seconds=1, effect="read")
        executor = Executor(box.tools, **settings)
        before, start, report = alive(), anyio.current_time(), None
        with anyio.CancelScope(deadline=start + tenths / 10) as scope:
            report = await executor.run(streamed(CHAIN) if stream else CHAIN)
        assert alive() == before
        assert not box.running
        free(executor)
        if scope.cancelled_caught:
            assert report is None
            assert anyio.current_time() - start == pytest.approx(max(tenths / 10, 0), abs=1e-9)
        else:
            assert report.ok
            assert len(report) == 5


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("stream", [False, True], ids=["plan", "stream"])
async def test_cancelling_after_every_step_of_the_event_loop(settings, stream):
    """Tools that only yield: the caller is cancelled after k turns, for every k."""

    @tool(effect="read")
    async def t(x: object = None, y: object = None) -> int:
        """Yield a few times."""
        running.append(1)
        try:
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
        finally:
            running.pop()
        return 1

    async def source():
        for call in CHAIN:
            await anyio.lowlevel.checkpoint()
            yield call

    async def caller(scope, done):
        with scope:
            done.append(await executor.run(source() if stream else CHAIN))

    finished = 0
    for turns in range(60):
        running, done, scope = [], [], anyio.CancelScope()
        executor = Executor([t], **settings)
        before = alive()
        async with anyio.create_task_group() as group:
            group.start_soon(caller, scope, done)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
        assert alive() == before
        assert not running
        free(executor)
        finished += bool(done)
        assert all(report.ok for report in done)
    assert finished


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("stream", [False, True], ids=["plan", "stream"])
def test_native_cancellation_after_every_step(settings, stream):
    """Asyncio's own task.cancel() ends the run with CancelledError, wherever it strikes."""

    async def main():
        box = ToolBox()
        box.tool("t", seconds=1, effect="read")
        finished = 0
        for turns in range(70):
            executor = Executor(box.tools, **settings)
            task = asyncio.create_task(executor.run(streamed(CHAIN) if stream else CHAIN))
            for _ in range(turns):
                await asyncio.sleep(0 if turns % 2 else 0.2)
            task.cancel()
            try:
                report = await task
            except asyncio.CancelledError:
                pass
            else:
                assert report.ok
                finished += 1
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not box.running
            free(executor)
        assert finished

    run_virtual(main)


@pytest.mark.parametrize("how", ["swallow and return", "swallow and go on", "fail"])
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("settings", SETTINGS[:4], ids=range(4))
def test_a_tool_cannot_keep_the_callers_cancellation(how, native, settings):
    """Whatever a tool does with it, the run ends and the caller is cancelled; no call starts."""

    @tool
    async def first() -> int:
        """Do not obey."""
        try:
            await anyio.sleep(100)
        except BaseException as error:
            if how == "fail":
                raise ValueError("instead") from error
        if how == "swallow and go on":
            try:
                await anyio.sleep(2)
            except BaseException:
                return 2
        return 1

    async def main():
        box = ToolBox()
        box.tool("later")
        executor = Executor([first, *box.tools], **(settings | {"timeouts": Timeouts(layer=60)}))
        plan = Plan([Call("a", "first"), Call("b", "later", after=("a",))])
        reports = []

        async def caller():
            reports.append(await executor.run(plan))

        async def in_scope():
            with scope:
                await caller()

        scope = anyio.CancelScope()
        task = asyncio.create_task(caller() if native else in_scope())
        await asyncio.sleep(1)
        task.cancel() if native else scope.cancel()
        await asyncio.wait([task])
        assert reports == []
        assert task.cancelled() == native
        assert box.log == []
        free(executor)

    run_virtual(main)


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
async def test_a_cancellation_of_its_own_is_a_failed_call(settings):
    """A tool that raises CancelledError itself fails; the run goes on."""

    @tool
    async def bad() -> None:
        """Raise it."""
        await anyio.sleep(1)
        raise asyncio.CancelledError

    @tool
    async def good() -> int:
        """Return."""
        await anyio.sleep(2)
        return 1

    report = await Executor([bad, good], **(settings | {"on_failure": "skip"})).run(
        Plan([Call("a", "bad"), Call("b", "good"), Call("c", "good", after=("a",))])
    )
    assert [each.status for each in report.values()] == ["failed", "done", "skipped"]
    assert isinstance(report["a"].error, CallCancelled)


def test_a_cancellation_of_its_own_in_a_cancelled_caller():
    """Also when the run is part of the clean-up of a task that was cancelled natively."""

    @tool
    async def bad() -> None:
        """Wait for what was cancelled."""
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def caller():
        try:
            await asyncio.sleep(100)
        finally:
            report = await Executor([bad]).run(Plan([Call("a", "bad")]))
            assert report["a"].status == "failed"
            seen.append(report)

    async def main():
        task = asyncio.create_task(caller())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    seen = []
    run_virtual(main)
    assert seen


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
@pytest.mark.parametrize("place", ["first", "last"])
async def test_interrupts_pass_bare(kind, grouped, settings, place):
    """KeyboardInterrupt and SystemExit leave the run as they are, and nothing stays behind."""
    error = kind(3)

    @tool
    async def stop() -> None:
        """Raise it, from a task group perhaps."""
        await anyio.sleep(1)
        if not grouped:
            raise error
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 100)
            raise error

    box = ToolBox()
    box.tool("t", seconds=5)
    calls = [Call("a", "t"), Call("b", "t"), Call("c", "t", after=("a",))]
    calls.insert(0 if place == "first" else 3, Call("s", "stop"))
    executor = Executor([stop, *box.tools], **settings)
    before = alive()
    with pytest.raises(kind) as caught:
        await executor.run(Plan(calls))
    assert caught.value is error
    assert alive() == before
    assert not box.running
    free(executor)
    assert (await executor.run(Plan([Call("a", "t")]))).ok


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_interrupts_of_a_source_pass_bare(kind):
    """Also when the source of a streamed plan raises them."""

    async def source():
        yield Call("a", "t")
        raise kind(3)

    box = ToolBox()
    box.tool("t", seconds=5, effect="read")
    with pytest.raises(kind):
        await Executor(box.tools).run(source())
    assert not box.running


@pytest.mark.real_time
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_interrupts_from_threads(kind):
    """They pass bare from a thread too, and a CancelledError there is a failure."""

    @tool
    def stop() -> None:
        """Raise it."""
        raise kind

    executor = Executor([stop])
    if kind is asyncio.CancelledError:
        report = await executor.run(Plan([Call("a", "stop")]))
        assert isinstance(report["a"].error, CallCancelled)
    else:
        with pytest.raises(kind):
            await executor.run(Plan([Call("a", "stop")]))
    free(executor)


STOPPERS = ["call", "layer", "workflow", "caller", "failure"]


async def stopped_at_2(stopped_by, slow, calls):
    """Run calls that something stops after 2 s; return the report, None for a cancelled caller.

    The tool `slow` holds the run to the fifth second, and what the caller sees is checked.
    """

    @tool
    async def bad() -> None:
        """Fail."""
        await anyio.sleep(2)
        raise ValueError("no")

    names = {"call": None, "workflow": None}
    if stopped_by in ("call", "layer", "workflow"):
        names[stopped_by] = 2
    executor = Executor(
        [slow, bad],
        timeouts=Timeouts(**names),
        on_failure="stop" if stopped_by == "failure" else "skip",
    )
    if stopped_by == "failure":
        calls = [*calls, Call("b", "bad")]
    start, report = anyio.current_time(), None
    with anyio.CancelScope(deadline=start + 2 if stopped_by == "caller" else float("inf")) as scope:
        report = await executor.run(Plan(calls))
    assert anyio.current_time() - start == pytest.approx(5, abs=1e-9)
    assert scope.cancelled_caught == (stopped_by == "caller")
    return report


def named(caplog):
    """Return what was logged, without the failure that stopped the run."""
    records = [each for each in caplog.records if not hasattr(each, "dagexec_call")]
    return [record.getMessage() for record in records]


@pytest.mark.parametrize("stopped_by", STOPPERS)
async def test_a_tool_that_swallows_cancellation_is_cancelled_again_and_named(stopped_by, caplog):
    """It is told at each await; after a second the log names it, and the run waits."""
    caplog.set_level(logging.WARNING, "dagexec")
    waits = []

    @tool
    async def stubborn() -> int:
        """Take some time to die, by awaits that are not shielded."""
        end = anyio.current_time() + 5
        while anyio.current_time() < end:
            try:
                await anyio.sleep(100)
            except anyio.get_cancelled_exc_class():
                waits.append(anyio.current_time())
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.5)
        return 7

    report = await stopped_at_2(stopped_by, stubborn, [Call("s", "stubborn")])
    assert len(waits) == 6
    assert named(caplog) == [
        "call 's': tool 'stubborn' still runs 1 s after it was cancelled; the run waits for it"
    ]
    if stopped_by != "caller":
        assert report["s"].value == 7


@pytest.mark.parametrize("stopped_by", STOPPERS)
async def test_a_tool_that_hides_from_its_cancellation_is_named(stopped_by, caplog):
    """Nothing is thrown into a shielded scope; the run waits, and says for what."""

    @tool
    async def hidden() -> int:
        """Hide."""
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5)
        return 7

    report = await stopped_at_2(stopped_by, hidden, [Call("h", "hidden"), Call("i", "hidden")])
    assert sorted(text[:8] for text in named(caplog)) == ["call 'h'", "call 'i'"]
    if stopped_by != "caller":
        assert report["h"].value == 7


async def test_the_watchdog_holds_no_run():
    """A run ends with its last call, on every way out."""
    box = ToolBox()
    box.tool("t", seconds=1)
    executor = Executor(box.tools, timeouts=Timeouts(workflow=0.5))
    report = await executor.run(Plan([Call("a", "t")]))
    assert report["a"].scope == "workflow"
    assert report.elapsed == 0.5
    before, start = alive(), anyio.current_time()
    with anyio.move_on_after(0.25):
        await executor.run(Plan([Call("a", "t")]))
    assert anyio.current_time() - start == 0.25
    assert alive() == before


async def test_a_scope_of_the_tools_own_is_nobodys_business(caplog):
    """A tool that gives up waiting for something and cleans up for long is not named."""

    @tool
    async def patient() -> int:
        """Swallow a cancellation that it asked for itself."""
        with anyio.move_on_after(1):
            try:
                await anyio.sleep(100)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(5)
        await anyio.sleep(5)
        return 1

    report = await Executor([patient]).run(Plan([Call("a", "patient"), Call("b", "patient")]))
    assert report.ok
    assert caplog.records == []


async def test_a_tool_cannot_keep_the_cancellation_of_a_scope():
    """On both backends no further call starts, and the caller is cancelled."""

    @tool
    async def first() -> int:
        """Swallow it and return."""
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            return 1
        return 2

    for concurrency in (0, 1, 2):
        box = ToolBox()
        box.tool("later")
        executor = Executor([first, *box.tools], concurrency=concurrency)
        report = None
        with anyio.move_on_after(1):
            report = await executor.run(
                Plan([Call("a", "first"), Call("b", "later", after=("a",))])
            )
        assert report is None
        assert box.log == []


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
async def test_the_tasks_of_a_tool_end_with_it(settings):
    """Task groups inside tools are cancelled and awaited like the tools."""
    living = 0

    @tool
    async def family() -> None:
        """Start three tasks."""

        async def child():
            nonlocal living
            living += 1
            try:
                await anyio.sleep(1000)
            finally:
                living -= 1

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(child)

    executor = Executor([family], **(settings | {"timeouts": Timeouts(call=3, workflow=5)}))
    report = await executor.run(Plan([Call("a", "family"), Call("b", "family")]))
    assert {each.status for each in report.values()} <= {"timed_out", "cancelled"}
    assert living == 0


async def test_nothing_is_alive_after_an_exit_by_an_error_of_the_runner(monkeypatch):
    """Even a fault inside dagexec ends all tasks and frees all slots."""
    box = ToolBox()
    box.tool("t", seconds=2)
    executor = Executor(box.tools)
    monkeypatch.setattr(
        sys.modules["dagexec._runtime.lane"].Lane, "settle", lambda self, *_args: 1 / 0
    )
    before = alive()
    with pytest.raises(ZeroDivisionError):
        await executor.run(Plan([Call("a", "t"), Call("b", "t")]))
    assert alive() == before
    assert not box.running
    free(executor)


async def test_no_run_is_live_after_its_recorder_failed(monkeypatch):
    """Whatever breaks at the end: it is not shown any more, and what it held is free."""

    async def drain(self):
        msg = "a fault of the recorder"
        raise RuntimeError(msg)

    box = ToolBox()
    box.tool("t", seconds=2)
    executor = Executor(box.tools, journal=MemoryJournal())
    monkeypatch.setattr(Recorder, "drain", drain)
    with pytest.raises(RuntimeError, match="a fault of the recorder"):
        await executor.run(Plan([Call("a", "t")]))
    assert executor.snapshot().runs == ()
    free(executor)


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
async def test_a_tool_that_ends_its_own_affairs_first_holds_the_run_no_longer_than_that(settings):
    """A nested run waits for its calls when it is cancelled; the run must not wait for a watch."""

    @tool(effect="read")
    async def outer() -> None:
        await executor.run([Call("i", "slow"), Call("j", "slow")])

    @tool(effect="read")
    async def slow() -> None:
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.25)

    executor = Executor([outer, slow], **settings)
    began = anyio.current_time()
    with anyio.move_on_after(1):
        await executor.run([Call("o", "outer"), Call("p", "outer")])
    assert anyio.current_time() - began == pytest.approx(1.25)
    free(executor)
