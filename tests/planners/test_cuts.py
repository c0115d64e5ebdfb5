"""Long results: what is shown, what is left out, and how to get at it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import Call, Done, Executor, Plan, tool
from dagexec._core.paths import follow
from dagexec._core.refs import Ref
from planners._core.cutting import cut
from planners.openai import ChatPlanner


def test_a_list_is_cut_between_its_items():
    """Head and tail are whole items; what is between is named by number and reference."""
    value = {"total": 500, "items": [{"id": n, "name": "x" * 90} for n in range(500)], "next": "c"}
    text = cut(json.dumps(value), 20_000, 3)
    head, note, tail = re.fullmatch(r"(.*)\n(\[cut: [^\n]*\])\n(.*)", text, re.DOTALL).groups()
    assert 13_000 < len(head) <= 14_000
    assert 5_000 < len(tail) <= 6_000
    assert head.endswith("}")
    assert tail.startswith("{")
    assert '"next": "c"' in tail
    first, last, count = map(int, re.search(r"items (\d+) to (\d+) of (\d+)", note).groups())
    assert count == 500
    assert json.loads(head[head.rindex("{") :])["id"] == first - 1
    assert json.loads(tail[: tail.index("}") + 1])["id"] == last + 1
    ref = json.loads(re.search(r'\{"\$ref": "3\.items[^}]*\}', note)[0])["$ref"]
    assert follow(value, Ref.parse(ref).path)["id"] == first
    assert '{"$ref": "3"} passes the whole value on' in note


@pytest.mark.parametrize(
    "value",
    [
        list(range(10_000)),
        {"a": 1, "rows": [[1, 2]] * 9_000, "more": True},
        {"odd key!": ["y" * 50] * 2_000},
        [{"big": "z" * 30_000}, {"small": 1}],
        {"list": [], "text": "t" * 50_000},
        "q" * 50_000,
        {"items": [1] * 9_000, "text": "t" * 9_000},
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_never_more_than_the_limit_and_the_end_is_there(value, indent):
    """Whatever the shape."""
    text = json.dumps(value, indent=indent)
    found = cut(text, 20_000, 1)
    head, note, tail = re.fullmatch(r"(.*)\n(\[cut: [^\n]*\])\n(.*)", found, re.DOTALL).groups()
    assert text.startswith(head)
    assert text.endswith(tail)
    assert 15_000 <= len(head) + len(tail) <= 20_000
    assert f"cut: {len(head) + len(tail)} of {len(text)} characters shown" in note


def test_lines_stay_whole():
    """Text that is no JSON."""
    text = "\n".join(f"line {n} " + "w" * 40 for n in range(2_000))
    found = cut(text, 20_000, 1).split("\n")
    assert found[0].startswith("line 0 ")
    assert found[-1] == text.split("\n")[-1]
    note = next(line for line in found if line.startswith("[cut: "))
    place = found.index(note)
    assert all(line.endswith("w" * 40) for line in (found[place - 1], found[place + 1]))


@given(st.text(alphabet='[]{},:"\\ \nab1', max_size=3_000), st.integers(1_000, 2_000))
def test_any_text(text, limit):
    """Text that looks like JSON and is none costs nothing."""
    found = cut(text, limit, None)
    assert len(found) <= limit + 200
    assert found == text or found.startswith(text[: limit // 2])


@pytest.mark.anyio
async def test_a_tools_own_limit():
    """In the place of the planner's."""

    @tool(effect="read", limit=2_000)
    async def long() -> list:
        return list(range(5_000))

    planner = ChatPlanner([long], limit=None)
    report = await Executor([long]).run(Plan([Call("1", "long")]))
    planner.plan(reply("long"))
    (answer,) = planner.results(report)
    assert len(answer["content"]) < 2_300
    assert answer["content"].endswith("4999]")
    assert isinstance(report["1"], Done)


def reply(name):
    """Return a reply with one call."""
    call = {"id": "a", "type": "function", "function": {"name": name, "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    return {"object": "chat.completion", "choices": [choice]}
