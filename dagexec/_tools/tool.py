"""Tools: functions that a model can call, with what dagexec has to know about them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from importlib import import_module
from inspect import signature
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    Unpack,
    cast,
    final,
    get_overloads,
    overload,
)

from dagexec._core.plan import Call
from dagexec._core.secrets import declare
from dagexec._core.wrong_names import wrong_name
from dagexec._errors import ArgumentError, PlanError, Problem, ToolDefinitionError
from dagexec._tools.arguments import Arguments, explain, fitted, shorten
from dagexec._tools.functions import binding, own_name, refuse_generators, unwrapped
from dagexec._tools.json_text import unpacked
from dagexec._tools.misgiven import no_tool, no_tools
from dagexec._tools.options import (
    Effect,
    EffectName,
    Judging,
    Runs,
    ToolOptions,
    approval_of,
    cost_of,
    effect_of,
    judging_of,
    limit_of,
    name_of,
    reconcile_of,
    runs_of,
    strings_of,
    timeout_of,
    uses_of,
)
from dagexec._tools.resources import Access, ResourceTemplate

P = ParamSpec("P")
R = TypeVar("R", covariant=True)  # noqa: PLC0105 - the name that every reader expects
_P2 = ParamSpec("_P2")
_R2 = TypeVar("_R2")
_S = TypeVar("_S")

__all__ = ["Access", "Effect", "Runs", "Tool", "ToolOptions", "as_tools", "tool"]


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Tool(Generic[P, R]):
    """A function that a model can call; made by `tool` or `Tool.from_schema`.

    Calling it calls the function itself, and in a class it works as a method: on an instance it is
    a tool bound to that instance. `function` takes what `validate` returns, as keywords.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    effect: Effect
    timeout: float | None
    retry: Any
    limits: tuple[Any, ...]
    cost: Any
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    approval: bool | Callable[..., bool]
    reconcile: Callable[..., Any] | None
    runs: Runs
    secret: tuple[str, ...]
    uses: dict[str, int]
    limit: int | None
    function: Callable[..., Any]
    needs_context: str | None
    raw: Callable[..., Any]
    _arguments: Arguments
    templates: tuple[ResourceTemplate, ...]
    binds: Literal["", "self", "cls"] = ""
    owner: Any = field(default=None)

    def __post_init__(self) -> None:
        """Let those who show a call know what is secret."""
        declare(self.name, self.secret)

    @staticmethod
    def from_schema(
        name: str,
        parameters: Mapping[str, Any] | None,
        function: Callable[..., _R2],
        /,
        *,
        arguments: Judging = "advise",
        **options: Unpack[ToolOptions],
    ) -> Tool[..., _R2]:
        """Return a tool whose parameters are described by a JSON Schema from elsewhere.

        `function` is called with the arguments as keywords, as they came; defaults are its own
        affair. With `arguments="advise"` it also judges what need not be a fault: a missing or
        unknown name, a format or length, an alternative, a choice in other case, a number as text.
        With "enforce" whatever does not fit the schema is refused. The draft is the one that
        `$schema` names, 2020-12 without. Raises ToolDefinitionError if the schema is none, or
        refers to something outside of itself.
        """
        # jsonschema is needed only here, and takes longer to import than dagexec.
        from dagexec._tools.json_schema import SchemaArguments

        secret = strings_of(name, "secret", options.get("secret", ()))
        described = SchemaArguments(name, parameters, secret, judging_of(name, arguments))
        chosen: ToolOptions = {**options, "name": options.get("name") or name}
        return _define(function, described, chosen, secret)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, as if it had not been decorated."""
        return cast("R", self.raw(*args, **kwargs))

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Tool[P, R]: ...
    @overload
    def __get__(
        self: Tool[Concatenate[_S, _P2], _R2], instance: _S, owner: type[Any] | None = None
    ) -> Tool[_P2, _R2]: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """Return the tool bound to the instance that it is looked up on."""
        if not self.binds or (instance is None and self.binds == "self"):
            return self
        if self.binds == "self":
            return self.bound(instance)
        return self.bound(type(instance) if owner is None else owner)

    def call(self, id: str, /, *args: P.args, **kwargs: P.kwargs) -> Call:
        """Return a call of this tool, whose arguments a type checker compares with the function's.

        `price.call("a", title="Dune")` is `Call("a", "price", {"title": "Dune"})`. What another
        call returns goes in as `other.value`. Raises PlanError for more positional arguments than
        there are parameters, and for one that is given twice.
        """
        names = (*self.parameters["properties"],)
        given = dict(zip(names, args, strict=False))
        double = [name for name in given if name in kwargs]
        if double or len(args) > len(names):
            wrong = f"{double[0]!r} twice" if double else f"{len(args)} positional arguments"
            msg = f"{self.name} takes {', '.join(names) or 'no arguments'}, and was given {wrong}"
            raise PlanError([Problem("bad_call", id, msg)])
        return Call(id, self.name, {**given, **kwargs})

    def validate(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as Python objects, the keywords for `function`.

        Raises ArgumentError, whose text tells a model what is wrong and what is allowed.
        """
        found = _not_an_object(args) or fitted(self._arguments.validate, args)
        if isinstance(found, dict):
            return found
        # Only where they do not fit as they are: texts that are JSON may be meant as what they say.
        read = unpacked(args, self.parameters) if isinstance(args, Mapping) else None
        again = found if read is None else self._arguments.validate(read)
        if isinstance(again, dict):
            return again
        # Outside of any `except`: pydantic's own error holds the values, secret ones too.
        raise ArgumentError(self.explain(found))

    def problems(self, args: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with the arguments, as far as it shows before the run.

        A value that holds a reference is not looked at; the names of all arguments are.
        """
        found = _not_an_object(args) or self._arguments.problems(args)
        if found and isinstance(args, Mapping):
            read = unpacked(args, self.parameters)
            if read is not None and not self._arguments.problems(read):
                return []
        return found

    def explain(self, problems: Iterable[str]) -> str:
        """Return a text for the model: the problems, and the arguments that the tool expects."""
        return explain(self.name, problems, self.parameters, self.secret)

    def resources(self, args: Mapping[str, Any]) -> tuple[Access, ...]:
        """Return the resources that a call with these arguments reads and writes."""
        if not self.templates:
            return ()
        defaults = self._arguments.defaults
        return tuple(access for item in self.templates for access in item.accesses(args, defaults))

    def __repr__(self) -> str:
        return f"<Tool {self.name} ({self.effect})>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name where the name leads to the tool, as functions do."""
        target = unwrapped(self.raw)
        place = (getattr(target, "__module__", ""), getattr(target, "__qualname__", ""))
        held: object = _named(*place) if place[0] in sys.modules else None
        if not isinstance(held, Tool):
            return _rebuild, (self.raw, self.options())
        found = cast("Tool[..., Any]", held)
        same = found.options() == self.options()
        if found.raw == self.raw:
            return (_named, place) if same else (_rebuild, (found, self.options()))
        # A method: its name leads to the unbound tool.
        return (
            (_bind, (found, self.owner))
            if same
            else (_rebuild, (found.bound(self.owner), self.options()))
        )

    def options(self) -> dict[str, Any]:
        """Return what made this tool of its function."""
        options: dict[str, Any] = {key: getattr(self, key) for key in ToolOptions.__annotations__}
        from dagexec._tools.signature import SignatureArguments

        if not isinstance(self._arguments, SignatureArguments):
            options["parameters"] = self.parameters
            options["arguments"] = getattr(self._arguments, "judging", "enforce")
        return options

    def bound(self, owner: Any) -> Tool[..., Any]:
        """Return this tool with its first parameter given."""
        raw = MethodType(self.raw, owner)
        function = self._arguments.adapted(raw)
        return replace(self, function=function, raw=raw, binds="", owner=owner)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Only on instances: as class attributes they would describe the class Tool itself.
            if name == "__wrapped__":
                return self.raw
            if name in {"__name__", "__qualname__"}:
                return getattr(unwrapped(self.raw), name)
            msg = f"a Tool has no attribute {name!r}"
            raise AttributeError(msg)


# --- making tools --------------------------------------------------------------------------------


@overload
def tool(
    function: Callable[P, _R2],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect | EffectName = Effect.write,
    timeout: float | timedelta | None = None,
    retry: Any = None,
    limits: Any = (),
    cost: Any = None,
    reads: str | Iterable[str] = (),
    writes: str | Iterable[str] = (),
    approval: bool | Callable[..., bool] = False,
    reconcile: Callable[..., Any] | None = None,
    runs: Runs | None = None,
    secret: str | Iterable[str] = (),
    uses: Mapping[str, int] = {},
    limit: int | None = None,
) -> Tool[P, _R2]: ...
@overload
def tool(
    function: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect | EffectName = Effect.write,
    timeout: float | timedelta | None = None,
    retry: Any = None,
    limits: Any = (),
    cost: Any = None,
    reads: str | Iterable[str] = (),
    writes: str | Iterable[str] = (),
    approval: bool | Callable[..., bool] = False,
    reconcile: Callable[..., Any] | None = None,
    runs: Runs | None = None,
    secret: str | Iterable[str] = (),
    uses: Mapping[str, int] = {},
    limit: int | None = None,
) -> Callable[[Callable[P, _R2]], Tool[P, _R2]]: ...
def tool(  # noqa: D417 - the options are those of the overloads
    function: Callable[..., Any] | None = None, /, **options: Any
) -> Any:
    """Make a tool of a function; used as `@tool` or `@tool(effect="read", timeout=5)`.

    The schema comes from the signature, the texts from the docstring (Google, NumPy or Sphinx
    style) and from `Annotated[..., Field(description=...)]`. A parameter annotated `CallContext`
    gets the call's context and is no part of the schema.

    Args:
        function: async or not; a method too. A tool keeps what is not given again.
        name: what the model calls it; by default the function's name.
        description: what the model is told; by default the docstring's text.
        effect: "pure" (same arguments, same value), "read" (changes nothing), "idempotent" (twice
            is as once) or "write" (twice is wrong). It decides what may be shared, started early,
            tried again and run again after a crash.
        timeout: seconds, or a `timedelta`, for all attempts of a call; None for the executor's.
        retry: a `dagexec.limits.Retry`.
        limits: the `dagexec.limits.Limiter` that calls wait for, or several.
        cost: what a call takes from its limits: a number, amounts by dimension, or a function of
            the arguments that returns one.
        reads: resources that a call looks at, as templates over its arguments: `file:{path}`.
        writes: resources that it changes. Calls that conflict run in the order of the plan.
        approval: whether a person has to agree: True, or a function of the arguments.
        reconcile: finds out what became of a write that a crash interrupted: a function of the
            call's context and arguments that returns `Done(value)`, `Deny(reason)` if it did not
            happen, `Approve()` to run it again, or None if it does not know.
        runs: where: "async", "thread" or "process"; by default "async" for an async function and
            "thread" for any other.
        secret: names of arguments whose values appear in no text but `Plan.to_json`.
        uses: named resources of the executor that a call holds, with how many: `{"gpu": 1}`.
        limit: how many characters of a result the model is shown; None for its planner's.

    Raises ToolDefinitionError where the function or an option cannot be used.
    """
    given = cast("ToolOptions", options)
    if function is None:
        return partial(_make, options=given)
    return _make(function, options=given)


# So that `help(tool)` and editors that ask at run time show the options, with their defaults.
tool.__signature__ = signature(get_overloads(tool)[0])  # type: ignore[attr-defined]


def as_tools(tools: Iterable[Tool[..., Any] | Callable[..., Any]]) -> dict[str, Tool[..., Any]]:
    """Return tools by name, in order; a plain function becomes a tool with default options.

    Raises ToolDefinitionError for a name that occurs twice and for a method without its instance.
    """
    given: Any = tools
    if isinstance(given, Mapping | str) or not isinstance(given, Iterable):
        raise ToolDefinitionError(no_tools(cast("object", given)))
    named: dict[str, Tool[..., Any]] = {}
    for item in tools:
        made: Tool[..., Any] = _make(item, options={})
        if made.binds:
            msg = f"{made.name!r} is a method: give the instance's own, as in `thing.{made.name}`"
            raise ToolDefinitionError(msg)
        if made.name in named:
            msg = f"two tools are called {made.name!r}: leave one out, or rename it by tool(name=)"
            raise ToolDefinitionError(msg)
        named[made.name] = made
    return named


def _make(function: Any, *, options: ToolOptions) -> Tool[..., Any]:
    inner: Any = function.__func__ if isinstance(function, MethodType) else None
    if isinstance(inner, Tool):
        # @classmethod over @tool: since Python 3.13 the class binds it without asking the tool.
        function = cast("Tool[..., Any]", inner).bound(function.__self__)
    if isinstance(function, Tool):
        existing = cast("Tool[..., Any]", function)
        if not options:
            return existing
        merged = {**existing.options(), **options}
        return _rebuild(existing.raw, merged)
    usable = callable(function) or isinstance(function, classmethod)
    if not usable:
        raise ToolDefinitionError(no_tool(cast("object", function)))
    refuse_generators(function)
    name = str(options.get("name") or own_name(function))
    secret = strings_of(name, "secret", options.get("secret", ()))
    binds = binding(function)
    wrapped = isinstance(function, staticmethod | classmethod)
    raw: Any = cast("Any", function).__func__ if wrapped else function
    # pydantic takes longer to import than dagexec, and a program may define no tools.
    from dagexec._tools.signature import SignatureArguments

    arguments = SignatureArguments(raw, bound=bool(binds), secret=secret)
    made = _define(raw, arguments, {**options, "name": name}, secret)
    return replace(made, binds=binds) if binds else made


def _define(
    raw: Callable[..., Any],
    arguments: Arguments,
    options: ToolOptions,
    secret: tuple[str, ...],
) -> Tool[..., Any]:
    """Check the options and put the tool together."""
    unknown = [key for key in options if key not in ToolOptions.__annotations__]
    if unknown:
        names = ToolOptions.__annotations__
        raise ToolDefinitionError(wrong_name("tool()", unknown[0], names, what="option"))
    name = name_of(options.get("name"), raw)
    reads = strings_of(name, "reads", options.get("reads", ()))
    writes = strings_of(name, "writes", options.get("writes", ()))
    parameters: dict[str, Any] = arguments.schema
    known = (*parameters["properties"],)
    templates = (
        *(ResourceTemplate.parse(name, text, write=False) for text in reads),
        *(ResourceTemplate.parse(name, text, write=True) for text in writes),
    )
    if not arguments.open:
        for template in templates:
            template.require(name, known)
        for item in secret:
            if item not in known:
                msg = (
                    f"secret={item!r} of {name!r}: its parameters are {', '.join(known) or 'none'}"
                )
                raise ToolDefinitionError(msg)
    description = options.get("description")
    limits = options.get("limits", ())
    several = isinstance(limits, list | tuple)
    return Tool(
        name=name,
        description=arguments.description if description is None else description,
        parameters=parameters,
        effect=effect_of(name, options.get("effect", Effect.write)),
        timeout=timeout_of(name, options.get("timeout")),
        retry=options.get("retry"),
        limits=tuple(cast("list[Any]", limits)) if several else (limits,),
        cost=cost_of(name, options.get("cost")),
        reads=reads,
        writes=writes,
        approval=approval_of(name, options.get("approval", False)),
        reconcile=reconcile_of(name, options.get("reconcile")),
        runs=runs_of(name, options.get("runs"), raw),
        secret=arguments.secret,
        uses=uses_of(name, options.get("uses", {})),
        limit=limit_of(name, options.get("limit")),
        function=arguments.adapted(raw),
        needs_context=arguments.context,
        raw=raw,
        _arguments=arguments,
        templates=templates,
    )


def _named(module: str, qualname: str) -> Any:
    """Return what a module holds under a name, or None."""
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _bind(unbound: Tool[..., Any], owner: Any) -> Tool[..., Any]:
    return unbound.bound(owner)


def _rebuild(made_of: Any, options: dict[str, Any]) -> Tool[..., Any]:
    if "parameters" not in options:
        return _make(made_of, options=cast("ToolOptions", options))
    raw = made_of.raw if isinstance(made_of, Tool) else made_of
    rest = cast("Any", {key: value for key, value in options.items() if key != "parameters"})
    return Tool.from_schema(options["name"], options["parameters"], raw, **rest)


def _not_an_object(args: object) -> list[str]:
    # The exact type first: the abstract class costs more than checking a call without arguments.
    if type(args) is dict or isinstance(args, Mapping):
        return []
    return [f"arguments: should be an object with the arguments' names (got {shorten(args)})"]
