"""The activity of a call: an attempt of this worker, its intents, and its beats.

A write starts when the server has taken in a heartbeat that says so. The marks that heartbeats
carry outlive the worker: whoever tries the call again finds how often it was begun before, and then
it is in doubt, or runs again, as its effect says. A worker that only seemed dead gets no answer to
its late intent but that its attempt is gone, so it starts nothing.

The server also hands calls to a worker that has stopped, as long as the request for them stands
open: they wait in its socket, and are given to others after the lease. So a call that arrives late,
and each that was given away before, begins only when the server says that it is still this one's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar, cast, final

from temporalio import activity
from temporalio.client import AsyncActivityCancelledError, AsyncActivityHandle, Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from dagexec import BadReference, CallError, Executor, Failed, JournalError, RunOwned
from dagexec.engines._one import Assignment, Attempt
from dagexec.engines.temporal._pulse import Pulse
from dagexec.engines.temporal._traces import hand_on, name_span
from dagexec.engines.temporal._values import Values
from dagexec.engines.temporal._wire import CALL, LEFT, NO_TOOL, PAYLOAD, Packed, dump, pack, unpack
from dagexec.lowlevel import outcome_body

_log: Final = logging.getLogger("dagexec")

# Seconds until a call whose tool is not known here is tried elsewhere: the first time, and at most.
# Each time they grow by half, so that it outlasts workers that are replaced one after the other.
_ELSEWHERE: Final = 1.0
_LONGEST: Final = 60.0
# How often a value is offered to a store that fails, and the seconds in between.
_TRIES: Final = 3
_PAUSE: Final = 0.5
# Seconds after which a beat of the library's has arrived, or never will.
_ARRIVED: Final = 2.0
# Seconds until the server hears that a call has begun that may run again: one that ended before
# costs no request, and one whose worker dies before may be counted as begun once less.
_SOON: Final = 0.25
# The part of its lease that a call may take to arrive; others may have it after that.
_LATE: Final = 1 / 3
# Characters of an error that is too large to travel.
_SAID: Final = 10_000

T = TypeVar("T")
Heard: TypeAlias = "Callable[[Exception | None], None]"


@final
class Calls:
    """The calls that this process runs."""

    def __init__(
        self, client: Client, executor: Executor, values: Values, beat: float, pulse: Pulse
    ) -> None:
        """Tools see the context in which the engine was opened, not Temporal's."""
        self._client = client
        self._executor = executor
        self._values = values
        self._beat = beat
        self._pulse = pulse
        self._context = copy_context()
        self._arrivals = _Arrivals()
        # Tasks that write intents; held, so that none is collected while it does.
        self._writing: dict[asyncio.Task[None], None] = {}

    @activity.defn(name=CALL)
    async def call(self, packed: Any) -> Any:
        """Run one call to its outcome."""
        clock = _clock()
        body = json.loads(unpack(packed))
        work = body["work"]
        name_span(work["run"], work["call"], work["tool"])
        tool = self._executor.tools.get(work["tool"])
        if tool is None:
            raise _elsewhere(work, body.get("marks", []))
        begun = _Begun(self._client, tool.effect.reruns, body.get("marks", []))
        if self._arrivals.may_be_late() and not await begun.is_this_ones():
            raise self._given_away()
        beating = asyncio.create_task(begun.keep_beating(self._beat))
        try:
            with self._pulse.kept_alive(begun.beat_if_begun):
                return await self._run(body, begun, clock)
        finally:
            beating.cancel()

    async def _run(self, body: dict[str, Any], begun: _Begun, clock: Callable[[], float]) -> Packed:
        work = body["work"]
        try:
            args = await self._values.call_args(work["args"])
            past = await self._values.read(work["past"])
        except (BadReference, JournalError) as error:
            return _result(Failed(error, ended=max(0.0, clock() - work["zero"])))
        attempt = Attempt(
            self._executor,
            Assignment(**cast("dict[str, Any]", {**work, "args": args, "past": past})),
            types=self._values.types,
            clock=clock,
            marks=[*begun.marks],
            intend=lambda mark, done: self._intend(begun, mark, done),
        )
        result = await self._to_its_end(attempt.run(), begun, attempt)
        written = self._written(result, body["lists"], reruns=begun.reruns)
        if not self._values.in_store:
            return await written  # which waits for nothing
        return await self._to_its_end(written, begun)

    async def _to_its_end(
        self, coroutine: Coroutine[Any, Any, T], begun: _Begun, attempt: Attempt | None = None
    ) -> T:
        """Run something until it ends, unless the call is not to end here."""
        running = self._start(coroutine)
        try:
            while not running.done():
                try:
                    await asyncio.wait([running])
                except asyncio.CancelledError:
                    self._check_cancelled(begun, attempt)
            return running.result()
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])

    def _check_cancelled(self, begun: _Begun, attempt: Attempt | None) -> None:
        """Raise what ends a call that Temporal cancels, if it does not go on here."""
        details = activity.cancellation_details()
        if details is None:
            raise asyncio.CancelledError
        if details.worker_shutdown:
            raise begun.left() or asyncio.CancelledError
        if details.not_found:
            raise self._given_away() from None
        if details.timed_out:
            raise asyncio.CancelledError
        if details.cancel_requested:
            if attempt is not None:
                attempt.stop(None)
        elif not details.paused or details.reset:
            raise asyncio.CancelledError

    def _given_away(self) -> ApplicationError:
        """Return what ends a call that is not this worker's any more; only the log hears of it."""
        why = "nothing was heard of this one for the lease, or its run has ended"
        if blocked := self._pulse.blocked:
            why = f"the event loop of this one was blocked for {blocked:.0f} s, which held back its"
            why += " signs of life; await an async library, or make the tool a plain `def`"
        call = activity.info().activity_id.rpartition("#")[0]
        _log.warning("call %r is not this worker's any more: %s", call, why)
        return ApplicationError(why, category=ApplicationErrorCategory.BENIGN)

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        context = self._context.copy()
        hand_on(context)
        return asyncio.create_task(coroutine, context=context)

    def _intend(self, begun: _Begun, mark: str, done: Heard) -> None:
        task = asyncio.create_task(begun.intend(mark, done))
        self._writing[task] = None
        task.add_done_callback(self._writing.pop)

    # ----------------------------------------------------------------------------- what comes of it

    async def _written(self, result: dict[str, Any], lists: list[str], *, reruns: bool) -> Packed:
        """Return a result as the workflow holds it; a large value goes to the store."""
        outcome = result["outcome"]
        returned = "value" in outcome
        value = outcome.pop("value", None)
        written = json.loads(self._values.types.dumps(result))
        if returned:
            try:
                written["outcome"]["value"] = await self._kept(value, lists)
            except Exception as error:  # noqa: BLE001 - a store is a user's code
                why = f"its value could not be kept: {type(error).__name__}: {error}"
                return _result(_lost(outcome, why, reruns=reruns), result["starts"])
        packed = pack(dump(written))
        if len(packed) > PAYLOAD and not returned:
            packed = pack(dump(_shortened(written)))
        if len(packed) <= PAYLOAD:
            return packed
        why = (
            f"what the tool returned is too large for Temporal: {len(packed)} bytes compressed, and"
            f" at most {PAYLOAD} travel; give the engine a store= for large values, or return less"
        )
        return _result(_lost(outcome, why, reruns=reruns), result["starts"])

    async def _kept(self, value: Any, lists: list[str]) -> Any:
        for _ in range(_TRIES - 1):
            try:
                return await self._values.written(value, lists)
            except JournalError:
                raise
            except Exception:  # noqa: BLE001 - the tool has run: its value is worth another try
                await asyncio.sleep(_PAUSE)
        return await self._values.written(value, lists)


@final
class _Arrivals:
    """How late calls arrive here, as far as it can be known without a clock that others share.

    The server says when it handed a call out. The call that took the least time to come shows how
    far its clock is ahead of this process's; what takes longer than that one is late by the rest.
    """

    def __init__(self) -> None:
        """Start with no call."""
        self._ahead = -math.inf

    def may_be_late(self) -> bool:
        """Whether another worker may have this activity's call by now."""
        info = activity.info()
        ahead = info.started_time.timestamp() - time.monotonic()
        self._ahead = max(self._ahead, ahead)
        lease = (info.heartbeat_timeout or timedelta.max).total_seconds()
        late = self._ahead - ahead
        if late > lease + _LONGEST:
            self._ahead = ahead  # no worker stands still for so long: the server's clock was set
        return info.attempt > 1 or late > _LATE * lease


@final
class _Begun:
    """How often a call was begun, as the server knows it.

    Each beat replaces what the one before said, and those of the library travel by themselves: one
    that left before an intent may arrive behind it, and erase it. So a write that has not begun
    gives its signs of life by requests that are waited for. The library needs to be told, too, or
    it ends the call after its lease; a write does not begin until such a beat has long arrived.
    """

    def __init__(self, client: Client, reruns: bool, marks: list[str]) -> None:  # noqa: FBT001
        info = activity.info()
        beaten = [str(mark) for mark in info.heartbeat_details]
        # What was heard of this activity goes on from what had been heard before it.
        self.marks = max(beaten, marks, key=len)
        # Of the activity: tools run in another one, and so do those who call `intend`.
        self._context = copy_context()
        self.reruns = reruns
        self._lease = (info.heartbeat_timeout or timedelta.max).total_seconds()
        self._handle: AsyncActivityHandle = client.get_async_activity_handle(
            task_token=info.task_token
        )
        # Who writes to the server: an intent goes after the sign of life before it.
        self._turn = asyncio.Lock()
        self._has_begun = False
        # When the library was last told, and before that the activity itself: a sign of life.
        self._told = time.monotonic()
        self._is_settled = True

    def left(self) -> ApplicationError | None:
        """Return what tells the run that this worker closes over a write; None if it is none."""
        if self.reruns or not self._has_begun:
            return None  # it is tried again as it is
        return ApplicationError(
            "the worker was closed while it ran the call",
            *self.marks,
            type=LEFT,
            non_retryable=True,
            category=ApplicationErrorCategory.BENIGN,
        )

    async def is_this_ones(self) -> bool:
        """Whether the server has not given the call to another worker."""
        try:
            await self._handle.heartbeat(*self.marks)
        except RPCError as error:
            return error.status is not RPCStatusCode.NOT_FOUND
        except Exception:  # noqa: BLE001 - cancelled or paused, which the library hears, too
            return True
        return True

    async def keep_beating(self, seconds: float) -> None:
        """Say that the worker is alive."""
        if self.reruns:
            await asyncio.sleep(min(_SOON, seconds))
            self._beat()
        while True:
            await asyncio.sleep(seconds)
            if self.reruns or self._has_begun:
                self._beat()
                continue
            async with self._turn:
                if self._has_begun:
                    continue
                gone = await self._sign()
                if gone or time.monotonic() - self._told > self._lease / 2:
                    self._beat()  # the library hears of it, too, and cancels a call that is gone

    async def _sign(self) -> bool:
        """Give a sign of life of a write that has not begun; return whether it is to end."""
        try:
            await self._handle.heartbeat(*self.marks)
        except AsyncActivityCancelledError as error:
            return error.details is None or not error.details.paused
        except RPCError as error:
            return error.status is RPCStatusCode.NOT_FOUND
        except Exception:  # noqa: BLE001 - an interceptor, or a codec, is a user's code
            _log.warning("a call could not say that its worker is alive", exc_info=True)
        return False

    def _beat(self) -> None:
        self._told = time.monotonic()
        self._is_settled = self._has_begun
        self._context.copy().run(activity.heartbeat, *self.marks)

    def beat_if_begun(self) -> None:
        """Give a sign of life in the place of an event loop that is blocked, in another thread."""
        if self.reruns or self._has_begun:
            self._context.copy().run(activity.heartbeat, *self.marks)

    async def intend(self, mark: str, done: Heard) -> None:
        """Write that the call begins; tell `done` when the server has it, or why it must not."""
        if self.reruns:
            self.marks.append(mark)
            done(None)  # it may run again, so nobody has to know first
            return
        async with self._turn:
            while not self._is_settled and (left := self._told + _ARRIVED - time.monotonic()) > 0:
                await asyncio.sleep(min(left, self._lease / 4))
                await self._sign()  # it may take longer than the lease
            self.marks.append(mark)
            self._has_begun = True
            refusal = await self._written()
        done(refusal)

    async def _written(self) -> Exception | None:
        """Have the server take in that the call begins; return why it must not."""
        while True:
            try:
                await self._handle.heartbeat(*self.marks)
            except AsyncActivityCancelledError as error:
                if error.details is not None and error.details.paused:
                    return None  # whoever pauses a call lets it end what it does
                return RunOwned("the call was cancelled before it began")
            except RPCError as error:
                if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
                    await asyncio.sleep(_PAUSE)
                    continue
                return RunOwned(f"the call runs elsewhere: {error}")
            except Exception as error:  # noqa: BLE001 - an interceptor, or a codec, is a user's code
                return RunOwned(f"it cannot be recorded that the call begins: {error}")
            return None


def _elsewhere(work: dict[str, Any], marks: list[str]) -> ApplicationError:
    """Return what passes a call on to a worker that has its tool; it is no failure of this one."""
    info = activity.info()
    msg = f"this worker has no tool {work['tool']!r}, which call {work['call']!r} needs"
    pause = min(_LONGEST, _ELSEWHERE * 1.5 ** (info.attempt - 1))
    _log.warning("%s: it is passed on, and tried again in %.1f s", msg, pause)
    begun = bool(marks or info.heartbeat_details)
    return ApplicationError(
        f"no worker that it came to has the tool {work['tool']!r}",
        begun,
        type=NO_TOOL,
        next_retry_delay=timedelta(seconds=pause),
        category=ApplicationErrorCategory.BENIGN,  # else the library logs where it was raised
    )


def _clock() -> Callable[[], float]:
    """Return a clock that says what the server's does: no machine's own counts."""
    offset = activity.info().started_time.timestamp() - time.monotonic()
    return lambda: time.monotonic() + offset


def _shortened(written: dict[str, Any]) -> dict[str, Any]:
    """Return a result whose error, a tool's, says only how it begins."""
    error = written["outcome"].get("error")
    if error is None:
        return written
    kind, text = error
    cut = f"{text[:_SAID]} … ({len(text)} characters in all)" if len(text) > _SAID else text
    return {**written, "outcome": {**written["outcome"], "error": [kind, cut]}}


def _lost(outcome: dict[str, Any], why: str, *, reruns: bool) -> Failed:
    return Failed(
        CallError(why),
        started=outcome.get("started"),
        ended=outcome.get("ended"),
        queued=outcome.get("queued"),
        attempts=outcome["attempts"],
        maybe=not reruns,
    )


def _result(outcome: Failed, starts: int = 0) -> Packed:
    body = {"outcome": outcome_body(outcome), "starts": starts, "abandoned": 0}
    return pack(dump(body))
