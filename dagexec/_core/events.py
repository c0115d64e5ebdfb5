"""Events go into the scheduler, actions come out of it; observers also hear notices."""

from __future__ import annotations

from typing import TypeAlias, final

from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._core.values import value

# ---------------------------------------------------------------------------- events: what goes in


@final
@value()
class Added:
    """A call arrived. One that is not `eager` is held until the plan is closed."""

    call: Call
    eager: bool = True


@final
@value()
class Closed:
    """The plan is complete: what has not arrived by now never will."""


@final
@value()
class Started:
    """The driver admitted a call, at `at` seconds of the run; it may have effects from now on."""

    call: str
    at: float = 0.0


@final
@value()
class Settled:
    """A call ended with this outcome; also one that was launched and could not be started."""

    call: str
    outcome: Outcome


@final
@value()
class Expired:
    """The deadline of a layer passed: what of it has not ended is timed out."""

    layer: int


@final
@value()
class Stop:
    """End the run: what has not ended becomes `outcome`, which is TimedOut or Cancelled.

    Allowed at any time; only the first one counts.
    """

    outcome: Outcome


@final
@value()
class Reopened:
    """Launch a call again: its process ended while it ran, or the answer that it waited for came.

    What became pending because of it waits again. Refused for a call that has another outcome, and
    for one that only waits for another.
    """

    call: str


@final
@value()
class Spread:
    """A ready call becomes `count` calls, one for each item of its lists, and waits for them.

    They are committed: they start even while the plan is still arriving. `ordered` are pairs
    (earlier, later) of their positions, of those that conflict on a resource.
    """

    call: str
    count: int
    ordered: tuple[tuple[int, int], ...] = ()


Event: TypeAlias = Added | Closed | Started | Settled | Expired | Stop | Reopened | Spread


# -------------------------------------------------------------------------- actions: what comes out


@final
@value()
class Launch:
    """Run these calls; they became ready together."""

    layer: int
    calls: tuple[str, ...]


@final
@value()
class Abort:
    """Stop these running calls. The driver answers for each with what became of it.

    `outcome` is what to answer for a call that did stop.
    """

    calls: tuple[str, ...]
    outcome: Outcome


@final
@value()
class Conclude:
    """The machine itself settled a call; it never started."""

    call: str
    outcome: Outcome


@final
@value()
class Finish:
    """Every call has its outcome and none will come; always the last action of a run."""


Action: TypeAlias = Launch | Abort | Conclude | Finish


# ------------------------------------ notices: what observers hear of a call between the two kinds


@final
@value()
class Waiting:
    """A call that could start waits for its limits; `keys` are those of its limiters."""

    call: str
    keys: tuple[str, ...]


@final
@value()
class Retrying:
    """A call failed and will be tried again.

    `attempt` is the one that failed, from 1. It waits `delay` seconds, and then for its limits; a
    refused call has no delay of its own, it waits until its key's gate opens.
    """

    call: str
    attempt: int
    delay: float
    error: Exception | None


@final
@value()
class Progress:
    """How far along a call says it is; delivered with the scheduler's events, but not one of them.

    `done` and `total` are in whatever unit the tool counts in; `at` is in seconds of the run.
    """

    call: str
    done: float
    total: float | None = None
    message: str | None = None
    at: float = 0.0


@final
@value()
class Blocked:
    """A step of an async tool blocked the event loop for so many seconds."""

    call: str
    seconds: float


@final
@value()
class Abandoned:
    """A synchronous tool did not end in time, and its thread was left behind."""

    call: str


Notice: TypeAlias = Waiting | Retrying | Progress | Blocked | Abandoned
