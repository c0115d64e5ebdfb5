"""Items of the Responses API that the client has to answer and that name no tool of its own.

A tool takes one: what the item says are its arguments, those that it has parameters for, and what
it returns goes back in the form that the item wants. Without one they are an error: a conversation
cannot go on while they are unanswered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dagexec import DagexecError, Tool, tool
from planners._core.call_log import RawCall
from planners._core.edge import get, is_dict, is_list, plain, said


@tool(effect="write", approval=True)
async def mcp_approval(server_label: str, name: str, arguments: str = "") -> bool:
    """Let a provider's MCP server run a tool; what a person answers goes back to the model."""
    del server_label, name, arguments
    return True


@dataclass(frozen=True, slots=True)
class ClientItem:
    """How an item is read and answered: where its arguments are, and what makes an output."""

    arguments: Callable[[Any], dict[str, Any]]
    output: Callable[[RawCall, Any, str, bool], dict[str, Any]]
    note: str = "ResponsesPlanner(tools, handles={{{kind!r}: 'the name of a tool'}})"


def _inside(*names: str) -> Callable[[Any], dict[str, Any]]:
    def read(item: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in names:
            value = plain(get(item, name))
            found |= value if is_dict(value) else {name: value}
        return {key: value for key, value in found.items() if value is not None}

    return read


def _fields(*names: str) -> Callable[[Any], dict[str, Any]]:
    def read(item: Any) -> dict[str, Any]:
        found = {name: plain(get(item, name)) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    return read


def _shell(raw: RawCall, value: Any, text: str, done: bool) -> dict[str, Any]:  # noqa: FBT001
    if not is_list(value):
        stream = {"stdout": text, "stderr": ""} if done else {"stdout": "", "stderr": text}
        value = [{**stream, "outcome": {"type": "exit", "exit_code": 0 if done else 1}}]
    return {"type": "shell_call_output", "call_id": raw.id, "output": value}


def _local_shell(raw: RawCall, value: Any, text: str, done: bool) -> dict[str, Any]:  # noqa: FBT001
    del value, done
    return {"type": "local_shell_call_output", "id": raw.id, "output": text}


def _patch(raw: RawCall, value: Any, text: str, done: bool) -> dict[str, Any]:  # noqa: FBT001
    del value
    status = "completed" if done else "failed"
    kind = "apply_patch_call_output"
    return {"type": kind, "call_id": raw.id, "status": status, "output": text}


# One transparent pixel: the API takes nothing but a picture, also where there is none.
_BLANK: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf"
    "DwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def _computer(raw: RawCall, value: Any, text: str, done: bool) -> dict[str, Any]:  # noqa: FBT001
    output = value if is_dict(value) else {"image_url": text if done else _BLANK}
    output = {"type": "computer_screenshot", **output}
    return {"type": "computer_call_output", "call_id": raw.id, "output": output}


def _search(raw: RawCall, value: Any, text: str, done: bool) -> dict[str, Any]:  # noqa: FBT001
    del text
    status = "completed" if done else "incomplete"
    found = {"type": "tool_search_output", "execution": "client", "status": status}
    return {**found, "call_id": raw.id, "tools": value if is_list(value) else []}


def _approval(raw: RawCall, value: Any, text: str, done: bool) -> dict[str, Any]:  # noqa: FBT001
    found: dict[str, Any] = {"type": "mcp_approval_response", "approval_request_id": raw.id}
    agreed = done and value is not False
    return {**found, "approve": agreed} | ({} if agreed else {"reason": text})


CLIENT_ITEMS: Final[Mapping[str, ClientItem]] = {
    "shell_call": ClientItem(_inside("action"), _shell),
    "local_shell_call": ClientItem(_inside("action"), _local_shell),
    "apply_patch_call": ClientItem(_inside("operation"), _patch),
    "computer_call": ClientItem(_fields("action", "actions", "pending_safety_checks"), _computer),
    "tool_search_call": ClientItem(_inside("arguments"), _search),
    "mcp_approval_request": ClientItem(
        _fields("server_label", "name", "arguments"),
        _approval,
        "add planners.openai.mcp_approval to the tools of planner and executor",
    ),
}


def is_client_item(item: Any) -> bool:
    """Whether an item waits for the client; the server runs some of these kinds itself."""
    kind = get(item, "type", "")
    if kind not in CLIENT_ITEMS:
        return False
    if kind == "tool_search_call":
        return bool(get(item, "execution") == "client")
    return bool(get(get(item, "environment"), "type") != "container_reference")


def waiting(output: list[Any]) -> list[Any]:
    """Return the items of a response without those whose output stands beside them."""
    answered = {
        said(item, "call_id") for item in output if str(get(item, "type")).endswith("_output")
    }
    if not answered:
        return output
    return [
        item for item in output if not is_client_item(item) or said(item, "call_id") not in answered
    ]


def client_call(
    item: Any,
    handles: Mapping[str, str],
    tools: Mapping[str, Tool[..., Any]],
    cut: str | None,
) -> RawCall:
    """Return an item as a call of the tool that takes it; raise DagexecError if there is none."""
    kind: str = get(item, "type", "")
    spec = CLIENT_ITEMS[kind]
    name = handles.get(kind, mcp_approval.name if kind == "mcp_approval_request" else "")
    if name not in tools:
        raise DagexecError(
            f"the reply has an item {kind!r}, which the client must answer, and no tool takes it:"
            f" {spec.note.format(kind=kind)}"
        )
    known: dict[str, Any] = tools[name].parameters.get("properties") or {}
    args = {key: value for key, value in spec.arguments(item).items() if key in known}
    echo = {"caller": plain(caller)} if (caller := get(item, "caller")) is not None else {}
    id_ = said(item, "call_id") or said(item, "id")
    # The model wrote no references into these: no tool of its own has told it of any.
    return RawCall(id_, name, args, kind, echo, problem=cut, from_code=True)
