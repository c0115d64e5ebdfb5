"""Turns at random: no hang, no call without an answer, nothing left running."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time

import pytest

pytest.importorskip("smolagents", reason="needs the extra smolagents")

from smolagents import ActionStep, AgentError

from dagexec import Timeouts
from tests.integrations.chance import argument, seeds

pytestmark = pytest.mark.real_time

# Turns in the slow test.
FUZZ = int(os.environ.get("DAGEXEC_FUZZ", "100"))


def turn(rng):
    """Return the calls of a turn."""
    size = rng.randint(1, 7)
    found = []
    for _ in range(size):
        name = rng.choice(["search", "save", "fail", "nope", "count"])
        args = {}
        if name == "search":
            seconds = rng.choice([0.0, 0.01, 60.0])
            args = {"query": argument(rng, size, "q"), "seconds": seconds}
        if name == "save":
            args = {"path": rng.choice("xy"), "text": argument(rng, size, "t"), "seconds": 0.005}
        if name == "count":
            args = {"items": argument(rng, size, rng.choice([["a"], 3]))}
        if name == "nope" and rng.random() < 0.3:
            args = "text"
        # A model may use an id twice.
        found.append((name, args, "twice") if rng.random() < 0.05 else (name, args))
    return found


def one(seed, talk, script, left_over):
    """Run one conversation of two turns, and interrupt or leave some."""
    rng = random.Random(seed)
    agent = talk(
        script(turn(rng), turn(rng), "end"),
        timeouts=Timeouts(call=rng.choice([0.03, 0.05]), turn=rng.choice([None, 0.06])),
        concurrency=rng.choice([0, 1, 2, 20]),
        on_failure=rng.choice(["skip", "skip", "stop"]),
        errors=rng.choice(["answer", "answer", "raise"]),
        options={"save": {"writes": rng.choice(["file:{path}", "all"])}},
    )
    if rng.random() < 0.2:
        threading.Timer(rng.choice([0, 0.01, 0.04]), agent.interrupt).start()
    began = time.monotonic()
    with contextlib.suppress(AgentError):  # interrupted
        agent.run("go")
    assert time.monotonic() - began < 30, seed
    assert not left_over(), seed
    for step in agent.memory.steps:
        if isinstance(step, ActionStep) and step.error is None and not step.is_final_answer:
            assert step.observations.count("[call ") >= len(step.tool_calls), seed


@pytest.mark.parametrize("count", [15, pytest.param(FUZZ, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_turns_at_random(count, talk, script, left_over):
    """Each seed is a conversation of two turns."""
    for seed in seeds(count):
        one(seed, talk, script, left_over)
