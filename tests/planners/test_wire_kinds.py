"""Replies that no specification tells of: who made a call, what a number means, who must answer."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import jsonschema
import pytest
from anthropic.types import ToolParam
from openai.types.responses import FunctionToolParam
from pydantic import TypeAdapter

from dagexec import Approve, DagexecError, Done, Executor, Tool, tool
from dagexec.journal import MemoryJournal
from dagexec.testing import Reply, ScriptedModel, check_conversation
from planners import Dialogue, solve
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner, mcp_approval

CODE = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}


@tool(effect="read")
async def price(item: str) -> int:
    """Look up a price."""
    return {"a": 100, "b": 7}[item]


@tool
async def pay(amount: int, note: str = "") -> str:
    """Pay."""
    return f"{amount} paid: {note}"


@tool
async def run(commands: list[str]) -> str:
    """Run commands."""
    return " and ".join(commands)


TOOLS = [price, pay, run]


def use(id, name, args, **more):
    """Return a block of a call."""
    return {"type": "tool_use", "id": id, "name": name, "input": args, **more}


def message(*blocks, **more):
    """Return a message that stopped for calls."""
    return {"role": "assistant", "content": list(blocks), "stop_reason": "tool_use", **more}


def response(*output, status="completed"):
    """Return a response."""
    return {"object": "response", "status": status, "output": list(output)}


def item(call_id, name, arguments, **more):
    """Return a function call of the Responses API."""
    head = {"type": "function_call", "call_id": call_id, "name": name}
    return {**head, "arguments": json.dumps(arguments), **more}


async def answered(planner, reply, tools=TOOLS):
    """Return what goes back for a reply, and the report."""
    report = await Executor(tools).run(planner.plan(reply))
    return planner.results(report), report


@pytest.mark.anyio
async def test_calls_from_code_carry_data_and_get_json():
    """What looks like a reference stays what it is, and a program reads the answer."""
    planner = MessagesPlanner(TOOLS, limit=5)
    blocks = [
        use("1", "price", {"item": "a"}),
        use("2", "pay", {"amount": 1, "note": {"$template": "${1}"}}, caller=CODE),
        use("3", "pay", {"amount": 1, "note": "<result of call 1>"}, caller=CODE),
        use("4", "price", {"item": "a"}, caller=CODE),
    ]
    ((back,), report) = await answered(planner, message(*blocks))
    texts = {block["tool_use_id"]: block["content"] for block in back["content"]}
    assert texts["1"].startswith("[call 1]")
    assert "error" in json.loads(texts["2"])  # an object is no text, and nothing filled it
    assert json.loads(texts["3"]) == "1 paid: <result of call 1>"
    assert texts["4"] == "100"
    assert report["2"].status == "failed"
    program = {"type": "program", "caller_id": "p"}
    planner = ResponsesPlanner(TOOLS)
    calls = [item("1", "price", {"item": "b"}), item("2", "price", {"item": "x"}, caller=program)]
    (first, second), _ = await answered(planner, response(*calls))
    assert first["output"] == "[call 1]\n7"
    assert second["caller"] == program
    assert list(json.loads(second["output"])) == ["error"]


@pytest.mark.anyio
async def test_what_code_gets_is_strict_json():
    """NaN and the infinities are no JSON, and a strict reader would refuse the whole answer."""

    @tool(effect="read")
    async def measured(as_text: bool) -> object:
        """Measure."""
        found = {"mean": math.nan, "most": [math.inf, 1.5]}
        return json.dumps(found) if as_text else found

    blocks = [
        use("1", "measured", {"as_text": False}, caller=CODE),
        use("2", "measured", {"as_text": True}, caller=CODE),
    ]
    ((back,), _) = await answered(MessagesPlanner([measured]), message(*blocks), [measured])

    def refuse(name):
        raise AssertionError(name)

    first, second = (json.loads(each["content"], parse_constant=refuse) for each in back["content"])
    assert first == {"mean": None, "most": [None, 1.5]}
    assert json.loads(second)["most"] == [math.inf, 1.5]  # a text stays the text that it is


def test_the_container_of_code_is_carried_on():
    """Also through JSON; without it the next request is refused."""
    talk = Dialogue(MessagesPlanner(TOOLS))
    talk.say("Go.")
    reply = message(use("1", "price", {"item": "a"}, caller=CODE), container={"id": "c_1"})
    talk.keep(reply, None)
    assert talk.carried == {"container": "c_1"}
    assert Dialogue.from_json(talk.to_json(), MessagesPlanner(TOOLS)).carried == talk.carried


@pytest.mark.parametrize(
    "shortened",
    [
        {"content": [{"type": "compaction", "content": "so far"}]},
        {"context_management": {"applied_edits": [{"type": "clear_tool_uses"}]}},
    ],
)
@pytest.mark.anyio
async def test_a_number_that_can_be_read_in_two_ways_is_refused(shortened):
    """Behind a compaction the model counts from 1 again, and its 1 is not the first call."""
    planner = MessagesPlanner(TOOLS)
    await answered(planner, message(use("1", "price", {"item": "a"})))
    calls = [use("2", "price", {"item": "b"}), use("3", "pay", {"amount": {"$ref": "1"}})]
    reply = message(*shortened.get("content", ()), *calls, **{**shortened, "content": ()})
    reply["content"] = [*shortened.get("content", ()), *calls]
    plan = planner.plan(reply)
    assert "not clear which call 1 is" in plan["3"].problem
    assert "your next call is call 4" in planner.instructions
    planner.close_out()
    later = planner.plan(message(use("4", "pay", {"amount": {"$ref": "2"}})))
    assert "not clear" not in (later["4"].problem or "")


@pytest.mark.anyio
async def test_a_trimmed_history_hides_its_numbers():
    """The model is told the next one, and what it cannot see it cannot refer to."""
    planner = ChatPlanner(TOOLS)
    talk = Dialogue(planner)
    talk.say("Go.")
    call = {"id": "c", "type": "function", "function": {"name": "price"}}
    call["function"]["arguments"] = '{"item": "a"}'
    reply = {"choices": [{"message": {"role": "assistant", "tool_calls": [call]}}]}
    report = await Executor(TOOLS).run(planner.plan(reply))
    talk.keep(reply, report)
    talk.look(talk.messages)
    assert not planner.calls.lost_count
    talk.messages[:] = [{"role": "user", "content": "Pay."}]
    talk.look(talk.messages)
    assert "call 2" in talk.instructions
    call["function"] = {"name": "pay", "arguments": '{"amount": {"$ref": "1"}}'}
    assert "not clear" in planner.plan(reply)["2"].problem


def test_numbers_go_on_behind_messages_from_elsewhere():
    """They have calls with numbers already."""
    told = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "z", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "z", "content": "[call 3]\n100"},
    ]
    talk = Dialogue(ChatPlanner(TOOLS), messages=told)
    call = {"id": "c", "function": {"name": "pay", "arguments": '{"amount": {"$ref": "3"}}'}}
    plan = talk.planner.plan({"message": {"role": "assistant", "tool_calls": [call]}})
    assert "no result to refer to" in plan["4"].problem


SHELL = {"type": "shell_call", "id": "sh", "call_id": "s1", "status": "completed"}
SHELL["action"] = {"commands": ["ls", "pwd"], "timeout_ms": 5}


@pytest.mark.anyio
async def test_items_that_the_client_must_answer():
    """A tool takes them; without one the error names the item."""
    planner = ResponsesPlanner(TOOLS, handles={"shell_call": "run"})
    assert "run" not in [each["name"] for each in planner.tools]
    reply = response(SHELL, item("c", "price", {"item": "a"}))
    (shell, other), _ = await answered(planner, reply)
    outcome = {"type": "exit", "exit_code": 0}
    assert shell["type"] == "shell_call_output"
    assert shell["output"] == [{"stdout": "ls and pwd", "stderr": "", "outcome": outcome}]
    assert other["output"] == "[call 2]\n100"
    with pytest.raises(DagexecError, match="shell_call"):
        ResponsesPlanner(TOOLS).plan(reply)
    with pytest.raises(DagexecError, match="handles"):
        ResponsesPlanner(TOOLS, handles={"shell_call": "nobody"})
    done = {"type": "shell_call_output", "call_id": "s1", "output": []}
    assert len(ResponsesPlanner(TOOLS).plan(response(SHELL, done))) == 0  # the server ran it


@pytest.mark.anyio
async def test_an_mcp_approval_waits_for_a_person():
    """As any call does that needs one."""
    request = {"type": "mcp_approval_request", "id": "m1", "server_label": "crm", "name": "delete"}
    tools = [*TOOLS, mcp_approval]
    planner = ResponsesPlanner(tools)
    executor = Executor(tools, journal=MemoryJournal())
    report = await executor.run(planner.plan(response({**request, "arguments": "{}"})), run_id="r")
    assert report["1"].status == "pending"
    report = await executor.resume("r", answers={"1": Approve()})
    head = {"type": "mcp_approval_response", "approval_request_id": "m1"}
    assert planner.results(report) == [{**head, "approve": True}]
    with pytest.raises(DagexecError, match="mcp_approval_request"):
        ResponsesPlanner(TOOLS).plan(response(request))


def test_two_namespaces_are_two_tools():
    """With one tool for both, the second is refused."""
    calls = [item(str(n), "price", {"item": "a"}, namespace=ns) for n, ns in enumerate("xy")]
    plan = ResponsesPlanner(TOOLS).plan(response(*calls))
    assert plan["1"].problem is None
    assert "two namespaces" in plan["2"].problem

    @tool(name="y__price", effect="read")
    async def other(item: str) -> int:
        """Another."""
        return 1

    plan = ResponsesPlanner([*TOOLS, other]).plan(response(*calls))
    assert [call.tool for call in plan] == ["price", "y__price"]


TEXTS = [
    '<tool_call>\n{"name": "price", "arguments": {"item": "a"}}\n</tool_call>',
    '[TOOL_CALLS] [{"name": "price", "arguments": {"item": "a"}}]',
    '[TOOL_CALLS]price{"item": "a"}',
    '<function=price>{"item": "a"}</function>',
    "<tool_call>\n<function=price>\n<parameter=item>\na\n</parameter>\n</function>\n</tool_call>",
    '[price(item="a")]',
    '```json\n{"name": "price", "parameters": {"item": "a"}}\n```',
]


@pytest.mark.anyio
@pytest.mark.parametrize("text", TEXTS)
async def test_calls_that_came_as_text(text, caplog):
    """`text_calls=True` runs them; else the status and a warning say what they look like."""
    model = ScriptedModel([text, "Done."])
    common = {"client": model.openai(), "model": "m", "executor": Executor(TOOLS)}
    answer = await solve("x", planner=ChatPlanner(TOOLS), **common)
    assert (answer.status, answer.ok) == ("text_calls", False)
    assert "text_calls=True" in caplog.text
    model = ScriptedModel([text, "Done."])
    common["client"] = model.openai()
    answer = await solve("x", planner=ChatPlanner(TOOLS, text_calls=True), **common)
    assert answer == "Done."
    assert answer.reports[0]["1"] == Done(100, **_times(answer.reports[0]["1"]))
    assert answer.messages[-2] == {"role": "user", "content": "[call 1]\n100"}
    assert check_conversation("chat", {"messages": answer.messages}) == []


def _times(outcome):
    names = ("attempts", "started", "ended", "queued", "form")
    return {name: getattr(outcome, name) for name in names if hasattr(outcome, name)}


@pytest.mark.parametrize("text", ["[1, 2]", '{"name": "nobody", "arguments": {}}', "{}", "[]", "["])
def test_other_texts_are_answers(text):
    """JSON without a tool's name, or of a tool that is not there."""
    reply = {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
    planner = ChatPlanner(TOOLS, text_calls=True)
    assert len(planner.plan(reply)) == 0
    assert not planner.looks_like_calls(reply)


def test_reasoning_comes_back_where_the_server_keeps_none():
    """`store=False` needs it asked for."""
    api = ResponsesPlanner.api
    sent = api.ready(
        {"store": False, "input": [{"type": "reasoning", "id": "r"}, {"role": "user"}]}
    )
    assert sent["include"] == ["reasoning.encrypted_content"]
    assert sent["input"] == [{"role": "user"}]
    assert api.ready({"input": []}) == {"input": []}


def _delta(index, text, kind="delta"):
    field = "delta" if kind == "delta" else "arguments"
    name = f"response.function_call_arguments.{kind}"
    return {"type": name, "output_index": index, field: text}


@pytest.mark.anyio
@pytest.mark.parametrize("told", ["arguments.done", "item.done", "completed"])
async def test_a_read_starts_on_what_the_next_event_says_of_it(told):
    """Its arguments looked complete; what the API says of them is another thing, and counts."""
    began = []

    @tool(effect="read")
    async def look(item: str) -> str:
        """Look."""
        began.append(item)
        return item

    done = item("c1", "look", {"item": "Rome"}, id="fc_1", status="completed")
    whole = response(done)
    events = [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**done, "arguments": ""},
        },
        _delta(0, '{"item": "R"}'),
        _delta(0, done["arguments"], "done"),
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": whole},
    ]
    left = {"arguments.done": events, "item.done": [*events[:2], *events[3:]]}
    planner = ResponsesPlanner([look])
    stream = planner.stream(left.get(told, [*events[:2], events[4]]))
    report = await Executor([look]).run(stream)
    assert began == ["Rome"]
    assert stream.broken is None
    assert report["1"].value == "Rome"
    (back,) = planner.results(report)
    assert back["output"] == "[call 1]\nRome"


@dataclass
class Quote:
    """What a tool returns."""

    item: str
    price: float


@tool(effect="read")
async def quote(item: str) -> Quote:
    """Look up a quote."""
    return Quote(item, 2.5)


@tool(effect="read")
def said(item: str) -> str:
    """Say something."""
    return item


@tool(effect="read")
def odd(item: str) -> Iterator[threading.Thread]:
    """Return what JSON has no form for."""
    raise NotImplementedError


@pytest.mark.anyio
async def test_code_is_told_what_tools_return():
    """Only where code may call them, in the API that has a field for it; answers are as told."""
    tools = [quote, said, odd, Tool.from_schema("far", None, len)]
    assert "output_schema" not in str(ResponsesPlanner(tools).tools)
    callers = ("direct", "programmatic")
    planner = ResponsesPlanner(tools, callers=callers)
    first, *others = planner.tools
    assert first["allowed_callers"] == list(callers)
    assert first["output_schema"]["properties"].keys() == {"item", "price"}
    assert not any("output_schema" in each for each in others)
    TypeAdapter(FunctionToolParam).validate_python(first, strict=True)
    reply = response(
        item("1", "quote", {"item": "a"}, caller={"type": "program", "caller_id": "p"})
    )
    (back,), _ = await answered(planner, reply, tools)
    check = jsonschema.Draft202012Validator(first["output_schema"])
    check.validate(json.loads(back["output"]))
    (own, *_) = MessagesPlanner(tools, callers="code_execution_20260120").tools
    assert own["allowed_callers"] == ["code_execution_20260120"]
    TypeAdapter(ToolParam).validate_python(own, strict=True)
    with pytest.raises(DagexecError, match="callers"):
        ChatPlanner(tools, callers=callers)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("planner", "client", "word"),
    [
        (ChatPlanner, "openai", "length"),
        (ResponsesPlanner, "openai", "max_output_tokens"),
        (MessagesPlanner, "anthropic", "max_tokens"),
    ],
)
async def test_a_bad_end_says_the_providers_word(planner, client, word, stream):
    """In `reason`, and in the error of who wants one."""
    model = ScriptedModel([Reply("Hm", truncated=True)])
    answer = await solve(
        "Go.",
        planner=planner(TOOLS),
        client=getattr(model, client)(),
        model="m",
        executor=Executor(TOOLS),
        stream=stream,
    )
    assert (answer.status, answer.reason) == ("cut_off", word)
    with pytest.raises(DagexecError, match=f"cut off .*{word}.*: give it more tokens"):
        answer.raise_for_status()


def _added(index, body):
    return {"type": "response.output_item.added", "output_index": index, "item": body}


@pytest.mark.anyio
@pytest.mark.parametrize("odd", ["one index", "no index", "another id"])
async def test_writes_behind_an_anomaly_take_the_last_word(odd):
    """What the whole response says of them."""
    one = item("c1", "pay", {"amount": 1}, id="fc_1", status="completed")
    two = item("c2", "pay", {"amount": 2}, id="fc_2", status="completed")
    begun = [{**each, "arguments": ""} for each in (one, two)]
    events = {
        "one index": [
            _added(0, begun[0]),
            _added(0, begun[1]),
            _delta(0, '{"amount": '),
            _delta(0, '{"amount": 2}'),
            _delta(0, "1}"),
        ],
        "no index": [_added(0, begun[0]), _added(1, begun[1]), _delta(7, '{"amount": 3}')],
        "another id": [
            _added(0, begun[0]),
            {**_delta(0, '{"amount": 1}'), "item_id": "other"},
            {
                "type": "response.output_item.done",
                "output_index": 0,
                "item": {**one, "id": "fc_x"},
            },
            _added(1, begun[1]),
        ],
    }[odd]
    end = {"type": "response.completed", "response": response(one, two)}
    planner = ResponsesPlanner(TOOLS)
    stream = planner.stream([*events, end])
    report = await Executor(TOOLS).run(stream)
    assert [report[id_].value for id_ in "12"] == ["1 paid: ", "2 paid: "]
    assert [each["call_id"] for each in planner.results(report)] == ["c1", "c2"]


def _chunk(reason=None, **choice):
    choice = {"index": 0, "finish_reason": reason, **choice}
    return {"object": "chat.completion.chunk", "choices": [choice]}


@pytest.mark.anyio
@pytest.mark.parametrize("odd", ["a whole message", "an index as text", "one call, no list"])
async def test_chunks_that_hold_calls_in_another_form(odd):
    """What can be understood runs."""
    function = {"name": "pay", "arguments": '{"amount": 1}'}
    call = {"id": "c1", "type": "function", "function": function}
    cut = {**call, "function": {**function, "arguments": '{"amount"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    events = {
        "a whole message": [
            _chunk(delta={"role": "assistant", "content": None}),
            _chunk("tool_calls", message={"role": "assistant", "tool_calls": [call]}),
        ],
        "an index as text": [
            _chunk(delta={"tool_calls": [{"index": "0", **cut}]}),
            _chunk("tool_calls", delta={"tool_calls": [rest]}),
        ],
        "one call, no list": [_chunk("tool_calls", delta={"tool_calls": {"index": 0, **call}})],
    }[odd]
    planner = ChatPlanner(TOOLS)
    report = await Executor(TOOLS).run(planner.stream(events))
    assert [each.value for each in report.values()] == ["1 paid: "]
    (back,) = planner.results(report)
    assert back["tool_call_id"] == "c1"
