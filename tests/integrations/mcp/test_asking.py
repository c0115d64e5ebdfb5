"""Servers that ask a person, and servers that make tasks of calls."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

pytest.importorskip("mcp")

from dagexec import Call, Deny, Executor, Timeouts
from dagexec.integrations.mcp import MCPTools
from dagexec.journal import MemoryJournal
from dagexec.processes import Guards
from tests.integrations.mcp.test_tools import free_port, listening

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.integration,
    pytest.mark.timeout(240),  # for machines that are slow
]

HERE = Path(__file__).parent


@pytest.fixture
def log(tmp_path):
    """Return the file in which a server says what it does."""
    file = tmp_path / "log"
    file.touch()
    return file


@pytest.fixture
def asking(mark, log):
    """Return the command of the server that asks."""
    return [sys.executable, str(HERE / "asking_server.py"), mark, str(log)]


@pytest.fixture
def tasks(mark, log):
    """Return the command of the server of 2025-11-25 whose calls are tasks."""
    return [sys.executable, str(HERE / "task_server.py"), mark, str(log)]


ONE = [Call("a", "remove", {"path": "x"})]
FORM = {"type": "object", "properties": {"sure": {"title": "Sure", "type": "boolean"}}}


@pytest.mark.parametrize("protocol", ["legacy", "2026-07-28"])
async def test_a_person_answers_what_a_server_asks(asking, log, protocol):
    """The call waits as for `ask()`; nothing is removed before, and once afterwards."""
    async with MCPTools({"files": asking}, protocol=protocol) as tools:
        executor = Executor(tools, journal=MemoryJournal())
        report = await executor.run(ONE, run_id="r")
        assert report["a"].status == "pending"
        question = report["a"].question
        assert (question["server"], question["tool"]) == ("files", "remove")
        assert question["message"] == "Remove x?"
        assert "sure" in question["schema"]["properties"]
        assert "accept" not in log.read_text()
        report = await executor.resume("r", answers={"a": {"sure": True}})
        assert report.outputs == {"a": "accept True"}
        assert log.read_text().splitlines().count("accept True x") == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (True, "accept True"),
        (False, "accept False"),
        (None, "decline False"),
        ({"action": "cancel"}, "cancel False"),
        ({"action": "accept", "content": {"sure": True}}, "accept True"),
    ],
    ids=str,
)
async def test_the_forms_of_an_answer(asking, answer, text):
    """A form's only field, nothing, or MCP's own."""
    async with MCPTools(asking) as tools:
        executor = Executor(tools, journal=MemoryJournal())
        await executor.run(ONE, run_id="r")
        assert (await executor.resume("r", answers={"a": answer})).outputs == {"a": text}


async def test_an_answer_that_no_form_can_hold_and_a_refusal(asking, log):
    """The first fails the call with the reason, the second as everywhere."""
    async with MCPTools(asking) as tools:
        executor = Executor(tools, journal=MemoryJournal())
        await executor.run(ONE, run_id="r")
        report = await executor.resume("r", answers={"a": {"sure": {"very": 1}}})
        assert "not what MCP can carry" in str(report["a"].error)
        await executor.run(ONE, run_id="s")
        report = await executor.resume("s", answers={"a": Deny("too dangerous")})
        assert "too dangerous" in str(report["a"].error)
        assert "accept" not in log.read_text()


async def test_several_calls_ask_over_pipes(asking, log):
    """Nothing says whose question it is: each call gets its own, and each its own answer."""
    calls = [Call(name, "remove", {"path": name}) for name in "abc"]
    async with MCPTools(asking) as tools:
        executor = Executor(tools, journal=MemoryJournal())
        report = await executor.run([*calls, Call("d", "sleepy", {"seconds": 0.2})], run_id="r")
        asked = {name: report[name].question["message"] for name in "abc"}
        assert asked == {"a": "Remove a?", "b": "Remove b?", "c": "Remove c?"}
        assert report["d"].value == "slept"
        answers = {"a": True, "b": False, "c": None}
        report = await executor.resume("r", answers=answers)
        assert report.outputs["a"] == "accept True"
        assert report.outputs["b"] == "accept False"
        assert report.outputs["c"] == "decline False"
    lines = log.read_text().splitlines()
    assert [line for line in lines if "accept" in line or "decline" in line].count(
        "accept True a"
    ) == 1
    assert lines.count("slept") == 1


async def test_over_http_a_question_comes_with_its_call(asking, log):
    """Another call that goes on meanwhile is not disturbed."""
    port = free_port()
    with listening([*asking, str(port)], port):
        async with MCPTools(f"http://127.0.0.1:{port}/mcp", connect=60) as tools:
            executor = Executor(tools, journal=MemoryJournal())
            calls = [Call(name, "remove", {"path": name}) for name in "ab"]
            calls.append(Call("d", "sleepy", {"seconds": 1}))
            report = await executor.run(calls, run_id="r")
            assert report["a"].question["message"] == "Remove a?"
            assert report["b"].question["message"] == "Remove b?"
            assert report["d"].value == "slept"
            report = await executor.resume("r", answers={"a": True, "b": None})
            assert (report["a"].value, report["b"].value) == ("accept True", "decline False")
    assert log.read_text().splitlines().count("slept") == 1


async def test_a_page_to_be_visited_first(asking):
    """The error by which a server of 2025-11-25 says so is a question too."""
    async with MCPTools(asking, protocol="legacy") as tools:
        executor = Executor(tools, journal=MemoryJournal())
        report = await executor.run([Call("a", "visit")], run_id="r")
        assert report["a"].question["url"] == "https://x.test/a"
        report = await executor.resume("r", answers={"a": True})
        assert report.outputs == {"a": "in"}


async def test_nobody_is_there_to_ask(asking):
    """The server hears so and says it; nothing waits."""
    async with MCPTools(asking, elicit=False, protocol="legacy") as tools:
        report = await Executor(tools).run(ONE)
        assert report["a"].status == "failed"


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # as LangGraph is
async def test_a_tool_node_asks_by_an_interrupt(anyio_backend, asking, log):
    """DagToolNode: the graph stops with the question and goes on with the answer."""
    pytest.importorskip("langgraph")
    from langchain_core.messages import AIMessage
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.types import Command

    from dagexec.integrations.langgraph import DagToolNode

    async with MCPTools(asking) as tools:
        graph = StateGraph(MessagesState)
        graph.add_node("tools", DagToolNode(list(tools)))
        graph.add_edge(START, "tools")
        made = graph.compile(checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "1"}}
        call = {"name": "remove", "args": {"path": "x"}, "id": "1", "type": "tool_call"}
        message = AIMessage("", tool_calls=[call])
        result = await made.ainvoke({"messages": [message]}, config)
        (asked,) = result["__interrupt__"]
        assert asked.value["message"] == "Remove x?"
        result = await made.ainvoke(Command(resume={"sure": True}), config)
        assert result["messages"][-1].content == "accept True"
    assert log.read_text().splitlines().count("accept True x") == 1


# ------------------------------------------------------------------------------------------ tasks


async def test_tasks_of_2025_11_25(tasks, log):
    """Polled to their end beyond `guards.request`; asked about in between; failed by the server."""
    async with MCPTools(tasks, guards=Guards(request=5)) as tools:
        executor = Executor(tools, journal=MemoryJournal())
        calls = [Call(how, "long", {"how": how}) for how in ("done", "fail", "ask")]
        report = await executor.run(calls, run_id="r")
        assert report["done"].value == "done"
        assert str(report["fail"].error) == "fail"
        assert report["ask"].question["message"] == "How many?"
        report = await executor.resume("r", answers={"ask": 3})
        assert report["ask"].value == '{"n": 3}'
    assert log.read_text().splitlines() == ["cancelled ask"]


async def test_a_task_ends_with_the_deadline_of_its_call(tasks, log):
    """Not with `guards.request`; the server is told to cancel it."""
    async with MCPTools(tasks, guards=Guards(request=0.2)) as tools:
        executor = Executor(tools, timeouts=Timeouts(call=1))
        start = anyio.current_time()
        report = await executor.run([Call("a", "long", {"how": "ever"})])
        assert report["a"].status == "timed_out"
        assert 1 <= anyio.current_time() - start < 30
        with anyio.move_on_after(10):
            while not log.read_text():
                await anyio.sleep(0.02)
    assert log.read_text() == "cancelled ever\n"


async def test_tasks_of_2026_07_28(asking, log):
    """The server decides; its question stands in the task, its result too."""
    async with MCPTools(asking, protocol="2026-07-28", guards=Guards(request=20)) as tools:
        executor = Executor(tools, journal=MemoryJournal(), timeouts=Timeouts(call=20))
        report = await executor.run([Call("a", "long", {"how": "asks"})], run_id="r")
        assert report["a"].question["message"] == "go on?"
        report = await executor.resume("r", answers={"a": True})
        assert report["a"].value == "accept {'sure': True}"
        late = Executor(tools, timeouts=Timeouts(call=1))
        report = await late.run([Call("a", "long", {"how": "ever"})])
        assert report["a"].status == "timed_out"
        with anyio.move_on_after(10):
            while "ever" not in log.read_text():
                await anyio.sleep(0.02)
    assert "cancelled task-of-ever" in log.read_text()
