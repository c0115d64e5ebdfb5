"""Turns at random: no hang, no call without an answer, nothing left running."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

pytest.importorskip("strands", reason="needs the extra strands")

from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent

from dagexec import Timeouts
from dagexec.integrations.strands import DagPlugin
from dagexec.testing import run_virtual
from tests.integrations.chance import argument, seeds

# Turns in the slow test.
FUZZ = int(os.environ.get("DAGEXEC_FUZZ", "500"))


def turn(rng):
    """Return the calls of a turn."""
    size = rng.randint(1, 7)
    found = []
    for _ in range(size):
        name = rng.choice(["search", "save", "fail", "drop", "nope", "count"])
        args = {}
        if name == "search":
            args = {"query": argument(rng, size, "q"), "seconds": rng.choice([0, 0.5, 1, 99])}
        if name == "save":
            args = {"path": rng.choice("xy"), "text": argument(rng, size, "t"), "seconds": 0.5}
        if name == "count":
            args = {"items": argument(rng, size, rng.choice([["a"], 3]))}
        if name == "drop":
            args = {"what": argument(rng, size, 7)}
        # A model may use an id twice.
        found.append((name, args, "twice") if rng.random() < 0.03 else (name, args))
    return found


def hooked(rng, agent):
    """Let hooks refuse, ask, try again and answer."""
    seen = set()

    def before(event):
        roll = rng.random()
        if roll < 0.1:
            event.cancel_tool = True
        elif roll < 0.15:
            event.interrupt("hook", reason="why not")

    def after(event):
        id_ = event.tool_use["toolUseId"]
        if rng.random() < 0.1 and id_ not in seen:
            seen.add(id_)
            event.retry = True

    agent.add_hook(before, BeforeToolCallEvent)
    agent.add_hook(after, AfterToolCallEvent)


async def one(seed, talk, script):
    """Run one conversation, and answer what it asks."""
    rng = random.Random(seed)
    plugin = DagPlugin(
        timeouts=Timeouts(call=rng.choice([2, 5]), turn=rng.choice([None, 4])),
        concurrency=rng.choice([0, 1, 2, 20]),
        on_failure=rng.choice(["skip", "skip", "stop"]),
        options={"save": {"writes": rng.choice(["file:{path}", "all"])}},
    )
    session = talk(script(turn(rng), turn(rng)), plugin)
    if seed % 2:
        hooked(rng, session.agent)

    asked = 0

    async def talking():
        nonlocal asked
        await session.agent.invoke_async("go")
        while session.agent._interrupt_state.activated:
            asked += 1
            answers = list(session.agent._interrupt_state.interrupts)
            await session.agent.invoke_async(
                [{"interruptResponse": {"interruptId": id_, "response": "yes"}} for id_ in answers]
            )

    task = asyncio.ensure_future(talking())
    if rng.random() < 0.3:
        await asyncio.sleep(rng.choice([0, 0.1, 0.5, 1, 3]))
        session.agent.cancel() if rng.random() < 0.5 else task.cancel()
    try:
        await asyncio.wait_for(task, 3600)
        complete = True
    except asyncio.CancelledError:
        complete = False
    await asyncio.sleep(1)
    left = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
    assert not left, seed
    if complete:
        blocks = [block for message in session.agent.messages for block in message["content"]]
        uses = [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
        results = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
        # After an interrupt the framework takes one result of an id for all of it.
        assert set(uses) == set(results), seed
        assert asked or sorted(uses) == sorted(results), seed


@pytest.mark.parametrize("count", [100, pytest.param(FUZZ, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_turns_at_random(count, talk, script):
    """Each seed is a conversation of two turns."""
    for seed in seeds(count):
        run_virtual(one, seed, talk, script)
