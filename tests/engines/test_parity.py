"""The same plan gives the same report, in one process and on DBOS."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from dagexec import (
    Approve,
    Call,
    Deny,
    Done,
    Each,
    Edit,
    Executor,
    Plan,
    Ref,
    Report,
    Template,
    Timeouts,
)
from dagexec.journal import MemoryJournal
from dagexec.lowlevel import outcome_body
from tests.engines.tools_for_engines import TOOLS

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]


def told(report: Report) -> dict[str, Any]:
    """Return what a report says, without times."""
    bodies = {name: outcome_body(outcome) for name, outcome in report.items()}
    for body in bodies.values():
        for each in ("started", "ended", "queued"):
            body.pop(each, None)
    return bodies


PLANS: dict[str, list[Call]] = {
    "values keep their types": [
        Call("a", "point", {"x": 3}),
        Call("b", "same", {"value": Ref("a")}),
        Call("c", "add", {"x": Ref("a", ("x",)), "y": Ref("b", ("x",))}),
        Call("d", "same", {"value": Template("{} and {}", Ref("c"), Ref("a"))}),
    ],
    "what a tool returned is never read for references": [
        Call("a", "item", {"key": "k"}),
        Call("b", "same", {"value": Ref("a")}),
        Call("c", "same", {"value": Ref("b", ("k", 2, "deep"))}),
        Call("d", "same", {"value": Ref("b", ("none", "there"))}),
        Call("e", "same", {"value": Ref("b", ("none",), default="instead")}),
        Call("f", "same", {"value": {"$literal": {"$ref": "a"}}}),
    ],
    "a failure skips what needs it": [
        Call("a", "fail", {}),
        Call("b", "same", {"value": Ref("a")}),
        Call("c", "same", {"value": Ref("b")}),
        Call("d", "same", {"value": Ref("a", default=7)}),
        Call("e", "add", {"x": 1}, after=("a",)),
        Call("f", "add", {"x": 2}),
    ],
    "a call for each item": [
        Call("a", "same", {"value": {"$literal": {"n": [1, 2, 3], "text": "[4, 5]"}}}),
        Call("b", "add", {"x": Each(Ref("a", ("n",))), "y": 10}),
        Call("c", "same", {"value": Ref("b")}),
        Call("d", "same", {"value": Ref("b", (-1,))}),
        Call("e", "add", {"x": Each(Ref("a", ("text",)))}),
        Call("f", "square", {"x": Each((2, 2))}),
        Call("g", "add", {"x": Each(Ref("a", ("n", 0)))}),
    ],
    "items that fail": [
        Call("a", "add", {"x": Each((1, "no number", 2))}),
        Call("b", "same", {"value": Ref("a", (0,))}),
        Call("c", "same", {"value": Ref("a", (1,))}),
        Call("d", "same", {"value": Ref("a")}),
        Call("e", "fail", {"why": Each(("x", "y"))}),
        Call("f", "slow_write", {"x": Each((1, 2))}),
    ],
    "arguments that do not fit": [
        Call("a", "same", {"value": "no number"}),
        Call("b", "add", {"x": Ref("a")}),
        Call("c", "add", {"x": Ref("b")}),
    ],
    "timeouts of calls": [
        Call("a", "slow_write", {"x": 1}),
        Call("b", "slow_read", {"x": 1}),
        Call("c", "add", {"x": Ref("a")}),
        Call("d", "add", {"x": 1}),
    ],
    "identical pure calls": [
        Call("a", "square", {"x": 3}),
        Call("b", "square", {"x": 3}),
        Call("c", "square", {"x": Ref("a")}),
        Call("d", "square", {"x": Ref("b")}),
        Call("e", "broken", {"x": 1}),
        Call("f", "broken", {"x": 1}),
    ],
    "retries": [
        Call("a", "flaky", {"good_at": 1}),
        Call("b", "flaky", {"good_at": 3}),
        Call("c", "flaky", {"good_at": 9}),
    ],
    "questions": [
        Call("a", "pay", {"amount": 3}),
        Call("b", "pay_much", {"amount": 3}),
        Call("c", "pay_much", {"amount": 30}),
        Call("d", "question", {"what": "where"}),
        Call("e", "same", {"value": Ref("d")}),
        Call("f", "same", {"value": [Ref("b"), Ref("c")]}),
        Call("g", "add", {"x": 1}),
    ],
    "conflicts": [
        Call("a", "write", {"path": "x"}),
        Call("b", "read", {"path": "x"}),
        Call("c", "write", {"path": "x"}),
        Call("d", "read", {"path": "y"}),
    ],
    "what cannot be kept": [
        Call("a", "unwritable", {}),
        Call("b", "same", {"value": Ref("a")}),
    ],
    "the same key": [Call("a", "key", {}), Call("b", "key", {})],
    "nothing": [],
}


def alike(one: dict[str, Any], other: dict[str, Any], report: dict[str, Any]) -> bool:
    """Whether two outcomes say the same; of several calls that failed, either may be the first."""
    if one["status"] == "skipped" and one != other:
        blamed = [report[body.get("because")]["status"] for body in (one, other)]
        return other["status"] == "skipped" and blamed == ["failed", "failed"]
    return one == other


async def both(url: str, name: str, plans: dict[str, list[Call]], **settings: Any) -> None:
    """Run plans with both, and compare what the reports say."""
    from dagexec.engines.dbos import DbosEngine

    alone = Executor(TOOLS, journal=MemoryJournal(), **settings)
    engine = DbosEngine(TOOLS, database_url=url, name=name, **settings)
    expected = {
        each: told(
            await alone.run(plan, run_id=f"alone {each}" if each != "the same key" else each)
        )
        for each, plan in plans.items()
    }
    async with engine:
        reports = await asyncio.gather(
            *(engine.run(plan, run_id=each) for each, plan in plans.items())
        )
    for each, report in zip(plans, reports, strict=True):
        found = told(report)
        differing = {
            call: (body, expected[each].get(call))
            for call, body in found.items()
            if not alike(body, expected[each].get(call, {}), found)
        }
        assert not differing, f"{each}: {plans[each]}"
        assert list(found) == list(expected[each])


async def test_every_kind_of_plan(url, name):
    """Values, failures, timeouts, sharing, retries, questions, conflicts."""
    await both(url, name, PLANS)


async def test_a_failure_that_stops_the_run(url, name):
    """What has not begun is cancelled, and so is what runs."""
    plans = {
        "stops": [
            Call("a", "fail", {}),
            Call("b", "same", {"value": Ref("a")}),
            Call("c", "nap", {"seconds": 50}),
            Call("d", "long_write", {"seconds": 50}),
            Call("e", "same", {"value": Ref("c")}),
        ]
    }
    slow_to_fail = [Call("n", "nap", {"seconds": 1.5}), *plans["stops"][1:]]
    slow_to_fail.append(Call("a", "fail", {}, after=("n",)))
    await both(url, name, {"later": slow_to_fail}, on_failure="stop")


@pytest.mark.parametrize(
    "timeouts",
    [
        Timeouts(workflow=1.5),
        pytest.param(Timeouts(turn=1.5), marks=pytest.mark.slow),
        pytest.param(Timeouts(layer=1.5), marks=pytest.mark.slow),
        pytest.param(Timeouts(layer=3.0, workflow=1.5), marks=pytest.mark.slow),
        pytest.param(Timeouts(call=None, layer=1.5, workflow=None), marks=pytest.mark.slow),
    ],
    ids=str,
)
async def test_deadlines(url, name, timeouts):
    """The deadlines of a layer and of a run catch the same calls, with the same texts."""
    plan = [
        Call("a", "nap", {"seconds": 50}),
        Call("b", "long_write", {"seconds": 50}),
        Call("c", "add", {"x": 1}),
        Call("d", "same", {"value": Ref("a")}),
        Call("e", "same", {"value": Ref("c")}),
        Call("f", "same", {"value": Ref("d")}),
    ]
    await both(url, name, {"late": plan}, timeouts=timeouts)


async def test_with_barriers(url, name):
    """Layers that wait for each other are the same layers."""
    await both(url, name, PLANS, barrier=True)


def drawn(random: Random) -> list[Call]:
    """Return a plan of up to eight calls."""
    calls: list[Call] = []
    for index in range(random.randint(1, 8)):
        before = [call.id for call in calls]

        def value(before: list[str] = before) -> object:
            if before and random.random() < 0.6:
                path = ("k",) if random.random() < 0.1 else ()
                default = {"default": 5} if random.random() < 0.3 else {}
                return Ref(random.choice(before), path, **default)
            return random.randint(0, 3)

        tool, args = random.choice(
            [
                ("add", {"x": value(), "y": value()}),
                ("same", {"value": [value(), value()]}),
                ("square", {"x": value()}),
                ("fail", {"why": value()}),
                ("pay_much", {"amount": value()}),
                ("pay", {"amount": value()}),
                ("write", {"path": f"p{random.randint(0, 2)}"}),
                ("read", {"path": f"p{random.randint(0, 2)}"}),
            ]
        )
        after = tuple(random.sample(before, min(len(before), random.randint(0, 1))))
        calls.append(Call(f"c{index}", tool, args, after=after))
    return calls


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_random_plans(url, name, seed):
    """Plans of all shapes: references, defaults, orders, failures, questions, conflicts."""
    random = Random(seed)
    await both(url, name, {f"plan {each}": drawn(random) for each in range(30)})


async def test_answers_lead_to_the_same(url, name):
    """Approvals, edits, refusals and replies, in several rounds."""
    from dagexec.engines.dbos import DbosEngine

    plan = Plan(PLANS["questions"])
    rounds: list[dict[str, object]] = [
        {"a": Edit({"amount": 4}), "d": "here"},
        {"c": Deny("too much")},
        {"d": 12},
        {"d": 12},
        {},
    ]
    other = [{"a": Done("by hand"), "c": Approve(), "d": Deny("nobody knows")}]
    alone = Executor(TOOLS, journal=MemoryJournal())
    engine = DbosEngine(TOOLS, database_url=url, name=name)
    async with engine:
        for run_id, answers in (("one", rounds), ("two", other)):
            expected = await alone.run(plan, run_id=run_id)
            report = await engine.run(plan, run_id=run_id)
            assert told(report) == told(expected)
            for each in answers:
                expected = await alone.resume(run_id, each)
                report = await engine.resume(run_id, each)
                assert told(report) == told(expected)
            assert not any(outcome.status == "pending" for outcome in report.values())
            assert told(await engine.run(plan, run_id=run_id)) == told(expected)
