"""Thoughts between tags, `<think>...</think>`: nothing in them is said, so no call and no answer.

A block opens at the start of a line. Some servers strip the opening tag: then a closing tag stands
alone, and all before it was thought. A tag in quotes or backticks is a word about tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_NAMES: Final = "(think|thinking|thoughts?|reasoning)"
# Characters of a closing tag.
_LONGEST: Final = 40
OPENING: Final = re.compile(rf"[ \t]*<{_NAMES}(?:[ \t][^<>\n]*)?>", re.IGNORECASE)
_TAG: Final = re.compile(
    rf"(?<![`\"'])<(/?)[ \t]*{_NAMES}(?:[ \t][^<>\n]*)?>(?![`\"'])", re.IGNORECASE
)
_BLOCK: Final = re.compile(
    rf"^[ \t\ufeff]*<{_NAMES}(?:[ \t][^<>\n]*)?>.*?(?:</[ \t]*\1[ \t]*>|\Z)",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)


class Block:
    """Thoughts that were opened by a tag, and what closes them."""

    def __init__(self, name: str) -> None:
        """Begin behind the tag."""
        self._closing = re.compile(rf"</[ \t]{{0,8}}{name}[ \t]{{0,8}}>", re.IGNORECASE)
        self._seen = 0

    def end(self, text: str) -> tuple[int, int]:
        """Return where the closing tag begins and ends, (-1, -1) before it came.

        The text begins with the same each time.
        """
        found = self._closing.search(text, max(0, self._seen - _LONGEST))
        self._seen = len(text)
        return (-1, -1) if found is None else found.span()

    def forget(self, count: int) -> None:
        """Note that the text will lack these characters at its beginning."""
        self._seen -= count


def tag_in(line: str) -> int:
    """Return where the first tag begins in a line that is no argument; -1 if there is none."""
    found = _TAG.search(line)
    return -1 if found is None else found.start()


def stray(text: str) -> int:
    """Return the end of the first closing tag without an opening one; -1 if there is none.

    Of several on one line it is the last one.
    """
    found = _strays(text)
    first = last = next(found, -1)
    while last >= 0 and (following := next(found, -1)) >= 0:
        if "\n" in text[last:following]:
            break
        last = following
    return max(first, last)


def _strays(text: str) -> Iterator[int]:
    """Yield the end of each closing tag without an opening one behind the tag before it."""
    open_ = 0
    for tag in _TAG.finditer(text):
        if not tag[1]:
            open_ += 1
        elif open_:
            open_ -= 1
        else:
            yield tag.end()


def spoken(text: str) -> str:
    """Return a text that is no plan without the thoughts in it."""
    text = _BLOCK.sub("", text)
    *_, end = (0, *_strays(text))
    return text[end:].strip()
