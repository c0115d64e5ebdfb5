"""Steps of coroutines that hold up their event loop: how long one took, and where it stood.

Between two awaits nothing else runs in the loop: no other task, no deadline. Whoever drives a
coroutine measures its steps with `clock`. While something runs in a loop, one thread of the process
looks now and then where the loop's own thread stands, so that a step which took too long can be
told by its line. It does not look at loops that wait.
"""

from __future__ import annotations

import sysconfig
import threading
import time
from collections import Counter
from typing import Final, final

from dagexec._concurrency.forks import in_child
from dagexec._concurrency.stacks import Frame, Place, awaits_of, is_at, thread_frames

# Real time, also where the event loop's clock is a virtual one.
clock: Final = time.monotonic

# Seconds from which on a step is too long.
SLOW: Final = 0.1
# Seconds between two looks; a step that is too long is seen at least once.
_PAUSE: Final = 0.04
# Seconds without a loop to look at, after which the thread ends.
_IDLE: Final = 2.0
# Of functions in which an event loop waits.
_WAITS: Final = frozenset({"select", "poll", "_run_once", "get_events", "wait"})
_LIBRARIES: Final = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def in_users_code(frames: list[Frame]) -> Place | None:
    """Return the innermost line of a user's own code, of a library's where there is none."""
    own = [each for each in frames if not each.is_plumbing]
    users = [each for each in own if not each.code.co_filename.startswith(_LIBRARIES)]
    return (users or own)[-1].place if own else None


@final
class Sampler:
    """Looks where the threads of event loops stand."""

    def __init__(self) -> None:
        """Begin without a thread."""
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._loops: Counter[int] = Counter()
        self._thread: threading.Thread | None = None
        # By thread: when it was seen last, and where.
        self._seen: dict[int, tuple[float, Place]] = {}

    def watch(self, ident: int) -> None:
        """Look at a thread, until `release`."""
        with self._lock:
            self._loops[ident] += 1
            self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="dagexec looks at loops", daemon=True
                )
                self._thread.start()

    def release(self, ident: int) -> None:
        """Look at a thread once less."""
        with self._lock:
            self._loops[ident] -= 1
            if self._loops[ident] <= 0:
                del self._loops[ident]
                self._seen.pop(ident, None)
            if not self._loops:
                self._wanted.clear()

    def place(self, ident: int, begun: float) -> Place | None:
        """Return where a thread was seen last; None if that was before `begun`."""
        seen = self._seen.get(ident)
        return None if seen is None or seen[0] < begun else seen[1]

    def _run(self) -> None:
        while True:
            if not self._wanted.wait(_IDLE):
                with self._lock:
                    if not self._loops:
                        self._thread = None
                        return
            time.sleep(_PAUSE)
            for ident in list(self._loops):
                self._look(ident)

    def _look(self, ident: int) -> None:
        if is_at(ident, _WAITS):
            return
        now = clock()
        place = in_users_code(thread_frames(ident))
        if place is not None:
            self._seen[ident] = (now, place)


sampler = Sampler()


def _forget() -> None:
    global sampler  # noqa: PLW0603 - the child has no such thread, and the lock may be held
    sampler = Sampler()


in_child(_forget)


def looks_at(ident: int) -> None:
    """Begin to look at a thread in which an event loop runs."""
    sampler.watch(ident)


def looks_away(ident: int) -> None:
    """Look at a thread once less."""
    sampler.release(ident)


def place_of(ident: int, begun: float, coroutine: object) -> Place | None:
    """Return where a step stood that began at `begun`, or where it ended if nobody saw it."""
    seen = sampler.place(ident, begun)
    if seen is not None:
        return seen
    ends = in_users_code(list(awaits_of(coroutine)))
    if ends is not None:
        return ends
    code = getattr(coroutine, "cr_code", None)
    return None if code is None else Place(code.co_filename, code.co_firstlineno, code.co_qualname)
