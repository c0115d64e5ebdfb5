"""What a limiter counts, with what, and on which event loop: the half of it that a permit needs."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Literal, final
from weakref import ref

import anyio
from anyio.lowlevel import current_token

from dagexec._errors import DagexecError
from dagexec.limits._crowd import Crowd
from dagexec.limits._ledger import Ledger
from dagexec.limits._store import Store

# Seconds for which a store that failed is left alone: the first time, and at most.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 8.0
# The share of a key that one takes who goes on without the store, and does not know who else does.
_HALF: Final = 0.5


@final
class Outage:
    """What is known of a store that fails, and when it is tried again."""

    __slots__ = ("_pause", "_peers", "again", "count", "error")

    def __init__(self, peers: int | Literal["auto"]) -> None:
        """Know of none; `peers` is how many processes share the key meanwhile."""
        self._peers: int | Literal["auto"] = peers
        # How many there were.
        self.count = 0
        # How it failed last; None while it is reached.
        self.error: Exception | None = None
        # On the event loop's clock.
        self.again = -math.inf
        self._pause = _FIRST_PAUSE

    @property
    def is_bridged(self) -> bool:
        """Whether calls go on meanwhile."""
        return self._peers != 1

    def bridge(self, ledger: Ledger, now: float) -> None:
        """Keep to one's part from now on; nothing is left of it, for others have used the key."""
        if self._peers == "auto":
            ledger.learn(Crowd(_HALF), now)
        else:
            ledger.divide(self._peers, now)
        for bucket in ledger.buckets.values():
            bucket.level = min(bucket.level, 0.0)

    def pauses(self, now: float) -> bool:
        """Whether the store is left alone for now."""
        return self.error is not None and now < self.again

    def begin(self, error: Exception, now: float) -> bool:
        """Note a failure; return whether it is the first of an outage."""
        first, self.error = self.error is None, error
        if first:
            self.count += 1
            self._pause = _FIRST_PAUSE
        self.again = now + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return first

    def end(self) -> None:
        """Note that it is reached again."""
        self.error = None


class Counted:
    """A key's ledger and store, on the clock of the event loop that uses them."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store | None,
        random: Callable[[], float],
        peers: int | Literal["auto"],
    ) -> None:
        """Serve no event loop yet."""
        self.key = ledger.key
        self.ledger = ledger
        self.random = random
        self.store = store
        if store is not None:
            self.ledger.owed = {}
        # Whose turn it is to book with the store; made anew for each event loop.
        self.turn = anyio.Lock()
        # Whose turn it is to tell the store what has changed.
        self.telling = anyio.Lock()
        self.outage = Outage(peers)
        # The event loop that it served last, and the thread of that.
        self._loop: ref[Any] | None = None
        self._thread = 0
        # When it was used last, on the loop's clock and on the machine's.
        self._last = (0.0, time.monotonic())

    def reached(self) -> Store:
        """Return the store; only for those that have one."""
        assert self.store is not None  # noqa: S101
        return self.store

    @property
    def is_led(self) -> bool:
        """Whether a store, which is reached, says when a call goes."""
        return self.store is not None and self.outage.error is None

    @property
    def is_here(self) -> bool:
        """Whether it serves this event loop."""
        return self._loop is not None and self._loop() is current_token().native_token

    def now(self) -> float:
        """Return the time on the clock of the event loop that runs, and serve that loop.

        Raises DagexecError while another loop uses this limiter.
        """
        token = current_token().native_token
        now = anyio.current_time()
        if self._loop is None or self._loop() is not token:
            self._move(token, now)
        self._last = (now, time.monotonic())
        return now

    def _move(self, token: object, now: float) -> None:
        """Serve another event loop from now on: its clock has another zero."""
        old = None if self._loop is None else self._loop()
        thread = threading.get_ident()
        if self.ledger.used or self.ledger.waiting:
            # A loop of this thread has ended, since another one runs now; its calls are gone.
            ended = thread == self._thread or old is None or getattr(old, "is_closed", bool)()
            if not ended:
                msg = (
                    f"the limiter {self.key!r} is in use on another event loop: a limiter serves"
                    " one at a time, so give each its own, with its part of the limit"
                )
                raise DagexecError(msg)
            self.ledger.reset()
        then, real = self._last
        passed = time.monotonic() - real
        self.turn = anyio.Lock()
        self.telling = anyio.Lock()
        self.outage.again = -math.inf
        self.ledger.shift(now - then - (passed if self._loop is not None else 0.0))
        self._loop = ref(token)
        self._thread = thread


def default_random() -> float:
    """Return a number from 0 to 1, for jitter."""
    return random.random()  # noqa: S311 - spreads load, hides nothing
