"""Values as JSON that comes back with its types.

JSON's own types are themselves. Everything else becomes `{"$type": name, ...}`: what Python has
for everyday use, pydantic models, dataclasses, enums and named tuples by their class, and what was
registered in a `Types`. A class is looked up among the modules that are loaded; nothing of a user's
is ever imported, called or evaluated because a file says so. What is written can be read again:
what could not is refused when it is written.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, TypeVar, cast, final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_json

from dagexec._errors import JournalError
from dagexec.journal._classes import class_at, place_of
from dagexec.journal._collections import COLLECTIONS
from dagexec.journal._images import image_read, is_image, picture_of
from dagexec.journal._numpy import is_numpy, numpy_read, numpy_written

T = TypeVar("T")

MARK: Final = "$type"
_ATOMS: Final = frozenset((str, bool, type(None)))
# Beyond this, Python may refuse to read or write an integer in decimal: 640 digits is the lowest
# limit that `sys.set_int_max_str_digits` takes.
_LONG_INT: Final = 10**600
# How deep JSON may nest: far below what Python can read on a stack that is in use already.
_DEEPEST: Final = 200


@final
@dataclass(frozen=True, slots=True)
class _Kind:
    """How the values of one class are written and read."""

    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _seconds(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _fraction(parts: Any) -> Fraction:
    return Fraction(parts) if isinstance(parts, str) else Fraction(*parts)


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
    Fraction: _Kind("fraction", lambda value: [value.numerator, value.denominator], _fraction),
    UUID: _Kind("uuid", str, UUID),
    PosixPath: _Kind("path", str, Path),
    WindowsPath: _Kind("path", str, Path),
    PurePosixPath: _Kind("pure_posix_path", str, PurePosixPath),
    PureWindowsPath: _Kind("pure_windows_path", str, PureWindowsPath),
    **{kind: _Kind(*how) for kind, how in COLLECTIONS.items()},
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
        if name in self._by_name or name in _TAKEN or kind in (str, int, float, dict, list):
            msg = f"the type {name!r} cannot be registered: it has its place already"
            raise JournalError(msg)
        self._by_class[kind] = self._by_name[name] = _Kind(name, write, read)

    def dumps(self, value: Any) -> str:
        """Return a value as JSON text; raise JournalError for a type without a place.

        The same value gives the same text.
        """
        try:
            if _is_plain(value, _DEEPEST):
                body = value
            else:
                body = self._pack(value)
                _check_depth(body, _DEEPEST)
            try:
                return to_json(body).decode()
            except ValueError:  # half of a surrogate pair, which only an escape can hold
                return json.dumps(body, separators=(",", ":"), allow_nan=False)
        except RecursionError:
            msg = (
                f"a value that contains itself, or nests deeper than {_DEEPEST} levels, cannot be"
                " recorded"
            )
            raise JournalError(msg) from None
        except JournalError:
            raise
        except (Exception, SystemExit) as error:
            msg = f"a value cannot be recorded: {error!r:.200}"
            raise JournalError(msg) from error

    def loads(self, text: str) -> Any:
        """Return the value of a text that `dumps` made; raise JournalError for any other."""
        try:
            return json.loads(text, object_hook=self._unpack)
        except JournalError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a registered type's own code
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
        return {MARK: known.name, "value": self._pack(_written(known, value))}

    def _pack_dict(self, value: dict[Any, Any]) -> Any:
        pack = self._pack
        if MARK not in value and all(type(key) is str for key in value):
            return {key: pack(item) for key, item in value.items()}
        return {MARK: "dict", "value": [[pack(key), pack(item)] for key, item in value.items()]}

    def _pack_object(self, kind: Any, value: Any) -> Any:
        body: Any
        if is_numpy(kind):
            return {MARK: "numpy", "value": numpy_written(value, self._pack)}
        if isinstance(value, Enum):
            form, body = self._enum_body(kind, value)
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
            return self._pack_picture(kind, value)
        if form in ("model", "dataclass"):
            _check_makes(kind)
        return {MARK: form, "class": place_of(kind), "value": body}

    def _pack_picture(self, kind: Any, value: Any) -> Any:
        picture = picture_of(value)
        if picture is None:
            msg = (
                f"a value of type {kind!r} cannot be recorded: return"
                " JSON, a dataclass or a pydantic model, or register the type"
                " (dagexec.journal.Types)"
            )
            raise JournalError(msg)
        return {MARK: "image", "value": picture.base64} if is_image(value) else self._pack(picture)

    def _enum_body(self, kind: Any, value: Enum) -> tuple[str, Any]:
        """Return the name of a member; of flags that are combined or none at all, the number."""
        if kind.__members__.get(value.name) is value:
            return "enum", value.name
        if isinstance(value, Flag):
            return "flag", self._pack(value.value)
        msg = (
            f"{value!r} cannot be recorded: it is none of the members that {kind.__qualname__} is"
            " defined with; register the type (dagexec.journal.Types)"
        )
        raise JournalError(msg)

    def _model_body(self, value: BaseModel) -> dict[str, Any]:
        extra = value.__pydantic_extra__
        return {
            "fields": {name: self._pack(item) for name, item in value.__dict__.items()},
            "extra": None if extra is None else self._pack_dict(extra),
            "set": sorted(value.model_fields_set),
        }

    # ------------------------------------------------------------------------------------- reading

    def _unpack(self, body: dict[str, Any]) -> Any:
        """Return what an object stands for; those inside of it have been replaced already."""
        if MARK not in body:
            return body
        name, inner = body[MARK], body["value"]
        if name == "dict":
            return dict(inner)
        if name in _READERS:
            return _READERS[name](inner)
        if name in _CLASS_KINDS:
            return _made(name, class_at(body["class"]), inner)
        known = self._by_name.get(name)
        if known is None:
            msg = f"a recorded value has the type {name!r}, which is not registered here"
            raise JournalError(msg)
        return known.read(inner)


def _written(known: _Kind, value: Any) -> Any:
    try:
        return known.write(value)
    except JournalError:
        raise
    except (Exception, SystemExit) as error:
        msg = f"a value of type {known.name!r} cannot be recorded: {error!r:.200}"
        raise JournalError(msg) from error


def _made(form: str, kind: Any, inner: Any) -> Any:
    if not _fits(form, kind):
        msg = f"{kind!r} is no {form} any more"
        raise TypeError(msg)
    if form == "enum":
        return _member(kind, inner)
    if form == "flag":
        return kind(inner)
    if form == "namedtuple":
        return kind._make(inner)
    # As they were, without the validators and __post_init__ that made them what they are.
    made = kind.__new__(kind)
    if form == "dataclass":
        for name, item in inner.items():
            object.__setattr__(made, name, item)
        return made
    object.__setattr__(made, "__dict__", inner["fields"])
    object.__setattr__(made, "__pydantic_fields_set__", set(inner["set"]))
    object.__setattr__(made, "__pydantic_extra__", inner["extra"])
    object.__setattr__(made, "__pydantic_private__", _private(kind, inner["fields"]))
    return made


def _private(kind: type[BaseModel], fields: dict[str, Any]) -> dict[str, Any] | None:
    """Return the private attributes of a model that is read: what they are by default."""
    attributes = kind.__private_attributes__
    if not attributes:
        return None
    found: dict[str, Any] = {}
    for name, each in attributes.items():
        factory: Any = each.default_factory
        if factory is None:
            if each.default is not PydanticUndefined:
                found[name] = deepcopy(each.default)
        elif getattr(each, "default_factory_takes_validated_data", False):
            found[name] = factory({**fields, **found})
        else:
            found[name] = factory()
    return found


def _member(kind: Any, name: str | None) -> Any:
    """Return the member of an enum; of flags also what versions before this one wrote."""
    if name is None and issubclass(kind, Flag) and not issubclass(kind, int):
        return kind(0)  # an IntFlag without a name may be any number
    members: Any = kind.__members__
    if name in members or not issubclass(kind, Flag):
        return members[name]
    number = 0
    for part in str(name).split("|"):
        number |= members[part].value
    return kind(number)


def _check_makes(kind: Any) -> None:
    """Raise JournalError for a class whose objects cannot be made without what made them."""
    if kind.__new__ is object.__new__:
        return
    if not issubclass(kind, _HOLDERS):
        with suppress(Exception):
            kind.__new__(kind)
            return
    msg = (
        f"a value of type {kind.__qualname__} cannot be recorded: it is more than its fields;"
        " register the type (dagexec.journal.Types)"
    )
    raise JournalError(msg)


def _is_plain(value: Any, left: int) -> bool:  # noqa: C901 - each frame costs
    """Whether a value is JSON as it stands; most are, and need no copy. `left` levels may come."""
    kind = cast("type[object]", type(value))
    if kind is dict:
        if not left:
            raise RecursionError
        for key, item in value.items():
            if type(key) is not str or key == MARK:
                return False
            if type(item) not in _ATOMS and not _is_plain(item, left - 1):
                return False
        return True
    if kind is list:
        if not left:
            raise RecursionError
        return all(_is_plain(item, left - 1) for item in value)
    if kind is float:
        return math.isfinite(value)
    return kind in _ATOMS or (kind is int and -_LONG_INT < value < _LONG_INT)


def _check_depth(body: Any, left: int) -> None:
    kind = cast("type[object]", type(body))
    if kind is dict or kind is list:
        if not left:
            raise RecursionError
        for item in body.values() if kind is dict else body:
            if type(item) not in _ATOMS:
                _check_depth(item, left - 1)


# What JSON cannot hold and no class of the user's stands for.
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "numpy": numpy_read,
    "image": image_read,
}
_CLASS_KINDS: Final = ("enum", "flag", "model", "dataclass", "namedtuple")
_TAKEN: Final = ("dict", *_READERS, *_CLASS_KINDS)
# Classes whose objects hold something beside their attributes.
_HOLDERS: Final = (
    str,
    bytes,
    int,
    float,
    complex,
    tuple,
    list,
    dict,
    set,
    frozenset,
    BaseException,
)


def _fits(form: str, kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    tests: dict[str, Callable[[], bool]] = {
        "enum": lambda: issubclass(kind, Enum),
        "flag": lambda: issubclass(kind, Flag),
        "model": lambda: issubclass(kind, BaseModel),
        "dataclass": lambda: is_dataclass(kind),
        "namedtuple": lambda: _is_namedtuple(kind),
    }
    return form in tests and tests[form]()


def _is_namedtuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_make")  # pyright: ignore[reportUnknownArgumentType] - a bare tuple
