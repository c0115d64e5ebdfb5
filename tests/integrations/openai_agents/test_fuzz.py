"""Turns at random: no hang, no call without an answer, nothing left running."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from agents import (
    Agent,
    RunConfig,
    Runner,
    ToolExecutionConfig,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    function_tool,
)
from agents.exceptions import AgentsException

from dagexec import Timeouts
from dagexec.integrations.openai_agents import dag_agent
from dagexec.testing import run_virtual
from tests.integrations.chance import argument, seeds

# Turns in the slow test.
FUZZ = int(os.environ.get("DAGEXEC_FUZZ", "500"))


async def refuses(data):
    """Refuse, after a while."""
    await asyncio.sleep(0.7)
    return ToolGuardrailFunctionOutput.reject_content("no")


@function_tool(tool_input_guardrails=[ToolInputGuardrail(guardrail_function=refuses)])
async def guarded() -> str:
    """Never run."""
    return "never"


def turn(rng):
    """Return the calls of a turn."""
    size = rng.randint(1, 7)
    found = []
    for _ in range(size):
        name = rng.choice(["search", "save", "fail", "drop", "guarded", "count"])
        args = {}
        if name == "search":
            args = {"query": argument(rng, size, "q"), "seconds": rng.choice([0, 0.5, 1, 99])}
        if name == "save":
            args = {"path": rng.choice("xy"), "text": argument(rng, size, "t"), "seconds": 0.5}
        if name == "count":
            args = {"items": argument(rng, size, rng.choice([["a"], 3]))}
        if name == "drop":
            args = {"what": argument(rng, size, "all")}
        found.append((name, args))
    if rng.random() < 0.1:
        found.append(("transfer_to_b", {}))
    if rng.random() < 0.05:
        found.append(("nope", {}))
    return found


async def one(seed, made, script):
    """Run one conversation, and answer what it asks."""
    rng = random.Random(seed)
    model = script(turn(rng), turn(rng))
    options = {
        "timeouts": Timeouts(call=rng.choice([2, 5]), turn=rng.choice([None, 4])),
        "concurrency": rng.choice([1, 2, 20]),
        "on_failure": rng.choice(["skip", "skip", "stop"]),
        "options": {"save": {"writes": rng.choice(["file:{path}", "all"])}},
    }
    other = dag_agent(Agent(name="b", model=model, tools=made(model, guarded).tools), **options)
    agent = dag_agent(made(model, guarded, handoffs=[other]), **options)
    cap = rng.choice([None, 1, 2])
    execution = ToolExecutionConfig(max_function_tool_concurrency=cap)
    config = RunConfig(tool_execution=execution, tracing_disabled=True)
    task = asyncio.ensure_future(talk(rng, agent, config))
    if rng.random() < 0.3:
        await asyncio.sleep(rng.choice([0, 0.1, 0.5, 1, 3]))
        task.cancel()
    try:
        result = await asyncio.wait_for(task, 3600)
    except (asyncio.CancelledError, AgentsException):
        result = None
    await asyncio.sleep(1)  # the SDK does not wait for calls that it has cancelled
    left = [each for each in asyncio.all_tasks() if each.get_name() == "dagexec turn"]
    assert not left, seed
    if result is not None:
        items = result.to_input_list()
        asked = [i["call_id"] for i in items if i.get("type") == "function_call"]
        answered = [i["call_id"] for i in items if i.get("type") == "function_call_output"]
        assert sorted(asked) == sorted(answered), seed


async def talk(rng, agent, config):
    """Run to the end, with answers to what is asked."""
    result = await Runner.run(agent, "go", run_config=config)
    for _ in range(9):
        if not result.interruptions:
            return result
        state = result.to_state()
        for each in result.interruptions:
            (state.approve if rng.random() < 0.6 else state.reject)(each)
        result = await Runner.run(agent, state, run_config=config)
    return None


@pytest.mark.filterwarnings("ignore:coroutine 'run_single_turn'")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("count", [100, pytest.param(FUZZ, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_turns_at_random(count, made, script):
    """Each seed is a conversation of two turns, with answers to what is asked."""
    for seed in seeds(count):
        run_virtual(one, seed, made, script)
