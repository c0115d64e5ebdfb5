"""Texts that are made to be slow to read as a plan: the time grows with the length alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from dagexec import tool
from planners.llmcompiler import LLMCompilerPlanner
from planners.llmcompiler._grammar import Reader
from planners.llmcompiler._line_heads import Mentions
from planners.llmcompiler._window import Window
from planners.programs._blocks import program_in
from tests.hostile.cost import assert_linear, attack, seconds

if TYPE_CHECKING:
    from planners.llmcompiler._items import Item


@tool(effect="read")
async def search(q: str = "", n: int = 0) -> str:
    """Find something."""
    return f"{q} {n}"


PLANNER: Final = LLMCompilerPlanner([search])

ATTACKS: Final = [
    ('1. search("a")', " ", "so\n2. join()"),  # blanks behind a call
    ('1. search("a")', "*` ", "x"),
    ("Action:", " ", "so\n"),
    ("Action:", "*", "so\n"),
    ("", "action: ", "x"),
    ("Thought: ", "!", "x Action: finish(3)\n"),
    ("1.", " ", "search x\n"),
    ("1. ", "a.", " (\n"),
    ("2a. ", "a ", "\n"),
    ("2", ".1", " x\n"),
    ("1", "1", ". search()"),
    ("x: ", "[ ", "= search()"),
    ("x", " ", ": x = search("),
    ("- ", "[ ] ", "x"),
    ("", "<a>", "search("),
    ("", "< think ", "x"),
    ("", "</think>", ""),
    ("", "</think>\nAction: Finish(x\n", ""),
    ('{"action": "finish", "answer": "', "</think>\n", ""),
    ("", "<think>", "</think>"),
    ("<think>", "<", ""),
    ('1. search("', "\\", ""),
    ('1. search("', "\\N{", '")'),
    ('1. search("', "\\u", '")'),
    ('1. search("', "a\n", '")'),
    ("1. search(", '"', ""),
    ("1. search(", "'", ""),
    ("1. search(", "[", ""),
    ("1. search(", '{"', ""),
    ("1. search(", "${", ""),
    ("1. search(", "x=", ""),
    ("1. search(", "1,", ")"),
    ('1. search("a")\n2. search("', "$1", '")'),
    ('1. search("a")\n2. search("', "${1.", '")'),
    ('1. search("a")\n2. search("', '${1[\\"', '")'),
    ('1. search("a")\n2. search("', "$", '")'),
    ('1. search("a")\n2. search("', "$$1", '")'),
    ('1. search("a")\n2. search("', "$", '1")'),
    ('1. search("a")\n2. search("', "$${1.", '")'),
    ("1. search(", " #", ")"),  # comments, or texts with a `#` in each
    ("1. search(", "a # b,", ")"),
    ("1. search(", "a # b(,", "\n)"),
    ("1. search(", "3 # b\n,", ")"),
    ("1. search(3 ", "# b ", "\n)"),
    ("1. search([", "1, # b(])\n", "])"),
    ("1. search(", "a'b,", ")"),
    ("1. search(a", "'", "b)"),
    ("1. search(a", "'b", ")"),
    ("1. search(", "...,", ")"),
    ("", '1. search("\n', ""),
    ("", "1. search('\n", ""),
    ("", "1. search(", ""),
    ("", '1. search("a") ', ""),
    ("", '1. search("a")\n', ""),
    ("", 'search("a")\n', ""),  # calls without numbers
    ("", '2a. search("a")\n', ""),  # and with what is none
    ("", "1. nobody()\n", ""),
    ("", '1. search("TBD")\n', ""),
    ("", '{"a": [\n', ""),
    ("", "{'a': {\n", ""),
    ("{", '"k":1,', "}"),
    ('{"action": "', "x", ""),
    ('{"thought": "', '\\"', '"'),
    ('{"thought": "x", "answer": "', " ", "x"),
    ("", "\u200b", "x"),
    ("", "\u3000", "x"),
    ("", "\n", "x"),
    ("", "x\n", ""),
    ("", "search <", ""),
    ("", "search_", "("),
    ("", "search.", "("),
    ("join(", "a", ""),
    ("", "<END_OF_PLAN>", ""),
    ("Action: Finish(", ")", ""),
    ('Action: Finish("', '"', ""),
]


def _whole(text: str) -> None:
    planner = PLANNER.fresh()
    planner.plan(text)
    planner.results({})
    assert planner.decision is None or planner.decision.action


@pytest.mark.costs
@pytest.mark.parametrize(("before", "unit", "behind"), ATTACKS)
def test_the_text_of_a_plan_is_read_in_linear_time(before: str, unit: str, behind: str) -> None:
    """Whatever the text holds."""
    assert_linear(_whole, before, unit, behind)


def _piecemeal(text: str) -> None:
    reader = Reader(frozenset({"search"}))
    for at in range(0, len(text), 7):
        reader.feed(text[at : at + 7])
    reader.close()


@pytest.mark.costs
@pytest.mark.parametrize(("before", "unit", "behind"), ATTACKS)
def test_a_stream_of_small_pieces_is_read_in_linear_time(
    before: str, unit: str, behind: str
) -> None:
    """An item that is not complete is not read again with each piece."""
    assert_linear(_piecemeal, before, unit, behind)


@pytest.mark.parametrize(("before", "unit", "behind"), ATTACKS)
def test_what_is_read_is_the_same_however_the_text_is_cut(
    before: str, unit: str, behind: str
) -> None:
    """Also where the reader looks at a part of it at a time."""
    text = attack(before, unit, behind, 9000)
    texts = [text[:5000], text[:5000] + '\n7. search("b")\n', text]
    for each in texts:
        whole = _items(each, len(each))
        # Compared here: pytest would take minutes to show how long lists differ.
        same = [whole == _items(each, size) for size in (1000, 13)]
        assert same == [True, True]


def _items(text: str, size: int) -> list[Item]:
    reader = Reader(frozenset({"search"}))
    found: list[Item] = []
    for at in range(0, len(text), size):
        found += reader.feed(text[at : at + size])
    return found + reader.close()


def test_a_call_behind_a_long_one_is_given_at_once() -> None:
    """What is long waits for no more than what completes it."""
    reader = Reader(frozenset({"search"}))
    found: list[Item] = []
    for at in range(0, 30_000, 5):
        found += reader.feed("x" * 5 if at else '1. search("')
    assert found == []
    assert len(reader.feed('")\n')) == 1
    assert len(reader.feed("2. search()\n")) == 1


@pytest.mark.costs
def test_names_are_found_however_many_tools_there_are() -> None:
    """The text is read once, not once for each name."""
    names = [f"tool_{number}" for number in range(20_000)]
    mentions = Mentions(names)
    text = "tool_x( " * 20_000
    assert not mentions(text)
    assert seconds(lambda: mentions(text)) < 2
    assert mentions(text + "tool_19999 (")


@pytest.mark.costs
def test_many_lines_without_a_number_are_read_in_linear_time() -> None:
    """Each finds the number that it would have had, without a search from the first one on."""
    plan = PLANNER.fresh().plan('search("x")\n' * 20_000)
    assert len(plan) == 20_000
    assert all(call.problem for call in plan)


def test_what_a_window_puts_back_comes_before_all_else() -> None:
    """And what it keeps of a long buffer is its beginning."""
    window = Window()
    assert window.add("c" * 10, 0)
    window.open()
    window.put_back("b" * 5)
    assert window.kept("a" * 20_000, 10_000) == "a" * 4096
    taken = ""
    while window:
        taken += window.take(0)
    assert taken == "a" * (10_000 - 4096) + "b" * 5 + "c" * 10
    assert window.take(0) == ""


@pytest.mark.costs
@pytest.mark.parametrize(
    ("before", "unit"),
    [
        ("", "`"),
        ("", "```\n"),
        ("", "```a\n~~~b\n"),
        ("```python\nf", " "),
        ("```python\n", "f(\n``\n"),
        ("```program\n", "```\t\t\tx\n"),
        ("", "<think>"),
    ],
)
def test_programs_are_found_in_linear_time(before: str, unit: str) -> None:
    """Fences and thoughts that open and close nothing, in a megabyte."""
    assert_linear(lambda text: program_in(text, ["f"]), before, unit, "", 1_000_000)
