"""MCPTools with servers that behave: values, effects, progress, several, HTTP, cells."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

pytest.importorskip("mcp")

from mcp import StdioServerParameters

from dagexec import Call, DagexecError, Executor, Plan, Ref, ToolDefinitionError
from dagexec.integrations.mcp import HttpServer, MCPTools, StdioServer, ToolReportedError
from dagexec.lowlevel import Progress
from dagexec.processes import Guards, ProcessGone, Restart

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.integration,
    pytest.mark.timeout(240),  # for machines that are slow
]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture
def good(mark):
    """Return the command of the server made with the official package."""
    return [sys.executable, str(HERE / "good_server.py"), mark]


async def test_values_effects_and_errors(good):
    """Typed values that flow on by reference; the annotations' effects; the server's words."""
    async with MCPTools(good) as tools:
        effects = {tool.name: str(tool.effect) for tool in tools}
        assert effects == {"add": "read", "put": "idempotent", "slow": "write", "fail": "write"}
        assert tools["add"].description == "Add two numbers."
        assert set(tools["add"].parameters["properties"]) == {"a", "b"}
        executor = Executor(tools)
        report = await executor.run(
            [
                Call("a", "add", {"a": 1, "b": 2}),
                Call("b", "add", {"a": Ref("a"), "b": 10}),
                Call("c", "put", {"items": ["x", "y"]}),
                Call("d", "add", {"a": Ref("c", ("count",)), "b": 0}),
                Call("e", "fail"),
            ]
        )
        assert report.outputs == {"a": 3, "b": 13, "c": {"count": 2}, "d": 2}
        assert isinstance(report["e"].error, ToolReportedError)
        assert "no such city" in str(report["e"].error)
    assert [str(t.effect) for t in MCPTools(good).tools] == []


@pytest.mark.parametrize("protocol", ["auto", "legacy", "2026-07-28"])
async def test_both_eras_of_the_protocol(good, protocol):
    """The handshake until 2025-11 and what came after it."""
    async with MCPTools(good, protocol=protocol) as tools:
        report = await Executor(tools).run([Call("a", "add", {"a": 1, "b": 2})])
        assert report.outputs == {"a": 3}


async def test_effects_can_be_given(good):
    """Where a server is not to be believed."""
    async with MCPTools(good, effects={"add": "write", "slow": "read"}) as tools:
        assert (tools["add"].effect, tools["slow"].effect) == ("write", "read")


async def test_progress_becomes_events(good):
    """For observers and live runs."""
    seen = []
    async with MCPTools(good) as tools:
        executor = Executor(tools, observers=[seen.append])
        async with executor.start([Call("a", "slow", {"steps": 5})]) as run:
            live = [event async for event in run if isinstance(event, Progress)]
    assert [(each.call, each.done, each.total, each.message) for each in live] == [
        ("a", n, 5, f"step {n}") for n in range(1, 6)
    ]
    assert [each for each in seen if isinstance(each, Progress)] == live


async def test_several_servers_side_by_side(good, bad):
    """One that is lost costs the others nothing."""
    async with MCPTools({"one": good, "two": good}, bad(), prefix=True, restart=Restart()) as tools:
        names = {tool.name for tool in tools}
        assert {"one__add", "two__add"} < names
        (third,) = set(tools.connections) - {"one", "two"}
        executor = Executor(tools)
        args = {"a": 1, "b": 2}
        report = await executor.run(
            [Call("a", "one__add", args), Call("b", "two__add", args), Call("c", f"{third}__die")]
        )
        assert (report["a"].value, report["b"].value, report["c"].status) == (3, 3, "failed")


async def test_two_tools_of_one_name_are_refused(good):
    """With the way out; no server is left."""
    with pytest.raises(ToolDefinitionError, match="prefix=True"):
        async with MCPTools({"one": good, "two": good}):
            pass


async def test_one_of_several_cannot_be_reached(good):
    """The error names it; the others end."""
    with pytest.raises(ProcessGone, match="'two' cannot be reached"):
        async with MCPTools({"one": good, "two": ["no-such-program-anywhere"]}):
            pass


@pytest.mark.slow
async def test_the_forms_in_which_a_server_is_given(good):
    """As a list, the package's parameters, a configuration file's entry."""
    command, *args = good
    entry = {"command": command, "args": args, "env": {"X": "1"}}
    for given in (
        good,
        StdioServerParameters(command=command, args=args),
        entry,
        StdioServer(good),
    ):
        async with MCPTools(given) as tools:
            assert len(tools) == 4
    for wrong in ("python server.py", {"cmd": []}, {"command": "x", "argv": []}, [], 5):
        with pytest.raises(DagexecError):
            MCPTools(wrong)
    with pytest.raises(DagexecError, match="needs a server"):
        MCPTools()


async def test_keys_of_this_process_do_not_reach_a_server(good, monkeypatch):
    """Only what every program needs, and what is given to it."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = StdioServer(good, {"MINE": "1"})
    assert "OPENAI_API_KEY" not in server.environment
    assert server.environment["MINE"] == "1"
    assert "MINE" not in repr(server)
    assert "secret" not in repr(HttpServer("http://x/mcp?key=secret", {"Authorization": "secret"}))


async def test_outside_of_the_block(good):
    """The error says where they work."""
    async with MCPTools(good) as tools:
        add = tools["add"]
    report = await Executor([add]).run([Call("a", "add", {"a": 1, "b": 2})])
    assert "inside `async with MCPTools(...)`" in str(report["a"].error)


async def test_in_another_event_loop(good):
    """The error says so; it would hang."""
    async with MCPTools(good) as tools:
        executor = Executor(tools)

        def elsewhere():
            return executor.run_sync([Call("a", "add", {"a": 1, "b": 2})])

        report = await anyio.to_thread.run_sync(elsewhere)
        assert "another event loop" in str(report["a"].error)


def test_cells_of_a_notebook(good):
    """Opened, used and closed in tasks of their own, one after the other, on one loop."""
    loop = asyncio.new_event_loop()

    def cell(coroutine):
        return loop.run_until_complete(coroutine)

    async def use(executor):
        return await executor.run([Call("a", "add", {"a": 1, "b": 2})])

    try:
        tools = MCPTools(good)
        cell(tools.open())
        executor = Executor(tools)
        assert cell(use(executor)).outputs == {"a": 3}
        assert cell(use(executor)).outputs == {"a": 3}
        cell(tools.aclose())
        other = MCPTools(good)
        cell(other.__aenter__())
        cell(use(Executor(other)))
        cell(other.__aexit__(None, None, None))
    finally:
        loop.close()


def test_a_loop_that_ends_first_takes_them_along(bad):
    """Nobody closed them; the fixture `mark` looks for what is left."""

    async def main():
        tools = MCPTools(bad("stubborn"), grace=1)
        await tools.open()
        return time.perf_counter()

    for backend in ("asyncio", "trio"):
        opened = anyio.run(main, backend=backend)
        assert time.perf_counter() - opened < 60


# ------------------------------------------------------------------------------------------- HTTP


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def listening(command, port):
    """Run a server and wait until it listens."""
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as server:
        try:
            for _ in range(1800):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert server.poll() is None
                time.sleep(0.05)
            yield server
        finally:
            server.kill()


async def test_streamable_http(good):
    """The same as over pipes; a server that was lost fails the call, and is found again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    restart = Restart(times=1000, within=60, delay=0.1, longest=0.2)
    guards = Guards(request=30)
    with listening([*good, str(port)], port):
        tools = MCPTools(url, guards=guards, restart=restart, connect=60)
        await tools.open()
        executor = Executor(tools)
        report = await executor.run([Call("a", "add", {"a": 1, "b": 2}), Call("b", "fail")])
        assert report.outputs == {"a": 3}
        assert "no such city" in str(report["b"].error)
        with anyio.move_on_after(0.3):
            await executor.run([Call("a", "slow", {"steps": 100_000})])
        assert (await executor.run([Call("a", "add", {"a": 1, "b": 1})])).outputs == {"a": 2}
    try:
        report = await executor.run([Call("a", "add", {"a": 1, "b": 2})])
        assert report["a"].status == "failed"
        with listening([*good, str(port)], port), anyio.fail_after(100):
            while not (await executor.run([Call("a", "add", {"a": 1, "b": 2})])).ok:
                await anyio.sleep(0.1)
    finally:
        await tools.aclose()


async def test_nobody_listens():
    """Within the time for connecting."""
    with pytest.raises(ProcessGone, match="cannot be reached"):
        async with MCPTools(f"http://127.0.0.1:{free_port()}/mcp", connect=5):
            pass


# ------------------------------------------------------------------------------------ dagexec serve

TOOLS = """
import time
from dagexec import tool

@tool(effect="read")
def price(title: str) -> float:
    "Look up a price."
    print("this goes to stderr")
    return {"Dune": 9.5, "Emma": 7.25}[title]

@tool(effect="pure")
async def shout(text: str) -> str:
    "Write in capitals."
    return text.upper()

@tool(effect="read", timeout=0.2)
def slow() -> None:
    "Take long."
    time.sleep(2)
"""


@pytest.fixture
def serve(tmp_path, mark):
    """Return the command that serves tools, and its environment."""
    folder = tmp_path / mark
    folder.mkdir()
    (folder / "some_tools.py").write_text(TOOLS)
    command = [sys.executable, "-m", "dagexec", "serve", "--tools", str(folder / "some_tools.py")]
    return StdioServer(command, {"PYTHONPATH": str(ROOT)}, str(ROOT))


CALLS = [
    {"id": "d", "tool": "price", "args": {"title": "Dune"}},
    {"id": "x", "tool": "price", "args": {"title": "Ulysses"}},
    {"id": "t", "tool": "shout", "args": {"text": {"$template": "dune: ${d}"}}},
    {"id": "u", "tool": "shout", "args": {"text": {"$template": "${x}"}}},
    {"id": "s", "tool": "slow"},
]


async def test_serve_takes_a_plan(serve):
    """One tool; the graph runs there, one answer for all calls, progress for each."""
    seen = []
    async with MCPTools(serve, connect=90) as tools:
        (tool,) = tools
        assert tool.name == "run_plan"
        assert "price" in tool.description
        executor = Executor(tools, observers=[seen.append])
        # To this side a plan is an argument like any other, not references of its own.
        report = await executor.run([Call("p", "run_plan", {"calls": _literal(CALLS)})])
        results = report["p"].value["results"]
        assert results["d"] == {"status": "done", "value": 9.5}
        assert results["t"]["value"] == "DUNE: 9.5"
        assert results["x"] == {"status": "failed", "error": "KeyError"}
        assert results["u"] == {"status": "skipped", "because": "x"}
        assert results["s"]["status"] == "timed_out"
        assert len([each for each in seen if isinstance(each, Progress)]) == 5
        wrong = [{"id": "a", "tool": "price", "args": {"title": {"$ref": "nobody"}}}]
        report = await executor.run([Call("p", "run_plan", {"calls": _literal(wrong)})])
        assert "nobody" in str(report["p"].error)
        wrong = [{"id": "a", "tool": "shout", "args": {"txt": "x"}}]
        report = await executor.run(Plan([Call("p", "run_plan", {"calls": wrong})]))
        assert "txt" in str(report["p"].error)


def _literal(calls):
    """Hide references from this side."""
    return {"$literal": calls}


async def test_serve_by_http(serve):
    """On the loopback address."""
    port = free_port()
    with listening([*serve.command, "--http", str(port)], port):
        async with MCPTools(f"http://127.0.0.1:{port}/mcp", connect=60) as tools:
            report = await Executor(tools).run(
                [
                    Call(
                        "p",
                        "run_plan",
                        {"calls": [{"id": "d", "tool": "shout", "args": {"text": "a"}}]},
                    )
                ]
            )
            assert report["p"].value["results"] == {"d": {"status": "done", "value": "A"}}
