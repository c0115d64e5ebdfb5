"""Requests to cancel an asyncio task, judged at the moment at which they are made.

`Task.cancel()` does not say who asks. Where the code of several calls runs in one task, one after
the other, or that of a call in the task of the run's caller, a request may be meant for a call that
is over, for the one that runs, or for the caller. But it arrives as a call of `cancel` of what the
task waits for, in the context of whoever asks: a timer that a tool has set runs in the tool's.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, final

# How the requests of anyio's scopes begin; which of them are meant is what scopes are for.
_BY_A_SCOPE = "Cancelled via cancel scope "


@types.coroutine
def judged(
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], judge: Callable[[], bool]
) -> Generator[Any, Any, Any]:
    """Await `coroutine`; a request to cancel it reaches it if `judge` says so.

    `judge` is asked in the context of whoever makes the request, unless that is one of anyio's
    scopes. Each wait takes one more turn of the event loop than without.
    """
    try:
        waits_for = coroutine.send(None)
        while True:
            try:
                answer = yield _Wait(waits_for, judge) if _can_wait(waits_for) else waits_for
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation too goes to the coroutine
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(answer)
    except StopIteration as end:
        return end.value


def _can_wait(waits_for: object) -> bool:
    return waits_for is None or isinstance(waits_for, asyncio.Future)


@final
class _Wait(asyncio.Future[Any]):
    """What a task waits for in the place of a future, or of its next turn."""

    def __init__(self, waits_for: asyncio.Future[Any] | None, judge: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop=loop)
        self._waits_for = waits_for
        self._judge = judge
        self._message: Any = None
        self._task = asyncio.current_task()
        if waits_for is None:
            loop.call_soon(self._wake)
        else:
            waits_for._asyncio_future_blocking = False  # noqa: SLF001 - as a task that waits does
            waits_for.add_done_callback(self._wake)
        self._asyncio_future_blocking = True

    def cancel(self, msg: Any | None = None) -> bool:
        """Pass a request on that is meant; of any other nothing remains."""
        task = self._task
        by_a_scope = isinstance(msg, str) and msg.startswith(_BY_A_SCOPE)
        # The task itself passes on what was asked for before it began to wait.
        is_late = asyncio.current_task() is task
        if not by_a_scope and not is_late and not self._judge():
            if task is not None:
                task.uncancel()
            return True
        self._message = msg
        if self._waits_for is None:
            return super().cancel(msg)
        return self._waits_for.cancel(msg)

    def done(self) -> bool:
        """Whether what it waits for is there: a scope does not cancel what is on its way."""
        return super().done() if self._waits_for is None else self._waits_for.done()

    def _wake(self, found: asyncio.Future[Any] | None = None) -> None:
        if super().done():
            return
        if found is not None and found.cancelled():
            super().cancel(self._message)
        else:
            self.set_result(None)
