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


Notice: TypeAlias = Waiting | Retrying
