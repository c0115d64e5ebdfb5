"""A journal for a run inside a call that people may answer: written down once it is needed.

A run inside a tool has no id of its own: it ends with its call, and begins again with it. Only when
the call has to wait for a person what its runs have done must not be lost, or they would do it a
second time. So their records are kept in memory, and written to the journal when the call waits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, final

from dagexec._errors import JournalError
from dagexec.journal._base import Done, Journal, Record, RunInfo, Session

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
        self._kept: list[_Kept] = []
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

    async def ended(self, run: _Kept) -> None:
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

    async def _write(self, run: _Kept) -> None:
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

    def append(self, record: Record, done: Done) -> None:
        self.records.append(record)
        done(None)

    async def release(self, state: str, summary: str = "", waiting: Sequence[str] = ()) -> None:
        self.state, self.summary, self.waiting = state, summary, waiting
        await self._runs.ended(self)
