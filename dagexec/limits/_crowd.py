"""How many use a key, where nobody says: learned from refusals, by additive steps and halving.

A refusal halves the share of the key that one keeps to; without one the share grows, the faster the
longer there was none. Whoever has more gives up more, so shares become equal, and the sum of them
stays about one: the scheme by which senders on the internet share a line (Chiu and Jain, 1989). The
figures were chosen in the simulation of tests/benchmarks/limits.py, for 1 to 16 clients.
"""

from __future__ import annotations

import math
from typing import Final, final

# As if there were one other: the first burst is half of the bucket.
START: Final = 0.5
# Nobody is pushed out for good: neither by refusals, nor by one who takes what comes at the very
# moment when it comes, so that a newcomer never finds anything.
LEAST: Final = 0.005
MOST: Final = 0.95
# Of the whole, a second.
_GROWTH: Final = 0.003
# Seconds without a refusal after which the share grows twice as fast, then five times, ten times.
_QUIET: Final = 60.0
# Seconds. Who asked for nothing meanwhile has not learned anything.
_LONGEST: Final = 5.0


@final
class Crowd:
    """The share of a key that one client of several keeps to. Times go in; it has no clock."""

    __slots__ = ("_at", "_cut", "_quiet", "share")

    def __init__(self) -> None:
        """Know nothing yet."""
        self.share = START
        # When it was halved last, and when there was something to send last.
        self._cut = -math.inf
        self._at: float | None = None
        # Seconds without a refusal in which there was something to send.
        self._quiet = 0.0

    def refused(self, sent: float, now: float) -> bool:
        """Note that a call was refused that went out at `sent`; return whether the share changed.

        Calls that were under way when the share was halved do not count once more.
        """
        if sent <= self._cut:
            return False
        self._cut = now
        self._quiet = 0.0
        self.share = max(LEAST, self.share / 2)
        return True

    def grow(self, now: float) -> bool:
        """Note that there is something to send; return whether the share changed."""
        before, self._at = self._at, now
        if before is None or now <= before or self.share >= MOST:
            return False
        passed = min(_LONGEST, now - before)
        self._quiet += passed
        pace = _GROWTH * (1 + (self._quiet / _QUIET) ** 2)
        self.share = min(MOST, self.share + pace * passed)
        return True

    def shift(self, seconds: float) -> None:
        """Move all times: another clock is used from now on."""
        self._cut += seconds
        if self._at is not None:
            self._at += seconds
