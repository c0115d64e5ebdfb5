"""Interrupts: who asks, who is answered, and what is not done again."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Annotated

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

import dagexec
from dagexec import Deny, Done, Edit
from dagexec.integrations.langgraph import DagToolNode, _carryover
from dagexec.limits import Retry


def asked_of(result):
    """Return the ids of a result's interrupts by what they ask."""
    return {each.value: each.id for each in result.get("__interrupt__", ())}


def test_answers_may_come_one_by_one(way, state, graph, thread, contents):
    """Who has not been answered asks again, with the same id; who has, is done."""
    runs = Counter()

    @way.tool
    def approve(name: str) -> str:
        answer = interrupt(name)
        runs[name] += 1
        return f"{name}={answer}"

    made = graph(DagToolNode([approve]), checkpointer=InMemorySaver())
    given = state(*(("approve", {"name": name}) for name in "abc"))
    first = asked_of(way.run(made, given, thread))
    assert list(first) == ["a", "b", "c"]
    second = asked_of(way.run(made, Command(resume={first["b"]: "yes"}), thread))
    assert second == {"a": first["a"], "c": first["c"]}
    third = asked_of(way.run(made, Command(resume={first["c"]: "no"}), thread))
    assert third == {"a": first["a"]}
    result = way.run(made, Command(resume="perhaps"), thread)  # one is left: no id is needed
    assert contents(result) == ["a=perhaps", "b=yes", "c=no"]
    assert runs == {"a": 1, "b": 1, "c": 1}


def test_a_tool_may_ask_twice(way, state, graph, thread, contents):
    """Each of its questions has an id of its own, and keeps its answer."""

    @way.tool
    def approve(name: str) -> str:
        return f"{interrupt(f'{name}1')} {interrupt(f'{name}2')}"

    made = graph(DagToolNode([approve]), checkpointer=InMemorySaver())
    given = state(("approve", {"name": "a"}), ("approve", {"name": "b"}))
    first = asked_of(way.run(made, given, thread))
    assert list(first) == ["a1", "b1"]
    answers = {id_: f"<{text}>" for text, id_ in first.items()}
    second = asked_of(way.run(made, Command(resume=answers), thread))
    assert list(second) == ["a2", "b2"]
    assert not set(second.values()) & set(first.values())
    answers = {id_: f"<{text}>" for text, id_ in second.items()}
    assert contents(way.run(made, Command(resume=answers), thread)) == ["<a1> <a2>", "<b1> <b2>"]


def test_an_answer_that_is_false_is_an_answer(way, state, graph, thread, contents):
    """By id, anything but nothing counts."""

    @way.tool
    def approve(name: str) -> str:
        return repr(interrupt(name))

    made = graph(DagToolNode([approve]), checkpointer=InMemorySaver())
    asked = asked_of(
        way.run(made, state(*(("approve", {"name": name}) for name in "abcd")), thread)
    )
    answers = dict(zip(asked.values(), [False, 0, "", None], strict=True))
    assert contents(way.run(made, Command(resume=answers), thread)) == ["False", "0", "''", "None"]


def test_what_depends_on_who_asks_waits(way, state, graph, thread, contents):
    """Its dependants run after the answer, with values of calls that were done before."""
    runs = Counter()

    @way.tool
    def price(title: str) -> dict:
        runs["price"] += 1
        return {"amount": 7}

    @way.tool
    def approve(amount: int) -> str:
        return interrupt(f"pay {amount + 1}?")

    @way.tool
    def pay(amount: int, note: str) -> str:
        runs["pay"] += 1
        return f"{amount + 1} {note}"

    given = state(
        ("price", {"title": "Emma"}),
        ("approve", {"amount": {"$ref": "1.amount"}}),
        ("pay", {"amount": {"$ref": "1.amount"}, "note": {"$template": "({})".format("${2}")}}),
    )
    made = graph(DagToolNode([price, approve, pay]), checkpointer=InMemorySaver())
    asked = asked_of(way.run(made, given, thread))
    assert list(asked) == ["pay 8?"]
    assert runs == {"price": 1}
    result = way.run(made, Command(resume="yes"), thread)
    assert contents(result) == ['{"amount": 7}', "yes", "8 (yes)"]
    assert runs == {"price": 1, "pay": 1}


def test_values_last_as_long_as_there_are_questions(way, state, graph, thread, contents):
    """With their types, over any number of turns."""

    @way.tool
    def price(title: str) -> dict:
        return {"amount": 7}

    @way.tool
    def approve(name: str) -> int:
        return interrupt(f"{name}1") + interrupt(f"{name}2")

    @way.tool
    def pay(amount: int, times: int) -> str:
        return f"{amount * times}"

    given = state(
        ("price", {"title": "Emma"}),
        ("approve", {"name": "a"}),
        ("pay", {"amount": {"$ref": "1.amount"}, "times": {"$ref": "2"}}),
    )
    made = graph(DagToolNode([price, approve, pay]), checkpointer=InMemorySaver())
    way.run(made, given, thread)
    way.run(made, Command(resume=1), thread)
    assert contents(way.run(made, Command(resume=2), thread))[2] == "21"


def test_graphs_inside_of_tools_ask_for_themselves(way, state, graph, thread, contents):
    """Their interrupts keep their ids, and each graph finds its own state again."""
    before = Counter()

    class Inner(MessagesState):
        name: str

    def first(state):
        before[state["name"]] += 1
        return {}

    def ask(state):
        return {"messages": [("ai", f"{state['name']}={interrupt(state['name'])}")]}

    builder = StateGraph(Inner)
    builder.add_node("first", first)
    builder.add_node("ask", ask)
    builder.add_edge(START, "first")
    builder.add_edge("first", "ask")
    builder.add_edge("ask", END)
    inner = builder.compile()

    async def waits(name: str) -> str:
        """Run the inner graph."""
        found = await inner.ainvoke({"name": name, "messages": []})
        return found["messages"][-1].content

    def blocks(name: str) -> str:
        """Run the inner graph."""
        return inner.invoke({"name": name, "messages": []})["messages"][-1].content

    made = graph(DagToolNode([waits, blocks]), checkpointer=InMemorySaver())
    given = state(*((way.kind, {"name": name}) for name in "abc"))
    asked = asked_of(way.run(made, given, thread))
    assert sorted(asked) == ["a", "b", "c"]
    assert len(set(asked.values())) == 3
    answers = {id_: f"for {name}" for name, id_ in asked.items()}
    result = way.run(made, Command(resume=answers), thread)
    assert contents(result) == ["a=for a", "b=for b", "c=for c"]
    assert before == {"a": 1, "b": 1, "c": 1}


def test_a_wrapper_may_ask(way, state, graph, thread, contents):
    """It asks for its own call, before any tool runs."""
    runs = []

    @way.tool
    def delete(name: str) -> str:
        runs.append(name)
        return f"deleted {name}"

    def wrapper(request, execute):
        name = request.tool_call["args"]["name"]
        if interrupt(f"delete {name}?") != "yes":
            return ToolMessage("refused", tool_call_id=request.tool_call["id"])
        return execute(request)

    node = DagToolNode([delete], wrap_tool_call=wrapper)
    made = graph(node, checkpointer=InMemorySaver())
    given = state(("delete", {"name": "a"}), ("delete", {"name": "prod"}))
    asked = asked_of(way.run(made, given, thread))
    assert not runs
    answers = {asked["delete a?"]: "yes", asked["delete prod?"]: "no"}
    result = way.run(made, Command(resume=answers), thread)
    assert contents(result) == ["deleted a", "refused"]
    assert runs == ["a"]


def test_an_error_goes_before_an_interrupt(way, state, graph, thread, contents):
    """Who asked asks again when the failed call has been repeated; who is done is not."""
    runs = Counter()

    @way.tool
    def approve(name: str) -> str:
        return interrupt(name)

    @way.tool
    def flaky() -> str:
        runs["flaky"] += 1
        if runs["flaky"] == 1:
            raise OSError("no network")
        return "there"

    @way.tool
    def writes() -> str:
        runs["writes"] += 1
        return "written"

    made = graph(DagToolNode([approve, flaky, writes]), checkpointer=InMemorySaver())
    given = state(("approve", {"name": "a"}), ("flaky", {}), ("writes", {}))
    with pytest.raises(OSError, match="no network"):
        way.run(made, given, thread)
    asked = asked_of(way.run(made, None, thread))
    assert list(asked) == ["a"]
    assert contents(way.run(made, Command(resume="ok"), thread)) == ["ok", "there", "written"]
    assert runs == {"flaky": 2, "writes": 1}


def test_an_answer_that_was_taken_survives_an_error(way, state, graph, thread, contents):
    """A tool that fails behind its question is not asked for again."""
    runs = Counter()

    @way.tool
    def approve() -> str:
        answer = interrupt("go on?")
        runs["approve"] += 1
        if runs["approve"] == 1:
            raise OSError("no network")
        return answer

    made = graph(DagToolNode([approve]), checkpointer=InMemorySaver())
    assert list(asked_of(way.run(made, state(("approve", {})), thread))) == ["go on?"]
    with pytest.raises(OSError, match="no network"):
        way.run(made, Command(resume="yes"), thread)
    assert contents(way.run(made, None, thread)) == ["yes"]


def test_errors_that_were_answered_are_not_tried_again(way, state, graph, thread, contents):
    """A handled error, a timeout and what was skipped are answers like any other."""
    runs = Counter()

    @way.tool
    def approve() -> str:
        return interrupt("go on?")

    @way.tool
    def breaks() -> str:
        runs["breaks"] += 1
        raise ValueError("no")

    @way.tool
    def uses(text: str) -> str:
        runs["uses"] += 1
        return text

    node = DagToolNode([approve, breaks, uses], handle_tool_errors=True)
    made = graph(node, checkpointer=InMemorySaver())
    given = state(("breaks", {}), ("uses", {"text": {"$ref": "1"}}), ("approve", {}))
    way.run(made, given, thread)
    found = contents(way.run(made, Command(resume="yes"), thread))
    assert found[0].startswith("Error: ValueError('no')")
    assert "call 1 (breaks) gave no result" in found[1]
    assert found[2] == "yes"
    assert runs == {"breaks": 1}


def test_commands_are_kept_as_well(way, state, graph, thread):
    """Also one for the graph above, which leaves the node when the questions are answered."""
    runs = Counter()

    @way.tool
    def approve() -> str:
        return interrupt("go on?")

    @way.tool
    def updates(call_id: Annotated[str, InjectedToolCallId]) -> Command:
        runs["updates"] += 1
        return Command(update={"messages": [ToolMessage("updated", tool_call_id=call_id)]})

    made = graph(DagToolNode([approve, updates]), checkpointer=InMemorySaver())
    assert asked_of(way.run(made, state(("updates", {}), ("approve", {})), thread))
    messages = way.run(made, Command(resume="yes"), thread)["messages"]
    assert {each.content for each in messages[1:]} == {"updated", "yes"}
    assert runs == {"updates": 1}


def test_a_command_that_leaves_waits_for_the_answers(way, state, graph, thread):
    """A tool that hands over to the graph above runs once, and hands over in the end."""
    runs = Counter()

    @way.tool
    def approve() -> str:
        return interrupt("go on?")

    @way.tool
    def leaves() -> str:
        runs["leaves"] += 1
        raise ParentCommand(Command(graph=Command.PARENT, goto="after"))

    inner = graph(DagToolNode([approve, leaves]))
    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner)
    builder.add_node("after", lambda state: {"messages": [("ai", "after")]})
    builder.add_edge(START, "inner")
    made = builder.compile(checkpointer=InMemorySaver())
    assert asked_of(way.run(made, state(("leaves", {}), ("approve", {})), thread))
    messages = way.run(made, Command(resume="yes"), thread)["messages"]
    assert messages[-1].content == "after"
    assert runs == {"leaves": 1}


def test_approval_is_an_interrupt(way, state, graph, thread, contents):
    """The option of a tool: asked with name and arguments, answered by a decision."""

    @way.tool
    def pay(amount: int) -> str:
        return f"paid {amount}"

    options = {"pay": {"approval": lambda args: args["amount"] > 1}}
    made = graph(DagToolNode([pay], options=options), checkpointer=InMemorySaver())
    given = state(*(("pay", {"amount": n}) for n in range(1, 8)))
    asked = way.run(made, given, thread)["__interrupt__"]
    assert [each.value["args"]["amount"] for each in asked] == [2, 3, 4, 5, 6, 7]
    assert asked[0].value["name"] == "pay"
    denied = {"type": "deny", "reason": "no need"}
    edited = {"type": "edit", "args": {"amount": 70}}
    decisions = [True, False, Deny("too dear"), Edit({"amount": 50}), denied, edited]
    answers = {each.id: answer for each, answer in zip(asked, decisions, strict=True)}
    found = contents(way.run(made, Command(resume=answers), thread))
    assert found[:2] == ["paid 1", "paid 2"]
    assert "denied this call" in found[2]
    assert "too dear" in found[3]
    assert found[4] == "paid 50"
    assert "no need" in found[5]
    assert found[6] == "paid 70"


def test_outside_of_a_graph_nothing_is_said(way, state):
    """There is no place for interrupts, as for the stock class; and no warning."""

    @way.tool
    def echo() -> str:
        return "there"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        way.run(DagToolNode([echo]), state(("echo", {})))


@pytest.fixture
def another_langgraph(monkeypatch):
    """Let LangGraph be built in another way than expected."""
    monkeypatch.setattr(_carryover, "NAMES", None)
    monkeypatch.setattr(_carryover, "_warned", [])


@pytest.mark.usefixtures("another_langgraph")
def test_another_langgraph_gets_the_stock_behaviour_and_one_warning(
    way, state, graph, thread, contents
):
    """One interrupt a turn, answered in order; said once."""

    @way.tool
    def approve(name: str) -> str:
        return f"{name}={interrupt(name)}"

    made = graph(DagToolNode([approve], concurrency=1), checkpointer=InMemorySaver())
    given = state(("approve", {"name": "a"}), ("approve", {"name": "b"}))
    with pytest.warns(RuntimeWarning, match="not built as dagexec expects"):
        asked = asked_of(way.run(made, given, thread))
    assert list(asked) == ["a"]
    asked = asked_of(way.run(made, Command(resume="yes"), thread))  # here a warning is an error
    assert list(asked) == ["b"]
    assert contents(way.run(made, Command(resume="no"), thread)) == ["a=yes", "b=no"]


@pytest.mark.usefixtures("another_langgraph")
@pytest.mark.filterwarnings("ignore:this version of LangGraph")
@pytest.mark.parametrize(
    ("answers", "content"),
    [
        ([Edit({"amount": 2}), "yes"], "2 yes"),
        ([Deny("no")], "Error: a person has denied this call: no"),
        ([True, Deny("no")], "Error: a person has denied this call: no"),
        ([Done("by hand")], "by hand"),
        ([True, Done("by hand")], "by hand"),
    ],
    ids=str,
)
def test_approvals_and_questions_in_another_langgraph(
    way, state, graph, *, thread, contents, answers, content
):
    """They are interrupts of its own, one after the other; an attempt more asks none again."""
    seen = []

    if way.kind == "waits":

        @dagexec.tool(effect="idempotent", approval=True, retry=Retry(3, base=0.001))
        async def pay(amount: int) -> str:
            return await asks(amount)

    else:

        @dagexec.tool(effect="idempotent", approval=True, retry=Retry(3, base=0.001))
        def pay(amount: int) -> str:
            return asks(amount)

    async def asks(amount):
        answer = await dagexec.ask("sure?")
        seen.append(amount)
        if len(seen) < 3:
            raise OSError("no network")
        return f"{amount} {answer}"

    made = graph(DagToolNode([pay]), checkpointer=InMemorySaver())
    result = way.run(made, state(("pay", {"amount": 1})), thread)
    for answer in answers:
        assert len(result["__interrupt__"]) == 1
        result = way.run(made, Command(resume=answer), thread)
    assert contents(result) == [content]


def test_without_a_checkpointer_interrupts_still_leave_together(way, state, graph):
    """A graph above may have one; LangGraph shows what was asked."""

    @way.tool
    def approve(name: str) -> str:
        return interrupt(name)

    made = graph(DagToolNode([approve]))
    result = way.run(made, state(("approve", {"name": "a"}), ("approve", {"name": "b"})))
    assert list(asked_of(result)) == ["a", "b"]


def test_an_interrupt_is_no_error_that_a_handler_sees(way, state, graph, thread):
    """`handle_tool_errors=True` handles none."""

    @way.tool
    def approve() -> str:
        return interrupt("go on?")

    seen = []

    def handler(error: Exception) -> str:
        seen.append(error)
        return "handled"

    made = graph(DagToolNode([approve], handle_tool_errors=handler), checkpointer=InMemorySaver())
    assert list(asked_of(way.run(made, state(("approve", {})), thread))) == ["go on?"]
    assert not seen
    assert issubclass(GraphInterrupt, Exception)
