"""People: what calls ask them, and what holds for a call's further attempts and dependants."""

from __future__ import annotations

from typing import Annotated

import pytest
from langchain_core.tools import Tool as SingleInputTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import InjectedState, ToolRuntime
from langgraph.types import Command, interrupt

from dagexec import Deny, Done, Edit, ToolDefinitionError, ask, tool
from dagexec.integrations.langgraph import DagToolNode
from dagexec.limits import Retry


def test_dependants_of_what_was_decided(method, state, graph, thread, contents):
    """They use what a person says that a call gave; after a refusal they are told so."""

    @tool(approval=True)
    async def price(title: str) -> dict[str, int]:
        raise AssertionError(title)

    @tool
    async def pay(amount: int) -> str:
        return f"paid {amount + 1}"

    given = state(
        ("price", {"title": "a"}),
        ("price", {"title": "b"}),
        ("pay", {"amount": {"$ref": "1.amount"}}),
        ("pay", {"amount": {"$ref": "2.amount"}}),
    )
    made = graph(DagToolNode([price, pay]), checkpointer=InMemorySaver())
    first, second = method.run(made, given, thread)["__interrupt__"]
    method.run(made, Command(resume={first.id: Done({"amount": 7})}), thread)
    found = contents(method.run(made, Command(resume={second.id: Deny("no")}), thread))
    assert found[0] == '{"amount": 7}'
    assert found[1] == "Error: a person has denied this call: no"
    assert found[2] == "paid 8"
    assert "call 2 (price) gave no result" in found[3]


def test_questions_of_a_tool_are_interrupts(way, state, graph, thread, contents):
    """Several, in any order; each call has its own, next to LangGraph's; sync tools ask as well."""
    if way.kind == "waits":

        @tool(effect="read")
        async def who(x: int) -> str:
            return f"{x} {await ask('name')} {await ask('town')}"

    else:

        @tool(effect="read")
        def who(x: int) -> str:
            async def both():
                return f"{x} {await ask('name')} {await ask('town')}"

            return both()

    made = graph(DagToolNode([who]), checkpointer=InMemorySaver())
    result = way.run(made, state(("who", {"x": 1}), ("who", {"x": 2})), thread)
    for answers in (("Ann", "Bo"), ("Rome", "Oslo")):
        asked = result["__interrupt__"]
        assert len({each.id for each in asked}) == 2
        resume = {each.id: answer for each, answer in zip(asked, answers, strict=True)}
        result = way.run(made, Command(resume=resume), thread)
    assert contents(result) == ["1 Ann Rome", "2 Bo Oslo"]


def test_a_sync_tool_asks_where_there_are_no_threads(method, state, graph, thread, contents):
    """With `concurrency=0`, to debug, it is the same program."""

    @tool(effect="read")
    def who(x: int) -> str:
        return ask(f"who {x}?")

    made = graph(DagToolNode([who], concurrency=0), checkpointer=InMemorySaver())
    (asked,) = method.run(made, state(("who", {"x": 1})), thread)["__interrupt__"]
    assert asked.value == "who 1?"
    assert contents(method.run(made, Command(resume="Ann"), thread)) == ["Ann"]


def test_another_attempt_is_given_the_same_answers(method, state, graph, thread, contents):
    """Approval, edit and questions hold for all attempts of a call."""
    seen = []

    @tool(effect="idempotent", approval=True, retry=Retry(3, base=0.001))
    async def work(x: int) -> str:
        seen.append(x)
        answer = await ask("sure?")
        if len(seen) < 4:
            raise OSError("no network")
        return f"{x} {answer}"

    made = graph(DagToolNode([work]), checkpointer=InMemorySaver())
    (asked,) = method.run(made, state(("work", {"x": 1000})), thread)["__interrupt__"]
    result = method.run(made, Command(resume={asked.id: Edit({"x": 1})}), thread)
    (asked,) = result["__interrupt__"]
    assert (asked.value, seen) == ("sure?", [1])
    assert contents(method.run(made, Command(resume="yes"), thread)) == ["1 yes"]
    assert seen == [1, 1, 1, 1]


@pytest.mark.parametrize("plainly", [False, True], ids=["by id", "without"])
def test_interrupts_of_langchains_tools_and_further_attempts(
    way, state, graph, *, thread, contents, plainly
):
    """With options they are tried again, from their first line and with the answers of before."""
    seen = []

    @way.tool
    def flaky(x: int) -> str:
        first = interrupt("first")
        second = interrupt("second")
        seen.append(x)
        if len(seen) < 3:
            raise OSError("no network")
        return f"{x} {first} {second}"

    options = {
        "flaky": {
            "effect": "idempotent",
            "approval": lambda args: args["x"] > 1,
            "retry": Retry(3, base=0.001),
        }
    }
    made = graph(DagToolNode([flaky], options=options), checkpointer=InMemorySaver())
    result = way.run(made, state(("flaky", {"x": "2"})), thread)
    (asked,) = result["__interrupt__"]
    assert asked.value["args"] == {"x": 2}  # as the tool's own schema reads it
    for answer in (Edit({"x": 5}), "a", "b"):
        (asked,) = result["__interrupt__"]
        result = way.run(made, Command(resume=answer if plainly else {asked.id: answer}), thread)
    assert contents(result) == ["5 a b"]
    assert seen == [5, 5, 5]


def test_approval_of_tools_with_injected_arguments(method, state, graph, thread, contents):
    """What the node puts in is neither asked for nor shown, however the tool takes it."""

    async def by_name(x: int, runtime) -> str:
        """Take what is injected by its name."""
        return f"{x} {runtime.tool_call_id}"

    async def by_type(x: int, given: Annotated[dict, InjectedState], kind: ToolRuntime) -> str:
        """Take what is injected by its type."""
        return f"{x} {len(given['messages'])} {kind.tool_call_id}"

    options = {name: {"approval": True} for name in ("by_name", "by_type", "plain")}
    alone = SingleInputTool("plain", itself, description="Take one.", coroutine=by_itself)
    node = DagToolNode([by_name, by_type, alone], options=options)
    made = graph(node, checkpointer=InMemorySaver())
    given = state(("by_name", {"x": "1"}), ("by_type", {"x": "2"}), ("plain", {"__arg1": "three"}))
    asked = method.run(made, given, thread)["__interrupt__"]
    assert [each.value["args"].get("x") for each in asked] == ["1", 2, None]
    assert asked[2].value["args"] == {"__arg1": "three"}
    answers = {each.id: True for each in asked}
    found = contents(method.run(made, Command(resume=answers), thread))
    assert found == ["1 c1", "2 1 c2", "three"]


def itself(text):
    return text


async def by_itself(text):
    return text


def test_secrets_of_langchains_tools(way, state, graph, thread, contents):
    """By the node's options: not in what a person is shown, and not in an error's text."""

    @way.tool
    def send(x: int, key: str) -> str:
        return f"{x} {len(key)}"

    options = {"send": {"secret": "key", "approval": lambda args: args["x"] == 1}}
    made = graph(DagToolNode([send], options=options), checkpointer=InMemorySaver())
    given = state(("send", {"x": 1, "key": "S3CRET"}), ("send", {"x": "many", "key": "S3CRET"}))
    result = way.run(made, given, thread)
    (asked,) = result["__interrupt__"]
    assert asked.value["args"] == {"x": 1, "key": "<secret>"}
    answer = Edit({"x": 2, "key": "<secret>"})
    found = contents(way.run(made, Command(resume={asked.id: answer}), thread))
    assert found[0] == "2 6"
    assert "x: " in found[1]
    assert "S3CRET" not in str(found)
    with pytest.raises(ToolDefinitionError, match="secret='kye' of 'send'"):
        DagToolNode([send], options={"send": {"secret": "kye"}})
