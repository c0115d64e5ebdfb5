"""Outcomes as text for a model: what happened, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dagexec import CallError, DagexecError, Outcome
from dagexec.lowlevel import MAYBE, as_text, shown_question, text_of, too_late
from planners._core.cutting import cut


def value_text(value: Any, form: Any = None) -> str:
    """Return a value as text: a string as it is, else JSON. Never raises.

    `form` is that of the call's outcome.
    """
    return encodable(as_text(value, form, quoted=True))


def json_text(value: Any) -> str:
    """Return a value as JSON; a text that is JSON already is left as it is.

    Numbers that JSON does not have, NaN and the infinities, are null, as in JavaScript.
    """
    text = value_text(value)
    unknown: list[str] = []
    try:
        read = json.loads(text, parse_constant=unknown.append)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    if not unknown:
        return text
    return json.dumps(text if isinstance(value, str) else read, ensure_ascii=False)


def encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: half a surrogate pair would break the next request."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def error_text(error: BaseException | None, *, show: bool) -> str:
    """Return what went wrong; the details of a tool's own exception only if `show`."""
    if error is None:
        return "The call failed."
    # An error that was read back from a journal says what it was, and whether a tool raised it.
    foreign: bool | None = getattr(error, "foreign", None)
    if not show and (foreign or not isinstance(error, DagexecError)):
        return "The tool failed."
    message = text_of(error)
    if message and (isinstance(error, CallError) or foreign is not None):
        return message
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def failure_text(
    outcome: Outcome, *, named: Callable[[str], str], show: bool, limit: int | None
) -> str:
    """Return what became of a call that is not done; `named` says which call an id is."""
    text = cut(_what_happened(outcome, named, show=show), limit, None)
    return encodable(f"{text} {MAYBE}" if outcome.maybe else text)


def _what_happened(outcome: Outcome, named: Callable[[str], str], *, show: bool) -> str:
    began = outcome.started is not None
    match outcome.status:
        case "failed":
            text = _failed(outcome, show=show)
        case "timed_out" if began:
            text = (
                f"Timed out: {too_late(outcome)}. Narrow the call if you can,"
                " or go on without this result."
            )
        case "timed_out":
            text = f"Not run: {too_late(outcome)}."
        case "skipped":
            source = named(outcome.because or "")
            text = f"Not run: {source} gave no result to use. Write this call again without it."
        case "cancelled":
            why = f" because of {named(outcome.because)}" if outcome.because else ""
            text = f"{'Cancelled' if began else 'Not run'}: the run was stopped{why}."
        case "pending" if outcome.because is not None:
            text = f"Not run yet: {named(outcome.because)} waits for a person's answer."
        case "pending":
            asked = value_text(shown_question(outcome.question))
            text = f"Not run yet: a person has to answer first: {asked}"
        case _:
            text = (
                "The program broke off while this call ran, and nobody knows whether it took"
                " effect. Check that before you call it again."
            )
    return text


def _failed(outcome: Outcome, *, show: bool) -> str:
    text = error_text(outcome.error, show=show)
    if outcome.maybe or isinstance(outcome.error, CallError):
        return text  # a CallError was written for the model and says what to do
    return f"{text}\nChange the arguments, or go on without this result."
