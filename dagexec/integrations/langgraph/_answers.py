"""What the model is told of a call that has no result, and which errors it is told of at all."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from langchain_core.messages import ToolCall, ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import tool_node as stock
from pydantic_core import to_jsonable_python

from dagexec import CallError, Deny, Outcome
from dagexec.lowlevel import MAYBE, SCOPES, too_late

# The answer stands beside its call, and the run's deadline is that of one message.
_SCOPES: Final = {
    **SCOPES,
    "call": "its time limit",
    "workflow": "the time limit of all calls together",
}


def _never(error: BaseException) -> bool:
    del error
    return False


# An answer to an interrupt that does not fit its schema; langgraph before 1.2.20 has no such thing.
is_invalid_resume: Callable[[BaseException], bool] = getattr(stock, "is_invalid_resume", _never)


def error_message(content: Any, call: ToolCall) -> ToolMessage:
    """Return an error as the answer to a call."""
    return ToolMessage(
        content=content, name=call["name"], tool_call_id=call["id"] or "", status="error"
    )


def answer_to(error: Exception, call: ToolCall, flag: Any) -> ToolMessage:
    """Return the answer that `handle_tool_errors=flag` makes of an error; raise it if none.

    The types that `flag` names, as a type, a tuple or an annotation, are looked at for errors of
    wrappers too, which the stock class forgets.
    """
    if isinstance(error, GraphBubbleUp) or is_invalid_resume(error):
        raise error
    if flag and isinstance(error, CallError):  # written for the model
        return error_message(f"Error: {error}", call)
    if not flag or not isinstance(error, _handled_types(flag)):
        raise error
    return error_message(stock._handle_tool_error(error, flag=flag), call)  # noqa: SLF001


def _handled_types(flag: Any) -> tuple[type[Exception], ...]:
    if isinstance(flag, type) and issubclass(flag, Exception):
        return (flag,)
    if isinstance(flag, tuple):
        return flag
    if callable(flag) and not isinstance(flag, type):
        return stock._infer_handled_types(cast("Any", flag))  # noqa: SLF001
    return (Exception,)


def denied_text(error: Exception | None) -> str:
    """Return a text for the model on a call that a person has refused."""
    reason = str(error or "")
    given = "" if reason in ("", Deny().reason) else f": {reason}"
    return f"a person has denied this call{given}"


def plain(value: Any) -> Any:
    """Return a value as every checkpointer can hold it: what is no JSON becomes its JSON form."""
    try:
        return to_jsonable_python(value, inf_nan_mode="constants", fallback=str)
    except (ValueError, RecursionError):
        return str(value)


def outcome_text(outcome: Outcome, named: Callable[[str], str]) -> str:
    """Return a text for the model on a call that ended without an answer of its tool's.

    `named` says which call an id is.
    """
    maybe = f" {MAYBE}" if outcome.maybe else ""
    match outcome.status:
        case "timed_out" if outcome.started is not None:
            return f"Error: timed out: {too_late(outcome, _SCOPES)}.{maybe}"
        case "timed_out":
            return f"Error: not run: {too_late(outcome, _SCOPES)}."
        case "skipped" | "pending":
            source = named(outcome.because or "")
            return f"Error: not run: {source} gave no result to use. Call this tool without it."
        case "cancelled":
            why = f" because of {named(outcome.because)}" if outcome.because else ""
            began = "cancelled" if outcome.started is not None else "not run"
            return f"Error: {began}: the calls of this message were stopped{why}.{maybe}"
        case _:
            return f"Error: {outcome.error}"
