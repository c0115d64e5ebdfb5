"""The guards that are about time, over one child."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, final

import anyio

from dagexec.processes._guards import Guards
from dagexec.processes._system import in_thread
from dagexec.processes._tree import members

# Seconds between two looks at a guard that has to be looked at.
LOOK: Final = 0.25


@final
class Sentry:
    """Watches over what is expected of a child, and how long nothing has been seen of it."""

    __slots__ = ("_began", "_expected", "_guards", "_heard", "_moved", "_pid", "_tag", "_ticks")

    def __init__(self, guards: Guards, pid: int, tag: str) -> None:
        """Begin with the child's life; must be made in the event loop."""
        self._guards = guards
        self._pid = pid
        self._tag = tag
        self._began = self._heard = self._moved = anyio.current_time()
        self._expected = 0
        self._ticks: int | None = None

    def hear(self) -> None:
        """Note that it wrote something, or could not because nobody reads."""
        self._heard = self._moved = anyio.current_time()

    def expect(self, change: int) -> None:
        """Count what is expected of it up or down."""
        if not self._expected:
            self.hear()
        self._expected += change

    async def watch(self, report: Callable[[str, str], object]) -> None:
        """Report the first guard that is broken, by name and in words."""
        guards = self._guards
        times = [each for each in (guards.liveness, guards.progress, guards.wall) if each]
        if not times:
            return
        pause = min(LOOK, min(times) / 4)
        while True:
            now = anyio.current_time()
            if now - self._began >= (guards.wall or math.inf):
                report("wall", f"ran longer than {guards.wall:g} s")
                return
            if self._expected and now - self._heard >= (guards.progress or math.inf):
                report("progress", f"wrote nothing for {guards.progress:g} s")
                return
            # Half of the time before it is over, to compare with what is seen then.
            looks = now - self._moved >= (guards.liveness or math.inf) / 2
            if self._expected and looks and not await self._is_alive(now):
                text = f"neither wrote nor computed anything for {guards.liveness:g} s"
                report("liveness", text)
                return
            await anyio.sleep(pause)

    async def _is_alive(self, now: float) -> bool:
        """Ask for its processor time, which costs more than to wait for output."""
        tree: dict[int, Any] = await in_thread(members, self._pid, self._tag)
        ticks = sum(each.ticks for each in tree.values())
        before, self._ticks = self._ticks, ticks
        if before not in (None, ticks):
            self._moved = now
        return now - self._moved < (self._guards.liveness or math.inf)


@final
class Expecting:
    """A context in which one more thing is expected of a child."""

    __slots__ = ("_sentry",)

    def __init__(self, sentry: Sentry) -> None:
        """Expect nothing before the context is entered."""
        self._sentry = sentry

    def __enter__(self) -> None:
        """Begin to expect something."""
        self._sentry.expect(1)

    def __exit__(self, *_: object) -> None:
        """Expect it no longer."""
        self._sentry.expect(-1)
