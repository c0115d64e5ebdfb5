"""What the model is told of a call that has no result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagexec import CallError, Outcome
from dagexec.lowlevel import MAYBE, text_of, too_late


class Answer(CallError):
    """A call failed, and what its tool returned tells the model so: `raw`, as the tool gave it."""

    def __init__(self, raw: Any) -> None:
        """Keep what the tool returned."""
        super().__init__("the tool says that it failed")
        self.raw = raw


def answer_to(outcome: Outcome, named: Callable[[str], str]) -> str:
    """Return a text for the model on a call that is not done; `named` says which call an id is."""
    text = _what_happened(outcome, named)
    return f"{text} {MAYBE}" if outcome.maybe else text


def _what_happened(outcome: Outcome, named: Callable[[str], str]) -> str:
    began = outcome.started is not None
    match outcome.status:
        case "failed":
            return _failed(outcome)
        case "timed_out":
            return f"{'Timed out' if began else 'Not run'}: {too_late(outcome)}."
        case "skipped":
            source = named(outcome.because or "")
            return f"Not run: {source} gave no result to use. Write this call again without it."
        case "pending" if outcome.because is not None:
            source = named(outcome.because)
            return f"Not run: {source} has no result yet. Write this call again when it has."
        case "pending":
            return "Not run: a person has to answer first."
        case _:
            why = f" because of {named(outcome.because)}" if outcome.because else ""
            return (
                f"{'Cancelled' if began else 'Not run'}: the calls of this turn were stopped{why}."
            )


def _failed(outcome: Outcome) -> str:
    error = outcome.error
    if error is None:
        return "The call failed."
    text = text_of(error)
    # A CallError was written for the model and says what to do.
    return text if isinstance(error, CallError) and text else f"{type(error).__name__}: {text}"
