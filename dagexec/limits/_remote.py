"""What stores that are servers share: calls in threads, each bounded, and names that fit anywhere.

The clients block, in threads: so a store works the same on asyncio and on trio. What a thread did
that nobody waits for any more is undone, and what a server has forgotten is not taken to be full.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from typing import Final, TypeVar, final

from anyio import move_on_after

from dagexec._concurrency.threads import ThreadCall
from dagexec._errors import DagexecError
from dagexec.limits._rates import is_amount

T = TypeVar("T")

# Characters. An index of PostgreSQL's takes 2,700 bytes.
_LONGEST: Final = 200


async def within(
    seconds: float,
    server: str,
    function: Callable[[], T],
    undo: Callable[[], object] | None = None,
) -> T:
    """Call a function in a thread; raise TimeoutError where it takes longer.

    Its thread is then left to itself, and so it is when the caller is cancelled. If the function
    returns after all, its thread calls `undo`.
    """
    answer = _Answer(undo)
    try:
        with move_on_after(seconds):
            value: T = await ThreadCall().run(partial(answer.get, function))
            return value
    except BaseException:
        answer.drop()
        raise
    answer.drop()
    msg = f"{server} did not answer within {seconds:g} s"
    raise TimeoutError(msg)


@final
class _Answer:
    """What a thread gets, and someone waits for, or does no more."""

    __slots__ = ("_dropped", "_got", "_lock", "_undo")

    def __init__(self, undo: Callable[[], object] | None) -> None:
        self._undo = undo
        self._lock = threading.Lock()
        self._got = False
        self._dropped = False

    def get(self, function: Callable[[], T]) -> T:
        """In the thread: call the function."""
        value = function()
        with self._lock:
            self._got, dropped = True, self._dropped
        if dropped:
            self._take_back()
        return value

    def drop(self) -> None:
        """In the event loop: wait for it no more."""
        with self._lock:
            self._dropped, got = True, self._got
        if got and self._undo is not None:  # it came in the very moment
            threading.Thread(target=self._take_back, daemon=True).start()

    def _take_back(self) -> None:
        if self._undo is not None:
            with contextlib.suppress(Exception):  # a level is then too low for a while
                self._undo()


@final
class Bookings:
    """When this process booked last, by key and dimension.

    A server that knows nothing of a dimension, or nothing as recent, has forgotten: it was
    restarted, flushed, or replaced by one that was behind. To take its buckets to be full would let
    a minute's limit go twice. So they are taken to have been empty at the last booking.
    """

    # Seconds since a booking that never was.
    NEVER: Final = 1e12

    def __init__(self) -> None:
        """Know of none."""
        self._at: dict[tuple[str, str], float] = {}

    def since(self, key: str, name: str) -> float:
        """Return the seconds that have passed."""
        at = self._at.get((key, name))
        return self.NEVER if at is None else time.monotonic() - at

    def note(self, key: str, names: Iterable[str], at: float) -> None:
        """Note bookings that were sent `at` this time, of `time.monotonic`."""
        self._at.update({(key, name): at for name in names})


def plain(name: str) -> str:
    """Return a name of printable ASCII, another one for each: a server may refuse the rest."""
    text = name.encode("unicode_escape").decode("ascii")
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}#{sha256(text.encode()).hexdigest()}"


def check_timeout(store: str, timeout: object) -> None:
    """Refuse what is no timeout of a store; raise DagexecError."""
    if not is_amount(timeout) or not timeout or timeout == math.inf:
        msg = f"timeout={timeout!r} of a {store}: a positive number of seconds, such as 2.0"
        raise DagexecError(msg)
