"""What has still to be read or awaited, from tools that run elsewhere: processes, frameworks."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from pathlib import Path

import anyio
import pytest

from dagexec import Call, Executor, Ref, Tool, tool
from dagexec._tools import settle

pytestmark = [pytest.mark.anyio, pytest.mark.real_time, pytest.mark.timeout(240)]


def _tools():
    name = "tools_for_settling"
    if name not in sys.modules:
        path = Path(__file__).with_name("tools_for_settling.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


T = _tools()


@tool(effect="read")
async def read(x: object) -> object:
    return x


async def test_of_a_tool_in_a_process():
    """It is read there: what comes over is a value, for each dependant."""
    calls = []
    for name in T.MAKES:
        calls.append(Call(name, "there", {"kind": name}))
        calls += [Call(f"{name} {n}", "read", {"x": Ref(name)}) for n in (1, 2)]
    async with Executor([T.there, read], concurrency=2) as executor:
        report = await executor.run(calls)
    wanted = {}
    for name, (_, value) in T.MAKES.items():
        wanted |= dict.fromkeys([name, f"{name} 1", f"{name} 2"], value)
    assert report.outputs == wanted, report.exceptions


async def test_an_endless_one_in_a_process_ends_with_its_call(tmp_path):
    """The process is ended; nothing of it is left, and it never counts as done."""
    calls = [
        Call(name, "endless_there", {"kind": name, "pid": str(tmp_path / name)})
        for name in T.ENDLESS
    ]
    async with Executor([T.endless_there]) as executor:
        report = await executor.run(calls)
        assert {name: each.scope for name, each in report.items()} == dict.fromkeys(
            T.ENDLESS, "call"
        )
        if sys.platform == "linux":
            pids = [int((tmp_path / name).read_text()) for name in T.ENDLESS]
            assert not [pid for pid in pids if Path(f"/proc/{pid}/cmdline").is_file()]


async def test_it_is_read_for_its_call_also_in_a_process():
    """It knows its call, and its error is the call's."""
    async with Executor([T.named_there]) as executor:
        report = await executor.run([Call("c", "named_there")])
    assert str(report["c"].error) == "half way of c"


# ------------------------------------------------------------------- frameworks that run tools


def as_tool(function: object, **options: object) -> Tool[..., object]:
    return tool(effect="read", name="given", **options)(function)


@pytest.mark.parametrize("kind", T.MAKES)
@pytest.mark.parametrize("where", ["thread", "loop"])
async def test_of_a_tool_that_a_framework_runs(kind, where):
    """As in a run; what blocks is read in the tool's thread."""
    make, value = T.MAKES[kind]
    threads = []

    def blocking():
        found = make()
        if kind == "generator":
            found = (threads.append(threading.get_ident()) or each for each in found)
        return found

    async def waiting():
        return make()

    given = as_tool(blocking if where == "thread" else waiting)
    assert await settle.run_tool(given, {}) == value
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("kind", T.ENDLESS)
@pytest.mark.parametrize("where", ["thread", "loop"])
async def test_an_endless_one_of_a_framework(kind, where, monkeypatch):
    """It ends with the call that the framework was called for, and leaves no thread that reads."""
    if (where, kind) == ("loop", "blocking generator"):
        pytest.skip("it blocks the loop")
    monkeypatch.setattr(settle, "MOST_ITEMS", 1000)
    ended = []

    def watched():
        made = T.ENDLESS[kind]()
        if not hasattr(made, "__next__"):
            ended.append(1)
            return made
        return closing(made)

    def closing(made):
        try:
            yield from made
        finally:
            ended.append(1)

    async def waiting():
        return watched()

    given = as_tool(watched if where == "thread" else waiting)

    @tool(effect="read", timeout=0.3)
    async def framework() -> object:
        return await settle.run_tool(given, {})

    with anyio.fail_after(60):
        report = await Executor([framework]).run([Call("a", "framework")])
        assert report["a"].scope == "call"
        while not ended:
            await anyio.sleep(0.01)


def test_of_tools_of_the_agents_sdk():
    """Which had handed the object itself to the model."""
    pytest.importorskip("agents.tool_context", reason="needs the extra openai-agents")
    from dagexec.integrations.openai_agents._tools import to_function_tool

    @tool(effect="read")
    def given() -> object:
        return (each for each in "ab")

    made = to_function_tool(given)
    assert asyncio.run(made.on_invoke_tool(None, "{}")) == ["a", "b"]
