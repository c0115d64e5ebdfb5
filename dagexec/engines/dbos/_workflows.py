"""What DBOS knows by name: one workflow for each round of a run, one for each of its calls.

DBOS keeps them in one registry for the process, so their bodies look up which engine is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Final, Protocol
from urllib.parse import quote

from dbos import DBOS, SetWorkflowID

from dagexec import DagexecError
from dagexec.engines._front import DEATHS
from dagexec.engines.dbos._causes import recordable


class Bodies(Protocol):
    """What an open engine does when DBOS runs one of its workflows here."""

    async def round(self, text: str) -> str:
        """Drive a round of a run to its end."""
        ...

    async def call(self, text: str) -> str:
        """Run a call to its outcome."""
        ...


# Characters of a run's or a call's id that are a part of a workflow's. That is the key of a row, of
# which an index takes 2,700 bytes.
_LONG: Final = 1000

_registered: Final[dict[str, Any]] = {}
# The engine that is open, at most one: a list, so that nothing here has to be rebound.
_open: Final[list[Bodies]] = []
# Those that begin: held, so that none is collected.
_beginning: Final[dict[asyncio.Task[Any], None]] = {}
# The workflow that the task of this context has made: nobody has run it before. One that comes from
# a queue, or was there already, never runs in such a context.
_made: Final[ContextVar[str | None]] = ContextVar("dagexec_made", default=None)


def id_of(engine: str, *parts: str | int) -> str:
    """Return the id of a workflow; other parts never give the same."""
    return "|".join((f"dagexec:{engine}", *map(_quoted, parts)))


def _quoted(part: str | int) -> str:
    quoted = quote(str(part), safe="", errors="surrogatepass")
    if len(quoted) <= _LONG:
        return quoted
    # Quoted text has no "!", so that none is like it.
    return f"{quoted[:_LONG]}!{sha256(quoted.encode()).hexdigest()}"


def cancel_id(engine: str, run_id: str, number: int) -> str:
    """Return the id of the workflow whose end cancels a round; no call's id is like it."""
    return id_of(engine, run_id, number, "", "cancel")


def answer_id(engine: str, run_id: str, number: int, count: int) -> str:
    """Return the id of the workflow whose end gives a round its answers of this count, from 1."""
    return id_of(engine, run_id, number, "", f"answer:{count}")


def refuse_fork(own: str, engine: str, run_id: str, *parts: str | int) -> None:
    """Raise DagexecError for a workflow that was made of a run's by DBOS's own means."""
    name = id_of(engine, run_id, *parts)
    if own != name and not own.startswith(f"{name}|"):
        msg = (
            f"the run {run_id!r} is not run again by its fork {own!r}: writes would happen twice;"
            " begin a run with another run_id"
        )
        raise DagexecError(msg)


def register() -> None:
    """Make the workflows known to DBOS, once; importing this module does nothing to it."""
    if not _registered:
        _registered["round"] = DBOS.workflow(name="dagexec.round", max_recovery_attempts=None)(
            _round
        )
        _registered["call"] = DBOS.workflow(name="dagexec.call", max_recovery_attempts=DEATHS)(
            _call
        )
        _registered["answer"] = DBOS.workflow(name="dagexec.answer")(_answer)
        _registered["cancel"] = DBOS.workflow(name="dagexec.cancel")(_cancel)


def workflow(name: str) -> Any:
    """Return a workflow, to be started or enqueued."""
    return _registered[name]


async def begun(name: str, kind: str, text: str) -> Any:
    """Begin a workflow here unless it is there; return DBOS's handle of it.

    A caller that is cancelled does not stop it: the row is written in a thread, and what it says is
    under way here would be run by nobody as long as this process lives.
    """
    beginning = asyncio.create_task(_begun(name, kind, text))
    _beginning[beginning] = None
    beginning.add_done_callback(_has_begun)
    return await asyncio.shield(beginning)


async def _begun(name: str, kind: str, text: str) -> Any:
    _made.set(name)
    with SetWorkflowID(name):
        return await DBOS.start_workflow_async(workflow(kind), text)


def _has_begun(beginning: asyncio.Task[Any]) -> None:
    del _beginning[beginning]
    if not beginning.cancelled():
        beginning.exception()  # of a caller that was cancelled: nobody else hears of it


async def enqueued(name: str, kind: str, queue: str, text: str) -> None:
    """Put a workflow into a queue; one that is there stays as it is."""
    with SetWorkflowID(name):
        await DBOS.enqueue_workflow_async(queue, workflow(kind), text)


def is_new(name: str) -> bool:
    """Whether the workflow that this code is part of begins for the first time, anywhere."""
    return _made.get() == name


def is_open() -> bool:
    """Whether an engine is open in this process."""
    return bool(_open)


def set_open(bodies: Bodies | None) -> None:
    """Open an engine, or close it."""
    _open[:] = [] if bodies is None else [bodies]


async def step(name: str, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """Run a step of the workflow that this code is part of; a recorded one is not run again."""

    async def run() -> Any:
        # Not given to DBOS: it writes a step that was cancelled into its log, arguments and all.
        return await function(*args)

    return await DBOS.run_step_async({"name": name}, run)


def _here() -> Bodies:
    if not _open:
        raise asyncio.CancelledError  # the engine was closed while DBOS began this
    return _open[0]


async def _round(text: str) -> str:
    return await recordable(_here().round(text))


async def _call(text: str) -> str:
    return await recordable(_here().call(text))


async def _answer(text: str) -> str:
    return text


async def _cancel(_text: str) -> str:
    return ""
