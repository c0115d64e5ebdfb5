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
_BULLET: Final = r"[ \t]*+(?:[-*>+•◦▪‣●][ \t]++)?(?:\[[ xX]?\][ \t]++)?(?:<[A-Za-z_]++>[ \t]*+)?"
# Bold, italics and code round a tool's name.
_MARKS: Final = r"[*`]{0,4}"
# `result = `, `result: str = ` and the like.
_NAMED: Final = r"\$?[A-Za-z_][\w.]*+(?:[ \t]*+:[ \t]*+[\w.\[\], |]{1,40}?)?[ \t]*+:?=[ \t]*+"
_HEAD: Final = re.compile(
    rf"{_BULLET}[*`]*+([0-9]{{1,9}})[.):]\**+[ \t]*+`?({_TOOL})([*`]++|[ \t]*+)\("
)
_BARE: Final = re.compile(rf"{_BULLET}(?:{_NAMED})?({_TOOL})\(")
# A number and a tool's name, and then not its arguments in brackets.
_BROKEN: Final = re.compile(rf"[ \t]*+([0-9]{{1,9}})[.):][ \t]*+({_TOOL})[ \t]*+(?:$|[\"'\[{{:$])")
# What may follow a call on its line.
TAIL: Final = re.compile(r"[ \t]*+[;,.]?+[ \t]*+[*`]*+[ \t]*+(?:(?:#|//|->|→).*+)?\r?")
_ASSIGNED: Final = re.compile(
    rf"{_BULLET}[*`]*+([0-9]{{1,9}})[.):]\**+[ \t]*+`?"
    rf"(?:{_NAMED})?(?:await[ \t]++)?{_MARKS}({_TOOL}){_MARKS}\("
)
# A label is what stands where the number should: 2a, 2.1, or a number without end.
_LABELLED: Final = (
    rf"{_BULLET}(?:\#++[ \t]++)?[*`]*+(?:(?i:step|call|task|action)[ \t]*+)?"
    r"[\[($#]?([0-9]++(?:\.[0-9]++){0,8}[A-Za-z]?)\**+"
    r"(?:[\])]?[ \t]*+(?:[.):=>–—-]{1,2})\**+[ \t]*+|[\])]?[ \t]++)`?"  # noqa: RUF001 - as written
)
_LOOSE: Final = re.compile(rf"{_LABELLED}(?:{_NAMED})?(?:await[ \t]++)?{_MARKS}({_TOOL}){_MARKS}\(")
_LABEL: Final = re.compile(_LABELLED)
# Characters of a line that are read as its head. Behind them no call begins.
_LONGEST: Final = 600
_TRIPLE: Final = re.compile(r"""\n|"{3}|'{3}""")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


def looks_like_plan(text: str) -> bool:
    """Whether a line of a text begins a numbered call."""
    heads = (numbered(line) for line in text.splitlines())
    return any(head is not None and not head[3] for head in heads)


def numbered(text: str) -> re.Match[str] | None:
    """Match a number (1), a name (2), marks behind it (3) and a bracket; None for other texts."""
    return _HEAD.match(text, 0, _LONGEST)


def bare(text: str) -> re.Match[str] | None:
    """Match a name (1) and a bracket without a number; None for other texts."""
    return _BARE.match(text, 0, _LONGEST)


def broken(line: str) -> re.Match[str] | None:
    """Match a number (1) and a name (2) that no bracket follows; None for other lines."""
    return _BROKEN.match(line)


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
    assigned = _ASSIGNED.match(line, 0, _LONGEST)
    if assigned is not None and known(assigned[2]):
        return Loose(assigned[1], assigned[2], assigned.end())
    found = _LOOSE.match(line, 0, _LONGEST)
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
    found = _LABEL.match(line, 0, _LONGEST)
    if found is None:
        return ""
    bracket = line.find("(", found.end())
    before = line[found.end() : max(bracket, 0)].rstrip(" \t")[-1:]
    return found[1] if before.isalnum() or before in ("_", "`") else ""


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


_IN_NAMES: Final = "A-Za-z0-9_.:/-"
# What could be a name, whole, and a mark behind it. A word is read once, whatever follows it.
_BEFORE_MARK: Final = re.compile(
    rf"(?<![{_IN_NAMES}])([{_IN_NAMES}]++)"
    r"(?:[*`][*_`]{0,3}+|[^\S\n]{1,8}+[*_`]{0,4}+)?+[^\S\n]{0,8}+(?=([^\w\s]))"
)
_BOUNDARY: Final = re.compile(r"[.:/-]")
_LONGEST_NAME: Final = 128
_MOST_MARKS: Final = 4


class Mentions:
    """Finds tools' names before brackets of any kind, in lines of which no call was made."""

    def __init__(self, names: Collection[str]) -> None:
        """Look for these names."""
        self._names = frozenset(name.lower() for name in names)

    def __call__(self, text: str) -> bool:
        """Whether a text has one."""
        if not self._names:
            return False
        text = plain(text)
        return any(
            unicodedata.category(found[2]) in ("Ps", "Pi")
            and self._ends(found[1], text[found.start() - 1 : found.start()])
            for found in _BEFORE_MARK.finditer(text)
        )

    def _ends(self, word: str, before: str) -> bool:
        """Whether a word ends with a name, behind what is no part of a word itself."""
        word = word[-_LONGEST_NAME - _MOST_MARKS - 1 :].lower()
        for marks in range(_MOST_MARKS + 1):  # `_` is a mark as well as a part of names
            if marks and word[-1:] != "_":
                return False
            word = word[:-1] if marks else word
            if word in self._names and not before.isalnum():
                return True
            starts = (found.end() for found in _BOUNDARY.finditer(word))
            if any(word[at:] in self._names for at in starts):
                return True
        return False
