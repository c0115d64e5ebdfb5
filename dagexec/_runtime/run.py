"""A live run: its report so far, its events, its end."""

from __future__ import annotations

import asyncio
import math
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, final

import anyio
from anyio import CancelScope
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from dagexec._concurrency.loop_task import LoopTask
from dagexec._core.events import Notice
from dagexec._core.nested import awaits_answer, waits_of
from dagexec._core.outcomes import Cancelled, Outcome
from dagexec._core.plan import Call, Plan, as_ran
from dagexec._core.report import Report
from dagexec._core.scheduler import Action, Event
from dagexec._core.states import LOST
from dagexec._core.whereabouts import Whereabouts
from dagexec._errors import DagexecError
from dagexec._pictures.diagram import Diagram
from dagexec._pictures.mime import ShowsItself
from dagexec._runtime.intake import SourceError, is_accompanied, listener
from dagexec._runtime.observers import Observer
from dagexec._runtime.runner import Runner
from dagexec._tools.context import given_back_meanwhile, inside_a_call, note_nested

if TYPE_CHECKING:
    from dagexec._pictures.notebook import View
    from dagexec._pictures.timeline import Timeline
    from dagexec._runtime.recorder import Recorder
    from dagexec._runtime.waits import RunWaits
    from dagexec.journal._late import Log

# With the id of the run, the observers that it has besides its executor's, and its recorder.
MakeRunner: TypeAlias = "Callable[[str, Sequence[Observer], Recorder | None], Runner]"


@final
class Run(ShowsItself):
    """One run of a plan, made by `Executor.start` and entered with `async with`.

    Iterating over it gives the scheduler's events and actions as they happen; they are kept from
    the beginning of the block on, for one reader.

    In a notebook it shows itself: in the cell that starts it, one picture follows it.
    """

    def __init__(
        self,
        make_runner: MakeRunner,
        plan: Plan | None,
        source: AsyncIterator[Call] | None,
        prepared: Mapping[str, dict[str, Any]],
        run_id: str,
        *,
        recorder: Recorder | None = None,
        log: Log | None = None,
    ) -> None:
        """Keep what is needed; nothing starts before `drive` or `async with`."""
        self.id = run_id
        self._make_runner = make_runner
        self._plan = plan
        self._source = source
        # The source, if it waits for what becomes of its calls.
        self._listening = listener(source)
        self._prepared = prepared
        self._recorder = recorder
        # Keeps a run inside a call that people can answer; None for others, and with a recorder.
        self._log = log
        self._runner: Runner | None = None
        self._task: LoopTask | None = None
        self._waiting = AsyncExitStack()
        self._error: BaseException | None = None
        self._send: MemoryObjectSendStream[Event | Action | Notice] | None = None
        self._receive: MemoryObjectReceiveStream[Event | Action | Notice] | None = None
        self._whereabouts: Whereabouts | None = None
        self._view: View | None = None
        # What goes on beside the calls of its source.
        self.companion: Callable[[], Awaitable[object]] | None = None
        # Whether it was to end before it began.
        self._cancelled = False
        # Whether it was handed out to be entered: it does nothing until then.
        self.warns = False
        # Whether its block was left, and whether its task came to its end before.
        self._left = False
        self._driven = False

    def accompanied_in(self, executor: Any) -> Run:
        """Ask the source what goes on beside its calls in a run of this executor; return itself."""
        if is_accompanied(self._source):
            self.companion = self._source.accompany(executor)
        return self

    @property
    def report(self) -> Report:
        """What has ended so far; the whole report once the run is over."""
        if self._runner is None:
            return Report(self._plan or Plan(), {}, run_id=self.id)
        run, seen = self._runner.state, self._whereabouts
        outcomes: Mapping[str, Outcome] = run.machine.outcomes
        return Report(
            self._plan if self._plan and not run.machine.has_items else as_ran(run.machine.calls),
            outcomes,
            run_id=self.id,
            elapsed=run.so_far(),
            abandoned=run.abandoned,
            blocked=run.blocking.count,
            blocked_seconds=run.blocking.seconds,
            blocked_by=dict(run.blocking.by_call),
            underway=None if seen is None else dict(seen.underway),
            setup=run.settings.setup,
            marks=dict(run.marks),
            began=run.began_at,
            program=None if self._listening is None else self._listening.end(),
        )

    async def note_waits(self) -> None:
        """Note on the call that this run was made in what it waits for, if it has ended."""
        if self._runner is None or not inside_a_call():
            return
        run = self._runner.state
        machine = run.machine
        ended = machine.outcomes
        outcomes = {call.id: ended[call.id] for call in machine.calls if call.id in ended}
        waits = waits_of(self.id, outcomes, lambda name: machine.call(name).tool)
        failed = any(each.status in LOST for each in ended.values())
        note_nested(self.id, waits, failed=failed)
        if self._log is not None and machine.finished and not run.interrupted:
            waiting = [name for name, each in ended.items() if awaits_answer(each)]
            from dagexec.journal._records import end_record

            await self._log.end(waiting, end_record(*run.counted()))

    @property
    def diagram(self) -> Diagram:
        """The graph as it stands now: text, mermaid, SVG or JSON."""
        return self.report.diagram

    @property
    def timeline(self) -> Timeline:
        """The timeline so far: text, mermaid, SVG or JSON."""
        return self.report.timeline

    @property
    def changes(self) -> int:
        """How many events and actions there have been."""
        return 0 if self._whereabouts is None else self._whereabouts.changes

    def waits(self) -> RunWaits:
        """What each unfinished call holds, waits for, and where it stands; from any thread.

        Empty before the run has begun and after its end. Raises DagexecError if another thread
        asks while the run changes without a pause.
        """
        from dagexec._runtime.waits import RunWaits, waits_of

        return RunWaits(self.id, 0.0, 0) if self._runner is None else waits_of(self._runner)

    def cancel(self) -> None:
        """End the run: what has not ended becomes cancelled, and the run returns normally."""
        self._cancelled = True
        if self._runner is not None:
            self._runner.state.stop(Cancelled())

    async def drive(self) -> None:
        """Run to the end in the task of the caller."""
        if self._runner is None:
            self._begin(())
        assert self._runner is not None  # noqa: S101 - made just above
        if "ipykernel" not in sys.modules:
            await self._drive(self._runner)
            return
        from dagexec._pictures.notebook import heartbeat, remember

        remember(self)
        with heartbeat():
            await self._drive(self._runner)

    async def _drive(self, runner: Runner) -> None:
        try:
            if self._recorder is None:
                await runner.drive(self._plan, self._source)
            else:
                run = runner.state
                await self._recorder.drive(run, runner.drive, self._plan, self._source)
                if not run.begun:  # there was nothing left to do
                    run.retell()
        except SourceError as broken:
            msg = f"the source of the plan broke: {broken.__cause__!r}; {self.report}"
            error = DagexecError(msg)
            error.report = self.report
            raise error from broken.__cause__

    def _begin(self, observers: Sequence[Observer]) -> None:
        self._refuse_second_start()
        self._runner = self._make_runner(self.id, observers, self._recorder)
        run = self._runner.state
        run.companion = self.companion
        if self._listening is not None:
            run.observe(self._listening.observe)
        if self._log is not None:
            run.given = {}  # so that runs inside its calls are kept too
            run.observe(self._log.hear)
        run.prepared.update(self._prepared)
        if self._cancelled:
            run.stop(Cancelled())

    def _refuse_second_start(self) -> None:
        if self._runner is not None:
            msg = "a run can be started once; call executor.start() again for another"
            raise DagexecError(msg)

    async def __aenter__(self) -> Run:
        """Start the run."""
        self._refuse_second_start()
        self._send, self._receive = anyio.create_memory_object_stream(math.inf)
        self._whereabouts = Whereabouts(self._now)
        self._begin((self._send.send_nowait, self._whereabouts))
        for block in given_back_meanwhile():
            # The whole block counts as waiting: a tool that reads the events of a run waits for it.
            await self._waiting.enter_async_context(block)
        # Not in this task: an async generator is left, or closed, by another than entered it.
        self._task = LoopTask(
            f"run {self.id}", self._drive_in_background, copy_context(), self._send.close
        )
        if "ipykernel" in sys.modules and not inside_a_call():
            from dagexec._pictures.notebook import view_of

            self._view = view_of(self)
        return self

    def _now(self) -> float:
        return 0.0 if self._runner is None else self._runner.state.now()

    async def _drive_in_background(self) -> None:
        try:
            await self.drive()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised at the end of the block, bare
            self._error = error
        self._driven = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the run; an error in the block cancels it first."""
        async with self._waiting:
            await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        assert self._task is not None  # noqa: S101 - entered
        try:
            if error is not None:
                self._task.cancel()
            await self._task.outlast()
        finally:
            if self._receive is not None:
                self._receive.close()
            self._left = True
            with CancelScope(shield=True):
                await self.note_waits()
            if self._view is not None:
                self._view.close()
        if error is not None:
            return
        if self._error is not None:
            raise self._error
        if not self._driven:
            # Whoever cancels all tasks of the event loop, say, cancels the run.
            msg = f"the task of run {self.id!r} was cancelled from outside of the run"
            raise asyncio.CancelledError(msg)

    def __aiter__(self) -> AsyncIterator[Event | Action | Notice]:
        """Iterate over the events; ends with the run."""
        if self._receive is None:
            self.warns = False
            msg = "enter the run first: async with executor.start(plan) as run"
            raise DagexecError(msg)
        if self._left:
            msg = (
                "the events of a run are read inside its block; `run.report` says what became of it"
            )
            raise DagexecError(msg)
        return self._receive.__aiter__()

    def __del__(self) -> None:
        """Warn of a run that was made by `start` and never entered: its calls never ran."""
        unused = getattr(self, "warns", False) and self._runner is None and not self._cancelled
        if unused and (self._plan is None or len(self._plan)):
            text = (
                f"run {self.id} was never entered, so no call of it ran: write `async with"
                " executor.start(plan) as run`"
            )
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)

    if not TYPE_CHECKING:

        def __await__(self) -> Any:
            """Refuse: what is awaited is `executor.run(plan)`."""
            self.warns = False
            msg = (
                "a live run is entered, not awaited: `async with executor.start(plan) as run`;"
                " for its report alone write `await executor.run(plan)`"
            )
            raise DagexecError(msg)

    def __repr__(self) -> str:
        """Return id and counts."""
        return f"<Run {self.id}: {self.report}>"

    def _forms(self) -> tuple[Callable[..., str], Callable[[], str]]:
        report = self.report
        return report.to_svg, lambda: f"{self!r}\n{report.diagram}\n\n{report.timeline}"
