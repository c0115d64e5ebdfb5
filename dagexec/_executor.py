"""The executor: tools, deadlines and slots, and the runs that share them."""

from __future__ import annotations

import copy
import math
import os
import sys
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, final
from weakref import WeakKeyDictionary, WeakMethod, finalize

import anyio
from anyio.lowlevel import current_token

from dagexec._capacities import Capacities
from dagexec._context import enclosing_lease, inside_a_call
from dagexec._errors import ArgumentError, DagexecError, PlanError, Problem
from dagexec._order import order_conflicts
from dagexec._plan import Call, Plan
from dagexec._refs import resolve
from dagexec._remote import here
from dagexec._restart import Restart
from dagexec._run import Run
from dagexec._runner import Observer, ObservesRuns, Runner, Settings
from dagexec._slots import UNLIMITED, Slots
from dagexec._threads import enclosing_thread_call
from dagexec._tools import Tool, as_tools

if TYPE_CHECKING:
    from types import TracebackType

    from dagexec._guarded import Guard
    from dagexec._recorder import Recorder
    from dagexec._remote import Link
    from dagexec._report import Report
    from dagexec._services import Service
    from dagexec._waits import Snapshot
    from dagexec.journal._base import Journal
    from dagexec.processes._pool import Pool

T = TypeVar("T")

DEFAULT_CONCURRENCY: Final = 20


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long things may take, in seconds; None for no limit.

    `call`: one call, from when it is admitted. `layer`: a ready layer, from its start. `turn`: one
    reply of a model and its calls, which for a single run is the run. `workflow`: everything, all
    turns together. A tool's own `timeout` takes the place of `call`.
    """

    call: float | None = 30.0
    layer: float | None = None
    turn: float | None = None
    workflow: float | None = 600.0

    def __post_init__(self) -> None:
        """Refuse what is no duration; raise DagexecError that names the field."""
        for field in fields(self):
            value: object = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):  # type: ignore[operator]
                msg = (
                    f"Timeouts({field.name}={value!r}): a timeout is a positive number of seconds,"
                    " or None for no limit"
                )
                raise DagexecError(msg)


@final
class Executor:
    """Runs plans with a set of tools.

    Args:
        tools: The tools, or plain functions, which become tools with the default effect `write`.
        timeouts: How long things may take.
        concurrency: How many calls may run at a time, over all runs of this executor on an event
            loop, nested ones included. None for no limit. 0 runs every call one after the other in
            the caller's task, in plan order and with no threads: to debug. The environment
            variable DAGEXEC_CONCURRENCY, if set, takes its place.
        on_failure: "skip" costs a failure its dependants, "stop" ends the run.
        barrier: Whether a layer waits until the one before has ended.
        journal: Where runs are recorded, to be resumed after a crash and with answers
            (`dagexec.journal`). A run inside a tool is recorded if it has a `run_id` of its own.
        in_doubt: What becomes of a write that was running when its process ended, where its tool's
            `reconcile` does not know: "ask" a person, "rerun" it, or a function of the call's
            context and arguments that returns an answer, or None to ask.
        observers: Called with every event and action of the scheduler, in order, and with the
            progress that calls tell of. They must not wait; one that raises is logged and the run
            goes on. One with a method `begin(run_id, tools)` is asked for an observer of its own
            for each run.
        capacities: How much there is of each named resource that tools use, over all runs on an
            event loop: `{"gpu": 1, "db": 4}`.

    With `async with`, or `aclose()`, its idle worker processes and background services end. Without
    it, the processes end with the executor itself and the services with their event loop.

    Raises DagexecError for a setting that cannot be, ToolDefinitionError for a bad tool.
    """

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]] = (),
        *,
        timeouts: Timeouts | None = None,
        concurrency: int | None = DEFAULT_CONCURRENCY,
        on_failure: Literal["skip", "stop"] = "skip",
        barrier: bool = False,
        journal: Journal | None = None,
        observers: Sequence[Callable[..., object] | ObservesRuns] = (),
        in_doubt: Literal["ask", "rerun"] | Callable[..., Any] = "ask",
        capacities: Mapping[str, int] | None = None,
    ) -> None:
        """Check the settings; nothing is started."""
        self.tools: dict[str, Tool[..., Any]] = as_tools(tools)
        self.timeouts = Timeouts() if timeouts is None else timeouts
        self.concurrency = _concurrency(concurrency)
        self.observers = tuple(observers)
        if on_failure not in ("skip", "stop"):
            msg = f'on_failure is "skip" or "stop", not {on_failure!r}'
            raise DagexecError(msg)
        if in_doubt not in ("ask", "rerun") and not callable(in_doubt):
            msg = f'in_doubt is "ask", "rerun" or a function, not {in_doubt!r}'
            raise DagexecError(msg)
        self.capacities = capacities_for(capacities or {}, self.tools.values())
        # Worker processes for tools with runs="process", None without such tools.
        self._pool: Pool | None = None
        self._services: list[Service] = []
        # What this is a copy of, with other timeouts; it owns the processes.
        self._origin: Executor | None = None
        if journal is not None and not callable(getattr(journal, "claim", None)):
            msg = (
                f"journal={journal!r:.80} is no journal: give SqliteJournal(path) or"
                " MemoryJournal(), from dagexec.journal"
            )
            raise DagexecError(msg)
        self.journal = journal
        self._in_doubt = in_doubt
        self._settings = Settings(
            tools=self._driven(),
            **_deadlines(self.timeouts),
            on_failure=on_failure,
            barrier=barrier,
            sequential=self.concurrency == 0,
            shares=any(tool.effect.shares for tool in self.tools.values()),
            guards=_guards(self.tools.values()),
        )
        self._orders = any(tool.reads or tool.writes for tool in self.tools.values())
        # An event loop's slots are its own: loops cannot wake each other's tasks.
        self._slots: WeakKeyDictionary[object, Slots] = WeakKeyDictionary()
        self._shared: WeakKeyDictionary[object, Capacities] = WeakKeyDictionary()
        if os.environ.get("DAGEXEC_DOCTOR", "0") not in ("", "0"):
            from dagexec._answering import listen_if_possible

            listen_if_possible()

    def _driven(self) -> dict[str, Tool[..., Any]]:
        """Return the tools as they are run: one that runs in a process is called in the loop."""
        remote = [tool for tool in self.tools.values() if tool.runs == "process"]
        if not remote or self.concurrency == 0:
            return self.tools
        from dagexec.processes._pool import Pool

        self._pool = pool = Pool(tuple(self.tools), WeakMethod(self.run))
        finalize(self, pool.close)  # also when the interpreter exits
        made = {
            tool.name: replace(tool, function=pool.function(tool), runs="async") for tool in remote
        }
        return {**self.tools, **made}

    # ----------------------------------------------------------------------------------- checking

    def check(self, plan: Plan) -> None:
        """Check a plan against the tools; raise one PlanError that names every problem.

        Arguments that hold references are checked as far as they can be seen.
        """
        self._prepare(plan)

    def _prepare(self, plan: Plan) -> dict[str, dict[str, Any]]:
        """Return validated arguments of the calls without references; raise PlanError."""
        prepared: dict[str, dict[str, Any]] = {}
        problems: list[Problem] = []
        for call in plan.calls:
            if call.problem is not None:
                continue
            tool = self.tools.get(call.tool)
            if tool is None:
                problems.append(unknown_tool(call, self.tools))
            elif call.refs:
                problems += (
                    Problem("bad_arguments", call.id, text) for text in tool.problems(call.args)
                )
            else:
                args: dict[str, Any] = {}
                if call.args:
                    args = resolve(dict(call.args), _no_reference)
                try:
                    prepared[call.id] = tool.validate(args)
                except ArgumentError as error:
                    problems.append(Problem("bad_arguments", call.id, str(error)))
        if problems:
            raise PlanError(problems)
        return prepared

    # ------------------------------------------------------------------------------------ running

    async def run(
        self, plan: Plan | AsyncIterable[Call] | Iterable[Call], *, run_id: str | None = None
    ) -> Report:
        """Run a plan, or calls as they come from an async iterator, and return the report.

        Failures, timeouts and skips are outcomes in the report. An iterator whose attribute
        `broken` is a text when it ends says that its plan is not whole: nothing more starts, what
        is done is kept and the rest is cancelled. Raises PlanError before anything runs,
        DagexecError with the partial `report` when the source of a streamed plan breaks; a
        cancellation of the caller, KeyboardInterrupt and SystemExit pass through.
        """
        link = self._elsewhere()
        if link is not None and not isinstance(plan, AsyncIterable):
            return cast("Report", link.run(plan if isinstance(plan, Plan) else Plan(plan), run_id))
        run = self._new_run(plan, run_id)
        lease = enclosing_lease()
        waiting: AbstractAsyncContextManager[None] = nullcontext() if lease is None else lease
        async with waiting:
            await run.drive()
        return run.report

    def run_sync(
        self, plan: Plan | AsyncIterable[Call] | Iterable[Call], *, run_id: str | None = None
    ) -> Report:
        """Run a plan from code without an event loop, and return the report.

        Inside a synchronous tool it runs in the event loop of the run above, under the same
        deadline. Raises what `run` raises, and DagexecError inside a running event loop.
        """
        link = self._elsewhere()
        if link is not None and not isinstance(plan, AsyncIterable):
            return cast("Report", link.run(plan if isinstance(plan, Plan) else Plan(plan), run_id))
        thread = enclosing_thread_call()
        if thread is not None:
            return thread.run_in_loop(lambda: self.run(plan, run_id=run_id))
        if _in_event_loop():
            msg = "run_sync() cannot wait inside an event loop; write: await executor.run(plan)"
            raise DagexecError(msg)
        return _run_in_new_loop(lambda: self.run(plan, run_id=run_id))

    def start(
        self, plan: Plan | AsyncIterable[Call] | Iterable[Call], *, run_id: str | None = None
    ) -> Run:
        """Return a live run, to be entered with `async with`.

        Its `report` can be read at any time, iterating gives its events, `cancel()` ends it.
        Leaving the block waits for it; an error in the block cancels it. Raises what `run` raises.
        """
        return self._new_run(plan, run_id)

    def snapshot(self) -> Snapshot:
        """What each unfinished call of all runs holds, waits for, and where it stands.

        Can be asked for from any thread, also while the event loop is blocked. Raises DagexecError
        if another thread asks while the runs change without a pause.
        """
        from dagexec._waits import snapshot_of

        return snapshot_of(self._settings, self.concurrency)

    async def resume(
        self,
        run_id: str,
        answers: Mapping[str, object] | None = None,
        *,
        plan: Plan | None = None,
    ) -> Report:
        """Continue a run after a crash, or with answers to its waiting calls; return its report.

        `answers` are by call id: `Approve()`, `Deny("why")`, `Edit({...})` or `Done(value)` for a
        call that waits to be approved; a value, or `Deny`, for one that asked; `Approve()`, `Deny`
        or `Done(value)` for one in doubt. Calls without an answer go on waiting. `plan` is needed
        only for arguments that are secret, which a journal does not keep.

        Raises DagexecError for an unknown run and for an answer that fits no waiting call, before
        anything is done, RunOwned while another process drives the run, and what `run` raises.
        """
        if self.journal is None:
            msg = f"cannot resume {run_id!r}: this executor has no journal; give Executor(journal=)"
            raise DagexecError(msg)
        run = Run(
            self._runner, plan, None, {}, run_id, recorder=self._recorder(run_id, answers or {})
        )
        lease = enclosing_lease()
        waiting: AbstractAsyncContextManager[None] = nullcontext() if lease is None else lease
        async with waiting:
            await run.drive()
        return run.report

    def _recorder(self, run_id: str, answers: Mapping[str, object] | None = None) -> Recorder:
        assert self.journal is not None  # noqa: S101 - looked at by who calls this
        from dagexec._recorder import Recorder

        return Recorder(self.journal, run_id, self._in_doubt, answers)

    def within(self, timeouts: Timeouts, *, journal: Journal | None = None) -> Executor:
        """Return this executor with other timeouts: the same tools, slots and observers.

        For what spans several runs, such as a conversation: each run gets what is left of it. With
        `journal`, its runs are recorded there.
        """
        other = copy.copy(self)
        other.journal = journal or self.journal
        other.timeouts = timeouts
        other._settings = replace(self._settings, **_deadlines(timeouts))  # noqa: SLF001 - its own
        other._origin = self._origin or self  # noqa: SLF001 - its own
        return other

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
        from dagexec._services import Service, checked_service

        checked_service(function)
        if not _in_event_loop():
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

    def _new_run(
        self, plan: Plan | AsyncIterable[Call] | Iterable[Call], run_id: str | None
    ) -> Run:
        name = os.urandom(16).hex() if run_id is None else run_id
        recorder = None
        # A run inside a tool ends with its call, and begins again with it.
        if self.journal is not None and (run_id is not None or not inside_a_call()):
            recorder = self._recorder(name)
        if isinstance(plan, AsyncIterable):
            return Run(self._runner, None, aiter(plan), {}, name, recorder=recorder)
        if not isinstance(plan, Plan):
            plan = Plan(plan)
        prepared = self._prepare(plan)
        if self._orders:
            plan = Plan(order_conflicts(plan.calls, self.tools))
        return Run(self._runner, plan, None, prepared, name, recorder=recorder)

    def _runner(self, run_id: str, observers: Sequence[Observer]) -> Runner:
        """Make a runner in the event loop that is running now."""
        token = current_token().native_token
        slots = self._slots.get(token)
        if slots is None:
            slots = self._slots[token] = Slots(self.concurrency or UNLIMITED, token)
        shared = None
        if self.capacities and self.concurrency != 0:
            shared = self._shared.get(token)
            if shared is None:
                shared = self._shared[token] = Capacities(self.capacities)
        watching = [
            each.begin(run_id, self.tools) if isinstance(each, ObservesRuns) else each
            for each in self.observers
        ]
        return Runner(self._settings, slots, run_id, (*watching, *observers), shared)


def _run_in_new_loop(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    context = copy_context()
    # A context that was copied out of an event loop says that it is in one; anyio believes it.
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context.run(anyio.run, function)


def unknown_tool(call: Call, tools: Mapping[str, object]) -> Problem:
    """Return the problem of a call whose tool does not exist."""
    names = ", ".join(tools) or "none"
    msg = f"there is no tool {call.tool!r}; there are: {names}"
    return Problem("unknown_tool", call.id, msg)


def capacities_for(
    capacities: Mapping[str, int], tools: Iterable[Tool[..., Any]]
) -> dict[str, int]:
    """Return how much there is of each resource; raise DagexecError if it is not enough."""
    for name, total in capacities.items():
        if type(total) is not int or total < 1:
            msg = f"capacities={{{name!r}: {total!r}}}: give a whole number from 1 on"
            raise DagexecError(msg)
    for tool in tools:
        for name, count in tool.uses.items():
            if count > capacities.get(name, 0):
                msg = (
                    f"tool {tool.name!r} uses {count} of {name!r}, and the executor has"
                    f" {capacities.get(name, 0)}: Executor(..., capacities={{{name!r}: {count}}})"
                )
                raise DagexecError(msg)
    return dict(capacities)


def _no_reference(ref: object) -> object:
    msg = f"{ref!r} in a call without references"
    raise AssertionError(msg)


def _concurrency(value: int | None) -> int | None:
    text = os.environ.get("DAGEXEC_CONCURRENCY")
    given: object = value
    if text is not None:
        given = int(text) if text.isascii() and text.isdecimal() else text
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 0):
        msg = f"concurrency is a number of calls, 0 to debug or None for no limit, not {given!r}"
        raise DagexecError(msg)
    return given


def _deadlines(timeouts: Timeouts) -> dict[str, Any]:
    """Return the deadlines of a run.

    Of the two round the whole run the nearer one counts, the outer one if they are the same.
    """
    turn = timeouts.turn is not None and timeouts.turn < (timeouts.workflow or math.inf)
    return {
        "call_timeout": timeouts.call,
        "layer_timeout": timeouts.layer,
        "run_timeout": timeouts.turn if turn else timeouts.workflow,
        "run_scope": "turn" if turn else "workflow",
    }


def _guards(tools: Iterable[Tool[..., Any]]) -> Mapping[str, Guard] | None:
    """Return what stands before the calls of tools that have limits or retries, by tool."""
    if not any(tool.limits or tool.retry is not None or tool.cost is not None for tool in tools):
        return None
    from dagexec._guarded import guards_of  # with dagexec.limits, which few programs need

    return guards_of(tools)


def _in_event_loop() -> bool:
    try:
        current_token()
    except RuntimeError:
        return False
    return True
