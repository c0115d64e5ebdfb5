"""The conversation as Strands keeps it: numbers of calls, their values, what the model sees."""

# Strands is not installed beside all of dagexec's extras, so its types are not there to be checked.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, final

from pydantic import BaseModel

from dagexec.integrations._turns.conversation import NOTHING, Spoken, read_arguments
from dagexec.lowlevel import INSTRUCTIONS, widened

# The tool by which the framework takes a structured answer: its arguments are the answer.
_ANSWER: Final = "StructuredOutputTool"


def uses_in(message: Mapping[str, Any]) -> list[Any]:
    """Return the tool uses of a message."""
    content = message.get("content") or ()
    return [each["toolUse"] for each in content if isinstance(each, dict) and "toolUse" in each]


def results_in(message: Mapping[str, Any]) -> list[Any]:
    """Return the tool results of a message."""
    content = message.get("content") or ()
    return [
        each["toolResult"] for each in content if isinstance(each, dict) and "toolResult" in each
    ]


@final
class Numbers:
    """The numbers of one agent's calls, which stay when messages are dropped from the front."""

    def __init__(self) -> None:
        """Begin at 1."""
        self._ids: list[str] = []
        self._gone = 0

    def first(self, messages: Iterable[Mapping[str, Any]]) -> int:
        """Return the number of the first call in these messages.

        Where more changed than that, all calls get numbers that no call had before.
        """
        ids = [str(use.get("toolUseId")) for message in messages for use in uses_in(message)]
        old = self._ids
        dropped = next(n for n in range(len(old) + 1) if old[n:] == ids[: len(old) - n])
        self._gone += dropped
        self._ids = ids
        return self._gone + 1


def spoken(messages: Sequence[Mapping[str, Any]], first: int) -> list[list[Spoken]]:
    """Return the calls of each message that has some, with the values that they left."""
    found: list[list[Spoken]] = []
    number = first
    for message in messages:
        uses = uses_in(message)
        if uses:
            found.append(spoken_in(uses, number))
            number += len(uses)
        if found:
            learn(found[-1], results_in(message))
    return found


def spoken_in(uses: Sequence[Any], number: int) -> list[Spoken]:
    """Return the calls of one message; models of some providers use an id twice."""
    calls: list[Spoken] = []
    keys: set[str] = set()
    for n, use in enumerate(uses, number):
        id_ = str(use.get("toolUseId"))
        key = id_ if id_ not in keys else f"{id_} {n}"
        keys.add(key)
        args = read_arguments(use.get("input"))
        calls.append(Spoken(n, id_, str(use.get("name")), key=key, args=args))
    return calls


def learn(calls: Sequence[Spoken], results: Iterable[Any]) -> None:
    """Give calls the values that came back for them."""
    for result in results:
        for call in calls:
            if call.id == result.get("toolUseId") and call.value is NOTHING:
                if result.get("status") == "success":
                    call.value = value_of(result)
                break


def value_of(result: Mapping[str, Any], native: Any = NOTHING) -> Any:
    """Return what other calls get of a result.

    What the function returned, if the result still says that: a hook may have changed it.
    """
    content = result.get("content") or []
    if native is not NOTHING and content == [{"text": _text_of(native)}]:
        return native
    parts = [_part(block) for block in content]
    return parts[0] if len(parts) == 1 else parts


def _part(block: Any) -> Any:
    if isinstance(block, dict) and len(block) == 1:
        return block.get("text", block.get("json", block))
    return block


def _text_of(native: Any) -> str:
    """Return the text that the framework makes of what a function returned."""
    if isinstance(native, str):
        return native
    try:
        if isinstance(native, BaseModel):
            return native.model_dump_json()
        return json.dumps(native, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return str(native)


def schema_of(tool: Any) -> Mapping[str, Any]:
    """Return the JSON Schema of a tool's arguments."""
    spec = getattr(tool, "tool_spec", None)
    schema = spec.get("inputSchema") if isinstance(spec, dict) else None
    found = schema.get("json", schema) if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def takes_text(schema: Mapping[str, Any]) -> list[str]:
    """Return the arguments that take a text."""
    parts = schema.get("properties")
    if not isinstance(parts, dict):
        return []
    return [name for name, part in parts.items() if "string" in _types(part)]


def _types(part: Any) -> set[str]:
    if not isinstance(part, dict):
        return set()
    kinds = part.get("type", ())
    found = {kinds} if isinstance(kinds, str) else set(kinds)
    for word in ("anyOf", "oneOf"):
        for each in part.get(word, ()):
            found |= _types(each)
    return found


def is_answer(tool: Any) -> bool:
    """Whether a call of this tool is the agent's structured answer."""
    return type(tool).__name__ == _ANSWER


@final
class ModelSide:
    """What a model is shown so that it can refer to results; the agent's messages stay."""

    def __init__(self) -> None:
        """Begin without any tool."""
        self._widened: dict[str, tuple[Any, dict[str, Any]]] = {}

    def shown(self, context: Any, first: int) -> Any:
        """Return a request with schemas that take references, instructions, and numbers."""
        registry = getattr(context.agent.tool_registry, "dynamic_tools", {})
        answers = {name for name, tool in registry.items() if is_answer(tool)}
        names = {spec["name"] for spec in context.tool_specs}
        if names <= answers:
            return context
        specs = [
            spec if spec["name"] in answers else self._wide(spec) for spec in context.tool_specs
        ]
        ids = [use.get("toolUseId") for each in context.agent.messages for use in uses_in(each)]
        return context.replace(
            tool_specs=specs,
            system_prompt=_instructed(context.system_prompt),
            messages=list(_headed(context.messages, list(enumerate(ids, first)))),
        )

    def _wide(self, spec: dict[str, Any]) -> dict[str, Any]:
        outer: Any = spec.get("inputSchema")
        schema = outer.get("json") if isinstance(outer, dict) else None
        if not isinstance(schema, dict) or not schema.get("properties"):
            return spec
        kept = self._widened.get(spec["name"])
        if kept is None or kept[0] != schema:
            kept = self._widened[spec["name"]] = (schema, widened(schema))
        return {**spec, "inputSchema": {**outer, "json": kept[1]}}


def _instructed(prompt: Any) -> Any:
    if isinstance(prompt, list):
        return [*prompt, {"text": INSTRUCTIONS}]
    return f"{prompt}\n\n{INSTRUCTIONS}" if prompt else INSTRUCTIONS


def _headed(
    messages: Iterable[dict[str, Any]], numbered: list[tuple[int, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield messages with the number of its call in front of each result.

    A request may hold fewer calls than the agent has: other middleware leaves some out.
    """
    place = 0
    open_: list[tuple[Any, int]] = []
    for message in messages:
        uses = uses_in(message)
        if uses:
            open_ = []
        for use in uses:
            id_ = use.get("toolUseId")
            found = next((n for n in range(place, len(numbered)) if numbered[n][1] == id_), None)
            if found is not None:
                place = found + 1
                open_.append((id_, numbered[found][0]))
        if results_in(message):
            content = [_with_number(block, open_) for block in message["content"]]
            yield {**message, "content": content}
        else:
            yield message


def _with_number(block: Any, open_: list[tuple[Any, int]]) -> Any:
    result = block.get("toolResult") if isinstance(block, dict) else None
    if result is None:
        return block
    for place, (id_, number) in enumerate(open_):
        if id_ == result.get("toolUseId"):
            del open_[place]
            content = [{"text": f"[call {number}]"}, *(result.get("content") or ())]
            return {**block, "toolResult": {**result, "content": content}}
    return block
