"""What comes before a call runs: its arguments, a person's approval, and the wait for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagexec._core.outcomes import Failed, Pending
from dagexec._core.refs import MISSING, Ref, follow, resolve
from dagexec._errors import BadReference, DagexecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagexec._core.outcomes import Outcome
    from dagexec._core.plan import Call
    from dagexec._runtime.lane import Lane
    from dagexec._tools.tool import Tool


def arguments_of(
    call: Call, tool: Tool[..., Any], outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Put values in the place of references and validate; raise CallError with text for a model."""
    return tool.validate(resolved(call, outcomes))


def resolved(call: Call, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Put values in the place of references; raise BadReference where one leads nowhere."""

    def lookup(ref: Ref) -> Any:
        outcome = outcomes[ref.call]
        if outcome.status != "done":
            return ref.default
        if not ref.path:
            return outcome.value
        try:
            return follow(outcome.value, ref.path)
        except BadReference as error:
            if ref.default is not MISSING:
                return ref.default
            msg = f"the reference {str(ref)!r} leads nowhere: {error}"
            raise BadReference(msg) from None

    values: dict[str, Any] = resolve(dict(call.args), lookup)
    return values


def needs_approval(tool: Tool[..., Any], arguments: dict[str, Any]) -> bool:
    """Whether a call of this tool with these arguments has to be approved first."""
    approval = tool.approval
    if callable(approval):
        return bool(approval(dict(arguments)))
    return bool(approval)


def approval_question(tool: Tool[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what to show to the person: the tool and its arguments, secret ones hidden."""
    shown = {name: "<secret>" if name in tool.secret else arguments[name] for name in arguments}
    return {"approve": tool.name, "args": shown}


def admit(
    lane: Lane,
    call: Call,
    tool: Tool[..., Any],
    arguments: dict[str, Any] | None,
    since: float,
) -> dict[str, Any] | None:
    """Return the arguments of a call that is ready, None if it is not to start now.

    One that cannot run with them, or not before a person approves, is settled. One that waits, for
    an identical call or for what it uses, comes back into the queue.
    """
    runner = lane.runner
    outcome: Outcome
    try:
        if arguments is None:
            arguments = arguments_of(call, tool, runner.machine.outcomes)
        if not needs_approval(tool, arguments):
            waits = runner.coupled and _waits(lane, call, tool, arguments, since)
            return None if waits else arguments
        outcome = Pending(approval_question(tool, arguments))
    except Exception as error:  # noqa: BLE001 - validators and approval are a user's code too
        outcome = Failed(error, ended=runner.now())
    runner.settle(lane, call.id, outcome)
    return None


def uncoupled(
    lane: Lane,
    call: Call,
    tool: Tool[..., Any],
    arguments: dict[str, Any],
    since: float,
) -> dict[str, Any] | None:
    """Return the arguments of a call that need not wait for others, else None."""
    try:
        return None if _waits(lane, call, tool, arguments, since) else arguments
    except DagexecError as error:
        lane.runner.settle(lane, call.id, Failed(error, ended=lane.runner.now()))
        return None


def _waits(
    lane: Lane,
    call: Call,
    tool: Tool[..., Any],
    arguments: dict[str, Any],
    since: float,
) -> bool:
    """Return whether a call waits; raise PoolDeadlock if that would be for ever."""
    runner = lane.runner
    sharing = runner.sharing if tool.effect.shares else None
    if sharing is not None and sharing.joins(lane, call, arguments, since):
        return True
    holdings = runner.holdings if tool.uses else None
    if holdings is None or holdings.take(lane, call, tool, since):
        return False
    runner.prepared[call.id] = arguments
    return True
