"""What a model is told so that it can refer to other calls' results: schemas and instructions.

A model cannot put a reference where its schema says `integer`, so each place of a schema becomes
a union of what it was and `{"$ref": …}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from dagexec._tools.schemas import (
    ANNOTATIONS,
    Schema,
    accepts,
    children,
    has_type,
    is_dict,
    is_list,
    normalised,
    resolved,
    unused,
)

INSTRUCTIONS: Final = """\
Your tool calls are numbered 1, 2, 3, … in the order in which you write them, across the whole \
conversation. Each result begins with the number of its call, such as [call 3].

Any argument, or a part of one, can be a reference to another call's result instead of a value:
- {"$ref": "1"} passes the whole result of call 1, {"$ref": "1.items[0].url"} a part of it ([-1] is\
 the last item, [*] that part of each). A result that is JSON as text has the same parts.
- {"$template": "Compare ${1} with ${2}"} passes a text with results in it; $$ is a dollar sign.
- {"$literal": ...} passes an object as it is that has a key such as "$ref" of its own.
This is why parameters also take an object. Everything else is passed as you write it: "$5" and \
"${HOME}" are plain text.

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
_EACH: Final[Schema] = {
    "type": "object",
    "description": 'A call for each item of a list: {"$each": "1.items[*].id"}',
    "properties": {"$each": {"type": "string"}},
    "required": ["$each"],
    "additionalProperties": False,
}
# What stands for all forms where the schema need not be exact.
_ANY_FORM: Final[Schema] = {"type": "object"}
# Of a place that takes a number: a text in its place is the likeliest mistake.
_NO_TEMPLATE: Final[Schema] = {"propertyNames": {"enum": ["$ref", "$each"]}}
_ONLY_VALUES: Final[Schema] = {"type": "object", **_NO_TEMPLATE}
_NUMBERS: Final = frozenset({"integer", "number"})


def widened(schema: Mapping[str, Any], *, exact: bool = False) -> Schema:
    """Return a tool's schema in which every parameter, at any depth, also accepts a reference.

    Strings also accept a template. A `const` is left alone: there is nothing to choose, and unions
    are told apart by it.

    A request carries all definitions each time, so they are kept short: `"type": "string"` becomes
    `["string", "object"]`, and the instructions alone say what the objects are. With `exact`, as
    strict modes want it, the forms stand in `$defs` and each parameter names them.
    """
    root = normalised(schema)
    if not exact:
        return pruned(_Short(root).inside(root))
    defs: Schema = root.get("$defs", {})
    forms = {
        unused("Reference", defs): _REFERENCE,
        unused("Each", defs): _EACH,
        unused("Template", defs): _TEMPLATE,
    }
    wide = _Exact(root, [{"$ref": f"#/$defs/{name}"} for name in forms]).inside(root)
    if wide["properties"] or isinstance(wide.get("additionalProperties"), dict):
        wide["$defs"] = {**wide.get("$defs", {}), **forms}
    return pruned(wide)


class _Places:
    """Widens each place of a schema that describes a parameter, a property or an item."""

    def __init__(self, root: Schema) -> None:
        self.root = root

    def inside(self, node: Schema) -> Schema:
        """Return a schema whose places are widened, but not itself."""
        return children(node, self._same_value, self._slot)

    def _same_value(self, part: Any) -> Any:
        return self.inside(part) if is_dict(part) else part

    def _slot(self, part: Any) -> Any:
        if not is_dict(part):
            return part  # True accepts references as it is
        node = self.inside(part)
        if "const" in node or not any(key not in ANNOTATIONS for key in node):
            return node
        return self.wide(part, node)

    def wide(self, part: Schema, node: Schema) -> Schema:
        """Return the schema of a place, `part` before and `node` after its inside was widened."""
        raise NotImplementedError


@final
class _Exact(_Places):
    """Names the forms; the last one is a text."""

    def __init__(self, root: Schema, forms: list[Schema]) -> None:
        super().__init__(root)
        self._forms = forms

    def wide(self, part: Schema, node: Schema) -> Schema:
        """Make it a union with the forms that fit."""
        outer: Schema = {key: node.pop(key) for key in ANNOTATIONS if key in node}
        options = node["anyOf"] if set(node) == {"anyOf"} else [node]
        forms = self._forms if accepts(part, "string", self.root) else self._forms[:-1]
        return {**outer, "anyOf": [*options, *forms]}


@final
class _Short(_Places):
    """Admits objects in as few characters as it takes."""

    def wide(self, part: Schema, node: Schema) -> Schema:
        """Add `object` to its types, or the shortest union that does."""
        if _is_open(resolved(part, self.root)):
            return node
        form = _ANY_FORM if accepts(part, "string", self.root) else _ONLY_VALUES
        if not _has_choices(node) and (short := _with_type(node, form)) is not None:
            return short
        outer: Schema = {key: node.pop(key) for key in ANNOTATIONS if key in node}
        options = node["anyOf"] if set(node) == {"anyOf"} else [_without_type(node)]
        for index, option in enumerate(options):
            short = None if _has_choices(option) else _with_type(option, form)
            if short is not None:
                return {**outer, "anyOf": [*options[:index], short, *options[index + 1 :]]}
        return {**outer, "anyOf": [*options, form]}


def _has_choices(node: Any) -> bool:
    """Whether more than types decides what a schema accepts of any kind."""
    words = ("enum", "const", "$ref", "anyOf", "oneOf", "allOf", "not", "if")
    return not is_dict(node) or any(word in node for word in words)


def _is_open(node: Any) -> bool:
    """Whether a schema takes an object with the one key `$ref` as it is."""
    if not is_dict(node) or _has_choices(node) or not has_type(node, "object"):
        return False
    closed = node.get("additionalProperties") is False or "minProperties" in node
    return not closed and not node.get("required") and "propertyNames" not in node


def _with_type(node: Schema, form: Schema) -> Schema | None:
    """Return a schema that takes objects too, None if its own rules for objects forbid it."""
    found = node.get("type")
    types: list[Any] = found if is_list(found) else [found]
    if None in types or "object" in types:
        return None
    wide = {**node, "type": [*types, "object"]}
    # Says nothing of what is no object.
    numeric = not _NUMBERS.isdisjoint(types) and form is _ONLY_VALUES
    return {**wide, **_NO_TEMPLATE} if numeric else wide


def _without_type(node: Schema) -> Schema:
    """Leave out a type that the choices beside it say."""
    choices: Any = node.get("enum")
    if node.get("type") == "string" and choices and all(isinstance(each, str) for each in choices):
        return {key: value for key, value in node.items() if key != "type"}
    return node


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
