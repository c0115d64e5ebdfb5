"""Promises 1, 3, 4: one outcome each, started as soon as ready, a failure costs its dependants."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Call, Executor, Plan, Ref, Timeouts
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio


def statuses(report):
    """Return each call's status, in the report's order."""
    return {name: outcome.status for name, outcome in report.items()}


def boxed(**scripts):
    """Return a box with one tool for each script."""
    box = ToolBox()
    for name, script in scripts.items():
        box.tool(name, **script)
    return box


async def test_one_outcome_for_each_call_in_plan_order():
    """The order is the plan's, whatever ends first."""
    box = boxed(slow={"seconds": 3}, fast={"seconds": 1}, bad={"raises": OSError("no")})
    plan = Plan(
        [
            Call("z", "slow"),
            Call("y", "fast"),
            Call("x", "bad"),
            Call("w", "fast", after=("x",)),
            Call("v", "fast", after=("z",)),
        ]
    )
    report = await Executor(box.tools).run(plan)
    assert list(report) == ["z", "y", "x", "w", "v"]
    assert [each.status for each in report.values()] == [
        "done",
        "done",
        "failed",
        "skipped",
        "done",
    ]
    assert str(report) == "5 calls: 3 done, 1 failed, 1 skipped in 4.00 s"


async def test_an_empty_plan_returns_at_once():
    """Nothing to do is no error."""
    report = await Executor([]).run(Plan([]))
    assert dict(report) == {}
    assert report.ok
    assert str(report) == "0 calls: nothing to do in 0 ms"


async def test_a_call_starts_as_soon_as_its_own_inputs_exist():
    """No barrier: a short branch goes on while a long call of its layer still runs."""
    box = boxed(
        long={"seconds": 10}, a={"seconds": 1}, b={"seconds": 1}, c={"seconds": 1}, d={"seconds": 1}
    )
    plan = Plan(
        [
            Call("long", "long"),
            Call("a", "a"),
            Call("b", "b", after=("a",)),
            Call("c", "c", after=("b",)),
            Call("d", "d", after=("long", "c")),
        ]
    )
    report = await Executor(box.tools).run(plan)
    assert box.times == {"long": (0, 10), "a": (0, 1), "b": (1, 2), "c": (2, 3), "d": (10, 11)}
    assert report.elapsed == pytest.approx(11, abs=1e-9)
    assert report.critical_path == ("long", "d")


async def test_a_barrier_waits_for_the_whole_layer():
    """With `barrier=True` layers never overlap."""
    box = boxed(long={"seconds": 10}, a={"seconds": 1}, b={"seconds": 1})
    plan = Plan([Call("long", "long"), Call("a", "a"), Call("b", "b", after=("a",))])
    await Executor(box.tools, barrier=True).run(plan)
    assert box.times == {"long": (0, 10), "a": (0, 1), "b": (10, 11)}


@pytest.mark.parametrize("layer", [None, 100])
async def test_no_polling(layer):
    """A run of an hour wakes the event loop a handful of times."""
    box = boxed(a={"seconds": 3600}, b={"seconds": 3600})
    plan = Plan([Call("a", "a"), Call("b", "b", after=("a",))])
    timeouts = Timeouts(call=None, workflow=None, layer=layer and 36000)
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(60)

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await Executor(box.tools, timeouts=timeouts).run(plan)
        group.cancel_scope.cancel()
    assert turns in (120, 121)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 20, None])
async def test_the_concurrency_is_used_and_not_exceeded(concurrency):
    """As many calls as there are slots run at a time."""
    box = boxed(t={"seconds": 1})
    plan = Plan([Call(str(n), "t") for n in range(30)])
    report = await Executor(box.tools, concurrency=concurrency).run(plan)
    slots = concurrency or 30
    assert box.peak == min(30, slots)
    assert report.elapsed == pytest.approx(-(-30 // slots), abs=1e-9)
    assert box.log[-1].started == pytest.approx(report["29"].queued, abs=1e-9)


async def test_a_failure_costs_its_dependants_and_nothing_else():
    """Skips, direct or not, name the call that failed first."""
    box = boxed(ok={"seconds": 1}, bad={"seconds": 1, "raises": ValueError("no")})
    plan = Plan(
        [
            Call("bad", "bad"),
            Call("ok", "ok"),
            Call("one", "ok", {"x": Ref("bad")}),
            Call("two", "ok", {"x": Ref("one", ("a",))}),
            Call("both", "ok", after=("ok", "two")),
            Call("fine", "ok", {"x": Ref("ok")}),
        ]
    )
    report = await Executor(box.tools).run(plan)
    assert statuses(report) == {
        "bad": "failed",
        "ok": "done",
        "one": "skipped",
        "two": "skipped",
        "both": "skipped",
        "fine": "done",
    }
    assert {report[name].because for name in ("one", "two", "both")} == {"bad"}
    assert report["one"].started is None
    assert [span.call for span in box.log] == ["bad", "ok", "fine"]


async def test_stop_ends_all_that_is_unfinished():
    """With `on_failure="stop"` the rest is cancelled at the instant of the failure."""
    box = boxed(
        quick={"seconds": 1}, bad={"seconds": 2, "raises": ValueError("no")}, slow={"seconds": 9}
    )
    plan = Plan(
        [
            Call("quick", "quick"),
            Call("bad", "bad"),
            Call("slow", "slow", {}),
            Call("next", "quick", after=("bad",)),
            Call("later", "quick", after=("slow",)),
        ]
    )
    report = await Executor(box.tools, on_failure="stop").run(plan)
    assert statuses(report) == {
        "quick": "done",
        "bad": "failed",
        "slow": "cancelled",
        "next": "cancelled",
        "later": "cancelled",
    }
    assert report["slow"].because == report["later"].because == "bad"
    assert report["slow"].maybe
    assert not report["later"].maybe
    assert report.elapsed == pytest.approx(2, abs=1e-9)
    assert box.running == []


async def test_stop_reaches_calls_that_wait_for_a_slot():
    """A queued call never starts after the failure that stopped the run."""
    box = boxed(bad={"seconds": 1, "raises": ValueError("no")}, ok={"seconds": 1})
    plan = Plan([Call("bad", "bad"), Call("a", "ok"), Call("b", "ok")])
    report = await Executor(box.tools, on_failure="stop", concurrency=1).run(plan)
    assert statuses(report) == {"bad": "failed", "a": "cancelled", "b": "cancelled"}
    assert box.order == ["bad"]


async def test_a_reference_with_a_default_survives_the_loss():
    """It waits for the end only, and takes the default where there is no value."""
    box = boxed(
        bad={"seconds": 1, "raises": ValueError("no")},
        good={"seconds": 2, "returns": {"a": 1}},
        echo={"returns": lambda **args: args},
    )
    plan = Plan(
        [
            Call("bad", "bad"),
            Call("good", "good"),
            Call(
                "echo",
                "echo",
                {
                    "lost": Ref("bad", default=None),
                    "there": Ref("good", ("a",), default=0),
                    "astray": Ref("good", ("b",), default="else"),
                },
            ),
        ]
    )
    report = await Executor(box.tools).run(plan)
    assert report.outputs["echo"] == {"lost": None, "there": 1, "astray": "else"}
    assert report["echo"].started == pytest.approx(2, abs=1e-9)


async def test_a_path_that_leads_nowhere_fails_the_call_with_text_for_the_model():
    """The call does not start, its error names what is there instead."""
    box = boxed(good={"returns": {"items": [1]}}, echo={"returns": 1})
    plan = Plan([Call("good", "good"), Call("echo", "echo", {"x": Ref("good", ("itmes", 0))})])
    report = await Executor(box.tools).run(plan)
    assert report["echo"].status == "failed"
    assert report["echo"].started is None
    assert "items" in str(report["echo"].error)
    assert box.order == ["good"]


async def test_an_approval_function_that_raises_fails_its_call_only():
    """Code of a user inside the scheduler's reach costs its own call."""

    def broken(_args):
        raise KeyError("amount")

    box = ToolBox()
    box.tool("pay", approval=broken)
    box.tool("ok", seconds=1)
    report = await Executor(box.tools).run(Plan([Call("pay", "pay"), Call("ok", "ok")]))
    assert statuses(report) == {"pay": "failed", "ok": "done"}
    assert isinstance(report["pay"].error, KeyError)
    assert box.order == ["ok"]
