"""The executor: tools, deadlines and slots, and the runs that share them."""

from __future__ import annotations

import copy
import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, final
from weakref import WeakKeyDictionary, WeakMethod, finalize

import anyio
from anyio.lowlevel import current_token

from dagexec._concurrency import forks
from dagexec._concurrency.capacities import SharedCapacities
from dagexec._concurrency.loops import in_event_loop, run_beside, run_in_new_loop
from dagexec._concurrency.restart import Restart
from dagexec._concurrency.services import Service, checked_service
from dagexec._concurrency.slots import UNLIMITED, Slots
from dagexec._concurrency.threads import enclosing_thread_call, in_place
from dagexec._core.names import given_id
from dagexec._core.nested import answers_for
from dagexec._core.plan import Call, Plan
from dagexec._core.report import Report
from dagexec._core.wrong_names import explained_with
from dagexec._errors import DagexecError
from dagexec._runtime.intake import Live, Runnable, is_live
from dagexec._runtime.observers import Observer, ObservesRuns, observers_of, observes_runs
from dagexec._runtime.run import Run
from dagexec._runtime.runner import Runner
from dagexec._runtime.settings import (
    START_TIMEOUT,
    Reserve,
    Settings,
    SomeTimeouts,
    Timeouts,
    capacities_for,
    check_choices,
    check_resumption,
    concurrency_of,
    deadlines,
    max_items_of,
    seconds_of,
    timeouts_of,
)
from dagexec._tools.checking import as_plan, prepare
from dagexec._tools.context import (
    NestedRuns,
    given_back_meanwhile,
    inner_answers,
    inside_a_call,
    nested_runs,
)
from dagexec._tools.here import Link, here
from dagexec._tools.order import order_conflicts
from dagexec._tools.tool import Tool, as_tools

if TYPE_CHECKING:
    from dagexec._runtime.recorder import Recorder
    from dagexec._runtime.waits import Snapshot
    from dagexec.journal._base import Journal
    from dagexec.journal._late import Log
    from dagexec.limits._tool_limits import ToolLimits
    from dagexec.processes._pool import Pool

T = TypeVar("T")

DEFAULT_CONCURRENCY: Final = 20


@explained_with("run", "run_sync", "start", "resume", "check")
@final
class Executor:
    """Runs plans with a set of tools.

    Args:
        tools: The tools, or plain functions, which become tools with the default effect `write`.
        timeouts: How long things may take; a number of seconds, or a timedelta, is each call's.
        concurrency: How many calls may run at a time, over all runs of this executor on an event
            loop, nested ones included. None for no limit. 0 runs every call one after the other in
            the caller's task, in plan order and with no threads: to debug. The environment
            variable DAGEXEC_CONCURRENCY, if set, takes its place.
        on_failure: "skip" costs a failure its dependants, "stop" ends the run.
        barrier: Whether a layer waits until the one before has ended.
        journal: Where runs are recorded, to be resumed after a crash and with answers
            (`dagexec.journal`). A run inside a tool is recorded if it has a `run_id` of its own,
            or once its call waits for a person.
        in_doubt: What becomes of a write that was running when its process ended, unless its tool's
            `reconcile` knows: "ask" a person, "rerun", or a function of context and arguments.
        observers: Called with every event and action of the scheduler, in order, and with the
            progress that calls tell of; of a resumed run they first hear what is recorded: an
            `Added` for each call, and its outcome if it has one. They must not wait; one that
            raises is logged and the run goes on. One with a method `begin(run_id, tools)` is asked
            for an observer of its own for each run.
        capacities: How much there is of each named resource that tools use, over all runs on an
            event loop: `{"gpu": 1, "db": 4}`.
        max_items: For how many items a call with `Each` may run; one with more fails.
        start_timeout: Seconds that a worker process for tools with `runs="process"` may take to
            start and to import them. They count as time in the queue, not for the call's timeout.

    `async with` or `aclose()` ends its idle worker processes and background services; without, the
    processes end with the executor and the services with their event loop.

    Raises DagexecError for a setting that cannot be, ToolDefinitionError for a bad tool.
    """

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]] = (),
        *,
        timeouts: SomeTimeouts | None = None,
        concurrency: int | None = DEFAULT_CONCURRENCY,
        on_failure: Literal["skip", "stop"] = "skip",
        barrier: bool = False,
        journal: Journal | None = None,
        observers: Sequence[Callable[..., object] | ObservesRuns] = (),
        in_doubt: Literal["ask", "rerun"] | Callable[..., Any] = "ask",
        capacities: Mapping[str, int] | None = None,
        max_items: int = 1000,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        """Check the settings; nothing is started."""
        self.tools: dict[str, Tool[..., Any]] = as_tools(tools)
        self.timeouts = timeouts_of(timeouts) or Timeouts()
        self.concurrency = concurrency_of(concurrency)
        self.observers = observers_of(observers)
        check_choices(on_failure=on_failure, in_doubt=in_doubt, journal=journal)
        self.capacities = capacities_for(capacities or {}, self.tools.values())
        # Given as such by an adapter that makes an executor for each of its messages.
        self._shared = (
            capacities
            if isinstance(capacities, SharedCapacities)
            else SharedCapacities(self.capacities)
        )
        # Worker processes for tools with runs="process", None without such tools.
        self._pool: Pool | None = None
        self.start_timeout = seconds_of("start_timeout", start_timeout)
        self._reserves: Mapping[str, Reserve] | None = None
        self._services: list[Service] = []
        # What this is a copy of, with other timeouts; it owns the processes.
        self._origin: Executor | None = None
        self.journal = journal
        # Takes its place for runs inside calls that wait.
        self._inner: Journal | None = None
        self._in_doubt = in_doubt
        self._settings = Settings(
            tools=self._driven(),
            **deadlines(self.timeouts),
            on_failure=on_failure,
            barrier=barrier,
            sequential=self.concurrency == 0,
            shares=any(tool.effect.shares for tool in self.tools.values()),
            limits=_limits(self.tools.values()),
            max_items=max_items_of(max_items),
            reserves=self._reserves,
        )
        self._orders = any(tool.reads or tool.writes for tool in self.tools.values())
        # An event loop's slots are its own: loops cannot wake each other's tasks.
        self._slots: WeakKeyDictionary[object, Slots] = WeakKeyDictionary()
        if os.environ.get("DAGEXEC_DOCTOR", "0") not in ("", "0"):
            from dagexec._runtime.listener import listen_if_possible

            listen_if_possible()

    def _driven(self) -> dict[str, Tool[..., Any]]:
        """Return the tools as they are run: one that runs in a process is called in the loop."""
        remote = [tool for tool in self.tools.values() if tool.runs == "process"]
        if not remote or self.concurrency == 0:
            return self.tools
        from dagexec.processes._pool import Pool

        self._pool = pool = Pool(tuple(self.tools), WeakMethod(self.run), self.start_timeout)
        finalize(self, pool.close)  # also when the interpreter exits
        calls = {tool.name: pool.function(tool) for tool in remote}
        made = {
            tool.name: replace(tool, function=calls[tool.name], runs="async") for tool in remote
        }
        self._reserves = {name: each.reserve for name, each in calls.items()}
        return {**self.tools, **made}

    # ----------------------------------------------------------------------------------- checking

    def check(self, plan: Plan) -> None:
        """Check a plan against the tools; raise one PlanError that names every problem.

        Arguments that hold references are checked as far as they can be seen. Raises DagexecError
        for what is no plan.
        """
        prepare(as_plan(plan).calls, self.tools)

    # ------------------------------------------------------------------------------------ running

    async def run(self, plan: Runnable, *, run_id: str | None = None) -> Report:
        """Run a plan, a program, or calls as they come from an async iterator; return the report.

        Failures, timeouts and skips are outcomes in the report. An iterator whose attribute
        `broken` is a text when it ends says that its plan is not whole: nothing more starts, what
        is done is kept and the rest is cancelled. One whose attribute `certain` is True gives calls
        that nothing takes back: writes too start before it ends.

        Raises PlanError before anything runs, DagexecError for what is no plan, and with the
        partial `report` when the source of a streamed plan breaks; a cancellation of the caller,
        KeyboardInterrupt and SystemExit pass through.
        """
        link = self._elsewhere()
        if link is not None and not isinstance(plan, AsyncIterable | Live):
            return cast("Report", link.run(as_plan(plan), given_id(run_id)))
        return await _report_of(self._new_run(plan, run_id))

    def run_sync(self, plan: Runnable, *, run_id: str | None = None) -> Report:
        """Run a plan from code without an event loop, and return the report.

        Inside a synchronous tool it runs in the event loop of the run above, under the same
        deadline; with `concurrency=0`, where such a tool stops that loop, in a loop and a thread
        of its own. Raises what `run` raises, and DagexecError inside a running event loop.
        """
        link = self._elsewhere()
        if link is not None and not isinstance(plan, AsyncIterable | Live):
            return cast("Report", link.run(as_plan(plan), given_id(run_id)))
        thread = enclosing_thread_call()
        if thread is not None:
            return thread.run_in_loop(lambda: self.run(plan, run_id=run_id))
        backend = in_place()
        if backend is not None:
            return run_beside(lambda: self.run(plan, run_id=run_id), backend)
        if in_event_loop():
            msg = "run_sync() cannot wait inside an event loop; write: await executor.run(plan)"
            raise DagexecError(msg)
        return run_in_new_loop(lambda: self.run(plan, run_id=run_id))

    def start(self, plan: Runnable, *, run_id: str | None = None) -> Run:
        """Return a live run, to be entered with `async with`.

        Its `report` can be read at any time, iterating gives its events, `cancel()` ends it.
        Leaving the block waits for it; an error in the block cancels it. Raises what `run` raises.
        """
        run = self._new_run(plan, run_id)
        run.warns = True
        return run

    def snapshot(self) -> Snapshot:
        """What each unfinished call of all runs holds, waits for, and where it stands.

        Can be asked for from any thread, also while the event loop is blocked. Raises DagexecError
        if another thread asks while the runs change without a pause.
        """
        from dagexec._runtime.waits import snapshot_of

        return snapshot_of(self._settings, self.concurrency)

    async def resume(
        self,
        run_id: str,
        answers: Mapping[str, object] | None = None,
        *,
        plan: Plan | Live | None = None,
    ) -> Report:
        """Continue a run after a crash, or with answers to its waiting calls; return its report.

        `answers` are by call id: `Approve()`, `Deny("why")`, `Edit({...})` or `Done(value)` for a
        call that waits to be approved; a value, or `Deny`, for one that asked; `Approve()`, `Deny`
        or `Done(value)` for one in doubt. A call that waits for calls in a run of its own lists
        them in its question, `{"nested": [...]}`; its answer is a dict by their names, or the
        answer itself if there is one. Calls without an answer go on waiting. `plan` is needed
        for arguments that are secret, which a journal does not keep (see `Edit` for those that a
        person gave), and of a program's run it is the program.

        Raises DagexecError for an unknown run and for an answer that fits no waiting call, before
        anything is done, RunOwned while another process drives the run, and what `run` raises.
        """
        if self.journal is None:
            msg = f"cannot resume {run_id!r}: this executor has no journal; give Executor(journal=)"
            raise DagexecError(msg)
        check_resumption(run_id, answers)
        from dagexec._runtime.resumption import ToolMissing  # with all of dagexec.journal

        source: AsyncIterator[Call] | None = None
        known: Plan | None = None
        if isinstance(plan, Live):
            source = plan.live(self.tools)
        else:
            known = plan
        recorder = self._recorder(run_id, answers or {})
        try:
            return await _report_of(Run(self._runner, known, source, {}, run_id, recorder=recorder))
        except ToolMissing as missing:
            from dagexec.programs import RUN_PROGRAM, program_tool

            if missing.tool != RUN_PROGRAM:
                raise
        # A turn of a conversation with programs: all that they need is recorded.
        equipped = self.within(self.timeouts, tools=[program_tool(self, text=False)])
        return await equipped.resume(run_id, answers, plan=plan)

    def _recorder(
        self,
        run_id: str,
        answers: Mapping[str, object] | None = None,
        inner: Sequence[dict[str, Any]] = (),
    ) -> Recorder:
        assert self.journal is not None  # noqa: S101 - checked by the caller
        from dagexec._runtime.recorder import Recorder

        return Recorder(self.journal, run_id, self._in_doubt, answers, inner)

    def within(
        self,
        timeouts: SomeTimeouts,
        *,
        journal: Journal | None = None,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]] = (),
    ) -> Executor:
        """Return this executor with other timeouts: the same tools, slots and observers.

        For what spans several runs, such as a conversation: each run gets what is left of it. With
        `journal`, its runs are recorded there. `tools` are more tools, which run in this process;
        one takes the place of another of its name.
        """
        other = copy.copy(self)
        other.journal = journal or self.journal
        other.timeouts = times = timeouts_of(timeouts) or Timeouts()
        other._settings = replace(self._settings, **deadlines(times))  # noqa: SLF001 - its own
        other._origin = self._origin or self  # noqa: SLF001 - its own
        if more := as_tools(tools):
            other._add(more)  # noqa: SLF001 - its own
        return other

    def _add(self, more: Mapping[str, Tool[..., Any]]) -> None:
        """Take more tools, for a copy of an executor."""
        settings = self._settings
        self.tools = {**self.tools, **more}
        limits = {**(settings.limits or {}), **(_limits(more.values()) or {})}
        self._settings = replace(
            settings,
            tools={**settings.tools, **more},
            shares=settings.shares or any(tool.effect.shares for tool in more.values()),
            limits=limits or None,
        )
        self._orders = self._orders or any(tool.reads or tool.writes for tool in more.values())

    # ------------------------------------------------------------------------ longer than a run

    def background(
        self,
        function: Callable[..., Coroutine[Any, Any, object]],
        *args: object,
        name: str | None = None,
        restart: Restart | None = None,
    ) -> Service:
        """Start a service: an async function that lives longer than a run, and return a handle.

        It is not cancelled by the end of a run, nor by that of the code that starts it; when it
        raises it is started again as `restart` says (a `dagexec.processes.Restart`), and logged;
        when it returns it has ended. `aclose()` ends it. To be called in the event loop.

        Raises DagexecError for what is no async function, and outside of an event loop.
        """
        checked_service(function)
        if not in_event_loop():
            msg = "a background service lives in an event loop; start it in async code"
            raise DagexecError(msg)
        called = name or str(getattr(function, "__name__", "service"))
        service = Service(function, args, called, Restart() if restart is None else restart)
        self._services[:] = [each for each in self._services if each.running]
        self._services.append(service)
        return service

    async def aclose(self) -> None:
        """End the background services of this event loop and the idle worker processes."""
        loop = current_token().native_token
        services = self._services.copy()
        self._services.clear()
        async with anyio.create_task_group() as group:
            for service in services:
                if service.loop is loop:  # the others have ended with theirs
                    group.start_soon(service.stop)
        if self._pool is not None:
            await self._pool.aclose()

    async def __aenter__(self) -> Executor:
        """Return this executor."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End what belongs to it; see `aclose`."""
        await self.aclose()

    def _elsewhere(self) -> Link | None:
        """Return the way to the executor that this process works for, if it is this one's own."""
        if here.importing:
            msg = (
                "the main script runs a plan while it is imported again for a tool with"
                ' runs="process": put what it does under `if __name__ == "__main__":`'
            )
            raise DagexecError(msg)
        link = here.link
        return None if link is None or link.tools != tuple(self.tools) else link

    def _new_run(self, plan: Runnable, run_id: str | None) -> Run:
        if is_live(plan):
            plan = plan.live(self.tools)
        if not isinstance(plan, AsyncIterable):
            plan = as_plan(plan)
        name, recorder, log = given_id(run_id), None, None
        if self.journal is not None and (run_id is not None or not inside_a_call()):
            name = os.urandom(16).hex() if name is None else name
            recorder = self._recorder(name, inner=list(answers_for(inner_answers(), name)))
        else:
            # A run inside a tool ends with its call, and begins again with it.
            nested = nested_runs()
            if nested is not None:
                from dagexec._runtime.inner_runs import id_of

                known = plan if isinstance(plan, Plan) else None
                name = id_of(nested, known, self.tools) if name is None else name
                recorder, log = self._kept(nested, name, known)
        name = os.urandom(16).hex() if name is None else name
        if isinstance(plan, AsyncIterable):
            run = Run(self._runner, None, aiter(plan), {}, name, recorder=recorder, log=log)
            return run.accompanied_in(self)
        prepared = prepare(plan.calls, self.tools)
        plan = Plan(order_conflicts(plan.calls, self.tools)) if self._orders else plan
        return Run(self._runner, plan, None, prepared, name, recorder=recorder, log=log)

    def _kept(
        self, nested: NestedRuns, run_id: str, plan: Plan | None
    ) -> tuple[Recorder | None, Log | None]:
        """Return what keeps a run inside a call that people can answer: one of the two.

        A recorder where the call runs again with an answer, and the journal may know the run.
        """
        from dagexec.journal._late import InnerRuns

        answers, journal = inner_answers(), self.journal or self._waiting()
        runs = nested.records.get(id(journal))
        if runs is None:
            runs = nested.records[id(journal)] = InnerRuns(journal, known=bool(answers))
        if not answers:
            from dagexec._runtime.inner_runs import first_of

            made = partial(first_of, plan, self.tools, self._settings, orders=self._orders)
            return None, runs.log(run_id, made)
        from dagexec._runtime.recorder import Recorder

        inner = list(answers_for(answers, run_id))
        return Recorder(runs, run_id, self._in_doubt, None, inner), None

    def _waiting(self) -> Journal:
        """Return where runs are kept that wait inside calls, as long as this process lives."""
        origin = self._origin or self
        if origin._inner is None:  # noqa: SLF001 - its own
            from dagexec.journal._memory import MemoryJournal

            origin._inner = MemoryJournal()  # noqa: SLF001 - its own
        return origin._inner  # noqa: SLF001 - its own

    def _runner(
        self, run_id: str, observers: Sequence[Observer], recorder: Recorder | None
    ) -> Runner:
        """Make a runner in the event loop that is running now."""
        forks.catch_up()
        token = current_token().native_token
        slots = self._slots.get(token)
        if slots is None:
            slots = self._slots[token] = Slots(self.concurrency or UNLIMITED, token)
        shared = None
        if self.capacities and self.concurrency != 0:
            shared = self._shared.on(token)
        watching = [
            each.begin(run_id, self.tools) if observes_runs(each) else each
            for each in self.observers
        ]
        return Runner(
            self._settings,
            slots,
            run_id,
            (*watching, *observers),
            capacities=shared,
            recorder=recorder,
        )


async def _report_of(run: Run) -> Report:
    """Run to the end; a call that this is inside of gives back what it has to, meanwhile."""
    if not inside_a_call():
        await run.drive()
        return run.report
    blocks = given_back_meanwhile()
    async with AsyncExitStack() as stack:
        for block in blocks:
            await stack.enter_async_context(block)
        await run.drive()
    await run.note_waits()
    return run.report


def _limits(tools: Iterable[Tool[..., Any]]) -> Mapping[str, ToolLimits] | None:
    """Return what stands before the calls of tools that have limits or retries, by tool."""
    if not any(tool.limits or tool.retry is not None or tool.cost is not None for tool in tools):
        return None
    from dagexec.limits._tool_limits import limits_of  # with all of dagexec.limits

    return limits_of(tools)
