"""What a program came to, as data: for engines, which keep it with the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from dagexec._core.outcome_json import RecordedError
from dagexec._core.results import ProgramEnd
from dagexec._errors import DagexecError, JournalError, text_of
from dagexec.programs._errors import LimitReached, ProgramFailed, ProgramStopped


def end_body(end: ProgramEnd, dumps: Callable[[Any], str]) -> dict[str, Any]:
    """Return the end of a program as a dict; a result that `dumps` cannot write as a text.

    Without what a correction of the program needs of the attempts before it.
    """
    result = end.result
    try:
        dumps(result)
    except (JournalError, ValueError, RecursionError):
        result = f"<{type(result).__name__}>"
        with suppress(ValueError, RecursionError):
            result = repr(end.result)
    body: dict[str, Any] = {
        "result": result,
        "printed": end.printed,
        "lines": dict(end.lines),
        "variables": dict(end.variables),
        "left": dict(end.left),
        "definitions": dict(end.definitions),
    }
    if end.error is not None:
        body["error"] = _error_body(end.error)
    return body


def end_of(body: Mapping[str, Any]) -> ProgramEnd:
    """Return the end of a program from what `end_body` made of it.

    Of what the program raised it has the name of the type, and the text.
    """
    rest = {name: value for name, value in body.items() if name != "error"}
    return ProgramEnd(**rest, error=_error_of(body["error"]) if "error" in body else None)


def _error_body(error: DagexecError) -> dict[str, Any]:
    cause = error.__cause__
    return {
        "kind": type(error).__name__,
        "text": str(error),
        "line": getattr(error, "line", None),
        "cause": None if cause is None else [type(cause).__name__, text_of(cause)],
    }


def _error_of(body: Mapping[str, Any]) -> DagexecError:
    text, cause = body["text"], body["cause"]
    raised = RecordedError(*(cause or ["", ""]))
    match body["kind"]:
        case "ProgramFailed":
            return ProgramFailed(text, raised, body["line"])
        case "LimitReached":
            return LimitReached(text)
        case _:
            return ProgramStopped(text)
