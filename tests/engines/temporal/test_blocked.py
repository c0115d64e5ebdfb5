"""A tool that blocks the event loop of its worker for longer than the lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Call, Timeouts, current_call, tool
from tests.engines.temporal.test_runs import statuses

if TYPE_CHECKING:
    from dagexec.engines.temporal import TemporalEngine

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.anyio,
    pytest.mark.slow,
    # The library's, of a call that ended at the moment at which it was given away.
    pytest.mark.filterwarnings("ignore:Cannot find activity to cancel"),
]

begun: Counter[tuple[str, str]] = Counter()


def counted() -> int:
    call = current_call()
    begun[call.run_id, call.id] += 1
    return begun[call.run_id, call.id]


@tool(timeout=None)
async def blocks(seconds: float) -> str:
    if counted() == 1:
        time.sleep(seconds)
    await asyncio.sleep(0.1)
    return "done"


@tool(timeout=None)
async def waits(seconds: float) -> str:
    counted()
    await asyncio.sleep(seconds)
    return "done"


@tool(timeout=None, effect="read")
async def looks(seconds: float) -> str:
    if counted() == 1:
        await asyncio.sleep(seconds)
    return "done"


@tool(timeout=None, uses={"room": 1})
async def holds(seconds: float) -> str:
    counted()
    await asyncio.sleep(seconds)
    return "done"


@tool(timeout=None, effect="read")
async def until_begun(calls: list[str]) -> None:
    run = current_call().run_id
    while not all(begun[run, each] for each in calls):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # a read's start is told a little later


TOOLS = [blocks, waits, looks, holds, until_begun]
PLAN = [
    Call("w", "waits", {"seconds": 9}),
    Call("r", "looks", {"seconds": 9}),
    Call("h", "holds", {"seconds": 9}),
    Call("i", "holds", {"seconds": 0}),
    Call("n", "until_begun", {"calls": ["w", "r", "h"]}),
]


def plan_of(seconds: float) -> list[Call]:
    return [*PLAN, Call("b", "blocks", {"seconds": seconds}, after=("n",))]


def engine_at(address: str, name: str, **settings: Any) -> TemporalEngine:
    from dagexec.engines.temporal import TemporalEngine

    given = {"timeouts": Timeouts(call=None, workflow=None), "lease": 1, "beat": 0.2}
    given["capacities"] = {"room": 1}
    return TemporalEngine(TOOLS, address=address, name=name, **given, **settings)


async def test_for_longer_than_a_lease(address, name, monkeypatch):
    """A thread gives the signs of life: all that has begun goes on, and begins once.

    Temporal's library gives calls up by itself 5 s after a lease without them.
    """
    from dagexec.engines.temporal import _pulse

    monkeypatch.setattr(_pulse, "LEASES", 30)
    async with engine_at(address, name) as engine, asyncio.timeout(50):
        report = await engine.run(plan_of(8), run_id=name)
    assert report.ok, report.exceptions
    assert {report[each].attempts for each in "wrb"} == {1}
    assert [begun[name, each] for each in "wrhib"] == [1] * 5
    assert report.blocked >= 1
    assert [each for each in threading.enumerate() if each.name == "dagexec-pulse"] == []


@pytest.mark.parametrize("why", ["no end", "codec"])
async def test_for_ever(address, name, monkeypatch, caplog, why):
    """After some leases, or with a codec after one: reads run again, writes are in doubt.

    The log says what happened, and the write that had not begun runs.
    """
    from temporalio.client import Client
    from temporalio.converter import DataConverter

    from dagexec.engines.temporal import _pulse
    from tests.engines.temporal.codec import Hiding

    monkeypatch.setattr(_pulse, "LEASES", 2)
    settings = {}
    if why == "codec":
        monkeypatch.setattr(_pulse, "LEASES", 30)
        converter = DataConverter(payload_codec=Hiding())
        settings["client"] = await Client.connect(address, data_converter=converter)
    async with engine_at(address, name, **settings) as engine, asyncio.timeout(50):
        report = await engine.run(plan_of(5), run_id=name)
    assert statuses(report) == {
        **dict.fromkeys("wbh", "in_doubt"),
        **dict.fromkeys("rni", "done"),
    }
    assert {each: begun[name, each] for each in "wbrhi"} == {"w": 1, "b": 1, "r": 2, "h": 1, "i": 1}
    text = "call 'h' is not this worker's any more: the event loop of this one was blocked for 5"
    assert text in caplog.text
    named = "the event loop has been blocked for" in caplog.text
    assert named is (why == "no end")


async def test_no_beat_of_the_thread_erases_an_intent(address, name):
    """It says nothing of a write that has not begun."""
    from dagexec.engines.temporal._calls import _Begun

    class Client:
        def get_async_activity_handle(self, task_token: bytes) -> None: ...

    beats: list[tuple[str, ...]] = []
    from temporalio.testing import ActivityEnvironment

    env = ActivityEnvironment()
    env.on_heartbeat = lambda *marks: beats.append(marks)

    async def look(reruns: bool) -> None:
        call = _Begun(Client(), reruns, [])  # type: ignore[arg-type]
        call.beat_if_begun()
        call.marks.append("m")
        call._has_begun = True
        call.beat_if_begun()

    await env.run(look, False)
    assert beats == [("m",)]
    await env.run(look, True)
    assert beats == [("m",), (), ("m",)]
