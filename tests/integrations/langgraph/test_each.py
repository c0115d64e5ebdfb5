"""`$each` in a message's calls: what runs, the one answer, what later turns can refer to."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from dagexec import Timeouts, ask, current_call, tool
from dagexec.integrations.langgraph import DagToolNode

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.real_time]
STARTED: list[str] = []


@pytest.fixture
def anyio_backend():
    """LangGraph's only one."""
    return "asyncio"


@tool(effect="read")
async def user(name: str) -> str:
    """Return a user's orders, as JSON in a text."""
    return json.dumps({"orders": ["a", "b", "c"]})


@tool(effect="write")
async def order(id: str, how: str = "") -> object:
    """Return an order."""
    STARTED.append(current_call().id)
    if id == "b" and how == "fail":
        raise ValueError("no such order")
    if how == "ask":
        return await ask("sure?")
    if how == "interrupt":
        return interrupt("sure?")
    if how == "command":
        return Command(update={"messages": [ToolMessage("ok", tool_call_id="c1")]})
    return {"id": id, "cost": 7}


@tool(effect="write", approval=True)
async def approved(id: str) -> str:
    """Do what a person agrees to."""
    return id


@tool(effect="read")
def total(costs: list[int]) -> int:
    """Add up."""
    return sum(costs)


TOOLS = [user, order, approved, total]


def call(number, name, /, **args):
    """Return a tool call."""
    return {"name": name, "args": args, "id": f"c{number}", "type": "tool_call"}


class Conversation:
    """Runs messages one after the other."""

    def __init__(self, **options):
        STARTED.clear()
        graph = StateGraph(MessagesState)
        graph.add_node("tools", DagToolNode(TOOLS, **options))
        graph.add_edge(START, "tools")
        self.graph = graph.compile(checkpointer=InMemorySaver())
        self.config = {"configurable": {"thread_id": "t"}}

    async def turn(self, *calls):
        """Return the answers by id."""
        messages = [HumanMessage("go"), AIMessage("", tool_calls=list(calls))]
        state = await self.graph.ainvoke({"messages": messages}, self.config)
        wanted = {each["id"] for each in calls}
        return {
            each.tool_call_id: each
            for each in state["messages"]
            if getattr(each, "tool_call_id", None) in wanted
        }


async def test_a_call_for_each_item_and_what_refers_to_it():
    """In one message with the list and with those that take the values."""
    answers = await Conversation().turn(
        call(1, "user", name="x"),
        call(2, "order", id={"$each": "1.orders"}),
        call(3, "total", costs={"$ref": "2[*].cost"}),
        call(4, "total", costs=[{"$ref": "2[-1].cost"}, {"$ref": "2[0].cost"}]),
    )
    assert json.loads(answers["c2"].content) == [{"id": each, "cost": 7} for each in "abc"]
    assert (answers["c3"].content, answers["c4"].content) == ("21", "14")
    assert sorted(STARTED) == ["c2[0]", "c2[1]", "c2[2]"]


async def test_without_an_event_loop():
    """The stock node's blocking way."""
    conversation = Conversation()
    message = AIMessage("", tool_calls=[call(1, "total", costs={"$each": [[1, 2], [3]]})])
    state = conversation.graph.invoke({"messages": [message]}, conversation.config)
    assert state["messages"][-1].content == "[3, 3]"


async def test_a_failed_item_is_told_and_the_others_can_be_referred_to():
    """In the same turn and in a later one; the node does not end by it."""
    conversation = Conversation()
    answers = await conversation.turn(
        call(1, "order", id={"$each": ["a", "b"]}, how="fail"),
        call(2, "total", costs=[{"$ref": "1[0].cost"}]),
        call(3, "total", costs={"$ref": "1[*].cost"}),
    )
    assert answers["c1"].status == "error"
    assert "1 of 2 items failed: 1[1] failed" in answers["c1"].content
    assert '"error"' in answers["c1"].content
    assert (answers["c2"].content, answers["c3"].status) == ("7", "error")
    later = await conversation.turn(
        call(4, "total", costs=[{"$ref": "1[0].cost"}]),
        call(5, "total", costs=[{"$ref": "1[1].cost"}]),
    )
    assert (later["c4"].content, later["c5"].status) == ("7", "error")
    assert len(STARTED) == 2


@pytest.mark.parametrize("how", ["ask", "interrupt", "command"])
async def test_what_an_item_has_no_place_for(how):
    """Nobody is asked, no command is sent, and the graph goes on."""
    answers = await Conversation().turn(call(1, "order", id={"$each": ["a"]}, how=how))
    assert answers["c1"].status == "error"
    assert "$each" in answers["c1"].content


async def test_a_person_agrees_to_calls_not_to_items():
    """An approval is not gone round."""
    answers = await Conversation().turn(call(1, "approved", id={"$each": ["a"]}))
    assert (answers["c1"].status, "a person" in answers["c1"].content) == ("error", True)


async def test_what_is_no_list_and_deadlines():
    """Told like those of other calls."""
    conversation = Conversation(timeouts=Timeouts(workflow=10))
    answers = await conversation.turn(
        call(1, "order", id={"$each": []}),
        call(2, "total", costs=[1]),
        call(3, "order", id={"$each": "2"}),
    )
    assert (answers["c1"].status, answers["c1"].content) == ("success", [])
    assert "takes a list" in answers["c3"].content


async def test_streamed_calls():
    """The call is told of once, with all of its items."""
    conversation = Conversation(stream_calls=True)
    message = AIMessage("", tool_calls=[call(1, "order", id={"$each": ["a", "b"]})])
    told = [
        each
        async for each in conversation.graph.astream(
            {"messages": [message]}, conversation.config, stream_mode="custom"
        )
    ]
    assert [(each["tool_call_id"], each["status"]) for each in told] == [("c1", "done")]
