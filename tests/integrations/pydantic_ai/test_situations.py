"""What users of agent frameworks have reported, with the capability and without it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from pydantic_ai import Agent, DeferredToolRequests, RunContext, ToolFailed
from pydantic_ai.exceptions import RunCancelled
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.tools import DeferredToolResults

from dagexec import Timeouts
from dagexec.integrations.pydantic_ai import Dag
from dagexec.limits import Limiter, Rate, Retry

pytestmark = pytest.mark.anyio


def now():
    """Return the seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000


def parts(messages, outcome=None):
    """Return the results in a history by the ids of their calls."""
    return {
        part.tool_call_id: part
        for message in messages
        for part in message.parts
        if isinstance(part, ToolReturnPart) and outcome in (None, part.outcome)
    }


@pytest.mark.parametrize("dag", [True, False])
async def test_a_large_result_is_passed_on_without_the_model(script, dag):
    """pydantic-ai 3018, hermes-agent 78061: 60,000 characters arrive as they were returned."""
    rows = [f"{n:05} {'x' * 54}" for n in range(1000)]
    model = script([("fetch",)], [("plot", {"rows": {"$ref": "1.open"}})])
    agent = Agent(model, capabilities=[Dag()] if dag else [], retries=2)
    got = []

    @agent.tool_plain
    async def fetch() -> dict[str, list[str]]:
        return {"open": rows, "close": []}

    @agent.tool_plain
    async def plot(rows: list[str]) -> int:
        got.append(rows)
        return len(rows)

    result = await agent.run("go")
    assert got == ([rows] if dag else [])
    written = [part for message in result.all_messages() for part in message.parts]
    assert sum(len(str(p.args)) for p in written if p.part_kind == "tool-call") < 100


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
async def test_a_hung_call_costs_one_result(script, made, mode):
    """hermes-agent 52489 and 84719: eleven hours for a batch, or for the one call of a sequence."""
    hours = 39_888
    turn = [
        ("search", {"query": "a"}),
        ("search", {"query": "hung", "seconds": hours}),
        ("search", {"query": "b"}),
    ]
    for dag, seconds in ((Dag(timeouts=Timeouts(call=30)), 32), (None, hours + 2)):
        agent = made(script(turn), *([dag] if dag else []))
        began = now()
        with agent.parallel_tool_call_execution_mode(mode):
            result = await agent.run("go")
        assert now() - began == pytest.approx(seconds, abs=2)
        found = parts(result.all_messages(), "success")
        assert sorted(found) == (["id1", "id3"] if dag else ["id1", "id2", "id3"])


@pytest.mark.real_time
async def test_a_hung_thread_costs_one_result(script):
    """The same of a synchronous tool, which the framework waits for without end."""
    gate = threading.Event()
    agent = Agent(
        script([("blocks",), ("quick",)]),
        capabilities=[Dag(options={"blocks": {"timeout": 0.2}})],
    )

    @agent.tool_plain
    def blocks() -> str:
        gate.wait(50)
        return "late"

    @agent.tool_plain
    def quick() -> str:
        return "there"

    began = time.monotonic()
    try:
        result = await agent.run("go")
        assert time.monotonic() - began < 40
    finally:
        gate.set()
    found = parts(result.all_messages())
    assert "Timed out" in found["id1"].content
    assert found["id2"].content == "there"


@pytest.mark.parametrize("dag", [True, False])
async def test_a_turn_of_eight_hundred_calls(script, dag):
    """pydantic-ai 6884: 792 calls of one turn ran at the same time, and 104 workflows died."""
    agent = Agent(script([("work",)] * 800), capabilities=[Dag(concurrency=8)] if dag else [])
    at_work, most = 0, 0

    @agent.tool_plain
    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1)
        at_work -= 1

    result = await agent.run("go")
    assert most == (8 if dag else 800)
    assert now() == pytest.approx(100 if dag else 1)
    assert len(parts(result.all_messages())) == 800


@pytest.mark.parametrize("dag", [True, False])
async def test_a_rate_for_one_tool(script, dag):
    """pydantic-ai 5040: an API that takes ten requests a minute."""
    limiter = Limiter("api", rates={"requests": Rate(10, 60)})
    capabilities = [Dag(options={"ask": {"limits": limiter}})] if dag else []
    agent = Agent(script([("ask",)] * 30), capabilities=capabilities)
    starts = []

    @agent.tool_plain
    async def ask() -> None:
        starts.append(now())

    await agent.run("go")
    within = max(sum(a <= b < a + 60 for b in starts) for a in starts)
    assert within <= (20 if dag else 30)
    assert (now() > 60) is dag


@pytest.mark.parametrize("dag", [True, False])
async def test_writes_to_one_file_are_in_order(script, made, dag):
    """OpenHands 2560: two edits of a file, and of two files at the same time."""
    turn = [
        ("save", {"path": "x", "text": "x1", "seconds": 2}),
        ("save", {"path": "x", "text": "x2", "seconds": 1}),
        ("save", {"path": "y", "text": "y1", "seconds": 2.5}),
    ]
    options = {"save": {"writes": "file:{path}"}}
    agent = made(script(turn), *([Dag(options=options)] if dag else []))
    await agent.run("go")
    assert agent.log == (["x1", "y1", "x2"] if dag else ["x2", "x1", "y1"])
    assert now() == pytest.approx(3 if dag else 2.5)


async def test_a_write_has_no_second_effect(script):
    """As in crewAI 5802: the payment was made, then the answer was lost; reads are repeated."""
    paid, read = [], []
    options = {
        "pay": {"timeout": 2},
        "look": {"effect": "read", "retry": Retry(3, base=0.1)},
    }
    turn = [("pay", {"hangs": False}), ("pay", {"hangs": True}), ("look",)]
    agent = Agent(script(turn), capabilities=[Dag(options=options)])

    @agent.tool_plain
    async def pay(hangs: bool) -> str:
        paid.append(hangs)
        await asyncio.sleep(99 if hangs else 1)
        raise ConnectionError("no answer")

    @agent.tool_plain
    async def look() -> str:
        read.append(1)
        if len(read) < 3:
            raise ConnectionError
        return "there"

    found = parts((await agent.run("go")).all_messages())
    assert sorted(paid) == [False, True]
    assert found["id1"].content == "ConnectionError: no answer"
    assert "may have taken effect" in found["id2"].content
    assert found["id3"].content == "there"


@pytest.mark.parametrize("dag", [True, False])
async def test_what_was_done_is_not_done_again(script, made, dag):
    """agent-framework 3938: a run that a tool ended, or that waits for a person, goes on."""
    turn = [("save", {"path": "x", "text": "t"}), ("stop",), ("drop",)]
    model = script(turn)
    capabilities = [Dag()] if dag else []
    agent = made(model, *capabilities, output_type=[str, DeferredToolRequests])

    @agent.tool
    async def stop(ctx: RunContext) -> str:
        await asyncio.sleep(2)
        ctx.cancel()
        await asyncio.sleep(99)

    @agent.tool_plain(requires_approval=True)
    async def drop() -> str:
        return "dropped"

    with pytest.raises(RunCancelled) as caught:
        await agent.run("go")
    history = caught.value.all_messages()
    assert parts(history)["id1"].content == "t"
    result = await agent.run("go on", message_history=history)
    assert agent.log == ["t"]
    assert parts(result.all_messages())["id2"].outcome == "interrupted"

    model.replies = [[turn[0], turn[2]]]
    asked = await agent.run("go")
    id_ = asked.output.approvals[0].tool_call_id
    again = await agent.run(
        message_history=asked.all_messages(),
        deferred_tool_results=DeferredToolResults(approvals={id_: True}),
    )
    assert parts(again.all_messages())[id_].content == "dropped"
    assert agent.log == ["t", "t"]


async def test_a_failure_that_a_tool_names_is_the_models(script):
    """One failure is one result, in the tool's own words; an exception without it ends the run."""

    async def broken() -> str:
        raise ToolFailed("no such city")

    async def raises() -> str:
        raise OSError("disk")

    agent = Agent(script([("broken",), ("raises",)]), tools=[broken, raises], capabilities=[Dag()])
    found = parts((await agent.run("go")).all_messages())
    assert [found["id1"].content, found["id2"].content] == ["no such city", "OSError: disk"]
    with pytest.raises(OSError, match="disk"):
        await Agent(script([("broken",), ("raises",)]), tools=[broken, raises]).run("go")
