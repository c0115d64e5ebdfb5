"""Reading responses at the edge: SDK objects and plain dicts alike, without importing an SDK."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Final, TypeGuard, TypeVar, cast

from dagexec.lowlevel import kind_of

T = TypeVar("T")

_NO: Final = object()
_field: Final = cast("Callable[[object, str], Any]", dict[str, Any].get)
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
    # Neither `is_dict` nor a cast: a stream asks this twenty times for each event.
    found = _field(source, name) if isinstance(source, dict) else getattr(source, name, None)  # pyright: ignore[reportUnknownArgumentType]
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
    return word(get(source, name))


def word(found: Any) -> str:
    """Return what a field says as a string; empty for nothing, and for "null"."""
    if not found:
        return ""
    found = found if isinstance(found, str) else str(found)
    return "" if found in _NONE else found


def shallow(event: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return an event as a dict of what it holds, not converted: a stream has thousands of them.

    Of one that is neither a dict nor an SDK's, the fields with these names.
    """
    if is_dict(event):
        return event
    extra: Any = getattr(event, "__pydantic_extra__", _NO)
    if extra is _NO:
        return {name: get(event, name) for name in names}
    known: dict[str, Any] = event.__dict__
    return {**known, **extra} if extra else known


def fields_of(source: object, names: Iterable[str]) -> dict[str, Any]:
    """Return an object as a dict; of one that is no SDK's, the fields with these names."""
    found = plain(source)
    return found if is_dict(found) else {name: get(source, name) for name in names}


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
    if _is_whole(value):
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if is_dict(value):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return [_mended(item) for item in value]


def _is_whole(value: Any) -> bool:
    """Whether UTF-8 can encode all texts in JSON."""
    if isinstance(value, str):
        return value.isascii() or _HALF.search(value) is None
    level: list[Any] = [value]
    while level:
        inner: list[Any] = []
        for node in level:
            if isinstance(node, str):
                if not (node.isascii() or _HALF.search(node) is None):
                    return False
            elif is_dict(node):
                inner += node
                inner += node.values()
            elif is_list(node):
                inner += node
        level = inner
    return True


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
    if isinstance(value, dict | str) or not callable(dump := getattr(value, "model_dump", None)):
        return cast("Any", value)
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
    return kind_of(response)


def hint_for(response: object) -> str:
    """Return how to mend it where something else than a reply was given; empty if unknown."""
    if inspect.iscoroutine(response):
        response.close()  # nobody will await it
        return "; await it first: planner.plan(await client…create(…))"
    if isinstance(response, AsyncIterable) or "Stream" in type(response).__name__:
        return "; planner.stream(…) reads a stream"
    if isinstance(response, str):
        return "; LLMCompilerPlanner reads text"
    if response is None:
        return "; the function that asked the model may have no return"
    for key, name in _FORMS.items():
        if get(response, key) is not None:
            return f"; this looks like one for {name}"
    return ""


_FORMS: Final = {
    "choices": "ChatPlanner",
    "output": "ResponsesPlanner",
    "content": "MessagesPlanner",
}
