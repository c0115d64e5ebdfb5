"""The engine as its users see it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, final
from urllib.parse import urlsplit
from uuid import uuid4

from dagexec import Call, DagexecError, Executor, Plan, Report, Timeouts, Tool
from dagexec.engines._drive import Drive
from dagexec.engines._front import (
    Front,
    asyncio_only,
    check_asked,
    not_open,
    refuse_elsewhere,
    refuse_inside,
    refuse_other,
    unknown_run,
)
from dagexec.engines._report import replayed, report_of
from dagexec.engines.dbos._process import Process, Setting
from dagexec.engines.dbos._queues import QueueSpec, queues_of
from dagexec.engines.dbos._seen import seen
from dagexec.journal import Types
from dagexec.lowlevel import as_tools, explained
from dagexec.programs import Program

# The calls of a plan, or none and a program.
What: TypeAlias = "tuple[list[dict[str, Any]], Mapping[str, Any] | None]"

_NAME: Final = re.compile(r"[a-z0-9_-]{3,40}")


@explained
@final
class DbosEngine:
    """Runs plans on DBOS and PostgreSQL, over any number of processes and machines.

    Entered with `async with`, it runs plans and is a worker itself; other processes that open an
    engine with the same name, tools and database share the work. A run belongs to the database, not
    to the process that asked for it: if that ends, the run goes on in another.

    Args:
        tools: The tools, or plain functions; every worker needs all of them.
        database_url: A PostgreSQL, `postgresql://user:password@host:5432/name`; the database is
            made if the user may do so. No pool of connections in transaction mode in between.
        name: Of the engine, 3 to 40 of a-z, 0-9, `-` and `_`: engines with other names
            share nothing but the server.
        timeouts: How long things may take, as for `Executor`; `layer` and `turn` or `workflow`
            count from when a layer, or a run, began, waiting in queues included, `call` from when
            a worker begins.
        concurrency: How many calls may run at a time in a worker process; None for no limit. The
            same for all workers: the one opened last sets what the queues go by.
        on_failure: "skip" costs a failure its dependants, "stop" ends the run.
        barrier: Whether a layer waits until the one before has ended.
        in_doubt: What becomes of a write whose worker died over it, as for `Executor`; a function
            is asked in the worker that finds it.
        capacities: How much there is of each named resource in this process.
        types: How values beyond JSON are written (`dagexec.journal.Types`), as for a journal.
        polling: Seconds between two looks into a queue and at calls that others run, where no
            news of another process (LISTEN and NOTIFY) say that one is worth while.
        connections: How many connections DBOS may hold, beside three of the engine's own.
        calls: Whether this process runs calls. Without, others do and decide its runs, too; it
            decides itself where no worker begins to within two seconds.
        grace: Seconds that calls may take to end when the engine is closed; it takes no more then.

    Raises DagexecError for a setting that cannot be, ToolDefinitionError for a bad tool.
    """

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]] = (),
        *,
        database_url: str,
        name: str = "dagexec",
        timeouts: Timeouts | None = None,
        concurrency: int | None = 20,
        on_failure: Literal["skip", "stop"] = "skip",
        barrier: bool = False,
        in_doubt: Literal["ask", "rerun"] | Callable[..., Any] = "ask",
        capacities: Mapping[str, int] | None = None,
        types: Types | None = None,
        polling: float = 0.1,
        connections: int = 10,
        calls: bool = True,
        grace: float = 0.0,
    ) -> None:
        """Check the settings; nothing is opened."""
        _check(name, database_url, polling, connections)
        _check_grace(grace)
        self.tools: dict[str, Tool[..., Any]] = as_tools(tools)
        queues, made = queues_of(name, self.tools.values())
        executor = Executor(
            made.values(),
            timeouts=timeouts,
            concurrency=concurrency,
            on_failure=on_failure,
            barrier=barrier,
            in_doubt=in_doubt,
            capacities=capacities,
        )
        self._front = Front(
            engine="DbosEngine",
            through="the database",
            tools=self.tools,
            executor=executor,
            on_failure=on_failure,
            barrier=barrier,
        )
        self.name = name
        self.timeouts = executor.timeouts
        self.on_failure = on_failure
        self.barrier = barrier
        self._types = types or Types()
        self._executor = executor
        self._setting = Setting(
            name=name,
            url=database_url,
            executor=executor,
            drive=self._front.drive,
            queues={"": QueueSpec(f"dagexec:{name}"), **queues},
            types=self._types,
            polling=polling,
            connections=connections,
            calls=calls,
            grace=float(grace),
        )
        self._process: Process | None = None

    def __repr__(self) -> str:
        """Return name and place; never the URL, which may hold a password."""
        place = urlsplit(self._setting.url)
        return f"<DbosEngine {self.name!r} at {place.hostname}{place.path}>"

    # -------------------------------------------------------------------------- opening and closing

    async def __aenter__(self) -> DbosEngine:
        """Connect and begin to work; raises DagexecError if the database cannot be reached."""
        asyncio_only("DBOS", "DbosEngine")
        process = Process(self._setting)
        await process.open()
        self._process = process
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
        """Stop working: calls and runs that do not end within `grace` go on elsewhere.

        They are cancelled here, and a write that is cancelled so is in doubt there. Who waits for a
        run gets a DagexecError.
        """
        process, self._process = self._process, None
        if process is not None:
            try:
                await process.close()
            finally:
                await self._executor.aclose()

    async def work(self) -> None:
        """Be a worker until cancelled: take calls, and runs whose process has ended."""
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

        With the id of a run that is there, go on with that.

        A run that is under way, anywhere, is waited for; one that has ended, or waits for answers,
        returns its report, and nothing runs again. Cancelling the caller leaves the run going on;
        `cancel` ends it.

        Raises PlanError before anything runs, and DagexecError for a run that was begun with
        another plan or program, for secret arguments, for a stream, and inside a tool; for one that
        broke off with an error; and for one that was interrupted, because the database refused its
        end or again and again: that one is tried again, after up to a minute.
        """
        process = self._opened()
        check_asked("" if run_id is None else run_id)
        program = self._front.program_of(plan)
        calls = self._front.calls_of(plan) if program is None else []
        name = uuid4().hex if run_id is None else run_id
        return await process.asked(name, self._run(process, name, calls, program))

    async def _run(
        self,
        process: Process,
        run_id: str,
        calls: list[dict[str, Any]],
        program: dict[str, Any] | None,
    ) -> Report:
        begun = await process.site.begin(self._spec(run_id, 1, (calls, program), {}))
        refuse_other(run_id, begun, calls, program)
        drive, _ = await self._ended(process, run_id, await process.site.rounds(run_id))
        return report_of(run_id, drive)

    async def resume(self, run_id: str, answers: Mapping[str, object] | None = None) -> Report:
        """Continue a run with answers to its waiting calls; return its report.

        `answers` are those of `Executor.resume`. An answered call goes on at once, also while
        others run; the report comes when nothing is left but questions.

        Raises DagexecError for an unknown run, and for an answer that fits no waiting call, before
        anything is done.
        """
        process = self._opened()
        check_asked(run_id, answers)
        return await process.asked(run_id, self._resume(process, run_id, answers or {}))

    async def _resume(self, process: Process, run_id: str, answers: Mapping[str, object]) -> Report:
        while True:
            number = await self._known(process, run_id)
            left, is_open = await self._left(process, run_id, number, answers)
            if not left:
                return report_of(run_id, (await self._ended(process, run_id, number))[0])
            if is_open:
                await process.site.answer(run_id, number, left)
                drive, _ = await self._ended(process, run_id, number)
                if self._heard(drive, left):
                    return report_of(run_id, drive)
                continue  # it ended before it heard of them, or somebody was faster
            spec = await process.site.spec(run_id, number)
            mine = self._spec(run_id, number + 1, _what(spec), left)
            begun = await process.site.begin(mine)
            if begun == mine:
                drive, _ = await self._ended(process, run_id, number + 1)
                return report_of(run_id, drive)

    def _heard(self, drive: Drive, answers: Mapping[str, Any]) -> bool:
        """Whether a run has taken in these answers."""
        dumps = self._types.dumps
        return all(
            dumps(body) in map(dumps, drive.of(name).answers) for name, body in answers.items()
        )

    async def _left(
        self, process: Process, run_id: str, number: int, answers: Mapping[str, object]
    ) -> tuple[dict[str, dict[str, Any]], bool]:
        """Return the answers to give, and whether the round that they are for is under way.

        Answers to calls that do not wait yet are kept until they do, or the round has ended.
        """
        spec = await process.site.spec(run_id, number)
        while answers:
            result = await process.site.known(run_id, number)
            if result is not None:
                is_open = bool(result.get("open"))
                try:
                    return self._front.checked(run_id, Drive(spec, result), answers), is_open
                except DagexecError:
                    if not is_open:
                        raise
            await process.site.pause()
        return {}, False

    async def cancel(self, run_id: str) -> Report:
        """End a run: what has not ended becomes cancelled, what waits for answers too.

        Raises DagexecError for an unknown run.
        """
        process = self._opened()
        check_asked(run_id)
        return await process.asked(run_id, self._cancel(process, run_id))

    async def _cancel(self, process: Process, run_id: str) -> Report:
        while True:
            number = await self._known(process, run_id)
            await process.site.cancel(run_id, number)
            drive, spec = await self._ended(process, run_id, number)
            if not drive.waiting:
                return report_of(run_id, drive)
            # It waited for a person before it was cancelled: a round of its own ends that.
            last = self._spec(run_id, number + 1, _what(spec), {})
            await process.site.begin({**last, "cancelled": True})

    async def report(self, run_id: str) -> Report:
        """Return what is known of a run now, without waiting: calls under way are not in it.

        Raises DagexecError for an unknown run.
        """
        process = self._opened()
        check_asked(run_id)
        return await process.asked(run_id, self._report(process, run_id))

    async def _report(self, process: Process, run_id: str) -> Report:
        number = await self._known(process, run_id)
        spec = await process.site.spec(run_id, number)
        if await process.site.has_ended(run_id, number):
            result = await process.site.result(run_id, number)
        else:
            result = await seen(process.site, self._front.drive, spec)
        return report_of(run_id, await replayed(self._front, spec, result))

    # ----------------------------------------------------------------------------------- in between

    def _opened(self) -> Process:
        process = self._process
        if process is None:
            raise not_open()
        refuse_inside()
        refuse_elsewhere(process.loop)
        return process

    def _spec(
        self, run_id: str, number: int, what: What, answers: dict[str, Any]
    ) -> dict[str, Any]:
        """Return how a round is to be run, for whoever drives it, now and after a crash."""
        spec = self._front.spec(run_id, *what)
        return {**spec, "round": number, "answers": answers}

    async def _known(self, process: Process, run_id: str) -> int:
        number = await process.site.rounds(run_id)
        if not number:
            raise unknown_run(self.name, run_id, "this database")
        return number

    async def _ended(
        self, process: Process, run_id: str, number: int
    ) -> tuple[Drive, dict[str, Any]]:
        """Wait for the end of a round; return it, replayed, and how it was run."""
        spec = await process.site.spec(run_id, number)
        result = await process.site.result(run_id, number)
        return await replayed(self._front, spec, result), spec


def _what(spec: Mapping[str, Any]) -> What:
    return spec["calls"], spec.get("program")


def _check_grace(grace: object) -> None:
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not grace >= 0:
        msg = f"grace={grace!r}: give a number of seconds from 0 on"
        raise DagexecError(msg)


def _check(name: object, url: object, polling: object, connections: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        msg = f"name={name!r}: give 3 to 40 of a-z, 0-9, - and _"
        raise DagexecError(msg)
    if not isinstance(url, str) or urlsplit(url).scheme not in (
        "postgres",
        "postgresql",
        "postgresql+psycopg",
    ):
        msg = "database_url= has to be a PostgreSQL's: postgresql://user:password@host:5432/name"
        raise DagexecError(msg)
    if isinstance(polling, bool) or not isinstance(polling, int | float) or not 0 < polling < 60:  # noqa: PLR2004 - a minute is no polling any more
        msg = f"polling={polling!r}: give seconds, more than 0 and less than 60"
        raise DagexecError(msg)
    if type(connections) is not int or connections < 2:  # noqa: PLR2004 - one to read, one to write
        msg = f"connections={connections!r}: give a number from 2 on"
        raise DagexecError(msg)
