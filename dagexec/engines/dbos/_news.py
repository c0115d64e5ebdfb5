"""News between processes, by PostgreSQL's LISTEN and NOTIFY: who has ended, who has work.

News say only that something is worth a look: what is true stands in the tables. So it does not
matter who sends them, and one that is lost, late or wrong costs no more than a look, or the wait
for the next one. A process listens to a channel of its own and hears from those who work with it:
a worker tells who launched a call that it has ended, and who launches calls lets those workers look
that ended some for it. So a message wakes one process, however many there are. Who knows of no
worker wakes all of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final, final

import psycopg
from psycopg import AsyncConnection, sql

from dagexec.engines.dbos._database import Database

_log: Final = logging.getLogger("dagexec")

# Seconds between two tries to reach a database that went away.
_AGAIN: Final = 0.5
# Bytes of a message; PostgreSQL takes less than 8,000.
_MESSAGE: Final = 7500
# Seconds after which a worker that was not heard of is not told of work any more.
_KNOWN: Final = 30.0
# Workers that are remembered, those that were heard of last.
_WORKERS: Final = 1000


@final
class News:
    """What this process hears from others, and tells them."""

    def __init__(
        self,
        database: Database,
        ended: Callable[[str], None],
        work: Callable[[str], None],
        missed: Callable[[], None],
        everybody: str = "",
    ) -> None:
        """Keep whom to tell: of what ended, of work in a queue, and that news may be lost.

        `everybody` is what all workers of this engine hear.
        """
        self.own = database.executor_id
        self._everybody = "*" + everybody
        self._database = database
        self._ended = ended
        self._work = work
        self._missed = missed
        # What is to be told, by process: workflows that ended, queues with work.
        self._out: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
        self._telling = asyncio.Event()
        # When each worker was heard of last; who was heard last stands last.
        self._workers: dict[str, float] = {}

    # ------------------------------------------------------------------------------------- telling

    def tell_ended(self, process: str, name: str) -> None:
        """Tell a process that a workflow has ended here."""
        if process != self.own:
            self._to(process)[0][name] = None

    def tell_work(self, queue: str, count: int, places: float) -> None:
        """Let workers look into a queue in which so many calls were put, each with some places.

        Where nobody is known to work, all of them look.
        """
        if not self._known():
            self._to(self._everybody)[1][queue] = None
        for worker in reversed([*self._workers]):
            if count <= 0:
                break
            self._to(worker)[1][queue] = None
            count -= int(min(places, count))

    def tell_one(self, queue: str) -> None:
        """Let one worker look into a queue, each time the next one; all if nobody is known."""
        if self._known():
            worker = next(iter(self._workers))
            self._workers[worker] = self._workers.pop(worker)
            self._to(worker)[1][queue] = None
        else:
            self._to(self._everybody)[1][queue] = None

    def _known(self) -> bool:
        """Forget whom nothing was heard of for long; return whether anybody is left."""
        now = time.monotonic()
        for worker, heard in [*self._workers.items()]:
            if now - heard > _KNOWN:
                del self._workers[worker]
        return bool(self._workers)

    def _to(self, process: str) -> tuple[dict[str, None], dict[str, None]]:
        self._telling.set()
        return self._out.setdefault(process, ({}, {}))

    async def tell(self) -> None:
        """Tell until cancelled; what comes meanwhile goes together."""
        while True:
            await self._telling.wait()
            self._telling.clear()
            out, self._out = self._out, {}
            channels: list[str] = []
            messages: list[str] = []
            for process, (ended, work) in out.items():
                for message in _messages(self.own, [*ended], [*work]):
                    channels.append(_channel(process))
                    messages.append(message)
            await self._database.notify(channels, messages)

    # ------------------------------------------------------------------------------------- hearing

    async def listen(self) -> None:
        """Listen until cancelled; a lost connection is made again."""
        while True:
            try:
                async with await self._database.connected() as connection:
                    for each in (self.own, self._everybody):
                        channel = sql.Identifier(_channel(each))
                        await connection.execute(sql.SQL("listen {}").format(channel))
                    # Whatever was told before nobody heard.
                    self._missed()
                    await self._hear_all(connection)
            except (psycopg.Error, OSError) as error:
                _log.debug("no news of other workers, trying again: %s", error)
            await asyncio.sleep(_AGAIN)

    async def _hear_all(self, connection: AsyncConnection[Any]) -> None:
        async for news in connection.notifies():
            self.hear(news.payload)

    def hear(self, message: str) -> None:
        """Take in a message; what cannot be read is nobody's."""
        try:
            sender, ended, work = json.loads(message)
            for name in ended:
                self._ended(name)
            for queue in work if sender != self.own else ():
                self._work(queue)
            if ended:
                self._workers.pop(sender, None)
                self._workers[sender] = time.monotonic()
                if len(self._workers) > _WORKERS:
                    del self._workers[next(iter(self._workers))]
        except (ValueError, TypeError):
            _log.debug("a message that is none of the engine's was not read")


def _channel(process: str) -> str:
    return f"dagexec:{process}"


def _messages(own: str, ended: list[str], work: list[str]) -> list[str]:
    """Return messages that PostgreSQL takes; what is too long for any is left to polling."""
    whole = json.dumps([own, ended, work])
    if len(whole) <= _MESSAGE:
        return [whole]
    if len(ended) + len(work) <= 1:
        return []
    middle, half = len(ended) // 2, len(work) // 2
    return [
        *_messages(own, ended[:middle], work[:half]),
        *_messages(own, ended[middle:], work[half:]),
    ]
