"""A worker: runs the calls of a lane one after the other, in one task and with one slot.

The deadline of a call is that of a `CancelScope`. A scope costs more than all else that is done
for a call, so a worker enters one, sets its deadline anew for each call, and leaves it when it was
cancelled, which is how a call times out.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import replace
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from dagexec._concurrency.contexts import go_on
from dagexec._concurrency.loops import leave_loop
from dagexec._concurrency.signals import bare
from dagexec._concurrency.slots import Lease
from dagexec._concurrency.threads import ThreadCall, call_in_place
from dagexec._core.outcomes import Cancelled, Failed, Outcome, Pending, TimedOut, done
from dagexec._core.scheduler import State
from dagexec._errors import CallCancelled, CallTimeout
from dagexec._runtime.admission import admit, uncoupled
from dagexec._tools.context import Asked, CancelledCall, context_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from dagexec._core.plan import Call
    from dagexec._runtime.lane import Lane
    from dagexec._runtime.limited_worker import Guard
    from dagexec._runtime.runner import Runner
    from dagexec._tools.context import Facts, Trial
    from dagexec._tools.tool import Tool

_log: Final = logging.getLogger("dagexec")

# Calls that a worker runs before it lets the event loop turn, if none of them waited: a deadline
# must be noticed even by a run of tools that never wait.
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


class Worker:
    """One task that runs calls of a lane; holds a slot as long as it lives."""

    __slots__ = (
        "_armed",
        "_call",
        "_lane",
        "_lease",
        "_requests_before",
        "_runner",
        "_scope",
        "_since",
        "_started",
        "_struck",
        "_taken",
        "_task",
        "_tool",
        "_waited",
        "running",
    )

    def __init__(self, runner: Runner, lane: Lane) -> None:
        """Take over a slot that was just taken; the sequential mode has none."""
        self._runner = runner
        self._lane = lane
        self._lease = None if runner.settings.sequential else Lease(runner.slots)
        # asyncio's task, which counts the requests to cancel it; trio's scopes say it all.
        asynchronous = runner.cancelled is asyncio.CancelledError
        self._task = asyncio.current_task() if asynchronous else None
        self._requests_before = 0
        self._scope: CancelScope
        # The deadline of the scope, a point on the event loop's clock.
        self._armed = math.inf
        # What runs now, None between calls; then the seconds of the run when it was ready and when
        # it was admitted.
        self._call: Call | None = None
        self._taken: tuple[str, float]
        self._tool: Tool[..., Any]
        self._since = 0.0
        self._started = 0.0
        # Whether the tool waited for something: only then can the scope have been cancelled.
        self._waited = False
        # Whether a cancellation was thrown into the tool.
        self._struck = False
        # The coroutine that works, for those who look where it stands.
        self.running: Coroutine[Any, Any, Any] | None = None

    def look(self) -> tuple[Call, float, float, bool] | None:
        """Return the call that runs, when it began, its deadline, whether it holds its slot.

        The beginning in seconds of the run, the deadline on the event loop's clock. For those who
        look on, from any thread.
        """
        call, lease = self._call, self._lease
        if call is None:
            return None
        return call, self._started, self._armed, lease is not None and lease.held

    # ----------------------------------------------------------------------- one call after another

    async def run(self) -> None:
        """Run calls until the queue is empty, the lane has ended or the slot is owed."""
        lane = self._lane
        try:
            while await self.burst():
                await checkpoint()
        finally:
            if self._lease is not None:
                self._lease.end()
            if lane.queue:
                lane.recruit()

    async def burst(self) -> bool:
        """Run some calls of the queue under one scope; return whether to go on with it."""
        try:
            more = False
            self._armed = math.inf
            with CancelScope() as self._scope:
                more = await self._serve()
        except BaseException:
            if self._call is not None:
                self._end(self._runner.reason(self._lane))
            raise
        if self._call is not None:
            # The deadline threw the tool out, and the scope kept the cancellation.
            self._end(self._timed_out())
            more = not self._owes()
        elif self._scope.cancelled_caught:
            self._take_back()
        if self._struck:
            self._look_back()
        return more

    def _take_back(self) -> None:
        """Queue again what the deadline of the call before kept from starting."""
        lane, runner = self._lane, self._runner
        if not runner.is_over(lane) and runner.machine.state(self._taken[0]) is State.READY:
            lane.queue.appendleft(self._taken)

    async def _serve(self) -> bool:
        """Run calls until the scope is used up; return whether to go on with a new one."""
        lane, runner = self._lane, self._runner
        queue, slots, ready = lane.queue, runner.slots, runner.machine.ready
        for _ in range(BURST):
            if not queue or runner.is_over(lane):
                return False
            name, since = self._taken = queue.popleft()
            call = ready(name)
            if call is not None:
                await self._one(call, since)
            if (slots.waiters or slots.free < 0) and self._owes():
                return False
            if self._waited:
                self._waited = False
                if self._scope.cancel_called:
                    break
        return True

    def _owes(self) -> bool:
        """Whether the slot is owed, or the turn of another run or layer that queues up for one."""
        slots = self._runner.slots
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
        runner, name = self._runner, call.id
        tool = runner.settings.tools[call.tool]
        arguments = runner.prepared.pop(name, None)
        recorder = runner.recorder
        if recorder is not None:
            arguments = recorder.admit(self._lane, call, tool, arguments)
            if arguments is not None and runner.coupled:
                arguments = uncoupled(self._lane, call, tool, arguments, since)
        elif arguments is None or tool.approval or runner.coupled:
            arguments = admit(self._lane, call, tool, arguments, since)
        if arguments is None:
            return
        if runner.guards is not None and (guard := runner.guards.get(call.tool)) is not None:
            await self._guarded(guard, call, tool, arguments, since)
            return
        if recorder is not None and not await self._may_begin(call, tool):
            return
        clock = runner.clock
        now = clock()
        self._since = since
        self._started = started = now - runner.zero
        runner.begin(name, started)
        timeout = runner.settings.call_timeout if tool.timeout is None else tool.timeout
        self._arm(math.inf if timeout is None else now + timeout)
        self._call = call
        self._tool = tool
        if self._task is not None:
            self._requests_before = self._task.cancelling()
        try:
            value = await self._invoke(call, tool, arguments)
        except BaseException as error:  # noqa: BLE001 - what is no outcome is raised again
            self._end(self._outcome_of(error))
        else:
            outcome = done(value, started, clock() - runner.zero, started - since)
            self._call = None
            runner.settle(self._lane, name, outcome)
        if self._struck and not self._scope.cancel_called:
            self._look_back()

    async def _may_begin(self, call: Call, tool: Tool[..., Any]) -> bool:
        """Record that a call is about to start, if there is a journal; return whether it may."""
        runner = self._runner
        if runner.recorder is None:
            return True
        # It may wait for the disk, and the last call's deadline is not its own. But to set it costs
        # more than a disk that answers, and `burst` sees to one that does not.
        if not tool.effect.reruns and self._armed - runner.clock() < _PROMPT:
            self._arm(math.inf)
        return await runner.recorder.intend(self._lane, call.id, tool)

    def _arm(self, deadline: float) -> None:
        # Never late, and early by no more than can be seen.
        if not 0.0 <= deadline - self._armed <= TOLERANCE and deadline != self._armed:
            self._armed = self._scope.deadline = deadline

    async def _guarded(
        self,
        guard: Guard,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any],
        since: float,
    ) -> None:
        """Run a call that has limits or may be tried again: see `_guarded.GuardedWorker`."""
        raise NotImplementedError

    def _attempts(self) -> int:
        return 1

    async def _invoke(  # noqa: C901 - each frame costs
        self,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any],
        trial: Trial | None = None,
    ) -> Any:
        ground, runner = self._lane.ground, self._runner
        context = ground.context.copy()
        run = context.run
        thread = None
        if tool.runs == "thread" and ground.group is not None:
            thread = ThreadCall()
        facts: Facts = (call, ground, self._lease, self._armed, thread)
        if trial is not None:
            facts = (*facts, trial)
        run(ground.enter, facts)
        if tool.needs_context is not None:
            arguments[tool.needs_context] = context_of(facts)
        if thread is not None:
            self._waited = True
            leave_loop(context)
            value = await self._in_thread(thread, partial(run, tool.function, **arguments))
        elif tool.runs == "async":
            value = run(tool.function, **arguments)
        else:  # in the sequential mode
            value = call_in_place(partial(run, tool.function, **arguments))
        if type(value) is not CoroutineType:
            return value
        coroutine = cast("CoroutineType[Any, Any, Any]", value)
        # Most steps of a call that never waits are saved here.
        try:
            waits_for = run(coroutine.send, None)
        except StopIteration as end:
            return end.value
        self._waited = True
        watchdog = runner.watchdog
        if ground.group is not None:
            nearest = min(self._armed, *[scope.deadline for scope in ground.scopes])
            watchdog.watch(self, nearest, ground.group)
        try:
            return await go_on(context, coroutine, waits_for, self._on_throw)
        finally:
            watchdog.release(self)

    async def _in_thread(self, thread: ThreadCall, function: Callable[[], Any]) -> Any:
        try:
            return await thread.run(function)
        finally:
            if thread.abandoned and not thread.done:
                self._runner.leave_behind(self._call, thread)
                _log.warning(
                    "call %r: tool %r did not end in time; its thread is left behind",
                    self._call and self._call.id,
                    self._tool.name,
                )

    # ------------------------------------------------------------------------ what became of a call

    def _end(self, outcome: Outcome) -> None:
        """Settle the call that runs with an outcome that is not a value."""
        call, runner = self._call, self._runner
        assert call is not None  # noqa: S101 - looked at by who calls this
        if outcome.status in ("failed", "cancelled") and runner.is_over(self._lane):
            outcome = runner.reason(self._lane)  # it failed only because the run was being stopped
        self._call = None
        runner.settle(
            self._lane,
            call.id,
            replace(
                outcome,
                started=self._started,
                ended=runner.now(),
                queued=self._started - self._since,
                attempts=self._attempts(),
                maybe=self._tool.effect == "write" and _may_have_begun(outcome),
            ),
        )

    def _outcome_of(self, error: BaseException) -> Outcome:
        """Return the outcome of a tool that raised; raise a cancellation, out of its group."""
        runner = self._runner
        decisive = bare(error, runner.cancelled)
        match decisive:
            case Exception():
                # The group as it is: it tells more than its first member.
                failure = error if isinstance(error, Exception) else decisive
                return self._timed_out(failure) if self._scope.cancel_called else Failed(failure)
            case Asked():
                return Pending(decisive.question)
            case CancelledCall():
                # check() in a tool that nobody waits for any more; no other call can end so
                return Cancelled()
            case asyncio.CancelledError() if self._is_own():
                msg = f"tool {self._tool.name!r} ended with a CancelledError of its own"
                own = CallCancelled(msg)
                own.__cause__ = decisive
                return Failed(own)
            case _ if isinstance(decisive, runner.cancelled):
                raise decisive
            case _:
                # KeyboardInterrupt, SystemExit and their like end the run, and pass through it.
                because = Cancelled(because=self._call.id if self._call else None)
                runner.end_by(decisive, because)
                return because

    def _is_own(self) -> bool:
        """Whether the tool raised asyncio's cancellation although nobody had cancelled it."""
        return self._requests() <= self._requests_before

    def _timed_out(self, error: Exception | None = None) -> Outcome:
        timeout = self._tool.timeout or self._runner.settings.call_timeout
        took = f" of {timeout:g} s" if timeout and error is None else ""
        late = CallTimeout(f"tool {self._tool.name!r} did not end within its timeout{took}", "call")
        late.__cause__ = error
        return TimedOut("call", error=late)

    def _requests(self) -> int:
        """Return how many requests to cancel its task asyncio counts; 0 on trio."""
        return 0 if self._task is None else self._task.cancelling()

    # ----------------------------------------------------------- tools that keep their cancellation

    def _on_throw(self, error: BaseException) -> None:
        if isinstance(error, self._runner.cancelled):
            self._struck = True
            self._runner.watchdog.expect(self, self._runner.clock())

    @property
    def names(self) -> tuple[str, str]:
        """The call that runs, and its tool."""
        return self._call.id if self._call else "", self._tool.name

    def is_cancelled(self) -> bool:
        """Whether a scope is cancelled: the call's, the run's, or one round the code that asks."""
        scopes = (self._scope, *self._lane.ground.scopes)
        stopped = any(scope.cancel_called for scope in scopes)
        return stopped or anyio.current_effective_deadline() == -math.inf

    def _look_back(self) -> None:
        """After a call into which a cancellation was thrown: whose was it?"""
        self._struck = False
        kept = (
            anyio.current_effective_deadline() == -math.inf
            or self._requests() > self._requests_before
        )
        if kept and not self._runner.is_over(self._lane):
            # The tool took a cancellation for itself that was the caller's.
            self._runner.interrupt(Cancelled())
