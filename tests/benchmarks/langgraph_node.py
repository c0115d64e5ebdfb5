"""Measure DagToolNode against the stock ToolNode: `python -m tests.benchmarks.langgraph_node`.

Processor time of the whole process, so that what else the machine does counts less; both classes
take turns. Exits with 1 if a goal was missed.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime

from dagexec.integrations.langgraph import DagToolNode
from tests.benchmarks.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 1_000
REQUIRED = 1.10
CONFIG: Any = {"configurable": {"__pregel_runtime": Runtime()}}


@tool
async def awaited(number: int) -> str:
    """Do nothing."""
    return "done"


@tool
def blocking(number: int) -> str:
    """Do nothing."""
    return "done"


WAYS = (("awaited", "ainvoke"), ("blocking", "ainvoke"), ("blocking", "invoke"))


def seconds(node: ToolNode, name: str, method: str) -> float:
    """Return what one message of calls takes, in seconds of the processor."""
    calls = [
        {"name": name, "args": {"number": n}, "id": f"c{n}", "type": "tool_call"}
        for n in range(CALLS)
    ]
    given = {"messages": [AIMessage("", tool_calls=calls)]}
    gc.collect()

    async def run() -> float:
        begin = time.process_time()
        found = await node.ainvoke(given, CONFIG)
        took = time.process_time() - begin
        assert len(found["messages"]) == CALLS
        return took

    if method == "ainvoke":
        return asyncio.run(run())
    begin = time.process_time()
    assert len(node.invoke(given, CONFIG)["messages"]) == CALLS
    return time.process_time() - begin


def ratio(name: str, method: str, repeats: int) -> tuple[float, float]:
    """Return the medians of both classes, per call in microseconds: the stock one, then ours."""
    nodes = [ToolNode([awaited, blocking]), DagToolNode([awaited, blocking])]
    taken: list[list[float]] = [[], []]
    for node in nodes:
        seconds(node, name, method)
    for _ in range(repeats):
        for node, times in zip(nodes, taken, strict=True):
            times.append(seconds(node, name, method))
    stock, own = (median(times) / CALLS * 1e6 for times in taken)
    return stock, own


def figures(repeats: int = 7) -> Iterator[Figure]:
    """Yield the ratio of each way; later it should be 1."""
    for name, method in WAYS:
        stock, own = ratio(name, method, repeats)
        label = f"DagToolNode: {name} tools, {method}"
        yield Figure(f"{label}, a call", own, "us")
        yield Figure(f"{label} / ToolNode", own / stock, "x", REQUIRED)


def main() -> int:
    """Print the figures; return how many goals were missed."""
    found = list(figures())
    print("\n".join(map(str, found)))
    return sum(each.met is False for each in found)


if __name__ == "__main__":
    sys.exit(main() > 0)
