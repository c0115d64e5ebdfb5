"""A turn driven as frameworks drive it: each call in a task of its own, some late, some never."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import anyio
import pytest

from dagexec import Timeouts, current_call
from dagexec.integrations._turns.conversation import Conversation, Spoken
from dagexec.integrations._turns.crew import Crew, Settings
from dagexec.integrations._turns.turn import PATIENCE, Observer, Turn, perform
from dagexec.limits import Retry
from dagexec.testing import virtual_time

WHERE = ContextVar("WHERE", default="nowhere")


class Steering(Exception):
    """How a framework says something to itself."""


@pytest.fixture
def anyio_backend():
    """The frameworks need asyncio."""
    return virtual_time("asyncio")


pytestmark = pytest.mark.anyio


def turn(*calls, groups=None, history=(), **settings):
    """Return a turn of (tool, args) with keys 1, 2, 3."""
    crew = Crew(Settings(**settings), perform, Observer(), (Steering,))
    first = len(history) + 1
    spoken = [
        Spoken(n, f"id{n}", tool, key=str(n), args=args)
        for n, (tool, args) in enumerate(calls, first)
    ]
    conversation = Conversation(spoken, lambda: history, references=crew.settings.references)
    return Turn(crew, conversation, groups=groups, asks=(PermissionError,))


async def done(turn, key, tool=None, *, after=0.0, **kwargs):
    """Hand a call in after a while; return status and value."""
    await asyncio.sleep(after)

    async def handler(args):
        args = dict(turn.conversation.calls[int(key) - 1].args) if args is None else args
        return await tool(**args) if tool else args

    ticket = await turn.run(key, handler, **kwargs)
    return ticket.outcome


def left_over():
    return [task for task in asyncio.all_tasks() if task.get_name() == "dagexec turn"]


async def all_of(*coroutines):
    return await asyncio.gather(*coroutines)


async def slow(seconds=1.0, **rest):
    await asyncio.sleep(seconds)
    return {"slept": seconds, **rest}


async def test_references_pass_values_between_calls():
    """The second needs the first, and gets its value with its type."""
    one = turn(("slow", {"seconds": 2}), ("slow", {"seconds": {"$ref": "1.slept"}}))
    found = await all_of(done(one, "2", slow), done(one, "1", slow, after=0.5))
    assert [each.value for each in found] == [{"slept": 2}, {"slept": 2}]
    assert asyncio.get_running_loop().time() == pytest.approx(1004.5)


async def test_what_has_come_does_not_wait_for_what_has_not():
    """A call whose guardrail takes its time holds up nobody but those that need it."""
    one = turn(("slow", {}), ("slow", {}), ("slow", {"x": {"$ref": "1"}}))
    found = await all_of(done(one, "1", slow, after=5), done(one, "2", slow), done(one, "3", slow))
    assert [each.ended for each in found] == pytest.approx([6, 1, 7])


async def test_a_call_that_never_comes_costs_only_those_that_need_it():
    """The framework says so."""
    one = turn(("slow", {}), ("slow", {}), ("slow", {"x": {"$ref": "1"}}))

    async def leaves():
        await asyncio.sleep(0.5)
        one.leave(["1"])

    _, two, three = await all_of(leaves(), done(one, "2", slow), done(one, "3", slow))
    assert two.ok
    assert (three.status, three.because) == ("skipped", "1")


async def test_one_that_is_forgotten_without_a_word():
    """Nobody says that it will not come: patience ends."""
    one = turn(("slow", {}), ("slow", {"x": {"$ref": "1"}}))
    assert (await done(one, "2", slow)).status == "skipped"
    assert asyncio.get_running_loop().time() == pytest.approx(1000 + PATIENCE)
    # It comes after all.
    assert (await done(one, "1", slow)).ok


async def test_a_limit_of_one_and_a_reference_forward():
    """The first is skipped at once, those after it run, and may refer to what came late."""
    one = turn(
        ("slow", {"x": {"$ref": "2"}}),
        ("slow", {"seconds": 3}),
        ("slow", {"y": {"$ref": "2.slept"}}),
    )
    first = await done(one, "1", slow, limit=1)
    assert (first.status, first.because) == ("skipped", "2")
    assert (await done(one, "2", slow, limit=1)).ok
    assert (await done(one, "3", slow, limit=1)).value == {"slept": 1.0, "y": 3}


async def test_conflicting_writes_run_in_the_models_order():
    """Whatever order they come in."""
    options = {"write": {"writes": "file:{path}"}}
    log = []

    async def write(path, text):
        await asyncio.sleep(1)
        log.append(text)

    one = turn(
        ("write", {"path": "a", "text": "first"}),
        ("write", {"path": "a", "text": "second"}),
        ("write", {"path": "b", "text": "other"}),
        options=options,
    )
    await all_of(done(one, "3", write), done(one, "2", write), done(one, "1", write, after=0.5))
    assert log == ["other", "first", "second"]


async def test_a_hung_call_costs_one_result():
    """Its deadline ends it, and those that need it are skipped."""
    one = turn(
        ("slow", {"seconds": 99}),
        ("slow", {}),
        ("slow", {"x": {"$ref": "1"}}),
        timeouts=Timeouts(call=2),
    )
    found = await all_of(*(done(one, key, slow) for key in "123"))
    assert [each.status for each in found] == ["timed_out", "done", "skipped"]
    assert asyncio.get_running_loop().time() == pytest.approx(1002)


async def test_the_turns_deadline_holds_for_calls_that_come_later():
    """What comes afterwards is not run."""
    one = turn(("slow", {"seconds": 99}), ("slow", {}), timeouts=Timeouts(call=None, turn=2))
    assert (await done(one, "1", slow, limit=1)).scope == "turn"
    late = await done(one, "2", slow, limit=1)
    assert (late.status, late.scope, late.started) == ("timed_out", "turn", None)


async def test_a_person_has_to_answer_first():
    """The call is pending, and so is what needs it."""
    one = turn(("ask", {}), ("slow", {"x": {"$ref": "1"}}), ("slow", {}))

    async def ask():
        raise PermissionError("may I?")

    found = await all_of(done(one, "1", ask), done(one, "2", slow), done(one, "3", slow))
    assert [each.status for each in found] == ["pending", "pending", "done"]


async def test_retries_leave_steering_alone():
    """Another attempt is made of a failure, not of what a framework says to itself."""
    attempts = []

    async def flaky():
        attempts.append("flaky")
        if len(attempts) < 3:
            raise ConnectionError
        return "there"

    async def steers():
        attempts.append("steers")
        raise Steering

    retry = {"effect": "read", "retry": Retry(5, base=0.1, on=Exception)}
    one = turn(("flaky", {}), ("steers", {}), options={"flaky": retry, "steers": retry})
    assert (await done(one, "1", flaky)).value == "there"
    assert isinstance((await done(one, "2", steers)).error, Steering)
    assert attempts.count("steers") == 1


async def test_each_call_has_the_context_it_was_started_in():
    """A variable of the framework's, and dagexec's own call."""
    seen = {}

    async def look(name):
        seen[name] = WHERE.get(), current_call().id
        await asyncio.sleep(0)
        seen[name] = WHERE.get(), current_call().tool
        WHERE.set("changed")

    one = turn(("look", {"name": "a"}), ("look", {"name": "b"}))

    async def within(where, key):
        WHERE.set(where)
        await done(one, key, look)

    async with asyncio.TaskGroup() as group:
        group.create_task(within("here", "1"))
        group.create_task(within("there", "2"))
    assert seen == {"a": ("here", "look"), "b": ("there", "look")}
    assert WHERE.get() == "nowhere"


@pytest.mark.parametrize("swallows", [False, True])
async def test_cancelling_one_call_leaves_the_others(swallows):
    """The framework cancels one of its tasks; the tool is cancelled too, the rest goes on."""
    ended = []

    async def tool(seconds):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            ended.append("cancelled")
            if not swallows:
                raise
        return seconds

    one = turn(("tool", {"seconds": 9}), ("tool", {"seconds": 2}))
    first = asyncio.create_task(done(one, "1", tool))
    second = asyncio.create_task(done(one, "2", tool))
    await asyncio.sleep(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert ended == ["cancelled"]
    assert asyncio.get_running_loop().time() == pytest.approx(1001.5)
    assert (await second).value == 2


@pytest.mark.parametrize("after", [0, 0.1, 1])
async def test_cancelling_all_leaves_nothing(after):
    """Also what had not come, and what waits for its turn."""
    one = turn(*[("slow", {"seconds": 9})] * 3, ("slow", {"x": {"$ref": "1"}}), concurrency=1)
    tasks = [asyncio.create_task(done(one, key, slow)) for key in "124"]
    await asyncio.sleep(after)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert not left_over()
    assert asyncio.get_running_loop().time() == pytest.approx(1000 + after)


async def test_a_turn_that_is_released_ends_with_its_last_task():
    """Whatever order they leave in: one that is done takes its result, the rest is cancelled."""
    now = turn(("a", {}), ("a", {"x": {"$ref": "3"}}), ("a", {}))
    tasks = [asyncio.ensure_future(done(now, key, slow)) for key in ("1", "2")]
    await asyncio.sleep(1)  # the first has its result, and its task has not been told yet
    await now.release()
    for task in reversed(tasks):
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    assert not left_over()


async def test_a_turn_that_is_closed_leaves_nothing():
    """A framework that knows when its turn ends says so."""
    one = turn(("slow", {}), ("slow", {}))
    assert (await done(one, "1", slow)).ok
    assert len(left_over()) == 1
    await one.aclose()
    assert not left_over()


async def test_a_plan_ends_while_nobody_is_there():
    """And goes on with another one, which knows what was left; the turn's limit is one."""
    one = turn(
        ("slow", {}),
        ("slow", {"x": {"$ref": "1.slept"}}),
        ("slow", {"x": {"$ref": "1"}}),
        timeouts=Timeouts(call=None, turn=5),
    )
    assert (await done(one, "1", slow)).ok
    await asyncio.sleep(1)
    assert not left_over()
    assert (await done(one, "2", slow)).value == {"slept": 1.0, "x": 1.0}
    await asyncio.sleep(3)
    late = await done(one, "3", slow)
    assert (late.status, late.scope) == ("timed_out", "turn")


async def test_nobody_runs_when_all_have_ended():
    """The last to leave has waited for the run."""
    one = turn(("slow", {}), ("slow", {}))
    await all_of(done(one, "1", slow), done(one, "2", slow))
    assert not left_over()


async def test_stopping_on_a_failure():
    """The rest is cancelled, and what comes later is not run."""

    async def fails():
        raise ValueError("no")

    one = turn(("fails", {}), ("slow", {}), ("slow", {}), on_failure="stop")
    first, second = await all_of(done(one, "1", fails), done(one, "2", slow))
    assert (first.status, second.status) == ("failed", "cancelled")
    assert (await done(one, "3", slow)).status == "cancelled"


async def test_references_to_the_turns_before():
    """By number and by id, with paths into texts that are JSON."""
    history = [
        Spoken(1, "a", "search", value='{"items": [{"url": "u"}]}'),
        Spoken(2, "b", "search"),
    ]
    one = turn(
        ("slow", {"x": {"$ref": "1.items[0].url"}, "y": {"$template": "<${a.items[0].url}>"}}),
        ("slow", {"x": {"$ref": "2"}}),
        ("slow", {"x": {"$ref": "9"}}),
        ("slow", {"x": {"$ref": "6"}}),
        history=history,
    )

    async def at(key):
        async def handler(args):
            return args

        return (await one.run(key, handler)).outcome

    found = await all_of(*map(at, "3456"))
    assert found[0].value == {"x": "u", "y": "<u>"}
    assert "has no result" in str(found[1].error)
    assert "no call '9'" in str(found[2].error)
    assert "itself" in str(found[3].error)


async def test_calls_in_a_circle_fail_and_the_others_run():
    """Neither waits."""
    one = turn(("slow", {"x": {"$ref": "2"}}), ("slow", {"x": {"$ref": "1"}}), ("slow", {}))
    found = await all_of(*(done(one, key, slow) for key in "123"))
    assert [each.status for each in found] == ["failed", "failed", "done"]


async def test_one_after_the_other_to_debug():
    """With concurrency=0 each runs by itself, in the order in which it comes."""
    one = turn(("slow", {}), ("slow", {"x": {"$ref": "1.slept"}}), ("slow", {}), concurrency=0)
    found = await all_of(*(done(one, key, slow) for key in "123"))
    assert [each.value for each in found] == [
        {"slept": 1.0},
        {"slept": 1.0, "x": 1.0},
        {"slept": 1.0},
    ]
    assert asyncio.get_running_loop().time() == pytest.approx(1003)


@pytest.mark.parametrize("concurrency", [0, 20])
async def test_a_failed_call_of_before_with_the_key_of_one_of_now(concurrency):
    """Some models use ids again: a number means the call that has it."""
    before = [Spoken(1, "id1", "slow", key="4"), Spoken(2, "id2", "slow", key="3")]
    refers = {"x": {"$ref": "1"}}
    one = turn(("slow", refers), ("slow", {}), history=before, concurrency=concurrency)
    one.leave(["4"])
    found = await done(one, "3", slow)
    assert found.status == "failed"
    assert "call 1 (slow) has no result to refer to" in str(found.error)


async def test_a_circle_of_references_with_defaults():
    """Nobody waits for ever: it is a fault like any other circle."""
    one = turn(
        ("slow", {"x": {"$ref": "2.slept", "default": 1}}),
        ("slow", {"x": {"$ref": "1.slept", "default": 2}}),
        ("slow", {}),
    )
    found = await all_of(*(done(one, key, slow) for key in "123"))
    assert [each.status for each in found] == ["failed", "failed", "done"]
    assert not left_over()


async def test_defaults_one_after_the_other():
    """With concurrency=0 a reference to what comes later has no value: its default counts."""
    later = {"$ref": "2.slept", "default": 7}
    one = turn(("slow", {"x": later}), ("slow", {"x": later}), ("slow", {}), concurrency=0)
    found = await all_of(*(done(one, key, slow) for key in "123"))
    assert found[0].value == {"slept": 1.0, "x": 7}
    assert [each.status for each in found] == ["done", "failed", "done"]  # one refers to itself


async def test_anyio_scopes_inside_a_handler():
    """A handler's own deadline is its own."""

    async def tool():
        with anyio.move_on_after(1):
            await anyio.sleep(9)
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        return "left"

    one = turn(("tool", {}))
    assert (await done(one, "1", tool)).value == "left"


async def test_concurrency_holds_over_all_turns():
    """Two turns of one crew share the slots."""
    crew = Crew(Settings(concurrency=2), perform, Observer(), ())
    at_work, most = 0, 0

    async def handler(args):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1)
        at_work -= 1

    turns = [
        Turn(
            crew,
            Conversation(
                [Spoken(n, "", "t", key=str(n), args={}) for n in range(4)], list, references=True
            ),
        )
        for _ in range(2)
    ]
    await all_of(*(one.run(str(n), handler) for one in turns for n in range(4)))
    assert most == 2
