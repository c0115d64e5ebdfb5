"""PostgreSQL beside DBOS: who is alive, what time it is, and which calls have ended.

A worker that is alive holds an advisory lock under its executor id, on a connection that the server
closes after `LEASE` seconds of silence. So a worker that was killed loses it at once, and one that
hangs, or whose machine is gone, when the lease is over. Whoever gets the lock of another worker
knows that it is dead, without a clock and without an operator.

Of DBOS's schema this reads the states in `workflow_status`, where its own functions
would load whole rows for each look, and does one thing that DBOS has no function for: it takes
calls out of their queues only if no worker has begun them. And it names the queue that a call of a
dead worker goes on by. Values go through DBOS's own functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final, final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dagexec import DagexecError

_log: Final = logging.getLogger("dagexec")

# Seconds of silence after which a worker is taken to be dead.
LEASE: Final = 15.0
# Seconds between two tries to reach a database that went away.
_AGAIN: Final = 0.5
# Seconds after a lost connection in which nobody is taken to be dead: where the server itself was
# restarted, all workers lost their locks, and need a moment to take them again: on a busy machine
# more than three seconds, and a write of one that seems dead would be in doubt.
_RECESS: Final = 10.0
# Seconds that connecting may take.
_CONNECT: Final = 10

# How to connect: a server that is gone without a word must not keep anybody waiting.
CONNECT: Final[dict[str, Any]] = {
    "connect_timeout": _CONNECT,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": int(LEASE * 1000),
    # Of several hosts, or behind a failover, the one that takes what is written.
    "target_session_attrs": "read-write",
}

# SQLSTATEs of what is too large for any database; psycopg counts them among those of operation.
_TOO_LARGE: Final = "54"

_LOCK: Final = "hashtextextended('dagexec:' || %s, 0)"
_NOW: Final = "select extract(epoch from clock_timestamp())::float8"


@final
class Database:
    """Two connections: one holds the lease, the other is asked."""

    def __init__(self, url: str, executor_id: str, application: str, version: str) -> None:
        """Keep what is needed; nothing is opened."""
        self._url = url
        self.executor_id = executor_id
        self._whose = (version, application, executor_id)
        self._lease: AsyncConnection[Any] | None = None
        self._asked: AsyncConnection[Any] | None = None
        self._asking = asyncio.Lock()
        self._closed = False
        # Whether the last beat did not reach the server.
        self.away = False
        # When a connection was lost last, on this machine's clock.
        self._lost = -_RECESS
        # What to add to this machine's clock to have the server's, in seconds.
        self._offset = 0.0

    async def open(self) -> None:
        """Connect and take the lease; raises psycopg.Error."""
        self._lease = await self._leased()
        self._asked = await self.connected()

    async def is_missing(self) -> bool:
        """Return whether the server is there and the database is not.

        libpq tells a failed connection by a text in the server's language only.
        """
        wanted = conninfo_to_dict(self._url).get("dbname")
        try:
            maintenance = make_conninfo(self._url, dbname="postgres", connect_timeout=_CONNECT)
            async with await AsyncConnection.connect(maintenance) as connection:
                cursor = await connection.execute(
                    "select 1 from pg_database where datname = %s", (wanted,)
                )
                return await cursor.fetchone() is None
        except psycopg.Error:
            return False

    async def close(self) -> None:
        """Give up the lease and close both connections."""
        self._closed = True
        for connection in (self._asked, self._lease):
            if connection is not None:
                with contextlib.suppress(psycopg.Error):
                    await connection.close()

    def now(self) -> float:
        """Return the server's time in seconds since the epoch; no two machines need agree."""
        return time.monotonic() + self._offset

    # --------------------------------------------------------------------------------- being alive

    async def beat(self) -> bool:
        """Keep the lease, and take it again where the connection was lost; return whether it was.

        Others may have taken over what this process had begun before.
        """
        again = self._lease is None or self._lease.closed
        try:
            if self._lease is None or self._lease.closed:
                self._lease = await self._leased()
            await self._set_clock(self._lease)
        except psycopg.OperationalError as error:
            self.away = True
            self._lose(error)
            if self._lease is not None:
                await self._lease.close()
            return False
        self.away = False
        return again

    async def given_away(self, ids: Sequence[str]) -> list[str]:
        """Return which of these workflows do not belong to this process any more."""
        rows = await self._fetch(
            "select workflow_uuid from dbos.workflow_status where workflow_uuid = any(%s)"
            " and (status <> 'PENDING' or executor_id <> %s)",
            (list(ids), self.executor_id),
        )
        return [name for (name,) in rows]

    async def dead(self) -> list[str]:
        """Return workers that hold work and are not alive; their locks are held until `bury`."""
        if time.monotonic() < self._lost + _RECESS:
            return []
        lost = self._lost
        rows = await self._fetch(
            "select distinct executor_id from dbos.workflow_status where status = 'PENDING'"
            " and application_version = %s and application_name = %s and executor_id <> %s",
            self._whose,
        )
        found: list[str] = []
        for (name,) in rows:
            taken = await self._fetch(f"select pg_try_advisory_lock({_LOCK})", (name,))
            if taken[0][0]:
                found.append(name)
        if lost == self._lost:
            return found
        await self.bury(found)
        return []

    async def bury(self, names: Sequence[str]) -> None:
        """Give the locks of dead workers back."""
        for name in names:
            await self._fetch(f"select pg_advisory_unlock({_LOCK})", (name,))

    # ----------------------------------------------------------------------------- asking for calls

    async def ended(self, ids: Sequence[str]) -> dict[str, bool]:
        """Return which of these workflows there are, and whether each has ended."""
        rows = await self._fetch(
            "select workflow_uuid, status not in ('ENQUEUED', 'DELAYED', 'PENDING')"
            " from dbos.workflow_status where workflow_uuid = any(%s)",
            (list(ids),),
        )
        return dict(rows)

    async def begun(self, ids: Sequence[str]) -> dict[str, bool]:
        """Return which of these wait in their queues (False), and which others have (True)."""
        rows = await self._fetch(
            "select workflow_uuid, status = 'PENDING' from dbos.workflow_status"
            " where workflow_uuid = any(%s) and (status in ('ENQUEUED', 'DELAYED')"
            " or status = 'PENDING' and executor_id <> %s)",
            (list(ids), self.executor_id),
        )
        return dict(rows)

    async def known(self, ids: Sequence[str]) -> list[str]:
        """Return which of these workflows there are."""
        rows = await self._fetch(
            "select workflow_uuid from dbos.workflow_status where workflow_uuid = any(%s)",
            (list(ids),),
        )
        return [name for (name,) in rows]

    async def withdraw(self, ids: Sequence[str]) -> list[str]:
        """Take workflows out of their queues if no worker has begun them; return which."""
        rows = await self._fetch(
            "update dbos.workflow_status set status = 'CANCELLED'"
            " where workflow_uuid = any(%s) and status in ('ENQUEUED', 'DELAYED')"
            " returning workflow_uuid",
            (list(ids),),
        )
        return [name for (name,) in rows]

    async def release(self, dead: Sequence[str]) -> None:
        """Let rounds of dead workers go on by way of DBOS's own queue: it is everybody's."""
        await self._fetch(
            "update dbos.workflow_status set queue_name = null where executor_id = any(%s)"
            " and status = 'PENDING' and name = 'dagexec.round'"
            " and application_version = %s and application_name = %s returning workflow_uuid",
            (list(dead), *self._whose[:2]),
        )

    async def owned(self) -> list[tuple[str, str]]:
        """Return the workflows that this process has under way, each with the mark of its claim."""
        rows = await self._fetch(
            "select workflow_uuid, coalesce(owner_xid, '') from dbos.workflow_status"
            " where status = 'PENDING' and executor_id = %s",
            (self.executor_id,),
        )
        return [(name, claim) for name, claim in rows]

    async def give_back(self, name: str, claim: str, queue: str) -> float | None:
        """Let a workflow of this claim go on anywhere, in a while; return after how many seconds.

        The oftener it was begun, the longer: up to a minute. A call goes on by its queue, all else
        by this one. None if it is not of this claim any more, or in a transaction of somebody's:
        none of that is waited for, as what asks here next would have to wait, too.
        """
        rows = await self._fetch(
            "update dbos.workflow_status set status = 'DELAYED', owner_xid = null,"
            " executor_id = null, started_at_epoch_ms = null, queue_name = case"
            " when name = 'dagexec.call' then coalesce(queue_name, %s) else %s end,"
            " delay_until_epoch_ms = 1000 * (extract(epoch from clock_timestamp())"
            " + least(60, 1.5 ^ least(20, greatest(0, recovery_attempts - 1))))"
            " where workflow_uuid = (select workflow_uuid from dbos.workflow_status"
            " where workflow_uuid = %s and status = 'PENDING' and executor_id = %s"
            " and coalesce(owner_xid, '') = %s for update skip locked)"
            " returning delay_until_epoch_ms / 1000.0 - extract(epoch from clock_timestamp())",
            (queue, queue, name, self.executor_id, claim),
        )
        return None if not rows else float(rows[0][0])

    async def pass_on(self, name: str, times: int) -> bool:
        """Give a workflow that was taken from its queue back to it, for a later time.

        The more often it was taken, the later; return False if that was so many times.
        """
        rows = await self._fetch(
            "update dbos.workflow_status set status = 'DELAYED', owner_xid = null,"
            " executor_id = null, started_at_epoch_ms = null, delay_until_epoch_ms = 1000 *"
            " (extract(epoch from clock_timestamp()) + least(60, 1.5 ^ (recovery_attempts - 1)))"
            " where workflow_uuid = %s and status = 'PENDING' and executor_id = %s"
            " and recovery_attempts < %s returning workflow_uuid",
            (name, self.executor_id, times),
        )
        return bool(rows)

    async def move(self, name: str, queue: str) -> bool:
        """Put a workflow into another queue if nobody has begun it; return whether that was so."""
        rows = await self._fetch(
            "update dbos.workflow_status set queue_name = %s where workflow_uuid = %s"
            " and status = 'ENQUEUED' returning workflow_uuid",
            (queue, name),
        )
        return bool(rows)

    async def notify(self, channels: Sequence[str], messages: Sequence[str]) -> None:
        """Send messages to those who listen; where that cannot be done now, nobody hears them."""
        if not messages or self._asked is None or self._asked.closed:
            return
        async with self._asking:
            try:
                # Nobody waits for a disk: what is sent need not survive the server.
                await self._asked.execute(
                    "select set_config('synchronous_commit', 'off', true), pg_notify(channel, body)"
                    " from unnest(%s::text[], %s::text[]) as messages(channel, body)",
                    ([*channels], [*messages]),
                )
            except psycopg.Error as error:
                _log.debug("others were not told: %s", _line(error))

    # --------------------------------------------------------------------------------- connections

    async def _leased(self) -> AsyncConnection[Any]:
        connection = await self.connected()
        # A client that is gone without a word, and one that hangs: the server ends the session.
        settings = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2"}
        settings["tcp_keepalives_count"] = "3"
        if connection.info.server_version >= 140000:  # noqa: PLR2004 - the first that has it
            settings["idle_session_timeout"] = f"{LEASE:g}s"
        for name, value in settings.items():
            await connection.execute("select set_config(%s, %s, false)", (name, value))
        await connection.execute(f"select pg_advisory_lock({_LOCK})", (self.executor_id,))
        await self._set_clock(connection)
        return connection

    async def _set_clock(self, connection: AsyncConnection[Any]) -> None:
        cursor = await connection.execute(_NOW)
        row = await cursor.fetchone()
        self._offset = row[0] - time.monotonic() if row is not None else self._offset

    async def connected(self) -> AsyncConnection[Any]:
        """Return a new connection; raises psycopg.OperationalError."""
        return await AsyncConnection.connect(self._url, autocommit=True, **CONNECT)

    async def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Ask, and ask again as long as the database cannot be reached."""
        async with self._asking:
            for pause in chain((0.0,), repeat(_AGAIN)):
                try:
                    if self._asked is None or self._asked.closed:
                        self._asked = await self.connected()
                    cursor = await self._asked.execute(query.encode(), values)
                    return await cursor.fetchall()
                except psycopg.Error as error:
                    if self._closed or not takes_it_later(error):
                        raise
                    self._lose(error)
                    await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - there is no last time

    def _lose(self, error: psycopg.Error) -> None:
        self._lost = time.monotonic()
        _log.warning("the database cannot be reached, trying again: %s", _line(error))


def takes_it_later(error: object) -> bool:
    """Whether a database may take later what it did not take now.

    It is away, or its name is not to be had; or it is there, and takes nothing that is written, or
    others were in the way: a lock, a timeout, a transaction of theirs.
    """
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    return not (error.sqlstate or "").startswith(_TOO_LARGE)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def unreachable(error: BaseException) -> DagexecError:
    """Return the error of a database that cannot be had; psycopg's texts hold no password."""
    msg = (
        f"the database cannot be reached: {_line(error)}; give DbosEngine(database_url=) the URL of"
        " a PostgreSQL that is running, postgresql://user:password@host:5432/name"
    )
    return DagexecError(msg)
