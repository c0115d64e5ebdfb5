"""results() answers its own last turn, and refuses by name whatever else it is given."""

from __future__ import annotations

import pytest

from dagexec import Call, DagexecError, Done, Executor, Plan, tool

pytestmark = pytest.mark.anyio


@tool(effect="read")
async def price(item: str) -> int:
    """Return the price of an item."""
    return len(item)


@tool(effect="read")
async def stock(item: str) -> int:
    """Return how many there are."""
    return len(item)


TOOLS = [price, stock]
EXECUTOR = Executor(TOOLS)


async def test_the_report_of_an_older_turn_is_refused(wire):
    """Its answers would be taken for those of the turn that waits."""
    planner = wire.planner(TOOLS)
    first = await EXECUTOR.run(planner.plan(wire.reply(("price", {"item": "a"}, "first"))))
    planner.results(first)
    second = await EXECUTOR.run(planner.plan(wire.reply(("price", {"item": "bb"}, "second"))))
    with pytest.raises(DagexecError, match=r"report of turn 1, and turn 2"):
        planner.results(first)
    assert len(planner.results(second)) == len(planner.results(second)) > 0


@pytest.mark.parametrize("args", [{"item": "other"}, {"item": "a"}])
async def test_a_foreign_report_is_refused(wire, args):
    """Another planner's calls have the same numbers; their tools and arguments tell them apart."""
    planner, other = wire.planner(TOOLS), wire.planner(TOOLS)
    planner.plan(wire.reply(("price", {"item": "a"}, "call")))
    name = "price" if args["item"] == "other" else "stock"
    foreign = await EXECUTOR.run(other.plan(wire.reply((name, args, "call"))))
    with pytest.raises(DagexecError, match=r"foreign report.*call 1 .*turn 1"):
        planner.results(foreign)
    by_hand = await EXECUTOR.run([Call("x", "price", {"item": "a"})])
    with pytest.raises(DagexecError, match=r"other calls \(x\)"):
        planner.results(by_hand)


async def test_what_is_no_report_is_named(wire):
    """With the way to what is meant."""
    planner = wire.planner(TOOLS)
    plan = planner.plan(wire.reply(("price", {"item": "a"}, "call")))
    running = EXECUTOR.run(plan)
    wrong = {
        "a Plan; give it": plan,
        "a coroutine; await": running,
        "holds no outcomes; Report.from_dict": {"1": {"status": "done"}},
        "a Run; its report": EXECUTOR.start(Plan([])),
        "a NoneType; give": None,
        "a list; give": [Done(1)],
        "a str; give": "done",
    }
    for text, given in wrong.items():
        with pytest.raises(DagexecError) as caught:
            planner.results(given)
        assert text in str(caught.value)
    assert planner.results(await running)


async def test_what_was_read_again_is_its_own(wire):
    """A report from JSON, a mapping of outcomes, and a turn whose calls could not all run."""
    planner = wire.planner(TOOLS)
    plan = planner.plan(
        wire.reply(("price", {"item": "a"}, "one"), ("nothing", {}, "two"), ("stock", {}, "three"))
    )
    report = await EXECUTOR.run(plan)
    answers = planner.results(report)
    assert len(planner.results(type(report).from_json(report.to_json()))) == len(answers)
    assert planner.results(dict(report)) == answers
