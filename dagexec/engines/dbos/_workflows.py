"""What DBOS runs: one workflow for each round of a run, one for each of its calls.

The workflow of a round is a single chain of steps, so it does not matter that DBOS tells steps
apart by position: `begin`, then for each turn `launch`, `stop`, `wait`. What a step returns is all
that the deciding half hears of: the time, and which calls have ended, in the order in which they
stand in the plan. Calls are workflows of their own, found by ids made of run, call and round, never
by position; launching one that is there already does nothing.

The workflow of a call records its intent, in a step, before a write starts. One that is recovered
finds the intents of those who died over it.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, cast, final
from urllib.parse import quote

from dbos import DBOS, SetWorkflowID

from dagexec import CallError, DagexecError, Failed, RunOwned
from dagexec.engines._drive import Drive
from dagexec.engines._one import Assignment, Attempt
from dagexec.lowlevel import outcome_body

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from dagexec import Executor
    from dagexec.engines._drive import Out
    from dagexec.engines.dbos._database import Database
    from dagexec.journal import Types

# Calls that are put into their queues at the same time, each on a connection.
_AT_ONCE: Final = 8
# Rounds of a run that are asked for at once; most have one or two.
_ROUNDS: Final = 8
# How often a call may take its worker down with it before it counts as the cause.
DEATHS: Final = 10


def id_of(engine: str, *parts: str | int) -> str:
    """Return the id of a workflow; different parts never give the same."""
    return "|".join((f"dagexec:{engine}", *(quote(str(part), safe="") for part in parts)))


def cancel_id(engine: str, run_id: str, number: int) -> str:
    """Return the id of the workflow whose end cancels a round; no call's id is like it."""
    return id_of(engine, run_id, number, "", "cancel")


@final
class Site:
    """What an open engine gives its workflows in this process."""

    def __init__(
        self,
        name: str,
        *,
        executor: Executor,
        queues: Mapping[str, str],
        types: Types,
        database: Database,
        polling: float,
    ) -> None:
        """Keep all of it; tools see the context in which the engine was opened, not DBOS's."""
        self.name = name
        self.types = types
        self.polling = polling
        self.closing = False
        self._executor = executor
        self._queues = queues
        self._database = database
        self._context = copy_context()
        self._news: dict[asyncio.Event, None] = {}
        self._tasks: dict[asyncio.Task[Any], None] = {}
        # The attempts under way here, by the round that they belong to.
        self._attempts: dict[str, list[Attempt]] = {}

    # ------------------------------------------------------------------------------ a round of a run

    async def drive(self, text: str) -> str:
        """Run a round to its end; the body of its workflow."""
        spec = self.types.loads(text)
        cancel = cancel_id(self.name, spec["run_id"], spec["round"])
        with _Task(self) as task:
            task.add_done_callback(self._on_end)
            drive = Drive(spec, await self._result_before(spec))
            drive.begin(await _step("begin", self._now), spec["answers"])
            turn = 0
            while True:
                if drive.launches:
                    assigned = {
                        self._id(spec, out.name): self.types.dumps(
                            self._assignment(spec, drive, out)
                        )
                        for out in drive.launches
                    }
                    await _step(f"launch:{turn}", self._launch, assigned, self._tools(drive))
                if drive.aborts:
                    drive.withdrawn(await self._stop(spec, drive, turn))
                    turn += 1
                    continue
                if drive.machine.finished:
                    return self.types.dumps(drive.result())
                ids = {self._id(spec, name): name for name in self._in_order(drive)}
                news = await _step(f"wait:{turn}", self._wait, [*ids, cancel], drive.until)
                ended = await self._outcomes([each for each in news["ended"] if each in ids])
                drive.take(
                    news["now"],
                    [(ids[each], result) for each, result in ended],
                    cancelled=cancel in news["ended"],
                )
                turn += 1

    def _id(self, spec: Mapping[str, Any], call: str) -> str:
        return id_of(self.name, spec["run_id"], spec["round"], call)

    async def _now(self) -> float:
        return self._database.now()

    async def _result_before(self, spec: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result of the round before, which has ended and does not change any more."""
        if spec["round"] == 1:
            return None
        before = id_of(self.name, spec["run_id"], spec["round"] - 1)
        (text,) = await self._outputs([before])
        return cast("dict[str, Any]", self.types.loads(text or ""))

    @staticmethod
    def _in_order(drive: Drive) -> list[str]:
        return [call.id for call in drive.machine.calls if call.id in drive.out]

    @staticmethod
    def _tools(drive: Drive) -> list[str]:
        return [drive.machine.call(out.name).tool for out in drive.launches]

    def _assignment(self, spec: Mapping[str, Any], drive: Drive, out: Out) -> dict[str, Any]:
        past = drive.past.get(out.name)
        work = Assignment(
            run=spec["run_id"],
            call=out.name,
            tool=drive.machine.call(out.name).tool,
            args=out.args,
            timeout=spec["call"],
            until=out.until,
            scope=out.scope,
            zero=drive.zero,
            ready=out.ready,
            past={"starts": 0, "waited": None, "answers": []} if past is None else past.to_dict(),
        )
        return {**{name: getattr(work, name) for name in _FIELDS}, "round": spec["round"]}

    async def _launch(self, assigned: dict[str, str], tools: list[str]) -> int:
        """Put calls into their queues; those that are there stay as they are."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def enqueue(name: str, text: str, tool: str) -> None:
            queue = self._queues.get(tool, self._queues[""])
            async with room:
                with SetWorkflowID(name):
                    await DBOS.enqueue_workflow_async(queue, call_workflow(), text)

        await self.outside(
            _all(
                [
                    enqueue(name, text, tool)
                    for (name, text), tool in zip(assigned.items(), tools, strict=True)
                ]
            )
        )
        return len(assigned)

    async def _stop(self, spec: Mapping[str, Any], drive: Drive, turn: int) -> list[str]:
        """Tell calls to stop; return those that no worker had begun."""
        ids = {self._id(spec, out.name): out.name for out in drive.aborts}
        causes = [out.aborted for out in drive.aborts if out.aborted is not None]
        if any(cause.status == "cancelled" for cause in causes):
            await DBOS.set_event_async("stop", {"because": causes[0].because})
        taken = await _step(f"stop:{turn}", self._database.withdraw, [*ids])
        return [name for each, name in ids.items() if each in taken]

    async def _wait(self, ids: list[str], until: float | None) -> dict[str, Any]:
        """Wait until some of these have ended, or until then; the order is that of `ids`."""
        news = asyncio.Event()
        self._news[news] = None
        try:
            while True:
                news.clear()
                found = dict.fromkeys(await self._database.ended(ids))
                now = self._database.now()
                if found or (until is not None and now >= until):
                    return {"ended": [each for each in ids if each in found], "now": now}
                pause = self.polling if until is None else max(0.0, min(self.polling, until - now))
                await _wait_for(news, pause)
        finally:
            del self._news[news]

    async def _outcomes(self, ids: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
        """Return what calls that have ended left; it does not change any more."""
        if not ids:
            return []
        texts = zip(ids, await self._outputs(ids), strict=True)
        return [(each, self.types.loads(text) if text else _broken()) for each, text in texts]

    async def _outputs(self, ids: Sequence[str]) -> list[str | None]:
        """Return what ended workflows returned, a text each; None for one that failed."""
        found = await self.outside(
            DBOS.list_workflows_async(workflow_ids=list(ids), load_input=False)
        )
        outputs = {
            each.workflow_id: each.output if each.status == "SUCCESS" else None for each in found
        }
        return [outputs.get(each) for each in ids]

    # --------------------------------------------------------------------------------------- a call

    async def call(self, text: str) -> str:
        """Run one call to its outcome; the body of its workflow."""
        body = self.types.loads(text)
        whole = id_of(self.name, body["run"], body.pop("round"))
        own = str(DBOS.workflow_id)
        with _Task(self) as task:
            task.add_done_callback(self._on_end)
            marks: list[str] = await self.outside(self._intents(own))
            for count in range(len(marks)):
                await _step(f"intent:{count + 1}", _never)
            intents: asyncio.Queue[tuple[str, Callable[[Exception | None], None]]] = asyncio.Queue()
            attempt = Attempt(
                self._executor,
                Assignment(**body),
                types=self.types,
                clock=self._database.now,
                marks=marks,
                intend=lambda mark, done: intents.put_nowait((mark, done)),
            )
            self._attempts.setdefault(whole, []).append(attempt)
            try:
                result = await self._attempt(attempt, intents, len(marks))
            finally:
                self._attempts[whole].remove(attempt)
                if not self._attempts[whole]:
                    del self._attempts[whole]
            return self.types.dumps(result)

    async def _attempt(
        self,
        attempt: Attempt,
        intents: asyncio.Queue[tuple[str, Callable[[Exception | None], None]]],
        count: int,
    ) -> dict[str, Any]:
        """Run an attempt, and record its intents in steps of this workflow."""
        running = self._start(attempt.run())
        asking = asyncio.ensure_future(intents.get())
        try:
            while not running.done():
                await asyncio.wait((running, asking), return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    continue
                mark, done = asking.result()
                asking = asyncio.ensure_future(intents.get())
                count += 1
                try:
                    await _step(f"intent:{count}", _same, mark)
                except Exception as error:
                    # Another worker has this call: what runs here must not begin, or go on.
                    done(RunOwned(f"the call runs elsewhere: {error}"))
                    raise
                done(None)
            return running.result()
        finally:
            asking.cancel()
            running.cancel()
            await asyncio.wait((running, asking))

    async def _intents(self, own: str) -> list[str]:
        steps = await DBOS.list_workflow_steps_async(own)
        return [
            str(step["output"]) for step in steps if step["function_name"].startswith("intent:")
        ]

    def _on_end(self, _task: asyncio.Task[Any]) -> None:
        """A call has ended here: those who wait for calls look at once."""
        for event in self._news:
            event.set()

    # ----------------------------------------------------------------------- for those who ask for runs

    async def begin(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a round, here, unless it was begun; return how it is run, which may be otherwise."""
        text, name = self.types.dumps(spec), id_of(self.name, spec["run_id"], spec["round"])

        async def start() -> None:
            with SetWorkflowID(name):
                await DBOS.start_workflow_async(run_workflow(), text)

        await self.outside(start())
        return await self.spec(spec["run_id"], spec["round"])

    async def spec(self, run_id: str, number: int) -> dict[str, Any]:
        """Return how a round is run."""
        name = id_of(self.name, run_id, number)
        found = await self.outside(DBOS.get_workflow_status_async(name))
        return cast("dict[str, Any]", self.types.loads(found.input["args"][0]))

    async def rounds(self, run_id: str) -> int:
        """Return how many rounds a run has had, 0 for an unknown one."""
        count = 0
        while True:
            ids = [id_of(self.name, run_id, count + 1 + each) for each in range(_ROUNDS)]
            found = await self._database.known(ids)
            count += len(found)
            if len(found) < _ROUNDS:
                return count

    async def result(self, run_id: str, number: int) -> dict[str, Any]:
        """Wait for the end of a round, and return its result; raise DagexecError if it broke."""
        name = id_of(self.name, run_id, number)
        await self._wait([name], None)
        (text,) = await self._outputs([name])
        if text is None:
            msg = (
                f"the run {run_id!r} broke off in DBOS, and cannot go on; the log of the process"
                " that drove it says why"
            )
            raise DagexecError(msg)
        return cast("dict[str, Any]", self.types.loads(text))

    async def cancel(self, run_id: str, number: int) -> None:
        """Tell a round to stop; it may have ended."""

        async def start() -> None:
            with SetWorkflowID(cancel_id(self.name, run_id, number)):
                await DBOS.start_workflow_async(cancel_workflow(), "")

        await self.outside(start())

    # -------------------------------------------------------------------------------- beside all that

    async def watch(self) -> None:
        """Stop the attempts of rounds that were stopped."""
        for whole in [*self._attempts]:
            stop = await DBOS.get_event_async(whole, "stop", timeout_seconds=0)
            for attempt in [] if stop is None else [*self._attempts.get(whole, ())]:
                attempt.stop(stop["because"])

    async def outside(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something outside of any workflow, in the context of who opened the engine."""
        return await self._start(coroutine)

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.create_task(coroutine, context=self._context.copy())

    async def end(self) -> None:
        """End what runs here; it goes on elsewhere."""
        self.closing = True
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def enter(self, task: asyncio.Task[Any]) -> None:
        """Take note of a workflow that runs here."""
        self._tasks[task] = None
        task.add_done_callback(lambda ended: self._tasks.pop(ended, None))


_FIELDS: Final = tuple(Assignment.__dataclass_fields__)


@final
class _Task:
    """The body of a workflow, as a block: known to its site, and none begins in one that closes."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __enter__(self) -> asyncio.Task[Any]:
        if self._site.closing:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - inside a coroutine
        self._site.enter(task)
        return task

    def __exit__(self, *_: object) -> None:
        """Nothing to do: the task ends later than its body, when its outcome is recorded."""


async def _step(name: str, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    return await DBOS.run_step_async({"name": name}, function, *args)


async def _same(value: Any) -> Any:
    return value


async def _never() -> Any:
    msg = "an intent that was recorded is not there any more"
    raise RuntimeError(msg)


async def _all(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in coroutines:
            group.create_task(each)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _broken() -> dict[str, Any]:
    msg = (
        f"the call ended without an outcome: it took its worker down with it {DEATHS} times, or"
        " what its tool returned could not be kept; the log of the worker says more"
    )
    return {
        "outcome": outcome_body(Failed(CallError(msg), maybe=True)),
        "starts": 0,
        "abandoned": 0,
    }


# ------------------------------------------------------------------------------ what DBOS registers

_site: Site | None = None
_registered: dict[str, Any] = {}


def open_site() -> Site | None:
    """Return the site that is open in this process; there is one DBOS in a process."""
    return _site


def set_site(site: Site | None) -> None:
    """Open a site, or close it."""
    global _site  # noqa: PLW0603 - DBOS itself is one for the process
    _site = site


def register() -> None:
    """Make the workflows known to DBOS, once; importing this module does nothing to it."""
    if not _registered:
        _registered["run"] = DBOS.workflow(name="dagexec.run", max_recovery_attempts=None)(_run)
        _registered["call"] = DBOS.workflow(name="dagexec.call", max_recovery_attempts=DEATHS)(
            _call
        )
        _registered["cancel"] = DBOS.workflow(name="dagexec.cancel")(_cancel)


def run_workflow() -> Any:
    """Return the workflow of a round."""
    return _registered["run"]


def call_workflow() -> Any:
    """Return the workflow of a call."""
    return _registered["call"]


def cancel_workflow() -> Any:
    """Return the workflow whose end tells a round to stop."""
    return _registered["cancel"]


def _here() -> Site:
    if _site is None:
        raise asyncio.CancelledError  # the engine was closed while DBOS began this
    return _site


async def _run(text: str) -> str:
    return await _here().drive(text)


async def _call(text: str) -> str:
    return await _here().call(text)


async def _cancel(_text: str) -> str:
    return ""
