"""Edges that the model did not write: the order of calls that touch the same resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, final

from dagexec._core.plan import Call
from dagexec._tools.precedence import Precedence, TooTangled
from dagexec._tools.resources import Conflicts
from dagexec._tools.tool import Tool

_TANGLED: Final = (
    "it touches what earlier calls touch that refer to later ones, and there are too many of these"
    " to find an order; write calls in the order in which they need one another"
)


def order_conflicts(calls: Iterable[Call], tools: Mapping[str, Tool[..., Any]]) -> list[Call]:
    """Return the calls with `ordered` edges between those that conflict on a resource.

    Of two calls of which one writes what the other touches, the one further down waits until the
    other has ended. A reference the other way round is stronger: then there is no such edge.
    """
    given = list(calls)
    order = Order(tools)
    for call in given:
        order.expect(call)
    return [order.add(call) for call in given]


@final
class Order:
    """Finds those edges call by call, in the order in which the model wrote them."""

    def __init__(self, tools: Mapping[str, Tool[..., Any]]) -> None:
        """Start without any call."""
        self._tools = tools
        self._conflicts = Conflicts()
        self._sources: dict[str, tuple[str, ...]] = {}
        # Whether a call refers to one further down. Else no edge to an earlier call closes a cycle.
        self._looks_ahead = False
        self._precedence: Precedence | None = None
        # By call, what it conflicts with among earlier ones; and of these, what depends on it.
        self._found: dict[str, tuple[str, ...]] = {}
        self._passed: dict[str, tuple[str, ...]] = {}

    def expect(self, call: Call) -> None:
        """Take note of a call that will be added later: its references count already."""
        if call.id in self._sources:
            return
        sources = (*call.needs, *call.waits)
        self._looks_ahead = self._looks_ahead or not all(name in self._sources for name in sources)
        self._sources[call.id] = sources
        if self._precedence is not None:
            self._precedence.add(call.id, sources)

    def add(self, call: Call) -> Call:
        """Return the call with its edges to earlier ones, or with a problem if it has too many."""
        try:
            return self._ordered(call)
        except TooTangled:
            return replace(call, problem=_TANGLED)

    def _ordered(self, call: Call) -> Call:
        self.expect(call)
        tool = self._tools.get(call.tool)
        if tool is None or call.problem is not None:
            return call
        accesses = tool.resources(call.args)
        if not accesses:
            return call
        accesses, earlier = self._conflicts.before(accesses)
        known = dict.fromkeys(self._sources[call.id])
        self._found[call.id] = earlier
        if earlier and self._looks_ahead:
            new = self._without_cycles(call.id, earlier, known)
        else:
            new = [name for name in earlier if name not in known]
        # Only now: a call that cannot run keeps no others apart.
        self._conflicts.note(call.id, accesses)
        if not new:
            return call
        self._sources[call.id] = (*known, *new)
        return replace(call, ordered=(*call.ordered, *new))

    def _without_cycles(
        self, name: str, earlier: Iterable[str], known: Mapping[str, None]
    ) -> list[str]:
        """Return those of the earlier calls that a call can wait for, and that it does not yet."""
        if self._precedence is None:
            self._precedence = Precedence(self._sources)
        seen = dict.fromkeys(earlier)
        linked: dict[str, None] = {}
        refused: dict[str, None] = {}
        waiting = tuple(seen)
        while waiting:
            # A call stands for all that it waits for, but not for what has to wait for it.
            waiting = (*waiting, *(each for one in waiting for each in self._passed.get(one, ())))
            waiting = tuple(each for each in dict.fromkeys(waiting) if each not in known)
            now = dict.fromkeys(self._precedence.link(name, waiting))
            linked |= now
            later = [each for each in waiting if each not in now]
            refused |= dict.fromkeys(later)
            # What cannot be waited for stands for nothing.
            found = dict.fromkeys(each for one in later for each in self._found[one])
            waiting = tuple(each for each in found if each not in seen)
            seen |= found
        if refused:
            self._passed[name] = tuple(refused)
        return list(linked)
