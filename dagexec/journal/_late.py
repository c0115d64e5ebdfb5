"""A journal for a run inside a call that people may answer: written down once it is needed.

A run inside a tool has no id of its own: it ends with its call, and begins again with it. Only when
the call has to wait for a person what its runs have done must not be lost, or they would do it a
second time. So what the scheduler is told is kept in memory, and written to the journal then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, final, get_args

from dagexec._core.scheduler import Added, Closed, Event
from dagexec._errors import JournalError
from dagexec.journal._base import Journal, OnDurable, Record, RunInfo, Session
from dagexec.journal._records import to_record

_log: Final = logging.getLogger("dagexec")


@final
class InnerRuns:
    """The runs that one call has begun, in their order, less those that the journal has."""

    __slots__ = ("_kept", "_waits", "journal", "known")

    def __init__(self, journal: Journal, *, known: bool) -> None:
        """Begin without runs; `known` says whether a journal may have them from an attempt before.

        Without that the journal is not asked.
        """
        self.journal = journal
        self.known = known
        self._kept: list[_Kept | Log] = []
        # Whether one of them waits, so that what the others have done must not be lost.
        self._waits = False

    async def claim(self, run_id: str, first: Record | None = None) -> Session:
        """Become the owner of a run that the journal has, or begin one in memory."""
        if first is None or (self.known and await self._has(run_id)):
            return await self.journal.claim(run_id, first)
        kept = _Kept(run_id, self, [first])
        self._kept.append(kept)
        return kept

    async def _has(self, run_id: str) -> bool:
        try:
            await self.journal.read(run_id)
        except JournalError:
            return False
        return True

    async def read(self, run_id: str) -> Sequence[Record]:
        """Return the records of a run that the journal has."""
        return await self.journal.read(run_id)

    async def runs(self) -> Sequence[RunInfo]:
        """Return a line about each run that the journal has."""
        return await self.journal.runs()

    def log(self, run_id: str, first: Callable[[], Record]) -> Log:
        """Return what keeps a run that this journal does not have; `first` begins its records."""
        log = Log(run_id, self, first)
        self._kept.append(log)
        return log

    async def ended(self, run: _Kept | Log) -> None:
        """Write down what has ended, once a run waits for a person."""
        self._waits = self._waits or run.state == "waiting"
        if not self._waits:
            return
        for each in [each for each in self._kept if each.state in ("waiting", "done")]:
            self._kept.remove(each)
            try:
                await self._write(each)
            except JournalError as error:  # the call waits all the same
                _log.error(
                    "the run %r inside a call that waits could not be recorded, and begins anew"
                    " with it: %s",
                    each.run_id,
                    error,
                )

    async def _write(self, run: _Kept | Log) -> None:
        errors: list[Exception] = []

        def done(error: Exception | None) -> None:
            if error is not None:
                errors.append(error)

        first, *rest = run.records
        session = await self.journal.claim(run.run_id, first)
        for record in rest if len(session.records) == 1 else ():
            session.append(record, done)
        await session.release(run.state, run.summary, run.waiting)
        if errors:
            raise JournalError(str(errors[0])) from errors[0]


@final
class Log:
    """A run that nobody records: what its scheduler is told, which costs next to nothing."""

    def __init__(self, run_id: str, runs: InnerRuns, first: Callable[[], Record]) -> None:
        """Begin without events."""
        self.run_id = run_id
        self.state = ""
        self.summary = ""
        self.waiting: Sequence[str] = ()
        self._first = first
        self._events: list[Any] = []
        self._runs = runs
        self._end: Record | None = None
        # An observer of the run.
        self.hear = self._events.append

    @property
    def records(self) -> list[Record]:
        """The records of the run."""
        first = self._first()
        # The calls of a whole plan stand in its first record.
        known = (Added, Closed) if first.kind == "plan" else ()
        told = [each for each in self._events if isinstance(each, get_args(Event))]
        records = [to_record(each) for each in told if not isinstance(each, known)]
        return [first, *records, *([] if self._end is None else [self._end])]

    async def end(self, waiting: Sequence[str], last: Record) -> None:
        """Note how the run has ended, and its last record; written down if its call waits."""
        self.state, self.waiting = "waiting" if waiting else "done", waiting
        self._end = last
        await self._runs.ended(self)


@final
class _Kept:
    """A run whose records are kept in memory, as they are."""

    def __init__(self, run_id: str, runs: InnerRuns, records: list[Record]) -> None:
        self.run_id = run_id
        self.records = records
        # Set when it was given up.
        self.state = ""
        self.summary = ""
        self.waiting: Sequence[str] = ()
        self._runs = runs

    def append(self, record: Record, done: OnDurable) -> None:
        self.records.append(record)
        done(None)

    async def release(self, state: str, summary: str = "", waiting: Sequence[str] = ()) -> None:
        self.state, self.summary, self.waiting = state, summary, waiting
        await self._runs.ended(self)
