"""The states of a call, and which event each of them allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, final

from dagexec._core.each import item_id
from dagexec._core.events import Added, Closed, Event, Expired, Reopened, Settled, Spread, Started
from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._errors import DagexecError


class Refused(DagexecError):
    """An event came in a state that does not allow it; the machine has not changed."""


class State(Enum):
    """The state of a call; the theory is at the top of `_scheduler`."""

    WAITING = "waiting"
    HELD = "held"
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    SETTLED = "settled"


# Which event takes a call from which states to which. Everything else is refused.
TRANSITIONS: Final[dict[type[Event], tuple[tuple[State, ...], State]]] = {
    Started: ((State.READY,), State.RUNNING),
    Settled: ((State.RUNNING, State.READY, State.STOPPING), State.SETTLED),
    Spread: ((State.READY,), State.WAITING),
}
# Those that every call has; they come alone and are taken by the shortest way.
USUAL: Final = (Started, Settled)
LAUNCHED: Final = (State.READY, State.RUNNING, State.STOPPING)
UNSTARTED: Final = (State.WAITING, State.HELD, State.READY)
LOST: Final = ("failed", "timed_out", "cancelled", "skipped")
# What stands in one batch may name any number of calls; every other event comes alone.
_BATCHED: Final = (Added, Closed, Settled, Reopened)
UNANSWERED: Final = ("pending", "in_doubt")


@final
class Node:
    """A call and where it stands."""

    __slots__ = ("call", "dependants", "eager", "index", "layer", "missing", "state")

    def __init__(self, call: Call, index: float, *, eager: bool) -> None:
        """Take a call that has arrived; nothing is missing yet."""
        self.call = call
        # Position in the order of arrival: the only tie-break there is. The calls for the items of
        # another stand between it and the next one, so theirs is no whole number.
        self.index = index
        self.eager = eager
        self.state = State.WAITING
        # The number of the layer in which it was launched last, and in which it still is.
        self.layer: int | None = None
        # How many of its dependencies have not ended, or have been lost and still keep an order.
        # A lost call goes on counting: what is ordered behind it may start at zero only.
        self.missing = 0
        # Who still waits for it, and whether for its value (True) or only for its end (False).
        # Most have none, and a list for each would be one more thing for the garbage collector.
        self.dependants: list[tuple[Node, bool]] | tuple[()] = ()


def check_batch(
    events: tuple[Event, ...],
    nodes: Mapping[str, Node],
    outcomes: Mapping[str, Outcome],
    *,
    layers: int,
    closed: bool,
) -> None:
    """Raise Refused if the machine as it stands does not allow each event of a batch."""
    seen: dict[str, None] = {}
    for event in events:
        if type(event) is Added:
            call = event.call
            name = call.id
            if closed or name in nodes or name in call.needs or name in call.waits:
                raise Refused(_why_not_added(name, nodes, closed=closed))
        elif len(events) > 1 and not isinstance(event, _BATCHED):
            msg = f"{type(event).__name__} must come alone, not in a batch"
            raise Refused(msg)
        elif isinstance(event, Started | Settled | Spread):
            _check_spread(event, allowed(event, nodes), nodes)
            name = event.call
        elif isinstance(event, Reopened):
            _check_reopened(event, nodes, outcomes)
            name = event.call
        else:
            _check_run(event, layers=layers, closed=closed)
            closed = closed or isinstance(event, Closed)
            continue
        if name in seen:
            msg = f"two events of one batch name call {name!r}"
            raise Refused(msg)
        seen[name] = None


def allowed(event: Started | Settled | Spread, nodes: Mapping[str, Node]) -> Node:
    """Return the call that an event names; raise Refused if its state does not allow the event."""
    node = nodes.get(event.call)
    if node is None or node.state not in TRANSITIONS[type(event)][0]:
        where = "unknown" if node is None else node.state.value
        msg = f"{type(event).__name__} was refused: call {event.call!r} is {where}"
        raise Refused(msg)
    return node


def _check_spread(event: Started | Settled | Spread, node: Node, nodes: Mapping[str, Node]) -> None:
    if not isinstance(event, Spread):
        return
    if not node.call.each:
        msg = f"Spread was refused: call {event.call!r} runs for no items"
        raise Refused(msg)
    taken = next((id_ for id_ in item_ids(event) if id_ in nodes), None)
    orders = all(0 <= earlier < later < event.count for earlier, later in event.ordered)
    if event.count < 0 or taken is not None or not orders:
        why = f"there is a call {taken!r}" if taken is not None else "its numbers are wrong"
        msg = f"Spread of call {event.call!r} was refused: {why}"
        raise Refused(msg)


def item_ids(event: Spread) -> Iterator[str]:
    """Return the ids of the calls for the items."""
    return (item_id(event.call, index) for index in range(event.count))


def _why_not_added(name: str, nodes: Mapping[str, Node], *, closed: bool) -> str:
    if closed:
        return f"call {name!r} was added after the plan was closed"
    if name in nodes:
        return f"call {name!r} was added twice; give each call its own id"
    return f"call {name!r} refers to itself"


def _check_reopened(
    event: Reopened, nodes: Mapping[str, Node], outcomes: Mapping[str, Outcome]
) -> None:
    node, outcome = nodes.get(event.call), outcomes.get(event.call)
    if node is not None and node.state in LAUNCHED:
        return
    if outcome is not None and outcome.status in UNANSWERED and outcome.because is None:
        return
    where = "unknown" if node is None else node.state.value
    where = where if outcome is None else outcome.status
    msg = f"Reopened was refused: call {event.call!r} is {where}"
    raise Refused(msg)


def _check_run(event: Event, *, layers: int, closed: bool) -> None:
    if isinstance(event, Closed) and closed:
        msg = "the plan was closed twice"
        raise Refused(msg)
    if isinstance(event, Expired) and not 0 <= event.layer < layers:
        msg = f"there is no layer {event.layer}"
        raise Refused(msg)
