"""Tools of a real MCP server, over stdio, in the graph of a turn."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp.server.mcpserver", reason="needs the extra mcp")

from agents import Agent, Runner
from agents.mcp import MCPServerStdio

from dagexec import lowlevel
from dagexec.integrations.openai_agents import _agent, dag_agent
from dagexec.integrations.openai_agents._runs import value_of

SERVER = Path(__file__).parent.parent / "mcp" / "good_server.py"

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

TURN = [
    ("add", {"a": 1, "b": 2}),
    ("add", {"a": {"$ref": "1"}, "b": 1}),
    ("put", {"items": [{"$template": "${2}"}, "b"]}),
    ("add", {"a": {"$ref": "3.count"}, "b": 1}),
    ("fail",),
    ("add", {"a": {"$ref": "5"}, "b": 1}),
    ("slow", {"steps": 100_000}),
]


def served():
    """Return a server that has time to answer on a busy machine."""
    command = {"command": sys.executable, "args": [str(SERVER), "x"]}
    return MCPServerStdio(command, client_session_timeout_seconds=60)


def outputs(result):
    """Return the texts that went back to the model, by the calls' ids."""
    return {
        item["call_id"]: str(value_of(item["output"]))
        for item in result.to_input_list()
        if item.get("type") == "function_call_output"
    }


async def test_a_servers_tools(script):
    """Values, also by a path into their JSON, a failing call, a limit, and the turn after."""
    model = script(TURN, [("add", {"a": {"$ref": "2"}, "b": {"$ref": "3.count"}})])
    async with served() as server:
        agent = Agent(name="A", model=model, mcp_servers=[server])
        result = await Runner.run(dag_agent(agent, options={"slow": {"timeout": 0.5}}), "go")
        assert agent.mcp_servers == [server]
    found = outputs(result)
    assert [found[f"id{n}"] for n in (1, 2, 4, 8)] == ["3", "4", "3", "6"]
    assert "no such city" in found["id5"]
    assert "call 5 (fail) gave no result" in found["id6"]
    assert "Timed out" in found["id7"]


async def test_a_failure_of_a_server_is_no_value(script):
    """Not in the turns after either; the SDK by itself makes a text of it."""
    model = script([("fail",)], [("add", {"a": {"$ref": "1"}, "b": 1})])
    async with served() as server:
        agent = dag_agent(Agent(name="A", model=model, mcp_servers=[server]))
        assert copy.copy(agent.mcp_servers[0]).name == server.name
        found = outputs(await Runner.run(agent, "go"))
    assert "no such city" in found["id1"]
    assert "has no result to refer to" in found["id2"]


async def test_schemas_of_a_server_are_widened_once(script, monkeypatch):
    """The SDK makes its tools anew for each request; a clone has them too."""
    widened = []

    def counting(schema):
        widened.append(schema)
        return lowlevel.widened(schema)

    monkeypatch.setattr(_agent, "widened", counting)
    model = script([("add", {"a": 1, "b": 2})], [("add", {"a": {"$ref": "1"}, "b": 2})], "end")
    async with served() as server:
        adapted = dag_agent(Agent(name="A", model=model)).clone(mcp_servers=[server])
        found = outputs(await Runner.run(adapted, "go"))
    assert [found["id1"], found["id2"]] == ["3", "5"]
    assert len(model.seen) == 3
    assert len(widened) == len({str(schema) for schema in widened}) == len(model.seen[0][2])
