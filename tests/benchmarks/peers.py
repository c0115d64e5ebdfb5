"""Compare with what else runs tool calls: `python -m tests.benchmarks.peers [--json FILE]`.

Workloads times systems, seconds in one process, taking turns. The tools do nothing (or wait, in the
random graphs), so that what is left is the system's own cost. Systems that know no dependencies get
the calls of one depth at a time, which is what an agent loop with them does. A system that is not
installed is named and left out; `make bench` installs all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from dagexec import Call, Executor, Plan, tool
from tests.benchmarks.__main__ import machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

Layer = list[str]
System = "Callable[[Workload], Awaitable[float]]"

TIMEOUT = 30
POLL = 0.01  # seconds between two looks, as the scheduler of the LLMCompiler paper's code does


@dataclass(frozen=True)
class Workload:
    """A graph: for each call the calls before it, and how long its tool waits."""

    name: str
    before: dict[str, tuple[str, ...]]
    seconds: dict[str, float]

    @property
    def layers(self) -> Iterator[Layer]:
        """The calls by depth."""
        depth: dict[str, int] = {}
        for call, before in self.before.items():
            depth[call] = max((depth[each] + 1 for each in before), default=0)
        for level in range(max(depth.values()) + 1):
            yield [call for call in depth if depth[call] == level]

    @property
    def critical(self) -> float:
        """The critical path, in seconds."""
        ends: dict[str, float] = {}
        for call, before in self.before.items():
            ends[call] = self.seconds[call] + max((ends[each] for each in before), default=0.0)
        return max(ends.values())


def plain(name: str, before: dict[str, tuple[str, ...]]) -> Workload:
    """Return a workload whose tools do nothing."""
    return Workload(name, before, dict.fromkeys(before, 0.0))


def workloads() -> list[Workload]:
    """Return what is measured."""
    dense = {
        f"{row}.{column}": tuple(f"{row - 1}.{each}" for each in range(10)) if row else ()
        for row in range(10)
        for column in range(10)
    }
    chance = random.Random(0)
    found = [
        plain("fan-out of 1,000", {str(each): () for each in range(1_000)}),
        plain("chain of 200", {str(n): (str(n - 1),) if n else () for n in range(200)}),
        plain("diamond", {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}),
        plain("10 x 10 dense layers", dense),
    ]
    for count in (30, 300):
        names = [str(each) for each in range(count)]
        before = {
            name: tuple(chance.sample(names[:at], min(at, chance.randint(0, 3))))
            for at, name in enumerate(names)
        }
        seconds = {name: chance.uniform(0.010, 0.050) for name in names}
        found.append(Workload(f"random graph of {count}", before, seconds))
    return found


async def work(seconds: float) -> None:
    """Do nothing, or wait."""
    if seconds:
        await anyio.sleep(seconds)


@tool(effect="read")
async def noop(seconds: float = 0.0) -> None:
    """Do nothing, or wait."""
    await work(seconds)


def arguments(load: Workload, call: str) -> dict[str, float]:
    """Return what a call gets: nothing, if it does not wait."""
    return {"seconds": load.seconds[call]} if load.seconds[call] else {}


def dagexec() -> System:
    """Run the graph as one plan."""
    executor = Executor([noop], concurrency=None)
    plans: dict[str, Plan] = {}

    async def run(load: Workload) -> float:
        plan = plans.get(load.name)
        if plan is None:
            plan = plans[load.name] = Plan(
                Call(call, "noop", arguments(load, call), before)
                for call, before in load.before.items()
            )
        begin = perf_counter()
        assert (await executor.run(plan)).ok
        return perf_counter() - begin

    return run


def by_layers(flat: Callable[[list[float]], Awaitable[object]]) -> System:
    """Run a graph with a system that knows none: one batch for each depth."""

    async def run(load: Workload) -> float:
        batches = [[load.seconds[call] for call in layer] for layer in load.layers]
        begin = perf_counter()
        for batch in batches:
            await flat(batch)
        return perf_counter() - begin

    return run


def gather() -> System:
    """Bare asyncio.gather."""
    return by_layers(lambda batch: asyncio.gather(*(work(each) for each in batch)))


def task_group() -> System:
    """Return asyncio's TaskGroup."""

    async def flat(batch: list[float]) -> None:
        async with asyncio.TaskGroup() as group:
            for each in batch:
                group.create_task(work(each))

    return by_layers(flat)


def anyio_group(*, scope: bool) -> System:
    """Return anyio's task group, with or without a `move_on_after` for each call."""

    async def guarded(seconds: float) -> None:
        with anyio.move_on_after(TIMEOUT):
            await work(seconds)

    async def flat(batch: list[float]) -> None:
        async with anyio.create_task_group() as group:
            for each in batch:
                group.start_soon(guarded if scope else work, each)

    return by_layers(flat)


def polling() -> System:
    """One task for each call, which looks every 10 ms whether it may start: LLMCompiler's way."""

    async def run(load: Workload) -> float:
        ended: dict[str, bool] = {}

        async def one(call: str) -> None:
            while not all(each in ended for each in load.before[call]):
                await asyncio.sleep(POLL)
            await work(load.seconds[call])
            ended[call] = True

        begin = perf_counter()
        await asyncio.gather(*(one(call) for call in load.before))
        return perf_counter() - begin

    return run


def tool_node() -> System:
    """LangGraph's ToolNode: a gather over the calls of a message."""
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool as langchain_tool
    from langgraph.prebuilt import ToolNode
    from langgraph.runtime import Runtime

    @langchain_tool
    async def noop(seconds: float) -> str:
        """Do nothing, or wait."""
        await work(seconds)
        return ""

    node = ToolNode([noop])
    config: Any = {"configurable": {"__pregel_runtime": Runtime()}}

    async def flat(batch: list[float]) -> None:
        calls: Any = [
            {"name": "noop", "args": {"seconds": each}, "id": str(at), "type": "tool_call"}
            for at, each in enumerate(batch)
        ]
        await node.ainvoke({"messages": [AIMessage("", tool_calls=calls)]}, config)

    return by_layers(flat)


def send() -> System:
    """Return a StateGraph that sends each call to a node of its own."""
    from typing import TypedDict

    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    State = TypedDict("State", {"batch": list[float], "seconds": float})  # noqa: UP013 - local

    async def call(state: Any) -> dict[str, Any]:
        await work(state["seconds"])
        return {}

    graph: Any = StateGraph(State)
    graph.add_node("call", call)
    graph.add_conditional_edges(
        START, lambda state: [Send("call", {"seconds": each}) for each in state["batch"]], ["call"]
    )
    graph.add_edge("call", END)
    compiled = graph.compile()
    return by_layers(lambda batch: compiled.ainvoke({"batch": batch}))


def pydantic_ai() -> System:
    """Pydantic AI's agent with a scripted model: one turn with all calls."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    async def flat(batch: list[float]) -> None:
        def reply(messages: list[Any], _info: Any) -> ModelResponse:
            if len(messages) > 1:
                return ModelResponse(parts=[TextPart("done")])
            return ModelResponse(
                parts=[
                    ToolCallPart("noop", {"seconds": each}, tool_call_id=str(at))
                    for at, each in enumerate(batch)
                ]
            )

        agent: Any = Agent(FunctionModel(reply))

        @agent.tool_plain
        async def noop(seconds: float) -> str:
            await work(seconds)
            return ""

        await agent.run("go")

    return by_layers(flat)


def openai_agents() -> System:
    """OpenAI's Agents SDK with a scripted model: one turn with all calls."""
    from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool
    from openai.types.responses import (
        ResponseFunctionToolCall,
        ResponseOutputMessage,
        ResponseOutputText,
    )

    @function_tool
    async def noop(seconds: float) -> str:
        """Do nothing, or wait."""
        await work(seconds)
        return ""

    class Scripted(Model):
        def __init__(self, batch: list[float]) -> None:
            self.batch: list[float] | None = batch

        async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
            batch, self.batch = self.batch, None
            output: list[Any]
            if batch is None:
                text = ResponseOutputText(annotations=[], text="done", type="output_text")
                output = [
                    ResponseOutputMessage(
                        id="m", content=[text], role="assistant", status="completed", type="message"
                    )
                ]
            else:
                output = [
                    ResponseFunctionToolCall(
                        arguments=json.dumps({"seconds": each}),
                        call_id=f"call_{at}",
                        name="noop",
                        type="function_call",
                    )
                    for at, each in enumerate(batch)
                ]
            return ModelResponse(output=output, usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    quiet = RunConfig(tracing_disabled=True)

    async def flat(batch: list[float]) -> None:
        agent = Agent("bench", model=Scripted(batch), tools=[noop])
        await Runner.run(agent, "go", run_config=quiet)

    return by_layers(flat)


def dask() -> System:
    """Dask's local scheduler, which has threads: the tools are synchronous here."""
    from time import sleep

    from dask.threaded import get

    def call(seconds: float, *_: object) -> None:
        if seconds:
            sleep(seconds)

    async def run(load: Workload) -> float:
        graph = {name: (call, load.seconds[name], *before) for name, before in load.before.items()}
        begin = perf_counter()
        get(graph, list(graph), num_workers=20)
        return perf_counter() - begin

    return run


ON_ASYNCIO: dict[str, Callable[[], System]] = {
    "dagexec, asyncio": dagexec,
    "asyncio.gather": gather,
    "asyncio.TaskGroup": task_group,
    "anyio group": partial(anyio_group, scope=False),
    "anyio group, a scope each": partial(anyio_group, scope=True),
    "polling every 10 ms": polling,
    "LangGraph ToolNode": tool_node,
    "LangGraph Send": send,
    "Pydantic AI": pydantic_ai,
    "OpenAI Agents": openai_agents,
    "Dask threaded": dask,
}
ON_TRIO: dict[str, Callable[[], System]] = {
    "dagexec, trio": dagexec,
    "anyio group, a scope each, trio": partial(anyio_group, scope=True),
}
LIBRARIES = ("langgraph", "langgraph-prebuilt", "pydantic-ai-slim", "openai-agents", "dask")


async def measure(
    makers: dict[str, Callable[[], System]], loads: list[Workload], repeats: int
) -> dict[str, dict[str, float]]:
    """Return the median seconds of each workload on each system."""
    systems: dict[str, System] = {}
    for name, make in makers.items():
        try:
            systems[name] = make()
        except ImportError as missing:
            print(f"{name}: left out, {missing}", file=sys.stderr)
    found: dict[str, dict[str, float]] = {load.name: {} for load in loads}
    for load in loads:
        taken: dict[str, list[float]] = {name: [] for name in systems}
        for turn in range(repeats + 1):
            for name, system in systems.items():
                gc.collect()
                took = await system(load)
                if turn:  # the first one warms up
                    taken[name].append(took)
        found[load.name] = {name: median(times) for name, times in taken.items()}
    return found


def table(loads: list[Workload], found: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: microseconds a call, or times the critical path."""
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    yield "| | " + " | ".join(load.name for load in loads) + " |"
    yield "|---|" + "---:|" * len(loads)
    for name in names:
        cells = [cell(load, found[load.name], name) for load in loads]
        yield f"| {name} | " + " | ".join(cells) + " |"


def cell(load: Workload, row: dict[str, float], name: str) -> str:
    """Return one figure of the table."""
    if name not in row:
        return "-"
    if load.critical:
        return f"{row[name] / load.critical:.3f} x"
    own = row["dagexec, trio" if name.endswith("trio") else "dagexec, asyncio"]
    return f"{row[name] / len(load.before) * 1e6:,.1f} us ({row[name] / own:.1f} x)"


def installed(library: str) -> str:
    """Return a library's version, or that it is not there."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--repeats", type=int, default=5, help="runs for each median (5)")
    parser.add_argument("--only", help="only workloads with this in their name")
    options = parser.parse_args()
    loads = [load for load in workloads() if (options.only or "") in load.name]
    found: dict[str, dict[str, float]] = {load.name: {} for load in loads}
    for backend, makers in (("asyncio", ON_ASYNCIO), ("trio", ON_TRIO)):
        taken = anyio.run(measure, makers, loads, options.repeats, backend=backend)
        for name, row in taken.items():
            found[name].update(row)
    print("\n".join(table(loads, found)))
    if options.json is not None:
        peers = {name: installed(name) for name in LIBRARIES}
        body = {"machine": machine(), "peers": peers, "seconds": found}
        options.json.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
