"""`datetime` of programs: Python's own values, with the methods and parts in the tables below.

There is no clock here: a program that is run again, after a crash, has to come to the same. The
time is what a tool returns.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Final

from dagexec.programs._values import (
    ATTRIBUTES,
    CLASS_ATTRIBUTES,
    CLASS_METHODS,
    FORMATS,
    GUARDS,
    PURE,
    Builtin,
    too_large,
)

# Characters of a format, and of a text that is read by one.
_FORMAT: Final = 500
_READ: Final = 2_000
# Of the C library's formats those that all systems have: none with a width.
_DIRECTIVE: Final = re.compile(r"%(?!:?[A-Za-z%])")

_DATE: Final = "isoformat strftime weekday isoweekday isocalendar toordinal replace ctime"
_TIME: Final = "isoformat strftime replace utcoffset tzname dst"
_DATE_PARTS: Final = "year month day"
_TIME_PARTS: Final = "hour minute second microsecond tzinfo fold"
_READ_FROM: Final = "fromisoformat fromordinal fromisocalendar fromtimestamp strptime combine"
_ENDS: Final = frozenset(["min", "max", "resolution"])

CLOCKS: Final = frozenset(["now", "today", "utcnow"])

PURE.update(
    {
        date: frozenset(_DATE.split()),
        time: frozenset(_TIME.split()),
        datetime: frozenset(f"{_DATE} {_TIME} date time timetz timestamp astimezone".split()),
        timedelta: frozenset(["total_seconds"]),
        timezone: frozenset(["utcoffset", "tzname", "dst"]),
    }
)
ATTRIBUTES.update(
    {
        date: frozenset(_DATE_PARTS.split()),
        time: frozenset(_TIME_PARTS.split()),
        datetime: frozenset(f"{_DATE_PARTS} {_TIME_PARTS}".split()),
        timedelta: frozenset(["days", "seconds", "microseconds"]),
    }
)
CLASS_METHODS.update(
    {
        date: frozenset(["fromisoformat", "fromordinal", "fromisocalendar"]),
        time: frozenset(["fromisoformat"]),
        datetime: frozenset(_READ_FROM.split()),
    }
)
CLASS_ATTRIBUTES.update(
    {
        date: _ENDS,
        time: _ENDS,
        datetime: _ENDS,
        timedelta: _ENDS,
        timezone: frozenset(["utc"]),
    }
)


def check_format(spec: Any) -> None:
    """Raise LimitReached or ValueError for a format that may ask for a text without end."""
    if isinstance(spec, str):
        if len(spec) > _FORMAT:
            raise too_large("a format", _FORMAT)
        if _DIRECTIVE.search(spec):
            raise ValueError("a format has letters behind % here, and no widths")


def _formats(_value: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    for each in (*args, *named.values()):
        check_format(each)


def _reads(_value: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    for each, limit in zip((*args, *named.values()), (_READ, _FORMAT), strict=False):
        if isinstance(each, str) and len(each) > limit:
            raise too_large("a text that is read as a date", limit)


def _zoned(_value: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    if not (args or named):
        raise TypeError("write astimezone(zone): there is no zone of this machine here")


for _kind in (date, time, datetime):
    FORMATS[_kind] = check_format
    GUARDS[_kind, "strftime"] = _formats
GUARDS[datetime, "strptime"] = _reads
GUARDS[datetime, "astimezone"] = _zoned


def _made(kind: type) -> Builtin:
    return Builtin(f"datetime.{kind.__name__}", kind, kind)


CLASSES: Final = {
    kind.__name__: _made(kind) for kind in (date, time, datetime, timedelta, timezone)
}
_METHODS: Final = (
    *(PURE[kind] for kind in (date, time, datetime, timedelta, timezone)),
    *CLASS_METHODS.values(),
)
NAMES: Final[frozenset[str]] = frozenset([name for names in _METHODS for name in names])
PARTS: Final[frozenset[str]] = frozenset(
    [name for names in (*ATTRIBUTES.values(), *CLASS_ATTRIBUTES.values()) for name in names]
)
