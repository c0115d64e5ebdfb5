"""Identical calls of pure tools share one execution in a run.

"Identical" is the tool and its validated arguments, references resolved. The first such call runs;
the others wait for it without a slot and get its outcome, with `attempts` 0 and `because` naming
the call that ran. What says nothing about the arguments, a pending question or the deadline of a
layer, is not shared: then the next in line runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast, final

from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._core.scheduler import State
from dagexec._runtime.lane import Lane
from dagexec._runtime.state import RunState

Key: TypeAlias = "tuple[str, Hashable]"


@final
class Sharing:
    """The executions of pure calls in one run."""

    __slots__ = ("_followers", "_leaders", "_run")

    def __init__(self, run: RunState) -> None:
        """Start with no calls."""
        self._run = run
        self._leaders: dict[Key, str] = {}
        # By leader: the calls that wait for it, each with its lane and since when it is ready.
        self._followers: dict[str, list[tuple[str, Lane, float]]] = {}

    def joins(self, lane: Lane, call: Call, arguments: Mapping[str, Any], since: float) -> bool:
        """Return whether an identical call runs or ran, and this one gets its outcome."""
        try:
            key = call.tool, frozen(arguments)
            leader = self._leaders.setdefault(key, call.id)
        except (TypeError, RecursionError):
            return False  # an argument that cannot be compared by value
        if leader == call.id:
            return False
        outcome = self._run.machine.outcomes.get(leader)
        if outcome is None:
            self._followers.setdefault(leader, []).append((call.id, lane, since))
            return True
        if not speaks_for_all(outcome):
            self._leaders[key] = call.id
            return False
        lane.settle(call.id, self._shared(outcome, leader, since))
        return True

    def ended(self, leader: str) -> None:
        """Give the outcome of a call that has just been settled to the calls that wait for it."""
        followers = self._followers.pop(leader, ())
        if not followers:
            return
        outcome = self._run.machine.outcomes[leader]
        for name, lane, since in followers:
            if self._run.machine.state(name) is not State.READY:
                continue  # a deadline or a stop came first
            if speaks_for_all(outcome):
                lane.settle(name, self._shared(outcome, leader, since))
            else:
                lane.put(name, since)

    def leader(self, name: str) -> str | None:
        """Return the identical call that a call waits for, for those who look on."""
        for leader, followers in self._followers.items():
            if any(name == each for each, _, _ in followers):
                return leader
        return None

    def _shared(self, outcome: Outcome, leader: str, since: float) -> Outcome:
        now = self._run.now()
        return replace(
            outcome, attempts=0, started=now, ended=now, queued=now - since, because=leader
        )


def speaks_for_all(outcome: Outcome) -> bool:
    """Whether an outcome comes from the tool and its arguments alone."""
    return outcome.status in ("done", "failed") or outcome.scope == "call"


def frozen(value: Any) -> Hashable:
    """Return something equal for equal arguments only; raise TypeError where that cannot be told.

    1, 1.0 and True are equal in Python and not the same argument; nor are 0.0 and -0.0.
    """
    kind = cast("type[Any]", type(value))
    if kind is dict:
        items = cast("dict[Any, Any]", value).items()
        return kind, tuple([(frozen(key), frozen(item)) for key, item in items])
    if kind is list or kind is tuple:
        return kind, tuple([frozen(item) for item in value])
    if kind is float:
        return kind, repr(value)
    hash(value)
    return kind, value
