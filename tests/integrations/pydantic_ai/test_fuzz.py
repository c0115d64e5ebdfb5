"""Turns at random: no hang, no call without an answer, nothing left running."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from pydantic_ai import DeferredToolRequests, ModelRetry, RunContext
from pydantic_ai.exceptions import ApprovalRequired, RunCancelled
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart

from dagexec import Timeouts
from dagexec.integrations.pydantic_ai import Dag
from dagexec.testing import run_virtual
from tests.integrations.chance import argument, seeds

# Turns in the slow test.
FUZZ = int(os.environ.get("DAGEXEC_FUZZ", "500"))


def turn(rng):
    """Return the calls of a turn."""
    size = rng.randint(1, 7)
    found = []
    for _ in range(size):
        name = rng.choice(["search", "save", "fail", "picky", "drop", "alone", "count", "nope"])
        args = {}
        if name == "save":
            args = {"path": rng.choice("xy"), "text": argument(rng, size, "t"), "seconds": 0.5}
        if name in ("search", "alone"):
            args = {"query": argument(rng, size, "q"), "seconds": rng.choice([0, 0.5, 1, 99])}
        if name == "count":
            args = {"items": argument(rng, size, rng.choice([["a"], 3]))}
        found.append((name, args))
    return found


def agent_for(rng, made, script):
    """Return an agent with settings at random."""
    dag = Dag(
        timeouts=Timeouts(call=rng.choice([2, 5]), turn=rng.choice([None, 4])),
        concurrency=rng.choice([1, 2, 20]),
        on_failure=rng.choice(["skip", "skip", "stop"]),
        barrier=rng.random() < 0.2,
        options={"save": {"writes": rng.choice(["file:{path}", "all"])}},
    )
    model = script(turn(rng), turn(rng))
    agent = made(model, dag, output_type=[str, DeferredToolRequests], retries=9)

    async def work(query: str, seconds: float = 0) -> dict[str, list[str]]:
        await asyncio.sleep(seconds)
        return {"items": [query]}

    agent.tool_plain(work, name="alone", sequential=True)

    @agent.tool_plain
    async def picky() -> None:
        raise ModelRetry("no")

    @agent.tool
    async def drop(ctx: RunContext) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return "dropped"

    return agent


def unanswered(messages, open_):
    """Return the ids of calls without exactly one answer; those of `open_` wait for a person."""
    asked, answered = [], []
    for message in messages:
        if isinstance(message, ModelResponse):
            asked += [p.tool_call_id for p in message.parts if isinstance(p, ToolCallPart)]
        if isinstance(message, ModelRequest):
            answered += [p.tool_call_id for p in message.parts if isinstance(p, ToolReturnPart)]
    return sorted(set(asked) ^ set(answered)) != sorted(open_) or len(answered) != len(
        set(answered)
    )


async def one(seed, made, script):
    """Run one conversation."""
    rng = random.Random(seed)
    agent = agent_for(rng, made, script)
    task = asyncio.ensure_future(agent.run("go"))
    if rng.random() < 0.3:
        await asyncio.sleep(rng.choice([0, 0.1, 0.5, 1, 3]))
        task.cancel()
    try:
        result = await asyncio.wait_for(task, 3600)
    except (asyncio.CancelledError, RunCancelled):
        result = None
    left = [each for each in asyncio.all_tasks() if each.get_name() == "dagexec turn"]
    assert not left, seed
    if result is not None:
        output = result.output
        waits = output.approvals if isinstance(output, DeferredToolRequests) else []
        open_ = [call.tool_call_id for call in waits]
        assert not unanswered(result.all_messages(), open_), seed


@pytest.mark.parametrize("count", [100, pytest.param(FUZZ, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_turns_at_random(count, made, script):
    """Each seed is a conversation of two turns and an answer."""
    for seed in seeds(count):
        run_virtual(one, seed, made, script)
