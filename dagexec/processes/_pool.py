"""Tools in processes of their own.

anyio's own worker processes (`anyio.to_process`) fall short of what is promised here: they belong
to an event loop, not to an executor, so that each `run_sync` would start new ones; only the worker
is killed, not what it has started; what a tool leaves running goes on in an idle worker; and a tool
cannot reach the executor to run a plan of its own. Their form, pickles over a pipe to a spawned
interpreter, is used here too.
"""

from __future__ import annotations

import math
import os
import pickle
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import anyio
from anyio import CancelScope, create_task_group

from dagexec._errors import DagexecError, ProcessGone, ToolDefinitionError
from dagexec._tools.context import current_call
from dagexec._tools.functions import unwrapped
from dagexec.processes._system import (
    SEES_EXIT,
    Spawning,
    discard,
    exit_of,
    has_ended,
    in_thread,
    read,
    write,
)
from dagexec.processes._tree import tagged

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable
    from weakref import WeakMethod

    from dagexec._tools.tool import Tool

_PROGRAM: Final = Path(__file__).with_name("_worker.py")
_LENGTH: Final = struct.Struct(">Q")


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
class _Process:
    """One worker process, seen from the executor."""

    def __init__(self, process: subprocess.Popen[bytes], tag: str, *, knows_main: bool) -> None:
        self.process = process
        self.tag = tag
        self.knows_main = knows_main
        self._rest = b""

    async def send(self, frame: bytes) -> None:
        assert self.process.stdin is not None  # noqa: S101 - asked for
        fd = self.process.stdin.fileno()
        for data in (_LENGTH.pack(len(frame)), frame):
            view = memoryview(data)
            while view:
                view = view[await write(fd, view) :]

    async def receive(self) -> Any:
        """Return what is in the next frame; raise EOFError when there is no more."""
        size: int = _LENGTH.unpack(await self._exactly(_LENGTH.size))[0]
        return pickle.loads(await self._exactly(size))  # noqa: S301 - from our own program

    async def _exactly(self, size: int) -> bytes:
        assert self.process.stdout is not None  # noqa: S101 - asked for
        parts, have = [self._rest], len(self._rest)
        while have < size:
            part = await read(self.process.stdout.fileno())
            if not part:
                raise EOFError
            parts.append(part)
            have += len(part)
        joined = b"".join(parts)
        self._rest = joined[size:]
        return joined[:size]


@final
class Pool:
    """The worker processes of one executor; they end with it."""

    def __init__(
        self, tools: tuple[str, ...], run: WeakMethod[Callable[..., Awaitable[Any]]]
    ) -> None:
        """Start nothing yet. `run` is the executor's own, for plans that tools run themselves."""
        self._tools = tools
        self._run = run
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._owner = os.getpid()

    def function(self, tool: Tool[..., Any]) -> Callable[..., Any]:
        """Return an async function that calls the tool in a process."""
        remote = Remote(tool)

        async def call_in_process(**arguments: Any) -> Any:
            return await self.call(remote, arguments)

        return call_in_process

    def close(self) -> None:
        """Kill the idle processes; takes a moment for each."""
        with self._lock:
            idle, self._idle = self._idle, []
        if self._owner == os.getpid():  # those of a fork are the parent's
            for each in idle:
                discard(each.process, each.tag)

    async def aclose(self) -> None:
        """Kill the idle processes."""
        await in_thread(self.close)

    # ---------------------------------------------------------------------------------- one call

    async def call(self, remote: Remote, arguments: dict[str, Any]) -> Any:
        """Run a call in a process; kill it, and all that it has started, when cancelled.

        Raises what the tool raises, with its traceback as a note, and ProcessGone if the process
        ends under it.
        """
        frame = self._frame(remote, arguments)
        worker = await self._take(remote)
        kept = False
        try:
            kind, value, leftovers = await self._converse(worker, frame)
            kept = not leftovers
        except (EOFError, OSError):
            raise await self._death(worker, remote) from None
        finally:
            if kept:
                with self._lock:
                    self._idle.append(worker)
            else:
                with CancelScope(shield=True):
                    await in_thread(discard, worker.process, worker.tag)
        if kind == "done":
            return value
        if isinstance(value, Exception):
            raise value
        msg = f"tool {remote.name!r} ended its process: {value!r}"
        raise ProcessGone(msg)

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
                "tool": remote.pickled,
                "module": remote.module,
                "file": remote.file,
                "arguments": pickled,
                "id": context.id,
                "attempt": context.attempt,
                "run_id": context.run_id,
                "seconds": seconds,
                "told": context.tell is not None,
                "tools": self._tools,
            }
        )

    async def _take(self, remote: Remote) -> _Process:
        dead: list[_Process] = []
        found = self._idle_one(remote, dead)
        for each in dead:
            await in_thread(discard, each.process, each.tag)
        return await self._start(remote) if found is None else found

    def _idle_one(self, remote: Remote, dead: list[_Process]) -> _Process | None:
        """Take an idle process that can run this tool; collect those that have ended."""
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                found = self._idle[index]
                if has_ended(found.process):
                    dead.append(self._idle.pop(index))
                elif found.knows_main or not remote.main:
                    return self._idle.pop(index)
        return None

    async def _start(self, remote: Remote) -> _Process:
        environment, tag = tagged(os.environ)
        spawning = Spawning((sys.executable, str(_PROGRAM)), environment, tag)
        process: subprocess.Popen[bytes] = await spawning.start(stdin=True, stderr=False)
        made = _Process(process, tag, knows_main=remote.main)
        try:
            await made.send(pickle.dumps(_preparation(main=remote.main)))
        except (OSError, BrokenPipeError):
            pass  # the call finds out
        except BaseException:
            discard(process, tag)
            raise
        return made

    async def _converse(self, worker: _Process, frame: bytes) -> tuple[str, Any, bool]:
        """Return the end of a call: how it ended, its value or error, whether it left something."""
        result: tuple[str, Any, bool] | None = None
        fault: BaseException | None = None
        async with create_task_group() as group:
            if SEES_EXIT:
                group.start_soon(_cancel_at_exit, worker.process, group.cancel_scope)
            try:
                await worker.send(frame)
                while result is None:
                    answer = await worker.receive()
                    if answer[0] in ("done", "failed"):
                        result = answer
                    else:
                        await self._serve(worker, answer)
            except Exception as error:  # noqa: BLE001 - raised again outside of the group
                fault = error
            group.cancel_scope.cancel()
        if fault is not None:
            raise fault
        if result is None:
            raise EOFError
        return result

    async def _serve(self, worker: _Process, answer: Any) -> None:
        """Do what a running tool asks for."""
        if answer[0] == "progress":
            tell = current_call().tell
            if tell is not None:
                tell(answer[1])
            return
        _, plan, run_id = answer
        reply: tuple[str, Any]
        try:
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
        await worker.send(frame)

    async def _death(self, worker: _Process, remote: Remote) -> ProcessGone:
        code = None
        with anyio.move_on_after(1):
            code = await exit_of(worker.process)
        how = "closed its pipe" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was ended by signal {-code}"
        error = ProcessGone(f"the process of tool {remote.name!r} {how}")
        error.maybe = True
        return error


async def _cancel_at_exit(process: subprocess.Popen[bytes], scope: CancelScope) -> None:
    """See its end apart from the end of its pipe, which a child that it forked may hold open."""
    await exit_of(process)
    await anyio.sleep(0.1)  # for what it wrote last
    scope.cancel()


def _preparation(*, main: bool) -> dict[str, Any]:
    """Return what makes a process like this one: paths, folder, and the main script if needed."""
    from multiprocessing import spawn

    data: dict[str, Any] = spawn.get_preparation_data("dagexec tools")
    data.pop("authkey", None)  # of multiprocessing's own pipes
    if not main:
        data = {key: value for key, value in data.items() if not key.startswith("init_main")}
    return data
