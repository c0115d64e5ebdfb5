"""Calls that begin in the process that decided them, at once, while it has room for them.

A queue's thread looks only from time to time, and a chain would pay that for each link. So a call
of the common queue, which carries no limit of all workers, is started here as a workflow. What
exceeds the places of this process goes into the queue, for whichever worker is free. A call that
was begun here takes a place of the queue, so this process takes no more from the queue than it can
run.
"""

from __future__ import annotations

from typing import Any, final

from dbos import DBOS, SetWorkflowID

from dagexec.engines.dbos._inside import active
from dagexec.engines.dbos._workflows import begun, workflow


@final
class Here:
    """The places that this process has for calls of the common queue."""

    def __init__(self, queue: str, places: float, worker_places: float) -> None:
        """Keep how many there are, 0 where others work, and how many a worker has."""
        self.worker_places = worker_places
        self._queue = queue
        self._places = places

    async def put(self, name: str, queue: str, text: str) -> bool:
        """Begin a call here, or put it into its queue; one that is there stays as it is.

        Return whether it was put into the queue.
        """
        if queue == self._queue and self._places:
            counts = active()
            if counts is not None and counts.count_for_queue(queue) < self._places:
                await self._begin(counts, name, text)
                return False
        with SetWorkflowID(name):
            await DBOS.enqueue_workflow_async(queue, workflow("call"), text)
        return True

    async def _begin(self, counts: Any, name: str, text: str) -> None:
        place = counts.add(name, self._queue)

        def release(_: object) -> None:
            place.release()

        try:
            handle = await begun(name, "call", text)
        except BaseException:
            place.release()
            raise
        # The handle of a workflow that runs elsewhere, or has ended, has none.
        running = getattr(handle, "task", None)
        if running is None:
            place.release()
        else:
            running.add_done_callback(release)
