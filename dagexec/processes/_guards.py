"""What a child process must not do, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import final

from dagexec._core.wrong_names import explained
from dagexec._errors import DagexecError


@explained
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Five guards over a child process; None switches one off. Times in seconds.

    `request`: one request to a server, from the moment it is made: its write counts. `liveness`:
    how long something may be expected of it without a sign of life, which is output or, on Linux,
    time on the processor by it or its children. `progress`: the same without output, however
    busily it computes. `wall`: its whole life. `stderr`: bytes that it may write to stderr in its
    life; they are read and counted in any case, and only the tail is kept.

    A command is expected to show something as long as it runs, a server while it owes an answer.
    A child that breaks a guard is stopped, and what waits for it raises `GuardExpired`; a server
    that only let one request pass its time is not stopped as long as it still reads its input.

    Raises DagexecError for a value that cannot be a guard.
    """

    request: float | None = 30.0
    liveness: float | None = None
    progress: float | None = None
    wall: float | None = None
    stderr: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no duration or size."""
        for field in fields(self):
            value: object = getattr(self, field.name)
            if value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and 0 < value < math.inf):  # type: ignore[operator]
                unit = "bytes" if field.name == "stderr" else "seconds"
                msg = f"Guards({field.name}={value!r}): give a positive number of {unit}, or None"
                raise DagexecError(msg)
