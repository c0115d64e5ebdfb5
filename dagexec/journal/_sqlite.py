"""A journal in one SQLite file.

One thread does all that touches the file, so the event loop never waits for a disk, and no pool of
threads has to have room. What many calls have to record at the same moment it writes in one
transaction, with one sync of the disk: durability costs each of them a fraction of it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, final

from anyio import CancelScope
from anyio.lowlevel import current_token

from dagexec._concurrency import forks
from dagexec._concurrency.loops import call_soon, in_event_loop
from dagexec._core.names import checked_id
from dagexec._core.wrong_names import explained
from dagexec._errors import JournalError
from dagexec.journal._base import OnDurable, Record, RunInfo, Session
from dagexec.journal._codec import Types
from dagexec.journal._owned import Ownership
from dagexec.journal._writer import Entries, Job, Writer

T = TypeVar("T")

_log: Final = logging.getLogger("dagexec")

# Bodies longer than this, in characters, go into files of their own.
LARGE: Final = 256 * 1024
# Seconds that `close` stops an event loop for.
_PATIENCE: Final = 1.0


@explained
@final
class SqliteJournal:
    """Records runs in a SQLite file: write-ahead log, `synchronous=FULL`.

    Args:
        path: The file; made if it is not there. Beside it lie SQLite's own `-wal` and `-shm`,
            `-mark`, which tells when the end of the log was cut off, and `-values` for large
            values.
        types: How values beyond JSON, the standard library's types, dataclasses and pydantic models
            are written (`dagexec.journal.Types`).

    Arguments that a tool declares secret are not written; values that tools return are, and so are
    the texts of errors. The file is opened at the first run and closed when none is open any more;
    opening checks all of it. Several processes may use one file; it has to be on a local disk.

    Raises JournalError, from every method, with cause and way out.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, types: Types | None = None, large: int = LARGE
    ) -> None:
        """Keep the path; nothing is opened. `large` is in characters of JSON."""
        if str(path) == ":memory:":
            msg = "SqliteJournal needs a file; MemoryJournal() keeps runs in memory"
            raise JournalError(msg)
        self.path = Path(path)
        self.types = types or Types()
        self._large = large
        self._lock = threading.Lock()
        self._thread: Writer | None = None
        # Why it cannot be used in this process, if so.
        self._unusable: JournalError | None = None
        forks.forgets(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child: the thread, the runs and their leases are the parent's."""
        self._lock = threading.Lock()
        if self._thread is not None and self._thread.was_open:
            self._unusable = JournalError(
                f"the journal {self.path} was writing when this process was forked, and could not"
                " be closed in time: use it in a process that is started, not forked"
            )
        self._thread = None

    async def claim(self, run_id: str, first: Record | None = None) -> Session:
        """Become the one owner of a run; with `first`, begin it if there is no such run."""
        name = checked_id(run_id)
        native: Any = current_token().native_token

        def work(thread: Writer) -> _SqliteSession:
            session = _SqliteSession(thread.claim(name, first), thread, native)
            # Before the thread looks for work that is left.
            thread.hold(session)
            return session

        return await self._do(work, lambda thread, session: thread.give_up(session.owned))

    async def read(self, run_id: str) -> Sequence[Record]:
        """Return the records of a run without owning it."""
        name = checked_id(run_id)
        return await self._do(lambda thread: thread.store().read(name))

    async def runs(self) -> Sequence[RunInfo]:
        """Return a line about each run, oldest first."""
        return await self._do(lambda thread: thread.store().runs())

    async def forget(self, run_id: str) -> None:
        """Delete a run and its values; raise RunOwned while it is being driven."""
        name = checked_id(run_id)
        await self._do(lambda thread: thread.store().forget(name))

    def close(self) -> None:
        """Close the file now, when no run is open; it would be closed a second later anyway.

        Raises JournalError while runs are open: the file is closed when they have ended. In an
        event loop, which stands still meanwhile, it waits a second at most for what is still to be
        written, and raises JournalError then.
        """
        with self._lock:
            thread = self._thread
        patience = _PATIENCE if in_event_loop() else threading.TIMEOUT_MAX
        open_runs = [] if thread is None else thread.close(patience)
        if open_runs is None:
            msg = (
                f"the journal {self.path} is still being written, because another process holds it"
                f" or its disk is slow: in an event loop close() waits {_PATIENCE:g} s for that,"
                " outside of one until it is done. It closes by itself a second after that"
            )
            raise JournalError(msg)
        if open_runs:
            names = ", ".join(map(repr, open_runs[:5])) + (", …" if len(open_runs) > 5 else "")  # noqa: PLR2004 - enough to find them
            msg = (
                f"the journal {self.path} cannot be closed: its runs {names} have not ended; close"
                " it when they have (it closes by itself a second later)"
            )
            raise JournalError(msg)

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; raise JournalError, or log it behind another error, if a run is open."""
        try:
            self.close()
        except JournalError as still_open:
            if error is None:
                raise
            _log.warning("%s", still_open)

    def __repr__(self) -> str:
        """Return the path."""
        return f"SqliteJournal({str(self.path)!r})"

    async def _do(
        self,
        work: Callable[[Writer], T],
        undo: Callable[[Writer, T], object] | None = None,
    ) -> T:
        """Let the thread do something, and return what it returns; not to be cancelled half-way.

        asyncio's own cancellation is not held back by a shield: it undoes what was done.
        """
        job = Job(work, current_token().native_token, undo)
        with CancelScope(shield=True):
            self._put(job)
            await job.wait()
        return job.result()

    def _put(self, job: Job[Any]) -> None:
        with self._lock:
            if self._unusable is not None:
                raise self._unusable
            if self._thread is None or not self._thread.take(job):
                thread = Writer(self.path, self.types, self._large)
                thread.start()
                thread.take(job)
                self._thread = thread


@final
class _SqliteSession:
    """A run that this process owns; used in one event loop."""

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_soon",
        "_thread",
        "native",
        "owned",
        "records",
        "run_id",
    )

    def __init__(self, owned: Ownership, thread: Writer, native: Any) -> None:
        self.owned = owned
        self.run_id = owned.run_id
        self.records: Sequence[Record] = owned.records
        self.native = native
        self._thread = thread
        self._buffer: Entries = []
        # At the end of this turn of the event loop, so that all that it records goes together.
        self._soon: Callable[..., Any] = getattr(native, "call_soon", None) or native.run_sync_soon

    def append(self, record: Record, done: OnDurable) -> None:
        buffer = self._buffer
        if not buffer:
            self._soon(self._flush)
        buffer.append((record, done))

    def _flush(self) -> None:
        if self._buffer:
            entries, self._buffer = self._buffer, []
            self._thread.put((self, entries))

    def deliver(self, results: list[tuple[OnDurable, Exception | None]]) -> None:
        call_soon(self.native, _tell, results)

    async def release(self, state: str, summary: str = "", waiting: Sequence[str] = ()) -> None:
        self._flush()
        names = self._thread.types.dumps(list(waiting))
        owned = self.owned
        native = current_token().native_token
        job = Job(lambda thread: thread.end(owned, state, summary, names), native)
        self._thread.put(job)
        with CancelScope(shield=True):
            await job.wait()
        job.result()


def _tell(results: list[tuple[OnDurable, Exception | None]]) -> None:
    for done, error in results:
        done(error)
