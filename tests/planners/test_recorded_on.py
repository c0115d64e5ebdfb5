"""A conversation in a journal that goes on: with a question, an answer, after a deadline."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Approve, DagexecError, Executor, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.testing import ScriptedModel, check_conversation
from planners import Dialogue, solve
from planners.openai import ChatPlanner

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
]


@tool(effect="read")
async def look(x: str = "") -> str:
    if x.startswith("y"):
        await anyio.sleep(60)
    return "seen"


@tool(approval=True)
async def pay() -> str:
    return "paid"


TOOLS = [look, pay]


async def ask(question, script, journal, *, timeouts=None, speed=None, **options):
    """Solve as a new process would, but for a conversation that is given."""
    talk = options.get("conversation")
    client = ScriptedModel(script, speed=speed).openai(max_retries=0)
    executor = Executor(TOOLS, timeouts=timeouts or Timeouts())
    planner = ChatPlanner(TOOLS) if talk is None else talk.planner
    return await solve(
        question, planner=planner, client=client, model="m", executor=executor, journal=journal,
        **options,
    )  # fmt: skip


def copied(talk):
    return Dialogue.from_json(talk.to_json(), ChatPlanner(TOOLS))


def well_formed(talk):
    return not check_conversation("chat", {"messages": talk.messages})


async def test_a_further_question(stream):
    """It goes on under the same name, and a repeat of either call pays for nothing."""
    journal = MemoryJournal()
    script = [[("look", {})], "Done."]
    first = await ask("Go.", script, journal, run_id="t", stream=stream)
    before = copied(first.conversation)
    more = [[("look", {"x": {"$ref": "1"}})], "Yes."]
    second = await ask("And?", more, journal, conversation=first.conversation, stream=stream)
    assert second.text == "Yes."
    assert [each.run_id for each in second.conversation.reports] == ["t.1", "t.3"]
    again = await ask("And?", [], journal, conversation=copied(before), stream=stream)
    assert again.text == "Yes."
    assert again.messages == second.messages
    assert await ask("Go.", [], journal, run_id="t", stream=stream) == "Done."
    third = await ask("So?", ["So."], journal, conversation=again.conversation, stream=stream)
    assert third == "So."


async def test_another_question_after_the_same_turn_has_a_recording_of_its_own(stream):
    """Refused under the old name; the advice works, and nothing is said twice."""
    journal = MemoryJournal()
    first = await ask("Go.", [[("look", {})], "Done."], journal, run_id="t", stream=stream)
    before = copied(first.conversation)
    await ask("And?", ["Yes."], journal, conversation=first.conversation, stream=stream)
    talk, said = copied(before), len(before.messages)
    with pytest.raises(DagexecError, match=r"after turn 2; .* new run_id"):
        await ask("Or?", ["x"], journal, conversation=talk, stream=stream)
    assert (talk.id, len(talk.messages)) == ("t", said)
    ways = {"run_id": "t2", "stream": stream}
    other = await ask("Or?", [[("look", {})], "No."], journal, conversation=talk, **ways)
    assert other == "No."
    assert [each["content"] for each in other.messages if each["role"] == "user"] == ["Go.", "Or?"]
    assert other.conversation.id == "t2"
    assert other.reports[0].run_id == "t2.3"
    again = await ask("Or?", [], journal, conversation=copied(before), **ways)
    assert again.messages == other.messages
    with pytest.raises(DagexecError, match="t2' was begun with another question"):
        await ask("Go.", ["x"], journal, **ways)


async def test_the_answer_of_a_person(stream):
    """`update` and go on; the first call, repeated, comes the same way."""
    journal = MemoryJournal()
    first = await ask("Go.", [[("pay", {})]], journal, run_id="t", stream=stream)
    assert first.status == "pending"
    talk = first.conversation
    talk.update(await Executor(TOOLS, journal=journal).resume("t.1", {"1": Approve()}))
    second = await ask(None, ["Paid."], journal, conversation=talk, stream=stream)
    assert second == "Paid."
    again = await ask("Go.", [], journal, run_id="t", stream=stream)
    assert again.messages == second.messages


@pytest.mark.parametrize("seconds", [0.5, 5.0, 25.0])
async def test_after_a_deadline(stream, seconds):
    """A repeat says the same if there was a reply; the conversation goes on in either case."""
    journal = MemoryJournal()
    ways = {"stream": stream, "speed": 20 if stream else None}
    script = [[("look", {}), ("look", {"x": "y" * 300})], "Done."]
    ends = {"timeouts": Timeouts(call=None, workflow=seconds), **ways}
    first = await ask("Go.", script, journal, run_id="t", **ends)
    assert first.status == "timed_out"
    before = copied(first.conversation)
    again = await ask("Go.", [], journal, run_id="t", **ends)
    assert (again.status, again.messages) == ("timed_out", first.messages)
    second = await ask("Hurry.", ["Done."], journal, conversation=first.conversation, **ways)
    assert second == "Done."
    assert well_formed(second.conversation)
    third = await ask("Hurry.", [], journal, conversation=before, **ways)
    assert third.messages == second.messages


async def test_a_repeat_does_not_pay_for_a_line_that_was_left(stream):
    """Where the conversation went on with another question, the first call is refused unpaid."""
    journal = MemoryJournal()
    ways = {"run_id": "t", "stream": stream}
    first = await ask("Go.", [[("look", {})]], journal, max_turns=1, **ways)
    assert first.status == "max_turns"
    await ask("And?", ["Yes."], journal, conversation=first.conversation, stream=stream)
    paid = []
    with pytest.raises(DagexecError, match="went on in another way after turn 1"):
        await ask("Go.", [lambda body: paid.append(body) or "x"], journal, **ways)
    assert not paid
