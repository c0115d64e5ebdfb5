"""Tools of a real MCP server, over stdio, in the graph of a turn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp.server.mcpserver", reason="needs the extra mcp")
pytest.importorskip("fastmcp.client", reason="needs what MCP toolsets of Pydantic AI stand on")

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ToolReturnPart

from dagexec.integrations.pydantic_ai import Dag

SERVER = Path(__file__).parent.parent / "mcp" / "good_server.py"

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


async def test_a_servers_tools(script):
    """Values, also by a path, a failing call, a limit, the agent's own tool, the turn after."""
    turn = [
        ("add", {"a": 1, "b": 2}),
        ("add", {"a": {"$ref": "1"}, "b": 1}),
        ("put", {"items": [{"$template": "${2}"}, "b"]}),
        ("double", {"number": {"$ref": "3.count"}}),
        ("fail",),
        ("add", {"a": {"$ref": "5"}, "b": 1}),
        ("slow", {"steps": 100_000}),
    ]
    model = script(turn, [("add", {"a": {"$ref": "2"}, "b": {"$ref": "4"}})])
    toolset = MCPToolset(StdioTransport(sys.executable, [str(SERVER), "x"]), init_timeout=60)
    dag = Dag(options={"slow": {"timeout": 0.5}})
    agent = Agent(model, toolsets=[toolset], capabilities=[dag])

    @agent.tool_plain
    async def double(number: int) -> int:
        return 2 * number

    async with agent:
        result = await agent.run("go")
    found = {
        part.tool_call_id: part
        for message in result.all_messages()
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    }
    assert [found[f"id{n}"].content for n in (1, 2, 4, 8)] == [3, 4, 4, 8]
    assert "no such city" in str(found["id5"].content)
    assert "call 5 (fail) gave no result" in found["id6"].content
    assert "Timed out" in found["id7"].content
