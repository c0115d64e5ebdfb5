"""The conversation as the ADK keeps it: numbers of calls, their values, what the model sees."""

# The ADK is not installed beside all of dagexec's extras, so its types are not there to be checked.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from google.genai import types

from dagexec.integrations._turns.conversation import NOTHING, Spoken, read_arguments
from dagexec.lowlevel import INSTRUCTIONS, widened

# Calls that the framework makes itself, to ask a person.
_FRAMEWORKS: Final = "adk_request_"


def calls_in(content: Any) -> list[Any]:
    """Return the function calls of a content."""
    parts = (content.parts or ()) if content is not None else ()
    found = [part.function_call for part in parts if part.function_call is not None]
    return [call for call in found if not (call.name or "").startswith(_FRAMEWORKS)]


def seen_by(context: Any) -> list[Any]:
    """Return the events of a session that an agent's model is shown, by the ADK's own rule.

    Agents that run beside one another see nothing of each other: each has numbers of its own.
    """
    invocation = context._invocation_context  # noqa: SLF001
    branch = getattr(invocation, "branch", None)
    scope = getattr(invocation, "isolation_scope", None)
    return [
        event
        for event in context.session.events
        if _within(branch, getattr(event, "branch", None))
        and getattr(event, "isolation_scope", None) == scope
    ]


def _within(branch: str | None, outer: str | None) -> bool:
    return not branch or not outer or branch == outer or branch.startswith(f"{outer}.")


def spoken(events: Iterable[Any]) -> Iterator[tuple[Any, list[Spoken]]]:
    """Yield each event with calls and its calls, with the values that they left."""
    number = 1
    known: dict[str, Spoken] = {}
    found: list[tuple[Any, list[Spoken]]] = []
    for event in events:
        calls = calls_in(event.content)
        if calls:
            new = [_spoken(call, n) for n, call in enumerate(calls, number)]
            number += len(calls)
            known.update((one.id, one) for one in new)
            found.append((event, new))
        for response in event.get_function_responses():
            one = known.get(response.id or "")
            if one is not None:
                one.value = value_of(response.response)
    yield from found


def _spoken(call: Any, number: int) -> Spoken:
    id_ = call.id or f"call {number}"
    args = read_arguments(call.args)
    return Spoken(number, id_, call.name or "", key=id_, args=args, value=NOTHING)


def value_of(response: Any) -> Any:
    """Return what a tool returned of what the ADK makes of it; NOTHING for a failure."""
    if failed(response):
        return NOTHING
    if isinstance(response, dict) and set(response) == {"result"}:
        return response["result"]
    return response


def failed(response: Any) -> bool:
    """Whether a result tells of a failure: the ADK's way of saying so, and that of MCP."""
    if not isinstance(response, dict):
        return False
    return set(response) == {"error"} or response.get("isError") is True


def show(request: Any, said: Sequence[Spoken], known: dict[str, tuple[Any, Any]]) -> None:
    """Put into a request what the model needs to refer to results.

    `said` are the calls of this agent; those of others stand in a request as texts.
    `known` keeps the declarations that take references: the ADK makes its own anew each time.
    """
    if request.config is None or not any(
        getattr(tool, "function_declarations", None) for tool in request.config.tools or ()
    ):
        return
    request.append_instructions([INSTRUCTIONS])
    request.config.tools = [_wide(tool, known) for tool in request.config.tools]
    request.contents = list(_numbered(request.contents, said))


def _wide(tool: Any, known: dict[str, tuple[Any, Any]]) -> Any:
    declarations = getattr(tool, "function_declarations", None)
    if not declarations:
        return tool
    found = []
    for declaration in declarations:
        kept = known.get(declaration.name)
        if kept is None or kept[0] != declaration:
            kept = known[declaration.name] = (declaration, _widened(declaration))
        found.append(kept[1])
    return tool.model_copy(update={"function_declarations": found})


def _widened(declaration: Any) -> Any:
    schema = declaration.parameters_json_schema
    if schema is None and declaration.parameters is not None:
        schema = declaration.parameters.json_schema.model_dump(mode="json", exclude_none=True)
        schema = _lower(schema)
    if not isinstance(schema, dict) or not schema.get("properties"):
        return declaration
    update = {"parameters": None, "parameters_json_schema": widened(schema)}
    return declaration.model_copy(update=update)


def _lower(node: Any) -> Any:
    """Return a schema with the types of JSON Schema; Gemini's are written in capitals."""
    if isinstance(node, list):
        return [_lower(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else _lower(value)
        for key, value in node.items()
    }


def _numbered(contents: Sequence[Any], said: Sequence[Spoken]) -> Iterator[Any]:
    """Yield contents in which each response names its call; those of the session stay."""
    numbers = _numbers([call for content in contents for call in calls_in(content)], said)
    open_: list[tuple[Any, int]] = []
    for content in contents:
        calls = calls_in(content)
        if calls:
            open_ = [(call, numbers[id(call)]) for call in calls if id(call) in numbers]
        if not any(part.function_response is not None for part in content.parts or ()):
            yield content
            continue
        parts = [_with_number(part, open_) for part in content.parts]
        yield content.model_copy(update={"parts": parts})


def _numbers(calls: Sequence[Any], said: Sequence[Spoken]) -> dict[int, int]:
    """Return the numbers of the calls in a request, which may begin anywhere, by identity."""
    found: dict[int, int] = {}
    place = len(said)
    for call in reversed(calls):
        at = next((n for n in range(place - 1, -1, -1) if said[n].tool == call.name), None)
        if at is not None:
            found[id(call)] = said[at].number
            place = at
    return found


def _with_number(part: Any, open_: list[tuple[Any, int]]) -> Any:
    response = part.function_response
    if response is None:
        return part
    for place, (call, number) in enumerate(open_):
        # The ids that the ADK gives are taken out of a request again.
        if (response.id and response.id == call.id) or (
            not response.id and call.name == response.name
        ):
            del open_[place]
            named = {"call": f"[call {number}]", **(response.response or {})}
            changed = response.model_copy(update={"response": named})
            return types.Part(function_response=changed)
    return part
