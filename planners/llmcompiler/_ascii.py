"""The beginning of a line in a text plan as if it had been typed in ASCII.

Models copy marks of other scripts and invisible characters into what they write. Before the first
bracket of a line they say nothing, so there they are read as what they look like.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_BRACKET: Final = re.compile(r"[(\n（﹙⁽]")  # noqa: RUF001 - that is what is looked for
# Characters of a line that may stand before the bracket of a call.
_LONGEST: Final = 300
_STOPS: Final = frozenset("。、｡､")


def in_ascii(text: str) -> str:
    """Return a text whose first line is plain up to its first bracket.

    Whatever is cut off at the end, the beginning is the same.
    """
    found = _BRACKET.search(text, 0, _LONGEST)
    end = _LONGEST if found is None else found.end()
    head = text[:end]
    return text if head.isascii() else plain(head) + text[end:]


def plain(text: str) -> str:
    """Return a text as if all of it had been typed in ASCII, as far as that can be."""
    return text if text.isascii() else text.translate(_TABLE)


def visible(text: str) -> str:
    """Return a text without what cannot be seen at its beginning."""
    if text[:1].isascii():
        return text
    at = 0
    while at < len(text) and not text[at].isascii() and not plain(text[at]).strip():
        at += 1
    return text[at:]


class _Table(dict[int, str]):
    """What each character looks like; filled as they come."""

    def __missing__(self, code: int) -> str:
        """Work out a character: each by itself, so that a cut changes nothing."""
        self[code] = _plain(chr(code))
        return self[code]


def _plain(char: str) -> str:
    if char.isascii():
        return char
    if char in _STOPS:
        return "."
    kind = unicodedata.category(char)
    if kind == "Cf":  # a byte order mark, a zero-width space
        return ""
    if kind == "Zs":
        return " "
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    return unicodedata.normalize("NFKC", char)


_TABLE: Final = _Table()
