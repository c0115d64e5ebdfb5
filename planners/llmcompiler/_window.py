"""How much of a text its reader looks at: reading takes time in proportion to the text's length.

A reader that is given all of a text at once would copy the rest for each of its items, and one that
is given a character at a time would look at a long item again for each. So it looks at a part,
which grows only as long as an item needs more.
"""

from __future__ import annotations

import re
from typing import Final, final

_SMALLEST: Final = 4096  # characters of a window
# What can complete an item; other characters are left until they are worth a look.
_ENDS: Final = re.compile(r"[\n>)}(]")
# Looks at characters, beyond this many for each that has arrived, are left until they are worth it.
_LOOKS: Final = 16
_FREE: Final = 16_000_000


@final
class Window:
    """What has arrived of a text and is not in its reader's buffer yet."""

    __slots__ = ("_ahead", "_arrived", "_looked", "_pieces", "_waiting")

    def __init__(self) -> None:
        """Begin before the first character."""
        # Texts and how far each has been taken; the last comes first.
        self._ahead: list[tuple[str, int]] = []
        self._pieces: list[str] = []
        self._waiting = 0
        self._arrived = 0
        self._looked = 0

    def __bool__(self) -> bool:
        """Whether there is more than the buffer has."""
        return bool(self._ahead)

    def add(self, text: str, buffered: int) -> bool:
        """Take a piece; return whether it is worth looking at the buffer again."""
        self._pieces.append(text)
        self._waiting += len(text)
        self._arrived += len(text)
        if buffered < _SMALLEST or self._waiting * 4 >= buffered:
            return True
        spare = _FREE + _LOOKS * self._arrived - self._looked
        return buffered <= spare and _ENDS.search(text) is not None

    def open(self) -> None:
        """Let what has arrived be taken."""
        if self._pieces:
            self._ahead.insert(0, ("".join(self._pieces), 0))
            self._pieces, self._waiting = [], 0

    def take(self, buffered: int) -> str:
        """Return what comes next: as much again as the buffer has, if there is so much."""
        if not self._ahead:
            return ""
        text, at = self._ahead.pop()
        end = at + max(_SMALLEST, buffered)
        if end < len(text):
            self._ahead.append((text, end))
        self._looked += buffered + end - at
        return text[at:end]

    def put_back(self, text: str) -> None:
        """Let a text be taken before all that has arrived."""
        if text:
            self._ahead.append((text, 0))

    def kept(self, buffer: str, at: int) -> str:
        """Return a buffer without what was read of it; what is too long for it comes again."""
        if len(buffer) - at <= 2 * _SMALLEST:
            return buffer[at:]
        end = at + _SMALLEST
        self.put_back(buffer[end:])
        return buffer[at:end]
