"""Regular expressions in linear time: Python's syntax and results, without backtracking.

Python's own `re` may take a time that doubles with each character, and a text may come from
anywhere. Here a pattern becomes a small program, and all ways to match it go through the text side
by side, the preferred one first, each with its groups (Pike's machine). So a search takes at most
the length of the text times that of the pattern. What needs a look back at a group, or around, has
no such machine and is refused.

Where Python's `re` is certain to be quick, because few parts of the pattern repeat and the text is
short, it is asked instead: the result is the same.

Source: Russ Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009.
"""

# The parser of patterns is Python's own, and has no types.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportMissingTypeStubs=false

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple, TypeAlias, final

from dagexec.programs._errors import LimitReached
from dagexec.programs._values import Meter

# Instructions of a compiled pattern, characters of its text, and steps of one search.
_LONGEST: Final = 5_000
_CHARACTERS: Final = 2_000
_STEPS: Final = 3_000_000
# Steps that Python's own engine may take at most.
_QUICK: Final = 1_000_000
_MANY: Final = 8

# Beginnings and ends of a match and of its groups; -1 for one that took no part.
Spans: TypeAlias = "tuple[int, ...]"

CHAR, SPLIT, JUMP, SAVE, AT, MATCH = range(6)
_FLAGS: Final = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII | re.UNICODE
_REFUSED: Final = {
    ops.GROUPREF: "a reference back to a group",
    ops.GROUPREF_EXISTS: "a condition on a group",
    ops.ASSERT: "looking ahead or behind",
    ops.ASSERT_NOT: "looking ahead or behind",
    ops.ATOMIC_GROUP: "an atomic group",
    ops.POSSESSIVE_REPEAT: "a possessive repeat",
}
_SETS: Final = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
}


class Step(NamedTuple):
    """One instruction: what it does, where it may go on, what it looks at."""

    kind: int
    to: int = 0
    other: int = 0
    test: Callable[[str], bool] | Callable[[str, int], bool] | None = None


@final
class Regex:
    """One compiled pattern."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        """Compile it; raise `re.error` as Python does, ValueError for what is refused."""
        if len(pattern) > _CHARACTERS:
            msg = f"a pattern would be longer than {_CHARACTERS:,} characters"
            raise LimitReached(msg)
        if flags & ~_FLAGS:
            raise ValueError("of re's flags there are I, M, S, X and A here")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = _parser.parse(pattern, flags)
            self._quick = re.compile(pattern, flags)
        self.pattern = pattern
        self.flags = tree.state.flags
        self.names: dict[str, int] = dict(tree.state.groupdict)
        self.groups: int = tree.state.groups - 1
        self.steps: list[Step] = []
        self._degree, self._ways = 0, 1
        self._save(0, lambda: self._sequence(tree, self.flags))
        self._put(Step(MATCH))

    # ----------------------------------------------------------------------------------- compiling

    def _put(self, step: Step) -> int:
        if len(self.steps) >= _LONGEST:
            raise LimitReached("a pattern is too large: its counted repeats are written out")
        self.steps.append(step)
        return len(self.steps) - 1

    def _save(self, group: int, body: Callable[[], None]) -> None:
        self._put(Step(SAVE, 2 * group))
        body()
        self._put(Step(SAVE, 2 * group + 1))

    def _sequence(self, parts: Any, flags: int) -> None:
        for kind, value in parts:
            self._part(kind, value, flags)

    def _part(self, kind: Any, value: Any, flags: int) -> None:
        if kind in _REFUSED:
            msg = f"there is no {_REFUSED[kind]} in patterns here: matching takes linear time"
            raise ValueError(msg)
        if kind in (ops.LITERAL, ops.NOT_LITERAL, ops.ANY, ops.IN):
            self._put(Step(CHAR, test=_tester(_class_text(kind, value), flags)))
        elif kind is ops.AT:
            self._put(Step(AT, test=_place(value, flags)))
        elif kind is ops.SUBPATTERN:
            group, added, removed, body = value
            inside = (flags | added) & ~removed
            if group is None:
                self._sequence(body, inside)
            else:
                self._save(group, lambda: self._sequence(body, inside))
        elif kind is ops.BRANCH:
            self._branch(value[1], flags)
        elif kind in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            least, most, body = value
            self._repeat(least, most, body, flags, greedy=kind is ops.MAX_REPEAT)
        else:
            msg = f"there is no {str(kind).lower()} in patterns here"
            raise ValueError(msg)

    def _branch(self, choices: list[Any], flags: int) -> None:
        self._ways = min(self._ways * len(choices), _QUICK)
        ends: list[int] = []
        for choice in choices[:-1]:
            split = self._put(Step(SPLIT))
            self._sequence(choice, flags)
            ends.append(self._put(Step(JUMP)))
            self.steps[split] = Step(SPLIT, split + 1, len(self.steps))
        self._sequence(choices[-1], flags)
        for place in ends:
            self.steps[place] = Step(JUMP, len(self.steps))

    def _repeat(self, least: int, most: Any, body: Any, flags: int, *, greedy: bool) -> None:
        """Write `body` out `least` times, then what may follow: a loop, or so many options."""
        if most > 1 and body.getwidth()[0] == 0:
            # Python's own engine decides by where it stood before, which no machine here knows.
            msg = "what is repeated may match nothing here; write a repeat whose part cannot"
            raise ValueError(msg)
        if most is not ops.MAXREPEAT and most - least < _MANY:
            self._ways = min(self._ways * (most - least + 1), _QUICK)
        else:
            self._degree += 1
        before = self._degree, self._ways
        endless = most is ops.MAXREPEAT
        for _ in range(least - 1 if endless and least else least):
            self._sequence(body, flags)
        if endless:
            self._loop(body, flags, greedy=greedy, optional=least == 0)
        else:
            splits: list[int] = []
            for _ in range(most - least):
                splits.append(self._put(Step(SPLIT)))
                self._sequence(body, flags)
            for split in splits:
                self._aim(split, split + 1, len(self.steps), greedy=greedy)
        if before != (self._degree, self._ways):
            self._degree = _MANY  # repeats inside of repeats

    def _loop(self, body: Any, flags: int, *, greedy: bool, optional: bool) -> None:
        split = self._put(Step(SPLIT)) if optional else None
        first = len(self.steps)
        self._sequence(body, flags)
        again = self._put(Step(SPLIT))
        self._aim(again, first, again + 1, greedy=greedy)
        if split is not None:
            self._aim(split, first, again + 1, greedy=greedy)

    def _aim(self, place: int, inside: int, behind: int, *, greedy: bool) -> None:
        to, other = (inside, behind) if greedy else (behind, inside)
        self.steps[place] = Step(SPLIT, to, other)

    # ------------------------------------------------------------------------------------ matching

    def find(
        self, text: str, start: int = 0, *, how: str = "search", empty: bool = True
    ) -> Spans | None:
        """Return the first match from `start` on, None without one.

        `how` is search, match or fullmatch. Without `empty`, one at `start` is not empty.
        """
        if empty and self.is_quick(len(text)):
            found = getattr(self._quick, how)(text, start)
            if found is None:
                return None
            return tuple(x for group in range(self.groups + 1) for x in found.span(group))
        return self.walk(text, start, how=how, empty=empty)

    def is_quick(self, length: int) -> bool:
        """Whether Python's own engine cannot take long for a text of this length."""
        return self._degree < _MANY and self._ways * (length + 1) ** (self._degree + 1) <= _QUICK

    def walk(  # noqa: C901 - one loop
        self, text: str, start: int = 0, *, how: str = "search", empty: bool = True
    ) -> Spans | None:
        """Return what `find` does, by the machine of this module."""
        steps, end, left = self.steps, len(text), _STEPS
        Meter.spent += 1
        none = (-1,) * (2 * self.groups + 2)
        best: Spans | None = None
        # Where the ways stand before the next character, the preferred first.
        ways: list[tuple[int, Spans]] = []
        for at in range(start, end + 1):
            if best is None and (at == start or how == "search"):
                ways.append((0, none))
            elif not ways:
                break
            here, ways = self._here(ways, text, at), []
            left -= len(here) + 1
            Meter.spent += (len(here) + 1) << 2
            if left < 0:
                raise LimitReached(f"a search in a text of {end:,} characters takes too long")
            character = text[at] if at < end else ""
            for place, spans in here:
                step = steps[place]
                if step.kind != MATCH:
                    if character and step.test(character):  # type: ignore[misc, call-arg]
                        ways.append((place + 1, spans))
                elif (how != "fullmatch" or at == end) and (empty or at > start):
                    best = spans
                    break  # what comes behind is preferred less
        return best

    def _here(self, ways: list[tuple[int, Spans]], text: str, at: int) -> list[tuple[int, Spans]]:
        """Follow ways as far as they come without a character: each instruction once."""
        steps, seen = self.steps, bytearray(len(self.steps))
        found: list[tuple[int, Spans]] = []
        stack = ways[::-1]
        while stack:
            place, spans = stack.pop()
            if seen[place]:
                continue
            seen[place] = 1
            step = steps[place]
            if step.kind == SPLIT:
                stack.append((step.other, spans))
                stack.append((step.to, spans))
            elif step.kind == JUMP:
                stack.append((step.to, spans))
            elif step.kind == SAVE:
                changed = (*spans[: step.to], at, *spans[step.to + 1 :])
                stack.append((place + 1, changed))
            elif step.kind == AT:
                if step.test(text, at):  # type: ignore[misc, call-arg]
                    stack.append((place + 1, spans))
            else:
                found.append((place, spans))
        return found

    def all(self, text: str) -> Iterator[Spans]:
        """Yield the matches of a text, as `finditer` does."""
        at, empty, last = 0, True, len(text)
        while at <= last:
            found = self.find(text, at, empty=empty)
            if found is None:
                return
            yield found
            at, empty = found[1], found[1] > found[0]


def _class_text(kind: Any, value: Any) -> str:
    """Return a part of a pattern that takes one character, as a pattern."""
    if kind is ops.ANY:
        return "."
    if kind is ops.LITERAL:
        return f"[{_escaped(value)}]"
    if kind is ops.NOT_LITERAL:
        return f"[^{_escaped(value)}]"
    parts: list[str] = []
    for inner, what in value:
        if inner is ops.NEGATE:
            parts.append("^")
        elif inner is ops.LITERAL:
            parts.append(_escaped(what))
        elif inner is ops.RANGE:
            parts.append(f"{_escaped(what[0])}-{_escaped(what[1])}")
        else:
            parts.append(_SETS[what])
    return f"[{''.join(parts)}]"


def _escaped(code: int) -> str:
    return f"\\U{code:08x}"


@lru_cache(maxsize=1_024)
def _tester(text: str, flags: int) -> Callable[[str], bool]:
    """Return whether a character is in a class: by Python, each character asked about once."""
    matches = re.compile(text, flags & ~(re.VERBOSE | re.DEBUG)).match
    known: dict[str, bool] = {}

    def test(character: str) -> bool:
        found = known.get(character)
        if found is None:
            found = matches(character) is not None
            if len(known) < _LONGEST:
                known[character] = found
        return found

    return test


def _place(kind: Any, flags: int) -> Callable[[str, int], bool]:
    """Return whether a text has a beginning, an end or an edge of a word somewhere."""
    if kind in (ops.AT_BOUNDARY, ops.AT_NON_BOUNDARY):
        word, wanted = _tester(r"\w", flags), kind is ops.AT_BOUNDARY

        def edge(text: str, at: int) -> bool:
            if not text and not _EMPTY_HAS_EDGES:
                return False
            before = at > 0 and word(text[at - 1])
            behind = at < len(text) and word(text[at])
            return (before is not behind) is wanted

        return edge
    if kind is ops.AT_BEGINNING_STRING or (kind is ops.AT_BEGINNING and not flags & re.MULTILINE):
        return lambda _text, at: at == 0
    if kind is ops.AT_BEGINNING:
        return lambda text, at: at == 0 or text[at - 1] == "\n"
    if kind is ops.AT_END_STRING:
        return lambda text, at: at == len(text)
    if flags & re.MULTILINE:
        return lambda text, at: at == len(text) or text[at] == "\n"
    return lambda text, at: at == len(text) or (at == len(text) - 1 and text[at] == "\n")


# Before Python 3.14 `\B` is not found in an empty text.
_EMPTY_HAS_EDGES: Final = re.search(r"\B", "") is not None
