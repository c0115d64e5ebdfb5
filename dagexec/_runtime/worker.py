"""A worker: runs the calls of a lane one after the other, in one task and with one slot.

The deadline of a call is that of a `CancelScope`. A scope costs more than all else that is done
for a call, so a worker enters one, sets its deadline anew for each call, and leaves it when it was
cancelled, which is how a call times out.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from dagexec._concurrency.signals import Asked, CancelledCall, bare
from dagexec._concurrency.steps import SLOW
from dagexec._concurrency.steps import clock as real_clock
from dagexec._core.copies import PLAIN
from dagexec._core.events import Blocked
from dagexec._core.json_form import snapshot
from dagexec._core.nested import nested_question
from dagexec._core.outcomes import Cancelled, Done, Failed, Outcome, Pending, TimedOut
from dagexec._core.plan import Call
from dagexec._core.scheduler import State
from dagexec._errors import CallCancelled, CallTimeout
from dagexec._runtime.invoker import Invoker
from dagexec._runtime.lane import Lane
from dagexec._runtime.parts import Parts
from dagexec._runtime.settings import Reserve
from dagexec._runtime.state import RunState
from dagexec._tools.checking import spread_of
from dagexec._tools.context import NestedRuns
from dagexec._tools.tool import Tool

if TYPE_CHECKING:
    from dagexec.limits._tool_limits import ToolLimits

# Calls that a worker runs under one scope before it lets the event loop turn, if none of them
# waited: a deadline must be noticed even by a run of tools that never wait. To enter and leave a
# scope for each call would cost 10 us of then 18.
BURST: Final = 32

# Seconds by which a deadline may be early, so that calls which begin at the same moment need no
# timer each. Event loops round their timers to ten times as much.
TOLERANCE: Final = 1e-4

# Seconds within which a disk usually answers.
_PROMPT: Final = 5.0


def _may_have_begun(outcome: Outcome) -> bool:
    """Whether what a call that is not done does to the world may have happened."""
    if outcome.status == "failed":
        return getattr(outcome.error, "maybe", False) is True  # a server died over it, say
    return outcome.status in ("timed_out", "cancelled")


class Worker(Invoker):
    """One task that runs calls of a lane; holds a slot as long as it lives."""

    __slots__ = ("_last_taken", "_since", "running")

    def __init__(self, run: RunState, lane: Lane, parts: Parts) -> None:
        """Take over a slot that was just taken; the sequential mode has none."""
        super().__init__(run, lane, parts)
        # What was taken from the queue last: it may not have started yet.
        self._last_taken: tuple[str, float]
        # Seconds of the run when the call was ready.
        self._since = 0.0
        # The coroutine that works, for those who look where it stands.
        self.running: Coroutine[Any, Any, Any] | None = None

    # ----------------------------------------------------------------------- one call after another

    async def run(self) -> None:
        """Run calls until the queue is empty, the lane has ended or the slot is owed.

        On asyncio also until a call has waited: its task may be known to what it has begun, and be
        cancelled late. The next call gets a task of its own.
        """
        lane = self._lane
        try:
            while await self.burst():
                await checkpoint()
        except self._run.cancelled:
            if self._task is None or self._is_cancelled():
                raise
            # Meant for a call that is over.
            self._requeue()
            await self._drop_requests()
        finally:
            if self._lease is not None:
                self._lease.end()
            if lane.queue:
                lane.recruit()

    async def burst(self) -> bool:
        """Run some calls of the queue under one scope; return whether to go on with it."""
        more = False
        try:
            self._deadline = math.inf
            with CancelScope() as self._scope:
                more = await self._serve()
        except BaseException as error:
            if not self._is_own_deadline(error):
                if self._call is not None:
                    self._end(self._lane.reason())
                raise
        if self._call is not None:
            # The deadline threw the tool out, and the scope kept the cancellation.
            self._end(self._timed_out())
            more = self._task is None and not self._must_yield()
        elif self._scope.cancelled_caught:
            self._requeue()
        if self._was_cancelled:
            self._find_swallowed()
        if self._task is not None and self._task.cancelling() > self._requests_before:
            await self._drop_requests()
            more = False
        return more

    def _is_own_deadline(self, error: BaseException) -> bool:
        """Whether a scope has let through what was its own.

        So it does when the tool has left a request to cancel its task, which it had met itself.
        """
        return (
            self._task is not None
            and isinstance(error, asyncio.CancelledError)
            and self._scope.cancel_called
            and not self._is_cancelled()
        )

    def _requeue(self) -> None:
        """Requeue a call that never started because the previous call's deadline fired."""
        lane, run = self._lane, self._run
        if not lane.is_over() and run.machine.state(self._last_taken[0]) is State.READY:
            lane.queue.appendleft(self._last_taken)

    async def _serve(self) -> bool:  # noqa: C901 - each frame costs
        """Run calls until the scope is used up; return whether to go on with a new one."""
        lane, run = self._lane, self._run
        queue, slots, ready, task = lane.queue, run.slots, run.machine.ready, self._task
        reserves = run.settings.reserves
        for _ in range(BURST):
            if not queue or lane.is_over():
                return False
            name, since = self._last_taken = queue.popleft()
            call = ready(name)
            if call is not None and reserves is not None and call.tool in reserves:
                await self._one_reserved(reserves[call.tool], call, since)
            elif call is not None:
                await self._one(call, since)
            if (slots.waiters or slots.free < 0) and self._must_yield():
                return False
            if self._has_waited:
                if self._gives_up_task():
                    return False
                self._has_waited = False
                if self._scope.cancel_called:
                    break
            elif task is not None and task.cancelling() > self._requests_before:
                return False
        return True

    def _gives_up_task(self) -> bool:
        """Whether the task, or the slot, belongs to the call that has just waited in it."""
        lease = self._lease
        if lease is None:
            return False
        return self._task is not None or lease.nested > 0 or not lease.held

    def _must_yield(self) -> bool:
        """Whether to give up the slot.

        It was taken on credit, or another run or layer is next in line.
        """
        slots = self._run.slots
        waiters = slots.waiters
        if slots.free < 0 or not waiters:
            return slots.free < 0
        if waiters[0] is self._lane:
            waiters.rotate(-1)  # this was its turn, with the slot that the worker keeps
            return False
        return self._lease is not None

    # ------------------------------------------------------------------------------------- one call

    async def _one(self, call: Call, since: float) -> None:  # noqa: C901 - each frame costs
        """Run one call to its outcome, and tell the machine."""
        run, name = self._run, call.id
        tool = run.settings.tools[call.tool]
        arguments = run.prepared.pop(name, None)
        parts = self._parts
        if arguments is None or tool.approval or parts.admits_all:
            if call.each:
                self._spread(call)
                return
            begun = real_clock()
            arguments = parts.admit(self._lane, call, tool, arguments, since)
            if real_clock() - begun > SLOW:
                seconds = run.blocking.note((name, tool.name), begun, run.thread, None)
                run.tell(Blocked(name, seconds))
            if arguments is None:
                return
        limits = run.settings.limits
        if limits is not None and call.tool in limits:
            await self._run_limited(limits[call.tool], call, tool, arguments, since)
            return
        if parts.recorder is not None and not await self._may_begin(call, tool):
            return
        clock = run.clock
        now = clock()
        self._since = since
        self._started = started = now - run.zero
        run.start_call(name, started)
        timeout = run.settings.call_timeout if tool.timeout is None else tool.timeout
        self._arm(math.inf if timeout is None else now + timeout)
        self._call = call
        self._tool = tool
        if self._lease is not None:
            self._lease.call = call
        try:
            value = await self._invoke(call, tool, arguments)
            if self._lane.surroundings.nested is not None:
                self._wait_with_nested(name)
        except BaseException as error:  # noqa: BLE001 - what is no outcome is raised again
            self._end(self._outcome_of(error))
        else:
            self._call = None
            ended = clock() - run.zero
            outcome = Done(value, attempts=1, started=started, ended=ended, queued=started - since)
            if type(value) not in PLAIN and (form := snapshot(value)) is not None:
                outcome = replace(outcome, form=form)
            self._lane.settle(name, outcome)
        self._shares_task = True
        if self._was_cancelled and not self._scope.cancel_called:
            self._find_swallowed()

    def _spread(self, call: Call) -> None:
        """Put a call for each item in the place of one; fail it if there is no list."""
        run, settings = self._run, self._run.settings
        try:
            tool = settings.tools[call.tool]
            event = spread_of(call, run.machine, settings.max_items, tool)
        except Exception as error:  # noqa: BLE001 - a tool made the values that are looked into
            self._lane.settle(call.id, Failed(error, ended=run.now()))
            return
        self._lane.spread(event)

    async def _one_reserved(self, reserve: Reserve, call: Call, since: float) -> None:
        """Run one call in a process that is waited for before: a start is no part of the call."""
        run = self._run
        limits = run.settings.limits
        if limits is not None and call.tool in limits:
            await self._one(call, since)  # each attempt waits for its own, behind the limits
            return
        self._arm(math.inf)
        self._has_waited = True
        block = reserve(run.run_id, call.id)
        try:
            await block.__aenter__()
        except Exception as error:  # noqa: BLE001 - told as the outcome of the call
            self._not_started(call, error, since)
            return
        try:
            if run.machine.ready(call.id) is not None and not self._lane.is_over():
                await self._one(call, since)
        finally:
            await block.__aexit__(None, None, None)

    def _not_started(self, call: Call, error: Exception, since: float) -> None:
        run = self._run
        if run.machine.state(call.id) is State.READY:
            now = run.now()
            self._lane.settle(call.id, Failed(error, ended=now, queued=now - since))

    async def _may_begin(self, call: Call, tool: Tool[..., Any]) -> bool:
        """Record that a call is about to start, if there is a journal; return whether it may."""
        recorder = self._parts.recorder
        if recorder is None:
            return True
        # It may wait for the disk, and the last call's deadline is not its own. But to set it costs
        # more than a disk that answers, and `burst` sees to one that does not.
        if not tool.effect.reruns and self._deadline - self._run.clock() < _PROMPT:
            self._arm(math.inf)
        return await recorder.intend(self._lane, call.id, tool)

    def _arm(self, deadline: float) -> None:
        # Never late, and early by no more than can be seen.
        if not 0.0 <= deadline - self._deadline <= TOLERANCE and deadline != self._deadline:
            self._deadline = self._scope.deadline = deadline

    async def _run_limited(
        self,
        limits: ToolLimits,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any],
        since: float,
    ) -> None:
        """Run a call that has limits or may be tried again: see `LimitedWorker`."""
        raise NotImplementedError

    def _attempts(self) -> int:
        return 1

    # ------------------------------------------------------------------------ what became of a call

    def _wait_with_nested(self, name: str) -> None:
        """Raise Asked if runs of the call's own wait: its value was made without their results."""
        runs = self._inner_runs(name)
        if runs is not None and runs.waits:
            raise Asked(nested_question(runs.asked()))

    def _inner_runs(self, name: str) -> NestedRuns | None:
        """Return the runs that a call has begun, and forget them: the call ends."""
        nested = self._lane.surroundings.nested
        return None if nested is None else nested.pop(name, None)

    def _failed(self, error: Exception) -> Outcome:
        """Return the outcome of a tool that raised.

        Pending, if nothing but a person's answer was missing in runs of the call's own: the tool
        runs again when it is there.
        """
        runs = self._inner_runs(self._call.id if self._call else "")
        if runs is None or not runs.waits or runs.failed():
            return Failed(error)
        return Pending(nested_question(runs.asked()))

    def _end(self, outcome: Outcome) -> None:
        """Settle the call that runs with an outcome that is not a value."""
        call, run = self._call, self._run
        assert call is not None  # noqa: S101 - checked by the caller
        if outcome.status in ("failed", "cancelled") and self._is_being_stopped():
            outcome = self._lane.reason()  # it failed only because of that
        self._call = None
        self._inner_runs(call.id)
        self._lane.settle(
            call.id,
            replace(
                outcome,
                started=self._started,
                ended=run.now(),
                queued=self._started - self._since,
                attempts=self._attempts(),
                maybe=self._tool.effect == "write" and _may_have_begun(outcome),
            ),
        )

    def _is_being_stopped(self) -> bool:
        """Whether the run ends, or a scope of its caller was cancelled: the tool has met that."""
        if self._lane.is_over():
            return True
        if not self._was_cancelled or self._scope.cancel_called:
            return False
        return anyio.current_effective_deadline() == -math.inf

    def _outcome_of(self, error: BaseException) -> Outcome:
        """Return the outcome of a tool that raised; raise a cancellation, out of its group."""
        run = self._run
        decisive = bare(error, run.cancelled)
        match decisive:
            case Exception():
                # The group as it is: it tells more than its first member.
                failure = error if isinstance(error, Exception) else decisive
                late = self._scope.cancel_called
                return self._timed_out(failure) if late else self._failed(failure)
            case Asked():
                return Pending(decisive.question)
            case CancelledCall():
                # check() in a tool that nobody waits for any more; no other call can end so
                return Cancelled()
            case asyncio.CancelledError() if self._task is None or not self._is_cancelled():
                msg = f"tool {self._tool.name!r} ended with a CancelledError of its own"
                own = CallCancelled(msg)
                own.__cause__ = decisive
                return Failed(own)
            case _ if isinstance(decisive, run.cancelled):
                raise decisive
            case _:
                # KeyboardInterrupt, SystemExit and their like end the run, and pass through it.
                because = Cancelled(because=self._call.id if self._call else None)
                run.end_by(decisive, because)
                return because

    def _timed_out(self, error: Exception | None = None) -> Outcome:
        timeout = self._tool.timeout or self._run.settings.call_timeout
        took = f" of {timeout:g} s" if timeout and error is None else ""
        run = self._run
        text = f"tool {self._tool.name!r} did not end within its timeout{took}"
        late = CallTimeout(text + run.blocking.during(run.now() - self._started), "call")
        late.__cause__ = error
        return TimedOut("call", error=late)
