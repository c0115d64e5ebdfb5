"""Where a coroutine or a thread stands in its code, seen from outside of it.

A suspended coroutine names what it awaits (`cr_await`, `gi_yieldfrom`, `ag_await`), so the chain
from a task down to what it waits for can be walked at any time and from any thread, on every
backend. Nothing is read but code and lines: values may be secret.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import AsyncGenerator, Container, Coroutine, Generator, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final, cast, final

from dagexec._concurrency.contexts import go_on
from dagexec._concurrency.forks import in_child
from dagexec._concurrency.requests import judged

# Whose frames say how something waits, and not what for.
_PLUMBING: Final = ("anyio", "asyncio", "trio", "dagexec", "threading", "queue", "concurrent")
_LONGEST: Final = 200
# They drive a coroutine by hand, so the interpreter does not know the link.
_DRIVERS: Final = (go_on.__code__, judged.__code__)


@final
class _Uncollected:
    """A block in which no garbage is collected, where that could crash the interpreter.

    The object of a frame is made when it is asked for. Python 3.11 may collect garbage at that
    moment; a finalizer that runs then lets other threads go on, and if the frame was one of
    theirs, it is gone: its memory is read and written all the same. Later versions collect between
    two instructions only. A block takes microseconds. There is one at a time, or one inside another
    where a signal's handler looks too; the outermost puts back what it found.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._was_on = False

    def __enter__(self) -> None:
        if sys.version_info < (3, 12):
            self._lock.acquire()
            self._depth += 1
            if self._depth == 1:
                self._was_on = gc.isenabled()
                gc.disable()

    def __exit__(self, *exc_info: object) -> None:
        if sys.version_info < (3, 12):
            self._depth -= 1
            if self._depth == 0 and self._was_on:
                gc.enable()
            self._lock.release()

    def after_fork(self) -> None:
        """Begin anew in a child: another thread of the parent may have been inside."""
        if self._depth and self._was_on:
            gc.enable()
        self.__init__()


_uncollected: Final = _Uncollected()
in_child(_uncollected.after_fork)


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A line of code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        """Return it as `file:line in function`."""
        return f"{self.file}:{self.line} in {self.function}"


@final
class Frame:
    """One link of the chain: a frame, and whether its code is running at this moment."""

    __slots__ = ("frame", "line", "runs")

    def __init__(self, frame: FrameType, line: int, *, runs: bool) -> None:
        """Keep the frame with the line at which it stands."""
        self.frame = frame
        self.line = line
        self.runs = runs

    @property
    def code(self) -> CodeType:
        """The code of the frame."""
        return self.frame.f_code

    def local(self, name: str) -> Any:
        """Return a local variable of the frame, None without it."""
        with _uncollected:
            return self.frame.f_locals.get(name)

    @property
    def place(self) -> Place:
        """The line of code."""
        return Place(self.code.co_filename, self.line, self.code.co_qualname)

    @property
    def is_plumbing(self) -> bool:
        """Whether it belongs to an event loop's machinery or to dagexec."""
        module = str(self.frame.f_globals.get("__name__", ""))
        return module.partition(".")[0] in _PLUMBING


def awaits_of(coroutine: object) -> Iterator[Frame]:
    """Walk from a coroutine down to what it waits for; ends at one that is running."""
    current: object = coroutine
    for _ in range(_LONGEST):
        with _uncollected:
            frame, below, runs = _look_into(current)
            line = 0 if frame is None else frame.f_lineno or frame.f_code.co_firstlineno
            if frame is not None and frame.f_code in _DRIVERS:
                below = frame.f_locals.get("coroutine")
        if frame is not None:
            yield Frame(frame, line, runs=runs)
        if below is None:
            return
        current = below


def _look_into(thing: object) -> tuple[FrameType | None, object, bool]:
    """Return the frame of an awaitable, what it awaits, and whether it runs."""
    kind = type(thing).__name__
    if kind in ("async_generator_asend", "async_generator_athrow"):
        return None, _first(thing, AsyncGenerator), False
    if kind == "coroutine_wrapper":
        return None, _first(thing, Coroutine), False
    if isinstance(thing, Coroutine):
        return _attributes(cast("object", thing), "cr")
    if isinstance(thing, Generator):
        return _attributes(cast("object", thing), "gi")
    if isinstance(thing, AsyncGenerator):
        return _attributes(cast("object", thing), "ag")
    return None, None, False


def _attributes(thing: object, prefix: str) -> tuple[FrameType | None, object, bool]:
    below = getattr(thing, "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await", None)
    frame: FrameType | None = getattr(thing, f"{prefix}_frame", None)
    return frame, below, bool(getattr(thing, f"{prefix}_running", False)) and below is None


def _first(thing: object, kind: type[Any]) -> object:
    """Return what a wrapper of the interpreter's own wraps; it has no attribute for it."""
    return next((each for each in gc.get_referents(thing) if isinstance(each, kind)), None)


def is_at(ident: int, functions: Container[str]) -> bool:
    """Return whether a thread is inside of a function of such a name; True if it has ended."""
    with _uncollected:
        frame = _current(ident)
        return frame is None or frame.f_code.co_name in functions


def thread_frames(ident: int) -> list[Frame]:
    """Return the frames of a thread, the outermost first."""
    found: list[Frame] = []
    with _uncollected:
        frame = _current(ident)
        while frame is not None and len(found) < _LONGEST:
            found.append(Frame(frame, frame.f_lineno or frame.f_code.co_firstlineno, runs=True))
            frame = frame.f_back
    return found[::-1]


def _current(ident: int) -> FrameType | None:
    # Documented, for debuggers.
    return sys._current_frames().get(ident)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
