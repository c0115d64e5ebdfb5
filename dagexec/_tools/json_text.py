"""JSON that is text: where a schema takes an array or an object and no text, it is meant.

Models write `item_ids: '["325"]'` for a list, and a whole value that another call returned as
text goes to a parameter that takes an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

from dagexec._core.paths import json_of
from dagexec._tools.arguments import is_list, is_object

_KINDS: Final = {"array": list, "object": dict}
_DEEPEST: Final = 20  # levels of a schema that are looked at: one may contain itself


def unpacked(args: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments with such texts read, None where there is none to read."""
    read = _read(dict(args), schema, schema, _DEEPEST)
    return None if read is _AS_IS else read


class _AsIs:
    """Says that nothing was read."""


_AS_IS: Final = _AsIs()


def _read(value: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """Return a value with the texts inside it read, or _AS_IS."""
    places = list(_places(schema, root, depth))
    if not places:
        return _AS_IS
    if not isinstance(value, str):
        return _read_inside(value, places, root, depth)
    wanted = _wanted(places)
    found = json_of(value) if wanted else None
    if found is None or type(found) not in wanted:
        return _AS_IS
    inner = _read(found, schema, root, depth - 1)
    return deepcopy(found) if inner is _AS_IS else inner


def _read_inside(
    value: Any, places: list[dict[str, Any]], root: Mapping[str, Any], depth: int
) -> Any:
    pairs: Iterable[tuple[Any, Any]] = ()
    if is_object(value):
        pairs = value.items()
    elif is_list(value):
        pairs = enumerate(value)
    changed: Any = _AS_IS
    for key, item in pairs:
        for part in _parts(places, key):
            inner = _read(item, part, root, depth - 1)
            if inner is not _AS_IS:
                changed = value.copy() if changed is _AS_IS else changed
                changed[key] = inner
                break
    return changed


def _places(schema: Any, root: Mapping[str, Any], depth: int) -> Iterable[dict[str, Any]]:
    """Yield the schemas that a value may follow: a schema's branches, with its `$ref` followed."""
    if not is_object(schema) or depth <= 0:
        return
    ref = schema.get("$ref")
    if isinstance(ref, str):
        found: Any = root
        for part in ref.removeprefix("#/").split("/"):
            found = found.get(part) if is_object(found) else None
        yield from _places(found, root, depth - 1)
    branches = [
        branch
        for word in ("anyOf", "oneOf", "allOf")
        if is_list(several := schema.get(word))
        for branch in several
    ]
    for branch in branches:
        yield from _places(branch, root, depth - 1)
    if not branches and not isinstance(ref, str):
        yield schema


def _wanted(places: list[dict[str, Any]]) -> list[type]:
    """Return the kinds of containers that are taken; none where a text is taken as it is."""
    kinds: list[type] = []
    for place in places:
        named = place.get("type")
        for word in named if is_list(named) else [named]:
            if word in _KINDS:
                kinds.append(_KINDS[word])
            elif word not in ("null", "boolean", "integer", "number"):
                return []
    return kinds


def _parts(places: list[dict[str, Any]], key: Any) -> Iterable[Any]:
    """Yield the schemas of one member of a container."""
    for place in places:
        if isinstance(key, int):
            prefix = place.get("prefixItems")
            if is_list(prefix) and key < len(prefix):
                yield prefix[key]
            else:
                yield place.get("items")
        else:
            properties = place.get("properties")
            if is_object(properties) and key in properties:
                yield properties[key]
            else:
                yield place.get("additionalProperties")
