"""Checks a plan and its calls against the tools that they are to run with; waits for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from dagexec._core.copies import PLAIN
from dagexec._core.each import calls_of, count_of, item_id, item_of
from dagexec._core.events import Spread
from dagexec._core.names import Names, cut
from dagexec._core.outcomes import Outcome
from dagexec._core.paths import follow
from dagexec._core.plan import Call, Plan
from dagexec._core.refs import MISSING, Ref
from dagexec._core.resolving import resolve
from dagexec._core.scheduler import Scheduler
from dagexec._core.secrets import SHOWN
from dagexec._errors import ArgumentError, BadReference, CallError, PlanError, Problem
from dagexec._tools.resources import Access, Conflicts

if TYPE_CHECKING:
    from dagexec._tools.tool import Tool


# Tools that a message about a wrong one lists.
_TOOLS: Final = 20


def as_plan(given: object) -> Plan:
    """Return a plan, or calls as one; raise DagexecError that says what else was given."""
    return given if isinstance(given, Plan) else Plan(cast("Iterable[Call]", given))


def prepare(
    calls: Iterable[Call], tools: Mapping[str, Tool[..., Any]]
) -> dict[str, dict[str, Any]]:
    """Return validated arguments of the calls without references; raise PlanError.

    One error names every problem. Arguments that hold references are checked as far as they can be
    seen.
    """
    prepared: dict[str, dict[str, Any]] = {}
    problems = problems_of(calls, tools, prepared)
    if problems:
        raise PlanError(problems)
    return prepared


def problems_of(
    calls: Iterable[Call],
    tools: Mapping[str, Tool[..., Any]],
    prepared: dict[str, dict[str, Any]],
) -> list[Problem]:
    """Return what is wrong between the calls and their tools, as far as it can be seen.

    The arguments of the calls without references, if they fit, go into `prepared`.
    """
    names = Names(tools, _TOOLS)
    problems: list[Problem] = []
    for call in calls:
        problems += _problems(call, tools, names, prepared)
    return problems


def _problems(
    call: Call,
    tools: Mapping[str, Tool[..., Any]],
    names: Names,
    prepared: dict[str, dict[str, Any]],
) -> list[Problem]:
    if call.problem is not None:
        return []
    tool = tools.get(call.tool)
    if tool is None:
        return [_unknown_tool(call, names)]
    if call.refs:
        return [Problem("bad_arguments", call.id, text) for text in tool.problems(call.args)]
    try:
        args: dict[str, Any] = dict(call.args)
        if not PLAIN.issuperset(map(type, args.values())):
            args = resolve(args, _no_reference)
        prepared[call.id] = tool.validate(args)
    except ArgumentError as error:
        return [Problem("bad_arguments", call.id, str(error))]
    except BadReference:  # it runs for each item of a list that is given
        return [Problem("bad_arguments", call.id, text) for text in tool.problems(call.args)]
    return []


def _unknown_tool(call: Call, names: Names) -> Problem:
    """Return the problem of a call whose tool does not exist."""
    close = names.near(call.tool)
    hint = f"did you mean {close!r}? There" if close else "there"
    msg = f"there is no tool {cut(call.tool)!r}; {hint} are: {names.shown or 'none'}"
    return Problem("unknown_tool", call.id, msg)


def _no_reference(ref: object) -> object:
    msg = f"{ref!r} in a call without references"
    raise AssertionError(msg)


def arguments_of(
    call: Call, tool: Tool[..., Any], outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Put values in the place of references and validate; raise CallError with text for a model."""
    return tool.validate(resolved(call, outcomes))


def resolved(call: Call, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Put values in the place of references; raise BadReference where one leads nowhere."""
    values = dict(call.args)
    if PLAIN.issuperset(map(type, values.values())):
        return values  # there is nothing to put in, and nothing to copy
    found: dict[str, Any] = resolve(values, partial(_looked_up, outcomes))
    return found


def spread_of(
    call: Call, machine: Scheduler, most: int, tool: Tool[..., Any] | None = None
) -> Spread:
    """Return what a ready call with `Each` arguments becomes; raise CallError if it cannot.

    With the tool, items that conflict on a resource are put in order.
    """
    outcomes = machine.outcomes
    count = count_of(call, partial(_looked_up, outcomes), most)
    for index in range(count):
        if machine.knows(item_id(call.id, index)):
            msg = f"its items cannot be named: there is a call {item_id(call.id, index)!r} already"
            raise CallError(msg)
    if tool is None or not tool.templates:
        return Spread(call.id, count)
    conflicts = Conflicts()
    ordered: list[tuple[int, int]] = []
    places: dict[str, int] = {}
    for index, item in enumerate(calls_of(call, count)):
        places[item.id] = index
        touched: tuple[Access, ...] = ()
        with suppress(Exception):  # such an item fails by itself, and says why
            touched = tool.resources(resolved(item, outcomes))
        ordered += [(places[earlier], index) for earlier in conflicts.add(item.id, touched)]
    return Spread(call.id, count, tuple(ordered))


def _looked_up(outcomes: Mapping[str, Outcome], ref: Ref) -> Any:
    """Return what a reference leads to."""
    outcome, path = outcomes.get(ref.call), ref.path
    if outcome is None or outcome.status != "done":
        # One item of a call that failed for another, or has not ended.
        index = item_of(ref)
        item = None if index is None else outcomes.get(item_id(ref.call, index))
        if item is None or item.status != "done":
            return ref.default
        outcome, path = item, path[1:]
    if not path:
        return outcome.value
    try:
        return follow(outcome.value, path)
    except BadReference as error:
        if ref.default is not MISSING:
            return ref.default
        msg = f"the reference {str(ref)!r} leads nowhere: {error}"
        raise BadReference(msg) from None


def needs_approval(tool: Tool[..., Any], arguments: dict[str, Any]) -> bool:
    """Whether a call of this tool with these arguments has to be approved first."""
    approval = tool.approval
    if callable(approval):
        return bool(approval(dict(arguments)))
    return bool(approval)


def approval_question(tool: Tool[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what to show to the person: the tool and its arguments, secret ones hidden."""
    shown = {name: SHOWN if name in tool.secret else arguments[name] for name in arguments}
    return {"approve": tool.name, "args": shown}
