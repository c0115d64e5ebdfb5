"""A task that belongs to the event loop, not to the block that starts it.

What lives longer than the code that asks for it, a connection or a background service, cannot run
in a task group of that code: the group would have to be left in the task that entered it, which a
notebook's cells, or a framework's start and stop hooks, do not do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, final

import anyio
from anyio import CancelScope, get_cancelled_exc_class
from anyio.lowlevel import current_token

_log: Final = logging.getLogger("dagexec")


@final
class LoopTask:
    """Runs an async function in a task of the running event loop.

    Its error does not pass to anybody by itself: it is kept as `error`, and logged. The task ends
    with the loop at the latest. It sees the ContextVars of `context`, by default none: those of the
    code that starts it would make it part of a call.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], Coroutine[Any, Any, object]],
        context: Context | None = None,
        at_end: Callable[[], object] = lambda: None,
    ) -> None:
        """Start it, with its first step in a later turn; must be called in the event loop.

        `at_end` is called when it has ended, also if it was cancelled before its first step.
        """
        self.name = name
        self.error: BaseException | None = None
        self.ended = anyio.Event()
        self._function = function
        self._at_end = at_end
        self._scope = CancelScope()
        self._task: asyncio.Task[None] | None = None  # asyncio itself keeps only a weak reference
        self.loop = loop = current_token().native_token
        context = Context() if context is None else context
        if isinstance(loop, asyncio.AbstractEventLoop):
            # Not by the loop's factory: an eager one would begin at once.
            self._task = asyncio.Task(self._run(), loop=loop, name=name, context=context)
            # `_run` does not see the end of a task that is cancelled before its first step.
            self._task.add_done_callback(self._note_end)
        else:
            import trio

            trio.lowlevel.spawn_system_task(self._run, name=name, context=context)

    def cancel(self) -> None:
        """Cancel the function; to be called in the same event loop."""
        self._scope.cancel()

    async def outlast(self) -> None:
        """Wait for its end; what cancels the wait cancels it, and goes on when it has ended."""
        cancelled = get_cancelled_exc_class()
        try:
            await self.ended.wait()
        except cancelled:
            self.cancel()
            with CancelScope(shield=True):
                while not self.ended.is_set():
                    with suppress(cancelled):  # asyncio's own goes through a shield
                        await self.ended.wait()
            raise

    def _note_end(self, _task: object = None) -> None:
        if not self.ended.is_set():
            self.ended.set()
            self._at_end()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._function()
        except Exception as error:  # noqa: BLE001 - on trio it would end the whole program
            self.error = error
            _log.error("%s ended with an error", self.name, exc_info=error)
        finally:
            self._note_end()
