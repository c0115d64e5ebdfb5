"""Which queue a tool's calls wait in, and which of its limits the queue carries."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, final

from dagexec import DagexecError, Tool
from dagexec.limits import Limiter, MemoryStore
from dagexec.lowlevel import limiters_of


@final
@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue: how many of its calls may run at a time, everywhere, and how many in what time."""

    name: str
    in_flight: int | None = None
    # So many starts in so many seconds.
    rate: tuple[int, float] | None = None


def queues_of(
    engine: str, tools: Iterable[Tool[..., Any]]
) -> tuple[dict[str, QueueSpec], dict[str, Tool[..., Any]]]:
    """Return the queue of each tool by name, and the tools as workers are to run them.

    All tools without limits share one queue; each limiter has one of its own, which counts for all
    machines together. A limiter that says itself how processes share it, by `peers=` or `store=`,
    stays with the tool and works in each worker. Raises DagexecError for limits that neither way
    can keep.
    """
    shared = QueueSpec(f"dagexec:{engine}")
    queues: dict[str, QueueSpec] = {}
    made: dict[str, Tool[..., Any]] = {}
    for tool in tools:
        queues[tool.name], made[tool.name] = shared, tool
        limiters = [each for each in limiters_of(tool) if not each.unlimited]
        if not limiters or all(_is_shared(each) for each in limiters):
            continue
        if len(limiters) > 1 or tool.cost is not None:
            what = "a cost" if len(limiters) == 1 else "several limiters"
            raise _refusal(tool, f"it has {what}")
        queues[tool.name] = _queue(engine, tool, limiters[0])
        made[tool.name] = replace(tool, limits=())
    _check_names(queues.values())
    return queues, made


def _is_shared(limiter: Limiter) -> bool:
    # A store in memory is that of one process.
    elsewhere = limiter.store is not None and not isinstance(limiter.store, MemoryStore)
    return elsewhere or limiter.peers != 1


def _queue(engine: str, tool: Tool[..., Any], limiter: Limiter) -> QueueSpec:
    others = [name for name in limiter.rates if name != "requests"]
    if others:
        raise _refusal(tool, f"{limiter.key!r} counts {others[0]!r}")
    in_flight = limiter.ledger.in_flight
    rate = limiter.rates.get("requests")
    pace = None
    if rate is not None:
        # A window of this length with so many starts in it never lets more through than the bucket.
        burst = rate.limit if rate.burst is None else rate.burst
        count = max(1, math.floor(burst))
        pace = (count, rate.per * count / rate.limit)
    return QueueSpec(
        f"dagexec:{engine}:{limiter.key}",
        None if in_flight == math.inf else int(in_flight),
        pace,
    )


def _check_names(queues: Iterable[QueueSpec]) -> None:
    found: dict[str, QueueSpec] = {}
    for queue in queues:
        if found.setdefault(queue.name, queue) != queue:
            key = queue.name.rpartition(":")[2]
            msg = f"two limiters with other limits are called {key!r}: use one for both tools"
            raise DagexecError(msg)


def _refusal(tool: Tool[..., Any], why: str) -> DagexecError:
    msg = (
        f"the limits of tool {tool.name!r} cannot be carried by a queue: {why}, and a queue of DBOS"
        " counts calls, by one rate and one cap; give the limiter peers= (the number of workers) or"
        " a store=, and each worker keeps to its part"
    )
    return DagexecError(msg)
