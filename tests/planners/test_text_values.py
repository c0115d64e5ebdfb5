"""Arguments as models write them in text plans: dollars, dots, comments, apostrophes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import Call, Plan, Ref, Template, tool
from planners.llmcompiler import LLMCompilerPlanner

LEFT_OUT = "... is a placeholder"


@tool(effect="read")
def f(x: object = None, y: object = None) -> object:
    """Give it back."""
    return [x, y]


def read(call: str, size: int = 0, **options: Any) -> Any:
    """Return the arguments of a call behind another one, or its problem; pieces of `size`."""
    text = f"1. f(0)\n2. {call}\n3. join()"
    planner = LLMCompilerPlanner([f], **options)
    pieces = [text[at : at + size] for at in range(0, len(text), size)] if size else text
    found = planner.plan(pieces)["2"]
    return found.problem or dict(found.args)


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    ("call", "args"),
    [
        # `$$` is one dollar sign only where a reference could begin.
        ('f(["$$", "$$$", "$$$$"])', {"x": ["$$", "$$$", "$$$$"]}),
        ('f("$$1 and $${1.a}, US$$, $$x")', {"x": "$1 and ${1.a}, US$$, $$x"}),
        ('f("$$9")', {"x": "$9"}),
        ('f("$$$1")', {"x": Template("${}", Ref("1"))}),
        ('f("$$$$1")', {"x": "$$1"}),
        # Comments among the arguments.
        ("f(x=3  # the count\n)", {"x": 3}),
        ("f(x=3, # the count (of all), in \"it's\n  y=4 # last\n)", {"x": 3, "y": 4}),
        ("f(\n  # two\n  1, 2)", {"x": 1, "y": 2}),
        ("f(x=[1, # one\n 2 # two\n])", {"x": [1, 2]}),
        ("f(x=[1, 2 # two])", {"x": [1, 2]}),
        ("f(x={# open\n'k': # behind a key\n 1})", {"x": {"k": 1}}),
        ("f(x=$1 # the first\n)", {"x": Ref("1")}),
        ("f(x='a' #tag\n, y=true#c\n)", {"x": "a", "y": "true#c"}),
        ("f(x=3 # the count)", {"x": 3}),
        ("f(x=3 # 1) the first :)\n, y=2)", {"x": 3, "y": 2}),
        ("f(name of Bob # a name\n)", {"x": "name of Bob"}),
        # Texts with a `#` in them.
        ("f(fix issue #5)", {"x": "fix issue #5"}),
        ("f(fix issue # 5, 2)", {"x": "fix issue # 5", "y": 2}),
        ("f(x=C # major,\n y=2)", {"x": "C # major", "y": 2}),
        ("f(# of users)", {"x": "# of users"}),
        ("f([#a, #b])", {"x": ["#a", "#b"]}),
        # Apostrophes in texts without quotes.
        ("f(Ender's Game, 2013)", {"x": "Ender's Game", "y": 2013}),
        ("f(x=O'Brien, y=it's a dogs' life)", {"x": "O'Brien", "y": "it's a dogs' life"}),
        ("f([L'Oréal, {'k': don't}])", {"x": ["L'Oréal", {"k": "don't"}]}),
        ("f(r'a\\b', u'c')", {"x": "a\\b", "y": "c"}),
        ('f("...")', {"x": "..."}),
    ],
)
def test_what_an_argument_stands_for(call: str, args: dict[str, Any], size: int) -> None:
    assert read(call, size) == args


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("call", ["f([22, ..., 80])", "f(...)", "f(x={'k': …})", "f(x=... # c\n)"])
def test_three_dots_without_quotes_are_no_value(call: str, size: int) -> None:
    assert LEFT_OUT in read(call, size)


def test_three_dots_are_a_text_where_placeholders_are_not_looked_for() -> None:
    assert read("f(...)", placeholders=False) == {"x": "..."}


@pytest.mark.parametrize("call", ["f(x'a', 1)", "f(b'x')", "f(rock 'n' roll)"])
def test_quotes_in_a_text_that_are_no_apostrophes_are_refused(call: str) -> None:
    assert "cannot be read" in read(call)


@given(st.lists(st.sampled_from(["$", "$$", "1", "{1}", "{1.a}", "x", " ", Ref("1")]), max_size=8))
def test_dollar_signs_come_back_from_a_plan_written_as_text(parts: list[str | Ref]) -> None:
    whole = Template.from_parts(parts)
    value: Any = whole if whole.refs and len(whole.parts) > 1 else "".join(map(str, parts))
    plan = Plan([Call("1", "f"), Call("2", "f", {"x": value})])
    planner = LLMCompilerPlanner([f])
    assert planner.plan(planner.format(plan))["2"].args == {"x": value}
