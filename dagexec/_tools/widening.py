"""What a model is told so that it can refer to other calls' results: schemas and instructions.

A model cannot put a reference where its schema says `integer`, so each place of a schema becomes
a union of what it was and `{"$ref": …}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dagexec._tools.schemas import (
    ANNOTATIONS,
    Schema,
    accepts,
    children,
    is_dict,
    normalised,
    unused,
)

INSTRUCTIONS: Final = """\
Your tool calls are numbered 1, 2, 3, … in the order in which you write them, across the whole \
conversation. Each result begins with the number of its call, such as [call 3].

An argument can be a reference to another call's result instead of a value:
- {"$ref": "1"} passes the whole result of call 1, {"$ref": "1.items[0].url"} a part of it.
- {"$template": "Compare ${1} with ${2}"} passes a text with results in it; $$ is a dollar sign.
- {"$literal": ...} passes an object as it is that has a key such as "$ref" of its own.
Everything else is passed as you write it: "$5" and "${HOME}" are plain text.

Write calls that need each other's results in one reply, with references, rather than wait for a \
result only to copy it into the next call: a call starts as soon as the results that it refers to \
are there, and calls that do not depend on each other run in parallel. Refer to earlier results \
in the same way, even when only a part of them was shown to you. Wait for a result only when you \
have to read it to decide what to do."""

_REFERENCE: Final[Schema] = {
    "type": "object",
    "description": 'The result of another call, or a part of it: {"$ref": "1.items[0].url"}',
    "properties": {"$ref": {"type": "string"}},
    "required": ["$ref"],
    "additionalProperties": False,
}
_TEMPLATE: Final[Schema] = {
    "type": "object",
    "description": 'A text with results in it: {"$template": "Compare ${1} with ${2}"}',
    "properties": {"$template": {"type": "string"}},
    "required": ["$template"],
    "additionalProperties": False,
}


def widened(schema: Mapping[str, Any]) -> Schema:
    """Return a tool's schema in which every parameter, at any depth, also accepts a reference.

    Strings also accept a template. The two forms stand once in `$defs`. A `const` is left alone:
    there is nothing to choose, and unions are told apart by it.
    """
    root = normalised(schema)
    defs: Schema = root.get("$defs", {})
    reference = unused("Reference", defs)
    template = unused("Template", defs)

    def slot(part: Any) -> Any:
        if not is_dict(part):
            return part  # True accepts references as it is
        node = inside(part)
        if "const" in node or not any(key not in ANNOTATIONS for key in node):
            return node
        outer = {key: node.pop(key) for key in ANNOTATIONS if key in node}
        options = node["anyOf"] if set(node) == {"anyOf"} else [node]
        forms = [{"$ref": f"#/$defs/{reference}"}]
        if accepts(part, "string", root):
            forms.append({"$ref": f"#/$defs/{template}"})
        return {**outer, "anyOf": [*options, *forms]}

    def inside(node: Schema) -> Schema:
        return children(node, same_value, slot)

    def same_value(part: Any) -> Any:
        return inside(part) if is_dict(part) else part

    wide = inside(root)
    if wide["properties"] or isinstance(wide.get("additionalProperties"), dict):
        wide["$defs"] = {**wide.get("$defs", {}), reference: _REFERENCE, template: _TEMPLATE}
    return pruned(wide)


def pruned(schema: Schema) -> Schema:
    """Leave out definitions that nothing refers to; strict modes count them."""
    known: Schema = schema.get("$defs", {})
    used: set[str] = set()

    def mark(node: Any) -> Any:
        if not is_dict(node):
            return node
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if name in known and name not in used:
            used.add(name)
            mark(known[name])
        children({key: part for key, part in node.items() if key != "$defs"}, mark)
        return node

    mark(schema)
    defs = {name: part for name, part in known.items() if name in used}
    rest = {key: part for key, part in schema.items() if key != "$defs"}
    return {**rest, "$defs": defs} if defs else rest
