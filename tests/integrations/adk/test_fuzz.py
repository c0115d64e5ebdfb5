"""Turns at random: no hang, no call without an answer, nothing left running."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from dagexec import Timeouts
from dagexec.integrations.adk import DagPlugin
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
        found.append((name, args))
    return found


async def one(seed, talk, script):
    """Run one conversation, and answer what it asks."""
    rng = random.Random(seed)
    plugin = DagPlugin(
        timeouts=Timeouts(call=rng.choice([2, 5]), turn=rng.choice([None, 4])),
        concurrency=rng.choice([1, 2, 20]),
        on_failure=rng.choice(["skip", "skip", "stop"]),
        options={"save": {"writes": rng.choice(["file:{path}", "all"])}},
    )

    def answers(tool, args, tool_context):
        return {"cached": True} if seed % 3 == 0 and tool.name == "search" else None

    first, second = turn(rng), turn(rng)
    session = talk(script(first, second), plugin, before_tool_callback=answers)
    task = asyncio.ensure_future(session.say())
    if rng.random() < 0.3:
        await asyncio.sleep(rng.choice([0, 0.1, 0.5, 1, 3]))
        task.cancel()
    try:
        found = await asyncio.wait_for(task, 3600)
    except asyncio.CancelledError:
        found = None
    await asyncio.sleep(1)
    left = [each for each in asyncio.all_tasks() if each.get_name() == "dagexec turn"]
    assert not left, seed
    if found is not None:
        names = [name for name, _ in found]
        expected = [name for name, _ in first]
        assert names[: len(expected)] == expected, seed


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("count", [100, pytest.param(FUZZ, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_turns_at_random(count, talk, script):
    """Each seed is a conversation of two turns."""
    for seed in seeds(count):
        run_virtual(one, seed, talk, script)
