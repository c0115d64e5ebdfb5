"""A reply that is streamed is the reply: the same calls, answers and next request."""

from __future__ import annotations

import copy
import random

import pytest
from anthropic._models import construct_type as anthropic_object
from anthropic.types import Message, RawMessageStreamEvent
from openai._models import construct_type as openai_object
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from dagexec import Executor, tool
from dagexec.testing import check_conversation
from planners import Dialogue
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}
OBJECTS = {
    "chat": (openai_object, ChatCompletion, ChatCompletionChunk),
    "responses": (openai_object, Response, ResponseStreamEvent),
    "messages": (anthropic_object, Message, RawMessageStreamEvent),
}


@tool(effect="read")
async def look(what: object = None, many: object = None) -> object:
    """Look."""
    return what


@tool
async def change(what: object = None, many: object = None) -> object:
    """Change."""
    return [what, many]


TOOLS = [look, change]


async def _given(events):
    for event in events:
        yield event


def _facts(calls, report):
    """Return what the calls are, those that ran with their arguments, in the order of numbers."""
    good = {call.id for call in calls if report[call.id].status == "done"}
    found = [(call.id, call.tool, call.args if call.id in good else None) for call in calls]
    return sorted(found, key=str)


async def _outcome(api, reply=None, events=None):
    """Return the calls, the answers, what each call became, and the messages that go back."""
    planner = PLANNERS[api](TOOLS)
    talk = Dialogue(planner)
    talk.say("Go.")
    if events is None:
        plan = planner.plan(reply)
        report = await Executor(TOOLS).run(plan)
    else:
        stream = planner.stream(_given(events))
        report = await Executor(TOOLS).run(stream)
        plan, reply = report.plan, stream.response
        assert stream.broken is None
    became = {id_: each.value for id_, each in report.items() if each.status == "done"}
    answers = planner.results(report)
    talk.keep(reply, report if len(plan) else None)
    return _facts(plan.calls, report), became, answers, talk.messages, talk.carried


async def _same(whole_replies, api, seed):
    rng = random.Random(seed)
    whole, events = whole_replies.made(rng, api)
    construct, body, event = OBJECTS[api]
    wanted = await _outcome(api, copy.deepcopy(whole))
    key = "input" if api == "responses" else "messages"
    if "x_odd" not in str(wanted[3]):  # which goes back to the server that sent it
        assert check_conversation(api, {key: wanted[3]}) == [], (seed, wanted[3])
    objects = [construct(type_=event, value=copy.deepcopy(each)) for each in events]
    ways = {
        "object": await _outcome(api, construct(type_=body, value=copy.deepcopy(whole))),
        "stream": await _outcome(api, events=events),
        "stream of objects": await _outcome(api, events=objects),
    }
    for way, found in ways.items():
        for name, one, other in zip(
            ("calls", "outcomes", "answers", "messages", "carried"), wanted, found, strict=True
        ):
            assert one == other, (api, seed, way, name)


@pytest.fixture(scope="session")
def whole_replies(load_helper):
    """Return the module that makes them."""
    return load_helper("whole_replies")


@pytest.mark.anyio
@pytest.mark.parametrize("api", PLANNERS)
async def test_streamed_is_whole(api, whole_replies):
    """A few of them."""
    for seed in range(25):
        await _same(whole_replies, api, seed)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.anyio
@pytest.mark.parametrize("api", PLANNERS)
async def test_many_streamed_are_whole(api, whole_replies):
    """Some hundreds."""
    for seed in range(1_000, 1_160):
        await _same(whole_replies, api, seed)
