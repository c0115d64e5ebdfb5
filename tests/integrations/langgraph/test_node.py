"""The node's surface: what it shares with the stock class, and where it differs on purpose."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send

import dagexec
import planners.langchain
from dagexec import DagexecError, Executor, ToolDefinitionError, current_call
from dagexec.integrations import langgraph as integration
from dagexec.integrations.langgraph import DagToolNode, from_langchain, to_langchain
from dagexec.lowlevel import Settled, Started

IN_GRAPH = {"configurable": {"__pregel_runtime": Runtime()}}


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool
async def aadd(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool
def breaks(kind: str) -> str:
    """Break."""
    raise {"value": ValueError, "key": KeyError, "tool": ToolException}[kind](kind)


@tool(response_format="content_and_artifact")
def splits(text: str) -> tuple[list[str], dict[str, int]]:
    """Split."""
    return text.split(), {"length": len(text)}


@tool
def says(text: str, call_id: Annotated[str, InjectedToolCallId]) -> Command:
    """Say."""
    return Command(update={"messages": [ToolMessage(text, tool_call_id=call_id)], "more": 1})


@tool
def returns_message(call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
    """Return a message."""
    return ToolMessage([{"type": "text", "text": "hi"}], tool_call_id=call_id, artifact={1, 2})


@tool
def blocks() -> list[dict[str, str]]:
    """Return content blocks."""
    return [{"type": "text", "text": "a"}]


TOOLS = [add, breaks, splits, says, returns_message, blocks]


def on_value(error: ValueError) -> str:
    """Handle one kind of error."""
    return f"handled {error}"


FLAGS: dict[str, Any] = {
    "default": ...,
    "true": True,
    "false": False,
    "text": "it failed",
    "type": ValueError,
    "tuple": (KeyError, ToolException),
    "callable": on_value,
}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "value": ("add", {"a": 1, "b": 2}),
    "bad arguments": ("add", {"a": "x", "b": 2}),
    "missing argument": ("add", {"a": 1}),
    "unknown tool": ("subtract", {"a": 1}),
    "ValueError": ("breaks", {"kind": "value"}),
    "KeyError": ("breaks", {"kind": "key"}),
    "ToolException": ("breaks", {"kind": "tool"}),
    "artifact": ("splits", {"text": "a b"}),
    "command": ("says", {"text": "hello"}),
    "message": ("returns_message", {}),
    "content blocks": ("blocks", {}),
}


def outcome_of(way, node, given):
    """Return what a node gives, or what it raises."""
    try:
        return way.run(node, given, IN_GRAPH)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize(
    "flag",
    [
        flag if flag in ("default", "true", "type") else pytest.param(flag, marks=pytest.mark.slow)
        for flag in FLAGS
    ],
)
def test_it_gives_and_raises_what_the_stock_class_does(way, state, message, flag):
    """For each kind of error handling, each kind of call, and each form of input."""
    options = {} if FLAGS[flag] is ... else {"handle_tool_errors": FLAGS[flag]}
    nodes = ToolNode(TOOLS, **options), DagToolNode(TOOLS, **options)
    for one in CALLS.values():
        call = message(one).tool_calls[0]
        forms = [
            state(one),
            state(one, ("add", {"a": 2, "b": 2})),
            [message(one)],
            [call],
            {"__type": "tool_call_with_context", "tool_call": call, "state": {}},
        ]
        for given in forms:
            stock, own = (outcome_of(way, node, given) for node in nodes)
            assert own == stock


@pytest.mark.parametrize("flag", FLAGS)
def test_a_wrapper_changes_nothing_about_which_errors_are_handled(way, state, flag):
    """The stock class forgets the types as soon as there is a wrapper; this one does not."""
    options = {} if FLAGS[flag] is ... else {"handle_tool_errors": FLAGS[flag]}

    def wrapper(request, execute):
        return execute(request)

    for kind in ("value", "key", "tool"):
        given = state(("breaks", {"kind": kind}))
        plain = outcome_of(way, DagToolNode(TOOLS, **options), given)
        wrapped = outcome_of(way, DagToolNode(TOOLS, wrap_tool_call=wrapper, **options), given)
        assert wrapped == plain


def test_wrappers(way, state, contents):
    """They may answer, repeat, change the call and put in another tool."""
    calls = []

    def wrapper(request, execute):
        calls.append(request.tool_call["name"])
        if request.tool is None:
            return execute(request.override(tool=add))
        changed = {**request.tool_call, "args": {**request.tool_call["args"], "b": 10}}
        execute(request)
        return execute(request.override(tool_call=changed))

    node = DagToolNode([add], wrap_tool_call=wrapper)
    given = state(("add", {"a": 1, "b": 2}), ("plus", {"a": 2, "b": 2}))
    assert contents(way.run(node, given)) == ["11", "4"]
    assert sorted(calls) == ["add", "plus"]


def test_an_async_wrapper(state, contents):
    """Sync tools under it run in threads, not in the loop."""
    import threading

    where = []

    @tool
    def here() -> str:
        """Say where."""
        where.append(threading.current_thread() is threading.main_thread())
        return "done"

    async def wrapper(request, execute):
        await asyncio.sleep(0)
        return await execute(request)

    node = DagToolNode([here, aadd], awrap_tool_call=wrapper)
    given = state(("here", {}), ("aadd", {"a": 1, "b": 2}))
    assert contents(asyncio.run(node.ainvoke(given))) == ["done", "3"]
    assert where == [False]
    # As for the stock class, `invoke` knows no async wrapper; here async tools work under it.
    assert contents(node.invoke(given)) == ["done", "3"]


def test_injection_and_runtime(way, state):
    """State, store, runtime and the call's id, in a graph with a store and a context."""

    class State(MessagesState):
        name: str

    def look(
        text: str,
        name: Annotated[str, InjectedState("name")],
        whole: Annotated[dict, InjectedState],
        store: Annotated[Any, InjectedStore()],
        runtime: ToolRuntime,
    ) -> str:
        """Look."""
        runtime.stream_writer({"seen": text})
        kept = store.get(("a",), "b").value["c"]
        return f"{text} {name} {len(whole['messages'])} {kept} {runtime.tool_call_id}"

    builder = StateGraph(State)
    builder.add_node("tools", DagToolNode([look]))
    builder.add_edge(START, "tools")
    builder.add_edge("tools", END)
    store = InMemoryStore()
    store.put(("a",), "b", {"c": "kept"})
    made = builder.compile(store=store)
    given = {**state(("look", {"text": "x", "name": "forged"}), ("look", {"text": "y"}))}
    found = way.run(made, {**given, "name": "n"})["messages"][1:]
    assert [each.content for each in found] == ["x n 1 kept c1", "y n 1 kept c2"]


def test_callbacks_see_each_call(way, state):
    """With the tags of the run, and run_id for the first only."""
    seen = []

    class Handler(BaseCallbackHandler):
        def on_tool_start(self, serialized, input_str, *, tags, **kwargs):
            seen.append((serialized["name"], kwargs["tool_call_id"], "mine" in tags))

    node = DagToolNode([add])
    given = state(("add", {"a": 1, "b": 2}), ("add", {"a": 2, "b": 2}))
    way.run(node, given, {"callbacks": [Handler()], "tags": ["mine"]})
    assert sorted(seen) == [("add", "c1", True), ("add", "c2", True)]


def test_commands_for_the_graph_above(way, state, graph):
    """Those whose goto is all Send become one, at the end."""

    @way.tool
    def hands_over(name: str) -> Command:
        return Command(graph=Command.PARENT, goto=[Send("other", name)])

    found = way.run(
        DagToolNode([hands_over, add]),
        state(
            ("hands_over", {"name": "a"}), ("add", {"a": 1, "b": 1}), ("hands_over", {"name": "b"})
        ),
    )
    assert [type(each) for each in found] == [dict, Command]
    assert found[1].goto == [Send("other", "a"), Send("other", "b")]


def test_no_graph_no_messages_no_calls(way):
    """It can be used by itself; what is wrong with the input is said in one way."""
    node = DagToolNode([add])
    assert way.run(node, {"messages": [AIMessage("hello")]}) == {"messages": []}
    for nothing in ([], {"messages": []}, {}):
        with pytest.raises(ValueError, match="No message found in input"):
            way.run(node, nothing)
    with pytest.raises(ValueError, match="No AIMessage found in input"):
        way.run(node, [HumanMessage("hello")])


def test_under_a_running_loop_invoke_still_works(state, contents):
    """As with the stock class, the loop waits meanwhile."""

    async def run():
        return DagToolNode([add, aadd]).invoke(
            state(("add", {"a": 1, "b": 1}), ("aadd", {"a": 2, "b": 2}))
        )

    assert contents(asyncio.run(run())) == ["2", "4"]


def test_calls_that_langchain_could_not_read_are_answered(way, message):
    """A conversation cannot go on while a call of it has no answer."""
    bad = {
        "name": "add",
        "args": '{"a": 1',
        "id": "bad",
        "error": None,
        "type": "invalid_tool_call",
    }
    reply = message(("add", {"a": 1, "b": 1}))
    reply = AIMessage("", tool_calls=reply.tool_calls, invalid_tool_calls=[bad])
    good, answer = way.run(DagToolNode([add]), {"messages": [reply]})["messages"]
    assert good.content == "2"
    assert (answer.tool_call_id, answer.status) == ("bad", "error")


def test_calls_without_ids_and_with_the_same(way):
    """Each runs and is answered."""
    calls = [
        {"name": "add", "args": {"a": n, "b": n}, "id": id_, "type": "tool_call"}
        for n, id_ in enumerate(["x", "x", "", "y"])
    ]
    found = way.run(DagToolNode([add]), {"messages": [AIMessage("", tool_calls=calls)]})["messages"]
    assert [(each.content, each.tool_call_id) for each in found] == [
        ("0", "x"), ("2", "x"), ("4", ""), ("6", "y"),
    ]  # fmt: skip


def test_a_tools_own_cancellation_leaves_as_it_is(state):
    """Nobody asked for it; LangGraph makes a NodeCancelledError of it."""

    @tool
    async def cancels() -> str:
        """Cancel."""
        raise asyncio.CancelledError

    async def run():
        with pytest.raises(asyncio.CancelledError):
            await DagToolNode([cancels], handle_tool_errors=True).ainvoke(state(("cancels", {})))

    asyncio.run(run())


# ------------------------------------------------------------------------------ references


def test_references_that_cannot_be_met(way, state, contents):
    """They are answered with what is wrong; the other calls run."""
    given = state(
        ("add", {"a": {"$ref": "99"}, "b": 1}),
        ("add", {"a": {"$ref": "2"}, "b": 1}),
        ("add", {"a": {"$ref": "4"}, "b": 1}),
        ("add", {"a": {"$ref": "3"}, "b": 1}),
        ("breaks", {"kind": "value"}),
        ("add", {"a": {"$ref": "5"}, "b": 1}),
        ("add", {"a": {"$ref": "8.deep"}, "b": 1}),
        ("add", {"a": 1, "b": 1}),
        ("add", {"a": {"$ref": "5", "default": 5}, "b": 1}),
        ("add", {"a": {"$ref": "["}, "b": 1}),
    )
    node = DagToolNode([add, breaks], handle_tool_errors=True)
    found = contents(way.run(node, given))
    assert "There is no call '99'" in found[0]
    assert "There are: 2 (add)" in found[0]
    assert "refers to itself" in found[1]
    assert "cycle" in found[2]
    assert "cycle" in found[3]
    assert "ValueError('value')" in found[4]
    assert "call 5 (breaks) gave no result" in found[5]
    assert "leads nowhere" in found[6]
    assert found[7:9] == ["2", "6"]
    assert "is no reference" in found[9]


def test_references_to_earlier_turns(way, message, contents):
    """By number across the conversation or by id; JSON is data again, text stays text."""

    @way.tool
    def show(text: str, more: Any = None) -> str:
        return f"{text!r} {more!r}"

    history = [
        message(("search", {}, "a"), ("count", {}, "b"), ("fails", {}, "e")),
        ToolMessage('{"items": [1, 2]}', tool_call_id="a"),
        ToolMessage("42", tool_call_id="b"),
        ToolMessage("Error: no", tool_call_id="e", status="error"),
    ]
    reply = message(
        ("show", {"text": {"$ref": "1"}, "more": {"$ref": "a.items"}}, "c"),
        ("show", {"text": {"$ref": "2"}, "more": {"$ref": "b"}}, "d"),
        ("show", {"text": {"$template": "${2} of ${1.items[1]}"}}, "f"),
        ("show", {"text": {"$ref": "3"}}, "g"),
        ("show", {"text": {"$ref": "4"}}, "h"),
    )
    found = way.run(DagToolNode([show]), {"messages": [*history, reply]})["messages"]
    assert [each.content for each in found[:3]] == [
        "'{\"items\": [1, 2]}' [1, 2]", "'42' '42'", "'42 of 2' None",
    ]  # fmt: skip
    assert "call 3 (fails) has no result" in found[3].content
    assert found[4].content == repr(found[0].content) + " None"


def test_what_a_tool_returned_is_no_reference(way, state, contents):
    """Nor is anything without the option, or inside of a literal."""

    @way.tool
    def tricks() -> dict:
        return {"$ref": "1", "other": {"$template": "${1}"}}

    @way.tool
    def show(value: Any) -> str:
        return repr(value)

    value = {"$ref": "1", "other": {"$template": "${1}"}}
    given = state(
        ("tricks", {}),
        ("show", {"value": {"$ref": "1"}}),
        ("show", {"value": {"$literal": {"$ref": "1"}}}),
    )
    assert contents(way.run(DagToolNode([tricks, show]), given))[1:] == [
        repr(value), "{'$ref': '1'}",
    ]  # fmt: skip
    plain = state(("show", {"value": {"$ref": "1"}}))
    node = DagToolNode([show], references=False, observers=[lambda event: None])
    assert contents(way.run(node, plain)) == ["{'$ref': '1'}"]


def test_a_reference_sees_what_a_wrapper_made_of_an_answer(way, state, contents):
    """What was taken out for the model must not reach another tool."""

    @way.tool
    def secret() -> dict:
        return {"key": "hidden"}

    @way.tool
    def show(value: Any) -> str:
        return repr(value)

    def wrapper(request, execute):
        answer = execute(request)
        if request.tool_call["name"] == "secret":
            answer.content = "redacted"
        return answer

    node = DagToolNode([secret, show], wrap_tool_call=wrapper)
    found = contents(way.run(node, state(("secret", {}), ("show", {"value": {"$ref": "1"}}))))
    assert found == ["redacted", "'redacted'"]


def test_values_of_all_kinds_of_answers(way, state, contents):
    """The content of a pair, a message and a command is what the model has seen."""

    @way.tool
    def show(value: Any) -> str:
        return repr(value)

    given = state(
        ("splits", {"text": "a b"}), ("says", {"text": "hello"}), ("returns_message", {}),
        *(("show", {"value": {"$ref": str(n)}}) for n in (1, 2, 3)),
    )  # fmt: skip
    found = way.run(DagToolNode([*TOOLS, show]), given)
    texts = [each["messages"][0].content for each in found if isinstance(each, dict)]
    assert texts[-3:] == ["['a', 'b']", "'hello'", "[{'type': 'text', 'text': 'hi'}]"]


# ------------------------------------------------------------------- what dagexec adds to it


def test_effects_order_what_touches_the_same(way, state):
    """Two writers of a file keep the model's order; the others run beside them."""
    log = []

    @way.tool(seconds=lambda path, text: 0.5 if text == "first" else 0)
    def write(path: str, text: str) -> str:
        log.append(text)
        return text

    node = DagToolNode([write], options={"write": {"writes": "file:{path}"}})
    way.run(
        node,
        state(
            ("write", {"path": "a", "text": "first"}),
            ("write", {"path": "a", "text": "second"}),
            ("write", {"path": "b", "text": "other"}),
        ),
    )
    assert log == ["other", "first", "second"]


def test_observers_and_the_calls_own_context(way, state, graph):
    """Ids are the provider's, and a retried call keeps its key."""
    events = []
    keys = []

    @way.tool
    def flaky() -> str:
        keys.append(current_call().idempotency_key)
        if len(keys) < 2:
            raise ValueError("not yet")
        return current_call().id

    from langgraph.types import RetryPolicy

    policy = RetryPolicy(initial_interval=0.01, jitter=False, retry_on=ValueError)
    made = graph(DagToolNode([flaky], observers=[events.append]), retry_policy=policy)
    found = way.run(made, state(("flaky", {}, "call_abc")))["messages"]
    assert found[-1].content == "call_abc"
    assert len(set(keys)) == 1
    assert [event.call for event in events if isinstance(event, Started)] == ["call_abc"] * 2
    statuses = [event.outcome.status for event in events if isinstance(event, Settled)]
    assert statuses == ["failed", "done"]


def slow_until(event):
    """Return the tool `slow`, which ends when the reader of a stream has seen enough."""

    @tool
    async def slow() -> str:
        """Wait for the reader of the stream."""
        await asyncio.wait_for(event.wait(), 50)
        return "slow"

    return slow


def test_each_call_is_streamed_as_it_ends(state, graph):
    """On the custom stream: the quick one long before the slow one, errors too."""
    seen = []

    async def run():
        ended = asyncio.Event()
        node = DagToolNode([slow_until(ended), add], stream_calls=True)
        given = state(("slow", {}), ("add", {"a": 1, "b": 1}), ("nothing", {}))
        async for chunk in graph(node).astream(given, stream_mode="custom"):
            seen.append((chunk["tool_call_id"], chunk["status"], chunk["message"].content))
            if len(seen) == 2:
                ended.set()

    asyncio.run(run())
    assert seen[0][0] != "c1" != seen[1][0]
    assert sorted(seen)[:2] == [("c1", "done", "slow"), ("c2", "done", "2")]
    assert sorted(seen)[2][:2] == ("c3", "failed")


def test_custom_events_of_tools_are_streamed_at_once(state, graph):
    """What a tool writes is there before its siblings end."""

    async def run():
        ended = asyncio.Event()

        @tool
        async def tells(runtime: ToolRuntime) -> str:
            """Write to the stream."""
            runtime.stream_writer("half")
            return "told"

        seen = []
        stream = graph(DagToolNode([slow_until(ended), tells])).astream(
            state(("slow", {}), ("tells", {})), stream_mode=["custom", "updates"]
        )
        async for mode, chunk in stream:
            seen.append(mode)
            if chunk == "half":
                ended.set()
        return seen

    assert asyncio.run(run()) == ["custom", "updates"]


def test_dagexec_tools_keep_their_options(way, state, contents):
    """Effect, timeout and resources; their arguments are checked as everywhere."""

    @dagexec.tool(effect="read", timeout=5, reads="file:{path}")
    async def read(path: str, lines: int = 1) -> dict:
        """Read a file."""
        return {"path": path, "lines": lines, "call": current_call().id}

    node = DagToolNode([read, add])
    assert node.tools_by_name["read"].args == read.parameters["properties"]
    found = contents(
        way.run(
            node,
            state(
                ("read", {"path": "x"}),
                ("read", {"path": {"$ref": "1.path"}, "lines": "many"}),
                ("add", {"a": {"$ref": "1.lines"}, "b": 1}),
            ),
        )
    )
    assert found[0] == '{"path": "x", "lines": 1, "call": "c1"}'
    assert "lines" in found[1]
    assert found[2] == "2"


def test_settings_that_cannot_be():
    """They are errors where the node is made."""
    with pytest.raises(DagexecError, match="options for 'nothing': the tools are add"):
        DagToolNode([add], options={"nothing": {}})
    with pytest.raises(ToolDefinitionError, match="effect"):
        DagToolNode([add], options={"add": {"effect": "often"}})
    with pytest.raises(ToolDefinitionError, match="no option"):
        DagToolNode([add], options={"add": {"retries": 3}})
    with pytest.raises(ToolDefinitionError, match="runs= of 'add'"):
        DagToolNode([add], options={"add": {"runs": "process"}})


def test_identical_calls_of_a_pure_tool_run_each_by_itself(way, state):
    """They have ids and callbacks of their own, and each is answered."""
    seen = []

    @way.tool
    def double(number: int) -> int:
        seen.append(number)
        return number * 2

    node = DagToolNode([double], options={"double": {"effect": "pure"}})
    given = state(*(("double", {"number": n}) for n in (1, 1, 2)))
    messages = way.run(node, given)["messages"]
    assert [each.tool_call_id for each in messages] == ["c1", "c2", "c3"]
    assert [each.content for each in messages] == ["2", "2", "4"]
    assert sorted(seen) == [1, 1, 2]


def test_langchain_tools_in_an_executor(way):
    """Schema, checks and values are theirs; what only a graph has is refused."""

    @way.tool
    def search(query: str, limit: int = 3) -> dict:
        return {"query": query, "limit": limit}

    made = from_langchain(search, effect="read", timeout=5)
    assert (made.name, made.effect, made.timeout) == ("search", "read", 5)
    assert made.parameters["properties"]["query"] == {"title": "Query", "type": "string"}
    plan = [
        dagexec.Call("a", "search", {"query": "x"}),
        dagexec.Call("b", "add", {"a": dagexec.Ref("a", ("limit",)), "b": 1}),
        dagexec.Call("c", "splits", {"text": "a b"}),
        dagexec.Call("d", "breaks", {"kind": "tool"}),
    ]
    executor = Executor([made, *map(from_langchain, (add, splits, breaks))])
    report = executor.run_sync(plan)
    assert report.outputs == {"a": {"query": "x", "limit": 3}, "b": 4, "c": ["a", "b"]}
    assert isinstance(report["d"].error, ToolException)

    @tool
    def needs(state: Annotated[dict, InjectedState]) -> str:
        """Need a graph."""
        return ""

    with pytest.raises(ToolDefinitionError, match="give it to DagToolNode"):
        from_langchain(needs)


def test_dagexec_tools_in_langchain():
    """Both kinds can be called by LangChain alone."""

    @dagexec.tool
    def shout(text: str) -> str:
        """Shout.

        Args:
            text: What to shout.
        """
        return text.upper()

    made = to_langchain(shout)
    assert made.args["text"]["description"] == "What to shout."
    assert made.invoke({"text": "hello"}) == "HELLO"


def test_changes_to_a_tool_are_seen(way, state, contents):
    """The node keeps no copy of a tool: it may be configured later."""

    @tool
    def fails() -> str:
        """Fail."""
        raise ToolException("no")

    node = DagToolNode([fails], handle_tool_errors=True)
    way.run(node, state(("fails", {})))
    fails.handle_tool_error = "sorry"
    (message,) = way.run(node, state(("fails", {})))["messages"]
    assert (message.content, message.status) == ("sorry", "error")


def test_the_public_names():
    """Exactly these; a new one is a decision."""
    assert sorted(integration.__all__) == [
        *("DagToolNode", "FIRST_CALL", "dag_agent"),
        *("from_langchain", "numbered", "to_langchain"),
    ]
    assert planners.langchain.__all__ == ["bind", "instructions", "references", "widen"]


def test_without_the_extra_the_error_names_it():
    """One line, with the way out; and dagexec itself does without."""
    code = (
        "import sys; sys.modules['langgraph'] = None; import dagexec\n"
        "try:\n    import dagexec.integrations.langgraph\n"
        "except dagexec.MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "LangGraph is not installed: pip install 'dagexec[langgraph]'\n"
    code = "import sys, dagexec; print([n for n in sys.modules if n.startswith('lang')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
