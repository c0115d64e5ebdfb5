"""Signs of life while the event loop of a process is blocked.

Heartbeats come from the event loop. A tool that blocks it, such as an async one that calls
`requests.get`, holds them back, and after the lease all calls of the process would count as lost,
although each of them goes on. So a thread watches the loop, and beats in its place.

It does so for some leases only: a loop that is blocked for longer may never come back. A write that
has not begun gets no such beat, which could arrive behind its intent and erase it; it runs
elsewhere, and nothing of it is in doubt.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from typing import Final, final

_log: Final = logging.getLogger("dagexec")

# Leases for which a loop may be blocked until its calls go on elsewhere.
LEASES: Final = 4
# Parts of a lease: how often the loop is looked at, and after what silence it counts as blocked.
# With a beat of half a lease, there are still some signs of life in each.
_LOOK: Final = 1 / 8
_SILENCE: Final = 1 / 4


@final
class Pulse:
    """The calls that this process runs, and the thread that keeps them alive."""

    def __init__(self, lease: float) -> None:
        """Prepare; nothing is started. `lease` is in seconds."""
        self._look = lease * _LOOK
        self._silence = lease * _SILENCE
        self._most = lease * LEASES
        self._beats: dict[int, Callable[[], None]] = {}
        self._numbers = count()
        self._heard = time.monotonic()
        # When the loop was blocked for the last time: until then, and for so many seconds.
        self._blocked = (-math.inf, 0.0)
        self._answering: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def start(self, *, beats: bool) -> None:
        """Watch the event loop of here; the thread beats only if any loop can write heartbeats."""
        self._heard = time.monotonic()
        self._answering = asyncio.create_task(self._answer())
        if not beats:
            return
        # A daemon: nothing that hangs in it keeps a process from its end.
        self._thread = threading.Thread(target=self._watch, name="dagexec-pulse", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()
        if self._answering is not None:
            self._answering.cancel()
        if self._thread is not None:
            self._thread.join(self._look)

    @contextmanager
    def kept_alive(self, beat: Callable[[], None]) -> Generator[None]:
        """Let the thread call this, in an event loop of its own, whenever the loop is blocked."""
        number = next(self._numbers)
        self._beats[number] = beat
        try:
            yield
        finally:
            del self._beats[number]

    @property
    def blocked(self) -> float:
        """For how many seconds the loop was blocked of late; 0 if it was not."""
        now = time.monotonic()
        until, seconds = self._blocked
        longest = max(now - self._heard, seconds if now - until < self._most else 0.0)
        return longest if longest >= self._silence else 0.0

    async def _answer(self) -> None:
        while True:
            now = time.monotonic()
            if now - self._heard >= self._silence:
                self._blocked = (now, now - self._heard)
            self._heard = now
            await asyncio.sleep(self._look)

    def _watch(self) -> None:
        is_named = False
        while not self._closed.wait(self._look):
            silent = time.monotonic() - self._heard
            if silent < self._silence:
                is_named = False
            elif silent < self._most:
                asyncio.run(self._beat_all())
            elif not is_named:
                is_named = True
                text = (
                    "the event loop has been blocked for %.0f s: the calls of this worker go on"
                    " elsewhere, and writes that had begun are in doubt"
                )
                _log.warning(text, silent)

    async def _beat_all(self) -> None:
        for beat in self._beats.copy().values():
            try:
                beat()
            except Exception:  # noqa: BLE001 - then the call is lost, as without this thread
                _log.warning("a call could not say that its worker is alive", exc_info=True)
        # The library makes a task of each.
        sent = asyncio.all_tasks() - {asyncio.current_task()}
        if sent:
            await asyncio.wait(sent, timeout=self._look)
