"""What people are shown by a middleware, and what they are told about their answers."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain.agents", reason="needs the package langchain")

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import Command, interrupt

from dagexec import DagexecError
from dagexec.integrations.langgraph import DagToolNode, dag_agent
from planners.langchain import references


class Script(GenericFakeChatModel):
    """A model that says what is in its script."""

    def bind_tools(self, tools, **_):
        return self


@pytest.fixture
def ran():
    """Return the list of what was deleted."""
    return []


@pytest.fixture
def tools(ran):
    """Return a tool that looks and one that deletes."""

    @tool
    def look(what: str) -> dict:
        """Look."""
        return {"path": f"/etc/{what}"}

    @tool
    def delete(path: str, why: str = "") -> str:
        """Delete."""
        ran.append((path, why))
        return f"deleted {path}"

    return [look, delete]


def agent_of(tools, replies, *, settings=None, **interrupt_on):
    model = Script(messages=iter([*replies, AIMessage("Done.")]))
    middleware = [HumanInTheLoopMiddleware(interrupt_on=interrupt_on), references()]
    made = create_agent(model, tools, middleware=middleware, checkpointer=InMemorySaver())
    return dag_agent(made, **(settings or {}))


def start(method, agent, thread):
    return method.run(agent, {"messages": [HumanMessage("Go.")]}, thread)


def two_turns(message, args):
    return [message(("look", {"what": "x"})), message(("delete", args, "c2"))]


ARGS = {"path": {"$ref": "1.path"}, "why": {"$template": "because of ${1.path}"}}
SHOWN = {"path": "/etc/x", "why": "because of /etc/x"}


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        ({"type": "approve"}, [("/etc/x", "because of /etc/x")]),
        ({"type": "reject", "message": "no"}, []),
        (
            {"type": "edit", "edited_action": {"name": "delete", "args": {**SHOWN, "why": "I"}}},
            [("/etc/x", "I")],
        ),
    ],
)
def test_values_of_earlier_turns_are_shown(  # noqa: PLR0917 - fixtures
    method, message, tools, ran, thread, decision, expected
):
    """A person sees what would be done; the model's own message keeps the references."""
    agent = agent_of(tools, two_turns(message, ARGS), delete=True)
    (asked,) = start(method, agent, thread)["__interrupt__"]
    (request,) = asked.value["action_requests"]
    assert request["args"] == SHOWN
    assert "$ref" not in request["description"]
    found = method.run(agent, Command(resume={"decisions": [decision]}), thread)
    assert ran == expected
    written = [m for m in found["messages"] if isinstance(m, AIMessage)][1].tool_calls[0]["args"]
    assert written["path"] == ARGS["path"]
    answers = [m.tool_call_id for m in found["messages"] if isinstance(m, ToolMessage)]
    assert answers == ["c1", "c2"]


def test_a_predicate_sees_values(method, message, tools, ran, thread):
    """It decides whether a person is asked at all."""
    seen = []

    def is_system(request):
        seen.append(request.tool_call["args"]["path"])
        return request.tool_call["args"]["path"].startswith("/etc")

    on = {"allowed_decisions": ["approve", "reject"], "when": is_system}
    agent = agent_of(tools, two_turns(message, ARGS), delete=on)
    assert start(method, agent, thread)["__interrupt__"]
    assert set(seen) == {"/etc/x"}
    assert ran == []


def test_values_that_are_not_there_yet_are_refused(method, message, tools, ran, thread):
    """Nobody approves what cannot be seen; the error says what to use instead."""
    reply = message(("look", {"what": "x"}), ("delete", {"path": {"$ref": "1.path"}}))
    agent = agent_of(tools, [reply], delete=True)
    with pytest.raises(DagexecError, match=r"call 1 \(look\).*'approval': True.*approval="):
        start(method, agent, thread)
    assert ran == []


def test_the_way_that_the_error_names(method, message, tools, ran, thread):
    """The node asks when the values are there."""
    reply = message(("look", {"what": "x"}), ("delete", {"path": {"$ref": "1.path"}}))
    options = {"options": {"delete": {"approval": True}}}
    agent = agent_of(tools, [reply], settings=options)
    (asked,) = start(method, agent, thread)["__interrupt__"]
    assert asked.value["args"]["path"] == "/etc/x"
    method.run(agent, Command(resume=True), thread)
    assert ran == [("/etc/x", "")]


def test_calls_that_are_not_reviewed_may_refer_to_others(method, message, tools, ran, thread):
    """Only what a person has to see must be known."""
    reply = message(("look", {"what": "x"}), ("delete", {"path": {"$ref": "1.path"}}))
    start(method, agent_of(tools, [reply], look=False), thread)
    assert ran == [("/etc/x", "")]


def test_a_reference_to_nothing_is_the_models_affair(method, message, tools, ran, thread):
    """The call cannot run, and the model is told so."""
    agent = agent_of(tools, two_turns(message, {"path": {"$ref": "9"}}), delete=True)
    assert start(method, agent, thread)["__interrupt__"]
    found = method.run(agent, Command(resume={"decisions": [{"type": "approve"}]}), thread)
    assert "There is no call '9'" in found["messages"][-2].content
    assert ran == []


def test_without_references_nothing_is_replaced(method, message, tools, thread):
    """Then such a dict is a value."""
    agent = agent_of(tools, two_turns(message, ARGS), settings={"references": False}, delete=True)
    (asked,) = start(method, agent, thread)["__interrupt__"]
    assert asked.value["action_requests"][0]["args"] == ARGS


# ------------------------------------------------------------------------------- unclear answers


def test_an_answer_to_two_interrupts_names_one(method, message, tools, ran, thread):
    """The error says which there are, and what each may be answered with."""

    @tool
    def survey(topic: str) -> str:
        """Ask."""
        return interrupt({"about": topic})

    builder = StateGraph(MessagesState)
    options = {"delete": {"approval": True}}
    builder.add_node("tools", DagToolNode([*tools, survey], options=options))
    builder.set_entry_point("tools")
    graph = dag_agent(builder.compile(checkpointer=InMemorySaver()), options=options)
    calls = message(("delete", {"path": "/a"}), ("survey", {"topic": "tea"}))
    asked = method.run(graph, {"messages": [calls]}, thread)["__interrupt__"]
    for answer in ("yes", True, {"c1": True}, {"decisions": []}):
        with pytest.raises(DagexecError, match="2 interrupts wait") as caught:
            method.run(graph, Command(resume=answer), thread)
        assert isinstance(caught.value, RuntimeError)
        text = str(caught.value)
        assert all(each.id in text for each in asked)
        assert "the call of 'delete'; True, False" in text
        assert "{'about': 'tea'}" in text
    by_id = {each.id: True if "name" in each.value else "green" for each in asked}
    found = method.run(graph, Command(resume=by_id), thread)
    assert [m.content for m in found["messages"][1:]] == ["deleted /a", "green"]


def test_an_answer_that_is_none(method, message, tools, ran, thread):
    """It says what an answer to an approval may be in a graph."""
    builder = StateGraph(MessagesState)
    builder.add_node("tools", DagToolNode(tools, options={"delete": {"approval": True}}))
    builder.set_entry_point("tools")
    graph = builder.compile(checkpointer=InMemorySaver())
    method.run(graph, {"messages": [message(("delete", {"path": "/a"}))]}, thread)
    for _ in range(2):
        with pytest.raises(DagexecError, match=r"interrupt id: answer.*True, False"):
            method.run(graph, Command(resume="yes"), thread)
    method.run(graph, Command(resume=True), thread)
    assert ran == [("/a", "")]
