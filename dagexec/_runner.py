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

import heapq
import logging
import threading
import time
from collections import deque
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final, runtime_checkable

import anyio
from anyio import CancelScope, create_task_group, get_cancelled_exc_class
from anyio.from_thread import run_sync as call_in_loop
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled, current_token

from dagexec._bare import bare
from dagexec._context import Ground, enter_call
from dagexec._errors import CallTimeout, DagexecError
from dagexec._holdings import Holdings, log_end
from dagexec._order import Order
from dagexec._outcomes import Cancelled, Outcome, TimedOut
from dagexec._scheduler import (
    Abort,
    Action,
    Added,
    Closed,
    Conclude,
    Event,
    Expired,
    Launch,
    Scheduler,
    Settled,
    State,
    Stop,
)
from dagexec._setup import Setup
from dagexec._sharing import Sharing
from dagexec._watchdog import Watchdog
from dagexec._worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
    from contextvars import Context

    from anyio.abc import TaskGroup
    from anyio.lowlevel import EventLoopToken

    from dagexec._capacities import Capacities
    from dagexec._context import Facts
    from dagexec._guarded import Guard
    from dagexec._notices import Notice, Progress
    from dagexec._plan import Call, Plan
    from dagexec._recorder import Recorder
    from dagexec._slots import Slots
    from dagexec._threads import ThreadCall
    from dagexec._tools import Tool
    from dagexec.limits._retry import Budget, Retry

_log: Final = logging.getLogger("dagexec")

# The runs that are being driven in this process, for those who look on.
live: Final[dict[Runner, None]] = {}

Observer: TypeAlias = "Callable[[Event | Action | Notice], object]"


@runtime_checkable
class Entering(Protocol):
    """An observer that also has something to do in the context of each call, before its tool."""

    def enter(self, call: str) -> None:
        """Set ContextVars, for one."""
        ...


@runtime_checkable
class ObservesRuns(Protocol):
    """What makes an observer for each run: an `Executor`'s `observers` may be such things."""

    def begin(self, run_id: str, tools: Mapping[str, Tool[..., Any]]) -> Observer:
        """Return what is told of this run's events and actions."""
        ...


Source: TypeAlias = "Plan | AsyncIterator[Call]"


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What a runner needs to know of its executor."""

    tools: Mapping[str, Tool[..., Any]]
    call_timeout: float | None
    layer_timeout: float | None
    run_timeout: float | None
    run_scope: str
    on_failure: str
    barrier: bool
    sequential: bool
    # Whether a tool is pure: its identical calls share one execution.
    shares: bool
    # What stands before the calls of tools with limits or retries; None where no tool has any.
    guards: Mapping[str, Guard] | None = None
    # What of these the pictures of a run show; made once, because each report holds it.
    setup: Setup = field(init=False)

    def __post_init__(self) -> None:
        tools = self.tools
        setup = Setup(
            call=self.call_timeout,
            layer=self.layer_timeout,
            run=self.run_timeout,
            scope=self.run_scope,
            tools={name: each.timeout for name, each in tools.items() if each.timeout is not None},
            secret={name: tuple(each.secret) for name, each in tools.items() if each.secret},
        )
        object.__setattr__(self, "setup", setup)


class SourceError(Exception):
    """The source of a streamed plan broke; the cause is what it raised."""


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
        "queue",
        "runner",
        "scope",
        "starting",
    )

    def __init__(self, runner: Runner, layer: int | None) -> None:
        self.runner = runner
        # The layer whose deadline this is, None for the lane that all layers share.
        self.layer = layer
        self.queue: deque[tuple[str, float]] = deque()
        # Calls not settled; the shared lane ends with the run instead.
        self.left = 0
        # Workers that were started and have not looked at the queue yet.
        self.starting = 0
        self.ended = anyio.Event()
        self.ground: Ground
        self.group: TaskGroup | None = None
        self.scope: CancelScope | None = None
        # Whether it stands in the queue for a slot.
        self.asking = False

    @asynccontextmanager
    async def open(self, group: TaskGroup) -> AsyncGenerator[None]:
        """Let workers be started in `group`; ends before the group, so that none comes late."""
        self.group = group
        try:
            yield
        finally:
            self.group = None
            self.runner.slots.withdraw(self)

    def put(self, name: str, since: float) -> None:
        """Queue a call that is ready, since so many seconds of the run."""
        self.queue.append((name, since))
        self.runner.recruit(self)

    def grant(self) -> None:
        """Take over a slot: start a worker with it."""
        self.asking = False
        if len(self.queue) > self.starting and self.group is not None:
            self.starting += 1
            self.group.start_soon(self.runner.work, self)
            self.runner.recruit(self)
        else:
            self.runner.slots.give()


@final
class Runner:
    """One run. `drive` runs it to its end; `outcomes` can be read at any time."""

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
        # None in the sequential mode, where no two calls run at a time.
        self.holdings = None if capacities is None else Holdings(self, capacities)
        # Calls whose threads were left behind.
        self._left: list[str] = []
        self.run_id = run_id
        self.machine = Scheduler(on_failure=settings.on_failure, barrier=settings.barrier)
        self.abandoned = 0
        # The workers at work, and the thread of the event loop, for those who look on.
        self.workers: dict[Worker, None] = {}
        self.thread = threading.get_ident()
        self.began = 0.0  # on the machine's clock, which any thread can read
        self._began = False
        self._ended = False
        self.elapsed = 0.0
        self._observers = observers
        entering: list[object] = [*observers]
        enters = [each.enter for each in entering if isinstance(each, Entering)]
        self._enter = _entering(enters) if enters else enter_call
        self.zero = 0.0
        # asyncio's clock itself: anyio.current_time() first finds out which loop it is, each time.
        self.clock: Callable[[], float] = getattr(
            current_token().native_token, "time", anyio.current_time
        )
        # Arguments validated before the run, for calls whose arguments hold no reference.
        self.prepared: dict[str, dict[str, Any]] = {}
        self._context: Context = copy_context()
        self.cancelled = get_cancelled_exc_class()
        self._scope = CancelScope()
        self._lane = Lane(self, None)
        self._lanes: dict[int, Lane] = {}
        # What a call that is stopped becomes, once something has stopped it.
        self._verdict: Outcome | None = None
        # What passes through the run bare: KeyboardInterrupt, SystemExit and their like.
        self._fatal: BaseException | None = None
        # One while the code that feeds the machine is a worker of the shared lane, which will look
        # at the queue again by itself.
        self._looking = 0
        self.sharing = Sharing(self) if settings.shares else None
        # Whether calls have to do with each other beyond their references.
        self.coupled = settings.shares or capacities is not None
        self.guards = settings.guards
        self._worker = Worker if settings.guards is None else _guarded_worker()
        # Retries that this run may still make, by key.
        self._budgets: dict[str, Budget] = {}
        self.watchdog = Watchdog()
        self._layer_of: dict[str, int] = {}
        # For the sequential mode: the calls to run, by plan order.
        self._heap: list[tuple[int, str]] = []
        self._places: dict[str, int] = {}
        # Records the run, if there is a journal.
        self.recorder: Recorder | None = None
        # Seconds that the run had lasted before it was resumed.
        self.already = 0.0
        # Whether the run ends by what is no outcome: a journal keeps it open then.
        self.interrupted = False

    # ------------------------------------------------------------------------------- the whole run

    async def drive(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        """Run to the end; raises only what is not an outcome of a call."""
        self._began = True
        live[self] = None
        self.began = time.monotonic()
        now = self.clock()
        self.zero = now - self.already
        self._lane.ground = self._ground(self._scope)
        if self.settings.run_timeout is not None:
            self._scope.deadline = now + self.settings.run_timeout
        try:
            with self._scope:
                await self._drive(plan, source)
        except BaseExceptionGroup as group:
            raise bare(group, self.cancelled) from None
        finally:
            if self.recorder is not None:
                await self.recorder.drain()
            del live[self]
            if not self.machine.finished:
                self.stop(self.reason(self._lane))
            self.elapsed = self.now()
            if self.holdings is not None:
                self.holdings.end()
            log_end(self, self._left)
            self._ended = True
        if self._fatal is not None:
            raise self._fatal

    async def _drive(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        if self.settings.sequential:
            await self._drive_sequentially(plan, source)
            return
        lane = self._lane
        async with create_task_group() as group, lane.open(group):
            lane.ground.group = group
            if self.recorder is not None:
                await self.recorder.begin(plan)
                if source is not None:
                    group.start_soon(self._read, source)
                await self.recorder.deliver(lane.ended)
                self.watchdog.end()
                return
            if source is not None:
                group.start_soon(self._read, source)
            elif plan is not None:
                # The task of the run itself is the first worker: a chain needs no other.
                self._looking = 1
                self.feed(*map(Added, plan.calls), Closed())
                self._looking = 0
                if lane.queue and self.slots.take():
                    await self.work(lane, started=False)
                else:
                    self.recruit(lane)
            if lane.ended.is_set():
                # What waiting would do but for a turn of the event loop, which the group takes.
                await checkpoint_if_cancelled()
            else:
                await lane.ended.wait()
            self.watchdog.end()

    async def _drive_sequentially(
        self, plan: Plan | None, source: AsyncIterator[Call] | None
    ) -> None:
        """Run one call after the other, in plan order, in the caller's task: to debug."""
        if self.recorder is not None:
            await self.recorder.begin(plan)
        elif plan is not None:
            self.feed(*map(Added, plan.calls), Closed())
        if source is not None:
            await self._read(source)
        worker = self._worker(self, self._lane)
        self.workers[worker] = None
        while self._heap and not self.is_over(self._lane):
            _, name = heapq.heappop(self._heap)
            self._lane.queue.append((name, self.now()))
            await checkpoint()
            worker.running = worker.burst()
            await worker.running
            if self.recorder is not None:
                await self.recorder.drain()
        await checkpoint()  # a cancellation that the last tool kept for itself comes through here

    async def _read(self, source: AsyncIterator[Call]) -> None:
        """Feed a streamed plan; a source that breaks stops the run and keeps what is done."""
        try:
            order = Order(self.settings.tools)
            async with aclosing(_closable(source)) as calls:
                async for call in calls:
                    if self.machine.closed:
                        return
                    checked = order.add(self._checked(call))
                    tool = self.settings.tools.get(checked.tool)
                    eager = tool is not None and tool.effect.eager
                    if self.recorder is None:
                        self.feed(Added(checked, eager=eager))
                    else:
                        await self._feed_recorded(self.recorder, Added(checked, eager=eager))
            if not self.machine.closed:
                # A source that came to an end may still say that its plan is not whole.
                why: str | None = getattr(source, "broken", None)
                if why is None:
                    await self._close()
                else:
                    self.interrupt(Cancelled(error=DagexecError(why)))
        except self.cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by drive, with the report
            broken = SourceError()
            broken.__cause__ = error
            self.end_by(broken if isinstance(error, Exception) else error, Cancelled())

    async def _feed_recorded(self, recorder: Recorder, event: Added | Closed) -> None:
        if isinstance(event, Added) and not recorder.added(event.call):
            return
        await recorder.record(event)
        if not self.machine.closed:
            self.feed(event)

    async def _close(self) -> None:
        if self.recorder is None:
            self.feed(Closed())
        else:
            await self._feed_recorded(self.recorder, Closed())

    def _checked(self, call: Call) -> Call:
        """Return a streamed call, with its problem if it cannot run: too late to refuse it."""
        tool = self.settings.tools.get(call.tool)
        if call.problem is not None:
            return call
        if call.id in (*call.needs, *call.waits):
            return replace(call, problem="it refers to itself")
        if tool is None:
            return replace(call, problem=f"there is no tool {call.tool!r}")
        problems = tool.problems(call.args)
        return replace(call, problem="; ".join(problems)) if problems else call

    # ------------------------------------------------------------------ the machine and its actions

    def observe(self, observer: Observer) -> None:
        """Tell one more of what happens; before the run begins."""
        self._observers = (*self._observers, observer)

    def stop(self, outcome: Outcome) -> None:
        """End the run: what has not ended becomes `outcome`. Before it began it gets its calls."""
        self._verdict = self._verdict or outcome
        if self._began:
            self._feed_noted(Stop(outcome))
        self._scope.cancel()

    def interrupt(self, outcome: Outcome) -> None:
        """End the run by what is no outcome of a call: a journal keeps it open, to be resumed."""
        self.interrupted = True
        self.stop(outcome)

    def end_by(self, error: BaseException, outcome: Outcome) -> None:
        """End the run by an error; `drive` raises the first of these bare."""
        self._fatal = self._fatal or error
        self.interrupt(outcome)

    def _feed_noted(self, event: Stop | Expired) -> None:
        if self.recorder is not None:
            self.recorder.note(event)
        self.feed(event)

    def feed(self, *events: Event) -> None:
        """Give events to the machine and do what it says."""
        actions = self.machine.receive(*events)
        if self._observers:
            self._tell(events)
            self._tell(actions)
        for action in actions:
            kind = type(action)
            if kind is Launch:
                self._on_launch(action)  # type: ignore[arg-type]
            elif kind is Abort:
                self._on_abort(action)  # type: ignore[arg-type]
            elif kind is Conclude:
                self._release(action.call)  # type: ignore[union-attr]
            else:
                self._lane.ended.set()
                if self.recorder is not None:
                    self.recorder.wake()

    def progress(self, item: Progress) -> None:
        """Tell those who look on how far a call is, unless it has ended."""
        if item.call not in self.machine.outcomes:
            self.tell(replace(item, at=self.now()))

    def tell(self, notice: Notice) -> None:
        """Let observers hear of something that is no event of the machine."""
        if self._observers:
            self._tell((notice,))

    def _tell(self, items: Sequence[Event | Action | Notice]) -> None:
        for item in items:
            for observer in self._observers:
                try:
                    observer(item)
                except Exception:  # noqa: BLE001 - whoever looks on must not disturb
                    _log.exception("an observer failed on %s; the run goes on", type(item).__name__)

    def _on_launch(self, action: Launch) -> None:
        now = self.now()
        if self.settings.sequential:
            for name in action.calls:
                heapq.heappush(self._heap, (self._place(name), name))
            return
        if self.settings.layer_timeout is None:
            queue = self._lane.queue
            queue.extend(zip(action.calls, repeat(now)))
            if len(queue) > self._looking:  # else the worker that looks takes it, as in a chain
                self.recruit(self._lane)
            return
        lane = self._lanes[action.layer] = Lane(self, action.layer)
        lane.queue.extend(zip(action.calls, repeat(now)))
        lane.left = len(lane.queue)
        self._layer_of.update(dict.fromkeys(action.calls, action.layer))
        if self._lane.group is not None:
            self._lane.group.start_soon(self._run_layer, lane, self.settings.layer_timeout)

    def _ground(self, *scopes: CancelScope) -> Ground:
        recorder = self.recorder
        return Ground(
            self.run_id,
            self._context,
            scopes,
            self._enter,
            tell=partial(_tell_from_anywhere, self, current_token()) if self._observers else None,
            given=None if recorder is None else recorder.given,
            starts=None if recorder is None else recorder.starts,
        )

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places.update((call.id, index) for index, call in enumerate(self.machine.calls))
        return self._places[name]

    async def _run_layer(self, lane: Lane, seconds: float) -> None:
        """Run one ready layer in its own task group under `move_on_after`."""
        with anyio.move_on_after(seconds) as lane.scope:
            lane.ground = self._ground(self._scope, lane.scope)
            lane.ground.group = self._lane.ground.group
            async with create_task_group() as group, lane.open(group):
                self.recruit(lane)
                await lane.ended.wait()
        if lane.left and not self._scope.cancel_called:
            self._feed_noted(Expired(lane.layer or 0))

    def recruit(self, lane: Lane, looking: int = 0) -> None:
        """Start workers for queued calls while there are slots; queue up for what is left.

        Two at a time; each starts two more when it gets its turn. Calls that never wait are done
        by the first few, and a task for each of thousands would have been for nothing.
        """
        if lane is self._lane:
            looking += self._looking
        wanted = len(lane.queue) - lane.starting - looking
        if wanted <= 0 or lane.group is None or self.is_over(lane):
            return  # or the lane's own task will start or end it
        for _ in range(min(wanted, 2)):
            if not self.slots.take():
                if not lane.asking:
                    lane.asking = True
                    self.slots.waiters.append(lane)
                return
            lane.starting += 1
            lane.group.start_soon(self.work, lane)

    def _on_abort(self, action: Abort) -> None:
        if action.outcome.scope != "layer":  # a layer's scope is cancelled by its own deadline
            self._verdict = self._verdict or action.outcome
            self._scope.cancel()

    def _on_ended(self, name: str) -> None:
        if not self._layer_of:
            return
        lane = self._lanes.get(self._layer_of.pop(name, -1))
        if lane is not None:
            lane.left -= 1
            if lane.left == 0:
                lane.ended.set()

    # ---------------------------------------------------------------------------------- one worker

    async def work(self, lane: Lane, *, started: bool = True) -> None:
        """Run calls of a lane, one after the other, with a slot that was taken for it."""
        if started:
            lane.starting -= 1
            self.recruit(lane, looking=1)
        worker = self._worker(self, lane)
        self.workers[worker] = None
        worker.running = worker.run()
        try:
            await worker.running
        finally:
            del self.workers[worker]

    def settle(self, lane: Lane, name: str, outcome: Outcome) -> None:
        """Tell the machine what became of a call of this lane; from the worker that ran it."""
        if self.recorder is not None:
            self.recorder.settle(lane, name, outcome)
            return
        self._looking = 1 if lane is self._lane else 0
        try:
            self.feed(Settled(name, outcome))
        finally:
            self._looking = 0
        if self._layer_of or self.coupled:
            self._release(name)

    def _release(self, name: str) -> None:
        """Let those go on who wait for the outcome of a call, or for what it held.

        Also for one that the machine itself concluded: it may have waited, ready, with others
        behind it.
        """
        self._on_ended(name)
        if self.holdings is not None:
            self.holdings.give(name)
        if self.sharing is not None:
            self.sharing.ended(name)

    def settled(self, name: str, outcome: Outcome) -> None:
        """Tell the machine what became of a call, once it is recorded."""
        if self.machine.state(name) is State.SETTLED:
            return  # the run was stopped meanwhile
        self.feed(Settled(name, outcome))
        self._release(name)

    def budget(self, key: str, retry: Retry) -> Budget:
        """Return the retries that this run may still make with a key."""
        found = self._budgets.get(key)
        if found is None:
            found = self._budgets[key] = retry.run_budget()
        return found

    def now(self) -> float:
        """Return the seconds since the run began."""
        return self.clock() - self.zero

    def so_far(self) -> float:
        """Return how long the run has taken, in seconds: until now, or until its end."""
        if not self._began or self._ended:
            return self.elapsed
        return self.now()

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of this run."""
        return [self._lane, *self._lanes.values()]

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
            self._feed_noted(Stop(self._verdict))
            return self._verdict
        if lane is not self._lane and lane.scope is not None and lane.scope.cancel_called:
            return _late("layer")
        self._verdict = Cancelled()
        self.interrupted = True
        self.feed(Stop(self._verdict))
        return self._verdict


def _tell_from_anywhere(runner: Runner, loop: EventLoopToken, item: Progress) -> None:
    """Take progress to the event loop of its run, from a task of it or from a thread."""
    try:
        here = current_token()
    except RuntimeError:
        here = None
    if here == loop:
        runner.progress(item)
        return
    with suppress(RuntimeError):  # the loop has ended, and with it whoever looked on
        call_in_loop(runner.progress, item, token=loop)


def _entering(enters: Sequence[Callable[[str], None]]) -> Callable[[Facts], None]:
    """Return what makes a call the current one, and lets observers into its context."""

    def enter(facts: Facts) -> None:
        enter_call(facts)
        for each in enters:
            try:
                each(facts[0].id)
            except Exception:  # noqa: BLE001 - whoever looks on must not disturb
                _log.exception("an observer failed to enter call %r; it runs", facts[0].id)

    return enter


def _guarded_worker() -> type[Worker]:
    # Only where a tool has limits or retries: `import dagexec` does not load them.
    from dagexec._guarded import GuardedWorker

    return GuardedWorker


def _late(scope: str) -> TimedOut:
    return TimedOut(scope, error=CallTimeout(f"the deadline of the {scope} expired", scope))


async def _closable(source: AsyncIterator[Call]) -> AsyncGenerator[Call]:
    """Close the user's iterator too when reading ends early, if it can be closed."""
    async with AsyncExitStack() as stack:
        if hasattr(source, "aclose"):
            await stack.enter_async_context(aclosing(source))  # type: ignore[type-var]
        async for call in source:
            yield call
