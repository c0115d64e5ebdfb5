"""Plans and comparisons for tests that an engine's reports are those of an Executor."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from dagexec import Approve, Call, Deny, Done, Each, Edit, Executor, Plan, Ref, Report, Template
from dagexec.journal import MemoryJournal
from dagexec.lowlevel import outcome_body
from tests.engines.tools_for_engines import TOOLS

if TYPE_CHECKING:
    from dagexec.engines.dbos import DbosEngine
    from dagexec.engines.temporal import TemporalEngine

    Engine = DbosEngine | TemporalEngine


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


# What a deadline of a run or of a layer catches.
LATE = [
    Call("a", "nap", {"seconds": 50}),
    Call("b", "long_write", {"seconds": 50}),
    Call("c", "add", {"x": 1}),
    Call("d", "same", {"value": Ref("a")}),
    Call("e", "same", {"value": Ref("c")}),
    Call("f", "same", {"value": Ref("d")}),
]
# What a failure stops: the call that fails ends while others run.
STOPPED = [
    Call("n", "nap", {"seconds": 1.5}),
    Call("b", "same", {"value": Ref("a")}),
    Call("c", "nap", {"seconds": 50}),
    Call("d", "long_write", {"seconds": 50}),
    Call("e", "same", {"value": Ref("c")}),
    Call("a", "fail", {}, after=("n",)),
]


async def reports_alike(engine: Engine, plans: dict[str, list[Call]], **settings: Any) -> None:
    """Run plans side by side on an engine, and compare its reports with an Executor's."""
    alone = Executor(TOOLS, journal=MemoryJournal(), **settings)
    expected = {
        each: told(
            await alone.run(plan, run_id=f"alone {each}" if each != "the same key" else each)
        )
        for each, plan in plans.items()
    }
    async with engine, asyncio.timeout(50):
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


async def answers_alike(engine: Engine) -> None:
    """Answer the same questions in several rounds: approvals, edits, refusals and replies."""
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
    async with engine, asyncio.timeout(50):
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
