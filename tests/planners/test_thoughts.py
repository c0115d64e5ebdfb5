"""Thoughts between tags are no calls, wherever the text is cut, and no answers."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Executor, tool
from planners.llmcompiler import LLMCompilerPlanner
from planners.llmcompiler._decisions import Decision
from planners.llmcompiler._items import Numbered, Unsaid
from tests.planners.plans import DRAFT, STRIPPED, THOUGHT, make, read


@pytest.mark.parametrize("text", THOUGHT + STRIPPED)
def test_thoughts_between_tags_are_no_calls(text):
    """Neither a draft nor the end of a draft counts; nor where only the closing tag is there."""
    planner = LLMCompilerPlanner([make("write")])
    (call,) = planner.plan(text).calls
    assert (call.id, dict(call.args), call.problem) == ("1", {"a": "final"}, None)
    assert planner.decision is None


@pytest.mark.parametrize("text", THOUGHT)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_thoughts_in_pieces_are_no_calls(text, size):
    """Also where a tag is cut."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    (call,) = [item for item in read(*pieces) if isinstance(item, Numbered)]
    assert call.positional == ("final",)


@pytest.mark.parametrize("text", THOUGHT + STRIPPED)
def test_cutting_thoughts_changes_nothing(text):
    """At every position."""
    whole = read(text)
    for at in range(len(text) + 1):
        assert read(text[:at], text[at:]) == whole, at
    assert read(*text) == whole


@pytest.mark.parametrize(
    "text",
    [
        '1. write("<think>\\n1. x</think>")',
        '1. write("""\n<think>\n</think>\n""")',
        '1. write(["</think>"])',
        'Put `</think>` and "</think>" there.\n1. write("a")',
        '1. write("a")  # a "</think>"',
    ],
)
def test_words_about_tags_are_none(text):
    """In the text of an argument, in backticks, in quotes."""
    (call,) = LLMCompilerPlanner([make("write")]).plan(text).calls
    assert call.problem is None
    assert not [item for item in read(text) if isinstance(item, Unsaid)]


@pytest.mark.parametrize("text", [f"<think>\n{DRAFT}", f"<think>{DRAFT}</think>", "x\n</think>"])
def test_thoughts_alone_are_no_answer(text):
    """The model is asked to go on, once."""
    planner = LLMCompilerPlanner([make("write")])
    assert not planner.plan(text).calls
    assert planner.decision is None
    assert planner.api.ending(text) == "goes_on"
    assert "thoughts and nothing else" in planner.results({})[0]["content"]
    assert not planner.results({})


@pytest.mark.parametrize("text", ["<think>\n1. x\n</think>\n\nIt is 42.", "hm\n</think>It is 42."])
def test_an_answer_has_no_thoughts(text):
    """Neither as the planner's decision nor as the loop's answer."""
    planner = LLMCompilerPlanner([make("write")])
    planner.plan(text)
    assert planner.decision == Decision("finish", "It is 42.")
    assert planner.api.text(text) == "It is 42."
    assert planner.api.ending(text) == "answered"


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_stream_whose_calls_were_thoughts_runs_no_write(size):
    """What started cannot be taken back; nothing else starts, and the model hears of it."""
    ran = []

    @tool(effect="write")
    async def write(text: str) -> None:
        """Note what it is given."""
        ran.append(text)

    text = STRIPPED[0]
    planner = LLMCompilerPlanner([write])
    stream = planner.stream([text[at : at + size] for at in range(0, len(text), size)])

    async def run():
        return await Executor([write]).run(stream)

    report = anyio.run(run)
    assert not ran
    assert report["1"].status == "cancelled"
    assert "were thoughts" in planner.results(report)[0]["content"]
    assert stream.response["content"] == text
