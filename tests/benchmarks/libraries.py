"""Other libraries' ways to run tool calls, as they are documented; imported where they are used."""

from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec
from time import sleep
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from tests.benchmarks import journal
from tests.benchmarks.systems import (
    CAP,
    INNER,
    LINKS,
    Gate,
    System,
    by_layers,
    tools,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.workloads import Do, Workload

DURABLE = "keeps a journal through another system only, such as Temporal, which needs a server"


def tool_node() -> System:
    """LangGraph's ToolNode: a gather over the calls of a message."""
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.prebuilt import ToolNode
    from langgraph.runtime import Runtime

    async def flat(batch: list[Do]) -> None:
        calls: Any = [
            {"name": name, "args": args, "id": str(at), "type": "tool_call"}
            for at, (name, args) in enumerate(batch)
        ]
        await node.ainvoke({"messages": [AIMessage("", tool_calls=calls)]}, config)

    gate = Gate()
    node = ToolNode([tool(each) for each in tools(flat, gate).values()])
    config: Any = {"configurable": {"__pregel_runtime": Runtime()}}
    return by_layers(flat, gate, record="the graph round it keeps the journal")


def send() -> System:
    """Return a StateGraph that sends each call to a node of its own."""
    from typing import TypedDict

    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    State = TypedDict("State", {"batch": list[Any], "do": Any, "value": Any})  # noqa: UP013 - local

    async def call(state: Any) -> dict[str, Any]:
        name, args = state["do"]
        await own[name](**args)
        return {}

    async def flat(batch: list[Do]) -> None:
        await compiled.ainvoke({"batch": batch})

    gate = Gate()
    own = tools(flat, gate)
    graph: Any = StateGraph(State)
    graph.add_node("call", call)
    graph.add_conditional_edges(
        START, lambda state: [Send("call", {"do": each}) for each in state["batch"]], ["call"]
    )
    graph.add_edge("call", END)
    compiled = graph.compile()

    # A value is passed on through the state, by a node for each tool.
    line: Any = StateGraph(State)
    for link in range(LINKS):
        line.add_node(str(link), lambda state: {"value": state["value"]})
        line.add_edge(str(link - 1) if link else START, str(link))
    links = line.compile()

    async def carry(value: object) -> object:
        return (await links.ainvoke({"value": value}))["value"]

    async def record(path: Path) -> float:
        return await to_thread.run_sync(journal.saver, path)

    missing = find_spec("langgraph.checkpoint.sqlite") is None
    reason = "not installed: langgraph-checkpoint-sqlite"
    return by_layers(flat, gate, carry=carry, record=reason if missing else record)


def pydantic_ai() -> System:
    """Pydantic AI's agent with a scripted model: one turn with all calls."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel

    def reply(batch: list[Do], messages: list[Any], _info: Any) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(
            parts=[
                ToolCallPart(name, args, tool_call_id=str(at))
                for at, (name, args) in enumerate(batch)
            ]
        )

    async def flat(batch: list[Do]) -> None:
        await agent.run("go", model=FunctionModel(partial(reply, batch)))

    gate = Gate()
    agent: Any = Agent()
    for each in tools(flat, gate).values():
        agent.tool_plain(each)
    return by_layers(flat, gate, record=DURABLE)


def openai_agents() -> System:
    """OpenAI's Agents SDK with a scripted model: one turn with all calls."""
    from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool
    from openai.types.responses import (
        ResponseFunctionToolCall,
        ResponseOutputMessage,
        ResponseOutputText,
    )

    text = ResponseOutputText(annotations=[], text="done", type="output_text")
    done = ResponseOutputMessage(
        id="m", content=[text], role="assistant", status="completed", type="message"
    )

    class Scripted(Model):
        def __init__(self, batch: list[Do]) -> None:
            self.replies: list[list[Any]] = [
                [done],
                [
                    ResponseFunctionToolCall(
                        arguments=json.dumps(args),
                        call_id=f"call_{at}",
                        name=name,
                        type="function_call",
                    )
                    for at, (name, args) in enumerate(batch)
                ],
            ]

        async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
            return ModelResponse(output=self.replies.pop(), usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    quiet = RunConfig(tracing_disabled=True)

    async def flat(batch: list[Do]) -> None:
        agent = Agent("bench", model=Scripted(batch), tools=made)
        await Runner.run(agent, "go", run_config=quiet)

    gate = Gate()
    made: list[Any] = [function_tool(each) for each in tools(flat, gate).values()]
    return by_layers(flat, gate, record=DURABLE)


def dask() -> System:
    """Dask's local scheduler, which has threads: the tools are synchronous here."""
    from dask.threaded import get

    def call(name: str, args: dict[str, Any], *_: object) -> None:
        if name == "nested":
            inner = {str(n): (call, "noop", {}) for n in range(INNER)}
            get(inner, list(inner), num_workers=CAP)
        elif name == "wait" and args["seconds"]:
            sleep(args["seconds"])

    async def run(load: Workload) -> None:
        graph = {each: (call, *load.do(each), *before) for each, before in load.before.items()}
        get(graph, list(graph), num_workers=CAP)

    async def carry(value: object) -> object:
        graph: dict[str, Any] = {"0": (lambda: value,)}
        graph.update({str(n): (lambda each: each, str(n - 1)) for n in range(1, LINKS)})
        return get(graph, str(LINKS - 1), num_workers=1)

    return System(run, "takes the whole graph at once", carry)
