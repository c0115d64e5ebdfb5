"""References and templates that are made to be slow to read, or to ask for too much."""

from __future__ import annotations

import json
from contextlib import suppress

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import BadReference, Call, Executor, Plan, PlanError, Ref, Template, tool
from dagexec._core.braces import Braces
from dagexec._core.refs import MAX_DEPTH
from dagexec._core.resolving import resolve
from dagexec._core.room import MAX_TEXT
from tests.hostile.cost import assert_linear, seconds

UNITS = [
    "${", "$$", "${1}", '${"', '${\\"', '${1["', '"${', "}${", "${1.", "$", '${1["a"]}',
    '${"\\\\', '${"}"', 'x}"${', '["', ".a", "[0]", '["a"]', ".", "[", '"\\', "[*]", "\\",
]  # fmt: skip


@pytest.mark.costs
@pytest.mark.parametrize("behind", ["", "}", '"}', '\\"}'])
@pytest.mark.parametrize("unit", UNITS)
def test_templates_and_references_are_read_in_linear_time(unit: str, behind: str) -> None:
    """Braces that nothing closes, quotes, backslashes."""
    for before in ("", "1"):
        assert_linear(_template, before, unit, behind)
        assert_linear(_reference, before, unit, behind)


def _template(text: str) -> None:
    with suppress(BadReference):
        Template.parse(text)


def _reference(text: str) -> None:
    with suppress(BadReference):
        Ref.parse(text)


@pytest.mark.costs
def test_a_plan_file_of_braces_is_read_at_once() -> None:
    """A megabyte of them, from the file to the plan: a second, and more where lines are counted."""
    args = {"x": {"$template": "${" * 500_000}}
    body = json.dumps({"calls": [{"id": "a", "tool": "t", "args": args}]})
    assert seconds(lambda: Plan.from_json(body)) < 5


@given(st.text(alphabet='a"\\}{$', max_size=30))
def test_braces_end_where_the_rule_says(text: str) -> None:
    """At the first brace outside of a quoted key, from wherever one looks."""
    braces = Braces(text)
    for at in range(len(text) + 1):
        assert braces.end(at) == _end(text, at)


def _end(text: str, at: int) -> int:
    quoted = False
    while at < len(text):
        if quoted and text[at] == "\\":
            at += 1
        elif text[at] == '"':
            quoted = not quoted
        elif text[at] == "}" and not quoted:
            return at
        at += 1
    return -1


def test_messages_about_references_stay_short() -> None:
    """However long what cannot be read is."""
    for text in ("[" * 100_000, "1" + "[" * 100_000, "a" * 100_000 + "["):
        with pytest.raises(BadReference) as caught:
            Ref.parse(text)
        assert len(str(caught.value)) < 400


def test_a_path_has_a_limit_that_is_named() -> None:
    """As arguments have one for their depth."""
    assert len(Ref.parse("1" + ".a" * MAX_DEPTH).path) == MAX_DEPTH
    with pytest.raises(BadReference, match=f"at most {MAX_DEPTH} parts"):
        Ref.parse("1" + ".a" * (MAX_DEPTH + 1))


def test_the_templates_of_a_call_have_a_limit_that_is_named() -> None:
    """All together, before anything of that size is made."""
    value = "x" * (MAX_TEXT // 2)
    fits = {"a": Template("{}", Ref("1")), "b": [Template("{}", Ref("1"))]}
    assert len(resolve(fits, lambda _: value)["a"]) == MAX_TEXT // 2
    for parts in ({**fits, "c": Template("{}", Ref("1"))}, Template("{}" * 900, *[Ref("1")] * 900)):
        with pytest.raises(BadReference, match="16,000,000 characters"):
            resolve(parts, lambda _: value)


def test_a_value_that_is_referred_to_often_is_copied_once() -> None:
    """Within the arguments of one call, which are its own."""
    value = [[number] for number in range(1000)]
    found = resolve({"x": [Ref("1")] * 10_000, "y": Ref("1")}, lambda _: value)
    assert found["y"] == value
    assert found["y"] is not value
    assert found["x"][0] is found["x"][-1] is found["y"]


@pytest.mark.anyio
async def test_ten_calls_that_ask_for_ten_gigabytes_are_refused() -> None:
    """Each multiplies the one before: the first that is too large fails, and says why."""

    @tool(effect="read")
    async def echo(text: str) -> str:
        await anyio.sleep(0)
        return text

    calls = [Call("0", "echo", {"text": "x" * 10})]
    for number in range(1, 11):
        text = f"${{{number - 1}}}" * 10
        calls.append(Call(str(number), "echo", {"text": {"$template": text}}))
    report = await Executor([echo]).run(Plan(calls))
    failed = [name for name, outcome in report.items() if outcome.status == "failed"]
    assert failed == ["7"]
    assert "16,000,000 characters" in str(report["7"].error)
    assert report["8"].status == "skipped"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_plan_file_that_is_too_deep_is_an_error_that_says_so(text: str) -> None:
    """Python's own recursion limit is no answer."""
    with pytest.raises(PlanError, match=r"the plan is not JSON|nested"):
        Plan.from_json(text)
