"""The backlog: what is on its way into a journal, and who waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import final

import anyio
from anyio import CancelScope

from dagexec.journal._base import OnDurable, Record, Session


@final
class Entry:
    """A record that somebody waits for."""

    __slots__ = ("_wake", "error", "is_over")

    def __init__(self, wake: Callable[[], None]) -> None:
        """Begin on its way."""
        self.is_over = False
        # What kept it from being recorded.
        self.error: Exception | None = None
        self._wake = wake

    def done(self, error: Exception | None) -> None:
        """Take what became of it."""
        self.error = error
        self.is_over = True
        self._wake()


@final
class Backlog:
    """Appends a run's records to its journal and reports each, in order, once it is durable.

    The order matters: a replay repeats it. Any task that waits here may do the reporting.

    | method | the record | who hears of it, and when |
    |---|---|---|
    | `append` | is appended | nobody: the next that is waited for would fail as well |
    | `append_reported` | is appended | `report`, in the order of all of these, once it is durable |
    | `append_reported_and_wait` | is appended | the same, and the caller waits until it has heard |
    | `append_awaited`, `wait` | is appended | the caller, who waits until it is durable |
    """

    __slots__ = ("_arrived", "_at_once", "_news", "_reporting", "_session", "under_way")

    def __init__(self, session: Session) -> None:
        """Begin with nothing under way."""
        self._session = session
        # Records that were appended to be reported, and are not yet.
        self.under_way = 0
        # Those of them that are durable, or failed: what is left to do is to report them.
        self._arrived: deque[Callable[[], None]] = deque()
        # While one is reported; what that leads to has its turn behind the rest.
        self._reporting = False
        # While a record is appended: a journal in memory has it at once.
        self._at_once = False
        # One event for all that wait, because what one commit makes durable wakes many.
        self._news: anyio.Event | None = None

    def append(self, *records: Record) -> None:
        """Append records that nobody waits for: the next that is waited for would fail as well."""
        for record in records:
            self._session.append(record, _ignore)

    def append_reported(self, record: Record, report: OnDurable) -> None:
        """Append a record; `report` hears that it is durable, or what kept it from being so."""
        self.under_way += 1
        self._at_once = True
        self._session.append(record, partial(self._arrive, report))
        self._at_once = False

    async def append_reported_and_wait(self, record: Record, report: OnDurable) -> None:
        """Append a record as `append_reported` does, and wait until `report` has been called."""
        heard: list[Exception | None] = []

        def hear(error: Exception | None) -> None:
            heard.append(error)
            report(error)

        self.append_reported(record, hear)
        while not heard:
            if not self._arrived:
                await self._wait()
            self.report_arrived()

    def append_awaited(self, record: Record) -> Entry:
        """Append a record that is waited for with `wait`."""
        entry = Entry(self.wake)
        self._session.append(record, entry.done)
        return entry

    async def wait(self, entry: Entry) -> None:
        """Wait until an entry is durable or has failed, and report what stands before it."""
        while not entry.is_over:
            await self._wait()
        self.report_arrived()

    async def report_until(self, ended: anyio.Event) -> None:
        """Report what becomes durable, until the run has ended."""
        while not ended.is_set():
            if not self._arrived:
                await self._wait()
            self.report_arrived()

    async def drain(self) -> None:
        """Wait until everything under way has been reported."""
        with CancelScope(shield=True):
            while self.under_way:
                if not self._arrived:
                    await self._wait()
                self.report_arrived()

    def report_arrived(self) -> None:
        """Report what has become durable."""
        if self._reporting:
            return
        self._reporting = True
        try:
            while self._arrived:
                self.under_way -= 1
                self._arrived.popleft()()
        finally:
            self._reporting = False

    def wake(self) -> None:
        """Wake whoever waits, to look again."""
        if self._news is not None:
            self._news.set()
            self._news = None

    def _arrive(self, report: OnDurable, error: Exception | None) -> None:
        self._arrived.append(partial(report, error))
        if self._at_once:
            self.report_arrived()
        else:
            self.wake()

    async def _wait(self) -> None:
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()


def _ignore(_error: Exception | None) -> None: ...
