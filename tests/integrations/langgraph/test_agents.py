"""Agents as LangChain and LangGraph build them, with a model that refers to results."""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter

import pytest

pytest.importorskip("langchain.agents", reason="needs the package langchain")

from jsonschema import Draft202012Validator
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, wrap_tool_call
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent, tools_condition
from langgraph.types import Command, interrupt

import dagexec
from dagexec import DagexecError, Timeouts
from dagexec.integrations.langgraph import DagToolNode, dag_agent
from planners.langchain import bind, instructions, references


class Script(BaseChatModel):
    """A chat model that says what is in its script, and keeps what it was sent."""

    replies: list
    requests: list
    tools: list

    @property
    def _llm_type(self):
        return "script"

    def bind_tools(self, tools, **kwargs):
        """Bind as the real ones do: as the provider's definitions."""
        return self.bind(tools=[convert_to_openai_tool(each) for each in tools], **kwargs)

    def _generate(self, messages, stop=None, run_manager=None, *, tools=(), **kwargs):
        self.requests.append(messages)
        self.tools[:] = tools
        reply = self.replies[len(self.requests) - 1]
        return ChatResult(generations=[ChatGeneration(message=reply.model_copy())])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._generate(messages, **kwargs).generations[0].message
        yield ChatGenerationChunk(message=AIMessageChunk(message.content))
        calls = [
            {"name": each["name"], "args": "{}", "id": each["id"], "index": n}
            for n, each in enumerate(message.tool_calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=calls))


@tool
async def price(title: str) -> dict:
    """Look up a price."""
    return {"amount": len(title), "currency": "EUR"}


@tool
def pay(amount: int, note: str) -> str:
    """Pay."""
    return f"paid {amount} {note} {interrupt(f'pay {amount}?')}"


def react_agent(*args, **options):
    """Make LangGraph's own agent, which is deprecated and widely used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_react_agent(*args, **options)


AGENTS = {"create_agent": create_agent, "create_react_agent v2": react_agent}


@pytest.fixture(params=AGENTS)
def make(request):
    """Return each way of making an agent."""
    return AGENTS[request.param]


def two_payments(message):
    """Return a script: two payments that need a price, each to be approved, and an answer."""
    calls = message(
        ("price", {"title": "Emma"}, "p"),
        ("pay", {"amount": {"$ref": "1.amount"}, "note": {"$template": "in ${1.currency}"}}, "q"),
        ("pay", {"amount": {"$ref": "p.amount"}, "note": "again"}, "r"),
    )
    return Script(replies=[calls, AIMessage("Done.")], requests=[], tools=[])


def test_references_and_interrupts_in_agents(way, make, message, thread, contents):
    """All calls of the message run in one node: one turn for both questions."""
    model = two_payments(message)
    agent = dag_agent(make(model, [price, pay], checkpointer=InMemorySaver()))
    asked = way.run(agent, {"messages": [HumanMessage("Buy it.")]}, thread)["__interrupt__"]
    assert [each.value for each in asked] == ["pay 4?", "pay 4?"]
    answers = {each.id: text for each, text in zip(asked, ["yes", "no"], strict=True)}
    assert contents(way.run(agent, Command(resume=answers), thread)) == [
        "Buy it.",
        '{"amount": 4, "currency": "EUR"}',
        "paid 4 in EUR yes",
        "paid 4 again no",
    ]


def test_settings_reach_the_node_and_the_given_agent_stays(way, make, message):
    """A copy: what it was made of still sends call by call."""

    @way.tool(seconds=lambda: 60 if way.kind == "waits" else 8)
    def hangs() -> str:
        return "late"

    replies = [message(("hangs", {}), ("price", {"title": "Emma"})), AIMessage("Done.")]
    given = make(Script(replies=replies, requests=[], tools=[]), [price, hangs])
    before = given.nodes["tools"].bound
    agent = dag_agent(given, timeouts=Timeouts(call=0.7))
    found = way.run(agent, {"messages": [HumanMessage("Go.")]})["messages"]
    assert "its time limit" in found[2].content
    assert found[3].status == "success"
    assert given.nodes["tools"].bound is before
    assert not isinstance(before, DagToolNode)
    assert isinstance(agent.nodes["tools"].bound, DagToolNode)


def test_an_agent_that_was_given_a_node_keeps_its_settings():
    """And takes more of them."""
    model = Script(replies=[], requests=[], tools=[])
    options = {"price": {"effect": "read"}}
    agent = dag_agent(react_agent(model, DagToolNode([price], options=options)), concurrency=3)
    settings = agent.nodes["tools"].bound.settings
    assert (settings.options, settings.concurrency) == (options, 3)


def test_middleware_and_approval_of_people(message, thread):
    """Wrappers and the approval of LangChain's middleware work as before."""
    seen = []

    @wrap_tool_call
    def watch(request, handler):
        seen.append(request.tool_call["args"]["title"])
        return handler(request)

    @tool
    def look_up(title: str) -> str:
        """Look up."""
        return title.upper()

    people = HumanInTheLoopMiddleware(interrupt_on={"look_up": True})
    replies = [message(("look_up", {"title": "Emma"}), ("look_up", {"title": "Dune"}))]
    model = Script(replies=[*replies, AIMessage("Done.")], requests=[], tools=[])
    middleware = [watch, people]
    made = create_agent(model, [look_up], middleware=middleware, checkpointer=InMemorySaver())
    agent = dag_agent(made)
    agent.invoke({"messages": [HumanMessage("Go.")]}, thread)
    decisions = [{"type": "approve"}, {"type": "reject", "message": "too dear"}]
    found = agent.invoke(Command(resume={"decisions": decisions}), thread)["messages"]
    answers = {each.tool_call_id: each.content for each in found if isinstance(each, ToolMessage)}
    assert answers["c1"] == "EMMA"
    assert "too dear" in answers["c2"]
    assert seen == ["Emma"]


def test_what_is_no_agent_is_refused():
    """With what is wrong with it."""
    builder = StateGraph(MessagesState)
    builder.add_node("only", lambda state: {})
    builder.set_entry_point("only")
    with pytest.raises(DagexecError, match="no ToolNode"):
        dag_agent(builder.compile())
    with pytest.raises(DagexecError, match="no compiled StateGraph"):
        dag_agent("agent")


# ------------------------------------------------------------------------------ the model's side


def test_a_bound_model_sees_references_and_numbers(message):
    """Schemas are widened, results are numbered, the state's messages stay as they are."""

    @dagexec.tool
    def shout(text: str) -> str:
        """Shout."""
        return text.upper()

    model = Script(replies=[message(("price", {"title": "Emma"}))], requests=[], tools=[])
    bound = bind(model, [price, pay, shout])
    state = [
        SystemMessage("Be brief."),
        HumanMessage("Hello."),
        message(("price", {"title": "Dune"}, "a"), ("shout", {"text": "x"}, "b")),
        ToolMessage("4", tool_call_id="a"),
        ToolMessage([{"type": "text", "text": "no"}], tool_call_id="b", status="error"),
    ]
    before = [each.model_dump() for each in state]
    reply = bound.invoke(state)
    assert reply.response_metadata["dagexec_first_call"] == 3
    assert [each.model_dump() for each in state] == before
    (sent,) = model.requests
    assert sent[0].content == f"Be brief.\n\n{instructions}"
    assert sent[3].content == "[call 1]\n4"
    assert sent[4].content[0] == {"type": "text", "text": "[call 2: failed]"}
    defined = {each["function"]["name"]: each["function"] for each in model.tools}
    assert list(defined) == ["price", "pay", "shout"]
    assert defined["price"]["description"] == "Look up a price."
    schema = Draft202012Validator(defined["pay"]["parameters"])
    assert schema.is_valid({"amount": {"$ref": "1.amount"}, "note": {"$template": "${1}"}})
    assert schema.is_valid({"amount": 3, "note": "text"})
    assert not schema.is_valid({"amount": {"$template": "${1}"}, "note": "text"})
    assert not schema.is_valid({"amount": "3", "note": "text"})


def test_a_bound_model_streams(message):
    """The first chunk has the number; text comes as it did."""
    replies = [AIMessage("Hm.", tool_calls=message(("price", {})).tool_calls)] * 3
    model = Script(replies=replies, requests=[], tools=[])
    bound = bind(model, [price])
    chunks = list(bound.stream("Hello."))
    assert [each.content for each in chunks[:2]] == ["Hm.", ""]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.response_metadata["dagexec_first_call"] == 1
    assert whole.tool_calls[0]["name"] == "price"

    async def run():
        return [each async for each in bound.astream("Hello.")], await bound.ainvoke("Hello.")

    streamed, reply = asyncio.run(run())
    assert streamed[0].response_metadata["dagexec_first_call"] == 1
    assert reply.response_metadata["dagexec_first_call"] == 1


def test_numbers_survive_what_is_left_out(way, message):
    """A conversation whose beginning the model no longer sees: the numbers mean the same calls."""
    replies = [
        message(("price", {"title": "Emma"}, "a"), ("price", {"title": "Dune!"}, "b")),
        message(("price", {"title": "Ulysses"}, "c")),
        message(("price", {"title": {"$template": "${3.amount} of ${2.currency}"}}, "d")),
        AIMessage("Done."),
    ]
    model = Script(replies=replies, requests=[], tools=[])
    bound = bind(model, [price])

    def call_model(state):
        messages = state["messages"]
        turns = [n for n, each in enumerate(messages) if isinstance(each, AIMessage)]
        return {"messages": [bound.invoke(messages[turns[-1] if turns else 0 :])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", call_model)
    builder.add_node("tools", DagToolNode([price]))
    builder.set_entry_point("model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    found = way.run(builder.compile(), {"messages": [HumanMessage("Go.")]})["messages"]
    assert model.requests[2][-1].content.startswith("[call 3]\n")
    assert found[-2].content == '{"amount": 8, "currency": "EUR"}'  # "7 of EUR"


def test_the_models_side_of_create_agent(way, message, thread):
    """The middleware does what `bind` does, and the whole loop works with references."""
    model = two_payments(message)
    made = create_agent(
        model,
        [price, pay],
        system_prompt="Be brief.",
        middleware=[references()],
        checkpointer=InMemorySaver(),
    )
    agent = dag_agent(made, concurrency=1)
    asked = way.run(agent, {"messages": [HumanMessage("Buy it.")]}, thread)["__interrupt__"]
    answers = {each.id: "yes" for each in asked}
    result = way.run(agent, Command(resume=answers), thread)
    assert result["messages"][-1].content == "Done."
    first, second = model.requests
    assert first[0].content == f"Be brief.\n\n{instructions}"
    assert [each.content.partition("\n")[0] for each in second[3:]] == [
        "[call 1]",
        "[call 2]",
        "[call 3]",
    ]
    schema = Draft202012Validator(model.tools[1]["function"]["parameters"])
    assert schema.is_valid({"amount": {"$ref": "1.amount"}, "note": "x"})
    assert Counter(type(each).__name__ for each in result["messages"])["ToolMessage"] == 3


def test_a_bound_model_in_create_react_agent(way, message, thread):
    """It takes a model that has its tools."""
    model = two_payments(message)
    agent = dag_agent(
        react_agent(bind(model, [price, pay]), [price, pay], checkpointer=InMemorySaver())
    )
    asked = way.run(agent, {"messages": [HumanMessage("Buy it.")]}, thread)["__interrupt__"]
    assert [each.value for each in asked] == ["pay 4?", "pay 4?"]
    assert model.requests[0][0].content == instructions
