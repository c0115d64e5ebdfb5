"""How many use a key, where nobody says: learned from refusals and headers, by growth and cuts.

One begins with a small share of the key, which doubles every few seconds until the first refusal
or warning: so many who come at once do not all send half of what there is. After that a refusal
takes almost half of the share, less of a large one. Without one the share grows, the larger the
faster, and the faster the longer there was none. Whoever has more is refused more often, so shares
become equal, and the sum of them stays about one: the scheme by which senders on the internet share
a line (Chiu and Jain, 1989). The part of the growth that is in proportion to the share keeps the
sum from growing the faster the more clients there are; the part that is the same for all lets the
poor catch up.

Where a refusal says nothing but when to come back, the one that was refused goes then, and the rest
at the share's pace: what came in meanwhile is taken to be gone (`Bucket.hold_back`).

Where replies say how much is left, nobody has to be refused: little is a warning (`Bucket.spare`),
which takes a quarter of the share. So all slow down while something is left for the requests that
are on their way, and for one that is larger than most, which would else find too little each time.
That is what marks of congestion are for on the internet (RFC 3168).

The figures were chosen in the simulation of tests/benchmarks/limits.py, for 1 to 16 clients.
"""

from __future__ import annotations

import math
from typing import Final, final

# As if there were many others.
START: Final = 1 / 32
# Seconds in which it doubles until the first refusal.
_DOUBLING: Final = 4.0
# Nobody is pushed out for good: neither by refusals, nor by one who takes what comes at the very
# moment when it comes, so that a newcomer never finds anything.
LEAST: Final = 0.005
MOST: Final = 0.95
# What a refusal leaves of a share, and how much more of it for one who has all.
_LEFT: Final = 0.5
_LEFT_MORE: Final = 0.1
# What a warning leaves: it comes earlier and more often, so it takes less.
_WARNED: Final = 0.75
# Seconds after a cut in which a warning says nothing new: when all have given up a quarter, what
# was to be spared has come back after twice that time, half of it after this.
_HEEDED: Final = 10.0
# A second: of the share and, for those who have next to nothing, of so much of the whole.
_GROWTH: Final = 0.01
_FLOOR: Final = 0.06
# Seconds without a refusal after which the share grows twice as fast, then five times, ten times.
_QUIET: Final = 60.0
# Seconds. Who asked for nothing meanwhile has not learned anything.
_LONGEST: Final = 5.0
# Seconds after which one who waits for the share to grow looks how far it has.
LOOK: Final = 1.0


@final
class Crowd:
    """The share of a key that one client of several keeps to. Times go in; it has no clock."""

    __slots__ = ("_at", "_cut", "_quiet", "is_new", "share")

    def __init__(self, share: float | None = None) -> None:
        """Know nothing yet; with a `share`, begin with that, as one who was refused before."""
        self.share = START if share is None else share
        # Whether it was never refused.
        self.is_new = share is None
        # When it was cut last, and when there was something to send last.
        self._cut = -math.inf
        self._at: float | None = None
        # Seconds without a refusal in which there was something to send.
        self._quiet = 0.0

    def refused(self, sent: float, now: float) -> bool:
        """Note that a call was refused that went out at `sent`; return whether the share changed.

        Calls that were under way when the share was cut do not count once more.
        """
        return self._reduce(sent, now, _LEFT + _LEFT_MORE * self.share)

    def warned(self, sent: float, now: float) -> bool:
        """Note that little was left after a call that went out at `sent`; return as `refused`."""
        return sent > self._cut + _HEEDED and self._reduce(sent, now, _WARNED)

    def _reduce(self, sent: float, now: float, factor: float) -> bool:
        if sent <= self._cut:
            return False
        self._cut = now
        self._quiet = 0.0
        self.is_new = False
        self.share = max(LEAST, self.share * factor)
        return True

    def grow(self, now: float, *, may_send: bool = True) -> bool:
        """Note that there is something to send; return whether the share changed.

        While a refusal keeps one from sending, nothing is learned.
        """
        before, self._at = self._at, now
        if before is None or now <= before or self.share >= MOST or not may_send:
            return False
        passed = min(_LONGEST, now - before)
        if self.is_new:
            self.share = min(MOST, self.share * 2.0 ** (passed / _DOUBLING))
            return True
        self._quiet += passed
        pace = _GROWTH * (self.share + _FLOOR) * (1 + (self._quiet / _QUIET) ** 2)
        self.share = min(MOST, self.share + pace * passed)
        return True

    def shift(self, seconds: float) -> None:
        """Move all times: another clock is used from now on."""
        self._cut += seconds
        if self._at is not None:
            self._at += seconds
