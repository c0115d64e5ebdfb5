"""What users of agent frameworks have reported, with the plugin and without it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

pytest.importorskip("google.adk.plugins.base_plugin", reason="needs the extra adk")

from dagexec import Timeouts, tool
from dagexec.integrations.adk import DagPlugin
from dagexec.limits import Limiter, Rate, Retry

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def now():
    """Return the seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000


def plugins(*, dag, **settings):
    """Return the plugins of a runner, with the adapter or without it."""
    return [DagPlugin(**settings)] if dag else []


@pytest.mark.parametrize("dag", [True, False])
async def test_a_large_result_is_passed_on_without_the_model(script, talk, dag):
    """pydantic-ai 3018, hermes-agent 78061: 60,000 characters arrive as they were returned."""
    rows = [f"{n:05} {'x' * 54}" for n in range(1000)]
    got = []

    async def fetch() -> dict:
        """Fetch."""
        return {"open": rows, "close": []}

    async def plot(rows: list[str]) -> dict:
        """Plot."""
        got.append(rows)
        return {"plotted": len(rows)}

    model = script([("fetch",)], [("plot", {"rows": {"$ref": "1.open"}})])
    await talk(model, *plugins(dag=dag), tools=[fetch, plot]).say()
    # Without it the ADK hands the reference over as it is: the tool gets a dict for a list.
    assert got == [rows if dag else {"$ref": "1.open"}]


@pytest.mark.parametrize("dag", [True, False])
async def test_a_hung_call_costs_one_result(script, talk, dag):
    """hermes-agent 52489: eleven hours for a batch."""
    turn = [("search", {"query": "a"}), ("search", {"query": "hung", "seconds": 39_888})]
    session = talk(script(turn), *plugins(dag=dag, timeouts=Timeouts(call=30)))
    found = [response for _, response in await session.say()]
    assert now() == pytest.approx(30 if dag else 39_888)
    assert found[0] == {"items": ["a", "b"]}
    assert ("Timed out" in str(found[1])) is dag


@pytest.mark.real_time
async def test_a_hung_thread_costs_one_result(script, talk):
    """The same of a synchronous tool of dagexec; the ADK runs its own on the event loop."""
    gate = threading.Event()

    @tool(timeout=0.2)
    def blocks() -> str:
        """Block."""
        gate.wait(50)
        return "late"

    session = talk(script([("blocks",), ("count", {"items": ["a"]})]), DagPlugin([blocks]))
    began = time.monotonic()
    try:
        found = [response for _, response in await session.say()]
        assert time.monotonic() - began < 40
    finally:
        gate.set()
    assert "Timed out" in found[0]["error"]
    assert found[1] == {"result": 1}


@pytest.mark.parametrize("dag", [True, False])
async def test_a_turn_of_eight_hundred_calls(script, talk, dag):
    """pydantic-ai 6884: 792 calls of one turn ran at the same time."""
    at_work, most = 0, 0

    async def work() -> str:
        """Work."""
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1)
        at_work -= 1
        return "done"

    session = talk(script([("work",)] * 800), *plugins(dag=dag, concurrency=8), tools=[work])
    found = await session.say()
    assert most == (8 if dag else 800)
    assert found == [("work", {"result": "done"})] * 800


@pytest.mark.parametrize("dag", [True, False])
async def test_a_rate_for_one_tool(script, talk, dag):
    """pydantic-ai 5040: an API that takes ten requests a minute."""
    limiter = Limiter("api", rates={"requests": Rate(10, 60)})
    starts = []

    async def ask() -> str:
        """Ask."""
        starts.append(now())
        return "there"

    given = plugins(dag=dag, options={"ask": {"limits": limiter}})
    await talk(script([("ask",)] * 30), *given, tools=[ask]).say()
    within = max(sum(a <= b < a + 60 for b in starts) for a in starts)
    assert within <= (20 if dag else 30)
    assert (now() > 60) is dag


@pytest.mark.parametrize("dag", [True, False])
async def test_writes_to_one_file_are_in_order(script, talk, dag):
    """OpenHands 2560: two edits of a file, and of two files at the same time."""
    turn = [
        ("save", {"path": "x", "text": "x1", "seconds": 2}),
        ("save", {"path": "x", "text": "x2", "seconds": 1}),
        ("save", {"path": "y", "text": "y1", "seconds": 2.5}),
    ]
    given = plugins(dag=dag, options={"save": {"writes": "file:{path}"}})
    session = talk(script(turn), *given)
    await session.say()
    assert session.log == (["x1", "y1", "x2"] if dag else ["x2", "x1", "y1"])
    assert now() == pytest.approx(3 if dag else 2.5)


async def test_a_write_has_no_second_effect(script, talk):
    """As in crewAI 5802: the payment was made, then the answer was lost; reads are repeated."""
    paid, read = [], []

    async def pay(hangs: bool) -> str:
        """Pay."""
        paid.append(hangs)
        await asyncio.sleep(99 if hangs else 1)
        raise ConnectionError("no answer")

    async def look() -> str:
        """Look."""
        read.append(1)
        if len(read) < 3:
            raise ConnectionError
        return "there"

    options = {
        "pay": {"timeout": 2},
        "look": {"effect": "read", "retry": Retry(3, base=0.1)},
    }
    turn = [("pay", {"hangs": False}), ("pay", {"hangs": True}), ("look",)]
    session = talk(script(turn), DagPlugin(options=options), tools=[pay, look])
    found = [response for _, response in await session.say()]
    assert sorted(paid) == [False, True]
    assert found[0] == {"error": "ConnectionError: no answer"}
    assert "may have taken effect" in found[1]["error"]
    assert found[2] == {"result": "there"}


@pytest.mark.parametrize("dag", [True, False])
async def test_what_was_done_is_not_done_again(script, talk, dag):
    """agent-framework 3938: a session that waits for a person goes on."""
    turn = [
        ("save", {"path": "x", "text": "t"}),
        ("drop", {"what": 7}),
        ("save", {"path": "y", "text": "u"}),
    ]
    session = talk(script(turn), *plugins(dag=dag))
    await session.say()
    assert ("drop", {"result": "dropped 7"}) in await session.confirm(yes=True)
    assert session.log == ["t", "u"]
