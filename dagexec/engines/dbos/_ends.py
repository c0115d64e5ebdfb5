"""What has ended, for those who wait for it: told by this process, heard of others, or looked for.

What ends in this process is told at once, with its result: it is recorded by then. Of what ends
elsewhere there may be news, which say no more than that it is worth a look. What nobody told of is
found in the looks that are taken every `polling` seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, final

from dagexec.engines.dbos._database import Database

# Workflows that one look asks for, at most; the next look asks for the next ones.
_LOOK: Final = 500


@final
class Waiter:
    """Waits for workflows, again and again; what ends between two waits is not lost."""

    def __init__(
        self, database: Database, polling: float, runs_here: Callable[[str], bool], ends: Ends
    ) -> None:
        """Wait for none yet."""
        self._database = database
        self._polling = polling
        self._runs_here = runs_here
        self._ends = ends
        self._news = asyncio.Event()
        # Whether there is something else to hear of.
        self._woken = False
        # Those that are waited for, each with its place in the order in which they came.
        self._expected: dict[str, int] = {}
        # Those of them that have ended, with what they returned if that is known here.
        self._ended: dict[str, str | None] = {}
        # Those that may have ended: worth a look before its time.
        self._suspects: dict[str, None] = {}
        # Those that there are, so that one which is not found was deleted.
        self._there: dict[str, None] = {}
        self._count = 0
        self._next_look = 0.0
        self._looked = 0

    def __enter__(self) -> Waiter:
        """Begin to wait."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for nothing any more."""
        self.forget([*self._expected])

    def expect(self, names: Iterable[str], *, new: bool = False, there: bool = False) -> None:
        """Wait for these too; `new` ones are about to be begun, so none of them has ended.

        Those that are `there`, before the next wait, have ended when they are deleted.
        """
        for name in names:
            if there:
                self._there[name] = None
            if name in self._expected:
                continue
            self._count += 1
            self._expected[name] = self._count
            self._ends.add(name, self)
            if not new:
                self._next_look = 0.0

    def forget(self, names: Iterable[str]) -> None:
        """Do not wait for these any more."""
        for name in names:
            if self._expected.pop(name, None) is not None:
                self._ends.remove(name, self)
                self._ended.pop(name, None)
                self._suspects.pop(name, None)
                self._there.pop(name, None)

    def hear(self, name: str, text: str | None) -> None:
        """Take in that one has returned this, or, without it, that it may have ended."""
        if text is None:
            self._suspects[name] = None
        else:
            self._ended[name] = text
        self._news.set()

    def wake(self) -> None:
        """End this wait, or the next one, though nothing has ended."""
        self._woken = True
        self._news.set()

    def look_soon(self) -> None:
        """Look at all that is waited for: news of it may be lost."""
        self._next_look = 0.0
        self._news.set()

    def text_of(self, name: str) -> str | None:
        """Return what one has returned, None if that has to be read from the database."""
        return self._ended.get(name)

    async def wait(self, until: float | None = None) -> dict[str, Any]:
        """Wait until some have ended, or until then, on the server's clock; in their order.

        None has where this was woken.
        """
        while True:
            self._news.clear()
            await self._look()
            now = self._database.now()
            if self._ended or self._woken or (until is not None and now >= until):
                self._woken = False
                ended = sorted(self._ended, key=self._expected.__getitem__)
                return {"ended": ended, "now": now}
            pause = max(0.0, self._next_look - time.monotonic())
            if until is not None:
                pause = max(0.0, min(pause, until - now))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def _look(self) -> None:
        """Ask the database for those that may have ended, if it is time."""
        asked = [*self._suspects]
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + self._polling
            # What runs here tells by itself.
            elsewhere = [
                each
                for each in self._expected
                if each not in self._ended and not self._runs_here(each)
            ]
            asked += elsewhere[self._looked : self._looked + _LOOK]
            self._looked += _LOOK
            if self._looked >= len(elsewhere):
                self._looked = 0
        self._suspects.clear()
        if asked:
            found = await self._database.ended(asked)
            for name in asked:
                if name in self._expected and found.get(name, name in self._there):
                    self._ended.setdefault(name, None)


@final
class Ends:
    """Who waits for what, and what runs, in this process."""

    def __init__(self, database: Database, polling: float) -> None:
        """Start with nobody."""
        self._database = database
        self._polling = polling
        self._waiters: dict[str, list[Waiter]] = {}
        self._running: dict[str, int] = {}

    def waiter(self) -> Waiter:
        """Return one who waits for nothing yet."""
        return Waiter(self._database, self._polling, self._running.__contains__, self)

    def add(self, name: str, waiter: Waiter) -> None:
        """Let a waiter hear of this workflow."""
        self._waiters.setdefault(name, []).append(waiter)

    def remove(self, name: str, waiter: Waiter) -> None:
        """Let a waiter hear of this workflow no more."""
        waiters = self._waiters[name]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[name]

    def look_soon(self) -> None:
        """Let everybody look."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.look_soon()

    def begin(self, name: str) -> None:
        """Take note that this workflow runs here; a stale execution of it may, too."""
        self._running[name] = self._running.get(name, 0) + 1

    def end(self, name: str, text: str | None) -> None:
        """Tell that it has ended here, with what it returned if that is recorded."""
        count = self._running.pop(name) - 1
        if count:
            self._running[name] = count
        self.tell(name, text)

    def tell(self, name: str, text: str | None = None) -> None:
        """Tell those who wait for this workflow that it has ended, or may have."""
        for waiter in self._waiters.get(name, ()):
            waiter.hear(name, text)
