"""An answer that does not say which of several interrupts it is for: the error shows how."""

from __future__ import annotations

import langgraph.errors
import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool as lc_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

import dagexec
from dagexec import Approve, DagexecError
from dagexec.integrations.langgraph import DagToolNode


@dagexec.tool(approval=True)
async def delete(path: str) -> str:
    """Delete."""
    return f"deleted {path}"


@dagexec.tool(effect="read")
async def wonder(text: str) -> str:
    """Ask a person."""
    return str(await dagexec.ask(text))


@lc_tool
def own(text: str) -> str:
    """Ask in LangGraph's own way."""
    return str(interrupt({"text": text}))


CALLS = [("delete", {"path": "x"}), ("wonder", {"text": "why"}), ("own", {"text": "how"})]


def by_hand(node):
    """Return a graph whose node is the tools' node."""
    return node


def in_a_subgraph(node):
    """Return a graph as a node of another."""
    inner = StateGraph(MessagesState)
    inner.add_node("tools", node)
    inner.add_edge(START, "tools")
    inner.add_edge("tools", END)
    return inner.compile()


def in_a_function(node):
    """Return a function that calls the node, as hand-written graphs have it."""

    def run(state, config):
        return node.invoke(state, config)

    async def arun(state, config):
        return await node.ainvoke(state, config)

    from langchain_core.runnables import RunnableLambda

    return RunnableLambda(run, arun)


@pytest.mark.skipif(
    not hasattr(langgraph.errors, "UnknownInterruptError"),
    reason="an older LangGraph counts the interrupts of a node as one, and gives it the answer",
)
@pytest.mark.parametrize("form", [by_hand, in_a_subgraph, in_a_function])
def test_it_shows_each_that_is_open(method, state, graph, thread, form):
    """By its id, with what an answer may be; it is a RuntimeError, and costs no answer."""
    made = graph(form(DagToolNode([delete, wonder, own])), checkpointer=InMemorySaver())
    method.run(made, state(*CALLS), thread)
    asked = made.get_state(thread).interrupts
    assert len(asked) == 3
    for unclear in ("yes", {"a": True}, Approve()):
        with pytest.raises(DagexecError, match="3 interrupts wait") as caught:
            method.run(made, Command(resume=unclear), thread)
        assert isinstance(caught.value, RuntimeError)
        text = str(caught.value)
        assert all(repr(each.id) in text for each in asked)
        assert "the call of 'delete'; True, False" in text
        assert "a value, for 'why'" in text
        assert "a value, for {'text': 'how'}" in text
    first, *others = asked
    method.run(made, Command(resume={first.id: True}), thread)
    with pytest.raises(DagexecError, match="2 interrupts wait") as caught:
        method.run(made, Command(resume="yes"), thread)
    assert first.id not in str(caught.value)
    left = made.get_state(thread).interrupts
    assert {each.id for each in left} == {each.id for each in others}
    answers = {each.id: "because" for each in left}
    result = method.run(made, Command(resume=answers), thread)
    texts = [each.content for each in result["messages"][1:]]
    assert texts == ["deleted x", "because", "because"]


def test_of_an_agent_with_this_node(method, thread):
    """`create_agent` runs each call in a node's task of its own."""
    agents = pytest.importorskip("langchain.agents")
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    class Script(GenericFakeChatModel):
        def bind_tools(self, tools, **_):
            return self

    calls = [
        {"name": name, "args": args, "id": f"c{n}", "type": "tool_call"}
        for n, (name, args) in enumerate(CALLS)
    ]
    model = Script(messages=iter([AIMessage("", tool_calls=calls), AIMessage("Done.")]))
    tools = [own]
    from dagexec.integrations.langgraph import dag_agent, to_langchain

    tools += [to_langchain(delete), to_langchain(wonder)]
    made = dag_agent(agents.create_agent(model, tools, checkpointer=InMemorySaver()))
    method.run(made, {"messages": [("user", "go")]}, thread)
    with pytest.raises(DagexecError, match="3 interrupts wait") as caught:
        method.run(made, Command(resume="yes"), thread)
    assert "the call of 'delete'" in str(caught.value)


def test_the_only_one_needs_no_id(way, state, graph, thread):
    """As ever."""
    made = graph(DagToolNode([wonder]), checkpointer=InMemorySaver())
    way.run(made, state(("wonder", {"text": "why"})), thread)
    assert way.run(made, Command(resume="so"), thread)["messages"][-1].content == "so"
