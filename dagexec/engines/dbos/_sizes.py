"""What PostgreSQL takes, and what becomes of more.

It ends the connection of who sends a message of a gigabyte. To DBOS that is a database that is
away: it would send the same again for ever, and the run would never end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dagexec import CallError, DagexecError, Failed
from dagexec.engines.dbos._causes import cause_of
from dagexec.journal import Types
from dagexec.lowlevel import outcome_body

# Bytes of a text, as DBOS writes it. PostgreSQL takes less than 2**30. Half of that came through in
# 80 s on a busy machine; of nearly all of it, which is copied many times, the end was not seen.
LARGEST: Final = 500_000_000
ALL: Final = "what all calls of the run returned"
# Bytes that a character of it takes at most.
_WIDEST: Final = 4


def fitting(what: str, text: str) -> str:
    """Return a text that is about to be written; raise DagexecError if no row can hold it."""
    size = _size(text)
    if size > LARGEST:
        raise DagexecError(_too_large(what, size))
    return text


def result_text(types: Types, result: Mapping[str, Any], *, reruns: bool) -> str:
    """Return the result of a call as text, of one that has failed if that cannot be written."""
    try:
        text = types.dumps(result)
        size = _size(text)
        if size <= LARGEST:
            return text
        why = f"{_too_large('what the tool returned', size)}, such as a place where it can be found"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a type's own code writes it
        why = f"its value cannot be recorded: {cause_of(error)}"
    outcome = result["outcome"]
    failed = Failed(
        CallError(why),
        started=outcome.get("started"),
        ended=outcome.get("ended"),
        queued=outcome.get("queued"),
        attempts=outcome.get("attempts", 0),
        maybe=not reruns,
    )
    return types.dumps({**result, "outcome": outcome_body(failed)})


def _size(text: str) -> int:
    """Return how many bytes DBOS makes of a text, at the most where that is few."""
    if len(text) * _WIDEST <= LARGEST:
        return len(text)
    return len(text.encode()) + text.count('"') + text.count("\\")


def _too_large(what: str, size: int) -> str:
    return (
        f"{what} is too large for the database: {size:,} bytes, and a row holds {LARGEST:,};"
        " let tools return less"
    )
