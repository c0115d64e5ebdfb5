"""Tool schemas for providers: widened so that arguments may be references, and made strict.

A model cannot put a reference where its schema says `integer`, so each place of a schema becomes
a union of what it was and `{"$ref": …}`. Sources: for OpenAI's strict mode its guide "Structured
model outputs", sections "Supported schemas" and "Supported properties"; for Anthropic's the guide
"Structured outputs", section "JSON Schema limitations", and `transform_schema` in its SDK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from planners._core.edge import is_dict
from planners._core.schema import (
    ANNOTATIONS,
    Schema,
    accepts,
    children,
    has_type,
    normalised,
    unused,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class NotStrict(Exception):
    """A schema says something that a strict one cannot."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a provider's strict mode understands."""

    constraints: frozenset[str]
    formats: frozenset[str]
    recursion: bool


_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
OPENAI: Final = Dialect(
    frozenset(
        {
            "pattern",
            "multipleOf",
            "maximum",
            "minimum",
            "exclusiveMaximum",
            "exclusiveMinimum",
            "minItems",
            "maxItems",
        }
    ),
    _FORMATS,
    recursion=True,
)
ANTHROPIC: Final = Dialect(frozenset(), _FORMATS | {"uri"}, recursion=False)

_STRUCTURE: Final = ("type", "enum", "const", "$ref", "anyOf", "items", "properties", "$defs")
# Dropping these would change what the schema means, not only how exactly it says it.
_IMPOSSIBLE: Final = ("patternProperties", "prefixItems", "not", "if", "dependentSchemas")
# Restrictions that the model should still hear of where a dialect has no keyword for them.
_TOLD: Final = (
    frozenset({"minLength", "maxLength", "format", "uniqueItems", "minProperties", "maxProperties"})
    | OPENAI.constraints
)


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
    return _pruned(wide)


def _pruned(schema: Schema) -> Schema:
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


def strict(schema: Mapping[str, Any], dialect: Dialect) -> Schema:
    """Return a tool's schema as a provider's strict mode takes it.

    Optional parameters become required and nullable. Raises NotStrict for what strict modes
    cannot say: objects with free keys, values of any type, tuples, and negations.
    """
    root = normalised(schema)
    maker = _Strict(root, dialect)
    result = maker.convert({key: root[key] for key in root if key != "$defs"}, top=True)
    defs = {name: maker.convert(part) for name, part in root.get("$defs", {}).items()}
    if not dialect.recursion and _recursive(defs):
        raise NotStrict("recursion")
    return {**result, "$defs": defs} if defs else result


@dataclass(frozen=True, slots=True)
class _Strict:
    """Makes one tool's schema strict."""

    root: Schema
    dialect: Dialect

    def convert(self, part: Any, *, top: bool = False) -> Schema:
        """Return a schema as the dialect takes it."""
        node = _simplified(part)
        kept = _kept(node, self.dialect)
        if "anyOf" in node:
            kept["anyOf"] = [self.convert(option) for option in node["anyOf"]]
        elif has_type(node, "object") or "properties" in node:
            self._close(kept, node, top=top)
        elif has_type(node, "array"):
            kept["items"] = self.convert(node.get("items"))
        elif not any(key in node for key in ("type", "enum", "const", "$ref")):
            raise NotStrict("a value of any type")
        if "$ref" in kept and len(kept) > 1:  # OpenAI's API refuses keywords beside `$ref`
            kept["anyOf"] = [{"$ref": kept.pop("$ref")}]
        return kept

    def _close(self, kept: Schema, node: Schema, *, top: bool) -> None:
        """Make an object closed, and each of its properties required."""
        free = node.get("additionalProperties")
        properties: Schema = node.get("properties", {})
        if free not in (None, False) or (free is None and not properties and not top):
            raise NotStrict("an object with free keys")
        needed = node.get("required", ())
        kept["type"] = node.get("type", "object")
        kept["properties"] = {
            name: self.convert(part) if name in needed else self._nullable(self.convert(part))
            for name, part in properties.items()
        }
        kept["required"] = list(properties)
        kept["additionalProperties"] = False

    def _nullable(self, schema: Schema) -> Schema:
        if accepts(schema, "null", self.root):
            return schema
        outer = {"description": schema.pop("description")} if "description" in schema else {}
        options = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
        return {**outer, "anyOf": [*options, {"type": "null"}]}


def _simplified(part: Any) -> Schema:
    """Return a schema without the keywords that have a simpler form; raise NotStrict for others."""
    if not is_dict(part):
        raise NotStrict("a value of any type")
    node = dict(part)
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    if len(node.get("allOf", ())) == 1:
        node = {**node.pop("allOf")[0], **node}
    for key in ("allOf", *_IMPOSSIBLE):
        if key in node:
            raise NotStrict(key)
    return node


def _kept(node: Schema, dialect: Dialect) -> Schema:
    kept: Schema = {}
    told: list[str] = []
    for key, value in node.items():
        known = key in dialect.constraints or key in _STRUCTURE or key == "description"
        if known or (key == "format" and value in dialect.formats):
            kept[key] = value
        elif key in _TOLD:
            told.append(f"{key}: {value}")
    if told:
        kept["description"] = f"{kept.get('description', '')} ({', '.join(told)})".lstrip()
    return kept


def _recursive(defs: Schema) -> bool:
    def leads(part: Any, path: frozenset[str]) -> bool:
        if not is_dict(part):
            return False
        if "$ref" in part:
            name = str(part["$ref"]).removeprefix("#/$defs/")
            known = name in defs and name not in path
            return leads(defs[name], path | {name}) if known else True
        found: list[bool] = []
        children(part, lambda inner: found.append(leads(inner, path)))
        return any(found)

    return any(leads(part, frozenset({name})) for name, part in defs.items())
