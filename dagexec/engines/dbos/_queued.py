"""Puts calls into their queues, and lets workers know."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, final

from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._workflows import enqueued

# Calls that are put into their queues at the same time, each on a connection.
_AT_ONCE: Final = 8


@final
class Queued:
    """The way of calls to other workers."""

    def __init__(self, site: Site, places: float) -> None:
        """Keep how many places a worker has."""
        self._site = site
        self._places = places

    async def put(self, calls: Iterable[Sequence[str]]) -> int:
        """Put calls into their queues; those that are there stay as they are.

        Each has an id, a queue and a text. Return how many there are.
        """
        room = asyncio.Semaphore(_AT_ONCE)
        count = Counter[str]()

        async def put(name: str, queue: str, text: str) -> None:
            async with room:
                await enqueued(name, "call", queue, text)
            count[queue] += 1

        async with asyncio.TaskGroup() as group:
            for name, queue, text in calls:
                group.create_task(put(name, queue, text))
        for queue, many in count.items():
            self._site.news.tell_work(queue, many, self._places)
            self._site.bell.ring(queue)
        return count.total()
