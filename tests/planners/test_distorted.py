"""Streams as servers distort them: what the model finished runs, and the conversation goes on."""

from __future__ import annotations

import json
import os
import random

import pytest

from dagexec import Cancelled, DagexecError, Done, Failed, tool
from dagexec.testing import check_conversation
from planners import Dialogue
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}


@tool(effect="read")
async def look(what: str = "", many: list | None = None) -> str:
    """Look."""
    return what


@tool
async def change(what: str = "", many: list | None = None) -> str:
    """Change."""
    return what


TOOLS = [look, change]


@pytest.fixture(scope="session")
def distortions(load_helper):
    """Return the module of the distortions; `refused` is what checks requests by their types."""
    found = load_helper("distortions")
    found.refused = load_helper("sdk_types").problems
    return found


async def _given(events):
    for event in events:
        yield event


def _key(name, args):
    return name, json.dumps(args, sort_keys=True)


async def _read(planner, events):
    """Return the stream when it has been read, its calls, and whether it broke."""
    stream = planner.stream(_given(events))
    calls, broke = [], False
    try:
        async for call in stream:
            calls.append(call)
    except DagexecError:
        broke = True
    return stream, calls, broke


def _outcomes(stream, calls, broke):
    """Return what an executor would report: writes run when the reply has come to a good end."""
    found = {}
    for call in calls:
        if call.problem is not None:
            found[call.id] = Failed(DagexecError(call.problem))
        elif call.tool == "look" or not (broke or stream.broken):
            found[call.id] = Done(call.args.get("what", ""))
        else:
            found[call.id] = Cancelled()
    return found


async def _one(d, api, seed):
    rng = random.Random(seed)
    reply = d.made(rng, ["look", "change"])
    ids = tuple(f"id_{at}" for at in range(len(reply.calls)))
    events = d.stream_of(api, reply, rng.choice([1, 3, 8, 100]), ids)
    applied = rng.sample(d.ALONE[api], rng.randrange(min(4, len(d.ALONE[api]))))
    if rng.random() < 0.6:
        applied.append(rng.choice(d.ONE_OF[api]))
    lossy = d.LOSSY[api] and rng.random() < 0.2
    if lossy:
        applied.append(rng.choice(d.LOSSY[api]))
    for together, each in d.NEVER:
        if together <= set(applied):
            applied.remove(each)
    for each in applied:
        each(rng, events)
    good, cut = True, False
    if rng.random() < 0.3:
        good = rng.random() < 0.4
        bad = d.BAD if api == "responses" else [*d.BAD, *d.NO_WORD]
        d.end_word(api, events, rng.choice(d.GOOD[api] if good else bad))
    if rng.random() < 0.25:
        cut, events = True, events[: rng.randrange(1, len(events))]
    names = [each.__name__ for each in applied]
    story = f"{api} {seed}: {names} good={good} cut={cut} {reply.calls}"
    planner = PLANNERS[api](TOOLS)
    talk = Dialogue(planner)
    talk.say("Go.")
    stream, calls, broke = await _read(planner, events)
    outcomes = _outcomes(stream, calls, broke)
    _check_calls(story, planner, reply, outcomes, calls)
    if not lossy and good and not cut:
        assert not broke, story
        ran = sorted(_key(c.tool, c.args) for c in calls if outcomes[c.id].status == "done")
        assert ran == sorted(_key(*call) for call in reply.calls), (story, calls)
    if not good and not cut and not broke:
        writes = [c for c in calls if c.tool == "change" and outcomes[c.id].status == "done"]
        assert not writes, story
    if stream.response is not None:
        _check_request(story, api, talk, stream, outcomes, refused=d.refused)


def _check_calls(story, planner, reply, outcomes, calls):
    """Whatever counts as done ran on arguments that the model wrote, once for each time."""
    meant = [_key(*call) for call in reply.calls]
    spoilt = {record.id for record in planner.calls.records if record.taken_back}
    for call in calls:
        if outcomes[call.id].status == "done" and call.id not in spoilt:
            key = _key(call.tool, call.args)
            assert key in meant, (story, call)
            meant.remove(key)


def _check_request(story, api, talk, stream, outcomes, *, refused):
    """The next request is one that a strict server takes, streamed as whole."""
    talk.keep(stream.response, outcomes or None, whole=stream.whole)
    key = "input" if api == "responses" else "messages"
    body = {key: talk.messages}
    assert check_conversation(api, body) == [], (story, talk.messages)
    assert refused(api, talk.messages) == [], (story, talk.messages)
    json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    if stream.whole:
        again = PLANNERS[api](TOOLS)
        other = Dialogue(again)
        other.say("Go.")
        plan = again.plan(stream.response)
        known = {record.id: record.raw for record in talk.planner.calls.last()}
        if plan.calls:  # a turn that goes on has none, and those of the stream are void
            assert [(c.tool, c.id) for c in plan.calls] == [
                (_name(known[c.id].name), c.id) for c in plan.calls
            ], story
        other.keep(stream.response, {c.id: outcomes[c.id] for c in plan.calls} or None)
        assert len(other.messages) == len(talk.messages), story


def _name(name):
    return name or "(no name)"


@pytest.mark.anyio
@pytest.mark.parametrize("api", PLANNERS)
async def test_distorted_streams(api, distortions):
    """A few hundred of them."""
    for seed in range(200):
        await _one(distortions, api, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.anyio
@pytest.mark.parametrize("api", PLANNERS)
async def test_many_distorted_streams(api, distortions, anyio_backend_name):
    """As many on each protocol and backend as DAGEXEC_FUZZ says; others on each backend."""
    count = int(os.environ.get("DAGEXEC_FUZZ", "3000"))
    first = 1_000 + (count if anyio_backend_name == "trio" else 0)
    for seed in range(first, first + count):
        await _one(distortions, api, seed)
