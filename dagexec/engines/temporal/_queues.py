"""Which queue a tool's calls wait in, and which of its limits the queue carries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

from dagexec import DagexecError, Tool
from dagexec.limits import Limiter, MemoryStore
from dagexec.lowlevel import limiters_of

# Starts in a second. A queue has four parts, each of which keeps to a quarter of its rate: below
# this it is several times slower than it is told to be.
_SLOWEST: Final = 0.5


@final
@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A task queue: the last part of its name, and how many calls it lets go in a second."""

    part: str
    per_second: float | None = None


def queues_of(
    tools: Iterable[Tool[..., Any]], given: Mapping[str, str]
) -> tuple[dict[str, QueueSpec], dict[str, Tool[..., Any]]]:
    """Return the queue of each tool by name, and the tools as workers are to run them.

    `given` are queues by tool. Each limiter has a queue of its own, whose rate counts for all
    machines together; one that says itself how processes share it, by `peers=` or `store=`, stays
    with its tool. Raises DagexecError for limits that neither way can keep.
    """
    queues: dict[str, QueueSpec] = {}
    made: dict[str, Tool[..., Any]] = {}
    for tool in tools:
        part = given.get(tool.name, "")
        queues[tool.name], made[tool.name] = QueueSpec(part), tool
        limiters = [each for each in limiters_of(tool) if not each.unlimited]
        if not limiters or all(_is_shared(each) for each in limiters):
            continue
        queues[tool.name] = _queue(tool, part, limiters)
        made[tool.name] = replace(tool, limits=())
    for name in given:
        if name not in queues:
            msg = f"queues= names {name!r}, and there is no such tool"
            raise DagexecError(msg)
    _check_names(queues.values())
    return queues, made


def _is_shared(limiter: Limiter) -> bool:
    # A store in memory is that of one process.
    elsewhere = limiter.store is not None and not isinstance(limiter.store, MemoryStore)
    return elsewhere or limiter.peers != 1


def _queue(tool: Tool[..., Any], part: str, limiters: list[Limiter]) -> QueueSpec:
    if len(limiters) > 1 or tool.cost is not None:
        raise _refusal(tool, "it has several limiters" if len(limiters) > 1 else "it has a cost")
    limiter = limiters[0]
    others = [name for name in limiter.rates if name != "requests"]
    if others:
        raise _refusal(tool, f"{limiter.key!r} counts {others[0]!r}")
    if limiter.ledger.in_flight != math.inf:
        raise _refusal(tool, f"{limiter.key!r} caps the calls in flight")
    rate = limiter.rates["requests"]
    # A queue lets go at once what it saved in a second: with that, no `per` seconds have too much.
    pace = rate.limit / (rate.per + 1)
    if pace < _SLOWEST:
        raise _refusal(tool, f"{limiter.key!r} lets less than one call go in two seconds")
    return QueueSpec(f"{part}:{limiter.key}" if part else f":{limiter.key}", pace)


def _check_names(queues: Iterable[QueueSpec]) -> None:
    found: dict[str, QueueSpec] = {}
    for queue in queues:
        if found.setdefault(queue.part, queue) != queue:
            msg = (
                f"two queues are called {queue.part!r}, with other limits: use one limiter for both"
                " tools, or give one of them another key"
            )
            raise DagexecError(msg)


def _refusal(tool: Tool[..., Any], why: str) -> DagexecError:
    msg = (
        f"the limits of tool {tool.name!r} cannot be carried by a queue: {why}, and a queue of"
        " Temporal knows one rate of calls in a second; give the limiter peers= (the number of"
        " workers) or a store=, and each worker keeps to its part"
    )
    return DagexecError(msg)
