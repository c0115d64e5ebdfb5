"""What the calls of a turn can refer to: one another, and the results of the turns before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast, final

from dagexec import Call, PlanError, Ref
from dagexec._core.earlier_calls import is_marked
from dagexec.lowlevel import (
    CannotRun,
    EarlierCalls,
    number_of,
    order_conflicts,
    value_at,
    without_faults,
)

NOTHING: Final = object()
"""In the place of a value: the call left none that could be passed on."""


@final
@dataclass(slots=True, eq=False)
class Spoken:
    """A call as the model wrote it.

    `key` names it within its turn, where a model may use an id twice; `value` is what it left,
    `NOTHING` as long as that is nothing. `args` is None for arguments that are no JSON object.
    """

    number: int
    id: str
    tool: str
    key: str = ""
    args: Mapping[str, Any] | None = None
    value: Any = NOTHING
    # The arguments that take a text, where that is known: a result that is JSON stays a text there.
    texts: Sequence[str] = ()
    # Whether anything in the arguments reads as a reference.
    marked: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look at the arguments once."""
        self.marked = self.args is not None and is_marked(self.args)

    def __str__(self) -> str:
        return f"call {self.number} ({self.tool})"


def read_arguments(given: object) -> dict[str, Any] | None:
    """Return the arguments of a call, which APIs send as text; None for what is no JSON object."""
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError):
            return None
    if given is None:
        return {}
    return cast("dict[str, Any]", given) if isinstance(given, dict) else None


@final
class Conversation(EarlierCalls[Spoken]):
    """The calls of a turn, and those of the turns before, which are read only when asked for."""

    def __init__(
        self, calls: Sequence[Spoken], history: Callable[[], Iterable[Spoken]], *, references: bool
    ) -> None:
        """Take the calls of this turn; `history` gives those before."""
        self.calls = calls
        self._references = references
        self._history = history
        self._numbers: dict[int, Spoken] | None = None
        self._ids: dict[str, Spoken] = {}
        self._keys = {call.key: call for call in calls}
        # The ids in the plan of calls that stand there by another name.
        self.aliases: dict[str, str] = {}

    @property
    def keys(self) -> Mapping[str, Spoken]:
        """The calls of this turn by their keys."""
        return self._keys

    def named(self, key: str) -> str:
        """Return how the model knows a call of this turn."""
        call = self._keys.get(key)
        if call is None:
            return "another call"
        return str(call) if self._references else f"the call of {call.tool!r}"

    def refers(self, call: Spoken) -> bool:
        """Whether the arguments of a call are read for references, and hold some."""
        return self._references and call.marked

    # ------------------------------------------------------------------------------ into the plan

    def plan_calls(self, tools: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Call]:
        """Return the calls of the turn for one plan, by key; what cannot run has its problem.

        `names` are those of the tools in the plan.
        """
        calls = [self.plan_call(call, names[call.tool]) for call in self.calls]
        if any(call.needs or call.waits for call in calls):
            calls = without_faults(calls)
        if any(tools[call.tool].templates for call in calls):
            calls = order_conflicts(calls, tools)
        return {call.id: call for call in calls}

    def plan_call(self, call: Spoken, name: str) -> Call:
        """Return one call for a plan."""
        if call.args is None:
            return Call(call.key, name)
        if not self.refers(call):
            return Call(call.key, name, {k: {"$literal": v} for k, v in call.args.items()})
        try:
            read = Call(call.key, name, call.args)
            args = self.substituted(read.args, call, texts=call.texts)
            return Call(call.key, name, args)
        except PlanError as error:
            problem = "\n".join(each.message for each in error.problems)
        except CannotRun as error:
            problem = str(error)
        return Call(call.key, name, problem=problem)

    # --------------------------------------------------------------------------------- EarlierCalls

    def known(self, name: str) -> Spoken | None:
        """Return the call that a reference names, by its number or its id."""
        numbers = self._read()
        number = number_of(name)
        found = None if number is None else numbers.get(number)
        return found or self._ids.get(name)

    def listed(self) -> Iterator[tuple[Spoken, int, str]]:
        """Yield each call that can be referred to, its number and its tool, from the last."""
        for number, call in reversed(self._read().items()):
            yield call, number, call.tool

    def target(self, ref: Ref, call: Spoken, other: Spoken, *, text: bool) -> Any:
        """Return a reference within the turn as it is, and else the value that it leads to."""
        del call
        # One of an earlier turn may have the key of one of this: some models use ids again.
        if self._keys.get(other.key) is other and other.value is NOTHING:
            return Ref(self.aliases.get(other.key, other.key), ref.path, ref.default)
        if other.value is NOTHING:
            msg = f"{other} has no result to refer to. Call it again, or pass a value."
            raise CannotRun(msg)
        value = other.value if text and not ref.path else parsed(other.value, whole=not ref.path)
        return value_at(value, ref)

    def _read(self) -> dict[int, Spoken]:
        if self._numbers is None:
            self._numbers = {}
            for call in (*self._history(), *self.calls):
                self._numbers[call.number] = call
                self._ids[call.id] = call
        return self._numbers


def parsed(value: Any, *, whole: bool) -> Any:
    """Return a text that is JSON as data, since most servers answer so.

    As a whole, only a text that is an object or an array: one that is a number fits as it is.
    """
    if not isinstance(value, str):
        return value
    try:
        found: Any = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return cast("Any", found) if isinstance(found, dict | list) or not whole else value
