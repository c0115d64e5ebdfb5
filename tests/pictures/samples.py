"""Runs that the tests of the pictures look at."""

from __future__ import annotations

import random

import anyio

from dagexec import Call, Executor, Ref, Timeouts, tool
from dagexec.testing import ToolBox


async def twelve():
    """Return the report of a run with a bit of everything, three calls at a time.

    The two searches end one after the other: what ends at the same moment has no order.
    """
    box = ToolBox()
    box.tool("search", seconds=0.6, returns={"u": [1, 2, 3, 4]})
    box.tool("find", seconds=0.7, returns=1)
    box.tool("fetch", seconds=1.4, returns="text")
    box.tool("slow", seconds=60, timeout=2.5)
    box.tool("lint", seconds=0.3, raises=ValueError("exit 1"))
    box.tool("sum", seconds=0.9, returns="s")
    box.tool("write", seconds=0.7, returns="r")
    box.tool("pay", approval=True)
    calls = [
        Call("1", "search"),
        Call("2", "find"),
        *(Call(str(3 + n), "fetch", {"x": Ref("1", ("u", n))}) for n in range(4)),
        Call("7", "slow", {"x": Ref("2")}),
        Call("8", "lint", {"x": Ref("2")}),
        Call("9", "sum", {name: Ref(name) for name in "3456"}),
        Call("10", "sum", {"a": Ref("7")}),
        Call("11", "write", {"a": Ref("9"), "b": Ref("1")}),
        Call("12", "pay", {"x": Ref("8", default=None)}),
    ]
    executor = Executor(box.tools, concurrency=3, timeouts=Timeouts(workflow=5.5))
    return await executor.run(calls, run_id="twelve")


def many(count=500, seed=1, seconds=0.3):
    """Return tools and calls of a large run: six kinds of calls, a few of them fail."""
    chance = random.Random(seed)
    names = ["search", "fetch", "extract", "sum", "rank", "store"]

    def make(name):
        async def call(s: float, x: object = None, y: object = None) -> int:
            await anyio.sleep(s)
            return 1

        call.__name__ = name
        return tool(call, effect="read")

    @tool(effect="read")
    async def flaky() -> int:
        await anyio.sleep(seconds)
        raise KeyError("x")

    calls = []
    for number in range(count):
        if chance.random() < 0.01:
            calls.append(Call(f"c{number}", "flaky"))
            continue
        args = {"s": round(seconds * (0.3 + 2 * chance.random() ** 3), 4)}
        if number >= 60:
            args["x"] = Ref(f"c{chance.randrange(number - 60, number)}")
            if chance.random() < 0.4:
                args["y"] = Ref(f"c{chance.randrange(number - 60, number)}")
        calls.append(Call(f"c{number}", names[min(5, number * 6 // count)], args))
    return [*map(make, names), flaky], calls


async def five_hundred():
    """Return the report of a run of 500 calls, 20 at a time."""
    tools, calls = many()
    return await Executor(tools, timeouts=Timeouts(call=6)).run(calls, run_id="many")
