"""What has an answer is not run again: a person's refusal, a graph's own answer, part of both."""

from __future__ import annotations

import pytest

pytest.importorskip("langgraph.prebuilt", reason="needs the extra langgraph")

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send

from dagexec.integrations.langgraph import DagToolNode


@pytest.fixture
def ran():
    """Return the list of what has run."""
    return []


@pytest.fixture
def node(way, ran):
    """Return a node whose tools note that they ran."""

    @way.tool
    def look(what: str) -> str:
        ran.append(("look", what))
        return f"saw {what}"

    @way.tool
    def delete(what: str) -> str:
        ran.append(("delete", what))
        return f"deleted {what}"

    return DagToolNode([look, delete])


def no(id_, text="a person said no", status="error"):
    return ToolMessage(text, tool_call_id=id_, status=status)


def ids(result):
    return [each.tool_call_id for each in result["messages"] if isinstance(each, ToolMessage)]


def test_a_refused_call_does_not_run(way, graph, node, message, ran):
    """Only the call without an answer runs, and each id is answered once."""
    calls = message(("delete", {"what": "prod"}), ("look", {"what": "x"}))
    found = way.run(graph(node), {"messages": [calls, no("c1")]})
    assert ran == [("look", "x")]
    assert ids(found) == ["c1", "c2"]


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_nothing_is_left_to_run(way, node, message, ran, kind):
    """A message whose calls all have answers gives none."""
    messages = [message(("delete", {"what": "prod"})), no("c1")]
    found = way.run(node, messages if kind == "list" else {"messages": messages})
    assert (found if kind == "list" else found["messages"]) == []
    assert ran == []


def test_an_id_of_an_earlier_turn_is_no_answer(way, graph, node, message, ran):
    """Some models count their ids anew in each turn."""
    first = [message(("look", {"what": "a"})), ToolMessage("saw a", tool_call_id="c1")]
    found = way.run(graph(node), {"messages": [*first, message(("look", {"what": "b"}))]})
    assert ran == [("look", "b")]
    assert ids(found) == ["c1", "c1"]


def test_a_call_that_is_sent_by_itself_and_is_answered(way, node, message, ran):
    """`Send` brings calls without their message; the state has it."""
    calls = message(("delete", {"what": "prod"}), ("look", {"what": "x"}))
    builder = StateGraph(MessagesState)
    builder.add_node("tools", node)
    builder.add_conditional_edges(
        START, lambda state: [Send("tools", [call]) for call in calls.tool_calls]
    )
    builder.add_edge("tools", END)
    found = way.run(builder.compile(), {"messages": [HumanMessage("Go."), calls, no("c1")]})
    assert ran == [("look", "x")]
    assert sorted(ids(found)) == ["c1", "c2"]


def test_references_lead_to_answers_that_are_there(way, graph, node, message, ran):
    """A call that a graph has answered itself can be referred to; a refused one cannot."""
    calls = message(
        ("look", {"what": "a"}),
        ("delete", {"what": "b"}),
        ("look", {"what": {"$ref": "1"}}),
        ("look", {"what": {"$ref": "2"}}),
    )
    given = [calls, no("c1", "cached", "success"), no("c2")]
    found = way.run(graph(node), {"messages": given})
    assert ran == [("look", "cached")]
    assert "has no result to refer to" in found["messages"][-1].content
    assert ids(found) == ["c1", "c2", "c3", "c4"]


def test_unreadable_calls_are_answered_once(way, node):
    """Also what LangChain could not read has one answer."""
    bad = {"name": "look", "args": "{", "id": "b1", "error": "cut", "type": "invalid_tool_call"}
    other = {"name": "look", "args": {"what": "x"}, "id": "c1"}
    message = AIMessage("", tool_calls=[other], invalid_tool_calls=[bad])
    found = way.run(node, {"messages": [message, no("b1")]})
    assert ids(found) == ["c1"]
