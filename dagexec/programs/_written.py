"""Which statements of a program that is still being written are complete."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Final, final

_WORD: Final = re.compile(r"\w*")
# What goes on with the statement above it.
_GOES_ON: Final = ("elif", "else", "except", "finally")
# Tries of one statement before they become rarer.
_TRIES: Final = 8


@final
class WrittenStatements:
    """Cuts a text that comes in pieces behind its last complete statement.

    A statement is complete when the next one has begun: an `if` may have an `else`.
    """

    def __init__(self) -> None:
        """Begin before the first character."""
        self.text = ""
        # Characters of statements that are complete, and where to look on for their end.
        self._done = 0
        self._at = 0
        self._tries = 0
        self._again = 0

    def feed(self, piece: str) -> str:
        """Take a piece of the text; return the statements that are complete by it, or nothing."""
        self.text += piece
        text, begin = self.text, self._done
        while (line := text.find("\n", self._at)) >= 0:
            begun = _begins(text, line + 1)
            if begun is None:
                break
            self._at = line + 1
            if begun and self._at - self._done >= self._again:
                self._look()
        return text[begin : self._done]

    def _look(self) -> None:
        chunk = self.text[self._done : self._at]
        if _is_whole(chunk):
            self._done, self._tries, self._again = self._at, 0, 0
            return
        self._tries += 1
        if self._tries > _TRIES:  # a long text in quotes is not read again with each line
            self._again = len(chunk) * 5 // 4


def _begins(text: str, at: int) -> bool | None:
    """Whether a line begins a statement of the program's own level; None if that is not seen."""
    if at >= len(text):
        return None
    if text[at] in " \t\r\n\f#)]}\"'":
        return text[at] in "\"'"
    found = _WORD.match(text, at)
    assert found is not None  # noqa: S101 - also of nothing
    word = found.group()
    if found.end() == len(text) and any(each.startswith(word) for each in _GOES_ON):
        return None
    return word not in _GOES_ON


def _is_whole(chunk: str) -> bool:
    if chunk.endswith("\\\n"):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(chunk)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
