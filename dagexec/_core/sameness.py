"""When two arguments are the same: known of the types that are listed here, and of no others.

Imported where pure calls are first shared: what it knows takes as long to import as dagexec.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

# Equal values of these types are the same value in every respect.
_SAME_IF_EQUAL: Final = frozenset({type(None), bool, int, str, bytes, date, timedelta, UUID})
# And of these if they are written alike: 0.0 and -0.0, 1.5 and 1.50, one instant at two offsets.
_SAME_IF_WRITTEN_ALIKE: Final = frozenset({float, complex, Decimal})
# Whose time zones have a representation that says it all.
_ZONES: Final = ("datetime", "zoneinfo", "pydantic_core")


def frozen(value: Any) -> Hashable:  # noqa: C901, PLR0911 - one a kind
    """Return something equal for the same arguments only; raise TypeError where nobody can tell.

    1, 1.0 and True are equal in Python and not the same argument. Only types that are listed here
    are known; of models and dataclasses all that they hold is compared.
    """
    kind = cast("type[Any]", type(value))
    if kind in _SAME_IF_EQUAL:
        return kind, value
    if kind is dict:
        # Names and most values end here, without a frame for each.
        plain = _SAME_IF_EQUAL
        items: Any = [
            (
                (type(key), key) if type(key) in plain else frozen(key),
                (type(item), item) if type(item) in plain else frozen(item),
            )
            for key, item in value.items()
        ]
        return kind, tuple(items)
    if kind is list or kind is tuple:
        return kind, tuple([frozen(item) for item in value])
    if kind is frozenset:
        return kind, frozenset([frozen(item) for item in value])
    if kind in _SAME_IF_WRITTEN_ALIKE:
        return kind, repr(value)
    if (kind is datetime or kind is time) and _is_known(value.tzinfo):
        return kind, repr(value)
    if isinstance(value, Enum):
        return kind, value.name, frozen(value.value)
    if isinstance(value, PurePath):
        return kind, str(value)
    return kind, frozen(_held(value))


def _is_known(zone: tzinfo | None) -> bool:
    return zone is None or type(zone).__module__.partition(".")[0] in _ZONES


def _held(value: Any) -> dict[str, Any]:
    """Return all that a model, a dataclass or a NamedTuple holds; raise TypeError for others."""
    kind = cast("Any", type(value))
    names: list[str]
    if hasattr(kind, "model_fields") and hasattr(kind, "__pydantic_private__"):
        inner = (value.__pydantic_extra__, value.__pydantic_private__)
        return {"fields": value.__dict__, "more": inner}
    if is_dataclass(value):
        names = [field.name for field in fields(cast("Any", value))]
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
    else:
        msg = f"nobody knows when two objects of type {kind.__name__} are the same"
        raise TypeError(msg)
    more: dict[str, Any] = getattr(cast("Any", value), "__dict__", {})
    if not set(names).issuperset(more):
        msg = f"this {kind.__name__} holds more than its fields"
        raise TypeError(msg)
    return {name: getattr(cast("Any", value), name) for name in names}
