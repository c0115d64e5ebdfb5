"""Where the calls of a live run are: what its pictures need beyond the outcomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from dagexec._core.events import Notice
from dagexec._core.results import Underway
from dagexec._core.scheduler import Action, Added, Conclude, Event, Launch, Settled, Spread, Started

_NOWHERE: Final = Underway("waiting")


@final
class Whereabouts:
    """An observer that keeps what has not ended; `clock` gives the seconds since the run began."""

    __slots__ = ("_clock", "changes", "underway")

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with no calls."""
        self._clock = clock
        self.underway: dict[str, Underway] = {}
        # Counts what happened, so that a view can tell whether there is anything new.
        self.changes = 0

    def __call__(self, item: Event | Action | Notice) -> None:
        """Move the calls that an event or an action is about."""
        self.changes += 1
        match item:
            case Settled(call=name) | Conclude(call=name):
                self.underway.pop(name, None)
            case Started(call=name, at=at):
                ready = self.underway.get(name, _NOWHERE).ready
                self.underway[name] = Underway("running", ready, at)
            case Launch(calls=names):
                self.underway.update(dict.fromkeys(names, Underway("ready", self._clock())))
            case Spread(call=name):
                self.underway[name] = _NOWHERE
            case Added(call=call):
                self.underway[call.id] = _NOWHERE
            case _:
                pass
