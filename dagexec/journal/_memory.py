"""A journal in memory: for tests, and to answer pending calls within one process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import final
from weakref import ref

from anyio.lowlevel import current_token

from dagexec._concurrency import forks
from dagexec._core.names import checked_id
from dagexec._core.wrong_names import explained
from dagexec._errors import JournalError, RunOwned
from dagexec.journal._base import OnDurable, Record, RunInfo, Session, unknown_run
from dagexec.journal._codec import Types
from dagexec.journal._loops import state_of


@explained
@final
class MemoryJournal:
    """Keeps runs as long as the process lives; nothing waits and nothing is written.

    Values go through the same encoding as in a file, so that what can be resumed from here can be
    resumed from there.
    """

    def __init__(self, *, types: Types | None = None) -> None:
        """Start empty."""
        self.types = types or Types()
        self._runs: dict[str, _Run] = {}
        forks.forgets(self)

    def after_fork(self) -> None:
        """Let the parent's runs be taken up in a forked child: in its copy nobody drives them."""
        for run in self._runs.values():
            run.owner = None

    async def claim(self, run_id: str, first: Record | None = None) -> Session:
        """Become the owner of a run, or begin it with `first`."""
        run = self._runs.get(checked_id(run_id))
        new = run is None
        if run is None:
            if first is None:
                raise JournalError(unknown_run(run_id, "the journal", known=[*self._runs]))
            run = _Run()
            run.add(first, self.types)
            self._runs[run_id] = run
        elif run.is_driven:
            msg = f"the run {run_id!r} is being driven by another call of run() or resume()"
            raise RunOwned(msg)
        # What was just given is given back as it is.
        records = [first] if first is not None and new else run.read(self.types)
        run.state = "open"
        session = _MemorySession(run_id, run, self.types, records)
        run.owner = ref(session)
        run.loop = current_token().native_token
        return session

    async def read(self, run_id: str) -> Sequence[Record]:
        """Return the records of a run."""
        run = self._runs.get(checked_id(run_id))
        if run is None:
            raise JournalError(unknown_run(run_id, "the journal", known=[*self._runs]))
        return run.read(self.types)

    async def runs(self) -> Sequence[RunInfo]:
        """Return a line about each run, oldest first."""
        return [
            RunInfo(
                name,
                {"open": "running" if run.is_driven else "stale"}.get(run.state, run.state),
                run.records[0][0],
                run.created,
                run.updated,
                run.summary,
                "this process" if run.is_driven else None,
                run.waiting,
            )
            for name, run in self._runs.items()
        ]

    def copy(self) -> MemoryJournal:
        """Return what a crash at this moment would leave: the records, and no owner."""
        other = MemoryJournal(types=self.types)
        for name, run in self._runs.items():
            left = other._runs[name] = _Run()
            left.records = list(run.records)
            left.state = run.state
            left.waiting = run.waiting
        return other


class _Run:
    """The records of a run, as text."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str | None, str]] = []
        # Who drives it, and in which event loop: both may be gone without a word.
        self.owner: ref[_MemorySession] | None = None
        self.loop: object = None
        self.state = "open"
        self.summary = ""
        self.waiting: tuple[str, ...] = ()
        self.created = self.updated = time.time()

    @property
    def is_driven(self) -> bool:
        """Whether somebody drives it, as far as anybody can see."""
        return (
            self.owner is not None and self.owner() is not None and state_of(self.loop) != "ended"
        )

    def add(self, record: Record, types: Types) -> None:
        self.records.append((record.kind, record.call, types.dumps(record.body)))
        self.updated = time.time()

    def read(self, types: Types) -> list[Record]:
        return [Record(kind, call, types.loads(body)) for kind, call, body in self.records]


@final
class _MemorySession:
    """A run that is owned."""

    def __init__(self, run_id: str, run: _Run, types: Types, records: list[Record]) -> None:
        self.run_id = run_id
        self.records = records
        self._run = run
        self._types = types

    def append(self, record: Record, done: OnDurable) -> None:
        try:
            self._run.add(record, self._types)
        except JournalError as error:
            done(error)
        else:
            done(None)

    async def release(self, state: str, summary: str = "", waiting: Sequence[str] = ()) -> None:
        self._run.owner = self._run.loop = None
        self._run.state = state
        self._run.summary = summary
        self._run.waiting = tuple(waiting)
