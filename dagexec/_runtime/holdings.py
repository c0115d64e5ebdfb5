"""What the calls of one run hold of the executor's named resources, and how the run ended."""

from __future__ import annotations

import json
import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from dagexec._concurrency.capacities import Capacities, Hold
from dagexec._core.outcomes import STATUSES
from dagexec._tools.context import enclosing_calls

if TYPE_CHECKING:
    from collections.abc import Collection

    from dagexec._concurrency.threads import ThreadCall
    from dagexec._core.plan import Call
    from dagexec._runtime.lane import Lane
    from dagexec._runtime.runner import Runner
    from dagexec._tools.tool import Tool

_log: Final = logging.getLogger("dagexec")


@final
class Holdings:
    """The resources that calls of one run hold."""

    __slots__ = ("_capacities", "_kept", "_runner", "held")

    def __init__(self, runner: Runner, capacities: Capacities) -> None:
        """Start with nothing held."""
        self._runner = runner
        self._capacities = capacities
        self.held: dict[str, Hold] = {}
        # Calls whose threads were left behind, and go on using what they hold.
        self._kept: set[str] = set()

    def take(self, lane: Lane, call: Call, tool: Tool[..., Any], since: float) -> bool:
        """Return whether a call has what its tool uses; if not, it comes back when it has.

        Raises PoolDeadlock if it would never come back.
        """
        if call.id in self.held:
            return True

        def granted(hold: Hold) -> bool:
            if self._runner.is_over(lane) or lane.group is None:
                return False
            self.held[call.id] = hold
            lane.queue.appendleft((call.id, since))  # others wait for what it holds
            lane.recruit()
            return True

        names = enclosing_calls(lane.ground.context)
        above = self._capacities.held_by(names)
        hold = Hold(call.id, tool.name, self._runner.run_id, tool.uses, above, granted)
        if not self._capacities.take(hold):
            return False
        self.held[call.id] = hold
        return True

    def parked(self, name: str) -> Hold | None:
        """Return what a call waits for, None if it does not."""
        return self._capacities.parked(self._runner.run_id, name)

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
        """End with the run: nobody waits any more, and who got it and never began has it not."""
        self._capacities.withdraw(self._runner.run_id)
        for name in tuple(self.held):
            self.give(name)


def log_end(runner: Runner, active: Collection[str]) -> None:
    """Say in one line how a run ended, in what time, and what it left behind."""
    holdings = runner.holdings
    held = {} if holdings is None else {name: each.uses for name, each in holdings.held.items()}
    if not (active or held or _log.isEnabledFor(logging.INFO)):
        return
    counts = Counter(outcome.status for outcome in runner.machine.outcomes.values())
    facts = {
        "run_id": runner.run_id,
        "calls": sum(1 for _ in runner.machine.calls),
        **{status: counts[status] for status in STATUSES},
        "elapsed": round(runner.elapsed, 6),
        "active": list(active),
        "held": held,
    }
    level = logging.WARNING if active or held else logging.INFO
    _log.log(level, "run ended %s", json.dumps(facts, default=str), extra={"dagexec": facts})
