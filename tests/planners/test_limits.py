"""Requests of `solve` under a limiter."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Executor, Timeouts
from dagexec.testing import Reply, ScriptedModel, ToolBox, check_conversation
from planners import Dialogue, solve
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

limits = pytest.importorskip("dagexec.limits")
pytestmark = pytest.mark.anyio
PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}


def setting(api, script, **model):
    """Return what `solve` takes, and the model."""
    box = ToolBox()
    box.tool("look", seconds=1, returns="seen", effect="read")
    scripted = ScriptedModel(script, **model)
    client = scripted.anthropic() if api == "messages" else scripted.openai()
    planner, executor = PLANNERS[api](box.tools), Executor(box.tools)
    return {"planner": planner, "client": client, "model": "m", "executor": executor}, scripted


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", PLANNERS)
async def test_each_request_waits_for_its_turn(api, stream):
    """Six requests a minute with a burst of one; none is left in flight."""
    limiter = limits.Limiter("m", rates={"requests": limits.Rate(6, burst=1)}, margin=0)
    options, model = setting(api, [[("look", {})], [("look", {})], "Done."])
    answer = await solve("Go.", **options, stream=stream, limiter=limiter)
    assert answer == "Done."
    times = [request.at - model.requests[0].at for request in model.requests]
    assert times == pytest.approx([0, 10, 20], abs=0.1)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", PLANNERS)
async def test_what_was_used_is_settled(api, stream):
    """The estimate is high, the reply small: the rest comes back."""
    limiter = limits.Limiter(
        "m", rates={"input_tokens": limits.Rate(90_000), "output_tokens": limits.Rate(90_000)}
    )
    options, _ = setting(api, ["Done."])
    start = limiter.level("output_tokens")
    await solve("Go.", **options, stream=stream, limiter=limiter)
    assert limiter.level("output_tokens") > start - 20


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", PLANNERS)
async def test_a_refusal_keeps_its_place_and_tries_again(api, stream):
    """The SDK's own retries are off: each attempt is one that the limiter sees."""
    limiter = limits.Limiter("m", in_flight=1, random=lambda: 0.0)
    refused = Reply("slow down", status=429, headers={"retry-after": "7"})
    options, model = setting(api, [refused, Reply("oops", status=500), "Done."])
    answer = await solve("Go.", **options, stream=stream, limiter=limiter)
    assert answer == "Done."
    times = [request.at - model.requests[0].at for request in model.requests]
    assert times[1] == pytest.approx(7, abs=0.1)
    assert len(times) == 3
    assert limiter.in_flight == 0


@pytest.mark.parametrize("api", PLANNERS)
async def test_what_does_not_pass_is_raised(api):
    """A request that is wrong is not sent again; three attempts are enough for the others."""
    limiter = limits.Limiter("m", in_flight=1, random=lambda: 0.0)
    options, model = setting(api, [Reply("bad", status=400), *[Reply("x", status=503)] * 4])
    with pytest.raises(Exception, match="bad"):
        await solve("Go.", **options, limiter=limiter)
    assert len(model.requests) == 1
    with pytest.raises(Exception, match="x"):
        await solve("Go.", **options, limiter=limiter)
    assert len(model.requests) == 4
    assert limiter.in_flight == 0


@pytest.mark.parametrize("api", PLANNERS)
async def test_no_turn_before_the_deadline(api):
    """It is known at once, and the solution says which deadline it is."""
    limiter = limits.Limiter("m", rates={"requests": limits.Rate(1, burst=1)}, margin=0)
    options, _ = setting(api, [[("look", {})], "Done."])
    tools = options["executor"].tools.values()
    options["executor"] = Executor(tools, timeouts=Timeouts(turn=30))
    answer = await solve("Go.", **options, limiter=limiter)
    assert (answer.status, answer.scope) == ("timed_out", "turn")
    assert answer.elapsed < 30
    assert len(answer.reports) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_cancelling_leaves_nothing_in_flight(stream):
    """At every tenth of a second of two turns."""
    for tenths in range(40):
        limiter = limits.Limiter("m", in_flight=1)
        options, _ = setting("chat", [["Hm.", ("look", {})], "Done."], speed=10, delay=0.25)
        talk = Dialogue(options["planner"])
        with anyio.move_on_after(tenths / 10) as scope:
            await solve("Go.", **options, stream=stream, limiter=limiter, conversation=talk)
        assert (limiter.in_flight, limiter.waiting) == (0, 0)
        assert check_conversation("chat", {"messages": talk.messages}) == []
    assert not scope.cancelled_caught
