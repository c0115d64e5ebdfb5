"""Durations as people read them."""

from __future__ import annotations

from typing import Final

_MS: Final = 1000
_COARSE: Final = 9.95  # milliseconds, from which on no tenths are shown


def duration(seconds: float) -> str:
    """Return `2.31 s`; below a second `231 ms`, below ten milliseconds `2.3 ms`."""
    ms = max(0.0, seconds) * _MS
    if ms >= _MS - 0.5:
        return f"{max(1.0, seconds):.2f} s"
    text = f"{ms:.0f}" if ms >= _COARSE else f"{ms:.1f}".removesuffix(".0")
    return f"{text} ms"
