"""Worker threads for synchronous tools: abandoned at a deadline, never in anyone's way.

anyio's own worker threads are not daemons on asyncio, so a hung one would hold the interpreter's
exit, and its limiter would keep the slot on trio. These threads are daemons without a limiter: how
many run at a time is the business of the executor's slots, and an abandoned one costs nothing but
itself.

A thread can also ask the event loop to run a coroutine for it (`run_sync` of a nested run). It
runs in the task that waits for the thread, so it is inside the same deadline and ends with it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar, final

import anyio
from anyio.from_thread import run_sync as call_in_loop
from anyio.lowlevel import current_token

from dagexec._concurrency import forks
from dagexec._concurrency.contexts import in_context
from dagexec._concurrency.loops import leave_loop, outside_of_asyncio, run_beside
from dagexec._concurrency.signals import CancelledCall
from dagexec._errors import DagexecError

T = TypeVar("T")

_log: Final = logging.getLogger("dagexec")

# Seconds that an idle thread is kept for the next call.
IDLE_SECONDS: Final = 10.0


@final
class ThreadCall:
    """One synchronous call in a worker thread, seen from the event loop and from the thread."""

    __slots__ = (
        "_function",
        "_in_loop",
        "_lock",
        "_requests",
        "_token",
        "_wake",
        "abandoned",
        "done",
        "ident",
        "late",
        "result",
    )

    def __init__(self) -> None:
        """Prepare the call; must be made inside the event loop that will wait for it."""
        self._function: Callable[[], Any]
        self._token = current_token()
        native: Any = self._token.native_token
        # Not anyio's own: that makes the thread wait until the loop has turned.
        self._in_loop: Callable[[Callable[[], object]], object] = (
            native.call_soon_threadsafe
            if hasattr(native, "call_soon_threadsafe")
            else native.run_sync_soon
        )
        self._wake = anyio.Event()
        self._lock = threading.Lock()
        self._requests: deque[_Request] = deque()
        self.done = False
        # The thread's id once it runs, for those who look where it stands.
        self.ident: int | None = None
        self.abandoned = False
        # Called in the event loop when an abandoned thread ends after all.
        self.late: Callable[[], object] | None = None
        self.result: tuple[Any, BaseException | None] = (None, None)

    # In the event loop.

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call it in a thread and return its value; when cancelled, leave the thread behind."""
        self._function = function
        _start(self)
        try:
            while True:
                await self._wake.wait()
                if self.done:  # and no request of its thread is left unanswered
                    break
                self._wake = anyio.Event()
                while self._requests:
                    await self._requests.popleft().serve()
        except BaseException:
            self._abandon()
            raise
        value, error = self.result
        if error is not None:
            raise error
        return value

    def _abandon(self) -> None:
        with self._lock:
            self.abandoned = True
            requests, self._requests = self._requests, deque()
        for request in requests:
            request.fail(CancelledCall())

    # In the thread.

    def execute(self) -> None:
        """Run the function and tell the loop; an abandoned result is dropped."""
        _here.call = self
        self.ident = threading.get_ident()
        try:
            self.result = (self._function(), None)
        except BaseException as error:  # noqa: BLE001 - handed to the task that waits
            self.result = (None, error)
        finally:
            _here.__dict__.pop("call", None)  # a forked child has forgotten it
        self.done = True

    def tell(self) -> None:
        """Wake the loop, when the function has ended and the thread is free for another."""
        self._notify()

    def run_in_loop(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run an async function in the event loop and return its value, from this call's thread.

        Raises CancelledCall if the call has been abandoned, before or meanwhile.
        """
        request = _Request(function)
        with self._lock:
            if self.abandoned:
                raise CancelledCall
            self._requests.append(request)
        self._notify()
        return request.wait()  # type: ignore[no-any-return]

    def _notify(self) -> None:
        late = self.late
        try:
            if not self.abandoned:
                self._in_loop(self._set)
            elif late is not None:
                call_in_loop(late, token=self._token)  # it may start tasks, which anyio must know
        except RuntimeError:  # the loop has ended, and with it whoever waited
            return

    def _set(self) -> None:
        self._wake.set()


@final
class _Request:
    """A coroutine that a thread wants run in the event loop."""

    __slots__ = ("_answer", "_context", "_function")

    def __init__(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._function = function
        # The tool's: the coroutine must know which call it belongs to, and see its ContextVars.
        self._context = copy_context()
        self._answer: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    async def serve(self) -> None:
        try:
            value = await in_context(self._context, self._function())
        except Exception as error:  # noqa: BLE001 - raised again in the thread
            self._answer.put((None, error))
        except BaseException:
            self.fail(CancelledCall())
            raise
        else:
            self._answer.put((value, None))

    def fail(self, error: BaseException) -> None:
        self._answer.put((None, error))

    def wait(self) -> Any:
        value, error = self._answer.get()
        if error is not None:
            raise error
        return value


async def run_in_thread(function: Callable[[], T]) -> T:
    """Call a synchronous function in a daemon thread, in this context, and return its value.

    When cancelled, it leaves the thread behind. For a tool that is async and calls what is not.
    """
    thread = ThreadCall()
    context = copy_context()
    leave_loop(context)
    try:
        return await thread.run(partial(context.run, function))  # type: ignore[no-any-return]
    finally:
        if thread.abandoned and not thread.done:
            _log.warning("a synchronous function did not end in time; its thread is left behind")


def run_in_loop(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an async function from a synchronous tool's thread, in the loop that waits for the tool.

    With `concurrency=0` there is no such thread, and it gets a loop of its own. So a synchronous
    tool asks a person: `run_in_loop(lambda: ask("Which one?"))`.

    Raises DagexecError in any other thread, CancelledCall if nobody waits for the tool any more.
    """
    thread = enclosing_thread_call()
    backend = in_place()
    if thread is None and backend is not None:
        return run_beside(function, backend)
    if thread is None:
        msg = "run_in_loop() works in the thread of a synchronous tool that dagexec runs"
        raise DagexecError(msg)
    return thread.run_in_loop(function)


def enclosing_thread_call() -> ThreadCall | None:
    """Return the call that this thread runs, or None in any other thread."""
    return getattr(_here, "call", None)


def call_in_place(function: Callable[[], T]) -> T:
    """Call a synchronous tool in the event loop's own thread, as the sequential mode does."""
    asynchronous = isinstance(current_token().native_token, asyncio.AbstractEventLoop)
    _here.in_place = "asyncio" if asynchronous else "trio"
    try:
        with outside_of_asyncio():
            return function()
    finally:
        _here.in_place = None


def in_place() -> str | None:
    """Return the kind of event loop in whose thread a synchronous tool runs here, else None."""
    found: str | None = getattr(_here, "in_place", None)
    return found


_here = threading.local()
_idle: deque[SimpleQueue[ThreadCall]] = deque()


def _forget() -> None:
    """Forget the parent's threads, and the call whose tool forked: its loop turns no more here."""
    _idle.clear()
    inside = enclosing_thread_call() is not None
    _here.__dict__.clear()
    _here.forked = inside


forks.in_child(_forget)


def _start(call: ThreadCall) -> None:
    try:
        _idle.pop().put(call)  # the thread used last: the others may time out
    except IndexError:
        queue: SimpleQueue[ThreadCall] = SimpleQueue()
        queue.put(call)
        threading.Thread(target=_serve, args=(queue,), name="dagexec tool", daemon=True).start()


def _serve(queue: SimpleQueue[ThreadCall]) -> None:
    while True:
        try:
            call = queue.get(timeout=IDLE_SECONDS)
        except Empty:
            try:
                _idle.remove(queue)
            except ValueError:  # a call is on its way to this thread
                continue
            return
        call.execute()
        if getattr(_here, "forked", False):
            forks.end_child()
        _idle.append(queue)
        call.tell()
        del call  # values must not live on in an idle thread
