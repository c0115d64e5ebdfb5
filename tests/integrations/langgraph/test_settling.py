"""What a tool returned to be read or awaited is read and awaited by the node, once."""

from __future__ import annotations

import asyncio
import itertools
import json
import time

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langchain_core.tools import tool as lc_tool

import dagexec
from dagexec import Timeouts
from dagexec._tools import settle
from dagexec.integrations.langgraph import DagToolNode


async def after(value):
    await asyncio.sleep(0.001)
    return value


async def numbers(count):
    for number in range(count):
        await asyncio.sleep(0.001)
        yield number


class Later:
    """An object that can be awaited."""

    def __await__(self):
        yield from asyncio.sleep(0.001).__await__()
        return iter([1, 2])


MAKES = {
    "map": (lambda: map(str, [1, 2]), ["1", "2"]),
    "generator": (lambda: (each * 2 for each in range(3)), [0, 2, 4]),
    "coroutine": (lambda: after("x"), "x"),
    "awaitable": (Later, [1, 2]),
    "async generator": (lambda: numbers(3), [0, 1, 2]),
    "inside": (lambda: {"a": [iter([1]), after(2)]}, {"a": [[1], 2]}),
}


@lc_tool
def read(x: object) -> object:
    """Return the argument."""
    return x


def given_by(kind, who, way):
    """Return a tool of LangChain's, or of dagexec's, that returns what has to be read."""
    make = MAKES[kind][0] if kind in MAKES else ENDLESS[kind]

    def blocking():
        return make()

    async def waiting():
        return make()

    function = waiting if way.kind == "waits" else blocking
    if who == "dagexec":
        return dagexec.tool(effect="read", name="given", description="Give.")(function)
    key = "coroutine" if way.kind == "waits" else "func"
    return StructuredTool.from_function(**{key: function}, name="given", description="Give.")


def values_in(result):
    texts = [each.content for each in result["messages"] if isinstance(each, ToolMessage)]
    return [text if text == "x" else json.loads(text) for text in texts]


@pytest.mark.parametrize("who", ["langchain", "dagexec"])
@pytest.mark.parametrize("kind", MAKES)
def test_the_model_and_each_dependant_get_all_of_it(way, state, kind, who):
    """As a list, or as what was awaited."""
    node = DagToolNode([given_by(kind, who, way), read])
    calls = [("given", {}, "a"), *(("read", {"x": {"$ref": "1"}}, name) for name in "bc")]
    value = MAKES[kind][1]
    assert values_in(way.run(node, state(*calls))) == [value] * 3
    assert not way.orphans


@pytest.mark.parametrize("kind", MAKES)
def test_the_content_beside_an_artifact(way, state, kind):
    """The artifact stays as it is: it is for the program, not for the model."""
    make, value = MAKES[kind]
    artifact = object()

    def blocking():
        return make(), artifact

    async def waiting():
        return make(), artifact

    function = {"coroutine": waiting} if way.kind == "waits" else {"func": blocking}
    given = StructuredTool.from_function(
        **function, name="given", description="Give.", response_format="content_and_artifact"
    )
    result = way.run(DagToolNode([given]), state(("given", {}, "a")))
    assert values_in(result) == [value]
    assert [each.artifact for each in result["messages"]] == [artifact]


async def counting():
    for number in itertools.count():
        await asyncio.sleep(0.001)
        yield number


ENDLESS = {
    "count": itertools.count,
    "async count": counting,
    "sleep": lambda: asyncio.sleep(3600),
    "slow count": lambda: (time.sleep(0.001) for _ in itertools.count()),
}


@pytest.mark.parametrize("who", ["langchain", "dagexec"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_one_ends_with_its_call(way, state, kind, who, monkeypatch):
    """In bounded memory, and without a task that goes on."""
    if way.kind == "waits" and kind == "slow count":
        kind = "async count"  # the other one would block the loop
    monkeypatch.setattr(settle, "MOST_ITEMS", 1000)
    node = DagToolNode([given_by(kind, who, way)], timeouts=Timeouts(call=0.3))
    result = way.run(node, state(("given", {}, "a")))
    (answer,) = [each for each in result["messages"] if not isinstance(each, AIMessage)]
    assert answer.status == "error", answer
    assert "timed out" in answer.content
    assert not way.orphans
