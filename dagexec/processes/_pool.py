"""Tools in processes of their own.

anyio's own worker processes (`anyio.to_process`) fall short of what is promised here: they belong
to an event loop, not to an executor, so that each `run_sync` would start new ones; only the worker
is killed, not what it has started; what a tool leaves running goes on in an idle worker; and a tool
cannot reach the executor to run a plan of its own. Their form, pickles over a pipe to a spawned
interpreter, is used here too.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, final
from weakref import WeakMethod

import anyio
from anyio import CancelScope, create_task_group

from dagexec._errors import DagexecError, ProcessError, ProcessGone, ToolDefinitionError
from dagexec._tools.context import current_call
from dagexec._tools.functions import unwrapped
from dagexec._tools.tool import Tool
from dagexec.processes._crew import Crew
from dagexec.processes._frames import Frame, Process
from dagexec.processes._system import SEES_EXIT, exit_of, in_thread
from dagexec.processes._worker import CALL, DONE, FAILED, REPLY, RUN


@final
class Remote:
    """A tool as it is sent to a process."""

    __slots__ = ("file", "main", "module", "name", "needs_context", "pickled")

    def __init__(self, tool: Tool[..., Any]) -> None:
        """Pickle it; raise ToolDefinitionError if a process could not find it."""
        from dataclasses import replace

        target: Any = unwrapped(tool.raw)
        self.name = tool.name
        self.needs_context = tool.needs_context
        self.module: str = getattr(target, "__module__", None) or "__main__"
        module = sys.modules.get(self.module)
        self.file: str | None = getattr(module, "__file__", None)
        self.main = self.module == "__main__"
        if self.main and self.file is None:
            msg = (
                f'tool {tool.name!r} has runs="process" but is defined at a prompt or in a'
                " notebook, where another process cannot find it: put it into a module"
            )
            raise ToolDefinitionError(msg)
        # What only this side needs may be anything, also what cannot be sent.
        plain = replace(tool, approval=False, limits=(), retry=None, cost=None, uses={})
        try:
            self.pickled = pickle.dumps(plain)
        except Exception as error:  # noqa: BLE001 - pickle raises what it likes
            msg = (
                f'tool {tool.name!r} has runs="process" but cannot be sent to a process ({error}):'
                " define it at the top level of a module"
            )
            raise ToolDefinitionError(msg) from None


@final
class Pool:
    """The worker processes of one executor; they end with it."""

    def __init__(
        self,
        tools: tuple[str, ...],
        run: WeakMethod[Callable[..., Awaitable[Any]]],
        start_timeout: float,
    ) -> None:
        """Start nothing yet. `run` is the executor's own, for plans that tools run themselves."""
        self._tools = tools
        self._run = run
        self._crew = Crew(start_timeout)
        # Processes that are kept for calls, by their ids of run and call.
        self._places: dict[tuple[str, str], Process] = {}

    def function(self, tool: Tool[..., Any]) -> InProcess:
        """Return an async function that calls the tool in a process."""
        return InProcess(self, Remote(tool))

    def close(self) -> None:
        """Kill the idle processes; takes a moment for each."""
        self._crew.close()

    async def aclose(self) -> None:
        """Kill the idle processes."""
        await in_thread(self.close)

    @asynccontextmanager
    async def reserve(self, remote: Remote, key: tuple[str, str]) -> AsyncGenerator[None]:
        """Have a process ready for one call of this block; see `Crew.take`."""
        self._places[key] = await self._crew.take(remote)
        try:
            yield
        finally:
            process = self._places.pop(key, None)
            if process is not None:  # it was not called after all
                self._crew.give(process)

    # ---------------------------------------------------------------------------------- one call

    async def call(self, remote: Remote, arguments: dict[str, Any]) -> Any:
        """Run a call in a process; kill it, and all that it has started, when cancelled.

        Raises what the tool raises, with its traceback as a note, and ProcessGone if the process
        ends under it.
        """
        context = current_call()
        worker = self._places.pop((context.run_id, context.id), None)
        try:
            frame = self._frame(remote, arguments)
        except BaseException:
            if worker is not None:
                self._crew.give(worker)
            raise
        if worker is None:
            worker = await self._crew.take(remote)
        kept = False
        try:
            end = await self._converse(worker, frame)
            kept = not end.question
        except (EOFError, OSError) as error:
            raise await self._death(worker, remote) from error
        finally:
            if kept:
                self._crew.give(worker)
            else:
                with CancelScope(shield=True):
                    await in_thread(worker.discard)
        return _result(end, remote)

    def _frame(self, remote: Remote, arguments: dict[str, Any]) -> bytes:
        context = current_call()
        if remote.needs_context is not None:
            arguments.pop(remote.needs_context, None)
        try:
            pickled = pickle.dumps(arguments)
        except Exception as error:
            msg = f"the arguments of {remote.name!r} cannot be sent to its process: {error}"
            raise DagexecError(msg) from error
        seconds = None
        if context.deadline is not None and context.deadline < math.inf:
            seconds = context.deadline - anyio.current_time()
        return pickle.dumps(
            {
                "name": remote.name,
                "arguments": pickled,
                "id": context.id,
                "attempt": context.attempt,
                "run_id": context.run_id,
                "seconds": seconds,
                "told": context.tell is not None,
                "tools": self._tools,
            }
        )

    async def _converse(self, worker: Process, frame: bytes) -> Frame:
        """Return the frame that ends a call; meanwhile do what its tool asks for."""
        end: Frame | None = None
        fault: BaseException | None = None
        number = worker.next_number()
        async with create_task_group() as group:
            if SEES_EXIT:
                group.start_soon(_cancel_at_exit, worker.process, group.cancel_scope)
            served = _Served(self._run, worker, number, anyio.Lock())
            try:
                await worker.send(number, 0, CALL, frame)
                while end is None:
                    got = await worker.receive(number)
                    if got.kind in (DONE, FAILED):
                        end = got
                    elif got.kind == RUN:
                        group.start_soon(served.run, got.question, got.body)
                    else:
                        served.tell(got.body)
            except Exception as error:  # noqa: BLE001 - raised again outside of the group
                fault = error
            group.cancel_scope.cancel()
        if fault is not None:
            raise fault
        if end is None:
            raise EOFError
        return end

    async def _death(self, worker: Process, remote: Remote) -> ProcessGone:
        code = None
        with anyio.move_on_after(1):
            code = await exit_of(worker.process)
        how = "closed its pipe" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was ended by signal {-code}"
        error = ProcessGone(f"the process of tool {remote.name!r} {how}")
        error.maybe = True
        return error


@final
class InProcess:
    """A tool that runs in a process, as a function."""

    def __init__(self, pool: Pool, remote: Remote) -> None:
        """Start nothing."""
        self._pool = pool
        self._remote = remote

    async def __call__(self, **arguments: Any) -> Any:
        """Run a call in the process that was reserved for it, or in another."""
        return await self._pool.call(self._remote, arguments)

    def reserve(self, run_id: str, call: str) -> AbstractAsyncContextManager[None]:
        """Return a block for one attempt of a call; entering it waits for a process.

        Raises ProcessError if none can be started in time; see `Executor(start_timeout=)`.
        """
        return self._pool.reserve(self._remote, (run_id, call))


@final
class _Served:
    """What a running tool asks of its executor."""

    def __init__(
        self,
        run: WeakMethod[Callable[..., Awaitable[Any]]],
        worker: Process,
        number: int,
        lock: anyio.Lock,
    ) -> None:
        self._run = run
        self._worker = worker
        self._number = number
        self._lock = lock
        self._progress = current_call().tell

    def tell(self, body: bytes) -> None:
        if self._progress is not None:
            self._progress(pickle.loads(body))  # noqa: S301 - from our own program

    async def run(self, question: int, body: bytes) -> None:
        """Run a plan of the tool's; several may run side by side."""
        reply: tuple[str, Any]
        try:
            plan, run_id = pickle.loads(body)  # noqa: S301 - from our own program
            run = self._run()
            assert run is not None  # noqa: S101 - its executor runs this call
            reply = ("report", await run(plan, run_id=run_id))
        except Exception as error:  # noqa: BLE001 - raised again in the process
            reply = ("raise", error)
        try:
            frame = pickle.dumps(reply)
        except Exception as error:  # noqa: BLE001 - pickle raises what it likes
            msg = f"the report of a nested run cannot be sent to the tool's process: {error}"
            frame = pickle.dumps(("raise", DagexecError(msg)))
        async with self._lock:
            with contextlib.suppress(OSError):  # the process has ended: its call says so
                await self._worker.send(self._number, question, REPLY, frame)


def _result(end: Frame, remote: Remote) -> Any:
    """Return what a call returned; raise what it raised."""
    try:
        value: Any = pickle.loads(end.body)  # noqa: S301 - from our own program
    except Exception as error:
        msg = f"what tool {remote.name!r} returned cannot be read here: {error!r:.200}"
        lost = ProcessError(msg)
        lost.maybe = True  # the tool has run
        raise lost from error
    if end.kind == DONE:
        return value
    if isinstance(value, Exception):
        raise value
    msg = f"tool {remote.name!r} ended its process: {value!r}"
    raise ProcessGone(msg)


async def _cancel_at_exit(process: subprocess.Popen[bytes], scope: CancelScope) -> None:
    """See its end apart from the end of its pipe, which a child that it forked may hold open."""
    await exit_of(process)
    await anyio.sleep(0.1)  # for what it wrote last
    scope.cancel()
