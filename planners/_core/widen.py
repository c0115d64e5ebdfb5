"""Tool schemas for a provider's strict mode; `dagexec.lowlevel.widened` adds the references.

Sources: for OpenAI's strict mode its guide "Structured
model outputs", sections "Supported schemas" and "Supported properties"; for Anthropic's the guide
"Structured outputs", section "JSON Schema limitations", and `transform_schema` in its SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dagexec.lowlevel import schemas
from planners._core.edge import is_dict

Schema: TypeAlias = dict[str, Any]


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


def strict(schema: Mapping[str, Any], dialect: Dialect) -> Schema:
    """Return a tool's schema as a provider's strict mode takes it.

    Optional parameters become required and nullable. Raises NotStrict for what strict modes
    cannot say: objects with free keys, values of any type, tuples, and negations.
    """
    root = schemas.normalised(schema)
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
        elif schemas.has_type(node, "object") or "properties" in node:
            self._close(kept, node, top=top)
        elif schemas.has_type(node, "array"):
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
        if schemas.accepts(schema, "null", self.root):
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
    straight: set[str] = set()  # definitions that lead to no circle

    def leads(part: Any, path: frozenset[str]) -> bool:
        if not is_dict(part):
            return False
        if "$ref" in part:
            name = str(part["$ref"]).removeprefix("#/$defs/")
            return name not in straight and (name not in defs or circles(name, path))
        found: list[bool] = []
        schemas.children(part, lambda inner: found.append(leads(inner, path)))
        return any(found)

    def circles(name: str, path: frozenset[str]) -> bool:
        if name in path or leads(defs[name], path | {name}):
            return True
        straight.add(name)
        return False

    return any(name not in straight and circles(name, frozenset()) for name in defs)
