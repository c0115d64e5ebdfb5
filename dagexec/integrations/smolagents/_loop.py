"""The event loop of one agent's turns, in a thread beside those that run the agent.

A loop for each turn costs more than the turn, so one lives on until nobody has used it for a while.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, final

from dagexec import DagexecError
from dagexec._concurrency import forks

# Seconds for which an agent's loop waits for another turn.
IDLE_SECONDS: Final = 2.0
# Seconds that the end of the interpreter waits for a loop.
_PATIENCE: Final = 1.0


@final
class Home:
    """Where the turns of one agent run."""

    def __init__(self) -> None:
        """Begin without a loop."""
        self._lock = threading.Lock()
        self._thread: _Thread | None = None
        forks.forgets(self)
        _HOMES.add(self)

    @contextmanager
    def lent(self) -> Generator[asyncio.AbstractEventLoop]:
        """Lend a running loop; it does not end meanwhile."""
        with self._lock:
            thread = self._thread
            if thread is None or not thread.take():
                thread = self._thread = _Thread()
                # Agents that are made for one question leave no idle threads.
                weakref.finalize(self, thread.end).atexit = False
            elif thread.is_here():
                # Who waits here holds up the loop that it would wait for.
                thread.give_back()
                thread = _Thread()
        try:
            yield thread.turning()
        finally:
            thread.give_back(for_good=thread is not self._thread)

    def after_fork(self) -> None:
        """Forget the parent's loop, in a child."""
        self._lock = threading.Lock()
        self._thread = None

    def close(self) -> None:
        """End the loop, whoever uses it."""
        if self._thread is not None:
            self._thread.end()
            self._thread.join()


@final
class _Thread:
    """A thread in which an event loop turns as long as somebody uses it, and a while longer."""

    def __init__(self) -> None:
        """Start, with a user."""
        self._lock = threading.Lock()
        self._users = 1
        self._uses = 1
        self._over = False
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="dagexec smolagents", daemon=True)
        self._thread.start()

    def take(self) -> bool:
        """Count a user, if the loop turns."""
        with self._lock:
            if self._over:
                return False
            self._users += 1
            self._uses += 1
            return True

    def give_back(self, *, for_good: bool = False) -> None:
        """Count a user less; `for_good` ends the loop with the last one."""
        with self._lock:
            self._users -= 1
            last = for_good and not self._users
        if last:
            self.end()

    def turning(self) -> asyncio.AbstractEventLoop:
        """Return the loop as soon as it turns."""
        self._started.wait()
        if self._loop is None:
            msg = "no event loop could be started for the agent's calls; the cause is below"
            raise DagexecError(msg) from self._error
        return self._loop

    def end(self) -> None:
        """End the loop."""
        with self._lock:
            self._over = True
            loop, main = self._loop, self._main
            if loop is not None and main is not None and not loop.is_closed():
                loop.call_soon_threadsafe(main.cancel)

    def is_here(self) -> bool:
        """Whether this is the loop's thread."""
        return self._thread is threading.current_thread()

    def join(self) -> None:
        """Wait a little for the end of the loop."""
        self._thread.join(_PATIENCE)

    # ----------------------------------------------------------------------------- in the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - too many open files; raised where it is waited
            self._error = error
        finally:
            with self._lock:
                self._over = True
            self._started.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._started.set()
        while True:
            seen = self._uses
            await asyncio.sleep(IDLE_SECONDS)
            with self._lock:
                if not self._users and self._uses == seen:
                    self._over = True
                    return


_HOMES: Final[weakref.WeakSet[Home]] = weakref.WeakSet()


def _close() -> None:
    for home in list(_HOMES):
        home.close()


atexit.register(_close)
