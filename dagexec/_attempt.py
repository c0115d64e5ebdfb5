"""One execution of a call: its arguments, its tool run under a deadline, its outcome."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio
from anyio import CancelScope

from dagexec._context import Asked, CallContext, CancelledCall, enter_call
from dagexec._errors import BadReference, CallCancelled, CallTimeout
from dagexec._isolation import in_context
from dagexec._outcomes import Cancelled, Done, Failed, Outcome, Pending, TimedOut
from dagexec._refs import MISSING, Ref, follow, resolve
from dagexec._threads import ThreadCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Context

    from anyio.abc import TaskGroup

    from dagexec._plan import Call
    from dagexec._slots import Lease
    from dagexec._tools import Tool

_log: Final = logging.getLogger("dagexec")

# Seconds that a call may go on after its cancellation before the log names it.
GRACE: Final = 1.0


def arguments_of(
    call: Call, tool: Tool[..., Any], outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Put values in the place of references and validate; raise CallError with text for a model."""

    def lookup(ref: Ref) -> Any:
        outcome = outcomes[ref.call]
        if outcome.status != "done":
            return ref.default
        if not ref.path:
            return outcome.value
        try:
            return follow(outcome.value, ref.path)
        except BadReference as error:
            if ref.default is not MISSING:
                return ref.default
            msg = f"the reference {str(ref)!r} leads nowhere: {error}"
            raise BadReference(msg) from None

    return tool.validate(resolve(dict(call.args), lookup))


@final
@dataclass(slots=True)
class Ground:
    """What all calls of a lane stand on.

    `clock` is the event loop's and `zero` when the run began, both in seconds; `cancelled` is what
    the loop cancels with. Each call gets a copy of `context`. `scopes` are those round the calls,
    `group` is where a watch over one can be started, None where there is no task but the caller's.
    """

    run_id: str
    context: Context
    cancelled: type[BaseException]
    clock: Callable[[], float]
    zero: float
    scopes: tuple[CancelScope, ...]
    group: TaskGroup | None = None


@final
class Attempt:
    """A call that is admitted and runs now."""

    __slots__ = (
        "_arguments",
        "_call",
        "_context",
        "_ground",
        "_lease",
        "_made",
        "_queued",
        "_requests_before",
        "_scope",
        "_started",
        "_struck",
        "_task",
        "_thread",
        "_tool",
        "_watch",
        "abandoned",
    )

    def __init__(
        self,
        ground: Ground,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any],
        lease: Lease | None,
        *,
        started: float,
        queued: float,
    ) -> None:
        """Take a call with its validated arguments; times in seconds of the run."""
        self._ground = ground
        self._call = call
        self._tool = tool
        self._arguments = arguments
        self._lease = lease
        # To stamp a value with its times as it comes: to copy the outcome would cost as much again.
        self._started = started
        self._queued = queued
        self._context = ground.context.copy()
        self._made: CallContext | None = None
        # asyncio's task, which counts the requests to cancel it; trio's scopes say it all.
        asynchronous = ground.cancelled is asyncio.CancelledError
        self._task = asyncio.current_task() if asynchronous else None
        self._requests_before = self._requests()
        # Whether a cancellation was thrown into the tool.
        self._struck = False
        self._scope: CancelScope | None = None
        self._thread: ThreadCall | None = None
        self._watch: CancelScope | None = None
        # Whether the tool still runs, in a thread that nobody waits for any more.
        self.abandoned = False

    async def run(self, seconds: float | None) -> Outcome:
        """Run the tool and return the outcome; only that of a tool that returned has its times.

        Raises what is no outcome: a cancellation from outside the call, KeyboardInterrupt,
        SystemExit and their like.
        """
        if seconds is None:
            return await self._guarded()
        outcome: Outcome | None = None
        with CancelScope(deadline=self._ground.clock() + seconds) as self._scope:
            outcome = await self._guarded()
        return self._timed_out(seconds) if outcome is None else outcome

    @property
    def interrupted(self) -> bool:
        """Whether the caller's cancellation was thrown into the tool, and the tool kept it."""
        return self._struck and (
            anyio.current_effective_deadline() == -math.inf
            or self._requests() > self._requests_before
        )

    async def _guarded(self) -> Outcome:
        try:
            value = await self._invoke()
            ground = self._ground
            return Done(
                value,
                started=self._started,
                ended=ground.clock() - ground.zero,
                queued=self._queued,
                attempts=1,
            )
        except BaseException as error:  # noqa: BLE001 - what is no outcome is raised again
            return self._outcome_of(error)
        finally:
            self._end_watch()

    def _outcome_of(self, error: BaseException) -> Outcome:
        """Return the outcome of a tool that raised; raise what is none, out of its group."""
        decisive = bare(error, self._ground.cancelled)
        match decisive:
            case Exception():
                # The group as it is: it tells more than its first member.
                failure = error if isinstance(error, Exception) else decisive
                return self._timed_out(0.0, failure) if self._expired() else Failed(failure)
            case Asked():
                return Pending(decisive.question)
            case CancelledCall():
                # check() in a tool that nobody waits for any more; no other call can end so
                return Cancelled()
            case asyncio.CancelledError() if self._requests() <= self._requests_before:
                msg = f"tool {self._tool.name!r} ended with a CancelledError of its own"
                own = CallCancelled(msg)
                own.__cause__ = decisive
                return Failed(own)
            case _:
                raise decisive

    def _expired(self) -> bool:
        return self._scope is not None and self._scope.cancel_called

    def _timed_out(self, timeout: float, error: Exception | None = None) -> Outcome:
        took = f" of {timeout:g} s" if timeout else ""
        late = CallTimeout(f"tool {self._tool.name!r} did not end within its timeout{took}", "call")
        late.__cause__ = error
        return TimedOut("call", error=late)

    async def _invoke(self) -> Any:
        tool = self._tool
        run = self._context.run
        run(enter_call, self.context)
        if tool.needs_context is not None:
            self._arguments[tool.needs_context] = self.context()
        if tool.runs == "thread" and self._ground.group is not None:
            value = await self._in_thread()
        else:
            value = run(tool.function, **self._arguments)
        if iscoroutine(value):
            return await in_context(self._context, value, self._on_throw, self._on_survived)
        return value

    async def _in_thread(self) -> Any:
        function = partial(self._context.run, self._tool.function, **self._arguments)
        self._thread = thread = ThreadCall(function)
        try:
            return await thread.run()
        finally:
            if thread.abandoned and not thread.done:
                self.abandoned = True
                _log.warning(
                    "call %r: tool %r did not end in time; its thread is left behind",
                    self._call.id,
                    self._tool.name,
                )

    def context(self) -> CallContext:
        """Return what the tool can know of its call; made when it is first asked for."""
        if self._made is None:
            scopes = self._ground.scopes
            if self._scope is not None:
                scopes = (*scopes, self._scope)
            deadline = min([scope.deadline for scope in scopes], default=math.inf)
            self._made = CallContext(
                self._call.id,
                self._tool.name,
                self._ground.run_id,
                deadline=None if deadline == math.inf else deadline,
                lease=self._lease,
                cancelled=self._is_abandoned,
            )
        return self._made

    def _is_abandoned(self) -> bool:
        return self._thread is not None and self._thread.abandoned

    # A tool that goes on after its cancellation holds the run; it must not do so silently.

    def _on_throw(self, error: BaseException) -> None:
        self._struck = self._struck or isinstance(error, self._ground.cancelled)

    def _on_survived(self) -> None:
        group = self._ground.group
        if self._watch is None and group is not None and self._struck:
            self._watch = CancelScope(shield=True)
            group.start_soon(self._warn_later, self._watch)

    def _is_cancelled(self) -> bool:
        """Whether a scope is cancelled: the call's, the run's, or one round the code that asks."""
        stopped = self._expired() or any(scope.cancel_called for scope in self._ground.scopes)
        return stopped or anyio.current_effective_deadline() == -math.inf

    def _requests(self) -> int:
        """Return how many requests to cancel its task asyncio counts; 0 on trio."""
        return 0 if self._task is None else self._task.cancelling()

    async def _warn_later(self, scope: CancelScope) -> None:
        with scope:
            await anyio.sleep(GRACE)
        if scope.cancel_called:
            return
        if not self._is_cancelled():
            self._watch = None  # it was a scope of the tool's own
        else:
            _log.warning(
                "call %r: tool %r still runs %g s after it was cancelled; the run waits for it",
                self._call.id,
                self._tool.name,
                GRACE,
            )

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


def bare(error: BaseException, cancelled: type[BaseException]) -> BaseException:
    """Return what a group comes down to; anything else is returned as it is.

    KeyboardInterrupt, SystemExit and their like pass bare on both backends; after them comes a
    cancellation, which its scope has to see, and then the first error.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = _leaves(cast("BaseException", error))
    for kinds in ((Exception, cancelled, Asked, CancelledCall), (Exception, Asked, CancelledCall)):
        for leaf in leaves:
            if not isinstance(leaf, kinds):
                return leaf
    return next((leaf for leaf in leaves if not isinstance(leaf, Exception)), leaves[0])


def _leaves(error: BaseException) -> list[BaseException]:
    """Return the single exceptions in a group, however deep; of any other one, itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    members: tuple[BaseException, ...] = cast("Any", error).exceptions
    return [leaf for member in members for leaf in _leaves(member)]
