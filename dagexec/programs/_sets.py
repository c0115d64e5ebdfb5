"""Sets, in an order that is the same in every process.

Python orders a set by hashes, and those of texts differ from process to process. A program that is
interpreted again, after a crash or on another machine, must come to the same calls. So a set is
read as if it were sorted, unless it holds numbers only, whose hashes are always the same.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, final

_NUMBERS: Final = (int, float, bool)
_SETS: Final = (set, frozenset)
_NESTED: Final = (list, dict, tuple, set, frozenset)


def in_order(value: Any) -> Any:
    """Return what to iterate over: of a set its items in order, any other value as it is."""
    if type(value) not in _SETS or all(type(each) in _NUMBERS for each in value):
        return value
    return sorted(value, key=_rank)


def _rank(item: Any) -> tuple[int, Any, str]:
    kind = type(item)
    if kind is str:
        return 1, 0, item
    if kind in _NUMBERS:
        return 0, item if item == item else float("inf"), repr(item)  # noqa: PLR0124 - not a number
    return 2, 0, f"{kind.__name__} {shown(item)!r}"


def steps_of(value: Any) -> Iterator[Any]:
    """Iterate over a value that may be changed meanwhile, with Python's error for a set."""
    ordered = in_order(value)
    return iter(value) if ordered is value else _steps(value, ordered)


def _steps(value: Any, ordered: list[Any]) -> Iterator[Any]:
    size, changed = len(value), "Set changed size during iteration"
    for item in ordered:
        if len(value) != size:
            raise RuntimeError(changed)
        yield item
    if len(value) != size:
        raise RuntimeError(changed)


def taken_from(value: Any) -> Any:
    """Return `value.pop()` of a set; raise KeyError for an empty one."""
    for item in in_order(value):
        value.remove(item)
        return item
    return value.pop()


@final
class _Shown:
    """Stands for a set where a value is written out."""

    def __init__(self, kind: type, items: list[Any]) -> None:
        self._kind = kind
        self._items = items

    def __repr__(self) -> str:
        text = f"{{{', '.join(map(repr, self._items))}}}"
        return text if self._kind is set else f"frozenset({text})"


def shown(value: Any) -> Any:
    """Return a value whose `str` and `repr` are the same in every process."""
    return _copied(value, {}) if _has_sets(value) else value


def _has_sets(value: Any) -> bool:
    stack, seen = [value], set[int]()
    while stack:
        item = stack.pop()
        if type(item) not in _NESTED or id(item) in seen:
            continue
        if type(item) in _SETS and in_order(item) is not item:
            return True
        seen.add(id(item))
        stack.extend([*item, *item.values()] if type(item) is dict else item)
    return False


def _copied(value: Any, seen: dict[int, Any]) -> Any:
    kind = type(value)
    if kind not in _NESTED:
        return value
    if id(value) in seen:
        return seen[id(value)]
    if kind in _SETS:
        ordered = in_order(value)
        return value if ordered is value else _Shown(kind, [_copied(each, {}) for each in ordered])
    made: Any
    if kind is list:
        made = seen[id(value)] = []
        made.extend([_copied(each, seen) for each in value])
    elif kind is dict:
        made = seen[id(value)] = {}
        made.update({_copied(key, seen): _copied(each, seen) for key, each in value.items()})
    else:
        made = tuple([_copied(each, seen) for each in value])
    return made
