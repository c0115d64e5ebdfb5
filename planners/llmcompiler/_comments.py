"""Comments among the arguments of a text plan: `x=3,  # the count`, as in Python.

A `#` may belong to a text without quotes too, as in `fix(issue #5)`. What follows on its line tells
them apart: behind a value that is no such text it begins a comment, behind a text only where the
line goes on to its end without closing the call.
"""

from __future__ import annotations

import re
from typing import Final

# A smile closes nothing.
_BRACKET: Final = re.compile(r"\(|(?<![:;-])\)")
# What may follow a call: nothing more on its line, a remark, or the next call.
_BEHIND: Final = re.compile(
    r"[ \t;,.`*]*+(?:\r?\Z|#|//|->|→|<END_OF_PLAN>|[0-9]{1,9}[.):][ \t]*+[\w.:/-]++\()"
)
_COMMENTING: Final = " \t\r\n"
# Characters of a comment behind a text without quotes: there may be a `#` in each of many words.
_LONGEST: Final = 1000


def comment_end(buffer: str, begin: int, closing: str, *, certain: bool, final: bool) -> int | None:
    """Return where the comment that begins at `begin` ends; -1 for a text, None for too little.

    It ends with its line, or before `closing`, the brackets that close the call, if they end the
    call on the line. If it is not `certain` that it is a comment, a line that closes the call, or
    ends with a comma, holds a text.
    """
    reach = len(buffer) if certain else min(len(buffer), begin + _LONGEST)
    end = buffer.find("\n", begin, reach)
    if not certain and reach > begin + 1:
        too_long = end < 0 and reach == begin + _LONGEST
        if too_long or buffer[begin + 1] not in _COMMENTING:
            return -1
    if end < 0:
        if not final:
            return None
        end = len(buffer)
    line = buffer[begin:end]
    closed = _unbalanced(line, closing)
    if not certain and (closed >= 0 or line.rstrip().endswith(",")):
        return -1
    return end if closed < 0 else begin + closed


def _unbalanced(line: str, closing: str) -> int:
    """Return where the brackets that close a call begin in a line; -1 if they do not end it."""
    depth = 0
    for bracket in _BRACKET.finditer(line):
        depth += 1 if bracket[0] == "(" else -1
        if depth < 0:
            at = bracket.end() - len(closing)
            closes = at > 0 and line.startswith(closing, at) and _BEHIND.match(line, bracket.end())
            return at if closes else -1
    return -1
