"""What a pipeline tells those who drive it: calls that may start, and what never happened."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from types import coroutine
from typing import Any, final

from dagexec.programs._promise import Promise


class Squash(BaseException):
    """What stands behind a failed entry never happened; goes up to the `try` that it stands in."""

    def __init__(self, entry: Promise) -> None:
        """Name the entry that Python would have stopped at."""
        super().__init__()
        self.entry = entry


@final
@dataclass(frozen=True, slots=True)
class Ready:
    """A call that may start now."""

    id: str
    tool: str
    args: dict[str, Any]
    line: int
    # Whether no write before it conflicts with it, also none that is done: only asked for where
    # somebody may have its value from before the program began.
    first: bool = False


@coroutine
def pause() -> Generator[None]:
    """Give the driver of the program a turn."""
    yield
