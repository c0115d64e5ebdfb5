"""How a call in a text plan begins: as the prompt asks for it, and as models write it all the same.

The form that was asked for, `1. search(`, is a call whatever the name; of every other form the
name must be a tool's, so that prose stays prose. A numbered line that is no call after all is
still noted by its number: what refers to it was meant as a reference and must not become text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from planners._literals import Arguments, Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

END: Final = "<END_OF_PLAN>"

_TOOL: Final = r"(?=[^\s(]*[A-Za-z_])[A-Za-z0-9_.:/-]*[A-Za-z0-9_]"
_BULLET: Final = r"[ \t]*(?:[-*>][ \t]+)?"
# `result = `, `result: str = ` and the like.
_NAMED: Final = r"\$?[A-Za-z_][\w.]*(?:[ \t]*:[ \t]*[\w.\[\], |]{1,40}?)?[ \t]*:?=[ \t]*"
HEAD: Final = re.compile(rf"{_BULLET}[*`]*([0-9]{{1,9}})[.):]\**[ \t]*`?({_TOOL})([ \t]*)\(")
BARE: Final = re.compile(rf"{_BULLET}(?:{_NAMED})?({_TOOL})\(")
# A number and a tool's name, and then not its arguments in brackets.
BROKEN: Final = re.compile(rf"[ \t]*([0-9]{{1,9}})[.):][ \t]*({_TOOL})[ \t]*(?:$|[\"'\[{{:$])")
# What may follow a call on its line.
TAIL: Final = re.compile(r"[ \t]*[;,.]?[ \t]*[*`]*[ \t]*(?:(?:#|//|->|→).*)?\r?")
_ASSIGNED: Final = re.compile(
    rf"{_BULLET}[*`]*([0-9]{{1,9}})[.):]\**[ \t]*`?(?:{_NAMED})?(?:await[ \t]+)?({_TOOL})\("
)
# A label is what stands where the number should: 2a, 2.1, or a number without end.
_LABELLED: Final = (
    rf"{_BULLET}(?:\#+[ \t]+)?[*`]*(?:(?i:step|call|task|action)[ \t]*)?"
    r"[\[($#]?([0-9]+(?:\.[0-9]+)*[A-Za-z]?)\**"
    r"(?:[\])]?[ \t]*(?:[.):=>–—-]{1,2})\**[ \t]*|[\])]?[ \t]+)`?"  # noqa: RUF001 - as written
)
_LOOSE: Final = re.compile(rf"{_LABELLED}(?:{_NAMED})?(?:await[ \t]+)?({_TOOL})\(")
_LISTED: Final = re.compile(rf"{_LABELLED}[^(\n]*[\w`][ \t]*\(")
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
