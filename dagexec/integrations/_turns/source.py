"""The calls of a turn's plan as they come, and the wait for the end of a task."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, final

from dagexec import Call


@final
@dataclass(slots=True)
class Source:
    """The calls of a plan as they come. Nothing takes them back, so each starts at once."""

    certain = True
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _calls: deque[Call] = field(default_factory=deque[Call])
    _ended: bool = False
    _waiter: asyncio.Future[None] | None = None

    def put(self, call: Call) -> None:
        """Let a call into the plan."""
        self._calls.append(call)
        self._wake()

    def end(self) -> None:
        """Say that the plan is whole."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Call]:
        return self

    async def __anext__(self) -> Call:
        while not self._calls:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = self.loop.create_future()
            await self._waiter
        return self._calls.popleft()


async def until_done(task: asyncio.Task[Any]) -> None:
    """Wait for a task, whatever it raises; a cancellation meanwhile passes through at the end."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            task.cancel()
    if not task.cancelled():
        task.exception()
    if cancelled is not None:
        raise cancelled
