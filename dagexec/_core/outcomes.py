"""Outcomes: what became of a call, and the answers that a person can give to a waiting one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Final, TypeAlias, final

from dagexec._core.values import value

Scope: TypeAlias = str

STATUSES: Final[tuple[str, ...]] = (
    "done",
    "failed",
    "timed_out",
    "cancelled",
    "skipped",
    "pending",
    "in_doubt",
)


@value(kw_only=True)
class Outcome:
    """What became of a call; one of the seven classes below.

    Every attribute can be read on every outcome and is None where it means nothing. Times are
    seconds since the run began; `started` is when the call was admitted, and `queued` the seconds
    that it was ready before that. `maybe` marks a write that did not end as it should but may have
    taken effect.
    """

    status: ClassVar[str]

    value: Any = None
    error: Exception | None = None
    scope: Scope | None = None
    because: str | None = None
    question: Any = None
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    queued: float | None = None
    maybe: bool = False
    # What a value that may change was like when its call ended: its JSON form. None otherwise.
    form: Any = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the call is done."""
        return self.status == "done"


@final
@value()
class Done(Outcome):
    """The tool returned; `value` is what it returned, with its type."""

    status: ClassVar[str] = "done"

    value: Any = field(default=None, kw_only=False)


@final
@value()
class Failed(Outcome):
    """The tool raised, or the call could not be run; `error` is the exception."""

    status: ClassVar[str] = "failed"

    error: Exception | None = field(default=None, kw_only=False)


@final
@value()
class TimedOut(Outcome):
    """A deadline expired before the call had ended; `scope` is the deadline's.

    A call that never started has `started` None.
    """

    status: ClassVar[str] = "timed_out"

    scope: Scope | None = field(default="call", kw_only=False)


@final
@value()
class Cancelled(Outcome):
    """The run was stopped; `because` names the call whose failure stopped it, if one did."""

    status: ClassVar[str] = "cancelled"


@final
@value()
class Skipped(Outcome):
    """The call never started: `because` names the call that failed first."""

    status: ClassVar[str] = "skipped"

    because: str | None = field(default=None, kw_only=False)


@final
@value()
class Pending(Outcome):
    """A person has to answer first: `question`, or the call named by `because` waits for one."""

    status: ClassVar[str] = "pending"

    question: Any = field(default=None, kw_only=False)


@final
@value()
class InDoubt(Outcome):
    """A crash left unknown whether this write took effect; a person or a policy decides."""

    status: ClassVar[str] = "in_doubt"


OUTCOMES: Final[Mapping[str, type[Outcome]]] = {
    kind.status: kind for kind in (Done, Failed, TimedOut, Cancelled, Skipped, Pending, InDoubt)
}


@final
@value()
class Approve:
    """Let a pending call run, or run an in-doubt one again."""


@final
@value()
class Deny:
    """Refuse a pending call: it fails with the reason. Of an in-doubt one: it did not happen."""

    reason: str = "denied"


@final
@value()
class Edit:
    """Let a pending call run with other arguments."""

    args: Mapping[str, Any]
