"""Where `${` ends in a text: at the first `}` outside of a quoted key."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import Final, final

_MARK: Final = re.compile(r'[}"]')
# A quote that closes what was opened before it: an even number of backslashes stand before it.
_CLOSING: Final = re.compile(r'(?<!\\)(?:\\\\)*+"')


@final
class Braces:
    """Finds what closes a brace, in time that grows with the length of the text alone.

    A text full of braces that nothing closes would be searched to its end for each of them. But
    all searches that come to the same mark outside of quotes end in the same place.
    """

    def __init__(self, text: str) -> None:
        """Search nothing yet."""
        self._text = text
        self._last = text.rfind("}")
        # By the place of a mark in the list of all: where a search that comes to it ends.
        self._ends: dict[int, int] = {}

    @cached_property
    def _marks(self) -> list[int]:
        return [found.start() for found in _MARK.finditer(self._text)]

    @cached_property
    def _closing(self) -> list[int]:
        return [found.end() - 1 for found in _CLOSING.finditer(self._text)]

    def end(self, at: int) -> int:
        """Return where the `}` stands that closes a brace whose inside begins at `at`; else -1."""
        if at > self._last:
            return -1
        marks = self._marks
        passed: list[int] = []
        result = -1
        mark = bisect_left(marks, at)
        while mark < len(marks):
            if mark in self._ends:
                result = self._ends[mark]
                break
            passed.append(mark)
            if self._text[marks[mark]] == "}":
                result = marks[mark]
                break
            closing = bisect_right(self._closing, marks[mark])
            if closing == len(self._closing):
                break
            mark = bisect_right(marks, self._closing[closing])
        self._ends.update(dict.fromkeys(passed, result))
        return result
