"""What the real providers refuse in single messages, calls and definitions, with a 400.

The texts are the providers' own where they are known (from public issues and documentation), else
in their manner.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from ._reply import API

JSON = dict[str, Any]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_USE: Final = re.compile(r"[a-zA-Z0-9_-]+")
_CHAT_ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")
_CHAT_SAYS: Final = ("content", "tool_calls", "function_call", "refusal", "audio")
_MAX_CHAT_ID: Final = 40
_MAX_CALL_ID: Final = 64
_PREFIXES: Final = {
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "message": "msg",
}
_STATUSES: Final = (None, "in_progress", "completed", "incomplete")
_MADE_BY_USERS: Final = ("function_call_output", "custom_tool_call_output")
_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"type", "text", "cache_control", "citations"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "tool_use": frozenset(
        {"type", "id", "name", "input", "cache_control", "caller", "toolset_name"}
    ),
    "tool_result": frozenset(
        {"type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"}
    ),
}


def dicts(value: Any) -> list[JSON]:
    """Return the objects in a JSON list; a text as the content of a message is none."""
    if not isinstance(value, list):
        return []
    # For pyright, to which what `isinstance` finds is a list of unknown things.
    items: list[object] = value  # pyright: ignore[reportUnknownVariableType]
    return [cast("JSON", item) for item in items if isinstance(item, dict)]


def twice(ids: Iterable[str]) -> list[str]:
    """Return what is there more than once, in order."""
    return [id_ for id_, count in Counter(ids).items() if count > 1]


def check_shapes(api: API, body: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the parts of a request, whatever they say to one another."""
    check, key = _CHECKS[api]
    given: Any = body.get(key)
    problems = _check_tools(api, body)
    if isinstance(given, list) and not given:
        problems.append(f"[] is too short - '{key}'")
    return problems + check(dicts(given))


def _check_tools(api: API, body: Mapping[str, Any]) -> list[str]:
    tools: Any = body.get("tools")
    if tools is None:
        return []
    if api != "messages" and not tools:
        return ["[] is too short - 'tools'"]
    found = [cast("JSON", tool.get("function") or tool) for tool in dicts(tools)]
    names = [str(tool["name"]) for tool in found if tool.get("name")]
    problems = [f"tools: Tool names must be unique: {name}" for name in twice(names)]
    return problems + [
        f"Invalid 'tools[].name': '{name}' does not match pattern '^[a-zA-Z0-9_-]+$'."
        for name in names
        if not _NAME.fullmatch(name)
    ]


# -- chat ------------------------------------------------------------------------------------------


def _check_chat(messages: list[JSON]) -> list[str]:
    problems: list[str] = []
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in _CHAT_ROLES:
            problems.append(f"Invalid value: '{role}' for 'messages[{at}].role'.")
        says = _CHAT_SAYS if role == "assistant" else _CHAT_SAYS[:1]
        if all(message.get(name) is None for name in says):
            problems.append(
                f"Invalid value for 'content': expected a string, got null: messages[{at}]."
            )
        for index, call in enumerate(dicts(message.get("tool_calls"))):
            problems += _check_chat_call(f"messages[{at}].tool_calls[{index}]", call)
    return problems


def _check_chat_call(where: str, call: JSON) -> list[str]:
    problems: list[str] = []
    kind = call.get("type")
    if kind not in ("function", "custom"):
        problems.append(f"Invalid value: '{kind}' for '{where}.type'.")
    id_ = call.get("id")
    if not isinstance(id_, str) or not id_:
        problems.append(f"Missing required parameter: '{where}.id'.")
    elif len(id_) > _MAX_CHAT_ID:
        problems.append(f"Invalid '{where}.id': string too long: at most {_MAX_CHAT_ID}.")
    inner: Any = call.get(str(kind))
    name = cast("JSON", inner).get("name") if isinstance(inner, dict) else None
    if name is None or not _NAME.fullmatch(str(name)):
        problems.append(f"Invalid '{where}.{kind}.name': string does not match pattern: {name!r}.")
    return problems


# -- responses -------------------------------------------------------------------------------------


def _check_responses(items: list[JSON]) -> list[str]:
    problems: list[str] = []
    for at, item in enumerate(items):
        kind = str(item.get("type", "message"))
        problems += _check_item(at, kind, item)
        if kind == "reasoning" and _leads_to_nothing(items[at + 1 :]):
            problems.append(
                f"Item '{item.get('id')}' of type 'reasoning' was provided without its required "
                "following item."
            )
    return problems


def _leads_to_nothing(rest: list[JSON]) -> bool:
    if not rest:
        return True
    following = rest[0]
    role = following.get("role", "assistant")
    return following.get("type") in _MADE_BY_USERS or role != "assistant"


def _check_item(at: int, kind: str, item: JSON) -> list[str]:
    problems: list[str] = []
    id_, prefix = item.get("id"), _PREFIXES.get(kind)
    if id_ is not None and prefix is not None and not str(id_).startswith(prefix):
        problems.append(
            f"Invalid 'input[{at}].id': '{id_}'. Expected an ID that begins with '{prefix}'."
        )
    if item.get("status") not in _STATUSES:
        problems.append(f"Invalid value: '{item['status']}' for 'input[{at}].status'.")
    if kind.startswith(("function_call", "custom_tool_call")):
        problems += _check_call_item(at, kind, item)
    if kind == "message":
        problems += _check_parts(at, item)
    return problems


def _check_call_item(at: int, kind: str, item: JSON) -> list[str]:
    """Check a call or the output of one."""
    problems: list[str] = []
    call_id = item.get("call_id")
    if not call_id or len(str(call_id)) > _MAX_CALL_ID:
        problems.append(f"Invalid 'input[{at}].call_id': 1 to {_MAX_CALL_ID} characters.")
    if kind in _MADE_BY_USERS:
        return problems
    key = "arguments" if kind == "function_call" else "input"
    if not isinstance(item.get(key), str):
        problems.append(f"Invalid type for 'input[{at}].{key}': expected a string.")
    if not _NAME.fullmatch(str(item.get("name"))):
        problems.append(f"Invalid 'input[{at}].name': string does not match pattern.")
    return problems


def _check_parts(at: int, item: JSON) -> list[str]:
    given = item.get("content")
    if given is None:
        return [f"Missing required parameter: 'input[{at}].content'."]
    said = item.get("role") == "assistant"
    fits = ("output_text", "refusal") if said else ("input_text", "input_image", "input_file")
    return [
        f"Invalid value: '{part.get('type')}' in 'input[{at}].content'. Supported values are: "
        + ", ".join(fits)
        for part in dicts(given)
        if part.get("type") not in fits
    ]


# -- messages --------------------------------------------------------------------------------------


def _check_messages(messages: list[JSON]) -> list[str]:
    problems: list[str] = []
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in ("user", "assistant"):
            problems.append(
                f'messages.{at}: Unexpected role "{role}". The Messages API accepts a top-level '
                '`system` parameter, not "system" as an input message role.'
            )
        blocks = dicts(message.get("content"))
        for index, block in enumerate(blocks):
            problems += _check_block(f"messages.{at}.content.{index}", block)
        if role == "assistant" and blocks and blocks[-1].get("type") == "thinking":
            problems.append(
                f"messages.{at}: The final block in an assistant message cannot be `thinking`."
            )
    if messages:
        problems += _check_ends(messages)
    return problems


def _check_ends(messages: list[JSON]) -> list[str]:
    problems: list[str] = []
    if messages[0].get("role") == "assistant":
        problems.append('messages: first message must use the "user" role')
    last = messages[-1]
    if last.get("role") == "assistant":
        content: Any = last.get("content")
        blocks = dicts(content)
        text = blocks[-1].get("text", "") if blocks else content
        if isinstance(text, str) and text != text.rstrip():
            problems.append("messages: final assistant content cannot end with trailing whitespace")
    return problems


def _check_block(where: str, block: JSON) -> list[str]:
    kind = str(block.get("type"))
    problems = [
        f"{where}.{kind}.{key}: Extra inputs are not permitted"
        for key in block
        if kind in _KEYS and key not in _KEYS[kind]
    ]
    if kind == "text" and block.get("text") and not str(block["text"]).strip():
        problems.append("messages: text content blocks must contain non-whitespace text")
    if kind == "thinking" and not block.get("signature"):
        problems.append(f"{where}.thinking.signature: Field required")
    if kind == "tool_use":
        if not _USE.fullmatch(str(block.get("id", ""))):
            problems.append(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not _USE.fullmatch(str(block.get("name", ""))):
            problems.append(f"{where}.tool_use.name: String should match pattern")
    if kind == "tool_result" and block.get("is_error") and not block.get("content"):
        problems.append(f"{where}.tool_result: content cannot be empty if `is_error` is true")
    return problems


_CHECKS: Final[Mapping[API, tuple[Callable[[list[JSON]], list[str]], str]]] = {
    "chat": (_check_chat, "messages"),
    "responses": (_check_responses, "input"),
    "messages": (_check_messages, "messages"),
}
