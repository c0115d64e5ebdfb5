"""Arguments described by a JSON Schema that came from elsewhere: MCP, LangChain, a plain dict."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, Schema

from dagexec._core.json_form import exact_form
from dagexec._errors import ToolDefinitionError
from dagexec._tools.arguments import (
    at,
    concealed,
    holds_secret,
    is_list,
    is_object,
    known,
    missing,
    shorten,
    type_word,
    unknowns,
)
from dagexec._tools.patterns import MOST_STEPS, Steps, TooManySteps, careful, under_way

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

    from dagexec._tools.options import Judging

_SHOWN: Final = 200  # characters of another library's message that are shown
_ALTERNATIVES: Final = frozenset({"anyOf", "oneOf", "allOf", "if", "then", "else", "not"})
_NUMERIC: Final = ("const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_PATTERNS: Final = {
    "enum": "should be one of {}",
    "const": "should be {}",
    "minimum": "should be at least {}",
    "maximum": "should be at most {}",
    "exclusiveMinimum": "should be greater than {}",
    "exclusiveMaximum": "should be less than {}",
    "minLength": "should have at least {} characters",
    "maxLength": "should have at most {} characters",
    "minItems": "should have at least {} items",
    "maxItems": "should have at most {} items",
    "pattern": "should match the pattern {}",
    "multipleOf": "should be a multiple of {}",
}


class SchemaArguments:
    """Arguments described by a JSON Schema that came from elsewhere (MCP, LangChain, a dict).

    Defaults are left to the callee. A `$ref` is followed inside the schema only, never fetched.
    """

    __slots__ = ("_schema", "_validator", "defaults", "judging", "open", "secret")
    description = ""
    context = None

    def __init__(
        self,
        name: str,
        schema: Mapping[str, Any] | None,
        secret: Collection[str],
        judging: Judging = "advise",
    ) -> None:
        """Check the schema; raise ToolDefinitionError if it cannot describe arguments."""
        self.judging = judging
        self._schema = _as_object(name, schema)
        self._validator = _validator(name, self._schema)
        self.open = self._schema.get("additionalProperties", True) is not False
        parts = self._schema["properties"]
        marked = [key for key, part in parts.items() if holds_secret(part, self._schema)]
        self.secret = tuple(dict.fromkeys((*secret, *marked)))
        self.defaults: dict[str, Any] = {
            key: part["default"]
            for key, part in parts.items()
            if is_object(part) and "default" in part
        }

    @property
    def schema(self) -> dict[str, Any]:
        """The schema as it came, with `type` and `properties` filled in."""
        return self._schema

    def adapted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function itself: it takes the arguments as keywords already."""
        return function

    def validate(self, args: Mapping[str, Any]) -> dict[str, Any] | list[str]:
        """Return the arguments as they are, or what is wrong."""
        values = dict(args)
        begun = under_way.set(Steps(values))
        try:
            found = self._errors(lambda: self._validator.iter_errors(values))
            if not found:
                return values
            # What other calls returned need not be JSON; it fits if its JSON form does.
            forms = {name: exact_form(value) for name, value in values.items()}
            return found if self._errors(lambda: self._validator.iter_errors(forms)) else values
        finally:
            under_way.reset(begun)

    def problems(self, args: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the arguments that are known, and with the names of all."""
        values, pending = known(args)
        if not pending:
            found = self.validate(values)
            return found if isinstance(found, list) else []
        parts = self._schema["properties"]
        problems: list[str] = []
        begun = under_way.set(Steps(values))
        try:
            for name in (name for name in values if name in parts):
                find = partial(self._validator.descend, values[name], parts[name], name)
                problems += self._errors(find)
        finally:
            under_way.reset(begun)
        if self.judging != "enforce":
            return problems
        required = self._schema.get("required", ())
        problems += [missing(name) for name in required if name not in args]
        if not self.open and "patternProperties" not in self._schema:
            problems += unknowns(args, parts)
        return problems

    def _errors(self, find: Callable[[], Iterable[ValidationError]]) -> list[str]:
        try:
            return [text for error in find() if self._counts(error) for text in self._texts(error)]
        except TooManySteps:
            return [f"the tool's schema needs more than {MOST_STEPS:,} steps to check them"]
        except RecursionError:
            return ["they are nested too deep for the tool's schema; write them flatter"]
        except Unresolvable as error:
            return [f"the tool's schema refers to {error.ref!r}, which is not part of it"]
        except Exception as error:  # noqa: BLE001 - a foreign schema's regular expression, say
            return [f"the tool's schema cannot be applied: {type(error).__name__}"]

    def _counts(self, error: ValidationError) -> bool:
        """Whether a fault is told at once; others the callee may see differently."""
        if self.judging == "enforce":
            return True
        return _is_certain(error)

    def _texts(self, error: ValidationError) -> list[str]:
        # The library's own messages hold the whole value, however large or secret.
        path = list(error.absolute_path)
        rule: Any = error.validator_value
        found: Any = error.instance
        if path and path[0] in self.secret:
            return [concealed(str(path[0]), self._schema)]
        if error.validator == "required":
            lacking = [name for name in rule if name not in found]
            return [missing(at([*path, name])) for name in lacking if repr(name) in error.message]
        if error.validator == "additionalProperties" and rule is False:
            return _extra(error, found)
        given = f" (got {shorten(found)})" if path else ""
        return [f"{at(path) or 'arguments'}: {self._said(error)}{given}"]

    def _said(self, error: ValidationError) -> str:
        rule: Any = error.validator_value
        if error.validator in {"type", "anyOf", "oneOf"}:
            return f"should be {type_word({error.validator: rule}, self._schema)}"
        if error.validator == "enum":
            return "should be " + type_word({"enum": list(rule)}, self._schema)
        pattern = _PATTERNS.get(str(error.validator), f"does not meet {error.validator}")
        return pattern.format(shorten(rule))


def _is_certain(error: ValidationError) -> bool:
    """Whether arguments with this fault cannot be meant; servers are laxer than their schemas.

    Certain are faults of an argument itself: a kind, a choice, a number. The callee judges missing
    and unknown names, alternatives, formats, lengths and what is inside of an argument.
    """
    if not _ALTERNATIVES.isdisjoint(map(str, error.absolute_schema_path)):
        return False
    rule: Any = error.validator_value
    depth = len(error.absolute_path)
    if depth == 0:
        return False
    if error.validator == "type":
        deep = depth > 1 and not isinstance(error.instance, str)
        return not deep and not _coercible(error.instance, rule)
    if depth > 1:
        return False
    if error.validator == "enum":
        given = str(error.instance).casefold()
        return all(str(each).casefold() != given for each in rule)
    return error.validator in _NUMERIC


def _coercible(value: object, types: object) -> bool:
    """Whether a value that has none of these JSON types can be read as one, as servers do."""
    wanted: list[Any] = types if is_list(types) else [types]
    if isinstance(value, str):
        numeric = value.strip().lstrip("+-").replace(".", "", 1).isdecimal()
        truth = value.strip().casefold() in ("true", "false")
        return (numeric and not {"integer", "number"}.isdisjoint(wanted)) or (
            truth and "boolean" in wanted
        )
    if isinstance(value, bool | int | float):
        return "string" in wanted or (isinstance(value, int) and "boolean" in wanted)
    return value is None


def _extra(error: ValidationError, found: dict[str, Any]) -> list[str]:
    path = at(error.absolute_path)
    schema: Any = error.schema
    if "patternProperties" in schema:
        return [f"{path or 'arguments'}: unknown argument"]
    allowed: dict[str, Any] = schema.get("properties", {})
    prefix = f"{path}." if path else ""
    return [prefix + text for text in unknowns(found, allowed)]


def _as_object(name: str, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        copied: dict[str, Any] = deepcopy(dict(schema or {}))
    except RecursionError:
        msg = f"the parameters of {name!r} are described by a schema that is nested too deep"
        raise ToolDefinitionError(msg) from None
    if copied.setdefault("type", "object") != "object":
        msg = (
            f"the parameters of {name!r} are described as {shorten(copied['type'])};"
            ' a tool takes an object: {"type": "object", "properties": {...}}'
        )
        raise ToolDefinitionError(msg)
    copied.setdefault("properties", {})
    return copied


def _validator(name: str, schema: dict[str, Any]) -> Any:
    # Any: the library's protocol of validators leaves `descend` out.
    kind: Any = validator_for(schema, default=Draft202012Validator)
    fault = None
    text = ""
    try:
        kind.check_schema(schema)
        text = json.dumps(schema, default=str)
    except RecursionError:
        fault = "it is nested too deep"
    except Exception as error:  # noqa: BLE001 - whatever is wrong, it is no schema
        fault = getattr(error, "message", None) or str(error)
    if fault is not None:
        msg = f"the parameters of {name!r} are no valid JSON Schema: {fault[:_SHOWN]}"
        raise ToolDefinitionError(msg)
    # An empty registry retrieves nothing; the library's own default would fetch remote ones.
    registry: Registry[Schema] = Registry()
    if "$id" not in text:
        resolver = registry.resolver_with_root(DRAFT202012.create_resource(schema))
        for ref in _refs(schema):
            try:
                resolver.lookup(ref)
            except Unresolvable:
                msg = (
                    f"the parameters of {name!r} refer to {ref!r}, which is not part of the schema;"
                    " dagexec fetches nothing: put it under $defs"
                )
                raise ToolDefinitionError(msg) from None
    kind = careful(kind, patterned="patternProperties" in text)
    return kind(schema, registry=registry)


def _refs(schema: Any) -> Iterable[str]:
    if is_object(schema):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            elif key not in {"default", "const", "enum", "examples"}:
                yield from _refs(value)
    elif is_list(schema):
        for item in schema:
            yield from _refs(item)
