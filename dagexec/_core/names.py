"""Names in messages: the first few of many, and the one that a wrong name was probably meant to be.

A plan may hold thousands of wrong names and thousands of right ones. Each message stays short, and
all the comparisons that one check makes are bounded together.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from itertools import islice
from typing import Final, final

from dagexec._errors import DagexecError

LONGEST: Final = 60  # characters of one name that are shown or compared: difflib is quadratic in it
_CANDIDATES: Final = 1000  # names that one wrong name is compared with
_VOWELS: Final = frozenset("aeiouAEIOU")
_COMPARISONS: Final = 20_000  # of one check, about half a second


def cut(name: str) -> str:
    """Return a name, or its beginning if it is very long."""
    return name if len(name) <= LONGEST else name[:LONGEST] + "…"


def kind_of(value: object) -> str:
    """Return the name of a value's class with its article: `a dict`, `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1] in _VOWELS else 'a'} {name}"


def checked_id(run_id: object) -> str:
    """Return what names a run; raise DagexecError if it is no text."""
    if isinstance(run_id, str):
        return run_id
    number = hasattr(run_id, "__int__")  # a UUID has it, too
    hint = f", {cut(str(run_id))!r}" if number else ""
    msg = f"run_id={run_id!r:.80} is no id of a run: give a text{hint}"
    raise DagexecError(msg)


def given_id(run_id: str | None) -> str | None:
    """Return what names a run, None if it is to be named; raise DagexecError for anything else."""
    return None if run_id is None else checked_id(run_id)


def some(names: Collection[str], most: int) -> str:
    """Return the first names with commas, and how many more there are."""
    more = len(names) - most
    text = ", ".join(cut(name) for name in islice(names, most))
    return f"{text}, … and {more} more" if more > 0 else text


@final
class Names:
    """The names that exist, as the messages of one check show them."""

    __slots__ = ("_candidates", "_left", "_most", "_names", "_shown")

    def __init__(self, names: Collection[str], most: int) -> None:
        """Show `most` of the names."""
        self._names = names
        self._most = most
        self._left = _COMPARISONS
        self._shown: str | None = None
        self._candidates: list[str] = []

    def __contains__(self, name: object) -> bool:
        """Whether it is one of the names."""
        return name in self._names

    @property
    def shown(self) -> str:
        """The first names, and how many more there are."""
        if self._shown is None:
            self._shown = some(self._names, self._most)
        return self._shown

    def near(self, name: str) -> str | None:
        """Return the name that was probably meant; None too once this check has compared enough."""
        if self._left <= 0:
            return None
        if not self._candidates:
            first = islice(self._names, _CANDIDATES)
            self._candidates = [each for each in first if len(each) <= LONGEST]
        self._left -= max(len(self._candidates), 1)
        close = get_close_matches(name[:LONGEST], self._candidates, n=1)
        return close[0] if close else None
