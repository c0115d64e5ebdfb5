"""A rate, and the bucket that keeps to it: arithmetic over times that are given, no clock."""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias, cast, final

from dagexec._core.wrong_names import explained
from dagexec._errors import DagexecError

Settle: TypeAlias = Literal["reserved", "actual", "expected"]

# Seconds. A shorter wait is none: rounding in a timer must not make it wait again and again.
EPS: Final = 1e-9
# The largest amount that is charged: beyond it a float cannot tell n from n + 1.
_MOST: Final = 2.0**53
# Seconds. Requests that were sent closer together than this may arrive in any order.
_REORDER: Final = 0.1
_LOG: Final = 4096
# How much of the older settlements counts beside a new one: about the last 50 are remembered.
_MEMORY: Final = 0.98
# Where the other side counts at the end, room is kept for the largest of the calls under way, which
# may end and be counted while the next one is on its way, and for this share of all of them, so
# that calls go evenly and not in bursts. To keep room for all would leave that much unused when the
# last call goes out. Chosen in the simulation of tests/benchmarks/limits.py.
_EVENLY: Final = 0.05
# Seconds. Clients that share a key and know nothing of each other leave in it what comes in this
# time: for what they send before they hear of it, about two replies' time.
_SPARE: Final = 5.0


@explained
@final
@dataclass(frozen=True, slots=True)
class Rate:
    """So many per so long, of anything that can be counted.

    Attributes:
        limit: How many in `per` seconds; refilled evenly, not in steps.
        per: Seconds.
        burst: How many may go at once after a rest, the size of the bucket; None is `limit`. Some
            providers enforce a minute's limit in shorter pieces: 500 a minute over 10 seconds is
            `Rate(500, burst=83)`.
        settle: When the other side counts, and what.
            "actual": what was really used; what was reserved and not used comes back at once.
            "reserved": what was announced, at the start, and nothing comes back (OpenAI counts
            `max_tokens`), so settling changes nothing.
            "expected": what was really used, at the end (Anthropic's output tokens). Meanwhile
            room is kept for the largest call under way, as far as the share that calls have used
            of their estimates of late lets one expect; the level may go below zero and is then
            worked off.
        refund: Whether a refused request gets its reservation back. OpenAI counts refused
            requests too: `refund=False` for them.

    Raises DagexecError for what is no rate.
    """

    limit: float
    per: float = 60.0
    burst: float | None = None
    settle: Settle = "actual"
    refund: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no rate, by name."""
        for field in fields(self)[:3]:
            value: object = getattr(self, field.name)
            if value is None and field.name == "burst":
                continue
            if not is_amount(value) or not value:
                msg = (
                    f"Rate({field.name}={value!r}): it has to be a positive, finite number, as in"
                    " Rate(500, per=60): 500 in 60 seconds"
                )
                raise DagexecError(msg)
        if self.settle not in ("reserved", "actual", "expected"):
            msg = f'Rate(settle={self.settle!r}): it is "reserved", "actual" or "expected"'
            raise DagexecError(msg)


def is_amount(value: object) -> bool:
    """Whether this is a finite number that is not negative, and that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= sys.float_info.max  # type: ignore[operator]


def is_count(value: object) -> bool:
    """Whether this is an amount that something can have: any other would close the key for good."""
    return is_amount(value) and cast("float", value) <= _MOST


@final
class Bucket:
    """What is left of one rate. `level` may go below zero, which is a debt."""

    __slots__ = (
        "_asked",
        "_kept",
        "_sent",
        "_times",
        "_totals",
        "_under_way",
        "_used",
        "at",
        "cap",
        "level",
        "margin",
        "open",
        "peers",
        "rate",
        "rule",
    )

    def __init__(self, rule: Rate, margin: float, now: float, peers: float = 1) -> None:
        """Start full; `margin` is the share of the bucket that is kept back.

        With `peers`, so many processes use the key, and this is one's part of it.
        """
        self.rule = rule
        self._kept = margin
        self.level = math.inf
        self.at = now
        self.divide(peers, now)
        # All that was ever charged, and a log of it: what went out after a time is a difference.
        self._sent = 0.0
        self._times: list[float] = []
        self._totals: list[float] = []
        # Held for calls that have not settled, and with "expected" each of them, in order of size.
        self.open = 0.0
        self._under_way: list[float] = []
        # Estimated and used, of calls that have settled; older ones fade.
        self._asked = 0.0
        self._used = 0.0

    def divide(self, peers: float, now: float) -> None:
        """Let this be one's part of a key that so many processes use, from now on."""
        if self.level < math.inf:
            self.sync(now)
        self.peers = peers
        # Per second.
        self.rate = self.rule.limit / self.rule.per / peers
        burst = self.rule.limit if self.rule.burst is None else self.rule.burst
        self.cap = float(burst) / peers
        self.margin = self._kept * self.cap
        self.level = min(self.level, self.cap)

    def sync(self, now: float) -> None:
        """Refill up to now. A clock that went back refills nothing."""
        if now > self.at:
            self.level = min(self.cap, self.level + self.rate * (now - self.at))
            self.at = now

    def reset(self) -> None:
        """Forget the calls under way."""
        self.open = 0.0
        self._under_way.clear()

    def shift(self, seconds: float) -> None:
        """Move all times: another clock is used from now on."""
        self.at += seconds
        self._times = [each + seconds for each in self._times]

    @property
    def share(self) -> float | None:
        """What calls have really used of their estimates of late; None before the first."""
        return self._used / self._asked if self._asked > 0 else None

    def held(self, need: float) -> float:
        """Return what to hold back for an estimate."""
        if self.rule.settle != "expected":
            return need
        return need * min(1.0, 1.0 if self.share is None else self.share) * _EVENLY

    def wait(self, need: float, now: float) -> float:
        """Return the seconds until `need` fits; more than the bucket goes when it is full."""
        self.sync(now)
        lack = self._room(need) - self.level
        return lack / self.rate if lack > 0 else 0.0

    def _room(self, need: float) -> float:
        """Return the level at which `need` goes."""
        room = self.held(need) + self.margin
        if self._under_way:
            room += self._under_way[-1] / _EVENLY
        return min(room, self.cap)

    def hold_back(self, need: float, seconds: float, now: float) -> None:
        """Have so much when `seconds` have passed that `need` goes then, and nothing else."""
        self.sync(now)
        self.level = min(self.level, self._room(need) - self.rate * seconds)

    def booked(self, held: float) -> float:
        """Return what a store charges where this much is held.

        That is all of what is expected: what the calls of other processes use is heard of late.
        """
        return held / _EVENLY if self.rule.settle == "expected" else held

    def soonest(self, need: float, ahead: float, now: float) -> float:
        """Return the seconds that `need` waits at least behind `ahead`, as far as one can know.

        Where unused reservations come back, that is by the share used of late; before the first
        settlement nothing is known, so everything ahead may come back.
        """
        self.sync(now)
        if self.rule.settle != "reserved":
            share = min(1.0, self.share or 0.0)
            ahead = ahead * share
            if self.rule.settle == "actual":
                ahead -= self.open * (1.0 - share)
        lack = ahead + min(self.held(need) + self.margin, self.cap) - self.level
        return lack / self.rate if lack > 0 else 0.0

    def charge(self, need: float, now: float) -> float:
        """Take what a call needs; return what is held for it."""
        held = self.held(need)
        self.level -= held
        self._sent += held
        self.open += held
        if self.rule.settle == "expected":
            insort(self._under_way, held)
        self._times.append(now)
        self._totals.append(self._sent)
        if len(self._times) > _LOG:
            del self._times[: _LOG // 2], self._totals[: _LOG // 2]
        return held

    def _sent_after(self, moment: float) -> float:
        index = bisect_right(self._times, moment)
        return max(0.0, self._sent - (self._totals[index - 1] if index else 0.0))

    def cancel(self, held: float) -> float:
        """Undo a charge; return what a store gets back."""
        self.forget(held)
        self._add(held)
        return self.booked(held)

    def forget(self, held: float) -> None:
        """Know that a charge was never sent; the level stays."""
        self.close(held)
        self._sent -= held

    def close(self, held: float) -> None:
        """Leave a charge as it is: the call ended, and nobody said what it used."""
        self.open -= held
        if self.rule.settle == "expected":
            del self._under_way[bisect_left(self._under_way, held)]

    def settle(self, need: float, held: float, used: float) -> float:
        """Put what was used in the place of what was held; return what a store gets back."""
        self.close(held)
        if self.rule.settle == "reserved":
            # Headers correct our own model; a store has nothing but what it is told.
            return min(0.0, need - used)
        if need > 0:
            self._asked = self._asked * _MEMORY + need
            self._used = self._used * _MEMORY + used
        self._add(held - used)
        return self.booked(held) - used

    def _add(self, amount: float) -> None:
        self.level = min(self.cap, self.level + amount)

    @property
    def spare(self) -> float:
        """What a crowd leaves in the whole bucket, of which at most half."""
        return self.peers * min(_SPARE * self.rate, self.cap / 2)

    def there(self, remaining: float) -> float:
        """Return what is left where so much is said to remain.

        A limit of a minute that is enforced in pieces shows more than there is.
        """
        return remaining - max(0.0, self.rule.limit - self.cap * self.peers)

    def observe(
        self, remaining: float, since: float, own: float, now: float, *, spare: float = 0.0
    ) -> None:
        """Take the other side's word for what is left, if that is less than we think.

        It never raises the level above our own model of it: other processes may use the same key,
        and a minute's limit may be enforced in pieces. The call that brought the word went out at
        `since`, and `own` is what is still held for it. The `spare` is nobody's part.
        """
        if not is_amount(remaining):
            return
        self.sync(now)
        rate = self.rate * self.peers
        # If it was stamped when the call came in: less what came in later, plus the refill.
        early = remaining + rate * max(0.0, now - since) - self._sent_after(since + _REORDER)
        if self.rule.settle == "reserved":
            level = early
        elif self.rule.settle == "actual":
            # Stamped at the start or at the end, who knows: the milder reading.
            level = max(early, remaining)
        else:
            # Stamped at the end: what is under way has not been counted.
            level = remaining - (self.open - own)
        if self.peers > 1:
            self._take_part(self.there(remaining) - spare, since, now)
        self.level = min(self.level, max(level, -self.cap))

    def _take_part(self, left: float, since: float, now: float) -> None:
        """Raise the level to this process's part of what is left: the others used less.

        What they sent since then is not known; they are taken to have sent as much as this one.
        """
        if self.rule.settle == "expected":
            left -= self.peers * self.open / _EVENLY
        else:
            left -= self.peers * self._sent_after(since - _REORDER)
        if self.rule.settle == "reserved":
            left += self.rate * (now - since)
        self.level = max(self.level, min(self.cap, left / self.peers))

    def lacked(self, need: float, remaining: float, seconds: float, now: float) -> None:
        """Learn from a refusal how deep the level really is.

        What is left was less than `need`, and in `seconds` it would be enough: headers do not go
        below zero, a debt does.
        """
        if remaining < need:
            self.sync(now)
            enough = 0.0 if self.rule.settle == "expected" else min(need, self.cap)
            level = enough - self.rate * seconds
            self.level = min(self.level, max(level, -self.cap))
