"""What users of agent frameworks have reported, with the adapter and without it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from agents import (
    Agent,
    AgentHooks,
    Runner,
    RunState,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailTripwireTriggered,
    function_tool,
)

from dagexec import Timeouts
from dagexec.integrations.openai_agents import dag_agent
from dagexec.limits import Limiter, Rate, Retry

pytestmark = pytest.mark.anyio


def now():
    """Return the seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000


def outputs(result):
    """Return what went back to the model, by the calls' ids."""
    return {
        item["call_id"]: item["output"]
        for item in result.to_input_list()
        if item.get("type") == "function_call_output"
    }


def given(agent, *, dag, **settings):
    """Return an agent with the adapter, or as it is."""
    return dag_agent(agent, **settings) if dag else agent


@pytest.mark.parametrize("dag", [True, False])
async def test_a_large_result_is_passed_on_without_the_model(script, dag):
    """pydantic-ai 3018, hermes-agent 78061: 60,000 characters arrive as they were returned."""
    rows = [f"{n:05} {'x' * 54}" for n in range(1000)]
    got = []

    @function_tool
    async def fetch() -> dict[str, list[str]]:
        return {"open": rows, "close": []}

    @function_tool
    async def plot(rows: list[str]) -> int:
        got.append(rows)
        return len(rows)

    for reference in ("1.open", "id1.open"):
        model = script([("fetch",), ("plot", {"rows": {"$ref": reference}})])
        await Runner.run(given(Agent(name="A", model=model, tools=[fetch, plot]), dag=dag), "go")
    assert got == ([rows, rows] if dag else [])


@pytest.mark.parametrize("dag", [True, False])
async def test_a_hung_call_costs_one_result(script, made, dag):
    """hermes-agent 52489: eleven hours for a batch."""
    turn = [("search", {"query": "a"}), ("search", {"query": "hung", "seconds": 39_888})]
    agent = given(made(script(turn)), dag=dag, timeouts=Timeouts(call=30))
    found = outputs(await Runner.run(agent, "go"))
    assert now() == pytest.approx(30 if dag else 39_888)
    assert found["id1"] == "{'items': ['a', 'b']}"
    assert ("Timed out" in found["id2"]) is dag


@pytest.mark.real_time
async def test_a_hung_thread_costs_one_result(script):
    """The same of a synchronous tool, for which the SDK has no timeout."""
    gate = threading.Event()

    @function_tool
    def blocks() -> str:
        gate.wait(50)
        return "late"

    @function_tool
    def quick() -> str:
        return "there"

    agent = Agent(name="A", model=script([("blocks",), ("quick",)]), tools=[blocks, quick])
    began = time.monotonic()
    try:
        result = await Runner.run(dag_agent(agent, options={"blocks": {"timeout": 0.2}}), "go")
        assert time.monotonic() - began < 40
    finally:
        gate.set()
    assert "Timed out" in outputs(result)["id1"]
    assert outputs(result)["id2"] == "there"


@pytest.mark.parametrize("dag", [True, False])
async def test_a_turn_of_eight_hundred_calls(script, dag):
    """pydantic-ai 6884: 792 calls of one turn ran at the same time."""
    at_work, most = 0, 0

    @function_tool
    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1)
        at_work -= 1

    agent = Agent(name="A", model=script([("work",)] * 800), tools=[work])
    result = await Runner.run(given(agent, dag=dag, concurrency=8), "go")
    assert most == (8 if dag else 800)
    assert len(outputs(result)) == 800


@pytest.mark.parametrize("dag", [True, False])
async def test_a_rate_for_one_tool(script, dag):
    """pydantic-ai 5040: an API that takes ten requests a minute."""
    limiter = Limiter("api", rates={"requests": Rate(10, 60)})
    starts = []

    @function_tool
    async def ask() -> None:
        starts.append(now())

    agent = Agent(name="A", model=script([("ask",)] * 30), tools=[ask])
    await Runner.run(given(agent, dag=dag, options={"ask": {"limits": limiter}}), "go")
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
    agent = made(script(turn))
    await Runner.run(given(agent, dag=dag, options={"save": {"writes": "file:{path}"}}), "go")
    assert agent.log == (["x1", "y1", "x2"] if dag else ["x2", "x1", "y1"])
    assert now() == pytest.approx(3 if dag else 2.5)


async def test_a_write_has_no_second_effect(script):
    """As in crewAI 5802: the payment was made, then the answer was lost; reads are repeated."""
    paid, read = [], []

    @function_tool
    async def pay(hangs: bool) -> str:
        paid.append(hangs)
        await asyncio.sleep(99 if hangs else 1)
        raise ConnectionError("no answer")

    @function_tool
    async def look() -> str:
        read.append(1)
        if len(read) < 3:
            raise ConnectionError
        return "there"

    options = {
        "pay": {"timeout": 2},
        "look": {"effect": "read", "retry": Retry(3, base=0.1)},
    }
    turn = [("pay", {"hangs": False}), ("pay", {"hangs": True}), ("look",)]
    agent = Agent(name="A", model=script(turn), tools=[pay, look])
    found = outputs(await Runner.run(dag_agent(agent, options=options), "go"))
    assert sorted(paid) == [False, True]
    assert "An error occurred" in found["id1"]  # the SDK's own words
    assert "may have taken effect" in found["id2"]
    assert found["id3"] == "there"


@pytest.mark.parametrize("dag", [True, False])
async def test_what_was_done_is_not_done_again(script, made, dag):
    """agent-framework 3938: a run that waits for a person goes on, in a state that was stored."""
    turn = [("save", {"path": "x", "text": "t"}), ("drop",), ("save", {"path": "y", "text": "u"})]
    plain = made(script(turn))
    agent = given(plain, dag=dag)
    result = await Runner.run(agent, "go")
    state = await RunState.from_string(agent, result.to_state().to_string())
    state.approve(state.get_interruptions()[0])
    found = outputs(await Runner.run(agent, state))
    assert found == {"id1": "t", "id2": "dropped all", "id3": "u"}
    assert plain.log == ["t", "u"]


async def test_agents_of_one_name_can_be_stored(script, made):
    """The adapter's hooks do not make them indistinguishable, as an agent's own may."""
    inner = [dag_agent(made(script([("drop",)]), handoffs=[])) for _ in range(2)]
    tools = [each.as_tool(f"ask{n}", "Ask.") for n, each in enumerate(inner)]
    model = script([("ask0", {"input": "x"}), ("ask1", {"input": "x"})])
    agent = dag_agent(Agent(name="B", model=model, tools=tools, handoffs=inner))
    result = await Runner.run(agent, "go")
    assert len(result.interruptions) == 2
    state = await RunState.from_string(agent, result.to_state().to_string())
    for each in state.get_interruptions():
        state.approve(each)
    assert outputs(await Runner.run(agent, state)) == {"id1": "done", "id2": "done"}


async def test_hooks_and_tripwires_name_what_was_given(script):
    """The agent's own hooks get its own tools, and a tripwire its own guardrail."""
    seen = []

    class Own(AgentHooks):
        async def on_tool_start(self, context, agent, tool):
            seen.append(tool)

        async def on_tool_end(self, context, agent, tool, result):
            seen.append(tool)

    async def trips(data):
        return ToolGuardrailFunctionOutput.raise_exception(output_info="no")

    guard = ToolInputGuardrail(guardrail_function=trips)

    @function_tool
    async def plain() -> str:
        return "there"

    @function_tool(tool_input_guardrails=[guard])
    async def guarded() -> str:
        return "never"

    model = script([("plain",)], [("guarded",)])
    agent = Agent(name="A", model=model, tools=[plain, guarded], hooks=Own())
    options = {"plain": {"approval": lambda args: False}}
    with pytest.raises(ToolInputGuardrailTripwireTriggered) as caught:
        await Runner.run(dag_agent(agent, options=options), "go")
    assert caught.value.guardrail is guard
    assert [tool is plain for tool in seen] == [True, True]
