"""This process's part: DBOS itself, the lease, and what looks after them, as one block.

There is one DBOS in a process, so there is one of these. Its log goes where the application's own
goes, from warnings on; nothing is configured before an engine is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final
from uuid import uuid4

import psycopg
from anyio import CancelScope
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import error as dbos_error
from psycopg.conninfo import conninfo_to_dict

from dagexec import DagexecError, Executor
from dagexec.engines._drive import Drive
from dagexec.engines.dbos._bell import Bell
from dagexec.engines.dbos._calls import Calls
from dagexec.engines.dbos._causes import refusal
from dagexec.engines.dbos._database import CONNECT, Database, unreachable
from dagexec.engines.dbos._here import Here
from dagexec.engines.dbos._inside import Tries
from dagexec.engines.dbos._queued import Queued
from dagexec.engines.dbos._queues import QueueSpec
from dagexec.engines.dbos._rounds import Rounds
from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._workflows import is_open, register, set_open
from dagexec.journal import Types

_log: Final = logging.getLogger("dagexec")

T = TypeVar("T")

# What is written into the database; a worker takes only what its own version wrote.
FORMAT: Final = "dagexec-1"
# Seconds between two looks for dead workers and stopped rounds; each is the worker's heartbeat.
_BEAT: Final = 0.5
# Seconds between two looks at whether all calls have ended, of an engine that closes.
_DRAINED: Final = 0.02
# How much rarer looks for rounds that others left to the workers are than looks for calls: news
# tell of them, and who left them waits no longer than two seconds.
_ROUNDS: Final = 10


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an engine needs to be open."""

    name: str
    url: str
    executor: Executor
    # Makes what drives a round, of how it is to be run and the result of the one before.
    drive: Callable[[Mapping[str, Any], Mapping[str, Any] | None], Drive]
    queues: Mapping[str, QueueSpec]
    types: Types
    polling: float
    connections: int
    calls: bool
    grace: float


@final
class Process:
    """An engine that is open; made by `opened`."""

    def __init__(self, setting: Setting) -> None:
        """Prepare; nothing is opened."""
        self._setting = setting
        executor_id = uuid4().hex
        # psycopg takes the plain form of what SQLAlchemy writes with the driver's name.
        self._url = setting.url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._executor_id = executor_id
        self.loop = asyncio.get_running_loop()
        # DBOS wants a version's name to be one application's alone.
        self._version = f"{FORMAT}:{setting.name}"
        self.database = Database(self._url, executor_id, setting.name, self._version)
        self._tries = Tries()
        self._tasks: list[asyncio.Task[None]] = []
        # How often the lease was taken anew.
        self._leases = 0
        # What somebody asked for, and waits for.
        self._asked: dict[asyncio.Task[Any], None] = {}
        self._hurries = asyncio.Event()
        queues = {tool: queue.name for tool, queue in setting.queues.items()}
        count = setting.executor.concurrency
        all_places = math.inf if count is None else count
        places = all_places if setting.calls else 0
        self._common = queues[""]
        self._bell = Bell(self._common, places)
        site = self.site = Site(
            setting.name,
            setting.types,
            self.database,
            setting.polling,
            self._bell,
            decides=setting.calls,
        )
        self._calls = Calls(site, setting.executor)
        queued = Queued(site, all_places)
        here = self._here = Here(site, setting.executor, queued, self._common, places)
        self._rounds = Rounds(site, queues, self._calls, here, setting.drive)

    async def round(self, text: str) -> str:
        """Drive a round of a run to its end."""
        return await self._rounds.drive(text)

    async def call(self, text: str) -> str:
        """Run a call to its outcome."""
        return await self._calls.run(text)

    async def asked(self, run_id: str, work: Coroutine[Any, Any, T]) -> T:
        """Do what somebody asked for; raise DagexecError if the engine is closed meanwhile."""
        task = asyncio.create_task(work)
        self._asked[task] = None
        try:
            await asyncio.wait((task,))
        finally:
            del self._asked[task]
            task.cancel()
        if task.cancelled():
            msg = f"the engine was closed while the run {run_id!r} was waited for; the run goes on"
            raise DagexecError(msg)
        try:
            return task.result()
        except Exception as error:
            refused = refusal(error)
            if refused is None:
                raise
            msg = f"the database refused what the run {run_id!r} needs: {refused}"
            raise DagexecError(msg) from error

    async def open(self) -> None:
        """Connect, take the lease, and let DBOS begin; raises DagexecError."""
        if is_open():
            msg = "a DbosEngine is open in this process already, and there is one DBOS in a process"
            raise DagexecError(msg)
        set_open(self)
        try:
            await self._open()
        except BaseException as error:
            set_open(None)
            await self.database.close()
            if isinstance(error, psycopg.Error):
                raise unreachable(error) from None
            if isinstance(error, DagexecError) or not isinstance(error, Exception):
                raise
            # SQLAlchemy's texts go on with the statement, and a link.
            msg = f"DBOS could not begin: {str(error).partition(chr(10))[0]}"
            raise DagexecError(msg) from error

    async def _open(self) -> None:
        _quiet()
        await self._connect()
        register()
        DBOS(config=self._config())
        if DBOS.executor_id != self._executor_id:
            msg = (
                "this program uses DBOS itself, and there is one DBOS in a process: open the engine"
                " in a process of its own"
            )
            raise DagexecError(msg)
        queues = {queue.name: queue for queue in self._setting.queues.values()}
        rounds = self.site.rounds_queue
        try:
            DBOS.listen_queues([*queues, rounds] if self._setting.calls else [])
            # In the thread of this loop: DBOS runs what it takes from queues in the loop that it
            # is launched in, and tools have to run in the loop of their program.
            DBOS.launch()
            for queue in queues.values():
                await self._register(queue)
            # Rounds mostly wait, so a process drives any number; news say when there is one.
            await self._make_queue(rounds, polling=_ROUNDS * self._setting.polling)
        except BaseException:
            await self._destroy()
            raise
        self._bell.attach()
        self._tries.attach()
        news = self.site.news
        self._tasks = [
            asyncio.create_task(each)
            for each in (self._beat(), self._look(), news.listen(), news.tell())
        ]

    async def _connect(self) -> None:
        """Take the lease before DBOS takes any work; make the database if it is not there."""
        try:
            await self.database.open()
        except psycopg.OperationalError:
            if not await self.database.is_missing():
                raise
            await self._make_database()
            await self.database.open()

    async def _make_database(self) -> None:
        try:
            await asyncio.to_thread(DBOS.migrate, self._url)
        except Exception as error:
            parts = conninfo_to_dict(self._url)
            base, user = parts.get("dbname"), parts.get("user")
            msg = (
                f"there is no database {base!r}, and user {user!r} cannot make it; let an"
                f" administrator do that: createdb --owner {user} {base}"
            )
            raise DagexecError(msg) from error

    def _config(self) -> DBOSConfig:
        return {
            "name": self._setting.name,
            "system_database_url": self._url,
            "sys_db_pool_size": self._setting.connections,
            "db_engine_kwargs": {
                "connect_args": {"application_name": "dagexec", **CONNECT},
                # Errors go into logs, and these are the arguments and values of tools.
                "hide_parameters": True,
            },
            "application_version": self._version,
            "executor_id": self._executor_id,
            # All values are texts of dagexec's own; nothing from the database is ever unpickled.
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }

    async def _register(self, queue: QueueSpec) -> None:
        count = self._setting.executor.concurrency
        if count is not None and queue.in_flight is not None:
            count = min(count, queue.in_flight)
        pace = queue.rate
        await self._make_queue(
            queue.name,
            polling=self._setting.polling,
            worker_concurrency=count,
            global_concurrency=queue.in_flight,
            limiter=None if pace is None else {"limit": pace[0], "period": pace[1]},
        )

    async def _make_queue(self, name: str, *, polling: float, **settings: Any) -> None:
        await DBOS.register_queue_async(
            name,
            **settings,
            polling_interval_sec=polling,
            # DBOS keeps one number for all workers; who does not work has no say in it.
            on_conflict="always_update" if self._setting.calls else "never_update",
        )

    async def _beat(self) -> None:
        """Keep the lease, whatever else waits for the database.

        It may wait for long: for a table that somebody has locked.
        """
        while True:
            await asyncio.sleep(_BEAT)
            try:
                self._leases += await self.database.beat()
                self._bell.rest(away=self.database.away)
            except Exception:  # noqa: BLE001 - the next beat tries again; without one the lease would end
                _log.exception("the lease of this worker could not be kept")

    async def _look(self) -> None:
        """Take over the work of dead workers, stop what was stopped, give back what is stranded."""
        leases = self._leases
        while True:
            await asyncio.sleep(_BEAT)
            try:
                if leases != (now := self._leases):
                    await self.site.lose()
                    leases = now
                await self.site.stranded.look()
                dead = await self.database.dead()
                if dead:
                    _log.warning("%d worker(s) ended with work under way; it goes on", len(dead))
                    await self.database.release(dead)
                    await asyncio.to_thread(_recover, dead)
                    await self.database.bury(dead)
                await self._calls.watch()
            except Exception:  # noqa: BLE001 - the next look tries again
                _log.exception("a look at the other workers failed")

    async def close(self) -> None:
        """End what runs here, and give up the lease: what had not ended goes on elsewhere.

        A cancellation ends the grace, and comes out at the end: DBOS, of which there is one in a
        process, would be left taking calls for an engine that is gone.
        """
        closing, cancelled = asyncio.create_task(self._close()), False
        with CancelScope(shield=True):
            while not closing.done():
                try:
                    await asyncio.wait((closing,))
                except asyncio.CancelledError:
                    cancelled = True
                    self._hurries.set()
        closing.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _close(self) -> None:
        try:
            if self._setting.grace and self._tasks:
                await self._drain()
            tasks = [*self._asked, *self._tasks]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await self.site.end()
            await self._destroy()
        finally:
            set_open(None)
            await self.database.close()

    async def _drain(self) -> None:
        """Take no more calls, and let those that run here end, for as long as there is grace."""
        self._bell.silence()
        self._here.drain()
        until = time.monotonic() + self._setting.grace
        while (self._bell.busy or self._here.busy) and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurries.wait(), _DRAINED)
                return

    async def _destroy(self) -> None:
        # DBOS made its own pool of threads the one of this loop, and ends it now.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        # What runs here was cancelled, but not its threads: where the database is away they would
        # keep the process for as long as it is.
        self._tries.end()
        try:
            with contextlib.suppress(dbos_error.DBOSException):
                await asyncio.to_thread(DBOS.destroy)
        finally:
            self._tries.detach()


def _recover(dead: list[str]) -> Any:
    # What its own service calls; DBOS has no other way to say that a worker is dead.
    return DBOS._recover_pending_workflows(dead)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _quiet() -> None:
    """Let DBOS's messages go to the application's log; by itself it adds a handler of its own."""
    log = logging.getLogger("dbos")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    if log.level == logging.NOTSET:
        log.setLevel(logging.WARNING)
