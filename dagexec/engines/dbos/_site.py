"""What rounds and calls of one open engine share: tasks, waiting, values in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, Final, cast, final

from dbos import DBOS, WorkflowStatus

from dagexec import DagexecError
from dagexec.engines.dbos._bell import Bell
from dagexec.engines.dbos._causes import cause_of
from dagexec.engines.dbos._database import Database
from dagexec.engines.dbos._ends import Ends
from dagexec.engines.dbos._inside import active_names, everybodys_queue
from dagexec.engines.dbos._news import News
from dagexec.engines.dbos._sizes import fitting
from dagexec.engines.dbos._stranded import Stranded
from dagexec.engines.dbos._traces import carried
from dagexec.engines.dbos._workflows import answer_id, begun, cancel_id, enqueued, id_of
from dagexec.journal import Types

# Rounds of a run that are asked for at once; most have one or two.
_ROUNDS: Final = 8
# Seconds after which a round that no worker has begun is begun by anybody.
_PATIENCE: Final = 2.0


@final
class Site:
    """An open engine in this process."""

    def __init__(
        self,
        name: str,
        types: Types,
        database: Database,
        polling: float,
        bell: Bell,
        *,
        decides: bool,
    ) -> None:
        """Keep all of it; tools see the context in which the engine was opened, not DBOS's.

        A process that decides drives the rounds that it begins, others leave that to the workers.
        """
        self.name = name
        self.types = types
        self.database = database
        self.ends = Ends(database, polling)
        self._polling = polling
        self.rounds_queue = f"dagexec.rounds:{name}"
        self._decides = decides
        self.closing = False
        self._context = copy_context()
        # Of the workflows that run here, with their names.
        self._tasks: dict[asyncio.Task[Any], str] = {}
        # Those that nobody waits for, until the engine is closed.
        self._left: dict[asyncio.Task[Any], None] = {}
        self.news = News(database, self.ends.tell, bell.ring, self.ends.look_soon, name)
        self.bell = bell
        self.stranded = Stranded(database, self._running, self._anywhere)

    # -------------------------------------------------------------------------------- tasks of DBOS

    def enter(self, name: str, then: Callable[[], None] | None = None) -> None:
        """Take note of the task of a workflow, and begin none in an engine that closes.

        The task ends later than the body that calls this: when its outcome is recorded. Then it
        calls `then`.
        """
        if self.closing:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - called inside a coroutine
        self._tasks[task] = name
        self.ends.begin(name)

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.pop(task, None)
            error = None if task.cancelled() else task.exception()
            returned = not task.cancelled() and error is None
            if returned:
                self.stranded.returned(name)
            else:
                self.stranded.broke(name, error)
            self.ends.end(name, task.result() if returned else None)
            if then is not None:
                then()

        task.add_done_callback(ended)

    async def end(self) -> None:
        """End what runs here; it goes on elsewhere."""
        self.closing = True
        while tasks := [*self._tasks, *self._left]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _running(self) -> list[str]:
        # Not all of the tasks: that of an execution which was overtaken waits for the other's end.
        names = active_names()
        return [*self._tasks.values()] if names is None else names

    def _anywhere(self) -> str:
        return everybodys_queue() or self.rounds_queue

    async def lose(self) -> None:
        """End what was given to other workers, while this process seemed dead."""
        lost = {*await self.database.given_away([*self._tasks.values()])}
        for task, name in [*self._tasks.items()]:
            if name in lost:
                task.cancel()

    def leave(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Let tasks go on that nobody waits for, at the longest until the engine is closed."""
        for task in tasks:
            if not task.done():
                self._left[task] = None
                task.add_done_callback(self._left.pop)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start something outside of any workflow, in the context of who opened the engine."""
        return asyncio.create_task(coroutine, context=self._context.copy())

    async def outside(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something outside of any workflow: DBOS records none of it, and replays none."""
        return await self.start(coroutine)

    # ------------------------------------------------------------------------------------ workflows

    async def wait(self, run_id: str, name: str) -> str | None:
        """Wait until the workflow of a run has ended; return what it returned if known here.

        Raises DagexecError if it was interrupted here and does not go on soon.
        """
        told: list[str] = []
        with self.ends.waiter() as waiter:

            def tell(why: str) -> None:
                told.append(why)
                waiter.wake()

            waiter.expect([name], there=True)
            with self.stranded.telling(name, tell):
                while not (await waiter.wait())["ended"]:
                    if told:
                        msg = (
                            f"the run {run_id!r} was interrupted, and is tried again; ask for it"
                            f" with the same run_id to go on waiting: {told[0]}"
                        )
                        raise DagexecError(msg)
            return waiter.text_of(name)

    async def outputs(self, ids: Sequence[str]) -> list[tuple[Any, str]]:
        """Return what ended workflows returned; for one that did not return, None and why."""
        if not ids:
            return []
        rows = await self.outside(
            DBOS.list_workflows_async(workflow_ids=list(ids), load_input=False)
        )
        found = {each.workflow_id: each for each in rows}
        return [self._output(found.get(each)) for each in ids]

    def _output(self, row: WorkflowStatus | None) -> tuple[Any, str]:
        if row is not None and row.status == "SUCCESS":
            return self.types.loads(str(row.output)), ""
        if row is None:
            return None, "it was deleted"
        return None, cause_of(row.error) if row.error else row.status

    async def begin(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a round unless it was begun; return how it is run, perhaps otherwise."""
        name = id_of(self.name, spec["run_id"], spec["round"])
        told: dict[str, Any] = {"asks": self.news.own}
        if trace := carried():
            told["trace"] = trace
        text = fitting("the plan", self.types.dumps({**spec, **told}))
        if self._decides:
            await self.outside(begun(name, "round", text))
        else:
            await self.outside(enqueued(name, "round", self.rounds_queue, text))
            self.news.tell_one(self.rounds_queue)
            self.leave([self.start(self._see_to(name))])
        return await self.spec(spec["run_id"], spec["round"])

    async def _see_to(self, name: str) -> None:
        """Let any process begin a round that no worker has begun in time: this one, perhaps."""
        await asyncio.sleep(_PATIENCE)
        queue = everybodys_queue()
        if queue is not None and await self.database.move(name, queue):
            self.bell.ring(queue)

    async def cancel(self, run_id: str, number: int) -> None:
        """Tell a round to stop; it may have ended."""
        await self.outside(begun(cancel_id(self.name, run_id, number), "cancel", ""))

    async def answer(self, run_id: str, number: int, answers: Mapping[str, Any]) -> None:
        """Give answers to a round that is under way; they are heard unless it ends before."""
        text, count = fitting("what was answered", self.types.dumps(answers)), 0
        while True:
            count += 1
            name = answer_id(self.name, run_id, number, count)
            await self.outside(begun(name, "answer", text))
            found = await self.outside(DBOS.get_workflow_status_async(name))
            if found.input["args"][0] == text:
                return

    async def known(self, run_id: str, number: int) -> dict[str, Any] | None:
        """Return what a round has told of itself in its middle, or its result if it has ended."""
        name = id_of(self.name, run_id, number)
        if await self.has_ended(run_id, number):
            return await self.result(run_id, number)
        text = await self.outside(DBOS.get_event_async(name, "known", timeout_seconds=0))
        return None if text is None else cast("dict[str, Any]", self.types.loads(text))

    async def has_ended(self, run_id: str, number: int) -> bool:
        """Return whether a round has ended; one that was deleted has."""
        name = id_of(self.name, run_id, number)
        return (await self.database.ended([name])).get(name, True)

    async def pause(self) -> None:
        """Wait until it is worth another look."""
        await asyncio.sleep(self._polling)

    async def spec(self, run_id: str, number: int) -> dict[str, Any]:
        """Return how a round is run."""
        name = id_of(self.name, run_id, number)
        found = await self.outside(DBOS.get_workflow_status_async(name))
        spec = cast("dict[str, Any]", self.types.loads(found.input["args"][0]))
        del spec["asks"]
        spec.pop("trace", None)
        return spec

    async def rounds(self, run_id: str) -> int:
        """Return how many rounds a run has had, 0 for an unknown one."""
        count = 0
        while True:
            ids = [id_of(self.name, run_id, count + 1 + each) for each in range(_ROUNDS)]
            found = await self.database.known(ids)
            count += len(found)
            if len(found) < _ROUNDS:
                return count

    async def result(self, run_id: str, number: int) -> dict[str, Any]:
        """Wait for the end of a round, and return its result; raise DagexecError if it broke."""
        name = id_of(self.name, run_id, number)
        text = await self.wait(run_id, name)
        if text is not None:
            return cast("dict[str, Any]", self.types.loads(text))
        ((result, why),) = await self.outputs([name])
        if result is None:
            msg = f"the run {run_id!r} broke off and cannot go on, a new one can be begun: {why}"
            raise DagexecError(msg)
        return cast("dict[str, Any]", result)
