"""Worker threads for synchronous tools: abandoned at a deadline, never in anyone's way.

anyio's own worker threads are not daemons on asyncio, so a hung one would hold the interpreter's
exit, and its limiter would keep the slot on trio. These threads are daemons without a limiter: how
many run at a time is the business of the executor's slots, and an abandoned one costs nothing but
itself.

A thread can also ask the event loop to run a coroutine for it (`run_sync` of a nested run). It
runs in the task that waits for the thread, so it is inside the same deadline and ends with it.
"""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import anyio
from anyio.from_thread import run_sync as call_in_loop
from anyio.lowlevel import current_token

from dagexec._context import CancelledCall
from dagexec._isolation import in_context

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

# Seconds that an idle thread is kept for the next call.
IDLE_SECONDS: Final = 10.0


@final
class ThreadCall:
    """One synchronous call in a worker thread, seen from the event loop and from the thread."""

    __slots__ = (
        "_function",
        "_lock",
        "_requests",
        "_token",
        "_wake",
        "abandoned",
        "done",
        "ident",
        "result",
    )

    def __init__(self) -> None:
        """Prepare the call; must be made inside the event loop that will wait for it."""
        self._function: Callable[[], Any]
        self._token = current_token()
        self._wake = anyio.Event()
        self._lock = threading.Lock()
        self._requests: deque[_Request] = deque()
        self.done = False
        # The thread's id once it runs, for those who look where it stands.
        self.ident: int | None = None
        self.abandoned = False
        self.result: tuple[Any, BaseException | None] = (None, None)

    # In the event loop.

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call it in a thread and return its value; when cancelled, leave the thread behind."""
        self._function = function
        _start(self)
        try:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                while self._requests:
                    await self._requests.popleft().serve()
                if self.done:
                    break
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
            del _here.call
        self.done = True
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
        if self.abandoned:
            return
        try:
            call_in_loop(self._set, token=self._token)
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


def enclosing_thread_call() -> ThreadCall | None:
    """Return the call that this thread runs, or None in any other thread."""
    return getattr(_here, "call", None)


_here = threading.local()
_idle: deque[SimpleQueue[ThreadCall]] = deque()


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
        del call  # values must not live on in an idle thread
        _idle.append(queue)
