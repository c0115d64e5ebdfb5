"""What the calls of one run hold of the executor's named resources."""

from __future__ import annotations

from functools import partial
from typing import Any, final

from dagexec._concurrency.capacities import Capacities, Hold
from dagexec._concurrency.threads import ThreadCall
from dagexec._core.plan import Call
from dagexec._runtime.lane import Lane
from dagexec._runtime.state import RunState
from dagexec._tools.context import enclosing_calls
from dagexec._tools.tool import Tool


@final
class Holdings:
    """The resources that calls of one run hold."""

    __slots__ = ("_capacities", "_kept", "_parked", "_run", "held")

    def __init__(self, run: RunState, capacities: Capacities) -> None:
        """Start with nothing held."""
        self._run = run
        self._capacities = capacities
        # By call; a call that was granted what it waited for has it before it starts.
        self.held: dict[str, Hold] = {}
        # What calls of this run wait for.
        self._parked: dict[Hold, None] = {}
        # Calls whose threads were left behind, and go on using what they hold.
        self._kept: set[str] = set()

    def take(self, lane: Lane, call: Call, tool: Tool[..., Any], since: float) -> bool:
        """Return whether a call has what its tool uses; if not, it comes back when it has.

        Raises PoolDeadlock if it would never come back.
        """
        if call.id in self.held:
            return True

        def granted(hold: Hold) -> bool:
            del self._parked[hold]
            if lane.is_over() or lane.group is None:
                return False
            self.held[call.id] = hold
            lane.queue.appendleft((call.id, since))  # others wait for what it holds
            lane.recruit()
            return True

        names = enclosing_calls(lane.surroundings.context)
        above = self._capacities.held_by(names)
        hold = Hold(call.id, tool.name, self._run.run_id, tool.uses, above, granted)
        if not self._capacities.take(hold):
            self._parked[hold] = None
            return False
        self.held[call.id] = hold
        return True

    def parked(self, name: str) -> Hold | None:
        """Return what a call waits for, None if it does not."""
        return self._capacities.parked(self._run.run_id, name)

    def give(self, name: str) -> None:
        """Give back what a call held, unless a thread that was left behind uses it."""
        if name in self.held and name not in self._kept:
            self._capacities.give(self.held.pop(name))

    def keep(self, name: str, thread: ThreadCall) -> None:
        """Let a thread that nobody waits for keep what it uses, until it ends after all."""
        hold = self.held.get(name)
        if hold is not None:
            self._kept.add(name)
            thread.late = partial(self._capacities.give, hold)
            if thread.done:
                thread.late()  # it ended before it could know

    def outlived(self, call: Call | None) -> bool:
        """Whether a thread that was left behind uses what this call holds."""
        return call is not None and call.id in self._kept

    def end(self) -> None:
        """End with the run; a call that got what it waited for and never began gives it back."""
        for hold in self._parked:
            self._capacities.withdraw(hold)
        for name in tuple(self.held):
            self.give(name)
