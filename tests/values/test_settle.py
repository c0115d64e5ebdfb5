"""A value is settled when its call ends: awaited, collected, nobody else's, and shown as it was."""

from __future__ import annotations

import asyncio
import csv
import functools
import io
import itertools
import sqlite3
from dataclasses import dataclass

import anyio
import pytest

from dagexec import Call, Executor, Plan, Ref, Timeouts, current_call, tool
from dagexec._tools import settle
from dagexec.limits import Retry
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio


class Later:
    """An object that can be awaited, again and again."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from anyio.sleep(1).__await__()
        return self.value


class Numbers:
    """An asynchronous iterator that is no generator."""

    def __init__(self, count):
        self.left = count

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        await anyio.sleep(0.1)
        return self.left


async def numbers(count):
    for number in range(count):
        await anyio.sleep(0.1)
        yield number


async def after(value, seconds=0.1):
    await anyio.sleep(seconds)
    return value


def cursor():
    return sqlite3.connect(":memory:").execute("VALUES (1, 'a'), (2, 'b')")


INSIDE = {"a": [[1], 2], "b": ([0],)}
UNSETTLED = {
    "map": (lambda: map(str, [1, 2]), ["1", "2"]),
    "zip": (lambda: zip("ab", [1, 2], strict=True), [("a", 1), ("b", 2)]),
    "generator": (lambda: (each * 2 for each in range(3)), [0, 2, 4]),
    "file": (lambda: io.StringIO("a\nb\n"), ["a\n", "b\n"]),
    "csv": (lambda: csv.reader(["a,b", "c,d"]), [["a", "b"], ["c", "d"]]),
    "cursor": (cursor, [(1, "a"), (2, "b")]),
    "coroutine": (lambda: after("x"), "x"),
    "awaitable": (lambda: Later("x"), "x"),
    "awaitable of an iterator": (lambda: Later(iter([1, 2])), [1, 2]),
    "async generator": (lambda: numbers(3), [0, 1, 2]),
    "async iterator": (lambda: Numbers(2), [1, 0]),
    "inside": (lambda: {"a": [iter([1]), after(2)], "b": (numbers(1),)}, INSIDE),
    "iterator of coroutines": (lambda: (after(each) for each in "ab"), ["a", "b"]),
    "iterator of iterators": (lambda: map(iter, ["ab", "c"]), [["a", "b"], ["c"]]),
}  # fmt: skip
CASES = pytest.mark.parametrize(("make", "value"), UNSETTLED.values(), ids=UNSETTLED)


def reading(make, **options):
    """Return a tool that returns what `make` makes, and two that read it."""

    @tool(effect="read", **options)
    async def given():
        return make()

    @tool(effect="read")
    async def read(x: object):
        return x

    return Executor([given, read])


PLAN = Plan([Call("a", "given"), *(Call(name, "read", {"x": Ref("a")}) for name in "bc")])


@CASES
async def test_every_dependant_gets_all_of_it(make, value):
    """What can be read once, or was never awaited, is a plain value when the call is done."""
    report = await reading(make).run(PLAN)
    assert report.outputs == {"a": value, "b": value, "c": value}


@CASES
async def test_with_retries_and_limits_too(make, value):
    """These calls take another way through the runtime."""
    report = await reading(make, retry=Retry(2)).run(PLAN)
    assert report.outputs == {"a": value, "b": value, "c": value}


@CASES
async def test_in_the_sequential_mode(make, value):
    """Where a synchronous tool runs in the loop's own thread."""

    @tool(effect="read")
    def given():
        return make()

    report = await Executor([given], concurrency=0).run([Call("a", "given")])
    assert report.outputs == {"a": value}


@pytest.mark.real_time
@CASES
async def test_of_a_tool_in_a_thread(make, value):
    """Iterators are read in the thread, where their code may block."""

    @tool(effect="read")
    def given():
        return make()

    report = await Executor([given]).run([Call("a", "given")])
    assert report.outputs == {"a": value}


async def test_it_is_the_calls_own_time_context_and_failure():
    """The deadline of the call bounds it, its context is there, and what it raises is its error."""

    def named():
        yield current_call().id

    async def broken():
        yield 1
        raise ValueError("half way")

    tools = {
        "slow": lambda: after(1, seconds=100),
        "named": named,
        "broken": broken,
        "inner": lambda: [after(1), after(2, seconds=100), after(3)],
    }
    box = ToolBox()
    for name, make in tools.items():
        box.tool(name, returns=make, timeout=5)
    report = await Executor(box.tools).run([Call(name, name) for name in tools])
    assert report["slow"].scope == "call"
    assert report["slow"].ended == pytest.approx(5)
    assert report.outputs == {"named": ["named"]}
    assert str(report["broken"].error) == "half way"
    assert report["inner"].scope == "call"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("seconds", [0.3, None])
async def test_an_endless_one_ends_with_its_deadline_in_bounded_memory(kind, seconds, monkeypatch):
    """Without a deadline it fails as soon as it is larger than a value may be."""
    monkeypatch.setattr(settle, "MOST_ITEMS", 1000)
    closed = []

    async def endless():
        try:
            for number in itertools.count():
                if not number % 64:
                    await anyio.sleep(0.001)
                yield number
        finally:
            closed.append(1)

    def forever():
        try:
            yield from itertools.count()
        finally:
            closed.append(1)

    @tool(effect="read", timeout=seconds)
    async def given():
        return endless() if kind == "async" else forever()

    if kind == "sync" and seconds is not None:
        pytest.skip("no time passes in virtual time while code runs: see the test in real time")
    report = await Executor([given], timeouts=Timeouts(call=None, workflow=None)).run(
        [Call("a", "given")]
    )
    assert closed == [1]
    if seconds is None:
        assert "1,000" in str(report["a"].error)
    else:
        assert report["a"].scope == "call"


@pytest.mark.real_time
@pytest.mark.parametrize("runs", ["async", "thread"])
async def test_an_endless_one_of_code_that_never_waits(runs, monkeypatch):
    """The event loop gets its turn meanwhile, and a thread ends with its call."""
    monkeypatch.setattr(settle, "MOST_ITEMS", 1000)
    ended = []

    def forever():
        try:
            yield from itertools.count()
        finally:
            ended.append(1)

    async def in_loop():
        return forever()

    function = in_loop if runs == "async" else forever

    @tool(effect="read", timeout=0.2, name="given")
    @functools.wraps(function)
    def given():
        return function()

    ticks = []

    @tool(effect="read")
    async def tick():
        for _ in range(5):
            await anyio.sleep(0.02)
            ticks.append(1)

    with anyio.fail_after(20):
        report = await Executor([given, tick]).run([Call("a", "given"), Call("t", "tick")])
        assert report["a"].scope == "call"
        assert report["t"].ok
        while not ended:
            await anyio.sleep(0.01)


async def test_an_unlimited_number_of_turns_is_refused():
    """What hands out something to await for ever is named."""

    async def again():
        return again()

    box = ToolBox()
    box.tool("given", returns=again)
    report = await Executor(box.tools).run([Call("a", "given")])
    assert "still to be awaited" in str(report["a"].error)


async def test_what_a_dependant_does_to_its_argument_stays_with_it():
    """Neither its siblings nor the report see it, nor does a tool that kept what it returned."""
    kept = {"items": [1], "more": {"deep": []}}

    @tool(effect="read")
    async def make():
        return kept

    @tool(effect="write")
    async def spoil(x):
        x["items"].append("mine")
        x["more"]["deep"].append("mine")
        return x

    plan = [Call("m", "make"), *(Call(name, "spoil", {"x": Ref("m")}) for name in "ab")]
    report = await Executor([make, spoil]).run(plan)
    clean = {"items": [1], "more": {"deep": []}}
    spoiled = {"items": [1, "mine"], "more": {"deep": ["mine"]}}
    assert report.outputs == {"m": clean, "a": spoiled, "b": spoiled}
    kept["items"].append("later")
    assert report.outputs["m"] == clean


@dataclass
class Box:
    items: list


async def test_an_object_is_shared_and_shown_as_it_was_when_its_call_ended():
    """What a model is told of a call does not depend on what others did later."""
    from planners.openai import ChatPlanner

    @tool(effect="read")
    async def make() -> Box:
        return Box(["first"])

    @tool(effect="write")
    async def spoil(x: Box) -> int:
        x.items.append("spoiled")
        return len(x.items)

    planner = ChatPlanner([make, spoil])
    calls = [("make", "{}"), ("spoil", '{"x": {"$ref": "1"}}')]
    plan = planner.plan(
        {
            "id": "c", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
                "role": "assistant", "content": None, "tool_calls": [
                    {"id": f"call_{name}", "type": "function",
                     "function": {"name": name, "arguments": arguments}}
                    for name, arguments in calls]}}],
        }
    )  # fmt: skip
    report = await Executor([make, spoil]).run(plan)
    assert report.outputs["1"].items == ["first", "spoiled"]
    shown = planner.results(report)
    assert '{"items":["first"]}' in str(shown[0])
    assert report.outputs["2"] == 2


async def test_what_is_large_travels_without_a_copy():
    """Bytes are passed on as they are, inside of containers too."""
    data = bytes(1 << 20)
    seen = []

    @tool(effect="read")
    async def make():
        return {"data": data}

    @tool(effect="read")
    async def look(x):
        seen.append(x["data"])

    await Executor([make, look]).run([Call("m", "make"), Call("a", "look", {"x": Ref("m")})])
    assert seen[0] is data


async def test_a_task_is_awaited(anyio_backend_name):
    """One that the tool left running ends with the call, or is cancelled with it."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's tasks")

    @tool(effect="read")
    async def make():
        return asyncio.create_task(after("x"))

    report = await Executor([make]).run([Call("a", "make")])
    assert report.outputs == {"a": "x"}
