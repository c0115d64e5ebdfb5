"""An outcome as a dict of what JSON can hold, and back: for reports and for journals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dagexec import _errors
from dagexec._core.outcomes import OUTCOMES, Outcome
from dagexec._errors import DagexecError, text_of

_FIELDS: Final = ("scope", "because", "question", "started", "ended", "queued")


class RecordedError(DagexecError):
    """An error of a call, read back from a report: its type's name and its message."""

    def __init__(self, kind: str, message: str) -> None:
        """Keep both apart."""
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.message = message

    @property
    def foreign(self) -> bool:
        """Whether a tool raised it, so that its text may be meant for nobody else."""
        return self.kind not in _errors.__all__


def outcome_body(
    outcome: Outcome,
    value: Callable[[Any], Any] = lambda value: value,
    error: Callable[[str, str], Any] = lambda kind, message: [kind, message],
) -> dict[str, Any]:
    """Return an outcome as a dict without the fields that mean nothing.

    `value` writes what a tool returned or asked; `error` an error by its type's name and message.
    """
    body: dict[str, Any] = {"status": outcome.status}
    if outcome.status == "done" or outcome.value is not None:
        body["value"] = value(outcome.value)
    raised = outcome.error
    if isinstance(raised, RecordedError):
        body["error"] = error(raised.kind, raised.message)
    elif raised is not None:
        body["error"] = error(type(raised).__name__, text_of(raised))
    for name in _FIELDS:
        item = getattr(outcome, name)
        if item is not None:
            body[name] = value(item)
    body["attempts"] = outcome.attempts
    if outcome.maybe:
        body["maybe"] = True
    return body


def outcome_of(body: dict[str, Any], error: Callable[[Any, str | None], Exception]) -> Outcome:
    """Return the outcome of what `outcome_body` made; `error` reads an error, with its scope."""
    fields = dict(body)
    kind = OUTCOMES[fields.pop("status")]
    if "error" in fields:
        fields["error"] = error(fields["error"], fields.get("scope"))
    return kind(**fields)
