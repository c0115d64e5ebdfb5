"""The invoker: runs the tool of one call, wherever that is, and knows who asks for its end.

A tool is called in a context of its own, in the event loop or in a thread; what it returns is
settled. The first step of a coroutine runs as a plain call: most calls that never wait end there.

On asyncio a tool can cancel the task that it runs in, and what it has begun can do so late. Such a
request is its own: it is taken back, and reaches neither the run nor another call. The run's own
requests come by scopes, which say so.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from types import CoroutineType
from typing import Any, Final

import anyio
from anyio import CancelScope

from dagexec._concurrency.contexts import go_on
from dagexec._concurrency.loops import leave_loop
from dagexec._concurrency.requests import judged
from dagexec._concurrency.slots import Lease
from dagexec._concurrency.steps import SLOW, clock
from dagexec._concurrency.threads import ThreadCall, call_in_place
from dagexec._core.copies import PLAIN
from dagexec._core.events import Abandoned, Blocked
from dagexec._core.outcomes import Cancelled
from dagexec._core.plan import Call
from dagexec._runtime.lane import Lane
from dagexec._runtime.parts import Parts
from dagexec._runtime.state import RunState
from dagexec._tools.context import Facts, Trial, call_of, context_of
from dagexec._tools.settle import collected, settled
from dagexec._tools.tool import Tool

_log: Final = logging.getLogger("dagexec")


def _collected(
    thread: ThreadCall, deadline: float, function: Callable[..., Any], arguments: dict[str, Any]
) -> Any:
    """Call a tool in its thread, and read there what it returned to be read."""
    ends = deadline < math.inf
    return collected(function(**arguments), lambda: thread.abandoned, ends=ends)


class Invoker:
    """Runs the tools of calls, one at a time, in the task of a worker."""

    __slots__ = (
        "_call",
        "_deadline",
        "_has_waited",
        "_lane",
        "_lease",
        "_parts",
        "_requests_before",
        "_run",
        "_scope",
        "_shares_task",
        "_started",
        "_task",
        "_tool",
        "_was_cancelled",
    )

    def __init__(self, run: RunState, lane: Lane, parts: Parts) -> None:
        """Take over a slot that was just taken; the sequential mode has none."""
        self._run = run
        self._lane = lane
        self._parts = parts
        # Held while the worker lives, but for the time that a call waits for a run of its own.
        self._lease = None if run.settings.sequential else Lease(run.slots, self)
        # asyncio's task, which counts the requests to cancel it; trio's scopes say it all.
        asynchronous = run.cancelled is asyncio.CancelledError
        task = self._task = asyncio.current_task() if asynchronous else None
        # How many requests there were before the first call: 0 in a task of the run's own.
        self._requests_before = 0 if task is None else task.cancelling()
        # Whether a call ran in the task before; what it left behind may want to cancel it.
        self._shares_task = False
        # Round the calls of one burst; set when a burst begins.
        self._scope: CancelScope
        # The deadline of the scope, a point on the event loop's clock: that of the call that runs,
        # or of the last one, and then nothing may be waited for under it but the next.
        self._deadline = math.inf
        # What runs now, None between calls: whoever sets it sees to it that it gets an outcome.
        self._call: Call | None = None
        self._tool: Tool[..., Any]
        # Seconds of the run when it was admitted.
        self._started = 0.0
        # Whether the tool waited for something: only then can the scope have been cancelled.
        self._has_waited = False
        # Whether a cancellation was thrown into the tool. Back to False when it is known whose.
        self._was_cancelled = False

    def look(self) -> tuple[Call, float, float, bool] | None:
        """Return the call that runs, when it began, its deadline, whether it holds its slot.

        The beginning in seconds of the run, the deadline on the event loop's clock. For those who
        look on, from any thread.
        """
        call, lease = self._call, self._lease
        if call is None:
            return None
        return call, self._started, self._deadline, lease is not None and lease.held

    # ------------------------------------------------------------------------------ the tool itself

    async def _invoke(  # noqa: C901, PLR0912 - each frame costs
        self,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any],
        trial: Trial | None = None,
    ) -> Any:
        around = self._lane.surroundings
        context = around.context.copy()
        enter = context.run
        value: Any
        thread = None
        if tool.runs == "thread" and not around.in_place:
            thread = ThreadCall()
        facts: Facts = (call, around, self._lease, self._deadline, thread, trial)
        enter(around.enter, facts)
        if tool.needs_context is not None:
            arguments[tool.needs_context] = context_of(facts)
        if thread is not None:
            self._has_waited = True
            leave_loop(context)
            called = partial(_collected, thread, self._nearest(), tool.function, arguments)
            waiting = self._in_thread(thread, partial(enter, called))
            value = await (judged(waiting, self._is_meant) if self._is_judging() else waiting)
        elif tool.runs == "async":
            value = enter(tool.function, **arguments)
        else:  # in the sequential mode
            leave_loop(context)
            value = call_in_place(partial(enter, tool.function, **arguments))
        while True:
            if type(value) is CoroutineType:  # pyright: ignore[reportUnknownArgumentType]
                coroutine: Any = value  # pyright: ignore[reportUnknownVariableType]
                # Most steps of a call that never waits are saved here.
                begun = clock()
                try:
                    try:
                        waits_for = enter(coroutine.send, None)
                    finally:
                        if clock() - begun > SLOW:
                            self._on_slow(begun, coroutine)
                except StopIteration as end:
                    value = end.value
                else:
                    self._has_waited = True
                    value = await self._go_on(context, coroutine, waits_for)
            if type(value) in PLAIN:
                return value
            value = settled(value)
            if type(value) is not CoroutineType:
                return value

    async def _go_on(self, context: Context, coroutine: Any, waits_for: Any) -> Any:
        watchdog = self._run.watchdog
        if not self._lane.surroundings.in_place:
            watchdog.watch(self, self._nearest())
        try:
            rest: Any = go_on(
                context, coroutine, waits_for, self._on_throw, on_step=self._on_slow, slow=SLOW
            )
            return await (judged(rest, self._is_meant) if self._is_judging() else rest)
        finally:
            watchdog.release(self)

    def _on_slow(self, begun: float, coroutine: object) -> None:
        """Take note of a step of the tool that blocked the event loop, from `begun` until now."""
        run = self._run
        seconds = run.blocking.note(self.names, begun, run.thread, coroutine)
        run.tell(Blocked(self.names[0], seconds))

    def _nearest(self) -> float:
        """Return the next of all deadlines that bound the call, a point on the loop's clock."""
        scopes = self._lane.surroundings.scopes
        return min(self._deadline, *[scope.deadline for scope in scopes])

    async def _in_thread(self, thread: ThreadCall, function: Callable[[], Any]) -> Any:
        try:
            return await thread.run(function)
        finally:
            if thread.abandoned and not thread.done:
                self._leave_behind(thread)

    def _leave_behind(self, thread: ThreadCall) -> None:
        """Count a thread that nobody waits for any more; it keeps what it uses until it ends."""
        run, (name, tool) = self._run, self.names
        run.abandoned += 1
        run.left_behind.append(name)
        run.tell(Abandoned(name))
        if self._parts.holdings is not None:
            self._parts.holdings.keep(name, thread)
        text = "call %r: tool %r did not end in time; its thread is left behind"
        _log.warning(text, name, tool)

    # ----------------------------------------------------------- tools that keep their cancellation

    def _on_throw(self, error: BaseException) -> None:
        if isinstance(error, self._run.cancelled):
            self._was_cancelled = True
            self._run.watchdog.expect(self, self._run.clock())

    @property
    def names(self) -> tuple[str, str]:
        """The call that runs, and its tool."""
        return self._call.id if self._call else "", self._tool.name

    def is_cancelled(self) -> bool:
        """Whether a scope is cancelled: the call's, the run's, or one round the code that asks."""
        return self.is_ending() or anyio.current_effective_deadline() == -math.inf

    def is_ending(self) -> bool:
        """Whether the end of the call was asked for, from outside of its tool."""
        scopes = (self._scope, *self._lane.surroundings.scopes)
        return any(scope.cancel_called for scope in scopes)

    @contextmanager
    def patience(self) -> Generator[CancelScope]:
        """Return a shielded scope that ends when the end of the call is asked for."""
        with CancelScope(deadline=self._nearest(), shield=True) as scope:
            self._run.shields[scope] = None
            try:
                yield scope
            finally:
                del self._run.shields[scope]

    def _is_cancelled(self) -> bool:
        """Whether a scope round the code of this worker is cancelled; not by a tool, then."""
        return self._lane.is_over() or anyio.current_effective_deadline() == -math.inf

    def _find_swallowed(self) -> None:
        """Find out whose cancellation the tool swallowed."""
        self._was_cancelled = False
        if not self._lane.is_over() and anyio.current_effective_deadline() == -math.inf:
            # The tool took a cancellation for itself that was the caller's.
            self._run.interrupt(Cancelled())

    # ------------------------------------------------- asyncio: requests to cancel the task itself

    def _is_judging(self) -> bool:
        """Whether a request to cancel the task may be meant for a call that is over."""
        return self._shares_task and self._task is not None and self._lease is not None

    def _is_meant(self) -> bool:
        """Whether a request that is made in this context is meant for the call that runs."""
        asking = call_of(self._run.run_id)
        return asking is None or (self._call is not None and asking == self._call.id)

    async def _drop_requests(self) -> None:
        """Take back what a tool has asked of its own task: it must not end what comes after it."""
        task = self._task
        assert task is not None  # noqa: S101 - only asyncio counts requests
        if self._is_cancelled():
            return  # they are the run's, or those of its caller
        while task.cancelling() > self._requests_before:
            task.uncancel()
        try:
            await asyncio.sleep(0)  # one that has not arrived yet arrives here
        except asyncio.CancelledError:
            if self._is_cancelled():
                raise
