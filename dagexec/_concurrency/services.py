"""Background services: what lives longer than a run, and ends with the executor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any, Final, final

import anyio
from anyio import CancelScope

from dagexec._concurrency.loop_task import LoopTask
from dagexec._concurrency.restart import Restart, Restarts
from dagexec._errors import DagexecError

_log: Final = logging.getLogger("dagexec")

# Seconds that a service may take to end after it was cancelled, before it is left to its loop.
GRACE: Final = 10.0


@final
class Service:
    """A background service; made by `Executor.background`.

    `restarts` is how often it was started again, `error` what it ended with last, or None.
    """

    def __init__(
        self,
        function: Callable[..., Coroutine[Any, Any, object]],
        args: tuple[Any, ...],
        name: str,
        restart: Restart,
    ) -> None:
        """Start it in the running event loop."""
        self.name = name
        self.restarts = 0
        self.error: Exception | None = None
        self._function = function
        self._args = args
        self._policy = Restarts(restart)
        self._task = LoopTask(f"the service {name!r}", self._live)
        self.loop: object = self._task.loop

    @property
    def running(self) -> bool:
        """Whether it runs, or is about to be started again."""
        return not self._task.ended.is_set()

    async def stop(self) -> None:
        """Cancel it and wait for its end, 10 seconds at most."""
        self._task.cancel()
        with CancelScope(shield=True):
            with anyio.move_on_after(GRACE):
                await self._task.ended.wait()
            if self.running:
                _log.error("the service %r keeps its cancellation; left to its loop", self.name)

    async def wait(self) -> None:
        """Wait until it has ended for good; raise the error that it ended with."""
        await self._task.ended.wait()
        if self.error is not None:
            raise self.error

    async def _live(self) -> None:
        while True:
            try:
                await self._function(*self._args)
            except Exception as error:  # noqa: BLE001 - kept, logged, and perhaps the last
                self.error = error
            else:
                self.error = None
                return
            delay = self._policy.delay(anyio.current_time())
            again = "given up" if delay is None else f"starting it again in {delay:g} s"
            _log.error("the service %r failed; %s", self.name, again, exc_info=self.error)
            if delay is None:
                return
            await anyio.sleep(delay)
            self.restarts += 1

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<Service {self.name!r}: {state}, {self.restarts} restarts>"


def checked_service(function: object) -> None:
    """Raise DagexecError for what is no async function."""
    if not (iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "func", None))):
        msg = f"a background service is an async function, not {function!r}"
        raise DagexecError(msg)
