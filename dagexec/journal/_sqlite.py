"""A journal in one SQLite file.

One thread does all that touches the file, so the event loop never waits for a disk, and no pool of
threads has to have room. What many calls have to record at the same moment it writes in one
transaction, with one sync of the disk: durability costs each of them a fraction of it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final

import anyio
from anyio import CancelScope
from anyio.lowlevel import current_token

from dagexec._errors import JournalError
from dagexec.journal._base import LEASE, Done, Record, RunInfo, Session
from dagexec.journal._codec import Types
from dagexec.journal._store import Ownership, Store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

T = TypeVar("T")
_Entries = list[tuple[Record, Done]]
_Row = tuple[str, str | None, str]

# Seconds after which the thread ends and the file is closed, if no run is open.
_IDLE: Final = 1.0
# Bodies longer than this, in characters, go into files of their own.
LARGE: Final = 256 * 1024


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
        self._thread: _Thread | None = None

    async def claim(self, run_id: str, first: Record | None = None) -> Session:
        """Become the one owner of a run; with `first`, begin it if there is no such run."""
        native: Any = current_token().native_token
        # The thread must know of the session before it looks for work that is left.
        return await self._do(lambda thread: thread.open(run_id, first, native))

    async def read(self, run_id: str) -> Sequence[Record]:
        """Return the records of a run without owning it."""
        return await self._do(lambda thread: thread.store().read(run_id))

    async def runs(self) -> Sequence[RunInfo]:
        """Return a line about each run, oldest first."""
        return await self._do(lambda thread: thread.store().runs())

    async def forget(self, run_id: str) -> None:
        """Delete a run and its values; raise RunOwned while it is being driven."""
        await self._do(lambda thread: thread.store().forget(run_id))

    def close(self) -> None:
        """Close the file now, when no run is open; it would be closed a second later anyway."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.put(None)
            thread.join()

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def __repr__(self) -> str:
        """Return the path."""
        return f"SqliteJournal({str(self.path)!r})"

    async def _do(self, work: Callable[[_Thread], T]) -> T:
        """Let the thread do something, and return what it returns; not to be cancelled half-way."""
        reply: _Reply[T] = _Reply(current_token().native_token)
        with CancelScope(shield=True):
            self._put(partial(_run_job, work, reply))
            await reply.event.wait()
        if reply.error is not None:
            raise reply.error
        return reply.value

    def _put(self, job: Callable[[_Thread], None]) -> None:
        with self._lock:
            if self._thread is None or not self._thread.take(job):
                self._thread = _Thread(self.path, self.types, self._large)
                self._thread.take(job)
                self._thread.start()


@final
class _Reply(Generic[T]):
    """What a job returned or raised, on its way back into the event loop that asked."""

    def __init__(self, native: Any) -> None:
        self.event = anyio.Event()
        self.value: T
        self.error: BaseException | None = None
        self.native = native


def _run_job(work: Callable[[_Thread], T], reply: _Reply[T], thread: _Thread) -> None:
    try:
        reply.value = work(thread)
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        reply.error = error
    post(reply.native, reply.event.set)


def post(native: Any, function: Callable[..., Any], *args: Any) -> None:
    """Call a function in the event loop of this token, soon; does nothing when it has ended."""
    soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    with contextlib.suppress(RuntimeError):
        soon(function, *args)


@final
class _SqliteSession:
    """A run that this process owns; used in one event loop."""

    __slots__ = ("_buffer", "_native", "_soon", "_thread", "owned", "records", "run_id")

    def __init__(self, owned: Ownership, thread: _Thread, native: Any) -> None:
        self.owned = owned
        self.run_id = owned.run_id
        self.records: Sequence[Record] = owned.records
        self._thread = thread
        self._native = native
        self._buffer: _Entries = []
        # At the end of this turn of the event loop, so that all that it records goes together.
        self._soon: Callable[..., Any] = getattr(native, "call_soon", None) or native.run_sync_soon

    def append(self, record: Record, done: Done) -> None:
        buffer = self._buffer
        if not buffer:
            self._soon(self._flush)
        buffer.append((record, done))

    def _flush(self) -> None:
        if self._buffer:
            entries, self._buffer = self._buffer, []
            self._thread.put((self, entries))

    def deliver(self, results: list[tuple[Done, Exception | None]]) -> None:
        post(self._native, _tell, results)

    async def release(self, state: str, summary: str = "", waiting: Sequence[str] = ()) -> None:
        self._flush()
        names = self._thread.types.dumps(list(waiting))
        reply: _Reply[None] = _Reply(self._native)
        job = partial(_run_job, lambda thread: thread.end(self, state, summary, names), reply)
        self._thread.put(job)
        with CancelScope(shield=True):
            await reply.event.wait()
        if reply.error is not None:
            raise reply.error


def _tell(results: list[tuple[Done, Exception | None]]) -> None:
    for done, error in results:
        done(error)


@final
class _Thread(threading.Thread):
    """The one that reads and writes; ends by itself a while after the last run was given up."""

    def __init__(self, path: Path, types: Types, large: int) -> None:
        super().__init__(name="dagexec journal", daemon=True)
        self.types = types
        self._path = path
        self._large = large
        self._store: Store | None = None
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._ended = False
        self._sessions: list[_SqliteSession] = []
        self._renewed = time.monotonic()

    # ------------------------------------------------------------------------- from other threads

    def put(self, item: Any) -> None:
        """Hand over work; the thread lives as long as there is a session."""
        self._queue.put(item)

    def take(self, job: Any) -> bool:
        """Hand over work, unless the thread has ended."""
        with self._gate:
            if self._ended:
                return False
            self._queue.put(job)
            return True

    # ------------------------------------------------------------------------------ in this thread

    def run(self) -> None:
        try:
            while True:
                items = self._wait()
                if not items and self._may_end():
                    return
                self._work(items)
                self._renew()
        finally:
            if self._store is not None:
                self._store.close()

    def _wait(self) -> list[Any]:
        """Return all the work that there is, as soon as there is some; none after a while."""
        try:
            item = self._queue.get(timeout=LEASE / 3 if self._sessions else _IDLE)
        except queue.Empty:
            return []
        items = [item]
        with contextlib.suppress(queue.Empty):
            while True:
                items.append(self._queue.get_nowait())
        if self._sessions:
            return [item for item in items if item is not None] or items
        return [] if items == [None] else [item for item in items if item is not None]

    def _may_end(self) -> bool:
        with self._gate:
            self._ended = not self._sessions and self._queue.empty()
            return self._ended

    def _work(self, items: list[Any]) -> None:
        batches: list[tuple[_SqliteSession, _Entries]] = []
        for item in items:
            if isinstance(item, tuple):
                batches.append(cast("tuple[_SqliteSession, _Entries]", item))
            elif item is not None:
                self._write(batches)
                batches = []
                item(self)
        self._write(batches)

    def store(self) -> Store:
        """Return the open file; raise JournalError."""
        if self._store is None:
            self._store = Store(self._path, self.types, self._large)
        return self._store

    def open(self, run_id: str, first: Record | None, native: Any) -> _SqliteSession:
        """Claim a run."""
        session = _SqliteSession(self.store().claim(run_id, first), self, native)
        self._sessions.append(session)
        return session

    def end(self, session: _SqliteSession, state: str, summary: str, waiting: str) -> None:
        """Give a run up."""
        self._sessions.remove(session)
        self.store().release(session.owned, state, summary, waiting)

    def _renew(self) -> None:
        now = time.monotonic()
        if self._sessions and now - self._renewed > LEASE / 3:
            self._renewed = now
            with contextlib.suppress(JournalError):
                self.store().renew([session.owned for session in self._sessions])

    def _write(self, batches: list[tuple[_SqliteSession, _Entries]]) -> None:
        """Write records in one transaction; if that fails, each by itself, for what still fits."""
        if not batches:
            return
        encoded = [(session, self._encode(session, entries)) for session, entries in batches]
        try:
            self._commit(encoded)
        except JournalError:
            for session, rows in encoded:
                for row in rows:
                    if row.error is None:
                        self._commit_alone(session, row)
        for session, rows in encoded:
            session.deliver([(row.done, row.error) for row in rows])

    def _encode(self, session: _SqliteSession, entries: _Entries) -> list[_Pending]:
        store, run_id = self.store(), session.run_id
        rows: list[_Pending] = []
        for record, done in entries:
            row = _Pending(done)
            rows.append(row)
            try:
                if session.owned.lost is not None:
                    raise session.owned.lost  # noqa: TRY301 - told like any other
                row.row = (record.kind, record.call, store.encode(run_id, record))
            except JournalError as error:
                row.error = error
            except Exception as error:  # noqa: BLE001 - a registered type's own code
                row.error = JournalError(f"a value cannot be recorded: {error!r:.200}")
        return rows

    def _commit(self, encoded: list[tuple[_SqliteSession, list[_Pending]]]) -> None:
        store = self.store()
        before = [(each.owned, each.owned.last, each.owned.checksum) for each, _ in encoded]
        try:
            with store.transaction():
                for session, rows in encoded:
                    good = [row.row for row in rows if row.error is None]
                    if good:
                        store.append(session.owned, good)
        except BaseException:
            for owned, last, checksum in reversed(before):
                owned.last, owned.checksum = last, checksum
            raise

    def _commit_alone(self, session: _SqliteSession, row: _Pending) -> None:
        try:
            if session.owned.lost is not None:
                raise session.owned.lost
            self._commit([(session, [row])])
        except JournalError as error:
            row.error = error


@final
class _Pending:
    """A record on its way into the file."""

    __slots__ = ("done", "error", "row")

    def __init__(self, done: Done) -> None:
        self.done = done
        self.error: Exception | None = None
        self.row: _Row = ("", None, "")
