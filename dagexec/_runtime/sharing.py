"""Identical calls of pure tools share one execution in a run: see `dagexec._core.identical`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from dagexec._core.identical import Identical, shared, speaks_for_all
from dagexec._core.plan import Call
from dagexec._core.scheduler import State
from dagexec._runtime.lane import Lane
from dagexec._runtime.state import RunState


@final
class Sharing:
    """The executions of pure calls in one run."""

    __slots__ = ("_identical", "_run")

    def __init__(self, run: RunState) -> None:
        """Start with no calls."""
        self._run = run
        # Of each call that follows: its lane and since when it is ready.
        self._identical: Identical[tuple[Lane, float]] = Identical()

    def joins(self, lane: Lane, call: Call, arguments: Mapping[str, Any], since: float) -> bool:
        """Return whether an identical call runs or ran, and this one gets its outcome."""
        outcomes = self._run.machine.outcomes
        leader = self._identical.leader_of(call.id, call.tool, arguments, outcomes)
        if leader is None:
            return False
        if leader in outcomes:
            lane.settle(call.id, shared(outcomes[leader], leader, self._run.now(), since))
        else:
            self._identical.follow(leader, call.id, (lane, since))
        return True

    def ended(self, leader: str) -> None:
        """Give the outcome of a call that has just been settled to the calls that wait for it."""
        machine = self._run.machine
        for name, (lane, since) in self._identical.released(leader):
            outcome = machine.outcomes[leader]
            if machine.state(name) is not State.READY:
                continue  # a deadline or a stop came first
            if speaks_for_all(outcome):
                lane.settle(name, shared(outcome, leader, self._run.now(), since))
            else:
                lane.put(name, since)

    def leader(self, name: str) -> str | None:
        """Return the identical call that a call waits for, for those who look on."""
        return self._identical.waits_for(name)
