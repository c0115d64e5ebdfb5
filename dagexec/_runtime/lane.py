"""Lanes: where launched calls queue for a worker, and what ends them together."""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, final

import anyio
from anyio import create_task_group

from dagexec._core.scheduler import Expired

if TYPE_CHECKING:
    from anyio import CancelScope
    from anyio.abc import TaskGroup

    from dagexec._core.scheduler import Launch
    from dagexec._runtime.runner import Runner
    from dagexec._tools.context import Ground


@final
class Lane:
    """A task group under a scope, and the calls that wait for a worker in it."""

    __slots__ = (
        "asking",
        "ended",
        "ground",
        "group",
        "layer",
        "left",
        "looking",
        "queue",
        "runner",
        "scope",
        "starting",
    )

    def __init__(self, runner: Runner, layer: int | None) -> None:
        """Begin empty, and closed: calls may queue before workers can be started."""
        self.runner = runner
        # The layer whose deadline this is, None for the lane that all layers share.
        self.layer = layer
        self.queue: deque[tuple[str, float]] = deque()
        # Calls not settled; the shared lane ends with the run instead.
        self.left = 0
        # Workers that were started and have not looked at the queue yet.
        self.starting = 0
        # One while the code that feeds the machine is a worker of this lane, which will look at the
        # queue again by itself; said of the shared lane only.
        self.looking = 0
        self.ended = anyio.Event()
        self.ground: Ground
        self.group: TaskGroup | None = None
        self.scope: CancelScope | None = None
        # Whether it stands in the queue for a slot.
        self.asking = False

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
        self.runner.slots.withdraw(self)

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
        wanted = len(self.queue) - self.starting - self.looking - besides
        group, slots = self.group, self.runner.slots
        if wanted <= 0 or group is None or self.runner.is_over(self):
            return  # or the lane's own task will start or end it
        for _ in range(min(wanted, 2)):
            if not slots.take():
                if not self.asking:
                    self.asking = True
                    slots.waiters.append(self)
                return
            self.starting += 1
            group.start_soon(self.runner.work, self)

    def grant(self) -> None:
        """Take over a slot: start a worker with it."""
        self.asking = False
        if len(self.queue) > self.starting and self.group is not None:
            self.starting += 1
            self.group.start_soon(self.runner.work, self)
            self.recruit()
        else:
            self.runner.slots.give()


@final
class Layers:
    """The lanes of a run whose layers have a deadline: each layer its own."""

    __slots__ = ("_lane_of", "_lanes", "_runner", "_seconds")

    def __init__(self, runner: Runner, seconds: float) -> None:
        """Begin without a layer; each may take `seconds` from its start."""
        self._runner = runner
        self._seconds = seconds
        self._lanes: list[Lane] = []
        # Where each call that has not ended runs.
        self._lane_of: dict[str, Lane] = {}

    @property
    def lanes(self) -> list[Lane]:
        """The lanes so far, in the order in which their layers were launched."""
        return self._lanes

    def launch(self, action: Launch, now: float) -> None:
        """Open a lane for a layer; before the run's own task group is open it only queues."""
        lane = Lane(self._runner, action.layer)
        self._lanes.append(lane)
        lane.queue.extend(zip(action.calls, repeat(now)))
        lane.left = len(lane.queue)
        self._lane_of.update(dict.fromkeys(action.calls, lane))
        above = self._runner.lane
        if above.group is not None:
            above.group.start_soon(self._run, lane)

    async def _run(self, lane: Lane) -> None:
        """Run one ready layer in its own task group under `move_on_after`."""
        runner = self._runner
        with anyio.move_on_after(self._seconds) as lane.scope:
            lane.ground = runner.ground(lane.scope)
            lane.ground.group = runner.lane.ground.group
            async with create_task_group() as group:
                with lane.open(group):
                    lane.recruit()
                    await lane.ended.wait()
        if lane.left and not runner.is_over(runner.lane):
            runner.feed_noted(Expired(lane.layer or 0))

    def settled(self, name: str) -> None:
        """End the lane whose last call this was."""
        lane = self._lane_of.pop(name, None)
        if lane is not None:
            lane.left -= 1
            if lane.left == 0:
                lane.ended.set()
