"""The critical path of a run: what its end waited for, dependencies and slots alike."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Literal, Protocol, TypeAlias, final

Via: TypeAlias = Literal["start", "dependency", "slot"]

# A call that gets a slot starts in the same turn of the event loop in which it was given back;
# what starts later than this after an end did not wait for that end. Seconds.
_PROMPT: Final = 0.02
_SHARE: Final = 0.1
# Shorter waits are the event loop's own business.
_NOTICED: Final = 0.001


@final
@dataclass(frozen=True, slots=True)
class Span:
    """When a call was ready, started and ended: seconds since the run began."""

    ready: float
    started: float
    ended: float


@final
@dataclass(frozen=True, slots=True)
class Link:
    """A call of the path, and what let it start: the end of the call before it, or the start."""

    call: str
    via: Via


class Call(Protocol):
    """A call, as far as the path needs it: the ids of what it waits for."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The calls whose values it takes."""
        ...

    @property
    def waits(self) -> tuple[str, ...]:
        """The calls whose ends it waits for."""
        ...


class Calls(Protocol):
    """Calls by id."""

    def __getitem__(self, name: str, /) -> Call:
        """Return the call with this id."""
        ...


def critical_links(plan: Calls, spans: Mapping[str, Span]) -> tuple[Link, ...]:
    """Return the path from the call that ended last back to one that waited for none.

    A call that was ready and still waited was held up by the call whose end let it start, not by
    its dependencies; without this, a run that its slots hold up would blame the wrong call.
    """
    ends = sorted((span.ended, name) for name, span in spans.items())
    links: dict[str, Link] = {}
    name = ends[-1][1] if ends else None
    while name is not None:
        span = spans[name]
        call = plan[name]
        sources = [each for each in (*call.needs, *call.waits) if each in spans]
        before = _holder(ends, span, {*links, *sources, name})
        if before is not None:
            links[name] = Link(name, "slot")
        elif sources:
            before = max(sources, key=lambda each: spans[each].ended)
            links[name] = Link(name, "dependency")
        else:
            links[name] = Link(name, "start")
        # What took no time at all could point back at itself.
        name = None if before in links else before
    return tuple(reversed(links.values()))


def _holder(ends: list[tuple[float, str]], span: Span, others: set[str]) -> str | None:
    """Return the call whose end let this one start, if it waited although it was ready."""
    queued = span.started - span.ready
    if queued < _NOTICED:
        return None
    earliest = max(span.ready, span.started - min(_PROMPT, _SHARE * queued))
    position = bisect_right(ends, span.started, key=itemgetter(0)) - 1
    while position >= 0 and ends[position][0] >= earliest:
        if ends[position][1] not in others:
            return ends[position][1]
        position -= 1
    return None
