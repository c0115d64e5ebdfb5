"""What the real providers refuse with a 400: a batch of calls that is not answered as it must be.

The texts are the providers' own where they are known (from public issues), else in their manner.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ._reply import API
from ._shapes import check_shapes, dicts, twice

__all__ = ["check_conversation"]

JSON = dict[str, Any]


def check_conversation(
    api: API, body: Mapping[str, Any], *, previous: Iterable[Mapping[str, Any]] = ()
) -> list[str]:
    """Return what is wrong with the tool calls and results in a request's body; [] if nothing is.

    - chat: each id of an assistant's `tool_calls` is answered by exactly one `tool` message
      directly after it; there are no others; what they hold is text.
    - responses: each call in `input` has exactly one output of its kind by `call_id`, after it;
      `previous` holds the items that `previous_response_id` stands for.
    - messages: each `tool_use` is answered by exactly one `tool_result` in the user message
      directly after it, results come first in it, and there are no others.

    And in each, what the API refuses in a single message, call or tool definition: names and ids
    that do not match its pattern, messages that say nothing, fields that it does not know.
    """
    shapes = check_shapes(api, body)
    if api == "responses":
        given: Any = body.get("input", [])
        items = [] if isinstance(given, str) else dicts(given)
        return [*shapes, *_check_responses([*(dict(item) for item in previous), *items])]
    check = _check_chat if api == "chat" else _check_messages
    return [*shapes, *check(dicts(body.get("messages", [])))]


# -- chat ------------------------------------------------------------------------------------------


def _check_chat(messages: list[JSON]) -> list[str]:
    problems: list[str] = []
    waiting: list[str] = []
    answered: list[str] = []
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            problems += _check_tool_message(at, message, waiting, answered)
            continue
        problems += _unanswered(waiting)
        waiting, answered = [], []
        if message.get("role") == "assistant" and message.get("tool_calls") is not None:
            waiting = [str(call.get("id")) for call in dicts(message["tool_calls"])]
            problems += _check_calls(at, message["tool_calls"], waiting)
    return problems + _unanswered(waiting)


def _unanswered(waiting: list[str]) -> list[str]:
    if not waiting:
        return []
    return [
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. The following tool_call_ids did not have response messages: "
        + ", ".join(waiting)
    ]


def _check_calls(at: int, calls: Any, ids: list[str]) -> list[str]:
    problems = [f"Duplicate value for 'tool_calls[].id' in messages[{at}]: {i}" for i in twice(ids)]
    if not calls:
        problems.append(f"[] is too short - 'messages.{at}.tool_calls'")
    for call in dicts(calls):
        inner = call.get(str(call.get("type")), {})
        text = inner.get("arguments", inner.get("input"))
        if not isinstance(text, str):
            problems.append(
                f"Invalid type for messages[{at}]: the arguments of a call are a string"
            )
        elif "arguments" in inner and not _is_object(text):
            problems.append(f"messages[{at}]: the arguments of a call are no JSON object")
    return problems


def _is_object(text: str) -> bool:
    """Whether a text is a JSON object: vLLM, llama.cpp, Ollama and others read it and refuse."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return isinstance(json.loads(text, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def _check_tool_message(
    at: int, message: JSON, waiting: list[str], answered: list[str]
) -> list[str]:
    problems: list[str] = []
    id_ = str(message.get("tool_call_id"))
    if id_ in waiting:
        waiting.remove(id_)
        answered.append(id_)
    elif id_ in answered:
        problems.append(f"Duplicate value for 'tool_call_id' of '{id_}' in messages[{at}].")
    else:
        problems.append(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
            f"message with 'tool_calls': messages[{at}] answers '{id_}'."
        )
    content = message.get("content")
    parts = dicts(content)
    if not isinstance(content, str) and (not parts or any(p.get("type") != "text" for p in parts)):
        problems.append(
            f"Invalid value for 'messages[{at}].content': a tool message holds text only."
        )
    return problems


# -- responses -------------------------------------------------------------------------------------

OUTPUT_OF = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
CALL_OF = {output: call for call, output in OUTPUT_OF.items()}
NAMES = {"function_call": "function call", "custom_tool_call": "custom tool call"}


def _check_responses(items: list[JSON]) -> list[str]:
    problems: list[str] = []
    calls: dict[tuple[str, str], int] = {}
    for item in items:
        kind, id_ = str(item.get("type")), str(item.get("call_id"))
        if kind in OUTPUT_OF:
            if (kind, id_) in calls:
                problems.append(f"Duplicate {NAMES[kind]} with call_id {id_}.")
            calls[kind, id_] = 0
        elif kind in CALL_OF:
            problems += _check_output(item, CALL_OF[kind], id_, calls)
    for (kind, id_), outputs in calls.items():
        if not outputs:
            problems.append(f"No tool output found for {NAMES[kind]} {id_}.")
    return problems


def _check_output(item: JSON, call: str, id_: str, calls: dict[tuple[str, str], int]) -> list[str]:
    problems: list[str] = []
    if (call, id_) not in calls:
        problems.append(f"No tool call found for {NAMES[call]} output with call_id {id_}.")
    else:
        calls[call, id_] += 1
        if calls[call, id_] > 1:
            problems.append(f"Duplicate {NAMES[call]} output with call_id {id_}.")
    output: Any = item.get("output")
    parts = dicts(output)
    if not isinstance(output, str) and (
        not parts or any(not str(part.get("type")).startswith("input_") for part in parts)
    ):
        problems.append(f"Invalid type for the output of {id_}: a string or a list of input parts.")
    return problems


# -- messages --------------------------------------------------------------------------------------


def _check_messages(messages: list[JSON]) -> list[str]:
    problems: list[str] = []
    waiting: list[str] = []
    seen: list[str] = []
    for at, message in enumerate(messages):
        blocks = dicts(message.get("content"))
        problems += _check_content(at, message, blocks)
        results = blocks if message.get("role") == "user" else []
        problems += _check_results(at, results, waiting)
        waiting = [str(b.get("id")) for b in blocks if b.get("type") == "tool_use"]
        seen += waiting
    if waiting:
        problems += _check_results(len(messages), [], waiting)
    for id_ in twice(seen):
        problems.append(f"messages: `tool_use` ids must be unique: {id_}")
    return problems


def _check_content(at: int, message: JSON, blocks: list[JSON]) -> list[str]:
    problems: list[str] = []
    if not message.get("content"):
        problems.append(f"messages.{at}: all messages must have non-empty content")
    for index, block in enumerate(blocks):
        if block.get("type") == "text" and not block.get("text"):
            problems.append("messages: text content blocks must be non-empty")
        if block.get("type") == "tool_use" and not isinstance(block.get("input"), dict):
            where = f"messages.{at}.content.{index}.tool_use.input"
            problems.append(f"{where}: Input should be a valid dictionary")
        if block.get("type") == "tool_result" and message.get("role") != "user":
            where = f"messages.{at}"
            problems.append(f"{where}: `tool_result` blocks can only be in `user` messages")
    return problems


def _check_results(at: int, blocks: list[JSON], waiting: list[str]) -> list[str]:
    """Compare the results in message `at` with the uses in the one before it."""
    problems: list[str] = []
    kinds = [block.get("type") == "tool_result" for block in blocks]
    if kinds != sorted(kinds, reverse=True):
        problems.append(f"messages.{at}: `tool_result` blocks must come first in the content")
    ids = [str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]
    problems += [
        f"messages.{at}: each `tool_use` must have a single result. Found multiple `tool_result` "
        f"blocks with id: {id_}"
        for id_ in twice(ids)
    ]
    problems += [
        f"messages.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id_}. Each "
        "`tool_result` block must have a corresponding `tool_use` block in the previous message."
        for id_ in dict.fromkeys(ids)
        if id_ not in waiting
    ]
    if missing := [id_ for id_ in waiting if id_ not in ids]:
        problems.append(
            f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks "
            f"immediately after: {', '.join(missing)}. Each `tool_use` block must have a "
            "corresponding `tool_result` block in the next message."
        )
    return problems
