"""What the node is handed: its calls, their ids, the messages, how many calls may run at a time."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig

_DEFAULT_LIMIT: Final = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInput:
    """The input of a node, as its hooks have read it.

    `kind` is LangGraph's word for the input's shape: `dict`, `list` or `tool_calls`. `calls` are
    those to run, `configs` holds a config for each.
    """

    kind: Any
    calls: Sequence[ToolCall]
    configs: Sequence[RunnableConfig]
    config: RunnableConfig
    state: Any
    messages: Sequence[Any]
    runtime: Any

    @property
    def unreadable(self) -> list[ToolMessage]:
        """Answers to the calls whose arguments LangChain could not read: they need one, too."""
        return [] if self.kind == "tool_calls" else _answers_to_unreadable(self.messages)


def unanswered(calls: Sequence[ToolCall], messages: Sequence[Any]) -> list[ToolCall]:
    """Return the calls that have no answer among the messages behind the one that holds them.

    A person's refusal is an answer too: LangGraph's own node would run such a call. Ids count from
    the last message that holds the calls on, because some models use an id again in each turn.
    """
    answered: set[str] = set()
    ids: set[str | None] = {call["id"] for call in calls if call["id"]}
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage) and _holds(message, ids):
            return [call for call in calls if (call["id"] or "") not in answered]
    return list(calls)


def _holds(message: AIMessage, ids: set[str | None]) -> bool:
    return any(call["id"] in ids for call in message.tool_calls)


def _answers_to_unreadable(messages: Sequence[Any]) -> list[ToolMessage]:
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [
                ToolMessage(
                    content=f"Error: the arguments cannot be read: {bad.get('error') or 'no JSON'}."
                    " Write them again as one JSON object.",
                    name=bad.get("name") or "",
                    tool_call_id=bad["id"],
                    status="error",
                )
                for bad in message.invalid_tool_calls
                if bad.get("id") and bad["id"] not in answered
            ]
    return []


def messages_of(given: Any, state: Any, key: str) -> Sequence[Any]:
    """Return the messages that the node's input or its state holds."""
    for source in (given, state):
        if isinstance(source, list) and source and not isinstance(source[-1], dict):
            return source
        found = source.get(key) if isinstance(source, dict) else getattr(source, key, None)
        if isinstance(found, list):
            return found
    return ()


def ids_of(calls: Sequence[ToolCall]) -> list[str]:
    """Return an id for each call: its own, where it has one that no other has."""
    ids: dict[str, None] = {}
    for position, call in enumerate(calls):
        own = call["id"] or ""
        ids[own if own and own not in ids else f"{own}#{position}"] = None
    return list(ids)


def limit_of(own: int | None, given: int | None) -> int:
    """Return how many calls may run at a time."""
    usable = [each for each in (own, given) if each is not None and (each > 0 or each == own)]
    return min(usable) if usable else _DEFAULT_LIMIT
