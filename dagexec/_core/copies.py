"""Whose a value is: containers of JSON's kinds are each reader's own, all else is shared.

A tool may keep what it returned, and each call that refers to a value may change its argument in
place. So a value is copied when its call ends and when a reference delivers it: dictionaries,
lists, tuples and sets, with what they hold of these kinds, of their subclasses too. Text, numbers
and bytes cannot change. Any other object (a model, an array, a connection) is passed on as it is.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from types import NoneType
from typing import Any, Final, cast

# What cannot change and holds nothing.
PLAIN: Final = frozenset({NoneType, bool, int, float, complex, str, bytes})
_CONTAINERS: Final = (dict, list, tuple, set, deque)
# Items of a list from which on it is worth a look whether all of them are plain.
_MANY: Final = 64


def same(value: Any) -> Any:
    """Return the value itself."""
    return value


def own(value: Any, other: Callable[[Any], Any] = same) -> Any:
    """Return the value with containers that are nobody else's.

    `other` gets everything else that is not plain, inside and outside, and returns what to put in
    its place. What is nested too deep for Python's stack stays shared.
    """
    kind = cast("type[Any]", type(value))
    if kind in PLAIN:
        return value
    if kind is dict:
        for item in value.values():
            if type(item) not in PLAIN:
                break
        else:
            return value.copy()
    elif kind is list and _all_plain(value):
        return value.copy()
    elif not isinstance(value, _CONTAINERS):
        return other(value)
    try:
        return _copied(value, other, {})
    except RecursionError:
        return cast("Any", value)


def _twin(value: Any) -> Any:
    """Return a copy of a container, the container itself if its class allows none."""
    try:
        return copy.copy(value)
    except Exception:  # noqa: BLE001 - a class of the user's
        return value


def _all_plain(items: list[Any]) -> bool:
    if len(items) > _MANY:
        return PLAIN.issuperset(map(type, items))
    for item in items:  # noqa: SIM110 - all() would make a generator
        if type(item) not in PLAIN:
            return False
    return True


def _copied(  # noqa: PLR0911 - one a kind
    value: Any, other: Callable[[Any], Any], made: dict[int, Any]
) -> Any:
    """Return a copy; `made` has the copies by the ids of their originals, for cycles."""
    kind = cast("type[Any]", type(value))
    if kind in PLAIN:
        return value
    found = made.get(id(value))
    if found is not None:
        return found
    if isinstance(value, dict):
        return _copied_dict(cast("dict[Any, Any]", value), other, made)
    if isinstance(value, list | deque):
        return _copied_list(cast("list[Any]", value), other, made)
    if isinstance(value, tuple):
        return _copied_tuple(cast("tuple[Any, ...]", value), other, made)
    if isinstance(value, set):
        return _twin(cast("set[Any]", value))  # what it holds can be hashed, and stays
    return other(value)


def _copied_dict(value: dict[Any, Any], other: Callable[[Any], Any], made: dict[int, Any]) -> Any:
    twin = made[id(value)] = value.copy() if type(value) is dict else _twin(value)
    for key, item in value.items():
        if type(item) not in PLAIN:
            cast("Any", dict).__setitem__(twin, key, _copied(item, other, made))
    return twin


def _copied_list(value: list[Any], other: Callable[[Any], Any], made: dict[int, Any]) -> Any:
    twin = made[id(value)] = value.copy() if type(value) is list else _twin(value)
    for index, item in enumerate(value):
        if type(item) not in PLAIN:
            twin[index] = _copied(item, other, made)
    return twin


def _copied_tuple(value: tuple[Any, ...], other: Callable[[Any], Any], made: dict[int, Any]) -> Any:
    items = [_copied(item, other, made) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if type(value) is tuple:
        return tuple(items)
    make = getattr(type(value), "_make", None)  # a NamedTuple's
    return value if make is None else make(items)
