"""Where the path of a reference leads inside of a value: through declared data and JSON texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import EllipsisType
from typing import Any, Final, cast

from dagexec._core.copies import own
from dagexec._core.names import kind_of
from dagexec._core.refs import MISSING, Path, segment
from dagexec._errors import BadReference

_TEXTS: Final = (str, bytes, bytearray, memoryview)
_SHOWN_KEYS: Final = 8
_SHOWN_TEXT: Final = 60  # characters
# How a text that may be JSON begins, and how many blanks may stand before.
_OPENING: Final = ("{", "[")
_BLANKS: Final = 100


def follow(value: Any, path: Path) -> Any:
    """Return what lies at `path` inside `value`; raise BadReference that says what is there.

    A text that is JSON is read and entered; where the path ends, it stays the text that it is.
    """
    texts: list[str] = []
    found = _followed(value, path, 0, texts)
    # What was read is kept for other references; nobody may change it for them.
    return own(found) if texts else found


def _followed(value: Any, path: Path, done: int, texts: list[str]) -> Any:
    """Return what lies at the rest of a path, `done` steps of which led here; note texts read."""
    for position in range(done, len(path)):
        part = path[position]
        if isinstance(value, str) and (read := json_of(value)) is not None:
            texts.append(value)
            value = read
        if isinstance(part, EllipsisType):
            if isinstance(value, list | tuple):
                return _of_each(cast("Sequence[Any]", value), path, position, texts)
            found = MISSING
        else:
            found = _step(value, part)
        if found is MISSING:
            where = "".join(segment(step) for step in path[:position])
            msg = f"nothing at {segment(part)!r}: {_described(value, where)}"
            raise BadReference(msg)
        value = found
    return value


def _of_each(items: Sequence[Any], path: Path, position: int, texts: list[str]) -> list[Any]:
    """Return what lies at the rest of a path in each item; messages name the item."""
    before, after = path[:position], path[position + 1 :]
    return [
        _followed(item, (*before, index, *after), position + 1, texts)
        for index, item in enumerate(items)
    ]


def json_of(text: str) -> dict[str, Any] | list[Any] | None:
    """Return the object or array that a text is as JSON, None if it is none; not to be changed."""
    start = text[:1] if text[:1] in "{[" else text[:_BLANKS].lstrip()[:1]
    return _read(text) if start in _OPENING else None


@lru_cache(maxsize=8)  # several references lead into one text; few texts at a time
def _read(text: str) -> dict[str, Any] | list[Any] | None:
    from pydantic_core import from_json

    try:
        return from_json(text)  # type: ignore[no-any-return]
    except ValueError:
        return None


def _step(value: object, part: str | int) -> Any:
    if isinstance(value, Mapping):
        return _entry(cast("Mapping[Any, Any]", value), part)
    # Only declared data: a path from a model must not reach methods or internals.
    if isinstance(part, str) and part in _names(value):
        return getattr(value, part)
    index = part if isinstance(part, int) else _as_index(part)
    if index is not None and isinstance(value, Sequence) and not isinstance(value, _TEXTS):
        items = cast("Sequence[Any]", value)
        return items[index] if -len(items) <= index < len(items) else MISSING
    return MISSING


def _entry(value: Mapping[Any, Any], part: str | int) -> Any:
    if part in value:
        return value[part]
    # JSON keys are strings, and models do not tell [0] from ["0"].
    other = str(part) if isinstance(part, int) else _as_index(part)
    return MISSING if other is None else value.get(other, MISSING)


def _as_index(part: str) -> int | None:
    return int(part) if part.isascii() and part.isdecimal() else None


def _names(value: Any) -> Sequence[str]:
    """Return the public fields that an object's class declares: a path may lead through these."""
    from pydantic import BaseModel

    names: Mapping[str, Any] | Sequence[str]
    if isinstance(value, BaseModel):
        kind = type(value)
        names = [*kind.model_fields, *kind.model_computed_fields, *(value.model_extra or ())]
    elif is_dataclass(value):
        names = [field.name for field in fields(value)]
    elif isinstance(value, tuple):
        names = getattr(cast("object", value), "_fields", ())
    else:
        names = [each.name for each in getattr(cast("Any", type(value)), "__attrs_attrs__", ())]
    return [name for name in names if not name.startswith("_")]


def _described(value: Any, where: str) -> str:
    subject = f"the value at {where!r}" if where else "the value"
    if isinstance(value, str):
        shown = value[:_SHOWN_TEXT] + ("…" if len(value) > _SHOWN_TEXT else "")
        return f"{subject} is a str and has no parts: a text that is not JSON, {shown!r}"
    names = _names(value)
    if isinstance(value, list | tuple) and not names:
        return f"{subject} is a list of {len(cast('Sequence[Any]', value))}"
    if isinstance(value, Mapping):
        names = [str(key) for key in cast("Mapping[Any, Any]", value)]
    if not names:
        return f"{subject} is {kind_of(cast('object', value))} and has no parts"
    shown = ", ".join(names[:_SHOWN_KEYS]) + (", …" if len(names) > _SHOWN_KEYS else "")
    return f"{subject} has {shown}"
