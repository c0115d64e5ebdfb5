"""One execution of a call: its arguments, its tool run under a deadline, its outcome."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, final

import anyio
from anyio import CancelScope

from dagexec._context import Asked, CallContext, CancelledCall, enter_call
from dagexec._errors import BadReference, CallCancelled, CallTimeout
from dagexec._isolation import in_context
from dagexec._outcomes import Cancelled, Done, Failed, Outcome, Pending, TimedOut
from dagexec._refs import MISSING, Ref, follow, resolve
from dagexec._threads import ThreadCall

if TYPE_CHECKING:
    from collections.abc import Mapping
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
class Attempt:
    """A call that is admitted and runs now."""

    __slots__ = (
        "_arguments",
        "_call",
        "_cancelled",
        "_context",
        "_group",
        "_lease",
        "_outer",
        "_run_id",
        "_scope",
        "_thread",
        "_tool",
        "_watch",
        "abandoned",
    )

    def __init__(
        self,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any],
        *,
        run_id: str,
        context: Context,
        lease: Lease | None,
        outer: tuple[CancelScope, ...],
        group: TaskGroup | None,
    ) -> None:
        """Take a call with its validated arguments; `outer` are the scopes round it."""
        self._call = call
        self._tool = tool
        self._arguments = arguments
        self._run_id = run_id
        self._context = context
        self._lease = lease
        self._outer = outer
        self._group = group
        self._scope: CancelScope | None = None
        self._thread: ThreadCall | None = None
        self._watch: CancelScope | None = None
        # Whether the tool still runs, in a thread that nobody waits for any more.
        self.abandoned = False

    async def run(self, timeout: float | None, cancelled: type[BaseException]) -> Outcome:
        """Run the tool and return the outcome, without its times.

        Raises what is no outcome: a cancellation from outside the call, KeyboardInterrupt,
        SystemExit and their like.
        """
        if timeout is None:
            return await self._guarded(cancelled)
        deadline = anyio.current_time() + timeout
        outcome: Outcome | None = None
        with CancelScope(deadline=deadline) as self._scope:
            outcome = await self._guarded(cancelled)
        return self._timed_out(timeout) if outcome is None else outcome

    async def _guarded(self, cancelled: type[BaseException]) -> Outcome:
        try:
            return Done(await self._invoke())
        except Exception as error:  # noqa: BLE001 - every failure of a tool is its outcome
            if self._expired():
                return self._timed_out(0.0, error)
            return Failed(error)
        except Asked as asked:
            return Pending(asked.question)
        except CancelledCall:
            # check() in a tool that nobody waits for any more; no other call can end so
            return Cancelled()
        except cancelled as error:
            if _own_cancellation(error):
                msg = f"tool {self._tool.name!r} ended with {type(error).__name__} of its own"
                failure = CallCancelled(msg)
                failure.__cause__ = error
                return Failed(failure)
            raise
        finally:
            self._end_watch()

    def _expired(self) -> bool:
        return self._scope is not None and self._scope.cancel_called

    def _timed_out(self, timeout: float, error: Exception | None = None) -> Outcome:
        took = f" of {timeout:g} s" if timeout else ""
        late = CallTimeout(f"tool {self._tool.name!r} did not end within its timeout{took}", "call")
        late.__cause__ = error
        return TimedOut("call", error=late)

    async def _invoke(self) -> Any:
        tool = self._tool
        threaded = tool.runs == "thread" and self._group is not None
        function = partial(self._context.run, tool.function, **self._arguments)
        if threaded:
            self._thread = ThreadCall(function)
        self._enter()
        try:
            value = await self._thread.run() if self._thread is not None else function()
        finally:
            if self._thread is not None and self._thread.abandoned and not self._thread.done:
                self.abandoned = True
                _log.warning(
                    "call %r: tool %r did not end in time; its thread is left behind",
                    self._call.id,
                    tool.name,
                )
        if iscoroutine(value):
            return await in_context(self._context, value, self._on_wait)
        return value

    def _enter(self) -> None:
        scopes = self._outer if self._scope is None else (*self._outer, self._scope)
        deadline = min((scope.deadline for scope in scopes), default=float("inf"))
        thread = self._thread
        context = CallContext(
            self._call.id,
            self._tool.name,
            self._run_id,
            deadline=None if deadline == float("inf") else deadline,
            lease=self._lease,
            cancelled=bool if thread is None else (lambda: thread.abandoned),
        )
        if self._tool.needs_context is not None:
            self._arguments[self._tool.needs_context] = context
        self._context.run(enter_call, context)

    # A tool that goes on after its cancellation holds the run; it must not do so silently.

    def _on_wait(self) -> None:
        if self._watch is None and self._group is not None and self._is_cancelled():
            self._watch = CancelScope(shield=True)
            self._group.start_soon(self._warn_later, self._watch)

    def _is_cancelled(self) -> bool:
        return self._expired() or any(scope.cancel_called for scope in self._outer)

    async def _warn_later(self, scope: CancelScope) -> None:
        with scope:
            await anyio.sleep(GRACE)
            _log.warning(
                "call %r: tool %r still runs %g s after it was cancelled; the run waits for it",
                self._call.id,
                self._tool.name,
                GRACE,
            )

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


def _own_cancellation(error: BaseException) -> bool:
    """Whether a CancelledError came from the tool, and not to it.

    Only asyncio lets a tool raise one: a cancelled future that it awaited, for example. A task that
    somebody cancelled, by a scope or natively, counts the request until it is through.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0
