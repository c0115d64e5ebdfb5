"""What a JSON Schema accepts, and schemas brought into one shape before they are changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, TypeGuard

Schema: TypeAlias = dict[str, Any]

# Say something about a value without restricting it; they may stand beside a union.
ANNOTATIONS: Final = ("title", "description", "default", "examples", "deprecated")

# Keywords whose value is one schema, a list of schemas, or schemas by name.
_ONE: Final = (
    "items",
    "additionalProperties",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_MANY: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED: Final = ("properties", "patternProperties", "dependentSchemas", "$defs")

# Of these, the ones that hold a value of their own, not another view of the same value.
_PLACES: Final = frozenset(
    {"items", "additionalProperties", "prefixItems", "properties", "patternProperties"}
)

_DEFS: Final = "#/$defs/"


def is_dict(value: object) -> TypeGuard[Schema]:
    """Say whether a value is a JSON object; a guard, since dict alone says nothing of its items."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Say whether a value is a list, of anything."""
    return isinstance(value, list)


def normalised(schema: Mapping[str, Any]) -> Schema:
    """Return a copy of a tool's schema in which every reference leads to `$defs`.

    Generators also write `definitions` (draft 7) and pointers into the schema such as
    `#/properties/a/items` (zod-to-json-schema), which would break when schemas are rewritten.
    """
    defs: dict[str, Any] = {}
    moved: dict[str, str] = {}

    def visit(node: Any) -> Any:
        if not is_dict(node):
            return node
        found = children(node, visit)
        found.pop("definitions", None)
        found.pop("$schema", None)
        pointer = found.get("$ref")
        if isinstance(pointer, str) and pointer.startswith("#/") and pointer not in moved:
            moved[pointer] = unused(pointer.rsplit("/", 1)[-1], defs)
            defs[moved[pointer]] = True  # taken, before a recursive schema comes here again
            defs[moved[pointer]] = visit(_target(schema, pointer))
        if isinstance(pointer, str) and pointer in moved:
            found["$ref"] = _DEFS + moved[pointer]
        return found

    root: Schema = visit({key: schema[key] for key in schema if key != "$defs"})
    if isinstance(root.get("$ref"), str):  # providers want the object itself at the top
        inner = resolved(root, {"$defs": defs})
        rest = {key: value for key, value in root.items() if key != "$ref"}
        root = {**(inner if is_dict(inner) else {}), **rest}
    root = {**root, "type": "object", "properties": root.get("properties", {})}
    return {**root, "$defs": defs} if defs else root


def _target(root: Mapping[str, Any], pointer: str) -> Any:
    """Return what a JSON pointer leads to (RFC 6901), True (anything) where it leads nowhere."""
    found: Any = root
    for part in pointer[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if is_list(found) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif is_dict(found) and key in found:
            found = found[key]
        else:
            return True
    return found


def unused(name: str, taken: Mapping[str, Any]) -> str:
    """Return `name`, with underscores behind it until it is free."""
    # Spaces and the like in a definition's name make OpenAI's API refuse the schema.
    name = "".join(char if char.isascii() and char.isalnum() else "_" for char in name) or "_"
    while name in taken:
        name += "_"
    return name


def children(
    node: Schema,
    change: Callable[[Any], Any],
    place: Callable[[Any], Any] | None = None,
) -> Schema:
    """Return a copy of a schema with `change` applied to each schema directly inside it.

    `place` is applied instead to those that describe a parameter, a property or an item.
    """
    copy = dict(node)
    for key, value in node.items():
        each = place if place and key in _PLACES else change
        if key in _ONE:
            copy[key] = each(value)
        elif key in _MANY and is_list(value):
            copy[key] = [each(item) for item in value]
        elif key in _NAMED and is_dict(value):
            copy[key] = {name: each(item) for name, item in value.items()}
    return copy


def resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """Follow a schema's `$ref`, as far as it leads."""
    seen: set[str] = set()
    while is_dict(schema) and isinstance(schema.get("$ref"), str):
        pointer: str = schema["$ref"]
        if pointer in seen or not pointer.startswith("#"):
            return True
        seen.add(pointer)
        schema = root if pointer == "#" else _target(root, pointer)
    return schema


def accepts(
    schema: Any, kind: str, root: Mapping[str, Any], known: dict[int, bool] | None = None
) -> bool:
    """Whether a value of a JSON type, `null` or `string`, can be valid; True if it is not clear.

    `known` has what was found for parts of the schema, by their identity.
    """
    node = resolved(schema, root)
    if not is_dict(node):
        return node is not False
    known = {} if known is None else known
    if id(node) not in known:
        known[id(node)] = True  # of a schema that leads back to itself it is not clear
        known[id(node)] = _accepts(node, kind, root, known)
    return known[id(node)]


def _accepts(node: Schema, kind: str, root: Mapping[str, Any], known: dict[int, bool]) -> bool:
    fits: list[bool] = []
    if "type" in node:
        fits.append(has_type(node, kind))
    if "enum" in node:
        fits.append(any(_is(value, kind) for value in node["enum"]))
    if "const" in node:
        fits.append(_is(node["const"], kind))
    for key, join in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        if is_list(node.get(key)):
            fits.append(join(accepts(part, kind, root, known) for part in node[key]))
    return all(fits)


def has_type(node: Schema, kind: str) -> bool:
    """Whether a schema's `type` is, or has in its list, a JSON type."""
    types = node.get("type")
    return kind in types if is_list(types) else kind == types


def _is(value: object, kind: str) -> bool:
    return value is None if kind == "null" else isinstance(value, str)


def without_nulls(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    """Leave out each `null` of an optional property that does not allow null.

    Models write them for "not given", and strict schemas leave them no other way.
    """
    if is_list(value):
        part = _branch(value, schema, root).get("items", True)
        return [without_nulls(item, part, root) for item in value]
    if not is_dict(value):
        return value
    node = _branch(value, schema, root)
    known: Schema = node.get("properties") or {}
    needed = node.get("required") or ()
    return {
        key: without_nulls(item, known.get(key, True), root)
        for key, item in value.items()
        if item is not None
        or key not in known
        or key in needed
        or accepts(known[key], "null", root)
    }


def _branch(value: Any, schema: Any, root: Mapping[str, Any]) -> Schema:
    """Return the part of a union that a value most likely belongs to."""
    node = resolved(schema, root)
    if not is_dict(node):
        return {}
    wanted = "items" if is_list(value) else "properties"
    if wanted in node:
        return node
    options: list[Schema] = [
        part
        for key in ("anyOf", "oneOf", "allOf")
        for option in node.get(key) or ()
        if is_dict(part := resolved(option, root)) and wanted in part
    ]
    if is_dict(value):
        keys = set(value)
        options = [part for part in options if keys <= set(part["properties"])]
    return options[0] if options else {}
