"""What observers hear about a call between the scheduler's events; no part of its machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, final


@final
@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that could start waits for its limits; `keys` are those of its limiters."""

    call: str
    keys: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
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
@dataclass(frozen=True, slots=True)
class Progress:
    """A call says how far it is; no event of the scheduler, but it comes where those come.

    `done` and `total` are in whatever unit the tool counts in; `at` is in seconds of the run.
    """

    call: str
    done: float
    total: float | None = None
    message: str | None = None
    at: float = 0.0


Notice: TypeAlias = Waiting | Retrying | Progress
