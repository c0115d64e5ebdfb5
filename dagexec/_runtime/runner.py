"""The runner: drives the scheduler with anyio, one runner for one run.

Layers run in *lanes*. A lane is a task group under `move_on_after`, a queue of launched calls, and
workers that take calls from the queue while they hold a slot. With `Timeouts.layer` each ready
layer has a lane of its own; without it a layer's scope could never do anything, so all layers
share the run's lane. A worker that ends one call goes on with the next in the queue: a chain runs
in one task, and a fan-out has at most as many tasks as there are slots.

Everything between two awaits is atomic on an event loop, so feeding the scheduler, recording
outcomes and starting workers need no lock.
"""

from __future__ import annotations

import sys
import threading
import time
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, final

import anyio
from anyio import CancelScope, create_task_group, get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

from dagexec._concurrency.signals import bare
from dagexec._core.events import added, settled, started
from dagexec._core.outcomes import Cancelled, Outcome, TimedOut
from dagexec._core.scheduler import (
    Abort,
    Closed,
    Conclude,
    Event,
    Expired,
    Launch,
    Scheduler,
    State,
    Stop,
)
from dagexec._errors import CallTimeout
from dagexec._runtime.holdings import Holdings, log_end
from dagexec._runtime.intake import Intake
from dagexec._runtime.lane import Lane, Layers
from dagexec._runtime.observers import entering, tell_all, tell_past, telling_from_anywhere
from dagexec._runtime.sequential import InOrder
from dagexec._runtime.sharing import Sharing
from dagexec._runtime.watchdog import Watchdog
from dagexec._runtime.worker import Worker
from dagexec._tools.context import Ground

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextvars import Context

    from dagexec._concurrency.capacities import Capacities
    from dagexec._concurrency.slots import Slots
    from dagexec._concurrency.threads import ThreadCall
    from dagexec._core.events import Notice, Progress
    from dagexec._core.plan import Call, Plan
    from dagexec._runtime.observers import Observer
    from dagexec._runtime.recorder import Recorder
    from dagexec._runtime.settings import Settings
    from dagexec.limits._retry import Budget

# The runs that are being driven in this process, for those who look on.
live: Final[dict[Runner, None]] = {}


@final
class Runner:
    """One run. `drive` runs it to its end; `machine.outcomes` can be read at any time."""

    def __init__(
        self,
        settings: Settings,
        slots: Slots,
        run_id: str,
        observers: Sequence[Observer],
        capacities: Capacities | None = None,
    ) -> None:
        """Prepare a run; its clock starts with `drive`."""
        self.settings = settings
        self.slots = slots
        self.run_id = run_id
        self.machine = Scheduler(on_failure=settings.on_failure, barrier=settings.barrier)
        self._observers = observers
        self._enter = entering(observers)
        self._context: Context = copy_context()
        # Arguments validated before the run, for calls whose arguments hold no reference.
        self.prepared: dict[str, dict[str, Any]] = {}
        # Records the run, if there is a journal.
        self.recorder: Recorder | None = None
        self._init_clock()
        self._init_couplings(capacities)
        self._init_lanes()
        self._init_ending()

    def _init_clock(self) -> None:
        # The library's own: anyio.current_time() first finds out which one it is, each time.
        loop = self.slots.loop()
        trio = sys.modules.get("trio")
        other = anyio.current_time if trio is None else trio.current_time
        self.clock: Callable[[], float] = getattr(loop, "time", other)
        self.zero = 0.0
        self.elapsed = 0.0
        # Seconds that the run had lasted before it was resumed.
        self.already = 0.0
        # On the machine's clock, which any thread can read; and the thread of the event loop.
        self.began = 0.0
        self.thread = threading.get_ident()

    def _init_couplings(self, capacities: Capacities | None) -> None:
        """Prepare what calls have to do with each other beyond their references."""
        settings = self.settings
        self.sharing = Sharing(self) if settings.shares else None
        # None in the sequential mode, where no two calls run at a time.
        self.holdings = None if capacities is None else Holdings(self, capacities)
        self.coupled = settings.shares or capacities is not None
        self.guards = settings.guards
        # Retries that this run may still make, by key.
        self.budgets: dict[str, Budget] = {}

    def _init_lanes(self) -> None:
        settings = self.settings
        self._scope = CancelScope()
        self.lane = Lane(self, None)
        # At most one of these, and none where all layers share the lane.
        self._in_order = InOrder(self) if settings.sequential else None
        seconds = None if settings.sequential else settings.layer_timeout
        self._layers = None if seconds is None else Layers(self, seconds)
        # Whether others than the machine are told that a call is settled.
        self._tied = self.coupled or self._layers is not None
        self._worker = Worker if settings.guards is None else _guarded_worker()
        # The workers at work, for those who look on.
        self.workers: dict[Worker, None] = {}
        self.watchdog = Watchdog()

    def _init_ending(self) -> None:
        self.cancelled = get_cancelled_exc_class()
        # Whether it was driven at all.
        self.begun = False
        self._ended = False
        # What a call that is stopped becomes, once something has stopped it.
        self._verdict: Outcome | None = None
        # What passes through the run bare: KeyboardInterrupt, SystemExit and their like.
        self._fatal: BaseException | None = None
        # Whether the run ends by what is no outcome: a journal keeps it open then.
        self.interrupted = False
        # Threads that were left behind, and the calls that they were for.
        self.abandoned = 0
        self._left: list[str] = []

    # ------------------------------------------------------------------------------- the whole run

    async def drive(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        """Run to the end; raises only what is not an outcome of a call."""
        self.begun = True
        live[self] = None
        self.began = time.monotonic()
        now = self.clock()
        self.zero = now - self.already
        self.lane.ground = self.ground()
        if self.settings.run_timeout is not None:
            self._scope.deadline = now + self.settings.run_timeout
        self.retell()
        try:
            with self._scope:
                await self._drive(plan, source)
        except BaseExceptionGroup as group:
            raise bare(group, self.cancelled) from None
        finally:
            try:
                if self.recorder is not None:
                    await self.recorder.drain()
            finally:
                self._end()
        if self._fatal is not None:
            raise self._fatal

    async def _drive(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        if self._in_order is not None:
            await self._in_order.drive(plan, source)
            return
        lane = self.lane
        async with create_task_group() as group:
            with lane.open(group):
                lane.ground.group = group
                if self.recorder is not None:
                    await self.recorder.begin(plan)
                if source is not None:
                    group.start_soon(Intake(self).read, source)
                if self.recorder is not None:
                    await self.recorder.deliver(lane.ended)
                else:
                    await self._until_ended(lane, plan)
                self.watchdog.end()

    async def _until_ended(self, lane: Lane, plan: Plan | None) -> None:
        if plan is not None:
            # The task of the run itself is the first worker: a chain needs no other.
            lane.looking = 1
            self.feed(*map(added, plan.calls), Closed())
            lane.looking = 0
            if lane.queue and self.slots.take():
                await self.work(lane, started=False)
            else:
                lane.recruit()
        if lane.ended.is_set():
            # What waiting would do but for a turn of the event loop, which the group takes.
            await checkpoint_if_cancelled()
        else:
            await lane.ended.wait()

    def _end(self) -> None:
        del live[self]
        if not self.machine.finished:
            self.stop(self.reason(self.lane))
        self.elapsed = self.now()
        if self.holdings is not None:
            self.holdings.end()
        log_end(self, self._left)
        self._ended = True

    def ground(self, *inner: CancelScope) -> Ground:
        """Return what the calls of a lane stand on, inside these scopes and the run's."""
        recorder = self.recorder
        return Ground(
            self.run_id,
            self._context,
            (self._scope, *inner),
            self._enter,
            tell=telling_from_anywhere(self.progress) if self._observers else None,
            given=None if recorder is None else recorder.given,
            starts=None if recorder is None else recorder.starts,
        )

    # ------------------------------------------------------------------ the machine and its actions

    def observe(self, observer: Observer) -> None:
        """Tell one more of what happens; before the run begins."""
        self._observers = (*self._observers, observer)

    def follow(self, on_failure: str, *, barrier: bool) -> None:
        """Begin with the policies of a run that is resumed, whatever those of its executor are."""
        self.machine = Scheduler(on_failure=on_failure, barrier=barrier)

    def stop(self, outcome: Outcome) -> None:
        """End the run: what has not ended becomes `outcome`. Before it began it gets its calls."""
        if self._ended:
            return
        self._verdict = self._verdict or outcome
        if self.begun:
            self.feed_noted(Stop(outcome))
        self._scope.cancel()

    def interrupt(self, outcome: Outcome) -> None:
        """End the run by what is no outcome of a call: a journal keeps it open, to be resumed."""
        self.interrupted = True
        self.stop(outcome)

    def end_by(self, error: BaseException, outcome: Outcome) -> None:
        """End the run by an error; `drive` raises the first of these bare."""
        self._fatal = self._fatal or error
        self.interrupt(outcome)

    def feed_noted(self, event: Stop | Expired) -> None:
        """Feed what no call says; if there is a journal, in the order in which it is recorded."""
        if self.recorder is None:
            self.feed(event)
        else:
            self.recorder.note(event)

    def feed(self, *events: Event) -> None:
        """Give events to the machine and do what it says."""
        actions = self.machine.receive(*events)
        if self._observers:
            tell_all(self._observers, events)
            tell_all(self._observers, actions)
        for action in actions:
            kind = type(action)
            if kind is Launch:
                self._on_launch(action)  # type: ignore[arg-type]
            elif kind is Abort:
                self._on_abort(action)  # type: ignore[arg-type]
            elif kind is Conclude:
                self._release(action.call)  # type: ignore[union-attr]
            else:
                self.lane.ended.set()
                if self.recorder is not None:
                    self.recorder.wake()

    def begin(self, name: str, at: float) -> None:
        """Tell the machine that a call begins, at `at` seconds of the run."""
        event = started(name, at)
        if self._observers:
            self.feed(event)
        else:
            self.machine.receive(event)  # nothing follows from it

    def progress(self, item: Progress) -> None:
        """Tell those who look on how far a call is, unless it has ended."""
        if item.call not in self.machine.outcomes:
            self.tell(replace(item, at=self.now()))

    def tell(self, notice: Notice) -> None:
        """Let observers hear of something that is no event of the machine."""
        if self._observers:
            tell_all(self._observers, (notice,))

    def retell(self) -> None:
        """Tell observers what a resumed run had been through, its end too if nothing is left."""
        tell_past(self._observers, self.machine, over=not self.begun)

    def _on_launch(self, action: Launch) -> None:
        if self._in_order is not None:
            self._in_order.launch(action.calls)
        elif self._layers is not None:
            self._layers.launch(action, self.now())
        else:
            now, lane = self.clock() - self.zero, self.lane
            queue = lane.queue
            for name in action.calls:
                queue.append((name, now))
            if len(queue) > lane.looking:  # else who looks takes it, as in a chain
                lane.recruit()

    def _on_abort(self, action: Abort) -> None:
        if action.outcome.scope != "layer":  # a layer's scope is cancelled by its own deadline
            self._verdict = self._verdict or action.outcome
            self._scope.cancel()

    # ---------------------------------------------------------------------------------- one worker

    async def work(self, lane: Lane, *, started: bool = True) -> None:
        """Run calls of a lane, one after the other, with a slot that was taken for it."""
        if started:
            lane.starting -= 1
            lane.recruit(besides=1)
        worker = self.new_worker(lane)
        worker.running = worker.run()
        try:
            await worker.running
        finally:
            del self.workers[worker]

    def new_worker(self, lane: Lane) -> Worker:
        """Return a worker that those who look on can see."""
        worker = self._worker(self, lane)
        self.workers[worker] = None
        return worker

    def settle(self, lane: Lane, name: str, outcome: Outcome) -> None:
        """Tell the machine what became of a call of this lane; from the worker that ran it."""
        if self.recorder is not None:
            self.recorder.settle(lane, name, outcome)
            return
        shared = self.lane
        shared.looking = 1 if lane is shared else 0
        try:
            self.feed(settled(name, outcome))
        finally:
            shared.looking = 0
        if self._tied:
            self._release(name)

    def _release(self, name: str) -> None:
        """Let those go on who wait for the outcome of a call, or for what it held.

        Also for one that the machine itself concluded: it may have waited, ready, with others
        behind it.
        """
        if self._layers is not None:
            self._layers.settled(name)
        if self.holdings is not None:
            self.holdings.give(name)
        if self.sharing is not None:
            self.sharing.ended(name)

    def settled(self, name: str, outcome: Outcome) -> None:
        """Tell the machine what became of a call, once it is recorded."""
        if self.machine.state(name) is State.SETTLED:
            return  # the run was stopped meanwhile
        self.feed(settled(name, outcome))
        self._release(name)

    def now(self) -> float:
        """Return the seconds since the run began."""
        return self.clock() - self.zero

    def so_far(self) -> float:
        """Return how long the run has taken, in seconds: until now, or until its end."""
        if not self.begun or self._ended:
            return self.elapsed
        return self.now()

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of this run."""
        return [self.lane] if self._layers is None else [self.lane, *self._layers.lanes]

    def leave_behind(self, call: Call | None, thread: ThreadCall) -> None:
        """Count a thread that nobody waits for any more; it keeps what it uses until it ends."""
        name = "" if call is None else call.id
        self.abandoned += 1
        self._left.append(name)
        if self.holdings is not None:
            self.holdings.keep(name, thread)

    # ----------------------------------------------------------------------- who stopped this call

    def is_over(self, lane: Lane) -> bool:
        """Whether a deadline or a stop has ended this lane: nothing starts in it any more."""
        return self._scope.cancel_called or (lane.scope is not None and lane.scope.cancel_called)

    def reason(self, lane: Lane) -> Outcome:
        """Return the outcome of what was cancelled in this lane: which scope, or the caller."""
        if self._verdict is not None:
            return self._verdict
        if self._scope.cancel_called:
            self._verdict = _late(self.settings.run_scope)
            self.feed_noted(Stop(self._verdict))
            return self._verdict
        if lane is not self.lane and lane.scope is not None and lane.scope.cancel_called:
            return _late("layer")
        self._verdict = Cancelled()
        self.interrupted = True
        self.feed(Stop(self._verdict))
        return self._verdict


def _guarded_worker() -> type[Worker]:
    # Only where a tool has limits or retries: `import dagexec` does not load them.
    from dagexec._runtime.limited_worker import GuardedWorker

    return GuardedWorker


def _late(scope: str) -> TimedOut:
    return TimedOut(scope, error=CallTimeout(f"the deadline of the {scope} expired", scope))
