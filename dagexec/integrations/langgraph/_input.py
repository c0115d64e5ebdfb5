"""What the node is handed: its messages, the ids of its calls, and how many may run at a time."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import AIMessage, ToolMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import ToolCall


def answers_to_unreadable(messages: Sequence[Any]) -> list[ToolMessage]:
    """Return answers to calls whose arguments LangChain could not read: they need one, too."""
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    return [
        ToolMessage(
            content=f"Error: the arguments cannot be read: {bad.get('error') or 'no JSON'}."
            " Write them again as one JSON object.",
            name=bad.get("name") or "",
            tool_call_id=bad["id"],
            status="error",
        )
        for bad in (last.invalid_tool_calls if last is not None else ())
        if bad.get("id")
    ]


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


_DEFAULT_LIMIT: Final = 20
