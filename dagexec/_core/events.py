"""What goes into the scheduler and what comes out of it: events and actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, final

from dagexec._core.drafts import draft_of

if TYPE_CHECKING:
    from dagexec._core.outcomes import Outcome
    from dagexec._core.plan import Call


# ---------------------------------------------------------------------------- events: what goes in


@final
@dataclass(frozen=True, slots=True)
class Added:
    """A call arrived. One that is not `eager` is held until the plan is closed."""

    call: Call
    eager: bool = True


@final
@dataclass(frozen=True, slots=True)
class Closed:
    """The plan is complete: what has not arrived by now never will."""


@final
@dataclass(frozen=True, slots=True)
class Started:
    """The driver admitted a call, at `at` seconds of the run; it may have effects from now on."""

    call: str
    at: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Settled:
    """A call ended with this outcome; also one that was launched and could not be started."""

    call: str
    outcome: Outcome


@final
@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline of a layer passed: what of it has not ended is timed out."""

    layer: int


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """End the run: what has not ended becomes `outcome`, which is TimedOut or Cancelled.

    Allowed at any time; only the first one counts.
    """

    outcome: Outcome


@final
@dataclass(frozen=True, slots=True)
class Reopened:
    """Launch a call again: its process ended while it ran, or the answer that it waited for came.

    What became pending because of it waits again. Refused for a call that has another outcome, and
    for one that only waits for another.
    """

    call: str


Event: TypeAlias = Added | Closed | Started | Settled | Expired | Stop | Reopened


# -------------------------------------------------------------------------- actions: what comes out


@final
@dataclass(frozen=True, slots=True)
class Launch:
    """Run these calls; they became ready together."""

    layer: int
    calls: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Abort:
    """Stop these running calls. The driver answers for each with what became of it.

    `outcome` is what to answer for a call that did stop.
    """

    calls: tuple[str, ...]
    outcome: Outcome


@final
@dataclass(frozen=True, slots=True)
class Conclude:
    """The machine itself settled a call; it never started."""

    call: str
    outcome: Outcome


@final
@dataclass(frozen=True, slots=True)
class Finish:
    """Every call has its outcome and none will come; always the last action of a run."""


Action: TypeAlias = Launch | Abort | Conclude | Finish


# -------------------------------------------------- those that each call needs, made in less time

_AddedDraft: Final = draft_of(Added)
_StartedDraft: Final = draft_of(Started)
_SettledDraft: Final = draft_of(Settled)
_LaunchDraft: Final = draft_of(Launch)


def added(call: Call) -> Added:
    """Return an `Added` of a call that may be launched at once."""
    draft = _AddedDraft()
    draft.call = call
    draft.eager = True
    draft.__class__ = Added
    return draft  # type: ignore[no-any-return]


def started(call: str, at: float) -> Started:
    """Return a `Started`."""
    draft = _StartedDraft()
    draft.call = call
    draft.at = at
    draft.__class__ = Started
    return draft  # type: ignore[no-any-return]


def settled(call: str, outcome: Outcome) -> Settled:
    """Return a `Settled`."""
    draft = _SettledDraft()
    draft.call = call
    draft.outcome = outcome
    draft.__class__ = Settled
    return draft  # type: ignore[no-any-return]


def launch(layer: int, calls: tuple[str, ...]) -> Launch:
    """Return a `Launch`."""
    draft = _LaunchDraft()
    draft.layer = layer
    draft.calls = calls
    draft.__class__ = Launch
    return draft  # type: ignore[no-any-return]
