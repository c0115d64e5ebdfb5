"""Commands for the graph above: every update and every answer arrives there."""

from __future__ import annotations

import operator
from typing import Annotated

import pytest

pytest.importorskip("langgraph.prebuilt", reason="needs the extra langgraph")

from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, StructuredTool
from langgraph.errors import InvalidUpdateError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send

from dagexec.integrations.langgraph import DagToolNode


class State(MessagesState):
    """The state of the graph above."""

    seen: Annotated[list, operator.add]
    active: str


def tool(function):
    return StructuredTool.from_function(function, description=function.__name__)


def up(tool_call_id, text, goto=(), **update):
    answer = ToolMessage(text, tool_call_id=tool_call_id)
    return Command(graph=Command.PARENT, goto=goto, update={"messages": [answer], **update})


def hand(who: str, id_: Annotated[str, InjectedToolCallId]):
    return up(id_, "handed", [Send("worker", {"who": who})], seen=[who])


def note(who: str, id_: Annotated[str, InjectedToolCallId]):
    return up(id_, "noted", seen=[who])


def go(who: str, id_: Annotated[str, InjectedToolCallId]):
    return up(id_, "gone", who, active=who)


def local(who: str, id_: Annotated[str, InjectedToolCallId]):
    return Command(
        goto="nowhere",
        update={"messages": [ToolMessage("local", tool_call_id=id_)], "seen": [who]},
    )


def look(who: str) -> str:
    return f"saw {who}"


def nested(who: str) -> str:
    inner = StateGraph(MessagesState)
    inner.add_node("only", lambda _: Command(graph=Command.PARENT, update={"seen": [who]}))
    inner.add_edge(START, "only")
    inner.compile().invoke({"messages": []})
    return "unreachable"


TOOLS = [tool(each) for each in (hand, note, go, local, look, nested)]


def run(method, message, *names, who=("w0", "w1", "w2")):
    """Run the calls in a graph inside another; return the state of the outer one."""
    inner = StateGraph(State)
    inner.add_node("tools", DagToolNode(TOOLS))
    inner.add_node("nowhere", lambda _: {"seen": ["nowhere"]})
    inner.add_edge(START, "tools")
    builder = StateGraph(State)
    builder.add_node("agent", inner.compile())
    builder.add_node("worker", lambda state: {"seen": ["worker " + state["who"]]})
    for each in ("w0", "w1"):
        builder.add_node(each, lambda _: {})
    builder.add_edge(START, "agent")
    calls = message(*((name, {"who": each}) for name, each in zip(names, who, strict=False)))
    found = method.run(builder.compile(), {"messages": [calls]})
    answers = [each.tool_call_id for each in found["messages"] if isinstance(each, ToolMessage)]
    return found, answers


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (["note"], ["w0"]),
        (["note", "note"], ["w0", "w1"]),
        (["note", "look"], ["w0"]),
        (["look", "note", "look"], ["w1"]),
        (["note", "local"], ["w0", "w1"]),
        (["hand", "hand"], ["w0", "w1", "worker w0", "worker w1"]),
        (["hand", "look", "note"], ["w0", "w2", "worker w0"]),
    ],
)
def test_everything_arrives_above(method, message, names, seen):
    """One call's command does not cost another's answer."""
    found, answers = run(method, message, *names)
    assert sorted(found["seen"]) == sorted(seen)
    assert sorted(answers) == [f"c{n}" for n in range(1, len(names) + 1)]


def test_handing_over_to_one_agent_twice(method, message):
    """Two calls may set a key that holds one value, if they agree on it."""
    found, answers = run(method, message, "go", "go", who=("w0", "w0"))
    assert found["active"] == "w0"
    assert answers == ["c1", "c2"]


def test_handing_over_to_two_agents_is_an_error(method, message):
    """A key that holds one value cannot hold two, and nothing is dropped in silence."""
    with pytest.raises(InvalidUpdateError):
        run(method, message, "go", "go")


def test_a_goto_that_cannot_be_followed_is_logged(method, message, caplog):
    """The graph ends, so that nothing in it can be gone to."""
    found, _ = run(method, message, "note", "local")
    assert "nowhere" not in found["seen"]
    assert "Command(goto='nowhere') is not followed" in caplog.text


def test_a_command_that_left_a_nested_graph(method, message):
    """It is for this graph; the other call's answer stands beside it."""
    found, answers = run(method, message, "nested", "look")
    assert found["seen"] == ["w0"]
    assert answers == ["c2"]


def test_a_command_of_a_nested_graph_beside_one_for_above(method, message):
    """Both updates go up."""
    found, answers = run(method, message, "nested", "note")
    assert sorted(found["seen"]) == ["w0", "w1"]
    assert answers == ["c2"]


def test_the_command_that_the_stock_class_merges_keeps_its_updates(method, message):
    """Outside of a graph what the node gives has the form that it has with the stock class."""
    calls = message(("hand", {"who": "a"}), ("look", {"who": "b"}), ("hand", {"who": "c"}))
    first, command = method.run(DagToolNode(TOOLS), {"messages": [calls]})
    assert [each.tool_call_id for each in first["messages"]] == ["c2"]
    assert [each.arg["who"] for each in command.goto] == ["a", "c"]
    assert [value for key, value in command._update_as_tuples() if key == "seen"] == [["a"], ["c"]]
