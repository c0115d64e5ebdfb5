"""Edges that the model did not write: the order of calls that touch the same resource."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dagexec._resources import Conflicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dagexec._plan import Call
    from dagexec._tools import Tool


def order_conflicts(calls: Iterable[Call], tools: Mapping[str, Tool[..., Any]]) -> list[Call]:
    """Return the calls with `ordered` edges between those that conflict on a resource.

    Of two calls of which one writes what the other touches, the one further down waits until the
    other has ended. A reference the other way round is stronger: then there is no such edge.
    """
    conflicts = Conflicts()
    given = list(calls)
    sources = {call.id: (*call.needs, *call.waits) for call in given}
    result: list[Call] = []
    for call in given:
        tool = tools.get(call.tool)
        accesses = tool.resources(call.args) if tool is not None and call.problem is None else ()
        earlier = conflicts.add(call.id, accesses) if accesses else ()
        known = sources[call.id]
        new = [
            name
            for name in earlier
            if name not in known and not _reaches(sources, start=name, target=call.id)
        ]
        if new:
            sources[call.id] = (*known, *new)
            call = replace(call, ordered=(*call.ordered, *new))  # noqa: PLW2901
        result.append(call)
    return result


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
