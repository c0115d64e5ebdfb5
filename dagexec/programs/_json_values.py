"""Values of tools and of programs, each as the other takes them: JSON's kinds."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from datetime import date, time
from typing import Any, Final

from dagexec.programs._sets import in_order

PLAIN: Final = (str, int, float, bool, type(None))


def as_json(value: Any) -> Any:
    """Return a value of a program as JSON's kinds: sets as lists, what is none of them as text."""
    if type(value) in PLAIN:
        return value
    if type(value) is dict:
        return {key if type(key) is str else str(key): as_json(item) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset, range) or hasattr(value, "__iter__"):
        return [as_json(item) for item in in_order(value)]
    return value.isoformat() if isinstance(value, date | time) else str(value)


def plain(value: Any) -> Any:
    """Return what a tool returned as a value of programs: JSON's kinds, and its own copy."""
    if type(value) in PLAIN:
        return value
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [plain(item) for item in value]
    from pydantic_core import to_jsonable_python  # pydantic: only where a value is no JSON

    return to_jsonable_python(value, fallback=str, serialize_unknown=True)
