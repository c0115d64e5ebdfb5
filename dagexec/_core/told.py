"""Words for what became of a call, in a text for a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dagexec._core.outcomes import Outcome

MAYBE: Final = "It may have taken effect: check that before you call it again."
SCOPES: Final[Mapping[str, str]] = {
    "call": "the time limit of the call",
    "layer": "the time limit of the calls that started together",
    "turn": "the time limit of this turn",
    "workflow": "the time limit of the whole run",
}


def too_late(outcome: Outcome, scopes: Mapping[str, str] = SCOPES) -> str:
    """Return which limit a call that timed out had, and when it was over, as a clause."""
    scope = scopes.get(outcome.scope or "", "a time limit")
    when = "the call ended" if outcome.started is not None else "the call could start"
    return f"{scope} was over before {when}"
