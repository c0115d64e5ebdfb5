"""The states of a call, and which event each of them allows."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, final

from dagexec._core.events import Added, Closed, Event, Expired, Reopened, Settled, Started
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
}
LAUNCHED: Final = (State.READY, State.RUNNING, State.STOPPING)
UNSTARTED: Final = (State.WAITING, State.HELD, State.READY)
LOST: Final = ("failed", "timed_out", "cancelled", "skipped")
# What stands in one batch may name any number of calls; every other event comes alone.
_BATCHED: Final = (Added, Closed, Settled, Reopened)
UNANSWERED: Final = ("pending", "in_doubt")


@final
class Node:
    """A call and where it stands."""

    __slots__ = ("call", "dependants", "eager", "index", "missing", "state")

    def __init__(self, call: Call, index: int, *, eager: bool) -> None:
        """Take a call that has arrived; nothing is missing yet."""
        self.call = call
        # Position in the order of arrival: the only tie-break there is.
        self.index = index
        self.eager = eager
        self.state = State.WAITING
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
        elif isinstance(event, Started | Settled):
            allowed(event, nodes)
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


def allowed(event: Started | Settled, nodes: Mapping[str, Node]) -> Node:
    """Return the call that an event names; raise Refused if its state does not allow the event."""
    node = nodes.get(event.call)
    if node is None or node.state not in TRANSITIONS[type(event)][0]:
        where = "unknown" if node is None else node.state.value
        msg = f"{type(event).__name__} was refused: call {event.call!r} is {where}"
        raise Refused(msg)
    return node


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
