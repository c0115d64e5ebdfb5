"""Edges that the model did not write: the order of calls that touch the same resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, final

from dagexec._core.plan import Call
from dagexec._tools.resources import Conflicts
from dagexec._tools.tool import Tool


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

    def expect(self, call: Call) -> None:
        """Take note of a call that will be added later: its references count already."""
        self._sources[call.id] = (*call.needs, *call.waits)

    def add(self, call: Call) -> Call:
        """Return the call with its edges to earlier ones."""
        self.expect(call)
        tool = self._tools.get(call.tool)
        if tool is None or call.problem is not None:
            return call
        accesses = tool.resources(call.args)
        earlier = self._conflicts.add(call.id, accesses) if accesses else ()
        known = self._sources[call.id]
        new = [
            name
            for name in earlier
            if name not in known and not _reaches(self._sources, start=name, target=call.id)
        ]
        if not new:
            return call
        self._sources[call.id] = (*known, *new)
        return replace(call, ordered=(*call.ordered, *new))


def _reaches(sources: Mapping[str, tuple[str, ...]], *, start: str, target: str) -> bool:
    """Whether `start` depends on `target`, directly or not."""
    seen: dict[str, None] = {}
    stack = [start]
    while stack:
        for name in sources.get(stack.pop(), ()):
            if name == target:
                return True
            if name not in seen:
                seen[name] = None
                stack.append(name)
    return False
