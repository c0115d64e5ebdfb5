"""A call of a message that runs once for each item of a list: its items, and its one answer.

The message has one id for them all, so the items have no message of their own: what their tools
answered is put together into one. Nobody can be asked about an item, and none can send a command.
An item's error never leaves the node: run again, the node would run the items that are done again.
"""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from langchain_core.messages import ToolCall, ToolMessage
from langgraph.prebuilt import tool_node as stock

from dagexec import CallError, Outcome
from dagexec.integrations.langgraph._tracked import TrackedCall
from dagexec.lowlevel import as_text

# Where an answer keeps the values of the items that are done, of a call that failed for others.
ITEMS: Final = "dagexec_items"
NOBODY_TO_ASK: Final = (
    "a person has to decide about this call, and cannot with $each: write a call for each item"
)
_NO_COMMAND: Final = "the tool answers with a command, which $each has no place for"


def item_of(parent: TrackedCall, id_: str) -> TrackedCall:
    """Return the entry of an item of a call."""
    item = TrackedCall(id_, parent.call, parent.input_type, parent.runtime, parent.position)
    item.wanted = True
    return item


def value_of(item: TrackedCall, answer: Any) -> Any:
    """Keep the answer of an item and return its value; raise what made it an error."""
    value = item.take(answer)
    if not isinstance(answer, ToolMessage):
        raise CallError(_NO_COMMAND)
    return value


def gathered(
    parent: TrackedCall,
    outcome: Outcome,
    items: Sequence[tuple[TrackedCall | None, Outcome]],
    text_of: Callable[[Outcome, ToolCall], ToolMessage],
) -> None:
    """Give a call its one answer: the list of its items' values, or what became of each."""
    call = parent.call
    parent.interrupt = None
    if outcome.status == "done":
        parent.raw = outcome.value
        parent.answer = _message(call, outcome.value, status="success")
        return
    told: list[Any] = []
    kept: dict[str, Any] = {}
    for index, (item, one) in enumerate(items):
        answer = None if item is None else item.answer
        if one.status == "done":
            kept[str(index)] = content = getattr(answer, "content", None)
            told.append({"value": content})
        elif isinstance(answer, ToolMessage) and answer.status == "error":
            told.append({"error": answer.content})
        else:
            told.append({"error": text_of(one, call).content})
    head = as_text(text_of(outcome, call).content)
    parent.answer = _message(call, f"{head}\n{as_text(told)}" if told else head, status="error")
    parent.answer.response_metadata[ITEMS] = kept
    parent.caught = outcome.error or CallError(head)


def _message(call: ToolCall, value: Any, *, status: Any) -> ToolMessage:
    content: Any = stock.msg_content_output(value)
    return ToolMessage(
        content=content, name=call["name"], tool_call_id=call["id"] or "", status=status
    )
