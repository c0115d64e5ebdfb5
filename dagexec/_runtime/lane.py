"""Lanes: where launched calls queue for a worker, and what ends them together.

A lane is a task group under `move_on_after`, a queue of launched calls, and workers that take calls
from the queue while they hold a slot. With `Timeouts.layer` each ready layer has a lane of its own;
without it a layer's scope could never do anything, so all layers share the run's lane. A worker
that ends one call goes on with the next in the queue: a chain runs in one task, and a fan-out has
at most as many tasks as there are slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from itertools import repeat
from typing import Any, TypeAlias, final

import anyio
from anyio import CancelScope, create_task_group
from anyio.abc import TaskGroup

from dagexec._core.outcomes import Outcome
from dagexec._core.scheduler import Expired, Launch, Settled, Spread
from dagexec._runtime.state import RunState, late
from dagexec._tools.context import Surroundings

# Runs calls of a lane, with a slot that was taken for it.
Work: TypeAlias = "Callable[[Lane], Coroutine[Any, Any, None]]"


@final
class Lane:
    """A task group under a scope, and the calls that wait for a worker in it."""

    __slots__ = (
        "ended",
        "group",
        "layer",
        "queue",
        "queued_for_slot",
        "run",
        "scope",
        "starting",
        "surroundings",
        "takes_next",
        "unsettled",
        "work",
    )

    def __init__(self, run: RunState, work: Work, layer: int | None = None) -> None:
        """Begin empty, and closed: calls may queue before workers can be started."""
        self.run = run
        self.work = work
        # The layer whose deadline this is, None for the lane that all layers share.
        self.layer = layer
        # Calls that were launched and that no worker has taken, with the seconds of the run since
        # when they are ready. One may have been concluded meanwhile: whoever takes it looks.
        self.queue: deque[tuple[str, float]] = deque()
        # Calls without an outcome, in a layer's lane; the shared lane ends with the run instead.
        self.unsettled = 0
        # Workers that were started and have not taken from the queue yet. Each has its slot.
        self.starting = 0
        # 1 while a worker of this lane feeds the machine: it takes the next call itself, so no
        # other is started. Always 0 in a layer's own lane.
        self.takes_next = 0
        # Set when no call of this lane is left.
        self.ended = anyio.Event()
        # Set before the first worker starts.
        self.surroundings: Surroundings
        # Where workers are started: None before the lane is open and after it has ended.
        self.group: TaskGroup | None = None
        # The layer's scope, None in the shared lane, whose scope is the run's.
        self.scope: CancelScope | None = None
        # Whether this lane stands in the queue for a slot: at most once, however many calls wait.
        self.queued_for_slot = False

    # ------------------------------------------------------------------------------ open and closed

    def open(self, group: TaskGroup) -> Lane:
        """Let workers be started in `group`, until the block that this is entered with ends.

        That is before the group ends, so that none comes late.
        """
        self.group = group
        return self

    def __enter__(self) -> Lane:
        """Begin the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let no worker be started any more."""
        self.group = None
        self.run.slots.withdraw(self)

    def give_back_unused(self) -> None:
        """Give back the slots of workers that never took a step: their tasks were cancelled before.

        To be called when the group has ended.
        """
        while self.starting:
            self.starting -= 1
            self.run.slots.give()

    # ------------------------------------------------------------------------------ calls that come

    def launch(self, action: Launch) -> None:
        """Queue the calls of a layer, in the lane that all layers share."""
        run, queue = self.run, self.queue
        now = run.clock() - run.zero
        for name in action.calls:
            queue.append((name, now))
        if len(queue) > self.takes_next:  # else whoever feeds the machine takes it, as in a chain
            self.recruit()

    def put(self, name: str, since: float) -> None:
        """Queue a call that is ready, since so many seconds of the run."""
        self.queue.append((name, since))
        self.recruit()

    def recruit(self, besides: int = 0) -> None:
        """Start workers for queued calls while there are slots; queue up for what is left.

        Two at a time; each starts two more when it gets its turn. Calls that never wait are done
        by the first few, and a task for each of thousands would have been for nothing. `besides`
        says how many workers will look at the queue anyway.
        """
        wanted = len(self.queue) - self.starting - self.takes_next - besides
        group, slots = self.group, self.run.slots
        if wanted <= 0 or group is None or self.is_over():
            return  # or the lane's own task will start or end it
        for _ in range(min(wanted, 2)):
            if not slots.take():
                if not self.queued_for_slot:
                    self.queued_for_slot = True
                    slots.waiters.append(self)
                return
            self.starting += 1
            group.start_soon(self.work, self)

    def grant(self) -> None:
        """Take over a slot: start a worker with it."""
        self.queued_for_slot = False
        if len(self.queue) > self.starting and self.group is not None:
            self.starting += 1
            self.group.start_soon(self.work, self)
            self.recruit()
        else:
            self.run.slots.give()

    # ----------------------------------------------------------------------- what becomes of a call

    def settle(self, name: str, outcome: Outcome) -> None:
        """Tell the machine what became of a call of this lane; from the worker that ran it."""
        run = self.run
        if run.record is not None:
            run.record(name, outcome)
            return
        self.takes_next = 1 if self.layer is None else 0
        try:
            run.feed(Settled(name, outcome))
        finally:
            self.takes_next = 0
        if run.released:
            run.release(name)

    def spread(self, event: Spread) -> None:
        """Tell the machine that a call of this lane becomes a call for each item."""
        run = self.run
        if run.record_spread is not None:
            run.record_spread(event)
            return
        self.takes_next = 1 if self.layer is None else 0
        try:
            run.spread(event)
        finally:
            self.takes_next = 0

    def is_over(self) -> bool:
        """Whether a deadline or a stop has ended this lane: nothing starts in it any more."""
        return self.run.scope.cancel_called or (self.scope is not None and self.scope.cancel_called)

    def reason(self) -> Outcome:
        """Return the outcome of what was cancelled in this lane: which scope, or the caller."""
        stopped = self.run.stopped_by()
        if stopped is not None:
            return stopped
        if self.scope is not None and self.scope.cancel_called:
            return late("layer", self.run.blocking.during(self.run.now()))
        return self.run.stopped_by_caller()


@final
class Layers:
    """The lanes of a run whose layers have a deadline: each layer its own."""

    __slots__ = ("_above", "_lane_of", "_seconds", "lanes")

    def __init__(self, above: Lane, seconds: float) -> None:
        """Begin without a layer, inside the run's lane; each may take `seconds` from its start."""
        self._above = above
        self._seconds = seconds
        # In the order in which their layers were launched; those that have ended stay.
        self.lanes: list[Lane] = []
        # Where each call that has not ended runs.
        self._lane_of: dict[str, Lane] = {}

    def launch(self, action: Launch) -> None:
        """Open a lane for a layer; before the run's own task group is open it only queues."""
        above = self._above
        lane = Lane(above.run, above.work, action.layer)
        self.lanes.append(lane)
        lane.queue.extend(zip(action.calls, repeat(above.run.now())))
        lane.unsettled = len(lane.queue)
        self._lane_of.update(dict.fromkeys(action.calls, lane))
        if above.group is not None:
            above.group.start_soon(self._run, lane)

    async def _run(self, lane: Lane) -> None:
        """Run one ready layer in its own task group under `move_on_after`."""
        above, run = self._above, self._above.run
        with anyio.move_on_after(self._seconds) as lane.scope:
            lane.surroundings = run.surroundings(lane.scope)
            try:
                async with create_task_group() as group:
                    with lane.open(group):
                        lane.recruit()
                        await lane.ended.wait()
            finally:
                lane.give_back_unused()
        if lane.unsettled and not above.is_over():
            run.note(Expired(lane.layer or 0))

    def settled(self, name: str) -> None:
        """End the lane whose last call this was."""
        lane = self._lane_of.pop(name, None)
        if lane is not None:
            lane.unsettled -= 1
            if lane.unsettled == 0:
                lane.ended.set()
