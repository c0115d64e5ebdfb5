"""`$each` in a model's calls: what runs, what the model hears, what it can refer to later."""

from __future__ import annotations

import json

import pytest

from dagexec import Executor, tool

pytestmark = pytest.mark.anyio


@tool(effect="read")
async def user(name: str) -> str:
    """Return a user's orders, as JSON in a text."""
    return json.dumps({"name": name, "orders": ["a", "b", "c"]})


@tool(effect="read")
async def order(id: str) -> dict:
    """Return an order."""
    if id == "b":
        raise ValueError("no such order")
    return {"id": id, "cost": 7}


@tool(effect="read")
async def total(costs: list[int]) -> int:
    """Add up."""
    return sum(costs)


TOOLS = [user, order, total]


async def turn(wire, planner, *calls):
    """Run a reply; return the texts of the answers."""
    reply = wire.reply(*calls)
    report = await Executor(TOOLS).run(planner.plan(reply))
    answers = planner.results(report)
    return report, [text for _, text, *_ in wire.answers(answers)]


async def test_one_call_for_many(wire):
    """In one turn with the call that finds the list, and one that takes the results."""
    planner = wire.planner(TOOLS)
    assert "$each" in planner.instructions
    _, texts = await turn(
        wire,
        planner,
        ("user", {"name": "x"}),
        ("order", {"id": {"$each": ["a", "c"]}}),
        ("total", {"costs": {"$ref": "2[*].cost"}}),
    )
    assert json.loads(texts[1].split("\n", 1)[1]) == [
        {"id": "a", "cost": 7},
        {"id": "c", "cost": 7},
    ]
    assert texts[2] == "[call 3]\n14"


async def test_items_that_fail(wire):
    """The answer has each item's value or error; a later turn can refer to those that are done."""
    planner = wire.planner(TOOLS)
    _, texts = await turn(
        wire,
        planner,
        ("user", {"name": "x"}),
        ("order", {"id": {"$each": "1.orders"}}),
        ("total", {"costs": {"$ref": "2[*].cost"}}),
    )
    head, *lines = texts[1].split("\n")
    assert head == "[call 2: failed]"
    assert lines[0] == "1 of 3 items failed."
    assert lines[1] == '[0] {"id":"a","cost":7}'
    assert lines[2].startswith("[1: failed] ValueError: no such order")
    assert '[2] {"id":"c","cost":7}' in texts[1]
    assert "[call 3: skipped]" in texts[2]
    report, texts = await turn(
        wire,
        planner,
        ("total", {"costs": [{"$ref": "2[0].cost"}, {"$ref": "2[2].cost"}]}),
        ("total", {"costs": [{"$ref": "2[1].cost"}]}),
        ("order", {"id": {"$each": "1.orders[*]"}}),
        ("order", {"id": {"$each": "1.name"}}),
    )
    assert report["4"].value == 14
    assert "Call 2 (order) is failed" in texts[1]
    assert report["6[2]"].value == {"id": "c", "cost": 7}
    assert "takes a list" in texts[3]


async def test_items_by_name_in_what_depends_on_them(wire):
    """A call that needs one item that failed hears which."""
    planner = wire.planner(TOOLS)
    _, texts = await turn(
        wire,
        planner,
        ("order", {"id": {"$each": ["a", "b"]}}),
        ("total", {"costs": [{"$ref": "1[1].cost"}]}),
        ("total", {"costs": [{"$ref": "1[0].cost"}]}),
    )
    assert "item 1 of call 1 (order) gave no result to use" in texts[1]
    assert texts[2] == "[call 3]\n7"
