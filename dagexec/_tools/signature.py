"""From a function's signature and docstring to a JSON Schema and a check of arguments.

pydantic does the work. Its model has fields called `p0`, `p1` … with the parameters' names as
aliases, so that a parameter may be called `schema`, `copy` or `_x` like any of a model's own names.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import PydanticUndefined, to_jsonable_python

from dagexec._errors import ToolDefinitionError
from dagexec._tools.arguments import (
    at,
    concealed,
    holds_secret,
    known,
    missing,
    shorten,
    unknowns,
    without_titles,
)
from dagexec._tools.functions import documentation, is_context, label, resolved, unwrapped

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import ErrorDetails

_EMPTY: Final = inspect.Parameter.empty


class _Schema(GenerateJsonSchema):
    """pydantic's generator, for types that have no JSON form too: a reference can deliver them."""

    # A default that has no JSON form is left out of the schema, which is no cause to warn.
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - declared so above
        "skipped-choice",
        "non-serializable-default",
    }

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        """Describe the type instead of refusing it."""
        del error_info
        name = getattr(schema.get("cls"), "__name__", "Python")
        return {"description": f"A {name} object: only the result of another call can give it."}


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One parameter that a model can give: its own name and the one in the schema."""

    name: str
    public: str
    field: str
    required: bool
    filled: bool  # its default is pydantic's to fill in, the function does not know it


@dataclass(frozen=True, slots=True)
class Spread:
    """A function with positional-only or `*args` parameters, called with keywords only."""

    function: Callable[..., Any]
    positional: tuple[tuple[str, Any], ...]
    rest: str | None = None

    def __call__(self, **kwargs: Any) -> Any:
        """Call the function with each value where it belongs."""
        args: list[Any] = []
        later = kwargs.pop(self.rest, ()) if self.rest is not None else ()
        for name, default in self.positional:
            if name in kwargs:
                args.append(kwargs.pop(name))
            elif default is not _EMPTY:
                args.append(default)
        return self.function(*args, *later, **kwargs)


@dataclass(slots=True)
class _Read:
    """What reading a signature brings together."""

    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    parameters: list[_Parameter] = field(default_factory=list[_Parameter])
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    reserved: set[str] = field(default_factory=set[str])
    positional: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    rest: str | None = None
    extra: Any = None
    context: str | None = None
    spread: bool = False


class SignatureArguments:
    """Arguments described by a function's signature."""

    __slots__ = (
        "_bare",
        "_model",
        "_names",
        "_parameters",
        "_read",
        "_required",
        "_reserved",
        "context",
        "defaults",
        "description",
        "open",
        "schema",
        "secret",
    )

    def __init__(
        self, function: Callable[..., Any], *, bound: bool, secret: Collection[str]
    ) -> None:
        """Read the signature; raise ToolDefinitionError where it cannot describe arguments.

        With `bound`, the first parameter (`self`) is given by the descriptor and left out.
        """
        target = unwrapped(function)
        self.description, documented = documentation(function, target)
        read = _read(function, target, documented, bound=bound)
        self._read = read
        self._parameters = tuple(read.parameters)
        self._names = tuple(dict.fromkeys(item.public for item in read.parameters))
        self._required = tuple(item.public for item in read.parameters if item.required)
        self._reserved = frozenset(read.reserved)
        self.context = read.context
        self.defaults: dict[str, Any] = read.defaults
        self.open = read.extra is not None
        self._model = _model(function, read)
        self.schema: dict[str, Any] = self._described(function, secret)
        # What is declared as a SecretStr or SecretBytes is a secret without being named as one.
        parts = self.schema["properties"].items()
        marked = [name for name, part in parts if holds_secret(part, self.schema)]
        self.secret = tuple(dict.fromkeys((*secret, *marked)))
        self._bare = not self._required and not any(item.filled for item in read.parameters)

    def adapted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, or what calls it with keyword arguments only."""
        if not self._read.spread:
            return function
        return Spread(function, tuple(self._read.positional), self._read.rest)

    def validate(self, args: Mapping[str, Any]) -> dict[str, Any] | list[str]:
        """Return the keyword arguments for the function, or what is wrong."""
        if not args and self._bare:
            return {}
        outcome = self._checked(args)
        if isinstance(outcome, list):
            return [*outcome, *self._name_problems(args, also_missing=False)]
        if self.open and (wrong := self._name_problems(args, also_missing=False)):
            return wrong
        values = outcome.__dict__
        ready = {
            item.name: values[item.field]
            for item in self._parameters
            if item.public in args or item.filled
        }
        return {**ready, **outcome.__pydantic_extra__} if outcome.__pydantic_extra__ else ready

    def problems(self, args: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the arguments that are known, and with the names of all."""
        values, pending = known(args)
        outcome = self._checked(values, (*pending, *self._required)) if values else None
        found = outcome if isinstance(outcome, list) else []
        return [*found, *self._name_problems(args, also_missing=True)]

    def _checked(
        self, args: Mapping[str, Any], absent: Collection[str] = ()
    ) -> BaseModel | list[str]:
        """Return the filled model or its problems, but for unknown names and those `absent`."""
        try:
            return self._model.__pydantic_validator__.validate_python(dict(args))  # type: ignore[no-any-return]
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False)
        except Exception as error:  # noqa: BLE001 - a validator's own fault costs this call only
            return [f"arguments: could not be checked ({type(error).__name__})"]
        return [
            self._text(item)
            for item in details
            if item["type"] != "extra_forbidden" or len(item["loc"]) > 1
            if not (
                item["type"] == "missing" and len(item["loc"]) == 1 and item["loc"][0] in absent
            )
        ]

    def _name_problems(self, args: Mapping[str, Any], *, also_missing: bool) -> list[str]:
        texts = [missing(name) for name in self._required if name not in args and also_missing]
        given = args if not self.open else [name for name in args if name in self._reserved]
        return texts + unknowns(given, self._names)

    def _text(self, error: ErrorDetails) -> str:
        path = error["loc"]
        if error["type"] == "missing":
            return missing(at(path))
        if path and path[0] in self.secret:
            # A validator's message may quote the value, and a key inside it may be part of it.
            return concealed(str(path[0]), self.schema)
        given = shorten(error["input"])
        return f"{at(path) or 'arguments'}: {error['msg']} (got {given})"

    def _described(self, function: Callable[..., Any], secret: Collection[str]) -> dict[str, Any]:
        try:
            raw = self._model.model_json_schema(schema_generator=_Schema)
        except Exception as error:  # whatever pydantic cannot describe
            msg = f"no JSON Schema can be made for {label(function)}: {error}"
            raise ToolDefinitionError(msg) from error
        short = without_titles(raw)
        properties: dict[str, Any] = short.get("properties", {})
        for item in self._parameters:
            part = properties[item.public]
            if item.public in secret or holds_secret(part, short):
                part.pop("default", None)
            elif not item.filled and item.public in self.defaults:
                part.update(_json_default(self.defaults[item.public]))
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(self._required),
            "additionalProperties": short.get("additionalProperties", False),
        }
        return {**schema, "$defs": short["$defs"]} if "$defs" in short else schema


def _json_default(value: Any) -> dict[str, Any]:
    try:
        default = to_jsonable_python(value)
        json.dumps(default, allow_nan=False)
    except Exception:  # noqa: BLE001 - no JSON form: the schema then says that it is optional
        return {}
    return {"default": default}


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError, NameError) as error:
        msg = (
            f"{label(function)} has no signature that can be read ({error});"
            " describe its parameters with Tool.from_schema"
        )
        raise ToolDefinitionError(msg) from error


def _fixed(function: Callable[..., Any] | partial[Any]) -> dict[str, Any]:
    """Return the keywords that a partial has bound."""
    return function.keywords if isinstance(function, partial) else {}


def _read(
    function: Callable[..., Any], target: Any, documented: Mapping[str, str], *, bound: bool
) -> _Read:
    parameters = list(_signature(function).parameters.values())
    read = _Read()
    if bound:
        read.reserved.add(parameters.pop(0).name)
    kinds = {item.kind for item in parameters}
    read.spread = bool(
        kinds & {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}
    )
    fixed = _fixed(function)
    for item in parameters:
        if item.name in fixed:
            # Whoever bound it decided it: neither the schema nor the model has a say.
            read.reserved.add(item.name)
            continue
        _take(read, function, target, item, documented.get(item.name))
    return read


def _take(
    read: _Read,
    function: Callable[..., Any],
    target: Any,
    parameter: inspect.Parameter,
    description: str | None,
) -> None:
    """Add one parameter to what was read."""
    kind = parameter.kind
    if kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
        read.positional.append((parameter.name, parameter.default))
    annotation = _annotation_of(function, target, parameter)
    if is_context(annotation):
        _take_context(read, function, parameter)
    elif kind is parameter.VAR_KEYWORD:
        if "Unpack" in str(get_origin(annotation)):
            msg = (
                f"{label(function)} takes **{parameter.name}: {annotation};"
                " write its keys out as parameters"
            )
            raise ToolDefinitionError(msg)
        read.extra = annotation
    elif kind is parameter.VAR_POSITIONAL:
        read.rest = parameter.name
        several = parameter.replace(kind=parameter.KEYWORD_ONLY, default=())
        if get_origin(annotation) is Annotated:
            description = _documented(get_args(annotation)[1:]) or description
        _add(read, function, several, list[annotation], description)  # type: ignore[valid-type]
    else:
        _add(read, function, parameter, annotation, description)


def _annotation_of(function: Callable[..., Any], target: Any, parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation with its names looked up.

    One that reads `CallContext` may name another class of that name; where the name leads nowhere,
    it was imported for type checkers only, and then it is dagexec's.
    """
    annotation = parameter.annotation
    if annotation is not _EMPTY and is_context(annotation):
        try:
            return resolved(function, target, parameter)
        except ToolDefinitionError:
            return annotation
    return resolved(function, target, parameter)


def _take_context(read: _Read, function: object, parameter: inspect.Parameter) -> None:
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD} or read.context:
        msg = (
            f"{label(function)} asks for the call's context in {parameter.name!r};"
            " it can be given once, as a parameter of its own"
        )
        raise ToolDefinitionError(msg)
    read.context = parameter.name
    read.reserved.add(parameter.name)


def _add(
    read: _Read,
    function: object,
    parameter: inspect.Parameter,
    annotation: Any,
    description: str | None,
) -> None:
    default = parameter.default
    if isinstance(default, FieldInfo):
        annotation, default = Annotated[annotation, default], _EMPTY
    info = FieldInfo.from_annotation(annotation)
    alias = info.validation_alias or info.alias or parameter.name
    if not isinstance(alias, str):
        msg = f"{label(function)}: the alias of {parameter.name!r} has to be one name, a string"
        raise ToolDefinitionError(msg)
    own_default = default is not _EMPTY
    filled = not own_default and not info.is_required()
    text = info.description or _documented(info.metadata) or description
    named = Field(alias=alias, validation_alias=alias, description=text)
    annotation = Annotated[annotation, named]
    name = f"p{len(read.parameters)}"
    # A default of the function is filled in by the function: never copied, and any object.
    read.fields[name] = (annotation, Field(default_factory=_absent)) if own_default else annotation
    required = not own_default and not filled
    read.parameters.append(_Parameter(parameter.name, alias, name, required, filled))
    read.reserved.add(parameter.name)
    if own_default:
        read.defaults[alias] = default
    elif filled and info.default is not PydanticUndefined:
        read.defaults[alias] = info.default


def _documented(metadata: Iterable[Any]) -> str | None:
    """Return the text of `Annotated[str, "text"]`, or of PEP 727's `Doc("text")`."""
    for each in metadata:
        text: object = each if isinstance(each, str) else getattr(each, "documentation", None)
        if isinstance(text, str):
            return text
    return None


def _absent() -> None:
    """Stand for a default that only the function knows."""


def _model(function: object, read: _Read) -> type[BaseModel]:
    config = ConfigDict(
        extra="forbid" if read.extra is None else "allow",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )
    space: dict[str, Any] = {"__module__": __name__, "model_config": config}
    if read.extra is not None:
        space["__annotations__"] = {"__pydantic_extra__": dict[str, read.extra]}  # type: ignore[name-defined]

    def fill(names: dict[str, Any]) -> None:
        names.update(space)

    fault: Exception
    try:
        base = cast("type[BaseModel]", types.new_class("Arguments", (BaseModel,), {}, fill))
        return create_model("Arguments", __base__=base, **read.fields)
    except Exception as error:  # noqa: BLE001 - pydantic has several families of errors
        fault = error
    msg = f"{label(function)} cannot become a tool: {fault}"
    raise ToolDefinitionError(msg) from fault
