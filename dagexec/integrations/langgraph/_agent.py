"""Agents that LangChain and LangGraph build, with a message's calls in one node.

`create_agent` and `create_react_agent(version="v2")` send each call to the tools' node by itself,
so that the node never sees two calls together. Here the edge sends them together.
"""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar, cast, final

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.prebuilt import ToolNode
from langgraph.types import Send

from dagexec import DagexecError
from dagexec.integrations.langgraph._node import DagToolNode
from dagexec.integrations.langgraph._review import Reviewed, reviewed_names

G = TypeVar("G")


def dag_agent(agent: G, **settings: Any) -> G:
    """Return an agent that runs the tool calls of each message as one graph.

        agent = dag_agent(create_agent(model, tools), timeouts=Timeouts(call=30))

    `agent` is what `create_agent`, `create_react_agent` or `StateGraph.compile` returned, and stays
    as it is. In the copy each `ToolNode` is a `DagToolNode` with the same tools, wrappers and error
    handling, and gets all calls of a message at once. `settings` are those that `DagToolNode` has
    besides `ToolNode`'s.

    A `HumanInTheLoopMiddleware` shows values where the model referred to earlier results; a call
    that refers to one of its own message cannot be shown, which is a DagexecError that names
    `approval=`. An answer that does not say which of several interrupts it is for is an error that
    says how to answer each.

    Raises DagexecError where there is no `ToolNode` in the graph.
    """
    graph: Any = agent
    old: Any = getattr(graph, "builder", None)
    nodes: dict[str, Any] = dict(getattr(old, "nodes", {}))
    replaced: list[str] = []
    for name, spec in nodes.items():
        if isinstance(spec.runnable, ToolNode):
            nodes[name] = copy.copy(spec)
            nodes[name].runnable = DagToolNode.from_tool_node(spec.runnable, **settings)
            replaced.append(name)
    if settings.get("references", True):
        nodes.update(_reviewed(nodes))
    if not replaced:
        what = "its tools' node is no ToolNode" if nodes else "it is no compiled StateGraph"
        msg = f"dag_agent() takes an agent whose tools run in a ToolNode; {what}"
        raise DagexecError(msg)
    builder = copy.copy(old)
    builder.nodes = nodes
    builder.branches = defaultdict(dict)
    for start, branches in old.branches.items():
        for name, branch in branches.items():
            together = _Together(branch.path, replaced)
            builder.branches[start][name] = branch._replace(path=together)
    # Everything that the agent was compiled with is kept; only its nodes are made again.
    made = builder.compile()
    found = graph.copy({"nodes": made.nodes, "builder": builder})
    return cast("G", found)


def _reviewed(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nodes that show calls to people, so that they show values."""
    found: dict[str, Any] = {}
    for name, spec in nodes.items():
        reviewed = reviewed_names(spec.runnable)
        if reviewed:
            found[name] = copy.copy(spec)
            found[name].runnable = Reviewed(spec.runnable, reviewed)
    return found


@final
class _Together(Runnable[Any, Any]):
    """An edge that sends the calls of a message together."""

    def __init__(self, path: Runnable[Any, Any], nodes: Collection[str]) -> None:
        self._path = path
        self._nodes = nodes

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's name
        return together(self._path.invoke(input, config, **kwargs), self._nodes)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002 - LangChain's name
        return together(await self._path.ainvoke(input, config, **kwargs), self._nodes)


def together(result: Any, nodes: Collection[str]) -> Any:
    """Return what an edge has decided, with one packet for the calls that it sends to a node."""
    if not isinstance(result, list | tuple):
        return result
    packets = cast("Sequence[Any]", result)
    found: list[Any] = []
    whole: dict[str, Any] = {}
    for packet in packets:
        name = packet.node if isinstance(packet, Send) else ""
        calls = _calls(packet) if name in nodes else None
        if calls is None:
            found.append(packet)
        elif name not in whole:
            whole[name] = _wider(packet, calls)
            found.append(whole[name])
        else:
            sent = whole[name].arg
            (sent if isinstance(sent, list) else sent["tool_calls"]).extend(calls)
    return found


def _calls(packet: Any) -> list[Any] | None:
    """Return the calls in a packet, None if it is something else."""
    arg = packet.arg
    if isinstance(arg, list) and arg and all(isinstance(each, dict) for each in arg):
        calls = cast("list[dict[str, Any]]", arg)
        return calls if all(each.get("type") == "tool_call" for each in calls) else None
    if isinstance(arg, dict) and arg.get("__type") == "tool_call_with_context":
        return [cast("dict[str, Any]", arg)["tool_call"]]
    return None


def _wider(packet: Any, calls: list[Any]) -> Send:
    """Return a packet like the given one that more calls can be added to."""
    if isinstance(packet.arg, list):
        arg: Any = list(calls)
    else:
        # LangGraph's own form holds one call.
        state = packet.arg["state"]
        arg = {"__type": "tool_calls_with_context", "tool_calls": list(calls), "state": state}
    wider = copy.copy(packet)
    wider.arg = arg
    return cast("Send", wider)
