"""Live runs, observers and streamed plans."""

from __future__ import annotations

import logging

import anyio
import pytest

from dagexec import BadReference, Call, DagexecError, Executor, Plan, Ref, Timeouts
from dagexec.lowlevel import Added, Finish, Launch, Settled, Started
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio


def pair(**options):
    """Return a box and an executor: `look` reads for 1 s, `change` writes for 1 s."""
    box = ToolBox()
    box.tool("look", seconds=1, returns="seen", effect="read")
    box.tool("change", seconds=1)
    return box, Executor(box.tools, **options)


AB = Plan([Call("a", "look"), Call("b", "change", after=("a",))])


async def test_events_come_in_order_and_end_with_the_run():
    """Iterating gives events and actions from the first to Finish."""
    _, executor = pair()
    async with executor.start(AB) as run:
        seen = [type(event).__name__ async for event in run]
    assert seen == [
        "Added",
        "Added",
        "Closed",
        "Launch",
        "Started",
        "Settled",
        "Launch",
        "Started",
        "Settled",
        "Finish",
    ]
    assert run.report.ok


async def test_observers_get_the_same_and_cannot_harm(caplog):
    """One that raises is logged, and the others and the run go on."""
    caplog.set_level(logging.ERROR, "dagexec")
    seen = []

    def broken(_event):
        raise RuntimeError("in the observer")

    _, executor = pair(observers=(broken, seen.append))
    assert (await executor.run(AB)).ok
    kinds = [Added, Started, Settled, Launch, Finish]
    assert [sum(isinstance(event, kind) for event in seen) for kind in kinds] == [2, 2, 2, 2, 1]
    assert isinstance(seen[-1], Finish)
    assert len(caplog.records) == len(seen)


async def test_the_report_can_be_read_at_any_time():
    """It holds what has ended so far."""
    _, executor = pair()
    run = executor.start(AB)
    assert dict(run.report) == {}
    async with run:
        await anyio.sleep(1.5)
        assert list(run.report) == ["a"]
        assert not run.report.ok
        assert "1 unfinished" in str(run.report)
    assert list(run.report) == ["a", "b"]


async def test_leaving_the_block_waits():
    """The run is over when the block is."""
    box, executor = pair()
    start = anyio.current_time()
    async with executor.start(AB) as run:
        pass
    assert anyio.current_time() - start == pytest.approx(2, abs=1e-9)
    assert run.report.ok
    assert box.running == []


@pytest.mark.parametrize("after", [None, 0, 0.5, 1, 1.5, 2, 3])
async def test_cancel_ends_the_run_and_keeps_what_is_done(after):
    """Also before the first step: every call has one outcome."""
    box, executor = pair()
    async with executor.start(AB) as run:
        if after is not None:
            await anyio.sleep(after)
        run.cancel()
    assert list(run.report) == ["a", "b"]
    assert {each.status for each in run.report.values()} <= {"done", "cancelled"}
    assert box.running == []
    if after in (None, 0, 0.5):
        assert run.report["b"].status == "cancelled"
        assert run.report["b"].started is None
    if after is None:
        assert box.log == []


@pytest.mark.parametrize("after", [None, 0, 0.5, 1.5])
async def test_an_error_in_the_block_cancels_the_run_and_passes_bare(after):
    """The block's own error comes out, not a group."""
    box, executor = pair()
    start = anyio.current_time()
    with pytest.raises(KeyError):
        async with executor.start(AB):
            if after is not None:
                await anyio.sleep(after)
            raise KeyError("mine")
    assert anyio.current_time() - start == pytest.approx(after or 0, abs=1e-9)
    assert box.running == []


async def test_a_run_starts_once():
    """A second start is an error that says what to do."""
    _, executor = pair()
    async with executor.start(AB) as run:
        pass
    with pytest.raises(DagexecError, match="started once"):
        await run.__aenter__()


async def test_reading_events_before_the_start_is_an_error():
    """The error says to enter the run."""
    _, executor = pair()
    with pytest.raises(DagexecError, match="enter the run"):
        aiter(executor.start(AB))


# --------------------------------------------------------------------------------- streamed plans


async def spaced(*calls, then=None):
    """Give calls one second apart, from the first second on, then perhaps raise."""
    for call in calls:
        await anyio.sleep(1)
        yield call
    await anyio.sleep(1)
    if then is not None:
        raise then


async def test_reads_start_while_the_source_still_writes_and_writes_when_it_is_closed():
    """A write waits for the end of the stream, at the fourth second."""
    box, executor = pair()
    report = await executor.run(
        spaced(Call("w", "change"), Call("r", "look"), Call("s", "look", {"x": Ref("r")}))
    )
    assert report.ok
    assert list(report) == ["w", "r", "s"]
    assert [(span.call, round(span.started, 6)) for span in box.log] == [
        ("r", 0),
        ("s", 1),
        ("w", 2),
    ]


async def test_a_reference_to_what_comes_later():
    """It waits until that call arrives."""
    _, executor = pair()
    report = await executor.run(spaced(Call("x", "look", {"v": Ref("y")}), Call("y", "look")))
    assert report.ok


async def test_a_source_that_breaks():
    """What has finished is kept, nothing more starts, the cause is named."""
    box, executor = pair()
    cause = OSError("connection lost")
    with pytest.raises(DagexecError, match="connection lost") as caught:
        await executor.run(
            spaced(Call("a", "look"), Call("w", "change"), Call("b", "look"), then=cause)
        )
    assert caught.value.__cause__ is cause
    report = caught.value.report
    assert list(report) == ["a", "w", "b"]
    assert report["a"].value == "seen"
    assert report["w"].status == "cancelled"
    assert report["w"].started is None
    assert "change" not in box.order
    assert box.running == []


async def test_bad_calls_of_a_stream_become_failed_outcomes():
    """Unknown tools and references, cycles, self references and bad calls; the others run."""
    _, executor = pair()
    report = await executor.run(
        spaced(
            Call("ok", "look"),
            Call("tool", "nothing"),
            Call("ref", "look", {"x": Ref("nobody")}),
            Call("self", "look", {"x": Ref("self")}),
            Call("c1", "look", {"x": Ref("c2")}),
            Call("c2", "look", {"x": Ref("c1")}),
            Call("bad", "look", problem="not JSON"),
            Call("next", "look", after=("tool",)),
            Call("last", "change"),
        )
    )
    assert {name: each.status for name, each in report.items()} == {
        "ok": "done",
        "tool": "failed",
        "ref": "failed",
        "self": "failed",
        "c1": "failed",
        "c2": "failed",
        "bad": "failed",
        "next": "skipped",
        "last": "done",
    }
    assert report["next"].because == "tool"
    assert isinstance(report["ref"].error, BadReference)
    assert str(report["bad"].error) == "not JSON"
    assert len(report.exceptions.exceptions) == 6


async def test_an_id_that_comes_twice_breaks_the_stream():
    """There is one outcome for an id; the error names it."""
    _, executor = pair()
    with pytest.raises(DagexecError, match="'a' was added twice"):
        await executor.run(spaced(Call("a", "look"), Call("a", "look")))


@pytest.mark.parametrize("how", ["deadline", "caller", "cancel", "stop"])
async def test_the_source_is_closed_when_the_run_ends_early(how):
    """A generator's finally block has run when `run` returns."""
    closed = []

    async def source():
        try:
            yield Call("a", "look")
            yield Call("b", "bad")
            await anyio.sleep(100)
        finally:
            closed.append(True)

    box = ToolBox()
    box.tool("look", seconds=2, effect="read")
    box.tool("bad", seconds=1, effect="read", raises=ValueError("no"))
    executor = Executor(
        box.tools,
        on_failure="stop" if how == "stop" else "skip",
        timeouts=Timeouts(call=None, workflow=3 if how == "deadline" else None),
    )
    with anyio.move_on_after(3 if how == "caller" else 1000):
        async with executor.start(source()) as run:
            if how == "cancel":
                await anyio.sleep(3)
                run.cancel()
    assert closed == [True]
    assert list(run.report) == ["a", "b"]


async def test_any_async_iterator_is_a_source():
    """One without `aclose` too."""

    class Source:
        def __init__(self):
            self.left = [Call("a", "look"), Call("b", "change")]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    _, executor = pair()
    assert list(await executor.run(Source())) == ["a", "b"]


class Cut:
    """A source that comes to its end and says that its plan is not whole."""

    broken = None

    def __init__(self, *calls):
        self.calls = list(calls)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await anyio.sleep(0.7)
        if not self.calls:
            self.broken = "cut off: ask again"
            raise StopAsyncIteration
        return self.calls.pop(0)


@pytest.mark.parametrize("options", [{}, {"barrier": True}, {"timeouts": Timeouts(layer=9)}])
async def test_a_source_that_says_that_its_plan_is_not_whole(options):
    """What is done is kept, nothing more starts, and the run returns."""
    box, executor = pair(**options)
    calls = [
        Call("a", "look"),
        Call("b", "change"),
        Call("c", "look", after=("b",)),
        Call("d", "x"),
    ]
    report = await executor.run(Cut(*calls))
    assert [outcome.status for outcome in report.values()] == [
        "done",
        "cancelled",
        "cancelled",
        "failed",
    ]
    assert "cut off: ask again" in str(report["b"].error)
    assert report["b"].started is None
    assert [span.tool for span in box.log] == ["look"]
    with pytest.raises(ExceptionGroup):
        report.raise_for_failures()


async def test_a_source_that_is_cut_in_the_debugging_mode():
    """Nothing of it runs: with concurrency 0 the source is read to its end first."""
    box, executor = pair(concurrency=0)
    report = await executor.run(Cut(Call("a", "look"), Call("b", "change")))
    assert {outcome.status for outcome in report.values()} == {"cancelled"}
    assert box.log == []


async def test_within_changes_the_deadlines_and_shares_the_slots():
    """The nearer of the two names the scope; the executor itself is as before."""
    box, executor = pair(concurrency=1)
    short = executor.within(Timeouts(turn=0.5, workflow=9))
    late = executor.within(Timeouts(turn=None, workflow=1.5))
    reports = {}

    async def run(name, which):
        reports[name] = await which.run([Call("a", "look")])

    async with anyio.create_task_group() as group:
        group.start_soon(run, "whole", executor)
        await anyio.sleep(0.1)
        group.start_soon(run, "short", short)
        group.start_soon(run, "late", late)
    assert reports["whole"].ok
    assert (reports["short"]["a"].status, reports["short"]["a"].scope) == ("timed_out", "turn")
    assert reports["short"]["a"].started is None  # the only slot was taken
    assert reports["late"]["a"].scope == "workflow"
    assert executor.timeouts == Timeouts()
    assert len(box.log) == 2


async def test_a_run_that_has_ended_can_be_cancelled_and_not_read(caplog):
    """The one does nothing, the other is refused with what to do instead."""
    box = ToolBox()
    box.tool("t", seconds=1)
    observers = [lambda item: None]
    async with Executor(box.tools, observers=observers).start([Call("1", "t")]) as run:
        pass
    run.cancel()
    assert run.report.ok
    assert not caplog.records
    with pytest.raises(DagexecError, match="inside its block"):
        async for _ in run:
            """Never."""


async def test_a_run_can_be_cancelled_before_it_begins():
    """Nothing starts, and the block is left as after any other run."""
    box = ToolBox()
    box.tool("t", seconds=1)
    run = Executor(box.tools).start(Plan([Call("a", "t")]))
    run.cancel()
    async with run:
        pass
    assert run.report["a"].status == "cancelled"
    assert run.report.elapsed == 0
