"""When what has ended is started again."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, final

from dagexec._errors import DagexecError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """When a server or a service that has ended is started again.

    Not more than `times` in any `within` seconds; the first time after `delay` seconds, then each
    time after twice as long as before, up to `longest`, until it has run for `within` seconds.
    `Restart(times=0)` starts nothing again.

    Raises DagexecError for what is no number of times or seconds.
    """

    times: int = 3
    within: float = 60.0
    delay: float = 0.1
    longest: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be counted or waited for."""
        seconds = (self.within, self.delay, self.longest)
        if self.times < 0 or not all(0 <= each < math.inf for each in seconds):
            msg = f"{self!r}: give a number of times and of seconds that are not negative"
            raise DagexecError(msg)


NEVER: Final = Restart(times=0)


@final
class Restarts:
    """Counts the restarts of one thing."""

    __slots__ = ("_policy", "_times")

    def __init__(self, policy: Restart) -> None:
        """Start with none."""
        self._policy = policy
        self._times: deque[float] = deque()

    def delay(self, now: float) -> float | None:
        """Return the seconds until it is started again, None if it is not; `now` in seconds."""
        policy, times = self._policy, self._times
        while times and now - times[0] > policy.within:
            times.popleft()
        if len(times) >= policy.times:
            return None
        times.append(now)
        return min(policy.delay * 2.0 ** (len(times) - 1), policy.longest)
