"""Promises: values that are still to come, and how they stand inside of containers."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, final

from dagexec.programs._values import CONTAINERS, elements

PENDING: Final = 0
DONE: Final = 1
FAILED: Final = 2
# Behind one that failed, in an expression whose error is a value: it never happened.
SKIPPED: Final = 3


class Callee(Protocol):
    """What a program can call: a tool, seen from here."""

    name: str
    # Whether it may start before it is certain that the program comes to it.
    ahead: bool

    def conflicts(self, args: dict[str, Any], other: Callee, others: dict[str, Any]) -> bool:
        """Whether a call of it, and an earlier one of another, must keep their order."""
        ...


@final
class Promise:
    """One entry: the value of a call or of an operation, once it is there."""

    __slots__ = (
        "args",
        "callee",
        "deep",
        "dependants",
        "error",
        "function",
        "guard",
        "index",
        "inputs",
        "issued",
        "line",
        "missing",
        "name",
        "numbered",
        "scalar",
        "state",
        "value",
    )

    def __init__(self, index: int, line: int, numbered: int) -> None:
        """Enter something that stands on this line."""
        self.index = index
        self.line = line
        # How many calls the program had made before this entry.
        self.numbered = numbered
        self.state = PENDING
        self.value: Any = None
        self.error: Exception | None = None
        self.dependants: list[Promise] = []
        # How many inputs are not there yet.
        self.missing = 0
        # Of an operation: what computes it, from what. Of a call: its tool and arguments.
        self.function: Callable[..., Any] | None = None
        self.inputs: tuple[Any, ...] = ()
        self.deep = False
        self.callee: Callee | None = None
        self.args: dict[str, Any] = {}
        self.name = ""
        self.issued = False
        # The expression that it is a part of, if that gives its error as a value.
        self.guard: Guard | None = None
        # Whether the value is no container, whatever it is.
        self.scalar = False


@final
class Guard:
    """An expression that gives its error as a value, as `gather(…, return_exceptions=True)` does.

    It changes nothing but what comes of it, so nothing has to be taken back where a part of it
    fails: its value is the error, and the entries behind that one never happened.
    """

    __slots__ = ("_done", "entries", "gate", "inner", "outer", "value")

    def __init__(self, outer: Guard | None) -> None:
        """Begin inside of another, or of none."""
        self.outer = outer
        self.entries: list[Promise] = []
        # The entry of its value, once all others were entered, and what that is if none fails.
        self.gate: Promise | None = None
        self.value: Any = None
        # How many of the entries, from the first, are done.
        self._done = 0
        # Those that it has inside of it.
        self.inner: list[Guard] = []
        if outer is not None:
            outer.inner.append(self)

    def failed(self) -> Promise | None:
        """Return the entry that Python would have stopped at: all before it are done."""
        entries = self.entries
        while self._done < len(entries) and entries[self._done].state is DONE:
            self._done += 1
        first = entries[self._done] if self._done < len(entries) else None
        return first if first is not None and first.state is FAILED else None

    def is_done(self) -> bool:
        """Whether all entries are done."""
        return self.failed() is None and self._done == len(self.entries)

    def skip_behind(self, failed: Promise) -> Iterator[Promise]:
        """Give the entries behind one that failed; they never happened."""
        guards = [self]
        for guard in guards:
            guards += guard.inner
            for each in guard.entries:
                if each.index > failed.index and each.state is PENDING:
                    each.state, each.dependants = SKIPPED, []
                    yield each


def there(value: Any, missing: list[Promise], *, deep: bool) -> Any:
    """Return a value with what is there in the place of promises; note what is not."""
    while type(value) is Promise:  # a part of a container may be one itself
        if value.state is not DONE:
            missing.append(value)
            return value
        value = value.value
    if deep and type(value) in CONTAINERS:
        return fill(value, missing, {})
    return value


def all_there(values: tuple[Any, ...], missing: list[Promise], *, deep: bool) -> tuple[Any, ...]:
    """Return values with what is there in the place of promises; note what is not."""
    if deep and len(values) > _SEVERAL:  # one container may be given many times
        filled: tuple[Any, ...] = fill(values, missing, {})
        return filled
    return tuple([there(each, missing, deep=deep) for each in values])


_SEVERAL: Final = 8


def fill(value: Any, missing: list[Promise], seen: dict[int, Any]) -> Any:  # noqa: C901
    """Put what is there in the place of promises, inside of containers too; note what is not."""
    while type(value) is Promise:
        if value.state is not DONE:
            missing.append(value)
            return value
        value = value.value
    kind = type(value)
    if kind not in CONTAINERS:
        return value
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = value
    if kind is list:
        # The kinds first, without a step of ours for each item: most long lists are flat.
        if not HOLDING.isdisjoint(map(type, value)):
            for place, item in enumerate(value):
                if _holds(item):
                    value[place] = fill(item, missing, seen)
    elif kind is dict:
        for key, item in value.items():
            if _holds(item):
                value[key] = fill(item, missing, seen)
    elif kind is tuple and any(map(_holds, value)):
        return _filled_tuple(value, missing, seen)
    return value


def _holds(item: Any) -> bool:
    return type(item) in HOLDING


HOLDING: Final[frozenset[type[Any]]] = frozenset({Promise, *CONTAINERS})


def _filled_tuple(
    value: tuple[Any, ...], missing: list[Promise], seen: dict[int, Any]
) -> tuple[Any, ...]:
    made = tuple([fill(item, missing, seen) for item in value])
    if all(one is other for one, other in zip(made, value, strict=True)):
        return value
    seen[id(value)] = made
    return made


def copied_value(value: Any, seen: dict[int, Any]) -> Any:
    """Copy containers, promises inside of them as they are; what is shared stays shared."""
    kind = type(value)
    if kind not in CONTAINERS or kind is frozenset:
        return value
    if id(value) in seen:
        return seen[id(value)]
    made: Any
    if kind is list:
        made = seen[id(value)] = []
        made.extend([copied_value(item, seen) for item in value])
    elif kind is dict:
        made = seen[id(value)] = {}
        made.update({key: copied_value(item, seen) for key, item in value.items()})
    elif kind is set:
        made = seen[id(value)] = set(value)
    else:
        made = seen[id(value)] = tuple([copied_value(item, seen) for item in value])
    return made


def reaches(inputs: tuple[Any, ...], goal: Any) -> bool:
    """Whether a container stands anywhere inside of these."""
    stack, seen = list(inputs), set[int]()
    while stack:
        item = stack.pop()
        if type(item) is Promise:
            if item.state is DONE:
                stack.append(item.value)
            else:
                stack.extend(item.inputs)
            continue
        if item is goal:
            return True
        if type(item) in CONTAINERS and id(item) not in seen:
            seen.add(id(item))
            stack.extend(elements(item))
    return False
