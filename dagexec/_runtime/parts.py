"""The parts of one run that its workers ask, and what comes before a call runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, final

from dagexec._core.outcomes import Failed, Outcome, Pending
from dagexec._core.plan import Call
from dagexec._errors import DagexecError
from dagexec._runtime.holdings import Holdings
from dagexec._runtime.lane import Lane
from dagexec._runtime.sharing import Sharing
from dagexec._tools.checking import approval_question, arguments_of, needs_approval
from dagexec._tools.tool import Tool

if TYPE_CHECKING:
    # With them come dagexec.journal and dagexec.limits, which many runs do without.
    from dagexec._runtime.recorder import Recorder
    from dagexec.limits._retry import Budget

Arguments: TypeAlias = "dict[str, Any]"
Admit: TypeAlias = Callable[[Lane, Call, Tool[..., Any], "Arguments | None", float], Any]


@final
@dataclass(slots=True)
class Parts:
    """What a run has besides its state; each None where the run does without it.

    `admit` returns the arguments of a call that is ready, None if it is not to start now: one that
    cannot run with them, or not before a person approves, is settled; one that waits, for an
    identical call or for what it uses, comes back into the queue. It is chosen once for the run.
    """

    recorder: Recorder | None = None
    sharing: Sharing | None = None
    holdings: Holdings | None = None
    # Retries that the run may still make, by the key of their limits.
    budgets: dict[str, Budget] = field(default_factory=dict[str, "Budget"])
    # Whether calls have to do with each other beyond their references.
    coupled: bool = field(init=False)
    # Whether a call whose arguments are known and whose tool needs no approval is asked about too.
    admits_all: bool = field(init=False)
    admit: Admit = field(init=False)

    def __post_init__(self) -> None:
        """Choose what happens before each call."""
        self.coupled = self.sharing is not None or self.holdings is not None
        self.admits_all = self.coupled or self.recorder is not None
        self.admit = self._admit if self.recorder is None else self._admit_recorded

    def _admit(
        self,
        lane: Lane,
        call: Call,
        tool: Tool[..., Any],
        arguments: Arguments | None,
        since: float,
    ) -> Arguments | None:
        outcome: Outcome
        if lane.run.known and (found := lane.run.known.pop(call.id, None)) is not None:
            lane.settle(call.id, found)
            return None
        try:
            if arguments is None:
                arguments = arguments_of(call, tool, lane.run.machine.outcomes)
            if not needs_approval(tool, arguments):
                waits = self.coupled and self._waits(lane, call, tool, arguments, since)
                return None if waits else arguments
            outcome = Pending(approval_question(tool, arguments))
        except Exception as error:  # noqa: BLE001 - validators and approval are a user's code too
            outcome = Failed(error, ended=lane.run.now())
        lane.settle(call.id, outcome)
        return None

    def _admit_recorded(
        self,
        lane: Lane,
        call: Call,
        tool: Tool[..., Any],
        arguments: Arguments | None,
        since: float,
    ) -> Arguments | None:
        assert self.recorder is not None  # noqa: S101 - chosen for a run that has one
        if lane.run.known and (found := lane.run.known.pop(call.id, None)) is not None:
            self.recorder.settle(call.id, found)
            return None
        arguments = self.recorder.admit(call, tool, arguments)
        if arguments is None or not self.coupled:
            return arguments
        try:
            return None if self._waits(lane, call, tool, arguments, since) else arguments
        except DagexecError as error:
            lane.settle(call.id, Failed(error, ended=lane.run.now()))
            return None

    def _waits(
        self, lane: Lane, call: Call, tool: Tool[..., Any], arguments: Arguments, since: float
    ) -> bool:
        """Return whether a call waits for another; raise PoolDeadlock if that would be for ever."""
        sharing = self.sharing if tool.effect.shares else None
        if sharing is not None and sharing.joins(lane, call, arguments, since):
            return True
        holdings = self.holdings if tool.uses else None
        if holdings is None or holdings.take(lane, call, tool, since):
            return False
        lane.run.prepared[call.id] = arguments
        return True
