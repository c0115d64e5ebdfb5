"""What reading a text costs, in processor time of the thread: other programs change it little."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LONG: Final = 48_000  # characters
# Four times the text may take this many times as long: a square would be 16.
_GROWTH: Final = 9
# Seconds below which growth says nothing, and those that the long text may take at most.
_NOTHING: Final = 0.25
_LONGEST: Final = 15.0


def attack(before: str, unit: str, behind: str, length: int) -> str:
    """Return a text of about this length that repeats one piece."""
    return before + unit * (length // len(unit)) + behind


def seconds(read: Callable[[], object]) -> float:
    """Return what a call costs; its errors are its own affair."""
    begin = time.thread_time()
    read()
    return time.thread_time() - begin


def assert_linear(
    read: Callable[[str], object], before: str, unit: str, behind: str, length: int = LONG
) -> None:
    """Fail where a text of four times the length costs far more than four times as much."""
    long = seconds(lambda: read(attack(before, unit, behind, length)))
    assert long < _LONGEST, f"{long:.2f} s for {length} characters"
    if long > _NOTHING:
        short = seconds(lambda: read(attack(before, unit, behind, length // 4)))
        # A collection of garbage, or another program, may have been in the way once.
        for _ in range(2):
            if long >= _GROWTH * short:
                long = min(long, seconds(lambda: read(attack(before, unit, behind, length))))
        assert long < _GROWTH * short, f"{short:.3f} s, and {long:.3f} s for four times as much"
