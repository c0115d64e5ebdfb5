"""What the deciding half of an engine keeps of a call: that it is out, what it had been through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from dagexec import CallTimeout, Cancelled, Outcome, TimedOut


@final
@dataclass(slots=True)
class Out:
    """A call that was given to the workers and has not been heard of since.

    `ready` is in seconds of the run; `until`, the point at which `scope` ends, on the engine's
    clock. `aborted` is what to answer for it if it did stop, `late` when waiting for that ends.
    """

    name: str
    layer: int
    ready: float
    args: dict[str, Any]
    until: float | None
    scope: str
    aborted: Outcome | None = None
    late: float | None = None


@final
@dataclass(slots=True)
class Past:
    """What a call had been through: how often it was started, what it waits for, the answers."""

    starts: int = 0
    waited: dict[str, Any] | None = None
    answers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"starts": self.starts, "waited": self.waited, "answers": self.answers}


def told_why(outcome: Outcome, aborted: Outcome) -> Outcome:
    """Return the outcome of a call that heard that it is to stop, and not why."""
    if outcome.because is not None:
        return outcome
    if aborted.scope is not None and outcome.started is not None:
        aborted = late(aborted.scope)
    return replace(
        aborted,
        started=outcome.started,
        ended=outcome.ended,
        queued=outcome.queued,
        attempts=outcome.attempts,
        maybe=outcome.maybe,
    )


def unasked(outcome: Outcome) -> Outcome:
    """Return the outcome of a call that asks when its run has been cancelled: nobody answers."""
    return Cancelled(
        started=outcome.started,
        ended=outcome.ended,
        queued=outcome.queued,
        attempts=outcome.attempts,
        maybe=outcome.status == "in_doubt",
    )


def unbegun(past: Past | None, outcome: Outcome) -> Outcome:
    """Return the outcome of a call that nobody began, or not since it was in doubt."""
    waited = None if past is None else past.waited
    doubtful = waited is not None and waited["status"] == "in_doubt"
    return replace(outcome, maybe=True) if doubtful else outcome


def lost(out: Out, outcome: Outcome, now: float, effect: str | None) -> Outcome:
    """Return the outcome of a call whose worker does not answer; `now` in seconds of the run."""
    if outcome.scope is not None:
        outcome = late(outcome.scope)
    return replace(outcome, started=out.ready, ended=now, maybe=effect == "write")


def blocked_in(result: Mapping[str, Any]) -> tuple[int, float, dict[str, float]]:
    """Return what a round, or a call, counts of blocked loops; an older dagexec does not say it."""
    count, seconds, *by_call = result.get("blocked", (0, 0.0))
    return count, seconds, dict(by_call[0]) if by_call else {}


def late(scope: str) -> TimedOut:
    """Return the outcome of a call that the end of a layer or a run caught."""
    return TimedOut(scope, error=CallTimeout(f"the deadline of the {scope} expired", scope))
