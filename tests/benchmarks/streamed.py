"""A reply that is being written: how long from a call's last byte until the call starts."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALLS = 20
PAUSE = 0.005  # seconds between two pieces of text, about 200 tokens a second


class Reply:
    """A reply of 20 calls; each line comes in two pieces."""

    def __init__(self) -> None:
        self.written: dict[int, float] = {}
        self.begun: dict[int, float] = {}

    @property
    def delays(self) -> list[float]:
        """Seconds from each call's last byte to its start."""
        return [self.begun[number] - self.written[number] for number in range(1, CALLS + 1)]

    async def call(self, number: int) -> None:
        """Start: the tool of every system."""
        self.begun[number] = perf_counter()

    async def numbers(self) -> AsyncIterator[int]:
        """Give the calls as they are complete, for a system that reads no text."""
        for number in range(1, CALLS + 1):
            await anyio.sleep(2 * PAUSE)
            self.written[number] = perf_counter()
            yield number

    async def text(self) -> AsyncIterator[str]:
        """Give the pieces of the text."""
        for number in range(1, CALLS + 1):
            await anyio.sleep(PAUSE)
            yield f"{number}. mark("
            await anyio.sleep(PAUSE)
            self.written[number] = perf_counter()
            yield f"{number})\n"
        yield f"{CALLS + 1}. join()<END_OF_PLAN>\n"
