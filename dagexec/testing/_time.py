"""Virtual time: a clock that jumps to the next deadline as soon as every task waits.

An hour of sleeping takes no time, timeouts expire at exactly the second that was asked for, and a
deadlock fails at once instead of hanging. On asyncio a selector adds the timeout to the loop's
clock instead of waiting for it; on trio it is `trio.testing.MockClock(autojump_threshold=0)`.

Nothing outside the event loop exists in virtual time: what waits for a worker thread, a process, a
socket or `call_soon_threadsafe` looks idle, so the clock would jump past it or the wait would be
reported as a deadlock. Such code needs a real clock.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import traceback
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, TypeVarTuple, cast

import anyio

from dagexec._errors import MissingExtra

from ._deadlock import DeadlockError, deadlock

if TYPE_CHECKING:
    import trio
    from _typeshed import FileDescriptorLike

__all__ = ["START", "Backend", "DeadlockError", "fail_on_deadlock", "run_virtual", "virtual_time"]

Backend = Literal["asyncio", "trio"]

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Not 0, so that a forgotten start time is seen; small, so that sums are exact to 1e-12.
START = 1000.0


def virtual_time(backend: Backend) -> tuple[str, dict[str, Any]]:
    """Return `(backend, options)` with a fresh virtual clock that starts at 1000 seconds.

    The pair is what an `anyio_backend` fixture returns, and `anyio.run` takes it as `backend=` and
    `backend_options=`. On trio, wrap the coroutine function in `fail_on_deadlock` too.

    Raises:
        MissingExtra: the backend is "trio", and trio is not installed.
        ValueError: the backend is neither "asyncio" nor "trio".
    """
    if backend == "asyncio":
        return "asyncio", {"loop_factory": _VirtualLoop}
    # A str to the checkers from here on: a fixture's parameter has no type.
    name: str = backend
    if name == "trio":
        return name, {"clock": _trio_clock()}
    raise ValueError(f'unknown backend {name!r}: give "asyncio" or "trio"')


def run_virtual(
    function: Callable[[*Ts], Awaitable[T]], /, *args: *Ts, backend: Backend = "asyncio"
) -> T:
    """Run `await function(*args)` on a new event loop in virtual time; return its value.

    Raises:
        DeadlockError: every task waits and no deadline is set; the text names each task and where
            it waits.
        MissingExtra: the backend is "trio", and trio is not installed.
        RuntimeError: called from inside a running event loop.
    """
    name, options = virtual_time(backend)
    guarded = cast("Callable[[*Ts], Awaitable[T]]", fail_on_deadlock(function))
    return anyio.run(guarded, *args, backend=name, backend_options=options)


def fail_on_deadlock(
    function: Callable[P, Awaitable[T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap a coroutine function so that a deadlock inside it raises `DeadlockError`, on trio too.

    The virtual loop of asyncio sees a deadlock by itself. On trio the wrapper watches the run while
    the function is running: it is cancelled, and what is shielded from that gets the error. With
    any other clock than a virtual one the wrapper changes nothing.
    """

    @wraps(function)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        with _trio_watch():
            return await function(*args, **kwargs)

    return guarded


def _format(frames: Iterable[tuple[FrameType, int]]) -> list[str]:
    return traceback.StackSummary.extract(iter(frames)).format()


# -- asyncio ---------------------------------------------------------------------------------------


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only while every task waits."""

    def __init__(self) -> None:
        self._now = START
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def wait(self, seconds: float | None) -> None:
        """Jump ahead instead of waiting; None, which means for ever, is a deadlock."""
        if seconds is None:
            tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
            raise deadlock((task.get_name(), _format(_frames(task.get_coro()))) for task in tasks)
        self._now += seconds


class _VirtualSelector(selectors.BaseSelector):
    """A selector that looks at its files without waiting, and tells the loop how long it would."""

    def __init__(self, loop: _VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and (timeout is None or timeout > 0):
            self._loop.wait(timeout)
        return ready

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def _frames(awaitable: Any) -> Iterator[tuple[FrameType, int]]:
    """Follow what awaits what, outermost first; asyncio itself shows only the first frame."""
    while awaitable is not None:
        for frame, inner in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom")):
            if hasattr(awaitable, frame):
                if (at := getattr(awaitable, frame)) is not None:
                    yield at, at.f_lineno
                awaitable = getattr(awaitable, inner)
                break
        else:
            return


# -- trio ------------------------------------------------------------------------------------------


def _trio_clock() -> trio.testing.MockClock:
    try:
        from trio.testing import MockClock
    except ImportError as error:
        raise MissingExtra("trio is not installed: pip install 'dagexec[trio]'") from error
    clock = MockClock(autojump_threshold=0)
    clock.jump(START)
    return clock


@contextmanager
def _trio_watch() -> Generator[None]:
    """Cancel the block when nothing in the run can happen any more, and raise `DeadlockError`."""
    # A run on trio has imported it; asyncio must not pay for it.
    if "trio" not in sys.modules:
        yield
        return
    from ._trio import deadlock_watch

    with deadlock_watch():
        yield
