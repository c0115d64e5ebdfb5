"""Asking for runs: begin, wait, answer, cancel, read what is known."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar, final

from temporalio import exceptions as temporal_errors
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from dagexec import Call, DagexecError, Report
from dagexec.engines._drive import Drive
from dagexec.engines._front import SAME, Front, refuse_mark, unknown_run
from dagexec.engines._report import replayed, report_of
from dagexec.engines.temporal._values import Values
from dagexec.engines.temporal._wire import (
    ANSWER,
    PAYLOAD,
    RUN,
    dump,
    pack,
    plan_mark,
    program_mark,
    queue_of,
    unpack,
    workflow_id,
)
from dagexec.engines.temporal._workflow import CLOSED, CROWDED, MOVING

_log: Final = logging.getLogger("dagexec")
T = TypeVar("T")
# How a run is run, and what a report is made of.
_Known: TypeAlias = "tuple[dict[str, Any], dict[str, Any]]"

# Seconds between two tries to reach a server that is away, or a run that moves.
_AGAIN: Final = 0.2
# The same for who is one of many that wait for a run: the most.
_SELDOM: Final = 3.0
# Seconds after which a run that nobody decides is named in the log, or by who only looks at it.
_PATIENCE: Final = 10.0
# Events of a run that no worker has looked at: it was started, and a task was scheduled.
_UNTOUCHED: Final = 2
_AWAY: Final = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.ABORTED,
)


@final
class Runs:
    """The runs of an engine, as a client sees them."""

    def __init__(
        self, client: Client, front: Front, values: Values, extra: Mapping[str, Any]
    ) -> None:
        """Keep what is needed; `extra` is what the workflow needs beside what any engine does."""
        self._client = client
        self._front = front
        self._values = values
        self._extra = extra
        self._name = str(extra["engine"])
        # Of the engine: who waits then is told so, as nobody here would decide any more.
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Let nobody wait any longer; runs go on elsewhere."""
        self._closed.set()

    # --------------------------------------------------------------------------------- beginning

    async def run(
        self, run_id: str, calls: list[dict[str, Any]], program: Mapping[str, Any] | None = None
    ) -> Report:
        """Begin a run unless it was begun; wait; raise DagexecError if it has another plan."""
        given: dict[str, Any] = {"calls": calls}
        if program is not None:
            given["program"] = program
        begun = await self._begin(run_id, calls, program)
        return await self.rest(run_id, 0, given if begun else None)

    async def _begin(
        self, run_id: str, calls: list[dict[str, Any]], program: Mapping[str, Any] | None
    ) -> bool:
        dumps = self._values.types.dumps
        spec = dumps({**self._front.spec(run_id, calls, program), **self._extra})
        written = json.loads(spec)
        if program is not None:
            parts = {name: await self._values.written(each) for name, each in program.items()}
            written["program"] = parts
        for body in written["calls"]:
            Call.from_dict(body)  # as the workflow reads it
        packed = pack(dump(written))
        if len(packed) > PAYLOAD:
            raise _too_large(len(packed), program)
        mark: object = plan_mark(written["calls"])
        if program is not None:
            mark = {part: program_mark(dumps(program.get(part))) for part in SAME}
        try:
            await _bare(
                self._client.start_workflow(
                    RUN,
                    packed,
                    id=workflow_id(self._name, run_id),
                    task_queue=queue_of(self._name),
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    memo={"plan": mark},
                )
            )
        except temporal_errors.WorkflowAlreadyStartedError:
            described = await _bare(self._handle(run_id).describe())
            refuse_mark(run_id, await described.memo_value("plan", default=""), mark)
            return False
        except RPCError as error:
            msg = f"the run could not be begun: {error}"
            raise DagexecError(msg) from error
        return True

    def _handle(self, run_id: str) -> Any:  # the SDK's is generic over what it does not know
        return self._client.get_workflow_handle(workflow_id(self._name, run_id))

    # ----------------------------------------------------------------------------------- waiting

    async def rest(
        self, run_id: str, number: int, given: Mapping[str, Any] | None = None
    ) -> Report:
        """Wait until a run has ended, or took in this answer and waits for more; its report.

        `given` are the calls of its plan, and its program, where they are known here.
        """
        handle = self._handle(run_id)
        result = asyncio.create_task(_result_of(handle))
        ended = asyncio.create_task(self._ended(handle, number))
        watch = asyncio.create_task(self._warn(handle, run_id))
        closed = asyncio.create_task(self._closed.wait())
        tasks = (result, ended, closed, watch)
        try:
            await asyncio.wait(tasks[:3], return_when=asyncio.FIRST_COMPLETED)
            if not result.done() and ended.done() and ended.result() != CLOSED:
                return await self._reported(run_id, given)
            if not result.done():
                await asyncio.wait([result, closed], return_when=asyncio.FIRST_COMPLETED)
            self._check_open(run_id, result)
            return await self._result(run_id, result, given)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _check_open(self, run_id: str, result: asyncio.Task[Any]) -> None:
        if not result.done():
            msg = (
                f"the engine was closed while the run {run_id!r} was waited for; the run goes on"
                " where another is open, and run() or report() has its report"
            )
            raise DagexecError(msg)

    async def _ended(self, handle: Any, number: int) -> int:
        """Return when a run rests; CLOSED, and never before its result is there, when it ended."""
        pause = _AGAIN
        while True:
            try:
                found: int = await _bare(handle.execute_update("ended", number))
            except (RPCTimeoutOrCancelledError, RPCError) as error:
                if isinstance(error, RPCError) and error.status not in _AWAY:
                    return CLOSED  # there is no such run any more: it has ended
            except WorkflowUpdateFailedError as error:
                if getattr(error.cause, "type", None) != CROWDED:
                    return CLOSED
                pause = min(_SELDOM, pause * 2)
            else:
                if found != MOVING:
                    return found
            await asyncio.sleep(pause)

    async def _result(
        self,
        run_id: str,
        result: asyncio.Task[Any],
        given: Mapping[str, Any] | None = None,
    ) -> Report:
        """Return the report of a run that has ended; raise DagexecError if it broke."""
        try:
            packed = await _unless_cancelled(result)
        except WorkflowFailureError as error:
            raise _broken(run_id, error) from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise self._unknown(run_id) from None
            raise
        if packed == "":
            return await self._reported(run_id, given)
        spec, found = await self._read(run_id, unpack(packed), given)
        return report_of(run_id, await replayed(self._front, spec, found))

    async def _warn(self, handle: Any, run_id: str) -> None:
        await asyncio.sleep(_PATIENCE)
        with suppress(RPCError):
            if (await handle.describe()).history_length <= _UNTOUCHED:
                _log.warning(
                    "nobody decides the run %r: no worker looks into the task queue %r",
                    run_id,
                    queue_of(self._name),
                )

    # ------------------------------------------------------------------------------------ reading

    async def _reported(
        self,
        run_id: str,
        given: Mapping[str, Any] | None = None,
        patience: float | None = None,
    ) -> Report:
        """Return the report of what is known of a run now."""
        spec, result = await self._known(run_id, given, patience)
        return report_of(run_id, await replayed(self._front, spec, result))

    async def _known(
        self,
        run_id: str,
        given: Mapping[str, Any] | None = None,
        patience: float | None = None,
    ) -> _Known:
        """Return how a run is run, and what is known of it now."""
        handle = self._handle(run_id)
        stamp, data = "", b""
        while True:
            page: bytes = await self._query(run_id, handle, "log", len(data), patience=patience)
            head, _, body = page.partition(b"\n")
            now, _, size = head.decode().partition(" ")
            if now != stamp and data:
                stamp, data = "", b""  # it went on in between
                continue
            stamp, data = now, data + body
            if len(data) >= int(size):
                break
        text = data.decode() if data[:1] == b"{" else unpack(data)
        return await self._read(run_id, text, given)

    async def _query(
        self, run_id: str, handle: Any, name: str, *args: object, patience: float | None = None
    ) -> Any:
        """Ask a worker that decides; with `patience`, in seconds, not for longer."""
        is_named = False
        while True:
            try:
                async with asyncio.timeout(patience):
                    return await _bare(handle.query(name, args=args))
            except TimeoutError:
                raise self._unread(run_id, f"no worker said anything for {patience:g} s") from None
            except WorkflowQueryFailedError as error:
                msg = (
                    f"the run {run_id!r} cannot be read here: {error}; was it begun by another"
                    " version of dagexec, a worker of that has to go on with it"
                )
                raise DagexecError(msg) from error
            except RPCError as error:
                self._check_asked_again(run_id, error, patience)
                if not is_named:
                    is_named = True
                    text = "nobody says yet what is known of the run %r, trying again: %s"
                    _log.warning(text, run_id, error)
            await asyncio.sleep(_AGAIN)

    def _check_asked_again(self, run_id: str, error: RPCError, patience: float | None) -> None:
        """Raise unless it is worth another try to ask for what is known of a run."""
        if error.status is RPCStatusCode.NOT_FOUND:
            raise self._unknown(run_id) from None
        nobody = error.status is RPCStatusCode.FAILED_PRECONDITION
        if nobody and patience is not None:
            raise self._unread(run_id, str(error)) from error
        if not nobody and error.status not in _AWAY:
            raise error

    def _unread(self, run_id: str, why: str) -> DagexecError:
        """Return the error of a run that nobody looks after."""
        msg = (
            f"the run {run_id!r} cannot be read now: {why}; open an engine with decides=True, which"
            f" looks into the task queue {queue_of(self._name)!r}"
        )
        return DagexecError(msg)

    async def _read(self, run_id: str, text: str, given: Mapping[str, Any] | None) -> _Known:
        body = json.loads(text)
        if given is None:
            packed = await self._query(run_id, self._handle(run_id), "spec")
            whole = json.loads(unpack(packed))
            kept = {part: whole[part] for part in ("calls", "program") if part in whole}
            found: dict[str, Any] = await self._filled(run_id, kept)
            given = found
        return {**body["spec"], **given}, await self._filled(run_id, body["result"])

    async def _filled(self, run_id: str, written: Any) -> Any:
        """Return what was written, with the values that are in a store."""
        try:
            return await self._values.read(written)
        except DagexecError:
            raise
        except LookupError as error:
            raise DagexecError(str(error)) from error
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            msg = f"a value of the run {run_id!r} cannot be fetched from the store: {why}"
            raise DagexecError(msg) from error

    # ------------------------------------------------------------------- answering, ending, looking

    async def resume(self, run_id: str, answers: Mapping[str, object]) -> Report:
        """Take answers in, as soon as the calls wait for them; wait; return the report."""
        while True:
            left = await self._left(run_id, answers)
            number = 0 if not left else await self._answer(run_id, left)
            if number is not None:
                return await self.rest(run_id, number)

    async def _left(self, run_id: str, answers: Mapping[str, object]) -> dict[str, Any]:
        """Return the answers to give, or raise DagexecError for one that fits no waiting call."""
        spec, result = await self._known(run_id)
        try:
            return self._front.checked(run_id, Drive(spec, result), answers)
        except DagexecError:
            if not result.get("open"):
                raise
        await self.rest(run_id, 0)  # what is answered may still be on its way to ask
        return self._front.checked(run_id, Drive(*await self._known(run_id)), answers)

    async def _answer(self, run_id: str, left: dict[str, Any]) -> int | None:
        """Give answers; return the number of the last, or None if it has to be looked again."""
        packed = pack(dump(json.loads(self._values.types.dumps(left))))
        if len(packed) > ANSWER:
            msg = (
                f"the answers are too large for Temporal: {len(packed)} bytes compressed, and it"
                f" takes at most {ANSWER} at a time; give fewer at once, or say less in them"
            )
            raise DagexecError(msg)
        try:
            number: int = await _bare(self._handle(run_id).execute_update("answer", packed))
        except (WorkflowUpdateFailedError, RPCTimeoutOrCancelledError):
            # Somebody was faster, or others answer at this moment, or the run moves.
            await asyncio.sleep(_AGAIN)
            return None
        except RPCError as error:
            if error.status not in (*_AWAY, RPCStatusCode.NOT_FOUND):
                raise
            await asyncio.sleep(_AGAIN)
            return None
        return number

    async def cancel(self, run_id: str) -> Report:
        """End a run; wait until it has."""
        handle = self._handle(run_id)
        await self._tell_to_end(run_id, handle)
        result = asyncio.create_task(_result_of(handle))
        closed = asyncio.create_task(self._closed.wait())
        try:
            await asyncio.wait([result, closed], return_when=asyncio.FIRST_COMPLETED)
            self._check_open(run_id, result)
            return await self._result(run_id, result)
        finally:
            for task in (result, closed):
                task.cancel()
            await asyncio.wait([result, closed])

    async def _tell_to_end(self, run_id: str, handle: Any) -> None:
        """Cancel a run, or find that it has ended."""
        while True:
            try:
                await _bare(handle.cancel())
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    await _away(error)
                    continue
            else:
                return
            # So the server says of one that has ended, too, or begins at this moment.
            if await self._described(run_id) is not WorkflowExecutionStatus.RUNNING:
                return
            await asyncio.sleep(_AGAIN)

    async def _described(self, run_id: str) -> WorkflowExecutionStatus:
        """Return how a run stands; raise DagexecError for an unknown one, or without a server."""
        try:
            described = await _bare(self._handle(run_id).describe())
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise self._unknown(run_id) from None
            msg = f"Temporal cannot be asked about the run {run_id!r}: {error}"
            raise DagexecError(msg) from error
        status: WorkflowExecutionStatus = described.status
        return status

    async def report(self, run_id: str) -> Report:
        """Return what is known now."""
        if await self._described(run_id) is WorkflowExecutionStatus.RUNNING:
            return await self._reported(run_id, patience=_PATIENCE)
        return await self.rest(run_id, 0)

    def _unknown(self, run_id: str) -> DagexecError:
        return unknown_run(self._name, run_id, f"the namespace {self._client.namespace!r}")


async def _result_of(handle: Any) -> Any:
    """Return what a run returns at its end, however often its server is away until then."""
    task = asyncio.current_task()
    while True:
        try:
            return await handle.result()
        except RPCError as error:
            if task is not None and task.cancelling():
                raise  # the library may have made it of that
            await _away(error)


async def _away(error: RPCError) -> None:
    """Wait a moment where the server cannot be reached; raise any other error."""
    if error.status not in _AWAY:
        raise error
    _log.warning("Temporal cannot be reached, trying again: %s", error)
    await asyncio.sleep(_AGAIN)


async def _bare(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await something of the SDK, which would make an error of its own of a cancellation."""
    return await _unless_cancelled(asyncio.ensure_future(coroutine))


async def _unless_cancelled(task: asyncio.Task[T]) -> T:
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
        task.add_done_callback(_heard)
    return task.result()


def _heard(task: asyncio.Task[Any]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _too_large(size: int, program: object) -> DagexecError:
    """Return the error of what cannot begin."""
    what, way = "plan", "let calls fetch large arguments themselves"
    if program is not None:
        what, way = "program, with what it finds,", "give the engine a store= for large variables"
    msg = f"the {what} is too large for Temporal: {size} bytes compressed, and it takes at most"
    return DagexecError(f"{msg} {PAYLOAD}; {way}")


def _broken(run_id: str, error: WorkflowFailureError) -> DagexecError:
    """Return the error of a run that ended without outcomes."""
    cause = error.cause
    if isinstance(cause, temporal_errors.TerminatedError):
        why = "it was terminated, which leaves no outcomes: what it had begun may have happened"
    elif isinstance(cause, temporal_errors.TimeoutError):
        why = "Temporal's own timeout ended it"
    else:
        why = str(getattr(cause, "message", None) or cause or type(error).__name__)
    msg = f"the run {run_id!r} broke off and cannot go on, a new one can be begun: {why}"
    return DagexecError(msg)
