"""The backlog: what is on its way into a journal, and who waits for it."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, final

import anyio
from anyio import CancelScope

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagexec.journal._base import Done, Record, Session


@final
class Entry:
    """A record that somebody waits for."""

    __slots__ = ("_wake", "error", "is_durable")

    def __init__(self, wake: Callable[[], None]) -> None:
        """Begin on its way."""
        self.is_durable = False
        # What kept it from being recorded.
        self.error: Exception | None = None
        self._wake = wake

    def done(self, error: Exception | None) -> None:
        """Take what became of it."""
        self.error = error
        self.is_durable = True
        self._wake()


@final
class Backlog:
    """Adds the records of one run to its journal; lets be heard of them in their order.

    In their order, because a replay tells them in it. Whoever waits may be the one who tells.
    """

    __slots__ = ("_arrived", "_at_once", "_news", "_session", "_telling", "under_way")

    def __init__(self, session: Session) -> None:
        """Begin with nothing under way."""
        self._session = session
        # Records whose `hear` has not been called.
        self.under_way = 0
        self._arrived: deque[Callable[[], None]] = deque()
        self._telling = False
        # While a record is added: a journal in memory has it at once.
        self._at_once = False
        # One event for all that wait, because what one commit makes durable wakes many.
        self._news: anyio.Event | None = None

    def put(self, record: Record, hear: Done) -> None:
        """Add a record; `hear` is called when it is durable, or with what kept it from being so."""
        self.under_way += 1
        self._at_once = True
        self._session.append(record, partial(self._arrive, hear))
        self._at_once = False

    def add(self, *records: Record) -> None:
        """Add records that nobody waits for: the next that is waited for would fail as well."""
        for record in records:
            self._session.append(record, _ignore)

    def enter(self, record: Record) -> Entry:
        """Add a record that is waited for with `wait`."""
        entry = Entry(self.wake)
        self._session.append(record, entry.done)
        return entry

    async def wait(self, entry: Entry) -> None:
        """Wait until an entry is durable or failed, and tell of what stands before it."""
        while not entry.is_durable:
            await self._wait()
        self.tell()

    async def hear(self, record: Record, hear: Done) -> None:
        """Add a record as `put` does, and wait until it has been told of."""
        told: list[Exception | None] = []

        def heard(error: Exception | None) -> None:
            told.append(error)
            hear(error)

        self.put(record, heard)
        while not told:
            if not self._arrived:
                await self._wait()
            self.tell()

    async def deliver(self, ended: anyio.Event) -> None:
        """Tell of what becomes durable, until the run has ended."""
        while not ended.is_set():
            if not self._arrived:
                await self._wait()
            self.tell()

    async def drain(self) -> None:
        """Wait until everything under way has been told of."""
        with CancelScope(shield=True):
            while self.under_way:
                if not self._arrived:
                    await self._wait()
                self.tell()

    def tell(self) -> None:
        """Tell of what has become durable."""
        if self._telling:
            return  # what was heard of led to more: that has its turn behind the rest
        self._telling = True
        try:
            while self._arrived:
                self.under_way -= 1
                self._arrived.popleft()()
        finally:
            self._telling = False

    def wake(self) -> None:
        """Let those look who wait."""
        if self._news is not None:
            self._news.set()
            self._news = None

    def _arrive(self, hear: Done, error: Exception | None) -> None:
        self._arrived.append(partial(hear, error))
        if self._at_once:
            self.tell()
        else:
            self.wake()

    async def _wait(self) -> None:
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()


def _ignore(_error: Exception | None) -> None: ...
