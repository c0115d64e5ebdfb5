"""Where the calls of a run stand: what a driver of the machine may read.

All of it is derived from the events so far. The scheduler, which stands above, keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator

from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._core.states import Node, State


class Standing:
    """The calls that have arrived, their states and outcomes, and those of the run."""

    def __init__(self) -> None:
        """Begin without calls."""
        # By id, in the order of arrival.
        self._nodes: dict[str, Node] = {}
        # The calls for the items of each call that has become those.
        self._items: dict[str, tuple[Node, ...]] = {}
        # In the order in which calls ended.
        self._outcomes: dict[str, Outcome] = {}
        # Calls to blame for losses, each with how many there were before it.
        self._losses: dict[str, int] = {}
        self._closed = False
        self._stopped = False
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether every call has its outcome and no call can come."""
        return self._finished

    @property
    def closed(self) -> bool:
        """Whether the plan is complete."""
        return self._closed

    @property
    def stopped(self) -> bool:
        """Whether the run was stopped."""
        return self._stopped

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The outcomes so far, in the order in which calls ended. Not to be changed."""
        return self._outcomes

    @property
    def calls(self) -> Iterator[Call]:
        """The calls that have arrived, in order; those for items stand behind their call."""
        nodes = self._nodes.values()
        if not self._items:
            return (node.call for node in nodes)
        # As if they had been written in the place of the call that they are of.
        return (node.call for node in sorted(nodes, key=by_index))

    def items(self, name: str) -> list[Call]:
        """Return the calls for the items of a call, none as long as it has not become those."""
        return [item.call for item in self._items.get(name, ())]

    @property
    def has_items(self) -> bool:
        """Whether a call became calls for its items."""
        return bool(self._items)

    def knows(self, name: str) -> bool:
        """Whether a call with this id has arrived."""
        return name in self._nodes

    def place(self, name: str) -> float:
        """Return where a call stands in the order of arrival; raise KeyError for an unknown one."""
        return self._nodes[name].index

    def call(self, name: str) -> Call:
        """Return the call with this id; raise KeyError for an unknown one."""
        return self._nodes[name].call

    def state(self, name: str) -> State:
        """Return the state of a call; raise KeyError for an unknown one."""
        return self._nodes[name].state

    def ready(self, name: str) -> Call | None:
        """Return the call with this id if it is ready, else None; raise KeyError if unknown."""
        node = self._nodes[name]
        return node.call if node.state is State.READY else None

    def _blame(self, lost: list[tuple[Node, str]]) -> None:
        for _, culprit in lost:
            self._losses.setdefault(culprit, len(self._losses))

    def _first(self, culprits: list[str]) -> str:
        """Return the call that failed first."""
        if len(culprits) == 1:
            return culprits[0]
        return min(culprits, key=lambda name: self._losses.get(name, len(self._losses)))

    def missing(self, name: str) -> tuple[str, ...]:
        """Return the dependencies of a call, or its items, that have not ended, or not arrived."""
        node = self._nodes[name]
        items = [item.call.id for item in self._items.get(name, ())]
        needed = items or (*node.call.needs, *node.call.waits)
        return tuple(each for each in needed if each not in self._outcomes)


def by_index(node: Node) -> float:
    """Return a call's position in the order of arrival, to sort by."""
    return node.index


def blame(name: str, outcome: Outcome) -> str:
    """Return the call that failed first, given one that was lost: itself, unless it was skipped."""
    return outcome.because if outcome.status in ("skipped", "pending") and outcome.because else name
