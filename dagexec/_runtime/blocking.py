"""Calls that block their event loop: named in the log, counted, and told to those who waited.

The commonest mistake of all: `time.sleep` or `requests.get` in an async tool. No deadline can end
such a step, and everything else in the loop stands still for it.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import Final, final

from dagexec._concurrency.stacks import Place
from dagexec._concurrency.steps import clock, place_of
from dagexec._pictures.durations import duration

_log: Final = logging.getLogger("dagexec")

# Seconds within which a tool and a line are named once, and how many are remembered.
_AGAIN: Final = 60.0
_MOST: Final = 1000
_named: Final[dict[tuple[str, str, int], float]] = {}
_INSIDE: Final = "await an async library, or make the tool a plain `def`, which runs in a thread"
_BEFORE: Final = (
    "validators of its arguments and `approval=` run in the event loop: what waits there belongs"
    " into the tool"
)
# Blocked steps of a run that are remembered for those who waited.
_KEPT: Final = 50


@final
@dataclass(frozen=True, slots=True)
class Step:
    """A step that was too long; times on the real clock."""

    call: str
    tool: str
    begun: float
    ended: float
    place: Place | None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun

    def __str__(self) -> str:
        """Return it as part of a sentence."""
        where = "" if self.place is None else f" at {self.place.file}:{self.place.line}"
        return (
            f"call {self.call!r} (tool {self.tool!r}) blocked the event loop"
            f" for {duration(self.seconds)}{where}"
        )


@final
class Blocking:
    """The steps of one run that blocked its event loop."""

    __slots__ = ("_last", "by_call", "count", "seconds")

    def __init__(self) -> None:
        """Begin without any."""
        self.count = 0
        self.seconds = 0.0
        # Of these seconds, how many each call took.
        self.by_call: dict[str, float] = {}
        self._last: deque[Step] = deque(maxlen=_KEPT)

    def note(self, names: tuple[str, str], begun: float, thread: int, coroutine: object) -> float:
        """Count a step of a call of a tool that began at `begun`, and name it in the log.

        Without a `coroutine` it was one before the tool: of a validator, or of `approval=`. Returns
        how long it took, in seconds.
        """
        ended = clock()
        step = Step(*names, begun, ended, place_of(thread, begun, coroutine))
        self.count += 1
        self.seconds += step.seconds
        self.by_call[step.call] = self.by_call.get(step.call, 0.0) + step.seconds
        self._last.append(step)
        if _is_news(step):
            text = "%s: meanwhile nothing else ran and no deadline was kept; %s"
            advice = _BEFORE if coroutine is None else _INSIDE
            _log.warning(text, step, advice, extra={"dagexec": _facts(step)})
        return step.seconds

    def during(self, seconds: float) -> str:
        """Return what to add to the error of what has timed out after this many seconds."""
        since = clock() - seconds
        steps = [step for step in self._last if step.ended > since]
        if not steps:
            return ""
        longest = max(steps, key=lambda step: step.seconds)
        more = f", and {len(steps) - 1} more such steps" if len(steps) > 1 else ""
        return f"; meanwhile {longest}{more}"


def _is_news(step: Step) -> bool:
    """Whether this tool has not been named for this line within the last minute."""
    place = step.place
    key = (step.tool, "" if place is None else place.file, 0 if place is None else place.line)
    if step.ended - _named.get(key, -_AGAIN) < _AGAIN:
        return False
    if len(_named) >= _MOST:
        _named.clear()
    _named[key] = step.ended
    return True


def _facts(step: Step) -> dict[str, object]:
    place = step.place
    return {
        "call": step.call,
        "tool": step.tool,
        "seconds": round(step.seconds, 3),
        "file": None if place is None else place.file,
        "line": None if place is None else place.line,
    }
