"""Which calls wait for a person before they start, and what the person is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagexec._tools import Tool


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
