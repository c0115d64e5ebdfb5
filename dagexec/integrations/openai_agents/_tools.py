"""Function tools: dagexec's as the SDK's, and the SDK's as a turn runs them."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from typing import Any, cast

from agents import FunctionTool, RunContextWrapper
from agents import tool as sdk
from agents.exceptions import ToolInputGuardrailTripwireTriggered
from agents.tool_context import ToolContext
from agents.tool_guardrails import ToolInputGuardrail

from dagexec import Tool, current_call
from dagexec._core.earlier_calls import is_marked
from dagexec._tools.settle import run_tool
from dagexec.integrations._turns.conversation import read_arguments

Invoke = Callable[[ToolContext[Any], str], Awaitable[Any]]
Leave = Callable[[RunContextWrapper[Any], str], None]


def to_function_tool(tool: Tool[..., Any]) -> FunctionTool:
    """Return a dagexec tool as a function tool, with the same name, texts and schema.

    `dag_agent(..., tools=[...])` does so with the tools that it is given, and keeps their options.
    """

    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        del context
        checked = tool.validate(cast("Any", read_arguments(arguments)))
        if tool.needs_context is not None:
            checked[tool.needs_context] = current_call()
        return await run_tool(tool, checked)

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=tool.parameters,
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )


def bare(tool: FunctionTool) -> FunctionTool:
    """Return a tool that raises what goes wrong: what to make of it is decided once, at the end."""
    one = copy.copy(tool)
    sdk.set_function_tool_failure_error_function(one, None)
    return one


def has_policy(tool: FunctionTool) -> bool:
    """Whether the SDK answers in the place of a tool that raises."""
    return isinstance(tool.on_invoke_tool, sdk._FailureHandlingFunctionToolInvoker)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def given(tool: Any) -> Any:
    """Return the tool that the user gave in the place of the copy that an agent has."""
    return getattr(tool, "_dagexec_given", tool)


class _Equal:
    """A copy that equals the tool that the user gave: hooks and models look for that one."""

    def __eq__(self, other: object) -> bool:
        mine, theirs = given(self), given(other)
        return mine is theirs or bool(mine == theirs)

    def __hash__(self) -> int:
        return hash(given(self))


@cache
def _equal(kind: type[Any]) -> type[Any]:
    same = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (_Equal, kind), same)


def handed_in(
    tool: FunctionTool,
    invoke: Invoke,
    leave: Leave,
    *,
    schema: dict[str, Any] | None,
    answers: bool,
) -> FunctionTool:
    """Return the tool that an agent gets: its calls are handed in instead of being run.

    `leave` is told of calls that will not come: guardrails refuse them, a person has to agree.
    `schema` takes the place of the tool's own.
    """
    one: Any = copy.copy(tool)
    one._dagexec_given = given(tool)  # noqa: SLF001 - an attribute of ours
    kind: Any = type(tool)
    one.__class__ = _equal(kind)
    if schema is not None:
        one.strict_json_schema = False
        one.params_json_schema = schema
    # It would count from when the call is handed in; the tool itself still has it.
    one.timeout_seconds = None
    if tool.tool_input_guardrails:
        guards = [_watched(guard, leave) for guard in tool.tool_input_guardrails]
        one.tool_input_guardrails = guards
    if tool.needs_approval is True or callable(tool.needs_approval):
        one.needs_approval = _approval(tool, leave)
    if answers or has_policy(tool):
        handler = getattr(tool.on_invoke_tool, "_on_handled_error", None)

        def handled(tool: FunctionTool, error: Exception, arguments: str) -> None:
            del tool, error, arguments

        if answers and sdk.resolve_function_tool_failure_error_function(one) is None:
            # `failure_error_function=None` leaves a failure to the run, which goes on.
            sdk.set_function_tool_failure_error_function(one, sdk.default_tool_error_function)
        made: Any = sdk.with_function_tool_failure_error_handler(invoke, handled)
        if handler is not None:
            made._on_handled_error = handler  # noqa: SLF001
        one.on_invoke_tool = made.__agents_bind_function_tool__(one)
    else:
        one.on_invoke_tool = invoke
    return cast("FunctionTool", one)


def _watched(guard: ToolInputGuardrail[Any], leave: Leave) -> ToolInputGuardrail[Any]:
    async def watched(data: Any) -> Any:
        context: ToolContext[Any] = data.context
        try:
            found: Any = guard.guardrail_function(data)
            if inspect.isawaitable(found):
                found = await found
        except BaseException:
            leave(context, context.tool_call_id)
            raise
        kind = found.behavior.get("type", "allow")
        if kind != "allow":
            leave(context, context.tool_call_id)
        if kind == "raise_exception":
            # As the SDK does it, but with the guardrail that the user gave.
            raise ToolInputGuardrailTripwireTriggered(guardrail=guard, output=found)
        return found

    return replace(guard, guardrail_function=watched, name=guard.get_name())


def _approval(tool: FunctionTool, leave: Leave) -> Callable[..., Awaitable[bool]]:
    async def needs_approval(
        context: RunContextWrapper[Any], args: dict[str, Any], call_id: str
    ) -> bool:
        needed = await _needed(tool, context, args, call_id)
        if needed:
            leave(context, call_id)
        return needed

    return needs_approval


async def _needed(
    tool: FunctionTool, context: RunContextWrapper[Any], args: dict[str, Any], call_id: str
) -> bool:
    policy: Any = tool.needs_approval
    if not callable(policy):
        return bool(policy)
    if is_marked(args):
        return True  # nobody can look at the values yet
    prepare = getattr(tool.on_invoke_tool, "prepare_arguments", None)
    if prepare is not None and not getattr(policy, "of_dagexec", False):
        # As the SDK does: what validation changes is for a person to look at.
        prepared = prepare(json.dumps(args), tool.name)
        if prepared is not None and not prepared.unchanged:
            return True
    found = policy(context, args, call_id)
    return bool(await found if inspect.isawaitable(found) else found)
