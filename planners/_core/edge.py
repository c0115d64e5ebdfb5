"""Reading responses at the edge: SDK objects and plain dicts alike, without importing an SDK."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, TypeGuard, TypeVar, cast

T = TypeVar("T")

_HALF: Final = re.compile("[\ud800-\udfff]")
# What remains of a chat template behind a name: `get_weather<|channel|>commentary`.
_TEMPLATE: Final = re.compile(r"<\|.*", re.DOTALL)
# Names of a tool's surroundings that models write before it.
_PREFIX: Final = re.compile(r"(?:functions|tools|default_api)[.:/]")
_NONE: Final = frozenset({"null", "None"})
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]")


def is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    """Say whether a value is a JSON object; a guard, since dict alone says nothing of its items."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Say whether a value is a list, of anything."""
    return isinstance(value, list)


def get(source: object, name: str, default: Any = None) -> Any:
    """Return a field of an SDK object or a dict, `default` where there is none or it is None."""
    found: Any
    # Not by `is_dict`, nor in one expression: a stream asks this twenty times for each event.
    if isinstance(source, dict):
        found = cast("dict[str, Any]", source).get(name)
    else:
        found = getattr(source, name, None)
    return default if found is None else found


def items(source: object, name: str) -> list[Any]:
    """Return a field that holds a list, as a list; empty where there is none."""
    return listed(get(source, name))


def listed(found: Any) -> list[Any]:
    """Return a list as it is, and anything else as an empty one."""
    return found if is_list(found) else []


def text(source: object, name: str) -> str:
    """Return a field that holds a string; empty where there is none."""
    found = get(source, name, "")
    return found if isinstance(found, str) else str(found)


def said(source: object, name: str) -> str:
    """Return a field that holds a string, where servers also send "null" for none."""
    found = text(source, name)
    return "" if found in _NONE else found


def bare(name: str) -> str:
    """Return the name of a tool without what templates and models put round it."""
    return _PREFIX.sub("", _TEMPLATE.sub("", name).strip(), count=1)


def nameable(name: str) -> str:
    """Return the name of a tool as every API takes it; models write others, and APIs send them."""
    return _NOT_IN_NAMES.sub("_", bare(name))[:64] or "unnamed"


def mended(value: T) -> T:
    """Return JSON whose texts UTF-8 can encode; the same one if they were whole.

    Servers cut texts between the two halves of a character: halves that stand side by side are
    joined, and what stays alone is replaced.
    """
    return cast("T", _mended(value))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        if value.isascii() or _HALF.search(value) is None:
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if is_dict(value):
        found = {_mended(key): _mended(item) for key, item in value.items()}
        same = found.keys() == value.keys()
        return value if same and all(found[key] is value[key] for key in value) else found
    if is_list(value):
        items_ = [_mended(item) for item in value]
        return value if all(a is b for a, b in zip(items_, value, strict=True)) else items_
    return value


def once(found: list[Any], kinds: Iterable[str | None], name: str) -> list[Any]:
    """Return a list without the calls whose id an earlier one has: an API takes each id once.

    Calls are the dicts whose `type` is one of `kinds`; `name` is where their id is.
    """
    seen: set[str] = set()
    kept: list[Any] = []
    for item in found:
        id_ = text(item, name) if get(item, "type") in kinds else ""
        if id_ not in seen:
            kept.append(item)
        if id_:
            seen.add(id_)
    return kept


def plain(value: Any) -> Any:
    """Return an SDK object as it goes into a request: as dicts, without unset fields."""
    dump = getattr(value, "model_dump", None)
    if not callable(dump):
        return value
    # Aliases, as in "async"; what a server adds or gets wrong is passed on, not warned of.
    return dump(mode="json", exclude_none=True, by_alias=True, warnings=False)


def worded(error: Any) -> str:
    """Return what an API says of its error, as the end of a sentence."""
    kind = get(error, "code") or get(error, "type")
    message = get(error, "message") or str(error)
    return f" ({kind}): {message}" if kind else f": {message}"


def described(response: object) -> str:
    """Return a few words on an object that is not what was expected."""
    if is_dict(response):
        keys = ", ".join(list(response)[:8])
        return f"a dict with {keys}" if keys else "an empty dict"
    return f"a {type(response).__name__}"
