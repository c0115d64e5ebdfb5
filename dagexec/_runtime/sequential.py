"""The sequential mode: one call after the other, in plan order and in the caller's task."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, final

from anyio.lowlevel import checkpoint

from dagexec._core.scheduler import Added, Closed
from dagexec._runtime.intake import Intake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from dagexec._core.plan import Call, Plan
    from dagexec._runtime.runner import Runner


@final
class InOrder:
    """Runs the calls of one run in plan order: to debug, without slots and threads."""

    __slots__ = ("_places", "_ready", "_runner")

    def __init__(self, runner: Runner) -> None:
        """Begin without calls."""
        self._runner = runner
        # The launched calls, a heap by their places in the plan.
        self._ready: list[tuple[int, str]] = []
        self._places: dict[str, int] = {}

    def launch(self, names: Iterable[str]) -> None:
        """Take calls that became ready."""
        for name in names:
            heapq.heappush(self._ready, (self._place(name), name))

    def _place(self, name: str) -> int:
        if name not in self._places:
            calls = self._runner.machine.calls
            self._places.update((call.id, index) for index, call in enumerate(calls))
        return self._places[name]

    async def drive(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        """Run to the end; of a streamed plan nothing starts before all of it is read."""
        runner, lane = self._runner, self._runner.lane
        recorder = runner.recorder
        if recorder is not None:
            await recorder.begin(plan)
        elif plan is not None:
            runner.feed(*map(Added, plan.calls), Closed())
        if source is not None:
            await Intake(runner).read(source)
        worker = runner.new_worker(lane)
        while self._ready and not runner.is_over(lane):
            _, name = heapq.heappop(self._ready)
            lane.queue.append((name, runner.now()))
            await checkpoint()
            worker.running = worker.burst()
            await worker.running
            if recorder is not None:
                await recorder.drain()
        await checkpoint()  # a cancellation that the last tool kept for itself comes through here
