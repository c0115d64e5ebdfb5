"""Checks a plan against the tools that it is to run with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagexec._errors import ArgumentError, PlanError, Problem
from dagexec._refs import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dagexec._plan import Call
    from dagexec._tools import Tool


def prepare(
    calls: Iterable[Call], tools: Mapping[str, Tool[..., Any]]
) -> dict[str, dict[str, Any]]:
    """Return validated arguments of the calls without references; raise PlanError.

    One error names every problem. Arguments that hold references are checked as far as they can be
    seen.
    """
    prepared: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for call in calls:
        if call.problem is not None:
            continue
        tool = tools.get(call.tool)
        if tool is None:
            problems.append(unknown_tool(call, tools))
        elif call.refs:
            problems += (
                Problem("bad_arguments", call.id, text) for text in tool.problems(call.args)
            )
        else:
            args: dict[str, Any] = {}
            if call.args:
                args = resolve(dict(call.args), _no_reference)
            try:
                prepared[call.id] = tool.validate(args)
            except ArgumentError as error:
                problems.append(Problem("bad_arguments", call.id, str(error)))
    if problems:
        raise PlanError(problems)
    return prepared


def unknown_tool(call: Call, tools: Mapping[str, object]) -> Problem:
    """Return the problem of a call whose tool does not exist."""
    names = ", ".join(tools) or "none"
    msg = f"there is no tool {call.tool!r}; there are: {names}"
    return Problem("unknown_tool", call.id, msg)


def _no_reference(ref: object) -> object:
    msg = f"{ref!r} in a call without references"
    raise AssertionError(msg)
