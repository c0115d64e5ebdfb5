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
    body = "arguments" if kind == "function_call" else "input"
    return {"type": kind, "call_id": id, "name": "f", body: "{}"}


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


def chat_named(name, id="a"):
    """Return an assistant message with a call of this name and id."""
    function = {"name": name, "arguments": "{}"}
    call = {"id": id, "type": "function", "function": function}
    return [{"role": "assistant", "tool_calls": [call]}, chat_result(id)]


def tool_named(*names):
    """Return definitions of tools."""
    return [{"type": "function", "function": {"name": name}} for name in names]


SAID = {"role": "assistant", "content": [{"type": "text", "text": "So "}]}
THOUGHT = {"type": "thinking", "thinking": "x", "signature": "s"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}
SHAPES = [
    ("chat", {"messages": []}, "too short - 'messages'"),
    ("chat", {"messages": [USER], "tools": []}, "too short - 'tools'"),
    ("chat", {"messages": [USER], "tools": tool_named("a", "a")}, "must be unique: a"),
    ("chat", {"messages": [USER], "tools": tool_named("a b")}, "does not match pattern"),
    ("chat", {"messages": [{"role": "bot", "content": "x"}]}, "Invalid value: 'bot'"),
    ("chat", {"messages": [{"role": "assistant", "content": None}]}, "got null"),
    ("chat", {"messages": [{"role": "user"}]}, "got null"),
    ("chat", {"messages": chat_named("multi_tool_use.parallel")}, "does not match pattern"),
    ("chat", {"messages": chat_named(None)}, "does not match pattern"),
    ("chat", {"messages": chat_named("f", "")}, "Missing required parameter"),
    ("chat", {"messages": chat_named("f", "x" * 41)}, "string too long"),
    (
        "chat",
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "x"}]}]},
        "Invalid value: 'x'",
    ),
    ("responses", {"input": []}, "too short - 'input'"),
    ("responses", {"input": [{**item("a"), "id": "call_a"}, output("a")]}, "begins with 'fc'"),
    ("responses", {"input": [{**item("a"), "status": "x"}, output("a")]}, "Invalid value: 'x'"),
    ("responses", {"input": [{**item("a"), "arguments": {}}, output("a")]}, "expected a string"),
    ("responses", {"input": [{**item("a"), "name": "f()"}, output("a")]}, "match pattern"),
    ("responses", {"input": [item(""), output("")]}, "1 to 64 characters"),
    ("responses", {"input": [USER, REASONING]}, "without its required following item"),
    ("responses", {"input": [REASONING, USER]}, "without its required following item"),
    ("responses", {"input": [{"role": "user"}]}, "Missing required parameter"),
    ("responses", {"input": [{**SAID, "type": "message"}]}, "Supported values are: output_text"),
    ("messages", {"messages": [{"role": "system", "content": "x"}]}, 'Unexpected role "system"'),
    ("messages", {"messages": [USER, {**SAID, "content": [THOUGHT]}]}, "cannot be `thinking`"),
    ("messages", {"messages": [USER, SAID]}, "trailing whitespace"),
    ("messages", {"messages": [{**SAID, "content": "x"}]}, "first message must use"),
    ("messages", {"messages": [{"role": "user", "content": [{**TEXT, "text": " "}]}]}, "non-white"),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{**TEXT, "parsed": 1}]}]},
        "text.parsed: Extra inputs",
    ),
    (
        "messages",
        {"messages": [USER, {"role": "assistant", "content": [{"type": "thinking"}, TEXT]}]},
        "signature: Field required",
    ),
    ("messages", {"messages": [USER, uses("a b"), results("a b")]}, "tool_use.id"),
    (
        "messages",
        {"messages": [USER, uses("a"), {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "", "is_error": True}]}]},
        "cannot be empty if `is_error`",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("api", "body", "fault"), SHAPES)
def test_faults_in_single_messages(api, body, fault):
    """Each is named in the API's manner."""
    problems = check_conversation(api, body)
    assert any(fault in problem for problem in problems), problems


def test_good_shapes():
    """What the providers themselves send may go back."""
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    said["content"] = [{"type": "output_text", "text": "x", "annotations": []}]
    call = {**item("a"), "id": "fc_1", "status": "completed"}
    items = [USER, REASONING, call, output("a"), {**REASONING, "id": "rs_2"}, said]
    assert check_conversation("responses", {"input": items, "tools": [{"name": "f"}]}) == []
    refusal = {"role": "assistant", "content": None, "refusal": "no"}
    body = {"messages": [USER, refusal, USER], "tools": tool_named("a", "b-c_D9")}
    assert check_conversation("chat", body) == []
    blocks = [THOUGHT, TEXT, {"type": "tool_use", "id": "a", "name": "f", "input": {}}]
    talk = [USER, {"role": "assistant", "content": blocks}, results("a")]
    assert check_conversation("messages", {"messages": talk, "tools": []}) == []
