"""The runner: puts the parts of one run together, and drives the scheduler with anyio."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final, final

from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from dagexec._concurrency import forks
from dagexec._concurrency.capacities import Capacities
from dagexec._concurrency.requests import judged
from dagexec._concurrency.signals import bare
from dagexec._concurrency.slots import Slots
from dagexec._concurrency.steps import looks_at, looks_away
from dagexec._core.outcomes import STATUSES
from dagexec._core.plan import Call, Plan
from dagexec._core.scheduler import Added, Closed
from dagexec._runtime.holdings import Holdings
from dagexec._runtime.intake import Intake
from dagexec._runtime.lane import Lane, Layers
from dagexec._runtime.observers import Observer
from dagexec._runtime.parts import Parts
from dagexec._runtime.sequential import Sequential
from dagexec._runtime.settings import Settings
from dagexec._runtime.sharing import Sharing
from dagexec._runtime.state import RunState
from dagexec._runtime.worker import Worker

if TYPE_CHECKING:
    from dagexec._runtime.recorder import Recorder

_log: Final = logging.getLogger("dagexec")

# Calls of a run that are named as a warning, so that a large one does not flood the log.
_NAMED: Final = 20
_LOST: Final = frozenset({"failed", "timed_out"})
_status: Final = attrgetter("status")

# The runs that are being driven in this process, for those who look on.
live: Final[dict[Runner, None]] = {}


def _leave_runs() -> None:
    """Let a forked child that comes back into a run of its parent's end there."""
    for runner in live:
        runner.state.record = runner.state.record_spread = forks.end_child
    live.clear()


forks.in_child(_leave_runs)


@final
class Runner:
    """One run. `drive` runs it to its end; `state.machine.outcomes` can be read at any time."""

    def __init__(
        self,
        settings: Settings,
        slots: Slots,
        run_id: str,
        observers: Sequence[Observer],
        *,
        capacities: Capacities | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Prepare a run, and say once what happens in it; its clock starts with `drive`."""
        self.state = state = RunState(settings, slots, run_id, observers)
        self.lane = lane = Lane(state, self.work)
        seconds = None if settings.sequential else settings.layer_timeout
        # At most one of these two, and none where all layers share the lane.
        self._layers = None if seconds is None else Layers(lane, seconds)
        self._sequential = Sequential(lane, recorder) if settings.sequential else None
        self.parts = parts = Parts(
            recorder,
            Sharing(state) if settings.shares else None,
            # None in the sequential mode, where no two calls run at a time.
            None if capacities is None else Holdings(state, capacities),
        )
        self._worker = Worker if settings.limits is None else _limited_worker()
        # The workers at work, for those who look on.
        self.workers: dict[Worker, None] = {}
        for part in (self._sequential, self._layers, lane):
            if part is not None:
                state.launch = part.launch
                break
        state.finish = self._finish
        if recorder is not None:
            state.note, state.record = recorder.note, recorder.settle
            state.record_spread = recorder.spread
        if self._layers is not None:
            state.released.append(self._layers.settled)
        if parts.holdings is not None:
            state.released.append(parts.holdings.give)
        if parts.sharing is not None:
            state.released.append(parts.sharing.ended)

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of this run."""
        return [self.lane] if self._layers is None else [self.lane, *self._layers.lanes]

    # ------------------------------------------------------------------------------- the whole run

    async def drive(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        """Run to the end; raises only what is not an outcome of a call."""
        state, recorder = self.state, self.parts.recorder
        live[self] = None
        state.begin()
        if self._sequential is None:  # which has no threads
            looks_at(state.thread)
        self.lane.surroundings = state.surroundings()
        state.retell()
        try:
            with state.scope:
                await self._drive(plan, source)
        except BaseExceptionGroup as group:
            raise bare(group, state.cancelled) from None
        finally:
            try:
                if recorder is not None:
                    await recorder.drain()
            finally:
                self._end()
        if state.fatal is not None:
            raise state.fatal
        if state.cancelled_from_outside:
            # Somebody has cancelled a task of the run, all tasks of the loop, say: its group of
            # tasks has ended, and kept that for itself.
            await checkpoint_if_cancelled()
            msg = f"a task of run {state.run_id!r} was cancelled from outside of the run"
            raise asyncio.CancelledError(msg)

    async def _drive(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        if self._sequential is not None:
            work = self._sequential.drive(plan, source, self.new_worker)
            if self.state.cancelled is asyncio.CancelledError:
                await judged(work, self._sequential.is_meant)
            else:
                await work
            return
        lane = self.lane
        try:
            async with create_task_group() as group:
                with lane.open(group):
                    try:
                        await self._until_ended(plan, source)
                    except self.state.cancelled:
                        lane.reason()  # so that each call knows it, whatever its tool swallows
                        group.cancel_scope.cancel()
                        await self.state.watchdog.outlast()
                        raise
        finally:
            lane.give_back_unused()

    async def _until_ended(self, plan: Plan | None, source: AsyncIterator[Call] | None) -> None:
        """Wait for the end, in the task of the caller.

        No tool runs here: a request to cancel the caller must not end in a tool that swallows it.
        """
        recorder, group = self.parts.recorder, self.lane.group
        assert group is not None  # noqa: S101 - open
        if recorder is not None:
            await recorder.begin(plan)
        elif plan is not None:
            self.state.feed(*map(Added, plan.calls), Closed())
        beside = CancelScope()
        if source is not None:
            group.start_soon(Intake(self.state, recorder).read, source)
            if self.state.companion is not None:
                group.start_soon(_inside, beside, self.state.companion)
        try:
            await self._end_of_calls(recorder)
        finally:
            beside.cancel()

    async def _end_of_calls(self, recorder: Recorder | None) -> None:
        lane = self.lane
        if recorder is not None:
            await self.state.watchdog.wait(partial(recorder.deliver, lane.ended))
            return
        if lane.ended.is_set():
            # What waiting would do but for a turn of the event loop, which the group takes.
            await checkpoint_if_cancelled()
            return
        if self.state.cancelled is asyncio.CancelledError:
            # A run of few calls that never wait has ended after this turn: to wait for it with the
            # watchdog costs as much as a call. On trio the turn may be this task's before theirs.
            await checkpoint()
        if not lane.ended.is_set():
            await self.state.watchdog.wait(lane.ended.wait)

    def _finish(self) -> None:
        self.lane.ended.set()
        if self.parts.recorder is not None:
            self.parts.recorder.wake()

    def _end(self) -> None:
        live.pop(self, None)
        state = self.state
        if self._sequential is None:
            looks_away(state.thread)
        if not state.machine.finished:
            state.stop(self.lane.reason())
        state.elapsed = state.now()
        if self.parts.holdings is not None:
            self.parts.holdings.end()
        _log_lost(state)
        _log_end(state, self.parts.holdings)
        state.ended = True

    # ---------------------------------------------------------------------------------- one worker

    async def work(self, lane: Lane) -> None:
        """Run calls of a lane, one after the other, with a slot that was taken for it."""
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
        worker = self._worker(self.state, lane, self.parts)
        self.workers[worker] = None
        return worker


async def _inside(scope: CancelScope, work: Callable[[], Awaitable[object]]) -> None:
    with scope:
        await work()


def _limited_worker() -> type[Worker]:
    # Only where a tool has limits or retries: `import dagexec` does not load them.
    from dagexec._runtime.limited_worker import LimitedWorker

    return LimitedWorker


def _log_lost(run: RunState) -> None:
    """Name the calls that failed or timed out, without their arguments or the errors' texts."""
    # Mostly there is none, and to look at each of thousands in a loop would cost every run.
    if _LOST.isdisjoint(map(_status, run.machine.outcomes.values())):
        return
    if not _log.isEnabledFor(logging.WARNING) or _shown_in_a_notebook():
        return
    lost = 0
    for name, outcome in run.machine.outcomes.items():
        if outcome.status not in _LOST:
            continue
        lost += 1
        level = logging.WARNING if lost <= _NAMED else logging.INFO
        kind = type(outcome.error).__name__ if outcome.error else "no error"
        tool = run.machine.call(name).tool
        facts = {
            "run_id": run.run_id,
            "call": name,
            "tool": tool,
            "status": outcome.status,
            "error": kind,
        }
        text = "call %r: tool %r %s (%s)"
        extra = {"dagexec_call": facts}
        _log.log(level, text, name, tool, outcome.status, kind, extra=extra)
    if lost > _NAMED:
        text = "%d more calls failed or timed out; each is named at INFO"
        more = {"run_id": run.run_id, "more": lost - _NAMED}
        _log.warning(text, lost - _NAMED, extra={"dagexec_call": more})


def _shown_in_a_notebook() -> bool:
    """Whether the pictures of a notebook tell of failures, and nobody has asked for a log."""
    return "ipykernel" in sys.modules and not _log.hasHandlers()


def _log_end(run: RunState, holdings: Holdings | None) -> None:
    """Say in one line how a run ended, in what time, and what it left behind."""
    held = {} if holdings is None else {name: each.uses for name, each in holdings.held.items()}
    active = run.left_behind
    if not (active or held or _log.isEnabledFor(logging.INFO)):
        return
    counts: Counter[str] = Counter(outcome.status for outcome in run.machine.outcomes.values())
    facts = {
        "run_id": run.run_id,
        "calls": sum(1 for _ in run.machine.calls),
        **{status: counts[status] for status in STATUSES},
        "elapsed": round(run.elapsed, 6),
        "active": list(active),
        "held": held,
    }
    level = logging.WARNING if active or held else logging.INFO
    _log.log(level, "run ended %s", json.dumps(facts, default=str), extra={"dagexec": facts})
