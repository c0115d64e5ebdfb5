"""The same plan gives the same report, in one process and on Temporal.

No run is kept in memory: each task of a workflow replays its whole history, so whatever is not
decided alike twice is an error of the server's.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Approve, Call, Deny, Done, Edit, Executor, Plan, Ref, Timeouts
from dagexec.journal import MemoryJournal
from tests.engines.test_parity import PLANS, alike, drawn, told
from tests.engines.tools_for_engines import TOOLS

if TYPE_CHECKING:
    from dagexec.engines.temporal import TemporalEngine

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]


def engine_at(address: str, name: str, **settings: Any) -> TemporalEngine:
    """Return an engine that replays all the time."""
    from dagexec.engines.temporal import TemporalEngine

    return TemporalEngine(TOOLS, address=address, name=name, **{"cached": 0, **settings})


async def both(address: str, name: str, plans: dict[str, list[Call]], **settings: Any) -> None:
    """Run plans with both, and compare what the reports say."""
    own = {key: settings.pop(key) for key in ("store", "inline") if key in settings}
    alone = Executor(TOOLS, journal=MemoryJournal(), **settings)
    expected = {
        each: told(
            await alone.run(plan, run_id=f"alone {each}" if each != "the same key" else each)
        )
        for each, plan in plans.items()
    }
    async with engine_at(address, name, **settings, **own) as engine:
        async with asyncio.timeout(50):
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


async def test_every_kind_of_plan(address, name):
    """Values, failures, timeouts, sharing, retries, questions, conflicts."""
    await both(address, name, PLANS)


async def test_every_value_in_a_store(address, name, tmp_path):
    """The same but for calls that share an execution, which compare where values are."""
    from dagexec.engines.temporal import FolderStore

    plans = {each: plan for each, plan in PLANS.items() if each != "identical pure calls"}
    await both(address, name, plans, store=FolderStore(tmp_path / "store"), inline=0)
    assert [*(tmp_path / "store").iterdir()]


async def test_a_failure_that_stops_the_run(address, name):
    """What has not begun is cancelled, and so is what runs."""
    plan = [
        Call("n", "nap", {"seconds": 1.5}),
        Call("b", "same", {"value": Ref("a")}),
        Call("c", "nap", {"seconds": 50}),
        Call("d", "long_write", {"seconds": 50}),
        Call("e", "same", {"value": Ref("c")}),
        Call("a", "fail", {}, after=("n",)),
    ]
    await both(address, name, {"later": plan}, on_failure="stop")


@pytest.mark.parametrize(
    "timeouts",
    [
        Timeouts(workflow=1.5),
        Timeouts(turn=1.5),
        Timeouts(layer=1.5),
        Timeouts(layer=3.0, workflow=1.5),
        Timeouts(call=None, layer=1.5, workflow=None),
    ],
    ids=str,
)
async def test_deadlines(address, name, timeouts):
    """The deadlines of a layer and of a run catch the same calls, with the same texts."""
    plan = [
        Call("a", "nap", {"seconds": 50}),
        Call("b", "long_write", {"seconds": 50}),
        Call("c", "add", {"x": 1}),
        Call("d", "same", {"value": Ref("a")}),
        Call("e", "same", {"value": Ref("c")}),
        Call("f", "same", {"value": Ref("d")}),
    ]
    await both(address, name, {"late": plan}, timeouts=timeouts)


async def test_with_barriers(address, name):
    """Layers that wait for each other are the same layers."""
    await both(address, name, PLANS, barrier=True)


@pytest.mark.parametrize("seed", [0, 1])
async def test_random_plans(address, name, seed):
    """Plans of all shapes: references, defaults, orders, failures, questions, conflicts."""
    random = Random(seed)
    await both(address, name, {f"plan {each}": drawn(random) for each in range(30)})


async def test_answers_lead_to_the_same(address, name):
    """Approvals, edits, refusals and replies, in several rounds."""
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
    async with engine_at(address, name) as engine, asyncio.timeout(50):
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
