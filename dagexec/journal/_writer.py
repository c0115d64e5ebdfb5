"""The thread that reads and writes a journal's file.

Nothing that it is given is ever lost without a word: it hands back a value or an error, and if it
dies itself it says so to all who wait, and to all who come later.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar, cast, final
from weakref import ref

import anyio

from dagexec._concurrency import forks
from dagexec._concurrency.loops import call_soon
from dagexec._errors import JournalError
from dagexec.journal._base import LEASE, OnDurable, Record
from dagexec.journal._codec import Types
from dagexec.journal._loops import state_of
from dagexec.journal._owned import Ownership
from dagexec.journal._store import Store

T = TypeVar("T")
Entries = list[tuple[Record, OnDurable]]
_Row = tuple[str, str | None, str]

# Seconds after which the thread ends and the file is closed, if no run is open.
_IDLE: Final = 1.0
# Seconds that a fork waits for a transaction to end.
_FORK: Final = 5.0


class Owned(Protocol):
    """A run that this process owns, as the thread sees it; held weakly."""

    @property
    def owned(self) -> Ownership:
        """Its place in the file."""
        ...

    @property
    def native(self) -> Any:
        """The token of its event loop."""
        ...

    def deliver(self, results: list[tuple[OnDurable, Exception | None]]) -> None:
        """Hand back what became of its records."""
        ...


@final
class Job(Generic[T]):
    """Something that the thread does for a task, and what it returned or raised.

    A task that is cancelled while it waits abandons it: what was not begun is left out, and what
    had a result is undone.
    """

    def __init__(
        self,
        work: Callable[[Writer], T],
        native: Any,
        undo: Callable[[Writer, T], object] | None = None,
    ) -> None:
        """Prepare it, in the event loop that will wait."""
        self.event = anyio.Event()
        self.value: T
        self.error: BaseException | None = None
        self._work = work
        self._native = native
        self._undo = undo
        self._lock = threading.Lock()
        self._abandoned = False
        self._writer: Writer | None = None

    def run(self, writer: Writer) -> None:
        """Do it, in the thread."""
        with self._lock:
            if self._abandoned and self._undo is not None:
                return
        try:
            value = self._work(writer)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self.fail(error)
            return
        # What else it raises ends the thread. That is told once it takes no more work: else the
        # next job would end with it.
        with self._lock:
            self.value = value
            self._writer = writer
            wanted = not self._abandoned
        if (not wanted or not call_soon(self._native, self.event.set)) and self._undo is not None:
            self._undo(writer, value)

    def fail(self, error: BaseException) -> None:
        """Let it be raised where it is waited for."""
        self.error = error
        call_soon(self._native, self.event.set)

    def abandon(self) -> None:
        """Want it no longer; in the event loop."""
        with self._lock:
            self._abandoned = True
            writer, undo = self._writer, self._undo
        if writer is not None and undo is not None:
            writer.put(Job(lambda each: undo(each, self.value), self._native))

    async def wait(self) -> None:
        """Wait until it is done."""
        try:
            await self.event.wait()
        except BaseException:
            self.abandon()
            raise

    def result(self) -> T:
        """Return its value or raise its error."""
        if self.error is not None:
            raise self.error
        return self.value


@final
class Writer(threading.Thread):
    """The one that reads and writes; ends by itself a while after the last run was given up."""

    def __init__(self, path: Path, types: Types, large: int) -> None:
        """Open nothing yet."""
        super().__init__(name="dagexec journal", daemon=True)
        self.types = types
        self._path = path
        self._large = large
        self._store: Store | None = None
        # Whether the whole file was checked: not again after a fork.
        self._checked = False
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._ended = False
        # Why it does nothing more, if it did not end by itself.
        self._failure: JournalError | None = None
        # What is being done, for those who have to be told if it is never finished.
        self._doing: list[Any] = []
        self._sessions: dict[Ownership, ref[Owned]] = {}
        self._renewed = time.monotonic()
        # Held while the file is in use, and by a fork.
        self._busy = threading.Lock()
        self._paused = False
        forks.pauses(self)
        forks.forgets(self)

    # ------------------------------------------------------------------------- from other threads

    def put(self, item: Job[Any] | tuple[Owned, Entries]) -> None:
        """Hand over work; what comes too late fails."""
        if not self.take(item):
            self._refuse([item], self._failure or JournalError("the journal has been closed"))

    def take(self, item: Job[Any] | tuple[Owned, Entries]) -> bool:
        """Hand over work, unless the thread has ended."""
        with self._gate:
            if self._ended:
                return False
            self._queue.put(item)
            return True

    def close(self, patience: float) -> list[str] | None:
        """End the thread and close the file, if no run is open; return the runs that are.

        Waits `patience` seconds at most for what is to be done before, and returns None then: the
        thread ends by itself when it is done.
        """
        until = time.monotonic() + patience
        answer: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        closing = _Closing(answer)
        found: list[str] | None = None
        while found is None:  # or more was to be done first
            if not self.take(cast("Any", closing)):
                return []
            try:
                found = answer.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
        if not found:
            self.join(max(0.0, until - time.monotonic()))
        return found

    def pause(self) -> None:
        """Close the file before a fork: SQLite's locks and memory must not get into the child."""
        if threading.current_thread() is self:
            return
        self._paused = self._busy.acquire(timeout=_FORK)
        if self._paused and self._store is not None:
            self._store.close()
            self._store = None

    def go_on(self) -> None:
        """Go on after a fork; the file is opened again when it is needed."""
        if self._paused:
            self._paused = False
            self._busy.release()

    @property
    def was_open(self) -> bool:
        """Whether the file was open when this process, a child, was forked."""
        return self._store is not None

    def after_fork(self) -> None:
        """Refuse everything, in a forked child: this thread is the parent's."""
        self._gate = threading.Lock()
        self._ended = True
        self._failure = JournalError(
            "this run belongs to the process that this one was forked from; it goes on there"
        )

    # ------------------------------------------------------------------------------ in this thread

    def run(self) -> None:
        """Work until there is nothing to do for a while."""
        try:
            while True:
                items = self._wait()
                with self._busy:
                    if not items and self._may_end():
                        return
                    self._work(items)
                    if self._ended:  # by `close`, which waits for it
                        return
                    self._renew()
        except BaseException as error:  # noqa: BLE001 - told to everybody who waits
            self._die(error)
        finally:
            with self._busy:
                if self._store is not None:
                    self._store.close()
                    self._store = None

    def _wait(self) -> list[Any]:
        """Return all the work that there is, as soon as there is some; none after a while."""
        items: list[Any] = []
        with contextlib.suppress(queue.Empty):
            items.append(self._queue.get(timeout=LEASE / 3 if self._sessions else _IDLE))
            while True:
                items.append(self._queue.get_nowait())
        return items

    def _may_end(self) -> bool:
        with self._gate:
            self._ended = not self._sessions and self._queue.empty()
            return self._ended

    def _die(self, error: BaseException) -> None:
        """Fail all that was handed over, and all that will be: nobody else would ever say why."""
        failure = JournalError(f"the thread of the journal {self._path} has died: {error!r:.200}")
        failure.__cause__ = error
        with self._gate:
            self._ended = True
            self._failure = failure
        left: list[Any] = []
        with contextlib.suppress(queue.Empty):
            while True:
                left.append(self._queue.get_nowait())
        self._refuse([*self._doing, *left], failure)
        for owned in list(self._sessions):
            with contextlib.suppress(Exception):  # or its lease ends by itself
                self.give_up(owned)

    def _refuse(self, items: Sequence[Any], error: JournalError) -> None:
        for item in items:
            if isinstance(item, tuple):
                session, entries = cast("tuple[Owned, Entries]", item)
                session.deliver([(done, error) for _, done in entries])
            else:
                item.fail(error)

    def _work(self, items: list[Any]) -> None:
        batches: list[tuple[Owned, Entries]] = []
        for place, item in enumerate(items):
            self._doing = [*batches, *items[place:]]
            if isinstance(item, tuple):
                batches.append(cast("tuple[Owned, Entries]", item))
            else:
                self._write(batches)
                batches = []
                self._doing = items[place:]
                item.run(self)
        self._doing = batches
        self._write(batches)
        self._doing = []

    def end_if_idle(self) -> list[str] | None:
        """Return the open runs; without any, end, or return None if there is more to do first."""
        self._drop_ended()
        if self._sessions:
            return [owned.run_id for owned in self._sessions]
        # What came together with the wish to end has left the queue, and is still to be done.
        return [] if len(self._doing) <= 1 and self._may_end() else None

    def store(self) -> Store:
        """Return the open file; raise JournalError."""
        if self._store is None:
            self._store = Store(self._path, self.types, self._large, check=not self._checked)
            self._checked = True
        return self._store

    # ------------------------------------------------------------------------------ runs, as owned

    def claim(self, run_id: str, first: Record | None) -> Ownership:
        """Become the owner of a run; those whose event loop has ended are given up before."""
        self._drop_ended()
        return self.store().claim(run_id, first)

    def hold(self, session: Owned) -> None:
        """Keep a run's lease for as long as its session and its event loop live."""
        owned = session.owned

        def gone(_: object) -> None:
            self._queue.put(_GivenUp(owned))  # takes no lock: this may be in the middle of `take`

        self._sessions[owned] = ref(session, gone)

    def end(self, owned: Ownership, state: str, summary: str, waiting: str) -> None:
        """Give a run up, in a state."""
        self._sessions.pop(owned, None)
        self.store().release(owned, state, summary, waiting)

    def give_up(self, owned: Ownership) -> None:
        """Give a run up as if it had not been claimed: nobody drives it any more."""
        if self._sessions.pop(owned, None) is not None:
            self.store().release(owned, *owned.before)

    def _drop_ended(self) -> None:
        for owned, session in list(self._sessions.items()):
            found = session()
            if found is None or state_of(found.native) == "ended":
                with contextlib.suppress(JournalError):
                    self.give_up(owned)

    def _renew(self) -> None:
        now = time.monotonic()
        if not self._sessions or now - self._renewed <= LEASE / 3:
            return
        self._renewed = now
        self._drop_ended()
        # A loop that stands still may go on one day; until then others may take its runs over.
        alive = [
            owned
            for owned, session in self._sessions.items()
            if (found := session()) is not None and state_of(found.native) == "running"
        ]
        if alive:
            with contextlib.suppress(JournalError):
                self.store().renew(alive)

    # ------------------------------------------------------------------------------------- writing

    def _write(self, batches: list[tuple[Owned, Entries]]) -> None:
        """Write records in one transaction; if that fails, each by itself, for what still fits."""
        if not batches:
            return
        try:
            self.store()
        except JournalError as error:  # it could not be opened again after a fork
            self._refuse(batches, error)
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

    def _encode(self, session: Owned, entries: Entries) -> list[_Pending]:
        store, owned = self.store(), session.owned
        rows: list[_Pending] = []
        for record, done in entries:
            row = _Pending(done)
            rows.append(row)
            try:
                if owned.lost is not None:
                    raise owned.lost  # noqa: TRY301 - told like any other
                row.row = (record.kind, record.call, store.encode(owned.run_id, record))
            except JournalError as error:
                row.error = error
            except BaseException as error:  # noqa: BLE001 - a value's own code ends no thread
                row.error = JournalError(f"a value cannot be recorded: {error!r:.200}")
        return rows

    def _commit(self, encoded: list[tuple[Owned, list[_Pending]]]) -> None:
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

    def _commit_alone(self, session: Owned, row: _Pending) -> None:
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

    def __init__(self, done: OnDurable) -> None:
        self.done = done
        self.error: Exception | None = None
        self.row: _Row = ("", None, "")


@final
class _Closing:
    """The wish to close the file; answered with the runs that are open."""

    def __init__(self, answer: queue.SimpleQueue[list[str] | None]) -> None:
        self._answer = answer

    def run(self, writer: Writer) -> None:
        self._answer.put(writer.end_if_idle())

    def fail(self, _error: BaseException) -> None:
        self._answer.put([])


@final
class _GivenUp:
    """A run whose session is no more: its task was destroyed, with the event loop, say."""

    def __init__(self, owned: Ownership) -> None:
        self._owned = owned

    def run(self, writer: Writer) -> None:
        with contextlib.suppress(JournalError):
            writer.give_up(self._owned)

    def fail(self, _error: BaseException) -> None: ...
