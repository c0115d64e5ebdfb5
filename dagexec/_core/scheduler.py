"""The scheduler: a machine that decides and never waits.

Events go in, actions come out, all through `Scheduler.receive`. It has no clock, no I/O, no
randomness, and it never iterates over a set: the same events give the same actions, on any engine
and after a crash. In what order calls end is an input, never recomputed.

The states of a call:

    waiting ──> held ──> ready ──> running ──> settled
       │          │        │          └──> stopping ──┘
       └──────────┴────────┴──> settled

* waiting: it depends on calls that have not ended, or that have not arrived yet.
* held: nothing is missing, but it must not be launched yet: its effect has to wait for the end of
  the stream, or a barrier for the end of the layer before.
* ready: launched in a layer, not yet admitted by the driver.
* running: admitted; from here on it may have effects.
* stopping: asked to stop. It may still return, and then what happened is its outcome.
* settled: it has its outcome, exactly one.

`Spread` leads from ready back to waiting: the call has become a call for each item of a list, and
waits for their ends. What they became is its outcome. `Reopened` leads back to held: from ready,
running, stopping, and settled as pending or in doubt.

Rules that hold for every driver:

1. A ready layer is what one batch of events made ready, in plan order; layers are numbered from 0
   in the order of their launch. A call is launched at most once, and once more each time that it
   is reopened.
2. A failure skips what needs the call, directly or not, and nothing else; the skip names the call
   that failed first. With `on_failure="stop"` it cancels all that has not ended.
3. A call that waits for a person keeps its dependants waiting; they become pending only when
   nothing else is left, so that the order of completions cannot change any outcome. `Reopened`
   takes that back and launches the call again.
4. After `Stop` nothing is launched that is not reopened, and each running call is aborted once.
5. An event that the state does not allow raises `Refused`, and nothing has changed. A batch is
   taken or refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast, final

from dagexec._core.each import calls_of, gathered, item_targets
from dagexec._core.events import (
    Abort,
    Action,
    Added,
    Closed,
    Conclude,
    Event,
    Expired,
    Finish,
    Launch,
    Reopened,
    Settled,
    Spread,
    Started,
    Stop,
)
from dagexec._core.names import Names
from dagexec._core.outcomes import Cancelled, Failed, Outcome, Pending, Skipped, TimedOut
from dagexec._core.plan import NAMED, cycles, unknown_reference
from dagexec._core.standing import Standing, blame, by_index
from dagexec._core.states import (
    LOST,
    TRANSITIONS,
    UNANSWERED,
    UNSTARTED,
    USUAL,
    Node,
    Refused,
    State,
    allowed,
    check_batch,
)
from dagexec._errors import BadReference, CallError, Problem

__all__ = [
    "Abort",
    "Action",
    "Added",
    "Closed",
    "Conclude",
    "Event",
    "Expired",
    "Finish",
    "Launch",
    "Refused",
    "Reopened",
    "Scheduler",
    "Settled",
    "Spread",
    "Started",
    "State",
    "Stop",
]


@final
class Scheduler(Standing):
    """The machine. `on_failure` is "skip" or "stop"; with `barrier` layers never overlap."""

    def __init__(self, *, on_failure: str = "skip", barrier: bool = False) -> None:
        """Start with no calls, open for `Added`."""
        super().__init__()
        self.stops_on_failure = on_failure == "stop"
        self._barrier = barrier
        # Calls that others depend on and that have not arrived.
        self._expected: dict[str, list[tuple[Node, bool]]] = {}
        # Whether a call ever depended on one that had not arrived: without that, no cycle.
        self._looks_ahead = False
        # Nothing is missing for these; they wait for the end of the batch, stream or layer.
        self._free: list[Node] = []
        self._layers: list[list[Node]] = []
        # Calls that became pending because of another.
        self._suspended: list[Node] = []
        # Calls launched and not settled. Zero with calls left means that only a person, or a call
        # that has not arrived, can free them.
        self._active = 0
        self._actions: list[Action] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Added: self._on_added,
            Closed: self._on_closed,
            Settled: self._on_settled,
            Expired: self._on_expired,
            Stop: self._on_stop,
            Reopened: self._on_reopened,
            Spread: self._on_spread,
        }

    def receive(self, *events: Event) -> list[Action]:
        """Take a batch of events and return what to do now.

        Several `Added`, `Closed`, `Settled` and `Reopened` may come in one batch, and what they
        make ready together is one layer; each other event comes alone. Raises Refused, with nothing
        changed, if the state does not allow one of them.
        """
        actions: list[Action] = []
        # Every call has two events that come alone, so what they do not need is left out.
        if len(events) == 1 and (kind := type(event := events[0])) in USUAL:
            node = allowed(event, self._nodes)  # type: ignore[arg-type]
            if kind is Started:
                node.state = TRANSITIONS[kind][1]
                return actions  # nothing follows from it
            self._actions = actions
            self._active -= 1
            self._settle(node, event.outcome)  # type: ignore[union-attr]
        else:
            check_batch(
                events,
                self._nodes,
                self._outcomes,
                layers=len(self._layers),
                closed=self._closed,
            )
            self._actions = actions
            for event in events:
                self._handlers[type(event)](event)
        if self.stops_on_failure:
            self._apply_policy(events)
        if self._free:
            self._launch()
        if not self._active:
            self._end()
        return actions

    # --------------------------------------------------------------------------- handlers of events

    def _on_added(self, event: Added) -> None:
        call = event.call
        node = Node(call, len(self._nodes), eager=event.eager)
        self._nodes[call.id] = node
        if self._expected:
            node.dependants = self._expected.pop(call.id, [])
        if call.problem is not None:
            self._conclude(node, Failed(CallError(call.problem)))
            return
        if not call.needs and not call.waits:
            self._free_up(node)
            return
        lost = self._depend_on_all(node)
        if lost and not self.stops_on_failure:
            self._conclude(node, Skipped(self._first(lost)))
        elif node.missing == 0:
            self._free_up(node)

    def _depend_on_all(self, node: Node) -> list[str]:
        """Add the dependencies of a call; return the calls to blame for those that are lost."""
        lost: list[str] = []
        call = node.call
        for name in call.needs:
            self._depend(node, name, lost, hard=True)
        for name in call.waits:
            self._depend(node, name, lost, hard=False)
        return lost

    def _depend(  # noqa: C901 - each frame costs
        self, node: Node, name: str, lost: list[str], *, hard: bool
    ) -> None:
        """Add a dependency; append the call to blame to `lost` if it was lost already."""
        source = self._nodes.get(name)
        if source is None:
            self._expected.setdefault(name, []).append((node, hard))
            self._looks_ahead = True
            node.missing += 1
            return
        if self._items and self._depend_on_items(node, source, lost, hard=hard):
            return
        outcome = self._outcomes.get(name)
        if outcome is not None:
            if outcome.status == "done":
                return
            if outcome.status in LOST:
                if hard:
                    lost.append(blame(name, outcome))
                if source.missing == 0 or not _keeps(source, node, hard=hard):
                    return
        if source.dependants:
            source.dependants.append((node, hard))
        else:
            source.dependants = [(node, hard)]
        node.missing += 1

    def _depend_on_items(self, node: Node, source: Node, lost: list[str], *, hard: bool) -> bool:
        """Add dependencies on single items of a call; return whether that is all it refers to."""
        items = self._items.get(source.call.id)
        if not items:
            return False
        targets = item_targets(node.call, source.call.id)
        if targets is None or any(index >= len(items) for index in targets):
            return False
        for index in targets:
            self._depend(node, items[index].call.id, lost, hard=hard)
        return True

    def _on_closed(self, _event: Closed) -> None:
        self._closed = True
        # Cycles first: a call in one that also refers to a missing call is reported for the cycle.
        # A lost call that still keeps an order can close one too.
        faulty: dict[str, str] = {}
        groups: list[list[str]] = []
        for problem in self._cycles():
            groups.append([str(problem.call), *problem.also])
            for name in groups[-1]:
                faulty[name] = problem.message
        expected, self._expected = self._expected, {}
        names = Names(self._nodes, NAMED)
        for name, dependants in expected.items():
            for node, _ in dependants:
                problem = unknown_reference(node.call.id, name, names)
                faulty.setdefault(node.call.id, problem.message)
        # All are recorded before any dependant is skipped: each hears of its own fault.
        nodes = [self._nodes[name] for name in faulty]
        nodes = [node for node in nodes if node.state in UNSTARTED]
        for node in nodes:
            self._record(node, Failed(BadReference(faulty[node.call.id])))
        self._lose([(node, node.call.id) for node in nodes])
        # What will never come, and what waits for itself, keeps no order.
        self._release([node for dependants in expected.values() for node, _ in dependants])
        self._release([node for group in groups for node in self._cut(group)])

    def _cut(self, group: list[str]) -> list[Node]:
        """Take the edges inside a cycle away; return the calls that waited, once for each edge."""
        members = dict.fromkeys(group)
        freed: list[Node] = []
        for name in group:
            source = self._nodes[name]
            freed.extend(node for node, _ in source.dependants if node.call.id in members)
            source.dependants = [
                each for each in source.dependants if each[0].call.id not in members
            ]
        return freed

    def _cycles(self) -> list[Problem]:
        if not self._looks_ahead:
            return []
        return cycles(node.call for node in self._nodes.values() if node.missing)

    def _on_spread(self, event: Spread) -> None:
        """Put a call for each item behind a ready call, which waits for them."""
        parent = self._nodes[event.call]
        self._active -= 1
        parent.state = State.WAITING
        parent.layer = None  # its items are in the layers in which they are launched
        step = 1 / (event.count + 1)
        items: list[Node] = []
        for index, call in enumerate(calls_of(parent.call, event.count, event.ordered)):
            item = Node(call, parent.index + (index + 1) * step, eager=True)
            self._nodes[call.id] = item
            item.dependants = [(parent, False)]
            items.append(item)
        self._items[event.call] = tuple(items)
        parent.missing = len(items)
        self._retarget(parent)
        for item in items:
            self._depend_on_all(item)  # what they refer to has ended
            if item.missing == 0:
                self._free_up(item)
        if not items and self._gather(parent):
            self._release(_take_dependants(parent))

    def _retarget(self, parent: Node) -> None:
        """Let those that refer to single items wait for these instead of for the whole call."""
        items = self._items[parent.call.id]
        kept: list[tuple[Node, bool]] = []
        for dependant, hard in parent.dependants:
            targets = item_targets(dependant.call, parent.call.id)
            if targets is None or any(index >= len(items) for index in targets):
                kept.append((dependant, hard))
                continue
            dependant.missing += len(targets) - 1
            for index in targets:
                # A list, because the call that it belongs to waits for it.
                cast("list[tuple[Node, bool]]", items[index].dependants).append((dependant, hard))
        parent.dependants = kept

    def _on_settled(self, event: Settled) -> None:
        self._active -= 1
        self._settle(self._nodes[event.call], event.outcome)

    def _on_expired(self, event: Expired) -> None:
        left = [node for node in self._layers[event.layer] if node.layer == event.layer]
        self._abandon(left, TimedOut("layer"))

    def _on_stop(self, event: Stop) -> None:
        if self._stopped or self._finished:
            return
        self._stopped = True
        self._closed = True
        self._abandon(self._nodes.values(), event.outcome)

    def _on_reopened(self, event: Reopened) -> None:
        node = self._nodes[event.call]
        # An answer is worth as much behind a deadline as before it.
        self._finished = self._stopped = False
        if node.state is State.SETTLED:
            del self._outcomes[event.call]
            self._wake()
        else:
            self._active -= 1
        node.layer = None  # it belongs to the one in which it is launched again
        self._free_up(node)

    def _wake(self) -> None:
        """Take back what `_suspend` did: it would do it again if it has to."""
        for node in self._suspended:
            node.state = State.WAITING
            del self._outcomes[node.call.id]
        self._suspended = []

    # --------------------------------------------------------------------------------- consequences

    def _settle(self, node: Node, outcome: Outcome) -> None:
        node.state = State.SETTLED
        self._outcomes[node.call.id] = outcome
        status = outcome.status
        if status == "done":
            if node.dependants:
                waiting, node.dependants = node.dependants, ()
                self._release([each for each, _ in waiting])
        elif status not in UNANSWERED:
            self._lose([(node, blame(node.call.id, outcome))])

    def _release(self, nodes: list[Node]) -> None:
        """Count one dependency less for each of `nodes`; a lost one hands this on at zero."""
        for node in nodes:
            node.missing -= 1
            if node.missing:
                continue
            if node.state is not State.WAITING:
                nodes.extend(_take_dependants(node))
            elif not self._items or node.call.id not in self._items:
                node.state = State.HELD
                self._free.append(node)
            elif self._gather(node):
                nodes.extend(_take_dependants(node))

    def _gather(self, node: Node) -> bool:
        """Conclude a call whose items have all ended; return whether all are done."""
        items = self._items[node.call.id]
        found = [(item.call.id, self._outcomes[item.call.id]) for item in items]
        outcome = gathered(found)
        self._record(node, outcome)
        if outcome.status == "done":
            return True
        self._lose([(node, node.call.id)])
        return False

    def _lose(self, lost: list[tuple[Node, str]]) -> None:
        """Skip what needs these lost calls, and what needs that; chains are long, so by a loop.

        Calls that conflict on a resource form a chain of neighbours; one that is lost must not
        break the chain between those before and after it. So what is `ordered` behind it goes on
        waiting for all that the lost call waited for.
        """
        if self.stops_on_failure and not self._stopped:
            return  # the policy ends all that is left when the batch is through
        released: list[Node] = []
        self._blame(lost)
        for each, culprit in lost:
            kept: list[tuple[Node, bool]] = []
            for dependant, hard in each.dependants:
                if not _keeps(each, dependant, hard=hard):
                    released.append(dependant)
                    continue
                kept.append((dependant, hard))
                if hard and dependant.state in UNSTARTED:
                    self._record(dependant, Skipped(culprit))
                    lost.append((dependant, culprit))
            each.dependants = kept
        for each, _ in lost:
            if each.missing == 0:
                released.extend(_take_dependants(each))
        # Only now: nothing may become free that the loop had still to skip.
        self._release(released)

    def _record(self, node: Node, outcome: Outcome) -> None:
        """Give an unstarted call its outcome, and say so."""
        if node.state is State.READY:
            self._active -= 1
        node.state = State.SETTLED
        self._outcomes[node.call.id] = outcome
        self._actions.append(Conclude(node.call.id, outcome))

    def _conclude(self, node: Node, outcome: Outcome) -> None:
        self._record(node, outcome)
        self._lose([(node, blame(node.call.id, outcome))])

    def _abandon(self, nodes: Iterable[Node], outcome: Outcome) -> None:
        """End all of `nodes` that have not ended: abort what runs, conclude what never started."""
        running: list[Node] = []
        unstarted: list[Node] = []
        for node in nodes:
            if node.state is State.RUNNING:
                node.state = State.STOPPING
                running.append(node)
            elif node.state in UNSTARTED:
                unstarted.append(node)
        # All are recorded before any dependant is skipped: what is inside the scope is timed out
        # even where it also depends on another call inside it.
        for node in unstarted:
            self._record(node, outcome)
        self._lose([(node, blame(node.call.id, outcome)) for node in unstarted])
        if running:
            self._actions.append(Abort(tuple(node.call.id for node in running), outcome))

    def _free_up(self, node: Node) -> None:
        node.state = State.HELD
        self._free.append(node)

    # ------------------------------------------------------------------------- the end of a batch

    def _apply_policy(self, events: tuple[Event, ...]) -> None:
        for item in (*events, *self._actions):
            if isinstance(item, Settled | Conclude) and item.outcome.status in LOST:
                self._on_stop(Stop(Cancelled(because=blame(item.call, item.outcome))))
                return

    def _launch(self) -> None:
        if self._stopped or (self._barrier and self._active):
            return
        layer, self._free = self._free, []
        if not self._closed:
            self._free = [node for node in layer if not node.eager]
            layer = [node for node in layer if node.eager]
        if not layer:
            return
        if len(layer) > 1:
            layer.sort(key=by_index)
        number = len(self._layers)
        names: list[str] = []
        for node in layer:
            node.state = State.READY
            node.layer = number
            names.append(node.call.id)
        self._active += len(layer)
        self._actions.append(Launch(number, tuple(names)))
        self._layers.append(layer)

    def _end(self) -> None:
        if self._finished or not self._closed:
            return
        if len(self._outcomes) < len(self._nodes):
            self._suspend()
        self._finished = True
        self._actions.append(Finish())

    def _suspend(self) -> None:
        """Nothing runs and calls are left: they wait for those that wait for a person."""
        waiting = [
            (node, blame(node.call.id, outcome))
            for node in self._nodes.values()
            if (outcome := self._outcomes.get(node.call.id)) is not None
            and outcome.status in UNANSWERED
        ]
        passed: dict[str, None] = {}
        for node, culprit in waiting:
            for dependant, _ in node.dependants:
                name = dependant.call.id
                if name in passed:
                    continue
                passed[name] = None
                if dependant.state in UNSTARTED:
                    self._record(dependant, Pending(because=culprit))
                    self._suspended.append(dependant)
                # Also through a lost call, which stands between two that keep an order.
                waiting.append((dependant, culprit))


def _keeps(source: Node, dependant: Node, *, hard: bool) -> bool:
    """Whether a lost call may still hold a dependant back; a default is there at once."""
    return hard or source.call.id in dependant.call.ordered


def _take_dependants(node: Node) -> list[Node]:
    dependants, node.dependants = node.dependants, ()
    return [dependant for dependant, _ in dependants]
