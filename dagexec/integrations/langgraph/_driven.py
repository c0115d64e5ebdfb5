"""What the executor runs for a tool of the node, and the tool whose options say how.

A dagexec tool says itself what its options mean; for a LangChain tool one is made of its schema and
of the node's `options`. Whatever a tool of dagexec can have, what the executor runs has it too,
because it is a copy: an option that is not named here cannot be forgotten.
"""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, final

from langchain_core.tools import BaseTool
from langgraph.prebuilt import tool_node as stock
from langgraph.prebuilt.tool_node import ToolInvocationError
from pydantic import BaseModel, ValidationError

from dagexec import ArgumentError, Denied, Tool, ToolDefinitionError, tool
from dagexec._tools.arguments import OpenArguments, at, concealed
from dagexec._tools.arguments import known as known_part
from dagexec._tools.json_schema import SchemaArguments
from dagexec._tools.options import ToolOptions, plan_name, strings_of
from dagexec.integrations.langgraph._tools import own_tool
from dagexec.limits import Retry

# What LangChain keeps, or what only a tool of an `Executor` can have.
_NOT_HERE: Final = ("runs", "name", "description", "limit")
# Wrong arguments and refusals of people: another attempt would find the same.
_FINAL: Final = (ArgumentError, Denied, ToolInvocationError)


@final
@dataclass(frozen=True, slots=True)
class Driven:
    """A tool of the node twice: as the executor runs it, and as it judges calls."""

    tool: Tool[..., Any]
    # Says which arguments fit, whether a person has to agree, and what is secret.
    judge: Tool[..., Any]


def judge_of(name: str, known: BaseTool | None, options: ToolOptions) -> Tool[..., Any]:
    """Return the tool whose options count for the calls of this name.

    Raises ToolDefinitionError for an option that cannot be.
    """
    for option in _NOT_HERE:
        if option in options:
            raise _not_here(option, name)
    own = None if known is None else own_tool(known)
    if own is not None:
        if own.runs == "process":
            raise _not_here("runs", name)
        return tool(own, **options) if options else own
    open_: dict[str, Any] = {"type": "object"}
    chosen: Any = options
    made: Tool[..., Any] = Tool.from_schema(plan_name(name), open_, _not_to_be_called, **chosen)
    if known is None or not options:
        return made
    arguments = LangChainArguments(known, strings_of(name, "secret", options.get("secret", ())))
    return replace(made, _arguments=arguments, parameters=arguments.schema, secret=arguments.secret)


def _not_here(option: str, name: str) -> ToolDefinitionError:
    return ToolDefinitionError(
        f"{option}= of {name!r}: in a DagToolNode that is the tool's own affair;"
        ' runs="process" is for tools of an Executor'
    )


def driven(
    name: str, judge: Tool[..., Any], function: Callable[..., Any], *, asynchronous: bool
) -> Driven:
    """Return the tool that an executor runs in the judge's place, by calling `function`.

    Its arguments are open: LangChain checks them, behind the wrappers, which may change them.
    """
    cost: Any = judge.cost
    made = replace(
        judge,
        name=plan_name(name),
        function=function,
        raw=function,
        runs="async" if asynchronous else "thread",
        needs_context=None,
        # People are asked by an interrupt of the graph, see `_message`.
        approval=False,
        # Calls do not share an execution: their arguments are not all that a tool is handed.
        effect=type(judge.effect).read if judge.effect.shares else judge.effect,
        cost=partial(_cost, judge) if callable(cost) else cost,
        retry=_patient(judge.retry),
        binds="",
        owner=None,
        _arguments=OpenArguments(judge._arguments.defaults, judge.secret),  # noqa: SLF001
    )
    return Driven(made, judge)


def _cost(judge: Tool[..., Any], args: dict[str, Any]) -> Any:
    return judge.cost(judge.validate(args))


def _patient(retry: Any) -> Any:
    """Return a retry that leaves out what an executor finds before a call's first attempt."""
    if not isinstance(retry, Retry):
        return retry

    def covers(error: Exception) -> bool:
        return not isinstance(error, _FINAL) and retry.covers(error)

    made = replace(retry, on=covers)
    # Its budgets and its breaker are those of the tools that share the other.
    object.__setattr__(made, "_keys", retry._keys)  # noqa: SLF001
    return made


def _not_to_be_called(**args: Any) -> Any:
    del args
    msg = "this tool only says how calls are run"
    raise TypeError(msg)


@final
class LangChainArguments:
    """The arguments of a LangChain tool, as its own schema checks them; without injected ones."""

    __slots__ = ("_by_schema", "_injected", "_model", "defaults", "schema", "secret")
    description = ""
    context = None
    open = True

    def __init__(self, known: BaseTool, secret: tuple[str, ...]) -> None:
        """Read the schema; raise ToolDefinitionError for a secret that is no argument."""
        shape: Any = None if known.args_schema is None else known.tool_call_schema
        self._model: type[BaseModel] | None = None
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            self._model = shape
        # What the node puts in itself; LangChain's schema does not know all of it.
        injected = stock._get_all_injected_args(known)  # noqa: SLF001
        self._injected = {*injected.state, injected.store, injected.runtime}
        found: Any = shape if isinstance(shape, dict) else _shown(self._model)
        self._by_schema = SchemaArguments(known.name, found, secret)
        self.schema = self._by_schema.schema
        self.secret = self._by_schema.secret
        self.defaults: Mapping[str, Any] = self._by_schema.defaults
        names = self.schema["properties"]
        unknown = [each for each in secret if names and each not in names]
        if unknown:
            msg = f"secret={unknown[0]!r} of {known.name!r}: its parameters are {', '.join(names)}"
            raise ToolDefinitionError(msg)

    def adapted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function itself."""
        return function

    def validate(self, args: Mapping[str, Any]) -> dict[str, Any] | list[str]:
        """Return the arguments as the tool will see them, or what is wrong."""
        model = self._model
        if model is None:
            return self._by_schema.validate(args)
        try:
            made = model.model_validate(dict(args))
        except ValidationError as error:
            return self._texts(error) or dict(args)
        return {name: getattr(made, name) for name in model.model_fields}

    def problems(self, args: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with them, nothing as long as one is a reference."""
        values, pending = known_part(args)
        found = [] if pending else self.validate(values)
        return found if isinstance(found, list) else []

    def _texts(self, error: ValidationError) -> list[str]:
        found: dict[str, None] = {}  # of a union, each kind has an error
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            place = each["loc"]
            if place and place[0] in self._injected:
                continue
            hidden = bool(place) and place[0] in self.secret
            text = f"{at(place) or 'arguments'}: {each['msg']}"
            found[concealed(str(place[0]), self.schema) if hidden else text] = None
        return list(found)


def _shown(model: type[BaseModel] | None) -> dict[str, Any]:
    """Return the schema of a model, an open one if there is none to be shown."""
    if model is None:
        return {"type": "object"}
    try:
        return model.model_json_schema()
    except Exception:  # noqa: BLE001 - a type without a JSON Schema: it is checked all the same
        return {"type": "object"}
