"""References between calls: numbers of a conversation, ids of its calls, values of its messages."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast, final

from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool

from dagexec import Call, PlanError, Ref
from dagexec.integrations.langgraph._items import ITEMS
from dagexec.integrations.langgraph._tools import parameters_of
from dagexec.integrations.langgraph._tracked import TrackedCall
from dagexec.lowlevel import CannotRun, EarlierCalls, number_of, value_at

# Where the model's side notes the number of a message's first call: messages may be left out of
# what the model sees, or of the state, and a number must go on meaning the same call.
FIRST_CALL: Final = "dagexec_first_call"


@final
class KnownCall:
    """A call that can be referred to."""

    __slots__ = ("answer", "call", "number", "tracked")

    def __init__(self, number: int, call: ToolCall) -> None:
        """Take a call with its number in the conversation."""
        self.number = number
        self.call = call
        # What became of it: its entry if it is one of those that run now, else its message.
        self.tracked: TrackedCall | None = None
        self.answer: ToolMessage | None = None

    def __str__(self) -> str:
        """Name the call as the model knows it."""
        return f"call {self.number} ({self.call['name']})"


def numbered(messages: Iterable[Any]) -> Iterator[tuple[int, AIMessage]]:
    """Yield each message with calls, with the number of its first call in the conversation."""
    number = 1
    for message in messages:
        if isinstance(message, AIMessage) and message.tool_calls:
            number = message.response_metadata.get(FIRST_CALL, number)
            yield number, message
            number += len(message.tool_calls)


@final
class References(EarlierCalls[KnownCall]):
    """What the calls of a message can refer to, and what stands for it in a plan."""

    runs_each = True

    def __init__(self, messages: Sequence[Any], tracked_calls: Sequence[TrackedCall]) -> None:
        """Number the calls of the conversation; the tracked_calls are those that run now."""
        self._numbers: dict[int, KnownCall] = {}
        self._ids: dict[str, KnownCall] = {}
        self._of: dict[str, KnownCall] = {}
        last = self._read(messages)
        for tracked in tracked_calls:
            known = last.get(id(tracked.call)) or self._ids.get(tracked.call["id"] or "")
            if known is None:  # calls without their message: numbered by themselves
                known = self._add(len(self._numbers) + 1, tracked.call)
            known.tracked = tracked
            self._of[tracked.id] = known

    def _read(self, messages: Sequence[Any]) -> dict[int, KnownCall]:
        last: dict[int, KnownCall] = {}
        first_numbers = {id(message): number for number, message in numbered(messages)}
        turn: dict[str, KnownCall] = {}
        for message in messages:
            if id(message) in first_numbers:
                turn = {}
                last = {}
                for number, call in enumerate(message.tool_calls, first_numbers[id(message)]):
                    known = last[id(call)] = self._add(number, call)
                    turn[call["id"] or ""] = known
            elif isinstance(message, ToolMessage) and message.tool_call_id in turn:
                turn[message.tool_call_id].answer = message
        return last

    def _add(self, number: int, call: ToolCall) -> KnownCall:
        known = KnownCall(number, call)
        self._numbers[number] = known
        if call["id"]:
            self._ids[call["id"]] = known
        return known

    def named(self, id_: str) -> str:
        """Return how the model knows the call with this id in the plan."""
        return str(self._of[id_]) if id_ in self._of else "another call"

    def numbered_items(self, text: str, ids: Iterable[str]) -> str:
        """Return a text with items of these calls as the model knows them: `2[0]`."""
        for id_ in ids:
            text = text.replace(f"{id_}[", f"{self._of[id_].number}[")
        return text

    # -------------------------------------------------------------------------------- into the plan

    def call(self, tracked: TrackedCall, name: str, tool: BaseTool | None) -> Call:
        """Return a tracked call with references to calls of the same plan and values for others.

        `name` is that of the tool in the plan. A call that cannot run as the model wrote it has its
        `problem`.
        """
        try:
            read = Call(tracked.id, name, tracked.call["args"])
            texts = [] if tool is None else [key for key in read.args if _takes_text(tool, key)]
            args = self.substituted(read.args, self._of[tracked.id], texts=texts)
            return Call(tracked.id, name, args)
        except PlanError as error:
            problem = "\n".join(each.message for each in error.problems)
        except CannotRun as error:
            problem = str(error)
        return Call(tracked.id, name, problem=problem)

    def known(self, name: str) -> KnownCall | None:
        """Return the call that a reference names, by its number or its id."""
        number = number_of(name)
        found = None if number is None else self._numbers.get(number)
        return found or self._ids.get(name)

    def listed(self) -> Iterator[tuple[KnownCall, int, str]]:
        """Yield each call that can be referred to, its number and its tool, from the last."""
        for number, known in reversed(self._numbers.items()):
            yield known, number, known.call["name"]

    def target(self, ref: Ref, call: KnownCall, other: KnownCall, *, text: bool) -> Any:
        """Return a reference inside the plan, or the value that an earlier call left."""
        del call
        tracked = other.tracked
        if tracked is not None and not tracked.settled:
            tracked.wanted = True
            return Ref(tracked.id, ref.path, ref.default)
        if tracked is not None:
            value: Any = tracked.raw
            usable = tracked.caught is None
        else:
            answer = other.answer
            usable = answer is not None and answer.status != "error"
            content: Any = None if answer is None else answer.content
            items = {} if answer is None else answer.response_metadata.get(ITEMS, {})
            if ref.path and str(ref.path[0]) in items:
                content, usable = items[str(ref.path[0])], True
                ref = Ref(ref.call, ref.path[1:])
            value = content if text and not ref.path else _parsed(content, whole=not ref.path)
        if not usable:
            msg = f"{other} has no result to refer to. Call it again, or pass a value."
            raise CannotRun(msg)
        return value_at(value, ref)


# ------------------------------------------------------------------------- values of earlier calls


def _parsed(content: Any, *, whole: bool) -> Any:
    """Return the content of a message as data: LangChain has made JSON of what was not text.

    As a whole, text that is a number stays text: it fits where a number is asked for, too.
    """
    if not isinstance(content, str):
        return content
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return value if isinstance(value, dict | list) or not whole else content


def _takes_text(tool: BaseTool, name: str) -> bool:
    try:
        part = parameters_of(tool)["properties"].get(name)
    except Exception:  # noqa: BLE001 - a schema that cannot be shown tells nothing
        return False
    return isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "string"
