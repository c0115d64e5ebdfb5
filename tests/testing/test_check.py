from __future__ import annotations

import pytest

from dagexec.testing import check_conversation


def chat_call(*ids):
    """Return an assistant message with calls."""
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": id, "type": "function", "function": function} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def chat_result(id, content="ok"):
    """Return a tool message."""
    return {"role": "tool", "tool_call_id": id, "content": content}


CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "text"}}
USER = {"role": "user", "content": "hello"}
CHAT_FAULTS = {
    "did not have response messages: b": [chat_call("a", "b"), chat_result("a")],
    "did not have response messages: a": [chat_call("a"), USER, chat_result("a")],
    "must be a response to a preceeding": [USER, chat_result("a")],
    "answers 'z'": [chat_call("a"), chat_result("a"), chat_result("z")],
    "Duplicate value for 'tool_call_id'": [chat_call("a"), chat_result("a"), chat_result("a")],
    "Duplicate value for 'tool_calls": [chat_call("a", "a"), chat_result("a"), chat_result("a")],
    "holds text only": [chat_call("a"), chat_result("a", [{"type": "image_url"}])],
    "messages[1].content": [chat_call("a"), chat_result("a", None)],
    "too short": [{"role": "assistant", "content": "x", "tool_calls": []}],
    "arguments of a call are a string": [
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}
            ],
        },
        chat_result("a"),
    ],
}


@pytest.mark.parametrize("fault", CHAT_FAULTS)
def test_chat_faults(fault):
    """Each fault in a chat is named in the API's manner."""
    problems = check_conversation("chat", {"messages": CHAT_FAULTS[fault]})
    assert any(fault in problem for problem in problems), problems


def test_a_good_chat():
    """Results in any order, lists of text, custom calls and a second round are right."""
    custom = {"role": "assistant", "tool_calls": [CUSTOM]}
    parts = [{"type": "text", "text": "ok"}]
    messages = [USER, chat_call("a", "b"), chat_result("b", parts), chat_result("a", ""), custom]
    messages += [chat_result("c"), chat_call("d"), chat_result("d"), USER]
    assert check_conversation("chat", {"messages": messages}) == []


def item(id, kind="function_call"):
    """Return a call's item."""
    return {"type": kind, "call_id": id, "name": "f", "arguments": "{}"}


def output(id, value="ok", kind="function_call_output"):
    """Return an output's item."""
    return {"type": kind, "call_id": id, "output": value}


RESPONSES_FAULTS = {
    "No tool output found for function call b": [item("a"), item("b"), output("a")],
    "No tool call found for function call output with call_id z": [
        item("a"),
        output("a"),
        output("z"),
    ],
    "No tool call found": [output("a"), item("a")],
    "Duplicate function call output": [item("a"), output("a"), output("a")],
    "Duplicate function call with": [item("a"), item("a"), output("a")],
    "No tool output found for custom tool call a": [item("a", "custom_tool_call"), output("a")],
    "Invalid type for the output": [item("a"), output("a", {"x": 1})],
}


@pytest.mark.parametrize("fault", RESPONSES_FAULTS)
def test_responses_faults(fault):
    """Each fault in the items is named in the API's manner."""
    problems = check_conversation("responses", {"input": RESPONSES_FAULTS[fault]})
    assert any(fault in problem for problem in problems), problems


def test_good_responses():
    """Texts, parts, custom calls and outputs of an earlier response are right."""
    custom = [item("c", "custom_tool_call"), output("c", kind="custom_tool_call_output")]
    parts = [{"type": "input_image", "image_url": "data:"}]
    good = [USER, item("a"), {"type": "reasoning"}, item("b"), output("b"), output("a", parts)]
    assert check_conversation("responses", {"input": [*good, *custom]}) == []
    assert check_conversation("responses", {"input": "hello"}) == []
    body = {"input": [output("x")], "previous_response_id": "resp_1"}
    assert check_conversation("responses", body, previous=[item("x")]) == []


def uses(*ids):
    """Return an assistant message with tool uses."""
    content = [{"type": "tool_use", "id": id, "name": "f", "input": {}} for id in ids]
    return {"role": "assistant", "content": content}


def results(*ids, before=(), after=()):
    """Return a user message with results and other blocks round them."""
    found = [{"type": "tool_result", "tool_use_id": id, "content": "ok"} for id in ids]
    return {"role": "user", "content": [*before, *found, *after]}


TEXT = {"type": "text", "text": "x"}
MESSAGES_FAULTS = {
    "immediately after: b.": [uses("a", "b"), results("a")],
    "immediately after: a.": [uses("a"), USER, results("a")],
    "messages.0: `tool_use` ids were found": [uses("a")],
    "unexpected `tool_use_id`": [uses("a"), results("a", "z")],
    "result` blocks: a.": [USER, results("a")],
    "result` blocks: b.": [uses("a", "b"), results("a"), results("b")],
    "Found multiple": [uses("a"), results("a", "a")],
    "must come first": [uses("a"), results("a", before=[TEXT])],
    "must be unique": [uses("a"), results("a"), uses("a"), results("a")],
    "non-empty content": [{"role": "user", "content": []}],
    "text content blocks must be non-empty": [{"role": "user", "content": [{**TEXT, "text": ""}]}],
    "valid dictionary": [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "{}"}],
        },
        results("a"),
    ],
    "only be in `user`": [{**results("a"), "role": "assistant"}],
}


@pytest.mark.parametrize("fault", MESSAGES_FAULTS)
def test_messages_faults(fault):
    """Each fault in the messages is named in the API's manner."""
    problems = check_conversation("messages", {"messages": MESSAGES_FAULTS[fault]})
    assert any(fault in problem for problem in problems), problems


def test_good_messages():
    """Results in any order with text behind them, and a second round, are right."""
    messages = [USER, uses("a", "b"), results("b", "a", after=[TEXT]), uses("c"), results("c")]
    assert check_conversation("messages", {"messages": messages}) == []
