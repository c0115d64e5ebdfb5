"""Which calls come after which, while edges are added: places that every edge goes along.

Pearce and Kelly, A dynamic topological sort algorithm for directed acyclic graphs (2007). An edge
to a later place closes no cycle and costs nothing; for another one, only what stands between its
two ends is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

# What edges against the places may cost in all: calls looked at, for each call and at least.
_EACH: Final = 100
_LEAST: Final = 100_000


class TooTangled(Exception):
    """Finding out whether an edge closes a cycle would take too long."""


@final
class Precedence:
    """The places of calls, by id, and the edges between them."""

    __slots__ = ("_after", "_before", "_first", "_looked", "_place")

    def __init__(self, sources: Mapping[str, Iterable[str]]) -> None:
        """Take the calls that each call waits for."""
        self._before: dict[str, list[str]] = {}
        self._after: dict[str, list[str]] = {}
        for target, names in sources.items():
            self._connect(target, names)
        self._place = _places(self._before, self._after)
        self._first = 0  # the lowest place
        self._looked = 0

    def add(self, target: str, sources: Sequence[str]) -> None:
        """Take a further call; nothing is known yet of what it waits for and has not arrived."""
        if target not in self._place:
            self._connect(target, ())
            self._place[target] = len(self._place)
        for name in sources:
            if name not in self._place:
                self._connect(name, ())
                self._first -= 1
                self._place[name] = self._first
        self.link(target, sources)

    def link(self, target: str, sources: Sequence[str]) -> list[str]:
        """Let a call wait for others; return those of which that closes no cycle.

        Raises TooTangled, with nothing changed, once this has cost too much in all.
        """
        place, low = self._place, self._place[target]
        high = max((place[name] for name in sources), default=low)
        if high > low:
            self._looked += len(sources)
            behind = self._reached([target], self._after, lambda each: each <= high)
            sources = [name for name in sources if name not in behind]
            late = [name for name in sources if place[name] > low]
            if late:
                high = max(place[name] for name in late)
                ahead = self._reached(late, self._before, lambda each: each >= low)
                self._move(ahead, [name for name in behind if place[name] <= high])
        self._connect(target, sources)
        return list(sources)

    def _connect(self, target: str, sources: Iterable[str]) -> None:
        before = self._before.setdefault(target, [])
        self._after.setdefault(target, [])
        for name in sources:
            before.append(name)
            self._before.setdefault(name, [])
            self._after.setdefault(name, []).append(target)

    def _reached(
        self,
        starts: Sequence[str],
        edges: Mapping[str, Sequence[str]],
        within: Callable[[int], bool],
    ) -> dict[str, None]:
        """Return the calls that edges lead to from some, themselves among them, within places."""
        seen = dict.fromkeys(starts)
        waiting = list(starts)
        while waiting:
            for name in edges[waiting.pop()]:
                self._looked += 1
                if name not in seen and within(self._place[name]):
                    seen[name] = None
                    waiting.append(name)
            if self._looked > max(_LEAST, _EACH * len(self._place)):
                raise TooTangled
        return seen

    def _move(self, ahead: Iterable[str], behind: Iterable[str]) -> None:
        """Give the places of all these calls to them anew: first those ahead."""
        place = self._place
        moved = [*sorted(ahead, key=place.__getitem__), *sorted(behind, key=place.__getitem__)]
        for name, free in zip(moved, sorted(place[name] for name in moved), strict=True):
            place[name] = free


def _places(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> dict[str, int]:
    """Number the calls so that each stands behind what it waits for; cycles stand last."""
    missing = {name: len(names) for name, names in before.items()}
    free = [name for name, count in missing.items() if not count]
    for name in free:
        for target in after[name]:
            missing[target] -= 1
            if not missing[target]:
                free.append(target)
    return {name: place for place, name in enumerate(dict.fromkeys((*free, *before)))}
