"""Lines of a plan in forms of their own: calls all the same, or what refers to them is refused."""

from __future__ import annotations

import anyio
import pytest

from planners.llmcompiler import LLMCompilerPlanner
from planners.llmcompiler._decisions import Decision
from planners.llmcompiler._items import Numbered
from tests.planners.plans import FOREIGN, calls, make, read


@pytest.mark.parametrize("line", FOREIGN)
def test_marks_of_other_scripts_and_invisible_ones_are_what_they_look_like(line):
    """And bold, code and boxes round a tool's name say nothing."""
    (call,) = [item for item in read(f"{line}\n") if isinstance(item, Numbered)]
    assert call == Numbered(1, "search", ("x",))


def test_texts_and_answers_keep_their_characters():
    """What is plain is only the beginning of a line."""
    odd = "\uff11\u3001\u00a0\u200b\uff08\ufeff\uff09\uff0c"
    assert calls(f'\uff11\u3001search("{odd}", b=["{odd}"])')[1] == Numbered(
        1, "search", (odd,), {"b": [odd]}
    )
    for text in (f'\ufeff{{"action": "finish", "answer": "{odd}"}}', f"Final Answer: a{odd}b"):
        (decision,) = [item for item in read(text) if isinstance(item, Decision)]
        assert odd in decision.answer


VANISHED = [
    "Here is the plan: 1. {}",
    "| 1 | {} |",
    "1. ({})",
    "1st: {}",
    "$ 1. {}",
    "First, {}",
    "Call one \u2192 {}",
    "1. Then I run {} for it",
    '{{"a": 1}} 1. {}',
    "{{broken {}",
    "<think>\n1. {}\n</think>",
    "so {}\n</think>",
    '2. note("x" "y"), 1. {}',
    '2. note("x") and 1. {}',
]
BRACKETS = [
    'search("x")',
    'search\uff08"x"\uff09',
    'search\u3000\u300c"x"\u300d',
    '**search** ["x"]',
]


@pytest.mark.parametrize("line", VANISHED)
@pytest.mark.parametrize("call", BRACKETS)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_reference_to_a_call_that_vanished_is_refused(line, call, size):
    """Whatever form its line has: as text, "$1" would go to the tool in the place of a result."""
    text = f'{line.format(call)}\n3. search("got ${{1.a}}")\n4. search("$1")\n5. search(["$3"])'
    planner = LLMCompilerPlanner([make("search"), make("note")])

    async def streamed():
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        return [call async for call in planner.stream(pieces)]

    found = {call.id: call for call in anyio.run(streamed)}
    assert "cannot be read as a call" in str(found["3"].problem)
    assert "cannot be read as a call" in str(found["4"].problem)
    assert "$1" not in str(found["4"].args)


@pytest.mark.parametrize(
    "line",
    [
        "Thought: I search for it, and research (a lot) first.",
        "1. Look up the price (in dollars)",
        "Use the search: it costs $1 (or more).",
        "searching(x) is a word",
        "",
    ],
)
def test_dollars_are_text_where_no_line_could_be_a_call(line):
    """A word before a bracket is no tool, and a tool's name alone is a word."""
    text = f'{line}\n3. search("$2, ${{2}} and $1,000")'
    (call,) = LLMCompilerPlanner([make("search")]).plan(text).calls
    assert dict(call.args) == {"a": "$2, ${2} and $1,000"}


def test_money_is_text_beside_a_line_that_could_be_a_call():
    """It is no reference; nor is a number that is not smaller."""
    text = 'I search(x) first\n1. search("$1, $5, $1.50, $1,000 and $$1")'
    (call,) = LLMCompilerPlanner([make("search")]).plan(text).calls
    assert dict(call.args) == {"a": "$1, $5, $1.50, $1,000 and $1"}


@pytest.mark.parametrize(
    "text", ["\n".join(FOREIGN), "\n".join(VANISHED).format(*[BRACKETS[1]] * 14)]
)
def test_cutting_lines_of_other_forms_changes_nothing(text):
    """At every position, and in single characters."""
    whole = read(text)
    for at in range(len(text) + 1):
        assert read(text[:at], text[at:]) == whole, at
    assert read(*text) == whole


@pytest.mark.timeout(30)
@pytest.mark.parametrize("begin", ["", "<think>", "\u3000"])
@pytest.mark.parametrize("words", ["we search (it) \uff08", "words \uff57\u3001"])
def test_a_long_line_takes_time_in_proportion(begin, words):
    """Prose and thoughts that have no line breaks, in small pieces."""
    source = begin + words * 10_000
    pieces = [source[at : at + 4] for at in range(0, len(source), 4)]
    assert not [item for item in read(*pieces) if isinstance(item, Numbered)]
