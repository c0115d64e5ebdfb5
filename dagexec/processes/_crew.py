"""The worker processes of a pool: started, warmed up, waited for, handed on.

To start an interpreter and import a tool's module takes seconds in a large program. That is no part
of a call: it has a limit of its own, it goes on when the call that asked for it is gone, and what
comes of it serves the next one.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any, Final, Protocol, final

import anyio
from anyio.lowlevel import current_token

from dagexec._concurrency import forks
from dagexec._concurrency.loops import call_soon
from dagexec._errors import ProcessError
from dagexec.processes._frames import Process
from dagexec.processes._system import Spawning, has_ended, in_thread
from dagexec.processes._tree import tagged
from dagexec.processes._worker import FAILED, LOAD, PREPARE

_PROGRAM: Final = Path(__file__).with_name("_worker.py")
_log: Final = logging.getLogger("dagexec")


class Sent(Protocol):
    """A tool as it is sent to a process."""

    name: str
    module: str
    file: str | None
    main: bool
    pickled: bytes


@final
class _Waiter:
    """A call that waits for a process that has its tool."""

    __slots__ = ("error", "event", "native", "process", "tool")

    def __init__(self, tool: Sent) -> None:
        self.tool = tool
        self.event = anyio.Event()
        self.native: Any = current_token().native_token
        self.process: Process | None = None
        self.error: Exception | None = None

    def wake(self) -> bool:
        return call_soon(self.native, self.event.set)


@final
class _Start:
    """A process on its way: being started, or given one more tool."""

    __slots__ = ("is_late", "process", "tool")

    def __init__(self, tool: Sent, process: Process | None) -> None:
        self.tool = tool
        self.process = process
        self.is_late = False


@final
class Crew:
    """The processes of one pool. Safe to use from any thread."""

    def __init__(self, start_timeout: float) -> None:
        """Start nothing yet; `start_timeout` is in seconds."""
        self._start_timeout = start_timeout
        self._empty()
        forks.forgets(self)

    def _empty(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Process] = []
        self._starts: list[_Start] = []
        self._waiters: deque[_Waiter] = deque()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the processes are the parent's."""
        self._empty()

    def close(self) -> None:
        """Kill the idle processes and those that are starting; takes a moment for each."""
        with self._lock:
            idle, self._idle = self._idle, []
            starts, self._starts = self._starts, []
            waiters, self._waiters = self._waiters, deque()
        for process in (*idle, *[each.process for each in starts]):
            if process is not None:
                process.discard()
        for waiter in waiters:
            waiter.error = ProcessError("the executor was closed while a worker process started")
            waiter.wake()

    # --------------------------------------------------------------------------- in an event loop

    async def take(self, tool: Sent) -> Process:
        """Return a process that has this tool, as soon as there is one.

        Raises ProcessError if it cannot be started, or is not ready in time.
        """
        waiter = _Waiter(tool)
        dead: list[Process] = []
        begun: _Start | None = None
        with self._lock:
            waiter.process = self._take_idle(tool, dead)
            if waiter.process is None:
                self._waiters.append(waiter)
                begun = self._begin(tool)
        if begun is not None:
            self._work(begun)
        try:
            for each in dead:
                await in_thread(each.discard)
            if waiter.process is None:
                await waiter.event.wait()
        except BaseException:
            self._withdraw(waiter)
            raise
        if waiter.process is None:
            assert waiter.error is not None  # noqa: S101 - one of both
            raise waiter.error
        return waiter.process

    def give(self, process: Process) -> None:
        """Take a process back: to whoever waits for one like it, or among the idle ones."""
        with self._lock:
            while (waiter := self._next_waiter(process)) is not None:
                waiter.process = process
                if waiter.wake():
                    return
                waiter.process = None  # its event loop has ended
            self._idle.append(process)

    def _withdraw(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            process = waiter.process
        if process is not None:
            self.give(process)

    def _next_waiter(self, process: Process) -> _Waiter | None:
        for waiter in self._waiters:
            if waiter.tool.name in process.tools:
                self._waiters.remove(waiter)
                return waiter
        return None

    def _take_idle(self, tool: Sent, dead: list[Process]) -> Process | None:
        """Take an idle process that has this tool; collect those that have ended."""
        dead += [each for each in self._idle if has_ended(each.process)]
        self._idle = [each for each in self._idle if each not in dead]
        for index in range(len(self._idle) - 1, -1, -1):
            if tool.name in self._idle[index].tools:
                return self._idle.pop(index)
        return None

    def _begin(self, tool: Sent) -> _Start | None:
        """Return a start for one who waits, unless there are as many as wait for this tool."""
        waiting = sum(each.tool.name == tool.name for each in self._waiters)
        if sum(each.tool.name == tool.name for each in self._starts) >= waiting:
            return None
        fits = [each for each in self._idle if each.knows_main or not tool.main]
        if fits:
            self._idle.remove(fits[-1])
        start = _Start(tool, fits[-1] if fits else None)
        self._starts.append(start)
        return start

    def _work(self, start: _Start) -> None:
        threading.Thread(target=self._run, args=(start,), name="dagexec start", daemon=True).start()

    # --------------------------------------------------------------------------------- in a thread

    def _run(self, start: _Start) -> None:
        timer = threading.Timer(self._start_timeout, self._too_late, (start,))
        timer.daemon = True
        timer.start()
        fault: Exception | None = None
        try:
            self._warm(start)
        except Exception as error:  # noqa: BLE001 - told to the call that waits
            fault = error
        finally:
            timer.cancel()
        process = start.process
        with self._lock:
            wanted = start in self._starts
            if wanted:
                self._starts.remove(start)
        usable = process is not None and not start.is_late and not has_ended(process.process)
        if process is not None and not (wanted and usable):
            process.discard()
        elif process is not None:
            self.give(process)
        if wanted and (fault is not None or not usable):
            self._fail(start, fault)

    def _warm(self, start: _Start) -> None:
        """Start the process if there is none, and give it the tool; raises what went wrong."""
        tool = start.tool
        if start.process is None:
            environment, tag = tagged(os.environ)
            spawning = Spawning((sys.executable, str(_PROGRAM)), environment, tag)
            made = spawning.start_now(stdin=True, stderr=False)
            start.process = Process(made, tag, knows_main=tool.main)
            with self._lock:
                wanted = start in self._starts
            if not wanted or start.is_late:
                return  # nobody knew of it who could have killed it
            _expect_ready(start.process.ask(PREPARE, _preparation(main=tool.main)))
        body = {
            "name": tool.name,
            "tool": tool.pickled,
            "module": tool.module,
            "file": tool.file,
        }
        _expect_ready(start.process.ask(LOAD, body))
        start.process.tools.add(tool.name)

    def _too_late(self, start: _Start) -> None:
        start.is_late = True
        if start.process is not None:
            start.process.discard()

    def _fail(self, start: _Start, fault: Exception | None) -> None:
        """Tell the first call that waits for this tool why there is no process for it."""
        name = start.tool.name
        if start.is_late:
            error = ProcessError(
                f"no worker process for tool {name!r} was ready within {self._start_timeout:g} s:"
                " let its module, and the main script, import less, or raise"
                " Executor(start_timeout=)"
            )
        else:
            how = fault if fault is not None and str(fault) else "it ended while it started"
            error = ProcessError(
                f"the worker process for tool {name!r} could not be started: {how}"
            )
        error.__cause__ = fault
        with self._lock:
            waiter = next((each for each in self._waiters if each.tool.name == name), None)
            if waiter is not None:
                self._waiters.remove(waiter)
        if waiter is None:
            _log.warning("%s", error)
        else:
            waiter.error = error
            waiter.wake()


def _expect_ready(frame: Any) -> None:
    if frame.kind != FAILED:
        return
    error = pickle.loads(frame.body)  # noqa: S301 - from our own program
    if isinstance(error, Exception):
        raise error
    msg = f"its import ended with {error!r}"
    raise ProcessError(msg)


def _preparation(*, main: bool) -> dict[str, Any]:
    """Return what makes a process like this one: paths, folder, and the main script if needed."""
    from multiprocessing import spawn

    data: dict[str, Any] = spawn.get_preparation_data("dagexec tools")
    data.pop("authkey", None)  # of multiprocessing's own pipes
    if not main:
        data = {key: value for key, value in data.items() if not key.startswith("init_main")}
    return data
