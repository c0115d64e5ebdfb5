"""References between calls: numbers of a conversation, ids of its calls, values of its messages."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast, final

from langchain_core.messages import AIMessage, ToolMessage

from dagexec import BadReference, Call, Plan, PlanError, Ref, Template
from dagexec.lowlevel import as_text, follow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from langchain_core.messages import ToolCall
    from langchain_core.tools import BaseTool

    from dagexec.integrations.langgraph._record import Record

# Where the model's side notes the number of a message's first call: messages may be left out of
# what the model sees, or of the state, and a number must go on meaning the same call.
FIRST_CALL: Final = "dagexec_first_call"

_MARKS: Final = frozenset({"$ref", "$template", "$literal"})
_SHOWN: Final = 20


class _Refused(Exception):
    """Why a call cannot run; the text is for the model."""


@final
class _Known:
    """A call that can be referred to."""

    __slots__ = ("answer", "call", "number", "record")

    def __init__(self, number: int, call: ToolCall) -> None:
        self.number = number
        self.call = call
        # What became of it: its record if it is one of those that run now, else its message.
        self.record: Record | None = None
        self.answer: ToolMessage | None = None

    def __str__(self) -> str:
        return f"call {self.number} ({self.call['name']})"


def numbered(messages: Iterable[Any]) -> Iterator[tuple[int, AIMessage]]:
    """Yield each message with calls, with the number of its first call in the conversation."""
    number = 1
    for message in messages:
        if isinstance(message, AIMessage) and message.tool_calls:
            number = message.response_metadata.get(FIRST_CALL, number)
            yield number, message
            number += len(message.tool_calls)


def is_marked(args: Mapping[str, Any]) -> bool:
    """Whether anything in arguments reads as a reference."""
    level: list[Any] = list(args.values())
    while level:
        inner: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                found = cast("dict[Any, Any]", node)
                if not _MARKS.isdisjoint(found):
                    return True
                inner.extend(found.values())
            elif isinstance(node, list):
                inner.extend(cast("list[Any]", node))
        level = inner
    return False


@final
class References:
    """What the calls of a message can refer to, and what stands for it in a plan."""

    def __init__(self, messages: Sequence[Any], records: Sequence[Record]) -> None:
        """Number the calls of the conversation; the records are those that run now."""
        self._numbers: dict[int, _Known] = {}
        self._ids: dict[str, _Known] = {}
        self._of: dict[str, _Known] = {}
        last = self._read(messages)
        for record in records:
            known = last.get(id(record.call)) or self._ids.get(record.call["id"] or "")
            if known is None:  # calls without their message: numbered by themselves
                known = self._add(len(self._numbers) + 1, record.call)
            known.record = record
            self._of[record.id] = known

    def _read(self, messages: Sequence[Any]) -> dict[int, _Known]:
        last: dict[int, _Known] = {}
        first_numbers = {id(message): number for number, message in numbered(messages)}
        turn: dict[str, _Known] = {}
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

    def _add(self, number: int, call: ToolCall) -> _Known:
        known = _Known(number, call)
        self._numbers[number] = known
        if call["id"]:
            self._ids[call["id"]] = known
        return known

    def named(self, id_: str) -> str:
        """Return how the model knows the call with this id in the plan."""
        return str(self._of[id_]) if id_ in self._of else "another call"

    # -------------------------------------------------------------------------------- into the plan

    def call(self, record: Record, name: str, tool: BaseTool | None) -> Call:
        """Return a record's call with references to calls of the same plan and values for others.

        `name` is that of the tool in the plan. A call that cannot run as the model wrote it has its
        `problem`.
        """
        try:
            read = Call(record.id, name, record.call["args"])
            args: dict[str, Any] = {}
            for key, value in read.args.items():
                text = tool is not None and _takes_text(tool, key)
                args[key] = self._replaced(value, record, text=text)
            return Call(record.id, name, args)
        except PlanError as error:
            problem = "\n".join(each.message for each in error.problems)
        except _Refused as error:
            problem = str(error)
        return Call(record.id, name, problem=problem)

    def _replaced(self, node: Any, record: Record, *, text: bool = False) -> Any:
        if isinstance(node, Ref):
            found = self._target(node, record, text=text)
            return found if isinstance(found, Ref) else {"$literal": found}
        if isinstance(node, Template):
            return self._filled(node, record)
        if isinstance(node, dict):
            items = cast("dict[str, Any]", node).items()
            return {key: self._replaced(item, record) for key, item in items}
        if isinstance(node, list):
            return [self._replaced(item, record) for item in cast("list[Any]", node)]
        return node

    def _filled(self, template: Template, record: Record) -> Any:
        parts: list[str | Ref] = []
        for part in template.parts:
            target = part if isinstance(part, str) else self._target(part, record, text=True)
            parts.append(target if isinstance(target, str | Ref) else as_text(target))
        if any(isinstance(part, Ref) for part in parts):
            return Template.from_parts(parts)
        return {"$literal": "".join(map(str, parts))}

    def _target(self, ref: Ref, record: Record, *, text: bool) -> Any:
        """Return a reference inside the plan, or the value that an earlier call left."""
        known = self._known(ref, record)
        other = known.record
        if other is record:
            msg = f"{known} refers to itself. Refer to another call, or pass a value."
            raise _Refused(msg)
        if other is not None and not other.settled:
            other.wanted = True
            return Ref(other.id, ref.path, ref.default)
        has_default = ref.default is not Ref(ref.call).default
        try:
            return _value(known, ref, text=text)
        except _Refused:
            if has_default:
                return ref.default
            raise

    def _known(self, ref: Ref, record: Record) -> _Known:
        text = ref.call
        small = text.isascii() and text.isdecimal() and len(text) < 10  # noqa: PLR2004
        known = self._numbers.get(int(text)) if small else None
        known = known or self._ids.get(text)
        if known is not None:
            return known
        others = [each for each in self._numbers.values() if each.record is not record][-_SHOWN:]
        shown = ", ".join(f"{each.number} ({each.call['name']})" for each in others)
        there = f"There are: {shown}." if shown else "There is no other call yet."
        msg = f"There is no call {text!r:.60} to refer to: calls are named by number. {there}"
        raise _Refused(msg)


def without_faults(calls: Sequence[Call]) -> list[Call]:
    """Give the calls that cannot stand in one plan their problem: those in a cycle."""
    found: dict[str, str] = {}
    for problem in Plan.problems(calls):
        for id_ in (problem.call, *problem.also):
            if id_ is not None:
                found.setdefault(id_, f"The references cannot be met: {problem.message}.")
    return [
        Call(call.id, call.tool, problem=found[call.id]) if call.id in found else call
        for call in calls
    ]


# ------------------------------------------------------------------------- values of earlier calls


def _value(known: _Known, ref: Ref, *, text: bool) -> Any:
    """Return what an earlier call left where a reference leads; raise _Refused if nothing."""
    if known.record is not None:
        value: Any = known.record.raw
        usable = known.record.caught is None
    else:
        answer = known.answer
        usable = answer is not None and answer.status != "error"
        content: Any = None if answer is None else answer.content
        value = content if text and not ref.path else _parsed(content, whole=not ref.path)
    if not usable:
        msg = f"{known} has no result to refer to. Call it again, or pass a value."
        raise _Refused(msg)
    try:
        return follow(value, ref.path)
    except BadReference as error:
        msg = f'{{"$ref": "{ref}"}} cannot be followed: {error}'
        raise _Refused(msg) from None


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
        part = tool.args.get(name)
    except Exception:  # noqa: BLE001 - a schema that cannot be shown tells nothing
        return False
    return isinstance(part, dict) and cast("dict[str, Any]", part).get("type") == "string"
