"""The sequential mode: one call after the other, in plan order and in the caller's task."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, final

from anyio.lowlevel import checkpoint

from dagexec._core.outcomes import Cancelled
from dagexec._core.plan import Call, Plan
from dagexec._core.scheduler import Added, Closed, Launch
from dagexec._runtime.intake import Intake, listener
from dagexec._runtime.lane import Lane
from dagexec._runtime.worker import Worker
from dagexec._tools.context import call_of

if TYPE_CHECKING:
    from dagexec._runtime.recorder import Recorder


@final
class Sequential:
    """Runs the calls of one run in plan order: to debug, without slots and threads."""

    __slots__ = ("_lane", "_ready", "_recorder", "_run", "_worker")

    def __init__(self, lane: Lane, recorder: Recorder | None) -> None:
        """Begin without calls."""
        self._run = lane.run
        self._lane = lane
        self._recorder = recorder
        # The launched calls, a heap by their places in the plan.
        self._ready: list[tuple[float, str]] = []
        # Set before the first call starts.
        self._worker: Worker | None = None

    def launch(self, action: Launch) -> None:
        """Take calls that became ready."""
        for name in action.calls:
            heapq.heappush(self._ready, (self._run.machine.place(name), name))

    def is_meant(self) -> bool:
        """Whether a request to cancel the caller's task, made in this context, is to reach it.

        On asyncio, where a tool may cancel the task that it runs in. What comes from elsewhere is
        meant for the caller: it ends the run, and reaches the tool again and again from now on.
        """
        asking = call_of(self._run.run_id)
        if asking is None:
            self._run.interrupt(Cancelled())
            return True
        running = None if self._worker is None else self._worker.look()
        return running is not None and asking == running[0].id

    async def drive(
        self,
        plan: Plan | None,
        source: AsyncIterator[Call] | None,
        new_worker: Callable[[Lane], Worker],
    ) -> None:
        """Run to the end; of a streamed plan nothing starts before all of it is read.

        But for a source that waits for what becomes of its calls: they run one by one as they come.
        """
        run, lane, recorder = self._run, self._lane, self._recorder
        if recorder is not None:
            await recorder.begin(plan)
        elif plan is not None:
            run.feed(*map(Added, plan.calls), Closed())
        worker = self._worker = new_worker(lane)
        if source is not None:
            work = None if listener(source) is None else partial(self._work, worker)
            await Intake(run, recorder, work).read(source)
        await self._work(worker)
        await checkpoint()  # a cancellation that the last tool kept for itself comes through here

    async def _work(self, worker: Worker) -> None:
        """Run what is ready, and what becomes ready by it."""
        lane, recorder = self._lane, self._recorder
        while self._ready and not lane.is_over():
            _, name = heapq.heappop(self._ready)
            lane.queue.append((name, self._run.now()))
            await checkpoint()
            worker.running = worker.burst()
            await worker.running
            if recorder is not None:
                await recorder.drain()
