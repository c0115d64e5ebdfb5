"""The file of a journal: its schema, its checks, and reading and writing in one thread.

What can go wrong with a file, and what finds it:

* a page is damaged: SQLite's own integrity check, when the file is opened;
* a record is changed, missing or in the wrong place: each has a checksum over itself and the one
  before, and the run's row knows the last;
* the end is missing, because the write-ahead log was cut (SQLite then silently goes back to what is
  whole, and a payment would be made twice): the number of commits also stands in a file beside it,
  written behind each commit and before anybody hears of it;
* a value that lies in a file of its own is damaged: the file's name is its hash.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, final

from dagexec._errors import JournalError, RunOwned
from dagexec.journal._base import LEASE, Record, RunInfo, unknown_run
from dagexec.journal._codec import Types
from dagexec.journal._owned import Ownership, as_read, as_written
from dagexec.journal._owner import described, is_dead, new_owner

SCHEMA_VERSION: Final = 1
# "dage", so that no other SQLite file is taken for a journal.
_APPLICATION: Final = 0x64616765
# Seconds to wait for another process that writes.
_BUSY: Final = 30.0

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    state TEXT NOT NULL,
    summary TEXT NOT NULL,
    waiting TEXT NOT NULL,
    owner TEXT,
    lease REAL NOT NULL,
    last INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE records (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    call TEXT,
    body TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;
"""


@final
class Store:
    """The open file; used by one thread at a time. Everything raises JournalError."""

    def __init__(self, path: Path, types: Types, large: int, *, check: bool = True) -> None:
        """Open or create the file and check it; raise JournalError with cause and way out.

        `check` reads all of it.
        """
        self.path = path
        self.types = types
        self.large = large
        self._values = path.with_name(path.name + "-values")
        self._mark_path = path.with_name(path.name + "-mark")
        self._mark: int | None = None
        try:
            self._db = sqlite3.connect(
                path, timeout=_BUSY, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            msg = f"cannot open the journal {path}: {_cause(path) or error}"
            raise JournalError(msg) from None
        try:
            self._open(check=check)
        except BaseException:
            self._db.close()
            raise

    def _open(self, *, check: bool) -> None:
        marked = self._read_mark()
        with self.guarded("opened"):
            mode = self._write_ahead()
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                fresh = self._is_fresh()
                if fresh and not marked:
                    self._create()
                self._db.execute("COMMIT")
            except BaseException:
                self.rollback()
                raise
            if mode != "wal":
                msg = (
                    f"the journal {self.path} cannot use SQLite's write-ahead log there: put it on"
                    " a local disk"
                )
                raise JournalError(msg)
            if fresh and marked:
                raise JournalError(self._shortened(0, marked))
            pragma = "PRAGMA integrity_check(3)"
            found = [row[0] for row in self._db.execute(pragma)] if check else ["ok"]
        if found != ["ok"]:
            raise JournalError(self._damaged("; ".join(map(str, found))))
        commits = self._commits()
        if commits < marked:
            raise JournalError(self._shortened(commits, marked))

    def _write_ahead(self) -> str:
        """Switch the file to the write-ahead log, if it is new; return its mode.

        SQLite's own waiting does not cover the switch: of several processes that open a new file
        at once all but one are refused at once, so that it is asked again here.
        """
        end = time.monotonic() + _BUSY
        while True:
            try:
                return str(self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(0.005)

    def _is_fresh(self) -> bool:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not version and not application:
            return True
        if application != _APPLICATION:
            msg = f"{self.path} is a SQLite file, but no journal of dagexec; choose another path"
            raise JournalError(msg)
        if version > SCHEMA_VERSION:
            msg = (
                f"the journal {self.path} has schema version {version}, of a newer dagexec; this"
                f" one reads up to version {SCHEMA_VERSION}: upgrade dagexec"
            )
            raise JournalError(msg)
        if version < SCHEMA_VERSION:
            msg = f"the journal {self.path} has the unknown schema version {version}"
            raise JournalError(msg)
        return False

    def _create(self) -> None:
        for statement in _SCHEMA.split(";"):
            if statement.strip():
                self._db.execute(statement)
        self._db.execute("INSERT INTO meta VALUES ('commits', ?)", (_sealed(0),))
        self._db.execute(f"PRAGMA application_id={_APPLICATION}")
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the file."""
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    # ------------------------------------------------------------------------------ what went wrong

    @contextlib.contextmanager
    def guarded(self, what: str) -> Any:
        """Turn what SQLite and the file system raise into a JournalError with a way out."""
        try:
            yield
        except JournalError:
            raise
        except sqlite3.OperationalError as error:
            raise JournalError(self._refused(what, error)) from None
        except (sqlite3.Error, UnicodeError, ValueError, TypeError, LookupError) as error:
            raise JournalError(self._damaged(f"it cannot be {what}: {error}")) from None
        except OSError as error:
            msg = f"the journal {self.path} cannot be {what}: {error}"
            raise JournalError(msg) from None

    def _refused(self, what: str, error: sqlite3.OperationalError) -> str:
        text = str(error)
        hints = {
            "full": ": make room on the disk",
            "locked": f": another process has held it for {_BUSY:g} s",
            "readonly": ": it may not be written",
            "unable to open": ": does its folder exist, and may it be written?",
            "malformed": f": {self._way_out()}",
            "no such": f": {self._way_out()}",
        }
        hint = next((hint for part, hint in hints.items() if part in text), "")
        return f"the journal {self.path} cannot be {what}: {text}{hint}"

    def _damaged(self, how: str) -> str:
        return f"the journal {self.path} is damaged: {how:.300}. {self._way_out()}"

    def _shortened(self, commits: int, marked: int) -> str:
        return (
            f"the journal {self.path} has lost its end: {marked} commits were made and {commits}"
            " are there; what ran since is unknown, and could run twice. Restore it from a backup;"
            f" or find out what ran, and delete {self._mark_path} to go on from what is there"
        )

    def _way_out(self) -> str:
        return (
            "Restore it from a backup, or begin a new one and find out by hand which calls of"
            " unfinished runs took effect"
        )

    # ------------------------------------------------------------------------------------- the mark

    def _read_mark(self) -> int:
        try:
            text = self._mark_path.read_text(encoding="ascii")
        except (FileNotFoundError, UnicodeError):
            return 0
        except OSError as error:
            msg = f"cannot read {self._mark_path}: {error}"
            raise JournalError(msg) from None
        # A damaged mark only means that this one check is not made.
        return _unsealed(text) or 0

    def _commits(self) -> int:
        with self.guarded("read"):
            row = self._db.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
            count = None if row is None else _unsealed(row[0])
        if count is None:
            raise JournalError(self._damaged("its number of commits cannot be read"))
        return count

    def _write_mark(self, commits: int) -> None:
        if self._mark is None:
            flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._mark = os.open(self._mark_path, flags, 0o600)
        # In the page cache it outlives the process; behind a power cut it may be older, which
        # only makes this check weaker. So it need not be synced.
        os.lseek(self._mark, 0, os.SEEK_SET)
        os.write(self._mark, _sealed(commits).encode())

    # ------------------------------------------------------------------------------------- writing

    @contextlib.contextmanager
    def transaction(self) -> Any:
        """Write, and count the commit; nothing is written if something fails."""
        with self.guarded("written"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                commits = self._commits() + 1
                yield self._db
                self._db.execute(
                    "UPDATE meta SET value = ? WHERE name = 'commits'", (_sealed(commits),)
                )
                self._db.execute("COMMIT")
            except BaseException:
                self.rollback()
                raise
        with contextlib.suppress(OSError):
            self._write_mark(commits)

    def rollback(self) -> None:
        """Undo the transaction, if there still is one."""
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def encode(self, run_id: str, record: Record) -> str:
        """Return the text of a record's body; a long one goes into a file, which is synced."""
        body = self.types.dumps(record.body)
        if len(body) <= self.large:
            return body
        with self.guarded("written"):
            return "@" + self._write_value(run_id, body.encode())

    def append(self, owned: Ownership, records: Sequence[tuple[str, str | None, str]]) -> None:
        """Add records of encoded bodies, inside a transaction; raise RunOwned if it is too late."""
        last, checksum = owned.last, owned.checksum
        try:
            rows = [
                owned.chain(kind, call and as_written(call), body) for kind, call, body in records
            ]
            self._own(owned)
            self._db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows)
        except BaseException:
            owned.last, owned.checksum = last, checksum
            raise

    def _own(self, owned: Ownership) -> None:
        now = time.time()
        cursor = self._db.execute(
            "UPDATE runs SET last = ?, checksum = ?, updated = ?, lease = ?"
            " WHERE key = ? AND owner = ?",
            (owned.last, owned.checksum, now, now + LEASE, owned.key, owned.owner),
        )
        if cursor.rowcount != 1:
            msg = (
                f"the run {owned.run_id!r} was taken over: this process had not been heard of for"
                f" {LEASE:g} s"
            )
            owned.lost = RunOwned(msg)
            raise owned.lost

    def _write_value(self, run_id: str, body: bytes) -> str:
        name = sha256(body).hexdigest()
        folder = self._folder(run_id)
        target = folder / name
        if target.exists():
            return name
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.{os.getpid()}"
        try:
            with partial.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        for each in (folder, self._values, self._values.parent):
            _sync_folder(each)
        return name

    def _folder(self, run_id: str) -> Path:
        return self._values / sha256(as_written(run_id).encode()).hexdigest()[:32]

    # ---------------------------------------------------------------------------- runs, as a whole

    def claim(self, run_id: str, first: Record | None) -> Ownership:
        """Become the owner of a run and read it; begin it with `first` if it is not there."""
        owner, now = new_owner(), time.time()
        text = None if first is None else self.encode(run_id, first)
        with self.transaction() as db:
            row = db.execute(
                "SELECT key, owner, lease, state, summary, waiting FROM runs WHERE id = ?",
                (as_written(run_id),),
            ).fetchone()
            if row is None:
                if first is None or text is None:
                    raise JournalError(self._unknown(run_id))
                cursor = db.execute(
                    "INSERT INTO runs (id, kind, created, updated, state, summary, waiting, owner,"
                    " lease, last, checksum) VALUES (?, ?, ?, ?, 'open', '', '[]', ?, ?, 0, 0)",
                    (as_written(run_id), first.kind, now, now, owner, now + LEASE),
                )
                owned = Ownership(run_id, int(cursor.lastrowid or 0), owner)
                self.append(owned, [(first.kind, first.call, text)])
                owned.records = [first]
                return owned
            key, holder, lease, *before = row
            if holder is not None and lease > now and not is_dead(holder):
                msg = (
                    f"the run {run_id!r} is being driven by {described(holder)}; it can be taken"
                    f" over {lease - now:.0f} s after that was last heard of"
                )
                raise RunOwned(msg)
            owned = Ownership(run_id, key, owner)
            owned.before = tuple(before)
            self._load(owned)
            db.execute(
                "UPDATE runs SET owner = ?, lease = ?, state = 'open' WHERE key = ?",
                (owner, now + LEASE, key),
            )
        return owned

    def read(self, run_id: str) -> list[Record]:
        """Return the records of a run."""
        with self.guarded("read"):
            row = self._db.execute(
                "SELECT key FROM runs WHERE id = ?", (as_written(run_id),)
            ).fetchone()
            if row is None:
                raise JournalError(self._unknown(run_id))
            self._db.execute("BEGIN")  # so that the row and the records are of one moment
            try:
                owned = Ownership(run_id, row[0], "")
                self._load(owned)
            finally:
                self.rollback()
        return owned.records

    def _load(self, owned: Ownership) -> None:
        """Read the records of a run and check that they are all there and unchanged."""
        rows = self._db.execute(
            "SELECT seq, kind, call, body, checksum FROM records WHERE run = ? ORDER BY seq",
            (owned.key,),
        )
        for seq, kind, call, body, checksum in rows:
            owned.chain(kind, call, body)
            if seq != owned.last or checksum != owned.checksum:
                where = f"record {owned.last} of run {owned.run_id!r} is not what was written"
                raise JournalError(self._damaged(where))
            owned.records.append(
                Record(kind, call and as_read(call), self._value(owned.run_id, body))
            )
        row = self._db.execute(
            "SELECT last, checksum FROM runs WHERE key = ?", (owned.key,)
        ).fetchone()
        if row != (owned.last, owned.checksum) or not owned.records:
            where = f"records of run {owned.run_id!r} are missing"
            raise JournalError(self._damaged(where))

    def _value(self, run_id: str, body: str) -> Any:
        return self.types.loads(self._body(run_id, body))

    def _body(self, run_id: str, text: str) -> str:
        if not text.startswith("@"):
            return text
        path = self._folder(run_id) / text[1:]
        try:
            body = path.read_bytes()
        except OSError as error:
            raise JournalError(self._damaged(f"a large value cannot be read: {error}")) from None
        if sha256(body).hexdigest() != text[1:]:
            raise JournalError(self._damaged(f"the large value in {path} is not what was written"))
        return body.decode()

    def _unknown(self, run_id: str) -> str:
        rows = self._db.execute("SELECT id FROM runs ORDER BY key DESC")
        known = [as_read(row[0]) for row in rows]
        return unknown_run(run_id, f"the journal {self.path}", known=known)

    def release(self, owned: Ownership, state: str, summary: str, waiting: str) -> None:
        """Give a run up."""
        with self.transaction() as db:
            db.execute(
                "UPDATE runs SET owner = NULL, lease = 0, state = ?, summary = ?, waiting = ?,"
                " updated = ? WHERE key = ? AND owner = ?",
                (state, summary, waiting, time.time(), owned.key, owned.owner),
            )

    def renew(self, owned: Sequence[Ownership]) -> None:
        """Let it be known that the owner of these runs is alive."""
        with self.transaction():
            for each in owned:
                with contextlib.suppress(RunOwned):
                    self._own(each)

    def runs(self) -> list[RunInfo]:
        """Return a line about each run, oldest first."""
        now = time.time()
        with self.guarded("read"):
            rows = self._db.execute(
                "SELECT id, state, kind, created, updated, summary, waiting, owner, lease FROM runs"
                " ORDER BY key"
            ).fetchall()
            return [self._info(now, *row) for row in rows]

    def _info(self, now: float, run_id: str, state: str, *rest: Any) -> RunInfo:
        kind, created, updated, summary, waiting, owner, lease = rest
        alive = owner is not None and lease > now and not is_dead(owner)
        if state == "open":
            state = "running" if alive else "stale"
        names = tuple(self.types.loads(waiting))
        who = described(owner) if alive and owner is not None else None
        return RunInfo(as_read(run_id), state, kind, created, updated, summary, who, names)

    def forget(self, run_id: str) -> None:
        """Delete a run that nobody drives, with its large values."""
        with self.transaction() as db:
            row = db.execute(
                "SELECT key, owner, lease FROM runs WHERE id = ?", (as_written(run_id),)
            ).fetchone()
            if row is None:
                raise JournalError(self._unknown(run_id))
            key, owner, lease = row
            if owner is not None and lease > time.time() and not is_dead(owner):
                msg = f"the run {run_id!r} is being driven by {described(owner)}"
                raise RunOwned(msg)
            db.execute("DELETE FROM records WHERE run = ?", (key,))
            db.execute("DELETE FROM runs WHERE key = ?", (key,))
        shutil.rmtree(self._folder(run_id), ignore_errors=True)


def _sealed(count: int) -> str:
    """Return a number with a checksum, in a fixed width."""
    return f"{count:020d} {zlib.crc32(b'%d' % count):08x}\n"


def _unsealed(text: object) -> int | None:
    if not isinstance(text, str) or not text[:20].isdecimal():
        return None
    count = int(text[:20])
    return count if text == _sealed(count) else None


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # folders cannot be opened there; the file system keeps their order
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cause(path: Path) -> str:
    """Return why a file could not be opened, where SQLite only says that it could not."""
    if path.is_dir():
        return f"it is a folder; give a file in it, such as {path / 'runs.db'}"
    if not path.parent.exists():
        return f"the folder {path.parent} does not exist; make it first"
    return ""
