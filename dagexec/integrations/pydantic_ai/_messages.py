"""The conversation as Pydantic AI keeps it: numbers of calls, their values, what the model sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

from pydantic_ai.messages import (
    InstructionPart,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import ToolDefinition

from dagexec.integrations._turns.conversation import NOTHING, Spoken, read_arguments
from dagexec.lowlevel import INSTRUCTIONS, widened

# A result of these was not written by a tool of the user's.
_DONE: Final = "success"


def calls_of(response: ModelResponse) -> list[ToolCallPart]:
    """Return the calls of a reply that the agent runs."""
    return [part for part in response.parts if isinstance(part, ToolCallPart)]


def numbered(messages: Iterable[ModelMessage]) -> Iterator[tuple[int, ModelResponse]]:
    """Yield each reply with calls, with the number of its first call in the conversation."""
    number = 1
    for message in messages:
        if isinstance(message, ModelResponse):
            found = len(calls_of(message))
            if found:
                yield number, message
                number += found


def reply_with(messages: Sequence[ModelMessage], call_id: str) -> ModelResponse | None:
    """Return the last reply that has a call with this id."""
    for message in reversed(messages):
        if isinstance(message, ModelResponse) and any(
            call.tool_call_id == call_id for call in calls_of(message)
        ):
            return message
    return None


def spoken(
    messages: Sequence[ModelMessage], response: ModelResponse, *, before: bool
) -> list[Spoken]:
    """Return the calls of a reply, or of all before it, with the values that they left."""
    found: list[Spoken] = []
    turn: dict[str, Spoken] = {}
    reached = False
    numbers = {id(reply): number for number, reply in numbered(messages)}
    for message in messages:
        if isinstance(message, ModelResponse):
            if reached:
                break
            reached = message is response
            turn = {}
            if reached == before:
                continue
            for number, call in enumerate(calls_of(message), numbers.get(id(message), 1)):
                turn[call.tool_call_id] = one = _spoken(call, number)
                found.append(one)
        else:
            _take(message, turn)
    return found


def _take(request: ModelRequest, turn: Mapping[str, Spoken]) -> None:
    """Give the calls of a turn the values that came back for them."""
    for part in request.parts:
        if isinstance(part, ToolReturnPart) and part.outcome == _DONE:
            call = turn.get(part.tool_call_id)
            if call is not None:
                call.value = part.content


def _spoken(call: ToolCallPart, number: int) -> Spoken:
    args = read_arguments(call.args)
    id_ = call.tool_call_id
    return Spoken(number, id_, call.tool_name, key=id_, args=args, value=NOTHING)


@final
class ModelSide:
    """What a model is shown so that it can refer to results; the history stays as it is."""

    def __init__(self) -> None:
        """Begin without any tool."""
        self._widened: dict[str, tuple[Any, dict[str, Any]]] = {}

    def shown(
        self, request: ModelRequestContext, messages: Sequence[ModelMessage]
    ) -> ModelRequestContext:
        """Return a request with schemas that take references, instructions, and numbers."""
        parameters = request.model_request_parameters
        if not parameters.function_tools:
            return request
        parts = [*(parameters.instruction_parts or ()), InstructionPart(content=INSTRUCTIONS)]
        return replace(
            request,
            messages=_headed(request.messages, messages),
            model_request_parameters=replace(
                parameters,
                function_tools=[self._wide(each) for each in parameters.function_tools],
                instruction_parts=InstructionPart.sorted(parts),
            ),
        )

    def _wide(self, tool: ToolDefinition) -> ToolDefinition:
        schema = tool.parameters_json_schema
        kept = self._widened.get(tool.name)
        # By value: the framework makes the schemas anew for each request.
        if kept is None or kept[0] != schema:
            kept = self._widened[tool.name] = (schema, widened(schema))
        return replace(tool, parameters_json_schema=kept[1])


def _headed(shown: Sequence[ModelMessage], history: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Return messages with the number of its call in front of each result.

    What was left out of a request, by a history processor for one, changes no number.
    """
    firsts = {id(reply): number for number, reply in numbered(history)}
    by_id = {
        call.tool_call_id: number + place
        for number, reply in numbered(history)
        for place, call in enumerate(calls_of(reply))
    }
    turn: Mapping[str, int] = {}
    found: list[ModelMessage] = []
    for message in shown:
        if isinstance(message, ModelResponse):
            calls = calls_of(message)
            first = firsts.get(id(message))
            if first is None:
                turn = by_id
            elif calls:
                turn = {call.tool_call_id: n for n, call in enumerate(calls, first)}
            found.append(message)
        else:
            found.append(_with_numbers(message, turn))
    return found


def _with_numbers(message: ModelRequest, turn: Mapping[str, int]) -> ModelRequest:
    parts = [
        _with_number(part, turn[part.tool_call_id])
        if isinstance(part, ToolReturnPart) and part.tool_call_id in turn and part.tool_kind is None
        else part
        for part in message.parts
    ]
    return replace(message, parts=parts)


def _with_number(part: ToolReturnPart[Any], number: int) -> ToolReturnPart[Any]:
    head = f"[call {number}]" if part.outcome == _DONE else f"[call {number}: {part.outcome}]"
    if part.files:
        content: Any = [head, *part.content_items(mode="str", wrap_if_error=False)]
    else:
        content = f"{head}\n{part.model_response_str(wrap_if_error=False)}"
    return replace(part, content=content)
