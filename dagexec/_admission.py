"""What comes before a call runs: its arguments, and whether a person has to approve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagexec._errors import BadReference
from dagexec._refs import MISSING, Ref, follow, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagexec._outcomes import Outcome
    from dagexec._plan import Call
    from dagexec._tools import Tool


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
