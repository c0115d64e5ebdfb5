"""A write begins only when the server knows that it does, and nothing makes it forget."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Call, Timeouts, tool
from tests.engines.temporal.test_runs import handle_of, statuses

if TYPE_CHECKING:
    from dagexec.engines.temporal import TemporalEngine

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]


def engine_at(address: str, name: str, tools: list[Any], **settings: Any) -> TemporalEngine:
    from dagexec.engines.temporal import TemporalEngine

    given = {"timeouts": Timeouts(call=None, workflow=None), **settings}
    return TemporalEngine(tools, address=address, name=name, **given)


async def test_each_write_that_has_begun_is_known(address, name):
    """Of a hundred at once: a beat that left before an intent does not erase it."""
    begun: list[int] = []

    async def hold(x: int) -> None:
        begun.append(x)
        await asyncio.sleep(60)

    plan = [Call(f"c{each}", "hold", {"x": each}) for each in range(100)]
    settings = {"lease": 30, "beat": 2, "concurrency": 100}
    async with engine_at(address, name, [tool(hold)], **settings) as engine, asyncio.timeout(40):
        waiting = asyncio.create_task(engine.run(plan, run_id="r"))
        while len(begun) < 100:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        described = (await handle_of(engine, "r").describe()).raw_description
        known = [bool(each.heartbeat_details.payloads) for each in described.pending_activities]
        assert known == [True] * 100
        await engine.cancel("r")
        assert {*statuses(await waiting).values()} == {"cancelled"}


async def test_one_that_waits_for_longer_than_a_lease(address, name, monkeypatch):
    """It gives signs of life meanwhile, in both ways that count, and begins once.

    Also while it waits until none of the library's can arrive behind its intent any more.
    """
    from dagexec.engines.temporal import _calls

    monkeypatch.setattr(_calls, "_ARRIVED", 4.0)
    begun: list[str] = []

    async def first() -> None:
        begun.append("first")
        await asyncio.sleep(8)

    async def second() -> None:
        begun.append("second")

    tools = [tool(each, uses={"room": 1}) for each in (first, second)]
    plan = [Call("a", "first"), Call("b", "second")]
    settings = {"lease": 1, "beat": 0.2, "capacities": {"room": 1}}
    async with engine_at(address, name, tools, **settings) as engine, asyncio.timeout(40):
        report = await engine.run(plan)
    assert report.ok, report.exceptions
    assert sorted(begun) == ["first", "second"]
    assert {outcome.attempts for outcome in report.values()} == {1}
