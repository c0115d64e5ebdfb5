"""A LangGraph agent that writes programs: `run_program` is a tool like any other."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage

from dagexec import Executor, tool
from dagexec.integrations.langgraph import DagToolNode, from_langchain
from dagexec.programs import program_tool

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def anyio_backend() -> str:
    """LangGraph runs on asyncio only."""
    return "asyncio"


def asked(source: str) -> dict[str, Any]:
    call = {"name": "run_program", "args": {"source": source}, "id": "c1", "type": "tool_call"}
    return {"messages": [AIMessage(content="", tool_calls=[call])]}


async def test_a_node_runs_programs() -> None:
    orders: list[str] = []

    @tool(effect="read")
    async def price(title: str) -> int:
        """Return a price."""
        return len(title)

    @tool
    async def order(title: str) -> str:
        """Order a book."""
        orders.append(title)
        return "ordered"

    tools = [price, order]
    node = DagToolNode([*tools, program_tool(Executor(tools))])
    source = (
        "cheap = min(['Emma', 'It'], key=lambda t: price(t))\norder(cheap)\nprint('done')\ncheap"
    )
    answer = (await node.ainvoke(asked(source)))["messages"][0]
    assert answer.content == 'printed:\ndone\n\nvalue:\n"It"'
    assert orders == ["It"]
    assert "def price(title: str) -> int" in node.tools_by_name["run_program"].description


async def test_langchain_tools_are_functions_of_programs() -> None:
    from langchain_core.tools import tool as lc_tool

    @lc_tool
    async def double(n: int) -> int:
        """Double a number."""
        return 2 * n

    node = DagToolNode([double, program_tool(Executor([from_langchain(double)]))])
    answer = (await node.ainvoke(asked("double(double(3))")))["messages"][0]
    assert "12" in answer.content
