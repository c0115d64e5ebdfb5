"""What lets this process look into a queue before it is time.

DBOS's own threads look, one for each queue, as they do by themselves every `polling` seconds; rung
for nothing, they find nothing. A place that becomes free is worth a look only if there was more
than there were places for.
"""

from __future__ import annotations

import math
import threading
from typing import Any, Final, final

from dagexec.engines.dbos._inside import pauses

# DBOS's name of the thread that looks into a queue.
_THREAD: Final = "queue-worker-"
# Seconds between two looks while the database is away.
_AWAY: Final = 5.0


@final
class Bell:
    """The bell of this process, for the places that it has in the common queue."""

    def __init__(self, queue: str, places: float) -> None:
        """Be silent until DBOS was launched; no places are those of a process that only asks."""
        self._queue = queue
        self._places = places
        self._busy = 0
        # Whether the queue may hold more than was taken.
        self._more = False
        self._threads = _Threads()

    def attach(self) -> None:
        """Reach DBOS's threads, which begin to listen to it after their next look."""
        for stop in pauses() if self._places else ():
            _Pauses(stop, self._threads)

    def ring(self, queue: str) -> None:
        """Look into a queue at once, or as soon as there is a place."""
        if queue == self._queue and self._busy >= self._places:
            self._more = True
        else:
            self._threads.wake(_THREAD + queue)

    @property
    def busy(self) -> bool:
        """Whether calls run here."""
        return self._busy > 0

    def rest(self, *, away: bool) -> None:
        """Let threads look rarely while the database is away: each look in vain is in the log."""
        self._threads.rest(away=away)

    def silence(self) -> None:
        """Let no thread look into a queue any more, until DBOS is destroyed."""
        self._threads.silence()

    def expect_more(self) -> None:
        """Look into the common queue once places are free: there may be more than was taken."""
        self._more = True

    def begin(self, *, many: bool) -> None:
        """Take note that a call begins here; `many` were put into the queue with it."""
        self._busy += 1
        self._more = self._more or many

    def end(self) -> None:
        """Take note that a call has ended: look for more when half of the places are free."""
        self._busy -= 1
        if self._more and self._busy <= (0 if self._places == math.inf else self._places // 2):
            self._more = False
            self.ring(self._queue)


@final
class _Threads:
    """The threads that pause, and those of them that are to go on at once."""

    def __init__(self) -> None:
        """Start with none that is woken."""
        self.changed = threading.Condition()
        self.woken: dict[str, None] = {}
        self.silenced = False
        self.away = False

    def rest(self, *, away: bool) -> None:
        """Let pauses be long from the next ones on, or end those that are."""
        with self.changed:
            self.away = away
            self.changed.notify_all()

    def silence(self) -> None:
        """Let all pause from their next pause on."""
        with self.changed:
            self.silenced = True

    def wake(self, thread: str) -> None:
        """End the pause of the thread of this name, or its next one."""
        with self.changed:
            self.woken[thread] = None
            self.changed.notify_all()


@final
class _Pauses:
    """An event by whose `wait` threads pause, with pauses of a queue's thread that can be ended."""

    def __init__(self, stop: threading.Event, threads: _Threads) -> None:
        """Put itself in the place of the event's own methods."""
        self._threads = threads
        self._is_set, self._set, self._wait = stop.is_set, stop.set, stop.wait
        methods: Any = stop
        methods.set, methods.wait = self.set, self.wait

    def set(self) -> None:
        """End all threads, as DBOS does when it is destroyed."""
        self._set()
        with self._threads.changed:
            self._threads.changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Pause; return whether the thread has to end."""
        thread, threads = threading.current_thread().name, self._threads
        if not thread.startswith(_THREAD):
            return self._wait(timeout)
        with threads.changed:
            rests = threads.away
            if rests and timeout is not None:
                timeout = max(timeout, _AWAY)
            threads.changed.wait_for(
                lambda: self._is_set() or thread in threads.woken or (rests and not threads.away),
                timeout,
            )
            threads.woken.pop(thread, None)
            while threads.silenced and not self._is_set():
                threads.changed.wait()
        return self._is_set()
