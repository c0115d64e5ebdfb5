"""Why something broke off, in words that can be recorded, and told to who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar, cast

import psycopg
from dbos import PortableWorkflowError

from dagexec import DagexecError
from dagexec.lowlevel import text_of

T = TypeVar("T")

# Characters of it that are kept.
_LONGEST: Final = 2000
# What comes behind the server's own words: the statement and its values, which are the user's.
_STATEMENT: Final = "\n[SQL: "


async def recordable(work: Awaitable[T]) -> T:
    """Return what a workflow comes to; raise what it raises as an error that DBOS can record.

    DBOS records an Exception whose text can be written. Of all else nobody would hear: the workflow
    would stay that of a process which does not run it any more.
    """
    try:
        return await work
    except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__.startswith("dbos."):
            raise  # how DBOS says that the workflow is not this process's any more
        raise DagexecError(cause_of(error)) from error


def cause_of(error: BaseException) -> str:
    """Return the kind of an error and its text, without the values of a statement."""
    error = _first(error)
    refused = refusal(error)
    if refused is not None:
        return f"the database refused it: {_clean(refused)}"
    kind = error.name if isinstance(error, PortableWorkflowError) else type(error).__name__
    text = _clean(text_of(error))
    ours = isinstance(error, DagexecError) or kind == DagexecError.__name__
    return text if ours else f"{kind}: {text}"


def refusal(error: BaseException) -> str | None:
    """Return what a database said that refused something; None for any other error."""
    said = getattr(_first(error), "orig", error)  # SQLAlchemy's errors have the driver's in them
    if not isinstance(said, psycopg.Error):
        return None
    return said.diag.message_primary or text_of(said) or type(said).__name__


def _first(error: BaseException) -> BaseException:
    found = error
    while isinstance(found, BaseExceptionGroup):
        found = cast("BaseExceptionGroup[BaseException]", found).exceptions[0]
    return found


def _clean(text: str) -> str:
    if _STATEMENT in text:
        text = text.partition("\n")[0]
    # Half of a surrogate pair is in no encoding.
    return text[:_LONGEST].encode(errors="backslashreplace").decode()
