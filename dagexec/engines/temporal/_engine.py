"""The engine as its users see it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, final
from uuid import uuid4

from temporalio.client import Client

from dagexec import Call, DagexecError, Executor, Plan, Report, Timeouts, Tool
from dagexec.engines._front import (
    Front,
    asyncio_only,
    check_asked,
    not_open,
    refuse_elsewhere,
    refuse_inside,
)
from dagexec.engines.temporal._interpreter import misfit
from dagexec.engines.temporal._process import Process, Setting, queues_served
from dagexec.engines.temporal._queues import queues_of
from dagexec.engines.temporal._runs import Runs
from dagexec.engines.temporal._values import Store, Values
from dagexec.journal import Types
from dagexec.lowlevel import as_tools, explained
from dagexec.programs import Program

_NAME: Final = re.compile(r"[a-z0-9_-]{3,40}")
_ADDRESS: Final = re.compile(r"[^/\s]+:[0-9]{1,5}")
_QUEUE: Final = re.compile(r"[a-zA-Z0-9_-]{1,100}")
# Seconds: a lease that is shorter ends calls of workers that are only busy.
_SHORTEST_LEASE: Final = 1.0


@explained
@final
class TemporalEngine:
    """Runs plans and programs on Temporal, over any number of processes and machines.

    Entered with `async with`, it runs them and is a worker itself; other processes that open an
    engine with the same name, tools and server share the work. A run belongs to the server, not to
    the process that asked for it: if that ends, the run goes on in another.

    Args:
        tools: The tools, or plain functions; every worker of a queue needs all of its tools.
        client: A client of `temporalio`, with the TLS, keys, codecs and interceptors that you need.
        address: Without `client`, where the server is, as "localhost:7233".
        namespace: Without `client`, the namespace on the server.
        name: Of the engine, 3 to 40 of a-z, 0-9, `-` and `_`: a part of the ids of its workflows
            and the names of its queues. Engines with other names share nothing but the server.
        timeouts: How long things may take, as for `Executor`; `layer` and `turn` or `workflow`
            count from when a layer, or a run, began, waiting in queues included, `call` from when
            a worker begins.
        concurrency: How many calls may run at a time in this process; None for no limit.
        on_failure: "skip" costs a failure its dependants, "stop" ends the run.
        barrier: Whether a layer waits until the one before has ended.
        in_doubt: What becomes of a write whose worker died over it, as for `Executor`; a function
            is asked in the worker that finds it.
        capacities: How much there is of each named resource in this process.
        types: How values beyond JSON are written (`dagexec.journal.Types`), as for a journal.
        store: Where values of more than `inline` bytes are kept, such as `FolderStore(path)` or
            `S3Store(url)`; all processes need the same. Without one, a value of 1.9 MB (compressed)
            is too large.
        inline: Bytes up to which a value travels with its call.
        queues: The queues of tools that only some workers run, by tool: `{"embed": "gpu"}`.
        serves: Which of these queues this process works on; "" is the common one.
        lease: Seconds without a sign of life until a worker counts as dead.
        beat: Seconds between two such signs, and until a call hears that it is cancelled.
        grace: Seconds that calls may take to end when the engine is closed.
        calls: Whether this process runs calls.
        decides: Whether it decides what runs next. With neither, it only asks for runs.
        cached: How many runs a process keeps in memory; others are replayed when they go on. With
            fewer than go on at a time, runs of programs may be held up for 10 s.

    Raises DagexecError for a setting that cannot be, ToolDefinitionError for a bad tool.
    """

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]] = (),
        *,
        client: Client | None = None,
        address: str = "localhost:7233",
        namespace: str = "default",
        name: str = "dagexec",
        timeouts: Timeouts | None = None,
        concurrency: int | None = 20,
        on_failure: Literal["skip", "stop"] = "skip",
        barrier: bool = False,
        in_doubt: Literal["ask", "rerun"] | Callable[..., Any] = "ask",
        capacities: Mapping[str, int] | None = None,
        types: Types | None = None,
        store: Store | None = None,
        inline: int = 16 * 1024,
        queues: Mapping[str, str] | None = None,
        serves: Sequence[str] = ("",),
        lease: float = 15.0,
        beat: float = 2.0,
        grace: float = 0.0,
        calls: bool = True,
        decides: bool = True,
        cached: int = 1000,
    ) -> None:
        """Check the settings; nothing is opened."""
        given = dict(queues or {})
        _check_place(client, address, namespace)
        _check_names(name, given, serves)
        _check_numbers(lease, beat, grace, inline)
        self.tools: dict[str, Tool[..., Any]] = as_tools(tools)
        specs, made = queues_of(self.tools.values(), given)
        self._executor = Executor(
            made.values(),
            timeouts=timeouts,
            concurrency=concurrency,
            on_failure=on_failure,
            barrier=barrier,
            in_doubt=in_doubt,
            capacities=capacities,
        )
        values = Values(types or Types(), store, inline)
        self._front = Front(
            engine="TemporalEngine",
            through="Temporal",
            tools=self.tools,
            executor=self._executor,
            on_failure=on_failure,
            barrier=barrier,
            misfit=partial(misfit, values),
        )
        self.name = name
        self.timeouts = self._executor.timeouts
        self.on_failure = on_failure
        self.barrier = barrier
        self._extra = {
            "engine": name,
            "lease": float(lease),
            "queues": {tool: spec.part for tool, spec in specs.items() if spec.part},
        }
        self._setting = Setting(
            name=name,
            client=client,
            address=address,
            namespace=namespace,
            executor=self._executor,
            front=self._front,
            queues=queues_served(specs, tuple(serves)),
            values=values,
            lease=float(lease),
            beat=float(beat),
            grace=float(grace),
            calls=calls,
            common="" in serves,
            decides=decides,
            cached=cached,
        )
        self._process: Process | None = None
        self._runs: Runs | None = None

    def __repr__(self) -> str:
        """Return name and place."""
        client = self._setting.client
        place = f"a client of {client.namespace!r}" if client else self._setting.address
        return f"<TemporalEngine {self.name!r} at {place}>"

    # -------------------------------------------------------------------------- opening and closing

    async def __aenter__(self) -> TemporalEngine:
        """Connect and begin to work; raises DagexecError if the server cannot be reached."""
        asyncio_only("Temporal", "TemporalEngine")
        if self._process is not None:
            msg = "the engine is open already"
            raise DagexecError(msg)
        process = self._process = Process(self._setting)
        try:
            client = await process.open()
        except BaseException:
            self._process = None
            raise
        self._runs = Runs(client, self._front, self._setting.values, self._extra)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it; see `aclose`."""
        await self.aclose()

    async def aclose(self) -> None:
        """Stop working: calls that do not end within `grace` are cancelled, and go on elsewhere.

        A write that is cancelled so is in doubt there.
        """
        process, runs, self._process, self._runs = self._process, self._runs, None, None
        if runs is not None:
            runs.close()
        if process is not None:
            await process.close()
            await self._executor.aclose()

    async def work(self) -> None:
        """Be a worker until cancelled: take calls, and decide what runs next."""
        if self._process is not None:
            await asyncio.Event().wait()
        async with self:
            await asyncio.Event().wait()

    # ----------------------------------------------------------------------------------------- runs

    def check(self, plan: Plan) -> None:
        """Check a plan against the tools; raise one PlanError that names every problem."""
        self._executor.check(plan)

    async def run(
        self, plan: Plan | Program | Iterable[Call], *, run_id: str | None = None
    ) -> Report:
        """Run a plan or a program and return its report.

        A run of this id that is under way, anywhere, is waited for; one that has ended, or waits
        for answers, returns its report, and nothing runs again. Cancelling the caller leaves the
        run going on; `cancel` ends it. An id is known as long as the namespace keeps runs that have
        ended.

        Raises PlanError before anything runs, and DagexecError for a run that was begun with
        another plan or program, for secret arguments, for a stream, inside a tool, for a plan that
        is too large, and for a run that was terminated.
        """
        runs = self._opened()
        check_asked("" if run_id is None else run_id)
        program = self._front.program_of(plan)
        calls = self._front.calls_of(plan) if program is None else []
        name = uuid4().hex if run_id is None else run_id
        return await runs.run(name, calls, program)

    async def resume(self, run_id: str, answers: Mapping[str, object] | None = None) -> Report:
        """Continue a run with answers to its waiting calls; return its report.

        `answers` are those of `Executor.resume`. An answered call goes on at once, also while
        others run; the report comes when nothing is left but questions.

        Raises DagexecError for an unknown run, and for an answer that fits no waiting call, before
        anything is done.
        """
        runs = self._opened()
        check_asked(run_id, answers)
        return await runs.resume(run_id, answers or {})

    async def cancel(self, run_id: str) -> Report:
        """End a run: what has not ended becomes cancelled, what waits for answers too.

        Raises DagexecError for an unknown run.
        """
        runs = self._opened()
        check_asked(run_id)
        return await runs.cancel(run_id)

    async def report(self, run_id: str) -> Report:
        """Return what is known of a run now, without waiting: calls under way are not in it.

        Raises DagexecError for an unknown run, and for one that goes on and that no worker decides.
        """
        runs = self._opened()
        check_asked(run_id)
        return await runs.report(run_id)

    def _opened(self) -> Runs:
        process, runs = self._process, self._runs
        if process is None or runs is None:
            raise not_open()
        refuse_inside()
        refuse_elsewhere(process.loop)
        return runs


def _check_place(client: object, address: object, namespace: object) -> None:
    if client is not None and not isinstance(client, Client):
        kind = type(client).__name__
        msg = f"client= takes a temporalio.client.Client, as Client.connect() returns, not a {kind}"
        raise DagexecError(msg)
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        msg = f"address={address!r}: give a host and a port, such as 'localhost:7233'"
        raise DagexecError(msg)
    if not isinstance(namespace, str) or not namespace:
        msg = f"namespace={namespace!r}: give the name of a namespace, such as 'default'"
        raise DagexecError(msg)


def _check_names(name: object, queues: Mapping[str, str], serves: Sequence[str]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        msg = f"name={name!r}: give 3 to 40 of a-z, 0-9, - and _"
        raise DagexecError(msg)
    if isinstance(serves, str):
        msg = f"serves={serves!r}: give a list of queues, such as ('', 'gpu')"
        raise DagexecError(msg)
    for queue in (*queues.values(), *serves):
        if queue and not _QUEUE.fullmatch(queue):
            msg = f"the queue {queue!r} cannot be: give up to 100 of a-z, A-Z, 0-9, - and _"
            raise DagexecError(msg)


def _check_numbers(lease: object, beat: object, grace: object, inline: object) -> None:
    for name, value, least in (
        ("lease", lease, _SHORTEST_LEASE),
        ("beat", beat, 0.05),
        ("grace", grace, 0.0),
        ("inline", inline, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            msg = f"{name}={value!r}: give a number from {least:g} on"
            raise DagexecError(msg)
    assert isinstance(lease, int | float)  # noqa: S101 - for the checkers
    assert isinstance(beat, int | float)  # noqa: S101
    if beat > lease / 2:
        msg = f"beat={beat!r} has to be at most half of lease={lease!r}, or workers seem dead"
        raise DagexecError(msg)
