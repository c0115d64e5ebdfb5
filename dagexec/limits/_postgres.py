"""A store in PostgreSQL, for those who have one."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any, Final, final

from anyio import get_cancelled_exc_class

from dagexec._concurrency import forks
from dagexec._errors import DagexecError, MissingExtra
from dagexec.limits._remote import Bookings, check_timeout, plain, within
from dagexec.limits._statements import ADD, BOOK, CLOSE, CLOSED, LOCK, MAKE, of_table
from dagexec.limits._store import Ask

# A part of it that says which table, and no more: the name goes into statements.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,50}(\.[A-Za-z_][A-Za-z0-9_]{0,50})?")
# Connections that are kept for the next use.
_IDLE: Final = 4
# What a server says that soon takes a connection, and has done nothing yet; only in English.
_BUSY: Final = (
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "no more connections",
    "starting up",
    "recovery mode",
)
# Seconds after which it is asked again.
_AGAIN: Final = 0.05


@final
class PostgresStore:
    """Levels and gates of limiters in a PostgreSQL, for processes on any number of machines.

    Args:
        url: A URL such as "postgresql://user@localhost/shop", or what libpq takes else.
        table: The table that is used, in a schema if you like: "limits.dagexec". It is made at
            first use; where the role may not do that, run `PostgresStore.DDL` as one who may.
        timeout: Seconds within which the server has to answer.

    Each limiter is one row of an unlogged table, which nobody deletes. Booking is one statement, by
    the server's clock: the machines' clocks do not matter. Works on asyncio and trio, in threads
    and connections of its own, two for most processes. Needs PostgreSQL 12 and the extra
    `postgres`; a pooler may stand between.

    Its methods raise psycopg.Error and TimeoutError.
    """

    DDL: Final = of_table(MAKE, "dagexec_limits")

    def __init__(self, url: str, *, table: str = "dagexec_limits", timeout: float = 2.0) -> None:
        """Connect to nothing yet; raise DagexecError for settings that cannot be."""
        check_timeout("PostgresStore", timeout)
        name: object = table
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            msg = f"table={table!r} of a PostgresStore: a name such as 'dagexec_limits'"
            raise DagexecError(msg)
        self._psycopg = _client()
        self._table = table
        self._timeout = timeout
        self._bookings = Bookings()
        self._connections = _Connections(self._psycopg, url, timeout)
        self._making, self._booking, self._adding, self._closed, self._closing = (
            of_table(each, table) for each in (LOCK + MAKE, BOOK, ADD, CLOSED, CLOSE)
        )

    def __repr__(self) -> str:
        """Return its table; a URL may hold a password."""
        return f"<PostgresStore {self._table!r}>"

    async def book(self, key: str, asks: Mapping[str, Ask]) -> float:
        """See `Store.book`."""
        named = {plain(name): ask for name, ask in asks.items()}
        held = [float(ask.held) for ask in named.values()]
        values = {
            "key": plain(key),
            "names": list(named),
            "held": held,
            "rates": [float(ask.rate) for ask in named.values()],
            "caps": [float(ask.cap) for ask in named.values()],
            "since": [self._bookings.since(key, name) for name in named],
        }
        undo = {"key": plain(key), "names": list(named), "amounts": held}
        sent = time.monotonic()
        levels, wait = await self._run(self._booking, values, undo)
        self._bookings.note(key, named, sent)
        for name, ask in named.items():
            level = levels[name]
            left = level["left"] + ask.held
            wait = max(wait, (min(ask.room, level["size"]) - left) / level["pace"])
        return float(wait)

    async def add(self, key: str, amounts: Mapping[str, float]) -> None:
        """See `Store.add`."""
        names = [plain(name) for name in amounts]
        more = [float(amount) for amount in amounts.values()]
        values = {"key": plain(key), "names": names, "amounts": more}
        await self._run(self._adding, values)

    async def gate(self, key: str, seconds: float = 0.0) -> float:
        """See `Store.gate`."""
        values: dict[str, Any] = {"key": plain(key), "seconds": float(seconds)}
        row = await self._run(self._closing if seconds > 0 else self._closed, values)
        return float(row[0]) if row else 0.0

    def close(self) -> None:
        """Close its connections; the next use opens new ones."""
        self._connections.close()

    async def _run(
        self, statement: str, values: Mapping[str, Any], undo: Mapping[str, Any] | None = None
    ) -> Any:
        use = _Use()

        def execute(statement: str, values: Mapping[str, Any]) -> Any:
            with self._connections.one(use) as connection:
                return self._execute(connection, statement, values)

        try:
            return await within(
                self._timeout,
                "PostgreSQL",
                partial(execute, statement, values),
                partial(execute, self._adding, undo) if undo else None,
            )
        except get_cancelled_exc_class():
            # It may have been done, and is undone then.
            use.cut_after(self._timeout)
            raise
        except BaseException:
            use.cut()
            raise

    def _execute(self, connection: Any, statement: str, values: Mapping[str, Any]) -> Any:
        errors = self._psycopg.errors
        try:
            cursor = connection.execute(statement, values)
        except errors.UndefinedTable:
            connection.execute(self._making)
            cursor = connection.execute(statement, values)
        return cursor.fetchone() if cursor.description else None


@final
class _Use:
    """One use of a connection, which the event loop may end while a thread waits for the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._cut = False

    def begin(self, connection: Any) -> None:
        with self._lock:
            self._connection = connection
            if self._cut:
                self._shut()

    def end(self) -> None:
        with self._lock:
            self._connection = None

    def cut(self) -> None:
        """Have the thread fail: from outside, nothing but the socket can be touched safely."""
        with self._lock:
            self._cut = True
            self._shut()

    def cut_after(self, seconds: float) -> None:
        """Have the thread fail if it is at it for so long still."""
        timer = threading.Timer(seconds, self.cut)
        timer.daemon = True
        timer.start()

    def _shut(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception), _copy(self._connection) as copy:
                copy.shutdown(socket.SHUT_RDWR)


def _copy(connection: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))


@final
class _Connections:
    """Connections to one server: as many as are used at a time, of which a few are kept."""

    def __init__(self, psycopg: Any, url: str, timeout: float) -> None:
        self._psycopg = psycopg
        self._url = url
        self._timeout = max(2, round(timeout))  # libpq knows no shorter one
        self._idle: list[Any] = []
        # Of the parent of a forked child: closing them here would close them there.
        self._inherited: list[Any] = []
        forks.forgets(self)

    def after_fork(self) -> None:
        self._inherited += self._idle
        self._idle = []

    @contextlib.contextmanager
    def one(self, use: _Use) -> Generator[Any]:
        connection = self._take()
        try:
            use.begin(connection)
            try:
                yield connection
            finally:
                use.end()
        except BaseException:
            connection.close()
            # After a failover or a restart the others are of no more use.
            self.close()
            raise
        if len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _take(self) -> Any:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if not connection.closed and not _is_gone(connection):
                return connection
            connection.close()
        connection = self._connect()
        connection.execute("set default_transaction_isolation = 'read committed'")
        return connection

    def _connect(self) -> Any:
        """Connect; wait for a server that comes up, or has no connection to spare."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                return self._psycopg.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=self._timeout,
                    prepare_threshold=None,
                )
            except self._psycopg.OperationalError as error:
                # Before a session there is no code, only the server's words.
                busy = any(words in str(error) for words in _BUSY)
                if not busy or time.monotonic() + _AGAIN > until:
                    raise
                time.sleep(_AGAIN)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def __del__(self) -> None:
        """Close what is kept: psycopg warns of connections that nobody closes."""
        with contextlib.suppress(Exception):
            self.close()


def _is_gone(connection: Any) -> bool:
    """Whether the server has closed an idle connection, or has said something: a farewell."""
    try:
        with _copy(connection) as copy:
            copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return False
    except (OSError, ValueError):
        return True
    return True


def _client() -> Any:
    try:
        import psycopg
    except ImportError as missing:
        msg = "dagexec.limits.PostgresStore needs psycopg: pip install 'dagexec[postgres]'"
        raise MissingExtra(msg) from missing
    return psycopg
