"""A graph of LangGraph on Temporal, as the plugin's guide has it, for `crash`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TypedDict

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from langgraph.graph import END, START, StateGraph
    from temporalio.langgraph import LangGraphPlugin, graph

    from tests.benchmarks.crash import PAYMENTS, pay


class State(TypedDict):
    """What the nodes pass on."""

    wanted: list[str]
    answers: list[str]


async def model(_: State) -> dict[str, list[str]]:
    """Ask for all payments."""
    return {"wanted": [*PAYMENTS]}


async def tools(state: State) -> dict[str, list[str]]:
    """Run the calls of a message side by side."""
    return {"answers": list(await asyncio.gather(*map(pay, state["wanted"])))}


def _plugin() -> LangGraphPlugin:
    options = {"execute_in": "activity", "start_to_close_timeout": timedelta(seconds=8)}
    made = StateGraph(State)
    made.add_node("model", model, metadata=options)
    made.add_node("tools", tools, metadata=options)
    made.add_edge(START, "model")
    made.add_edge("model", "tools")
    made.add_edge("tools", END)
    return LangGraphPlugin(graphs={"payer": made})


PLUGIN = _plugin()


@workflow.defn
class Flow:
    """The graph's workflow."""

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Run the graph."""
        del prompt
        state = await graph("payer").compile().ainvoke({"wanted": [], "answers": []})
        return str(state["answers"])
