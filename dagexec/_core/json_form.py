"""The JSON form of any value: what a report, a page, a template and a model are shown of it.

| value | form |
|---|---|
| text, whole number, truth, null | itself; a number of more than 4,300 digits is a text of them |
| NaN and the infinities | the texts "NaN", "Infinity", "-Infinity" |
| mappings, lists, tuples, sets, other sequences | object, list |
| models, dataclasses, dates, Decimal, UUID, Path | what pydantic makes of them |
| members of an Enum, combined flags too | the form of their value |
| bytes | the text, if it is UTF-8, else "<12 bytes>" |
| numbers and arrays of numpy | number, list; a large array "<float64 array of shape (3, 4000)>" |
| other sequences of more than 10,000 items | "<range of 1000000000 items>" |
| anything else | what `other` says; without it "<type's name>" |
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, cast

from dagexec._core.copies import PLAIN

_log: Final = logging.getLogger("dagexec")

# Python writes and reads no longer number in decimal (sys.int_info.default_max_str_digits).
_DIGITS_IN_BITS: Final = 14_280
# Bits of the largest number whose digits are shown: some 120,000 of them.
_MOST_BITS: Final = 400_000
# Numbers of the largest array that is shown.
_MOST_NUMBERS: Final = 10_000
_MOST_DEPTH: Final = 200
# Bytes of a buffer from which on it is not read to see whether it is a text.
_MOST_BYTES: Final = 1_000_000
_LISTS: Final = (list, tuple, deque)
_OWNED: Final = (*_LISTS, set, frozenset)
_UNQUOTED: Final = (str, bytes, bytearray, dict, *_OWNED)


def type_name(value: object) -> str:
    """Return the name of a value's type, as it stands where the value cannot be shown."""
    return f"<{type(value).__name__}>"


def json_form(value: Any, other: Callable[[Any], str] = type_name) -> Any:
    """Return what JSON can hold of a value; never raises.

    `other` names what has no JSON form; so is a value that holds itself, or nests 200 deep.
    """
    try:
        return _form(value, other, ())
    except _Endless:
        return other(value)


def exact_form(value: Any) -> Any:
    """Return the JSON form of a value that has one in every part, else the value itself."""
    lacking: list[Any] = []
    form = json_form(value, _Exact(lacking))
    return value if lacking else form


class _Exact:
    """Notes what is only named in a form, because JSON cannot hold it."""

    def __init__(self, lacking: list[Any]) -> None:
        self._lacking = lacking

    def __call__(self, value: Any) -> str:
        self._lacking.append(value)
        return ""


def _named(text: str, value: Any, other: Callable[[Any], str]) -> str:
    return other(value) if isinstance(other, _Exact) else text


class _Endless(Exception):
    """A value holds itself, or is nested beyond any use."""


def _form(value: Any, other: Callable[[Any], str], inside: tuple[int, ...]) -> Any:
    kind = cast("type[Any]", type(value))
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return value if value.bit_length() <= _DIGITS_IN_BITS else _digits(value, other)
    if kind is float:
        return value if math.isfinite(value) else _no_number(value)
    if len(inside) > _MOST_DEPTH or id(value) in inside:
        raise _Endless
    if kind is list:
        inside = (*inside, id(value))
        return [item if type(item) is str else _form(item, other, inside) for item in value]
    try:
        return _form_of_object(value, other, (*inside, id(value)))
    except _Endless:
        raise
    except Exception:  # noqa: BLE001 - properties and serializers are a user's code
        return other(value)


def _form_of_object(  # noqa: PLR0911 - one a kind
    value: Any, other: Callable[[Any], str], inside: tuple[int, ...]
) -> Any:
    if isinstance(value, Enum):
        return _form(value.value, other, inside)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_key(key, other): _form(item, other, inside) for key, item in items}
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes(cast("bytes", value), other)
    if isinstance(value, Sequence | AbstractSet | ValuesView):
        return _list(cast("Sequence[Any]", value), other, inside)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return _array(value, other, inside)
    return _declared(value, other, inside)


def _list(value: Sequence[Any], other: Callable[[Any], str], inside: tuple[int, ...]) -> Any:
    # One that is not Python's own may be endless for practical purposes, as a range is.
    if len(value) > _MOST_NUMBERS and not isinstance(value, _OWNED):
        return _named(f"<{type(value).__name__} of {len(value)} items>", value, other)
    return [_form(item, other, inside) for item in value]


def _declared(value: Any, other: Callable[[Any], str], inside: tuple[int, ...]) -> Any:
    """Return the form of a model, a dataclass, or what pydantic has a form for."""
    from pydantic_core import to_jsonable_python

    def written(part: Any) -> Any:
        return other(value) if part is value else _form(part, other, inside)

    try:
        return written(to_jsonable_python(value, inf_nan_mode="strings", fallback=written))
    except ValueError:  # bytes that are no UTF-8, keys that are no text, cycles
        parts = _parts(value)
    if parts is None:
        return other(value)
    return {name: written(part) for name, part in parts.items()}


def _parts(value: Any) -> dict[str, Any] | None:
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(cast("Any", value))}
    if hasattr(cast("Any", type(value)), "model_fields"):
        return {**value.__dict__, **(value.model_extra or {})}
    return None


def _array(value: Any, other: Callable[[Any], str], inside: tuple[int, ...]) -> Any:
    if getattr(value, "size", 1) > _MOST_NUMBERS:
        return _named(f"<{value.dtype} array of shape {tuple(value.shape)}>", value, other)
    held = value.tolist()
    # An array of one object may hand out that object, or itself.
    return other(value) if held is value else _form(held, other, inside)


def _key(key: Any, other: Callable[[Any], str]) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    form = _form(key, other, ())
    return form if isinstance(form, str) else json.dumps(form, ensure_ascii=False)


def _bytes(value: bytes | bytearray | memoryview, other: Callable[[Any], str]) -> str:
    if len(value) <= _MOST_BYTES or type(value) is bytes:
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            pass
    return _named(f"<{len(value)} bytes>", value, other)


def _no_number(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def snapshot(value: Any) -> Any:
    """Return the form of a value that others may change in place, None of any other.

    It is made when a call ends, because dependants share what is no container of JSON's kinds.
    """
    return json_form(value, _shown) if _may_change(value, 0) else None


@cache
def _fixed() -> tuple[type, ...]:
    """Return the types that cannot change, besides what is plain; `import dagexec` needs none."""
    from datetime import date, time, timedelta, tzinfo
    from decimal import Decimal
    from fractions import Fraction
    from pathlib import PurePath
    from uuid import UUID

    return (Enum, date, time, timedelta, tzinfo, Decimal, Fraction, UUID, PurePath, range)


def _may_change(value: Any, depth: int) -> bool:
    kind = cast("type[Any]", type(value))
    if kind in PLAIN or isinstance(value, _fixed()):
        return False
    if kind is dict:
        value = value.values()
    elif not isinstance(value, _OWNED):
        return True
    for item in cast("list[Any]", value):
        if type(item) not in PLAIN and (depth > _MOST_DEPTH or _may_change(item, depth + 1)):
            return True
    return False


def _digits(value: int, other: Callable[[Any], str]) -> str:
    """Return a number in decimal, however long; of an enormous one only how long it is."""
    if value.bit_length() > _MOST_BITS or isinstance(other, _Exact):
        return _named(f"<integer of {value.bit_length()} bits>", value, other)
    from pydantic_core import to_json  # which knows no limit

    return to_json(value).decode()


def as_text(value: Any, form: Any = None, *, quoted: bool = False) -> str:
    """Return a value as a text: a text as it is, all else as the JSON of its form; never raises.

    `form` is that of `Outcome.form`, for a value that may have changed since. Where the form of
    anything but text, bytes and containers is a text, such as a date's, it is `quoted` or not.
    """
    if type(value) in (dict, list) and form is None:
        try:
            from pydantic_core import to_json

            return to_json(value, inf_nan_mode="constants").decode()
        except Exception:  # noqa: BLE001 - no quick way: bytes, half surrogate pairs, any object
            form = None
    if form is None:
        form = json_form(value, _shown)
    if isinstance(form, str) and (not quoted or isinstance(value, _UNQUOTED)):
        return form
    return json.dumps(form, ensure_ascii=False, separators=(",", ":"))


# Types that were warned about; once is enough.
_warned: Final[set[str]] = set()


def _shown(value: Any) -> str:
    name = type(value).__name__
    if name not in _warned:
        _warned.add(name)
        _log.warning(
            "a value of type %s has no JSON form, so a text for the model has its repr: let the"
            " tool return a dict, a dataclass or a pydantic model",
            name,
        )
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a repr may raise anything, RecursionError too
        return type_name(value)
