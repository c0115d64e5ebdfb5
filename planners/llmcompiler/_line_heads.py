"""How a call in a text plan begins: as the prompt asks for it, and as models write it all the same.

The form that was asked for, `1. search(`, is a call whatever the name; of every other form the
name must be a tool's, so that prose stays prose. A numbered line that is no call after all is
still noted by its number: what refers to it was meant as a reference and must not become text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from planners.llmcompiler._ascii import plain
from planners.llmcompiler._literals import Arguments, Malformed

END: Final = "<END_OF_PLAN>"

_TOOL: Final = r"(?=[^\s(]*[A-Za-z_])[A-Za-z0-9_.:/-]*[A-Za-z0-9_]"
# A bullet, a box to tick, a tag round the plan.
_BULLET: Final = r"[ \t]*(?:[-*>+•◦▪‣●][ \t]+)?(?:\[[ xX]?\][ \t]+)?(?:<[A-Za-z_]+>[ \t]*)?"
# Bold, italics and code round a tool's name.
_MARKS: Final = r"[*`]{0,4}"
# `result = `, `result: str = ` and the like.
_NAMED: Final = r"\$?[A-Za-z_][\w.]*(?:[ \t]*:[ \t]*[\w.\[\], |]{1,40}?)?[ \t]*:?=[ \t]*"
HEAD: Final = re.compile(rf"{_BULLET}[*`]*([0-9]{{1,9}})[.):]\**[ \t]*`?({_TOOL})([*`]+|[ \t]*)\(")
BARE: Final = re.compile(rf"{_BULLET}(?:{_NAMED})?({_TOOL})\(")
# A number and a tool's name, and then not its arguments in brackets.
BROKEN: Final = re.compile(rf"[ \t]*([0-9]{{1,9}})[.):][ \t]*({_TOOL})[ \t]*(?:$|[\"'\[{{:$])")
# What may follow a call on its line.
TAIL: Final = re.compile(r"[ \t]*[;,.]?[ \t]*[*`]*[ \t]*(?:(?:#|//|->|→).*)?\r?")
_ASSIGNED: Final = re.compile(
    rf"{_BULLET}[*`]*([0-9]{{1,9}})[.):]\**[ \t]*`?"
    rf"(?:{_NAMED})?(?:await[ \t]+)?{_MARKS}({_TOOL}){_MARKS}\("
)
# A label is what stands where the number should: 2a, 2.1, or a number without end.
_LABELLED: Final = (
    rf"{_BULLET}(?:\#+[ \t]+)?[*`]*(?:(?i:step|call|task|action)[ \t]*)?"
    r"[\[($#]?([0-9]+(?:\.[0-9]+)*[A-Za-z]?)\**"
    r"(?:[\])]?[ \t]*(?:[.):=>–—-]{1,2})\**[ \t]*|[\])]?[ \t]+)`?"  # noqa: RUF001 - as written
)
_LOOSE: Final = re.compile(rf"{_LABELLED}(?:{_NAMED})?(?:await[ \t]+)?{_MARKS}({_TOOL}){_MARKS}\(")
_LISTED: Final = re.compile(rf"{_LABELLED}[^(\n]*[\w`][ \t]*\(")
_TRIPLE: Final = re.compile(r"""\n|"{3}|'{3}""")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


def looks_like_plan(text: str) -> bool:
    """Whether a line of a text begins a numbered call."""
    heads = (HEAD.match(line) for line in text.splitlines())
    return any(head is not None and not head[3] for head in heads)


@dataclass(frozen=True, slots=True)
class Loose:
    """A line that begins a call in a form of its own; its arguments begin at `at`."""

    label: str
    name: str
    at: int

    @property
    def number(self) -> int | None:
        """The number of the call; None where the label is none."""
        return int(self.label) if _NUMBER.fullmatch(self.label) else None


def loose(line: str, known: Callable[[str], bool]) -> Loose | None:
    """Return the call of a known tool that a whole line begins, though not as it was asked for.

    Behind a number with its mark anything is a call. Elsewhere, in `Step 1: search("x") finds`
    or `2 search() calls`, what follows the closing bracket tells a call from words about one.
    """
    assigned = _ASSIGNED.match(line)
    if assigned is not None and known(assigned[2]):
        return Loose(assigned[1], assigned[2], assigned.end())
    found = _LOOSE.match(line)
    if found is None or not known(found[2]):
        return None
    arguments = Arguments(found.end())
    try:
        whole = arguments.read(line, final=False)
    except Malformed:
        whole = False
    if whole and not TAIL.fullmatch(line.partition(END)[0], arguments.at):
        return None
    return Loose(found[1], found[2], found.end())


def listed(line: str) -> str:
    """Return the label of a line that is no call and could have been meant as one; '' for others.

    It has a number, and a word before a bracket.
    """
    found = _LISTED.match(line)
    return "" if found is None else found[1]


def behind_texts(text: str, *, final: bool) -> tuple[int, int] | None:
    """Return the end of the last text in triple quotes on a line, and that of the line.

    None where more of the text must come first.
    """
    position = 0
    while True:
        stop = _TRIPLE.search(text, position)
        if stop is None:
            return (position, len(text)) if final else None
        if stop[0] == "\n":
            return position, stop.end()
        close = text.find(stop[0], stop.end())
        if close < 0 and not final:
            return None
        position = len(text) if close < 0 else close + 3


class Mentions:
    """Finds tools' names before brackets of any kind, in lines of which no call was made."""

    def __init__(self, names: Collection[str]) -> None:
        """Look for these names."""
        either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        pattern = rf"(?<!\w)(?:{either})[^\S\n]{{0,8}}[*_`]{{0,4}}[^\S\n]{{0,8}}([^\w\s])"
        self._pattern = re.compile(pattern, re.IGNORECASE) if names else None

    def __call__(self, text: str) -> bool:
        """Whether a text has one."""
        if self._pattern is None:
            return False
        found = self._pattern.finditer(plain(text))
        return any(unicodedata.category(each[1]) in ("Ps", "Pi") for each in found)
