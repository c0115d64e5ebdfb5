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

from dagexec.engines.dbos._workflows import begun, workflow


@final
class Here:
    """The places that this process has for calls of the common queue."""

    def __init__(self, queue: str, places: float) -> None:
        """Keep how many there are; 0 where others work."""
        self._queue = queue
        self._places = places

    async def put(self, name: str, queue: str, text: str) -> None:
        """Begin a call here, or put it into its queue; one that is there stays as it is."""
        if queue == self._queue and self._places:
            active = _active()
            if active is not None and active.count_for_queue(queue) < self._places:
                await self._begin(active, name, text)
                return
        with SetWorkflowID(name):
            await DBOS.enqueue_workflow_async(queue, workflow("call"), text)

    async def _begin(self, active: Any, name: str, text: str) -> None:
        place = active.add(name, self._queue)

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


def _active() -> Any:
    """Return what the queues' threads count; DBOS has no other way to say that a place is taken.

    None on a DBOS that keeps it elsewhere: all calls go through queues there, which is slower.
    """
    try:
        from dbos._dbos import _get_dbos_instance  # pyright: ignore[reportPrivateUsage]
    except ImportError:
        return None
    active = getattr(_get_dbos_instance(), "_active_workflows_set", None)
    return active if hasattr(active, "count_for_queue") and hasattr(active, "add") else None
