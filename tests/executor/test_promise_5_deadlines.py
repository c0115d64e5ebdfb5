"""Promise 5: nested deadlines keep what has finished and name the scope that expired."""

from __future__ import annotations

import anyio
import pytest

from dagexec import (
    Call,
    CallTimeout,
    DagexecError,
    Executor,
    Plan,
    Ref,
    Timeouts,
    current_call,
    tool,
)
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio

OFF = {"call": None, "workflow": None}


def box_of(*seconds, **options):
    """Return a box with tools t1, t2 ... that sleep that many seconds."""
    box = ToolBox()
    for each in seconds:
        box.tool(f"t{each}", seconds=each, returns=each, **options)
    return box


def brief(report):
    """Return status and scope of each call."""
    return {name: (each.status, each.scope) for name, each in report.items()}


async def test_a_call_that_is_late_costs_its_dependants():
    """It is timed out with scope call; what needs it is skipped, the rest runs."""
    box = box_of(1, 5)
    plan = Plan([Call("a", "t5"), Call("b", "t1"), Call("c", "t1", {"x": Ref("a")})])
    report = await Executor(box.tools, timeouts=Timeouts(call=2)).run(plan)
    assert brief(report) == {
        "a": ("timed_out", "call"),
        "b": ("done", None),
        "c": ("skipped", None),
    }
    assert report["c"].because == "a"
    assert report["a"].ended == pytest.approx(2, abs=1e-9)
    assert isinstance(report["a"].error, CallTimeout)
    assert report["a"].error.scope == "call"
    assert box.running == []


async def test_the_timeout_of_a_tool_takes_the_place_of_the_general_one():
    """It may be longer or shorter."""
    box = ToolBox()
    box.tool("long", seconds=5, timeout=6)
    box.tool("short", seconds=5, timeout=1)
    plan = Plan([Call("l", "long"), Call("s", "short")])
    report = await Executor(box.tools, timeouts=Timeouts(call=2)).run(plan)
    assert brief(report) == {"l": ("done", None), "s": ("timed_out", "call")}


async def test_a_call_deadline_counts_from_its_admission():
    """Waiting for a slot is not part of it, and is shown as queue time."""
    box = box_of(2)
    plan = Plan([Call(str(n), "t2") for n in range(4)])
    report = await Executor(box.tools, timeouts=Timeouts(call=3), concurrency=1).run(plan)
    assert report.ok
    assert [each.queued for each in report.values()] == pytest.approx([0, 2, 4, 6], abs=1e-9)


@pytest.mark.parametrize("scope", ["turn", "workflow"])
async def test_the_deadline_of_the_run_keeps_what_has_finished(scope):
    """Started or waiting, what is left is timed out with the run's scope, and the run returns."""
    box = box_of(1, 9)
    plan = Plan(
        [
            Call("a", "t1"),
            Call("b", "t9"),
            Call("c", "t1", after=("b",)),
            Call("d", "t1", after=("c",)),
        ]
    )
    timeouts = Timeouts(**{"call": None, "workflow": None, scope: 3})
    report = await Executor(box.tools, timeouts=timeouts).run(plan)
    late = ("timed_out", scope)
    assert brief(report) == {"a": ("done", None), "b": late, "c": late, "d": late}
    assert report["b"].started == 0
    assert report["c"].started is None
    assert report.elapsed == pytest.approx(3, abs=1e-9)
    assert box.running == []


async def test_the_nearer_of_turn_and_workflow_is_named():
    """Of two deadlines the one that expired is the scope, the outer one if they are the same."""
    box = box_of(9)
    plan = Plan([Call("a", "t9")])
    for turn, workflow, scope in ((2, 3, "turn"), (3, 2, "workflow"), (2, 2, "workflow")):
        timeouts = Timeouts(call=None, turn=turn, workflow=workflow)
        report = await Executor(box.tools, timeouts=timeouts).run(plan)
        assert brief(report) == {"a": ("timed_out", scope)}


async def test_the_deadline_of_a_layer():
    """What of the layer has not ended is timed out; its dependants are skipped, others run."""
    box = box_of(1, 2, 9)
    plan = Plan(
        [
            Call("a", "t1"),
            Call("b", "t9"),
            Call("c", "t2", after=("a",)),
            Call("d", "t1", after=("b",)),
            Call("e", "t2", after=("c",)),
        ]
    )
    report = await Executor(box.tools, timeouts=Timeouts(call=None, layer=3)).run(plan)
    assert brief(report) == {
        "a": ("done", None),
        "b": ("timed_out", "layer"),
        "c": ("done", None),
        "d": ("skipped", None),
        "e": ("done", None),
    }
    assert report["d"].because == "b"
    assert report["e"].ended == pytest.approx(5, abs=1e-9)
    assert box.running == []


async def test_the_deadline_of_a_layer_reaches_calls_that_wait_for_a_slot():
    """They never start, and are timed out as the others of their layer."""
    box = box_of(2)
    plan = Plan([Call(str(n), "t2") for n in range(4)])
    executor = Executor(box.tools, timeouts=Timeouts(call=None, layer=3), concurrency=1)
    report = await executor.run(plan)
    late = ("timed_out", "layer")
    assert brief(report) == {"0": ("done", None), "1": late, "2": late, "3": late}
    assert [each.started for each in report.values()] == [0, pytest.approx(2, abs=1e-9), None, None]
    assert [each.maybe for each in report.values()] == [False, True, False, False]
    assert len(box.log) == 2


async def test_the_deadline_of_the_workflow_reaches_calls_that_wait_for_a_slot():
    """They never start."""
    box = box_of(2)
    plan = Plan([Call(str(n), "t2") for n in range(4)])
    executor = Executor(box.tools, timeouts=Timeouts(call=None, workflow=3), concurrency=1)
    report = await executor.run(plan)
    assert [each.scope for each in report.values()] == [None] + ["workflow"] * 3
    assert len(box.log) == 2


@pytest.mark.parametrize("scope", ["call", "layer", "turn", "workflow"])
async def test_a_deadline_at_the_instant_of_completion(scope):
    """Either it is done or it is timed out: one outcome, and the run returns normally."""
    box = box_of(2)
    timeouts = Timeouts(**{"call": None, "workflow": None, scope: 2})
    report = await Executor(box.tools, timeouts=timeouts).run(
        Plan([Call("a", "t2"), Call("b", "t2", after=("a",))])
    )
    assert list(report) == ["a", "b"]
    assert brief(report)["a"] in (("done", None), ("timed_out", scope))
    assert box.running == []


async def test_the_innermost_of_equal_deadlines_does_not_hang():
    """All four at the same instant end the run at that instant."""
    box = box_of(9)
    report = await Executor(box.tools, timeouts=Timeouts(call=2, layer=2, turn=2, workflow=2)).run(
        Plan([Call("a", "t9"), Call("b", "t9", after=("a",))])
    )
    assert report["a"].status == "timed_out"
    assert report["b"].status in ("skipped", "timed_out")
    assert report.elapsed == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize("scope", ["layer", "workflow"])
async def test_nothing_starts_after_the_deadline_of_its_scope(scope):
    """A tool that swallows the cancellation and returns does not let the next one start."""
    box = ToolBox()

    @tool
    async def stubborn() -> int:
        """Return a value when cancelled."""
        try:
            await anyio.sleep(9)
        except anyio.get_cancelled_exc_class():
            return 1
        return 2

    box.tool("next")
    timeouts = Timeouts(**{"call": None, "workflow": None, scope: 3})
    plan = Plan([Call("a", "stubborn"), Call("b", "next")])
    report = await Executor([*box.tools, stubborn], timeouts=timeouts, concurrency=1).run(plan)
    assert brief(report) == {"a": ("done", None), "b": ("timed_out", scope)}
    assert report["b"].started is None
    assert box.log == []


async def test_a_dependant_of_a_call_that_ended_after_the_deadline_does_not_start():
    """What depends on a value that came after the workflow's deadline is timed out."""
    box = ToolBox()

    @tool
    async def stubborn() -> int:
        """Return a value when cancelled."""
        with anyio.CancelScope(shield=True):
            await anyio.sleep(9)
        return 2

    box.tool("next")
    plan = Plan([Call("a", "stubborn"), Call("b", "next", after=("a",))])
    report = await Executor([*box.tools, stubborn], timeouts=Timeouts(call=None, workflow=3)).run(
        plan
    )
    assert brief(report) == {"a": ("done", None), "b": ("timed_out", "workflow")}
    assert box.log == []


async def test_a_failure_in_the_clean_up_of_a_late_call_is_still_a_timeout():
    """What a tool's own tasks raise while they are cancelled belongs to the timeout."""

    @tool
    async def messy() -> None:
        """Fail in the clean-up of a child task."""

        async def child():
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("in the clean-up")

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.sleep_forever()

    plan = Plan([Call("a", "messy"), Call("b", "messy", after=("a",))])
    for scope in ("call", "layer", "workflow"):
        timeouts = Timeouts(**{"call": None, "workflow": None, scope: 2})
        report = await Executor([messy], timeouts=timeouts).run(plan)
        assert brief(report)["a"] == ("timed_out", scope)


async def test_the_context_shows_the_nearest_deadline():
    """`current_call().deadline` is a point on the event loop's clock."""
    seen = []

    @tool
    async def look() -> None:
        """Look."""
        seen.append(current_call().deadline)

    start = anyio.current_time()
    plan = Plan([Call("a", "look")])
    for options in ({"call": 7}, {"call": 30, "layer": 8}, {"call": None, "workflow": 9}, OFF):
        await Executor([look], timeouts=Timeouts(**options)).run(plan)
    assert seen == [start + 7, start + 8, start + 9, None]


async def test_a_late_or_stopped_write_may_have_taken_effect():
    """`maybe` marks writes that had started, and nothing else."""
    for effect, maybe in (("write", True), ("read", False), ("idempotent", False)):
        box = box_of(9, effect=effect)
        plan = Plan([Call("a", "t9"), Call("b", "t9", after=("a",))])
        for timeouts in (Timeouts(call=1), Timeouts(workflow=1), Timeouts(layer=1)):
            report = await Executor(box.tools, timeouts=timeouts).run(plan)
            assert (report["a"].maybe, report["b"].maybe) == (maybe, False)


@pytest.mark.parametrize("field", ["call", "layer", "turn", "workflow"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "3", True])
def test_what_is_no_timeout_is_refused(field, value):
    """The error names the field."""
    with pytest.raises(DagexecError, match=field):
        Timeouts(**{field: value})
