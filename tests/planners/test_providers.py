"""What is particular to one provider."""

from __future__ import annotations

import subprocess
import sys

import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.responses import Response

from dagexec import Done, Failed, tool
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner


@tool(effect="read")
async def run_code(code: str, timeout: int = 3) -> str:
    """Run."""
    return code


@tool(effect="read")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


TOOLS = [run_code, add]
CUSTOM = {"id": "call_c", "type": "custom", "custom": {"name": "run_code", "input": "print('$1')"}}
FUNCTION = {
    "id": "call_f",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
}


def test_import_is_light():
    """No planner module imports an SDK by itself."""
    code = (
        "import sys, planners, planners.openai, planners.anthropic;"
        "print([m for m in ('openai', 'anthropic', 'httpx2') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=".")
    assert done.stdout.strip() == "[]"


def test_sdk_objects(wires):
    """A dict becomes the object that the SDK would have made of it."""
    chat, responses, messages = wires["chat"], wires["responses"], wires["messages"]
    completion = ChatPlanner.response(chat.reply(("add", {"a": 1, "b": 2})))
    assert isinstance(completion, ChatCompletion)
    assert isinstance(completion.choices[0], Choice)
    assert isinstance(completion.choices[0].message, ChatCompletionMessage)
    choice = chat.reply(("add", {}))["choices"][0]
    assert isinstance(ChatPlanner.response(choice), Choice)
    assert isinstance(ChatPlanner.response(choice["message"]), ChatCompletionMessage)
    assert isinstance(ResponsesPlanner.response(responses.reply(("add", {}))), Response)
    assert isinstance(MessagesPlanner.response(messages.reply(("add", {}))), Message)


@pytest.mark.parametrize("sdk", [True, False])
def test_chat_takes_completion_choice_and_message(wires, sdk):
    """All three hold the same calls."""
    completion = wires["chat"].reply(("add", {"a": 1, "b": 2}))
    for part in (completion, completion["choices"][0], completion["choices"][0]["message"]):
        response = ChatPlanner.response(part) if sdk else part
        assert ChatPlanner.recognises(response)
        assert [call.tool for call in ChatPlanner(TOOLS).plan(response).calls] == ["add"]
    assert len(ChatPlanner(TOOLS).plan({**completion, "choices": []})) == 0


@pytest.mark.parametrize("sdk", [True, False])
def test_chat_custom_calls(sdk):
    """A custom call's text goes to the text parameter as it is; the answer is a tool message."""
    message = {"role": "assistant", "content": None, "tool_calls": [CUSTOM, FUNCTION]}
    planner = ChatPlanner(TOOLS)
    plan = planner.plan(ChatPlanner.response(message) if sdk else message)
    assert plan["1"].args == {"code": "print('$1')"}
    assert plan["2"].args == {"a": 1, "b": 2}
    answers = planner.results({"1": Done("x"), "2": Done(3)})
    assert answers == [
        {"role": "tool", "tool_call_id": "call_c", "content": "[call 1]\nx"},
        {"role": "tool", "tool_call_id": "call_f", "content": "[call 2]\n3"},
    ]


def test_a_custom_call_of_a_tool_without_text():
    """A tool that takes no text says so."""
    call = {"id": "c", "type": "custom", "custom": {"name": "add", "input": "1"}}
    plan = ChatPlanner(TOOLS).plan({"role": "assistant", "tool_calls": [call]})
    assert "takes no text" in plan["1"].problem


@pytest.mark.parametrize("sdk", [True, False])
def test_chat_legacy_function_call(sdk):
    """The deprecated form is answered in its own way."""
    legacy = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    message = {"role": "assistant", "content": None, "function_call": legacy}
    planner = ChatPlanner(TOOLS, references=False)
    plan = planner.plan(ChatPlanner.response(message) if sdk else message)
    assert plan["1"].args == {"a": 1, "b": 2}
    assert planner.results({"1": Done(3)}) == [{"role": "function", "name": "add", "content": "3"}]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_chat_reasons_that_cut_off(wires, reason):
    """Both reasons forbid to run the calls; `stop` does not, as forced calls end with it."""
    reply = wires["chat"].reply(("add", {"a": 1, "b": 2}))
    reply["choices"][0]["finish_reason"] = reason
    assert reason in ChatPlanner(TOOLS).plan(reply)["1"].problem
    reply["choices"][0]["finish_reason"] = "stop"
    assert ChatPlanner(TOOLS).plan(reply)["1"].problem is None


ITEMS = [
    {"type": "reasoning", "id": "rs", "summary": []},
    {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search"}},
    {"type": "mcp_call", "id": "m", "name": "add", "arguments": "{}", "server_label": "s"},
    {"type": "code_interpreter_call", "id": "ci", "code": "1", "status": "completed"},
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "add",
        "arguments": '{"a": 1, "b": 2}',
        "status": "completed",
        "namespace": "math",
        "caller": {"type": "program", "caller_id": "prog_1"},
    },
    {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "call_2",
        "name": "run_code",
        "input": "x",
    },
    {
        "type": "function_call",
        "id": "fc_3",
        "call_id": "call_3",
        "name": "add",
        "arguments": '{"a": 1',
        "status": "incomplete",
    },
]


@pytest.mark.parametrize("sdk", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_responses_items(sdk, bare):
    """Paired by call_id, echoed caller and namespace, each output of its kind."""
    payload = ITEMS if bare else {"object": "response", "status": "completed", "output": ITEMS}
    response = ResponsesPlanner.response(payload) if sdk else payload
    assert ResponsesPlanner.recognises(response)
    planner = ResponsesPlanner(TOOLS, references=False)
    plan = planner.plan(response)
    assert [call.tool for call in plan.calls] == ["add", "run_code", "add"]
    assert [call.problem is None for call in plan.calls] == [True, True, False]
    outcomes = {"1": Done(3), "2": Done("y"), "3": Failed(ValueError(plan["3"].problem))}
    first, second, third = planner.results(outcomes)
    assert first == {
        "type": "function_call_output",
        "call_id": "call_1",
        "output": "3",
        "namespace": "math",
        "caller": {"type": "program", "caller_id": "prog_1"},
    }
    assert second == {"type": "custom_tool_call_output", "call_id": "call_2", "output": "y"}
    assert third["call_id"] == "call_3"
    assert "cut off (status incomplete)" in third["output"]


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled", "in_progress"])
def test_responses_status(wires, status):
    """A response that is not complete is not run."""
    reply = {**wires["responses"].reply(("add", {"a": 1, "b": 2})), "status": status}
    assert status in ResponsesPlanner(TOOLS).plan(reply)["1"].problem


BLOCKS = [
    {"type": "thinking", "thinking": "…", "signature": "s"},
    {"type": "text", "text": "Let me see."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "add",
        "input": {"a": 1, "b": 2},
        "toolset_name": "math",
    },
    {"type": "tool_use", "id": "toolu_2", "name": "add", "input": {}},
]


@pytest.mark.parametrize("sdk", [True, False])
def test_messages_blocks(sdk):
    """One user message with results only; errors are marked; the server's own calls left alone."""
    payload = {"type": "message", "role": "assistant", "content": BLOCKS, "stop_reason": "tool_use"}
    planner = MessagesPlanner(TOOLS, references=False)
    plan = planner.plan(MessagesPlanner.response(payload) if sdk else payload)
    outcomes = {"1": Done(3), "2": Failed(ValueError(plan["2"].problem))}
    (message,) = planner.results(outcomes)
    done, failed = message["content"]
    assert message["role"] == "user"
    assert done == {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": "3",
        "toolset_name": "math",
    }
    assert (failed["tool_use_id"], failed["is_error"]) == ("toolu_2", True)


@pytest.mark.parametrize(
    ("reason", "runs"),
    [
        ("tool_use", True),
        (None, True),
        ("max_tokens", False),
        ("refusal", False),
        ("model_context_window_exceeded", False),
        ("stop_sequence", False),
        ("end_turn", True),
        ("something_new", False),
    ],
)
def test_messages_stop_reasons(wires, reason, runs):
    """Calls run only when the message stopped for them; the others are answered all the same."""
    planner = MessagesPlanner(TOOLS)
    reply = {**wires["messages"].reply(("add", {"a": 1, "b": 2})), "stop_reason": reason}
    problem = planner.plan(reply)["1"].problem
    assert (problem is None) is runs
    assert runs or reason in problem
    assert len(planner.close_out()[0]["content"]) == 1


@pytest.mark.parametrize("reason", ["pause_turn", "compaction"])
def test_messages_turns_that_go_on(wires, reason):
    """A paused turn is sent back as it is: nothing to run and nothing to answer."""
    planner = MessagesPlanner(TOOLS)
    reply = {**wires["messages"].reply(("add", {"a": 1, "b": 2})), "stop_reason": reason}
    assert len(planner.plan(reply)) == 0
    assert planner.results({}) == []
