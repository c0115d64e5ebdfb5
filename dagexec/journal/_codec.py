"""Values as JSON that comes back with its types.

JSON's own types are themselves. Everything else becomes `{"$type": name, ...}`: what Python has
for everyday use, pydantic models, dataclasses, enums and named tuples by their class, and what was
registered in a `Types`. A class is looked up among the modules that are loaded; nothing is ever
imported, called or evaluated because a file says so.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_json

from dagexec._errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MARK: Final = "$type"
_ATOMS: Final = frozenset((str, bool, type(None)))
# Beyond this, Python refuses to write an integer in decimal.
_LONG_INT: Final = 10**4000


@final
@dataclass(frozen=True, slots=True)
class _Kind:
    """How the values of one class are written and read."""

    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _seconds(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


_BUILT_IN: Final[dict[type, _Kind]] = {
    tuple: _Kind("tuple", list, tuple),
    set: _Kind("set", list, set),
    frozenset: _Kind("frozenset", list, frozenset),
    bytes: _Kind("bytes", lambda value: base64.b64encode(value).decode(), base64.b64decode),
    bytearray: _Kind(
        "bytearray",
        lambda value: base64.b64encode(value).decode(),
        lambda text: bytearray(base64.b64decode(text)),
    ),
    complex: _Kind("complex", repr, complex),
    datetime: _Kind("datetime", datetime.isoformat, datetime.fromisoformat),
    date: _Kind("date", date.isoformat, date.fromisoformat),
    time: _Kind("time", time.isoformat, time.fromisoformat),
    timedelta: _Kind("timedelta", _seconds, lambda parts: timedelta(*parts)),
    Decimal: _Kind("decimal", str, Decimal),
    Fraction: _Kind("fraction", str, Fraction),
    UUID: _Kind("uuid", str, UUID),
    PosixPath: _Kind("path", str, Path),
    WindowsPath: _Kind("path", str, Path),
    PurePosixPath: _Kind("pure_posix_path", str, PurePosixPath),
    PureWindowsPath: _Kind("pure_windows_path", str, PureWindowsPath),
}


@final
class Types:
    """The types that a journal can hold beyond JSON's; give it to the journal as `types=`."""

    def __init__(self) -> None:
        """Start with the types of the standard library."""
        self._by_class: dict[type, _Kind] = dict(_BUILT_IN)
        self._by_name: dict[str, _Kind] = {kind.name: kind for kind in _BUILT_IN.values()}

    def register(
        self, kind: type[T], name: str, write: Callable[[T], Any], read: Callable[[Any], T]
    ) -> None:
        """Hold values of exactly this class: `write` gives what JSON can hold, `read` takes it.

        `name` stands in the file, so it must stay the same. Raises JournalError if it is taken.
        """
        if name in self._by_name or name in _CLASS_KINDS or kind in (str, int, float, dict, list):
            msg = f"the type {name!r} cannot be registered: it has its place already"
            raise JournalError(msg)
        self._by_class[kind] = self._by_name[name] = _Kind(name, write, read)

    def dumps(self, value: Any) -> str:
        """Return a value as JSON text; raise JournalError for a type without a place.

        The same value gives the same text.
        """
        try:
            body = value if _is_plain(value) else self._pack(value)
            try:
                return to_json(body).decode()
            except ValueError:  # half of a surrogate pair, which only an escape can hold
                return json.dumps(body, separators=(",", ":"), allow_nan=False)
        except RecursionError:
            msg = "a value that contains itself, or nests too deep, cannot be recorded"
            raise JournalError(msg) from None

    def loads(self, text: str) -> Any:
        """Return the value of a text that `dumps` made; raise JournalError for any other."""
        try:
            return self._unpack(json.loads(text))
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            msg = f"a recorded value cannot be read: {error!r:.200}"
            raise JournalError(msg) from None

    # ------------------------------------------------------------------------------------- writing

    def _pack(self, value: Any) -> Any:  # noqa: PLR0911 - one a kind
        kind = cast("type[object]", type(value))
        if kind in _ATOMS:
            return value
        if kind is int:
            big = not -_LONG_INT < value < _LONG_INT
            return {MARK: "int", "value": hex(value)} if big else value
        if kind is float:
            return value if math.isfinite(value) else {MARK: "float", "value": repr(value)}
        if kind is dict:
            return self._pack_dict(value)
        if kind is list:
            return [self._pack(item) for item in value]
        known = self._by_class.get(kind)
        if known is None:
            return self._pack_object(kind, value)
        return {MARK: known.name, "value": self._pack(known.write(value))}

    def _pack_dict(self, value: dict[Any, Any]) -> Any:
        pack = self._pack
        if MARK not in value and all(type(key) is str for key in value):
            return {key: pack(item) for key, item in value.items()}
        return {MARK: "dict", "value": [[pack(key), pack(item)] for key, item in value.items()]}

    def _pack_object(self, kind: Any, value: Any) -> Any:
        body: Any
        if isinstance(value, Enum):
            form, body = "enum", value.name
        elif isinstance(value, BaseModel):
            form, body = "model", self._model_body(value)
        elif is_dataclass(kind):
            names = [field.name for field in fields(kind)]
            body = {
                name: self._pack(getattr(value, name)) for name in names if hasattr(value, name)
            }
            form = "dataclass"
        elif _is_namedtuple(kind):
            form, body = "namedtuple", [self._pack(item) for item in value]
        else:
            msg = (
                f"a value of type {kind!r} cannot be recorded: return"
                " JSON, a dataclass or a pydantic model, or register the type"
                " (dagexec.journal.Types)"
            )
            raise JournalError(msg)
        return {MARK: form, "class": _place(kind), "value": body}

    def _model_body(self, value: BaseModel) -> dict[str, Any]:
        extra = value.__pydantic_extra__
        return {
            "fields": {name: self._pack(item) for name, item in value.__dict__.items()},
            "extra": None if extra is None else self._pack_dict(extra),
            "set": sorted(value.model_fields_set),
        }

    # ------------------------------------------------------------------------------------- reading

    def _unpack(self, value: Any) -> Any:  # noqa: PLR0911 - one a kind
        if isinstance(value, list):
            return [self._unpack(item) for item in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        body = cast("dict[str, Any]", value)
        if MARK not in body:
            return {key: self._unpack(item) for key, item in body.items()}
        name, inner = body[MARK], body["value"]
        if name == "dict":
            return {self._unpack(key): self._unpack(item) for key, item in inner}
        if name in _NUMBERS:
            return _NUMBERS[name](inner)
        if name in _CLASS_KINDS:
            return self._unpack_object(name, _class_at(body["class"]), inner)
        known = self._by_name.get(name)
        if known is None:
            msg = f"a recorded value has the type {name!r}, which is not registered here"
            raise JournalError(msg)
        return known.read(self._unpack(inner))

    def _unpack_object(self, form: str, kind: Any, inner: Any) -> Any:
        if not _fits(form, kind):
            msg = f"{kind!r} is no {form} any more"
            raise TypeError(msg)
        if form == "enum":
            return kind[inner]
        if form == "namedtuple":
            return kind._make(self._unpack(inner))
        # As they were, without the validators and __post_init__ that made them what they are.
        made = kind.__new__(kind)
        if form == "dataclass":
            for name, item in inner.items():
                object.__setattr__(made, name, self._unpack(item))
            return made
        extra = inner["extra"]
        object.__setattr__(made, "__dict__", self._unpack(inner["fields"]))
        object.__setattr__(made, "__pydantic_fields_set__", set(inner["set"]))
        object.__setattr__(made, "__pydantic_extra__", extra and self._unpack(extra))
        object.__setattr__(made, "__pydantic_private__", None)
        return made


def _is_plain(value: Any) -> bool:
    """Whether a value is JSON as it stands; most are, and need no copy."""
    kind = cast("type[object]", type(value))
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or key == MARK:
                return False
            if type(item) not in _ATOMS and not _is_plain(item):
                return False
        return True
    if kind is list:
        return all(_is_plain(item) for item in value)
    if kind is float:
        return math.isfinite(value)
    return kind in _ATOMS or (kind is int and -_LONG_INT < value < _LONG_INT)


# Numbers that JSON cannot hold.
_NUMBERS: Final[dict[str, Callable[[str], Any]]] = {
    "int": lambda text: int(text, 16),
    "float": float,
}
_CLASS_KINDS: Final = ("dict", "int", "float", "enum", "model", "dataclass", "namedtuple")


def _fits(form: str, kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    tests: dict[str, Callable[[], bool]] = {
        "enum": lambda: issubclass(kind, Enum),
        "model": lambda: issubclass(kind, BaseModel),
        "dataclass": lambda: is_dataclass(kind),
        "namedtuple": lambda: _is_namedtuple(kind),
    }
    return form in tests and tests[form]()


def _is_namedtuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_make")  # pyright: ignore[reportUnknownArgumentType] - a bare tuple


def _place(kind: Any) -> str:
    place = f"{kind.__module__}:{kind.__qualname__}"
    try:
        found: Any = _class_at(place)
    except LookupError:
        found = None
    if found is not kind:
        msg = (
            f"a value of type {kind.__qualname__} cannot be recorded: another process would not"
            " find the class; define it at the top of a module, or register it"
            " (dagexec.journal.Types)"
        )
        raise JournalError(msg)
    return place


def _class_at(place: str) -> Any:
    module, _, qualname = place.partition(":")
    found: Any = sys.modules.get(module)
    if found is None:
        msg = f"the module {module!r} of a recorded value is not imported; import it first"
        raise LookupError(msg)
    for part in qualname.split("."):
        # Not getattr: a name in a file must not run a property or a module's __getattr__.
        found = cast("dict[str, Any]", vars(found)).get(part)
        if found is None:
            msg = f"{place!r} of a recorded value is not there any more"
            raise LookupError(msg)
    return found
