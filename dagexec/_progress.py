"""Where the calls of a live run are: what its pictures need beyond the outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from dagexec._scheduler import Added, Conclude, Launch, Settled, Started
from dagexec._setup import Underway

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagexec._scheduler import Action, Event


@final
class Progress:
    """An observer that keeps what has not ended; `clock` gives the seconds since the run began."""

    __slots__ = ("_clock", "changes", "underway")

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with no calls."""
        self._clock = clock
        self.underway: dict[str, Underway] = {}
        # Counts what happened, so that a view can tell whether there is anything new.
        self.changes = 0

    def __call__(self, item: Event | Action) -> None:
        """Move the calls that an event or an action is about."""
        self.changes += 1
        if isinstance(item, Settled | Conclude):
            self.underway.pop(item.call, None)
        elif isinstance(item, Started):
            ready = self.underway.get(item.call, _NOWHERE).ready
            self.underway[item.call] = Underway("running", ready, item.at)
        elif isinstance(item, Launch):
            self.underway.update(dict.fromkeys(item.calls, Underway("ready", self._clock())))
        elif isinstance(item, Added):
            self.underway[item.call.id] = _NOWHERE


_NOWHERE = Underway("waiting")
