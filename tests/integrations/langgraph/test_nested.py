"""Runs inside the calls of a node that wait for people: interrupts of the graph, like any other."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("langgraph.prebuilt", reason="needs the extra langgraph")

from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from dagexec import Approve, Call, DagexecError, Executor, ask, current_call, tool
from dagexec.integrations.langgraph import DagToolNode
from dagexec.journal import MemoryJournal

PAY = Call("p", "pay", {"amount": 5})


class World:
    """An executor, and tools of a node that run plans with it."""

    def __init__(self, calls, kind, *, journal, named):
        self.effects = []
        self.executor = Executor(self._tools(), journal=journal)
        self.tools = [self._agent(calls, kind, named=named), self._look()]

    def _tools(self):
        @tool(approval=True)
        async def pay(amount: int) -> str:
            self.effects.append(f"paid {amount}")
            return f"paid {amount}"

        @tool
        async def note(text: str) -> str:
            self.effects.append(f"noted {text}")
            return text

        @tool
        async def survey(topic: str) -> object:
            return await ask(topic)

        return [pay, note, survey]

    def _agent(self, calls, kind, *, named):
        def run_id():
            return current_call().idempotency_key if named else None

        async def agent(task: str) -> str:
            report = await self.executor.run(calls, run_id=run_id())
            report.raise_for_failures()
            return f"{task}: {report.outputs}"

        def blocking(task: str) -> str:
            report = self.executor.run_sync(calls, run_id=run_id())
            return f"{task}: {report.outputs}"

        blocking.__name__ = "agent"
        if kind == "dagexec":
            return tool(agent)
        if kind == "waits":
            return StructuredTool.from_function(coroutine=agent, description="Work.")
        return StructuredTool.from_function(blocking, description="Work.")

    def _look(self):
        def look(what: str) -> str:
            self.effects.append(f"looked {what}")
            return f"saw {what}"

        return StructuredTool.from_function(look, description="Look.")


@pytest.fixture(params=["waits", "blocks", "dagexec"])
def kind(request):
    """Return what kind of tool the agent is."""
    return request.param


@pytest.fixture(params=["journal", "memory"])
def journal(request):
    """Return the executor's journal, or none."""
    return MemoryJournal() if request.param == "journal" else None


def answers(found):
    return {m.tool_call_id: m.content for m in found["messages"] if not isinstance(m, AIMessage)}


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize(
    ("answer", "expected", "effects"),
    [
        (True, "t: {'p': 'paid 5'}", ["paid 5"]),
        (Approve(), "t: {'p': 'paid 5'}", ["paid 5"]),
        ({"type": "edit", "args": {"amount": 2}}, "t: {'p': 'paid 2'}", ["paid 2"]),
        ({"type": "done", "value": "x"}, "t: {'p': 'x'}", []),
        ({"p": {"type": "approve"}}, "t: {'p': 'paid 5'}", ["paid 5"]),
    ],
)
def test_an_inner_approval_is_an_interrupt(  # noqa: PLR0917 - fixtures
    method, graph, message, thread, kind, journal, named, answer, expected, effects
):
    """The answer reaches the inner call; what was done beside it is not done again."""
    world = World([PAY], kind, journal=journal, named=named)
    made = graph(DagToolNode(world.tools), checkpointer=InMemorySaver())
    calls = message(("agent", {"task": "t"}), ("look", {"what": "x"}))
    (asked,) = method.run(made, {"messages": [calls]}, thread)["__interrupt__"]
    (wait,) = asked.value["nested"]
    assert (wait["name"], wait["tool"], wait["for"]) == ("p", "pay", "approval")
    assert wait["question"] == {"approve": "pay", "args": {"amount": 5}}
    with pytest.raises(DagexecError, match="waits to be approved"):
        method.run(made, Command(resume="perhaps"), thread)
    found = method.run(made, Command(resume=answer), thread)
    assert answers(found) == {"c1": expected, "c2": "saw x"}
    assert world.effects == ["looked x", *effects]


def test_several_inner_questions(  # noqa: PLR0917 - fixtures
    method, graph, message, thread, kind, journal
):
    """By name, in any order, and nothing is done twice."""
    calls = [
        Call("n", "note", {"text": "first"}),
        PAY,
        Call("q", "pay", {"amount": 7}),
        Call("s", "survey", {"topic": "tea?"}),
    ]
    world = World(calls, kind, journal=journal, named=False)
    made = graph(DagToolNode(world.tools), checkpointer=InMemorySaver())
    given = {"messages": [message(("agent", {"task": "t"}))]}
    found = method.run(made, given, thread)
    for answer in ({"q": True}, {"s": {"sugar": 2}, "p": {"type": "approve"}}):
        (asked,) = found["__interrupt__"]
        assert set(answer) < {wait["name"] for wait in asked.value["nested"]} | {"x"}
        found = method.run(made, Command(resume={asked.id: answer}), thread)
    expected = {"n": "first", "p": "paid 5", "q": "paid 7", "s": {"sugar": 2}}
    assert answers(found) == {"c1": f"t: {expected}"}
    assert sorted(world.effects) == ["noted first", "paid 5", "paid 7"]


def test_two_calls_whose_runs_wait(method, graph, message, thread, kind):
    """Two interrupts; each answer is for its own."""
    world = World([PAY], kind, journal=MemoryJournal(), named=False)
    made = graph(DagToolNode(world.tools), checkpointer=InMemorySaver())
    calls = message(("agent", {"task": "a"}), ("agent", {"task": "b"}))
    first, second = method.run(made, {"messages": [calls]}, thread)["__interrupt__"]
    method.run(made, Command(resume={second.id: {"type": "done", "value": 2}}), thread)
    found = method.run(made, Command(resume={first.id: {"type": "done", "value": 1}}), thread)
    assert answers(found) == {"c1": "a: {'p': 1}", "c2": "b: {'p': 2}"}


def test_a_refusal_inside(method, graph, message, thread, kind):
    """The inner call fails, and the tool says what that means."""
    world = World([PAY], kind, journal=MemoryJournal(), named=False)
    node = DagToolNode(world.tools, handle_tool_errors=True)
    made = graph(node, checkpointer=InMemorySaver())
    given = {"messages": [message(("agent", {"task": "t"}))]}
    method.run(made, given, thread)
    found = method.run(made, Command(resume={"type": "deny", "reason": "no"}), thread)
    assert world.effects == []
    assert answers(found)["c1"] == "t: {}" if kind == "blocks" else "Denied" in answers(found)["c1"]


def test_without_a_graph_it_is_an_error(method, message):
    """There is nobody to bring an answer."""
    world = World([PAY], "waits", journal=None, named=False)
    with pytest.raises(DagexecError, match="only a graph with a checkpointer"):
        method.run(DagToolNode(world.tools), {"messages": [message(("agent", {"task": "t"}))]})


def test_a_graph_inside_a_call(graph, message, thread):
    """Its interrupts are LangGraph's to bring to people: the call that runs it does not wait."""
    world = World([PAY], "waits", journal=None, named=False)
    options = {"look": {"approval": True}}
    made = graph(DagToolNode(world.tools, options=options), checkpointer=InMemorySaver())

    @tool
    async def outer(step: int) -> str:
        given = {"messages": [message(("look", {"what": "x"}))]} if step == 1 else True
        given = given if step == 1 else Command(resume=given)
        found = await made.ainvoke(given, thread)
        return str(found.get("__interrupt__") or answers(found))

    executor = Executor([outer], journal=MemoryJournal())

    async def run():
        first = await executor.run([Call("1", "outer", {"step": 1})])
        second = await executor.run([Call("1", "outer", {"step": 2})])
        return first["1"], second["1"]

    first, second = asyncio.run(run())
    assert first.status == second.status == "done"
    assert "Interrupt(" in first.value
    assert second.value == "{'c1': 'saw x'}"
