"""Tools of a real MCP server, over stdio, in the graph of a turn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp.server.mcpserver", reason="needs mcp")

from google.adk.tools.mcp_tool import McpToolset
from google.adk.tools.mcp_tool.mcp_session_manager import StdioConnectionParams
from mcp import StdioServerParameters

from dagexec.integrations.adk import DagPlugin

SERVER = Path(__file__).parent.parent / "mcp" / "good_server.py"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


async def test_a_servers_tools(script, talk):
    """Values by a path, a failing call, a limit, the agent's own tool, the turn after."""
    turn = [
        ("add", {"a": 1, "b": 2}),
        ("add", {"a": {"$ref": "1.structuredContent.result"}, "b": 1}),
        ("put", {"items": [{"$ref": "2.content[0].text"}, "b"]}),
        ("double", {"number": {"$ref": "3.structuredContent.count"}}),
        ("fail",),
        ("add", {"a": {"$ref": "5"}, "b": 1}),
        ("slow", {"steps": 100_000}),
    ]
    after = [("add", {"a": {"$ref": "2.content[0].text"}, "b": {"$ref": "4"}})]

    async def double(number: int) -> int:
        """Double."""
        return 2 * number

    server = StdioServerParameters(command=sys.executable, args=[str(SERVER), "x"])
    toolset = McpToolset(connection_params=StdioConnectionParams(server_params=server, timeout=60))
    plugin = DagPlugin(options={"slow": {"timeout": 0.5}})
    session = talk(script(turn, after), plugin, tools=[toolset, double])
    try:
        found = [response for _, response in await session.say()]
    finally:
        await toolset.close()
    texts = [found[n]["content"][0]["text"] for n in (0, 1, 7)]
    assert texts == ["3", "4", "8"]
    assert found[3] == {"result": 4}
    assert "no such city" in str(found[4])
    assert "call 5 (fail) gave no result" in found[5]["error"]
    assert "Timed out" in found[6]["error"]


async def test_a_failure_that_a_tool_tells_of_is_no_value(script, talk):
    """A result `{"error": ...}` is the ADK's way; an empty one is a value."""
    given = []

    async def lost() -> dict:
        """Fail."""
        return {"error": "no such city"}

    async def empty() -> dict:
        """Return nothing much."""
        return {}

    async def take(value: dict) -> dict:
        """Take."""
        given.append(value)
        return {}

    refs = [("take", {"value": {"$ref": ref}}) for ref in ("1", "2")]
    model = script([("lost",), ("empty",), *refs], refs)
    found = [r for _, r in await talk(model, DagPlugin(), tools=[lost, empty, take]).say()]
    assert found[0] == {"error": "no such city"}
    assert "call 1 (lost) gave no result" in found[2]["error"]
    assert "has no result to refer to" in found[4]["error"]
    assert given == [{}, {}]
