"""The event loop that code is in, or one of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar, cast

import anyio
from anyio import CancelScope
from anyio.lowlevel import current_token

T = TypeVar("T")


def in_event_loop() -> bool:
    """Whether this code runs in an event loop, asyncio's or trio's."""
    try:
        current_token()
    except RuntimeError:
        return False
    return True


def call_soon(native: Any, function: Callable[..., Any], *args: Any) -> bool:
    """Call a function in the event loop of this token, soon; return False if the loop has ended.

    From any thread.
    """
    soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    try:
        soon(function, *args)
    except RuntimeError:
        return False
    return True


def leave_loop(context: Context) -> None:
    """Let a context that was copied out of an event loop no longer say that it is in one.

    anyio and others believe it, also in a thread that has no loop, or one of another kind.
    """
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)


@contextmanager
def outside_of_asyncio() -> Generator[None]:
    """Let code in the thread of asyncio's loop find none there, as it would in its own thread.

    It may then say `asyncio.run`. Nothing else runs in the loop meanwhile.
    """
    loop = asyncio._get_running_loop()  # noqa: SLF001 - asyncio's word to those who write loops
    if loop is None:
        yield
        return
    # Since Python 3.12; 3.14 lets no other task run in a thread while one is known there.
    swap: Callable[..., Any] | None = getattr(asyncio.tasks, "_swap_current_task", None)
    task = None if swap is None else swap(loop, None)
    asyncio._set_running_loop(None)  # noqa: SLF001
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001
        if swap is not None:
            swap(loop, task)


def run_in_new_loop(function: Callable[[], Coroutine[Any, Any, T]], backend: str = "asyncio") -> T:
    """Run an async function in an event loop of its own, in a copy of this context."""
    context = copy_context()
    leave_loop(context)
    return context.run(lambda: anyio.run(function, backend=backend))


def run_beside(function: Callable[[], Coroutine[Any, Any, T]], backend: str) -> T:
    """Run an async function in a loop and a thread of its own; this event loop stops meanwhile.

    What interrupts the wait, such as KeyboardInterrupt, cancels it first.
    """
    inside: list[tuple[CancelScope, Any]] = []
    # Not `Thread.join`, which takes a thread for ended when it was interrupted (CPython 3.11).
    ended: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    async def cancellable() -> T | None:
        with CancelScope() as scope:
            inside.append((scope, current_token().native_token))
            return await function()
        return None

    def work() -> None:
        try:
            value = run_in_new_loop(cancellable, backend)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            ended.put((None, error))
        else:
            ended.put((value, None))

    context = copy_context()
    Thread(target=context.run, args=(work,), name="dagexec nested", daemon=True).start()
    try:
        value, error = ended.get()
    except BaseException:
        for scope, loop in inside:
            asynchronous = backend == "asyncio"
            soon = loop.call_soon_threadsafe if asynchronous else loop.run_sync_soon
            with suppress(RuntimeError):  # the loop has ended by itself
                soon(scope.cancel)
        ended.get()
        raise
    if error is not None:
        raise error
    return cast("T", value)
