"""The scheduler against a model that works everything out again, from the plan and the outcomes.

The model keeps no counters and no lists of dependants. After each event it asks of every call, by
looking at all others: must it be skipped, may it be launched, what holds it back?
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dagexec._core.outcomes import (
    Cancelled,
    Done,
    Failed,
    InDoubt,
    Outcome,
    Pending,
    Skipped,
    TimedOut,
)
from dagexec._core.plan import Call
from dagexec._core.refs import Ref
from dagexec._core.scheduler import (
    Abort,
    Added,
    Closed,
    Conclude,
    Event,
    Expired,
    Finish,
    Launch,
    Refused,
    Scheduler,
    Settled,
    Started,
    State,
    Stop,
)
from dagexec._errors import BadReference, CallError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = "abcdefgh"
LOST = ("failed", "timed_out", "cancelled", "skipped")
WAITS_FOR_A_PERSON = ("pending", "in_doubt")
ENDS = [
    *(Done(value) for value in range(6)),
    Failed(ValueError("no")),
    Failed(ValueError("never")),
    TimedOut("call"),
    Cancelled(),
    Pending("may I?"),
    InDoubt(),
]
OUTCOMES = st.sampled_from(ENDS)
STOPS = st.sampled_from([Cancelled(), TimedOut("turn"), TimedOut("workflow")])


class Model:
    """What must be true, by brute force."""

    def __init__(self, *, stop_on_failure: bool, barrier: bool) -> None:
        self.stop_on_failure = stop_on_failure
        self.barrier = barrier
        self.calls: dict[str, Call] = {}
        self.eager: dict[str, bool] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.when: dict[str, int] = {}
        self.clock = 0
        self.state: dict[str, str] = {}
        self.layers: list[tuple[str, ...]] = []
        self.cut: list[tuple[str, str]] = []
        self.closed = self.stopped = self.finished = False

    # What a call waits for.

    def edges(self, name: str) -> Iterator[tuple[str, str]]:
        call = self.calls[name]
        if call.problem is not None:
            return
        hard = {ref.call for ref in call.refs if repr(ref.default) == repr(Ref("x").default)}
        hard |= set(call.after)
        for ref in call.refs:
            if ref.call not in hard and ref.call not in call.ordered:
                yield ref.call, "default"
        for each in sorted(hard):
            yield each, "hard"
        for each in call.ordered:
            if each not in hard:
                yield each, "ordered"

    def lost(self, name: str) -> bool:
        return name in self.outcomes and self.outcomes[name].status in LOST

    def holders(self, name: str, path: tuple[str, ...] = ()) -> list[str]:
        """Return what keeps `name` from starting, or from letting go what is ordered behind it."""
        found = []
        for source, kind in self.edges(name):
            if (source, name) in self.cut:
                continue
            if source not in self.calls:
                if not self.closed:
                    found.append(source)
            elif source not in self.outcomes or self.is_person(source):
                found.append(source)
            elif self.lost(source) and kind != "default":
                around = source in (*path, name)
                if around or self.holders(source, (*path, name)):
                    found.append(source)
        return found

    def culprits(self, name: str) -> list[str]:
        """Return the calls to blame for a loss of what `name` needs, the earliest only."""
        roots: list[str] = []
        for source, kind in self.edges(name):
            if kind == "hard" and self.lost(source):
                outcome = self.outcomes[source]
                skipped = outcome.status == "skipped"
                roots.append(str(outcome.because) if skipped else source)
        first = min((self.when[root] for root in roots), default=None)
        return [root for root in roots if self.when[root] == first]

    def unsettled(self, *states: str) -> list[str]:
        return [
            name
            for name in self.calls
            if name not in self.outcomes and (not states or self.state[name] in states)
        ]

    # What an event does. `given` holds what the machine concluded: only choices that the rules
    # leave open are read from it, everything else is compared with it.

    def receive(self, events: tuple[Event, ...], given: dict[str, Outcome]) -> list[object]:
        self.concluded: dict[str, Outcome] = {}
        self.aborted: tuple[str, ...] = ()
        blamed: list[str] = []
        for event in events:
            self.clock += 1
            self.apply(event)
            self.skip(given)
            if isinstance(event, Settled) and self.lost(event.call):
                blamed.append(self.outcomes[event.call].because or event.call)
        self.policy(blamed[:1], given)
        expected: list[object] = []
        active = self.unsettled("ready", "running", "stopping")
        ready = [] if self.stopped or (self.barrier and active) else self.launchable()
        if ready:
            expected.append(Launch(len(self.layers), tuple(ready)))
            self.layers.append(tuple(ready))
            self.state.update(dict.fromkeys(ready, "ready"))
        if self.closed and not self.finished and not self.unsettled("ready", "running", "stopping"):
            self.suspend()
            self.finished = True
            expected.append(Finish())
        return expected

    def end(self, name: str, outcome: Outcome, *, concluded: bool = True) -> None:
        assert name not in self.outcomes
        self.outcomes[name] = outcome
        self.when[name] = self.clock
        if concluded:
            self.concluded[name] = outcome

    def apply(self, event: Event) -> None:
        match event:
            case Added(call, eager):
                self.calls[call.id] = call
                self.eager[call.id] = eager
                self.state[call.id] = "waiting"
                if call.problem is not None:
                    self.end(call.id, Failed(CallError(call.problem)))
            case Closed():
                self.close()
            case Started(call):
                self.state[call] = "running"
            case Settled(call, outcome):
                self.end(call, outcome, concluded=False)
            case Expired(layer):
                self.abandon(list(self.layers[layer]), TimedOut("layer"))
            case Stop(outcome):
                self.stop(outcome)

    def stop(self, outcome: Outcome) -> None:
        if self.stopped or self.finished:
            return
        self.stopped = self.closed = True
        self.abandon(list(self.calls), outcome)

    def abandon(self, names: list[str], outcome: Outcome) -> None:
        left = [name for name in names if name not in self.outcomes]
        for name in left:
            if self.state[name] in ("waiting", "ready"):
                self.end(name, outcome)
        running = tuple(name for name in left if self.state[name] == "running")
        self.state.update(dict.fromkeys(running, "stopping"))
        self.aborted += running

    def close(self) -> None:
        held = [
            name
            for name in self.calls
            if self.holders(name) and self.state[name] == "waiting"
            if not self.is_person(name)
        ]
        reach = {name: self.reach(name, held) for name in held}
        circular = [name for name in held if name in reach[name]]
        unknown = [
            name
            for name in self.unsettled()
            if any(source not in self.calls for source, _ in self.edges(name))
        ]
        self.closed = True
        for name in [*circular, *(name for name in unknown if name not in circular)]:
            if name not in self.outcomes:
                text = "cycle" if name in circular else "no such call"
                self.end(name, Failed(BadReference(text)))
        self.cut = [(a, b) for a in circular for b in circular if a in reach[b] and b in reach[a]]

    def is_person(self, name: str) -> bool:
        return name in self.outcomes and self.outcomes[name].status in WAITS_FOR_A_PERSON

    def reach(self, start: str, among: list[str]) -> list[str]:
        seen: list[str] = []
        stack = [start]
        while stack:
            for source, _ in self.edges(stack.pop()):
                if source in among and source not in seen:
                    seen.append(source)
                    stack.append(source)
        return seen

    def skip(self, given: dict[str, Outcome]) -> None:
        if self.stop_on_failure:
            return
        before = None
        while before != len(self.outcomes):
            before = len(self.outcomes)
            for name in self.unsettled("waiting"):
                allowed = self.culprits(name)
                if allowed:
                    chosen = given[name].because if name in given else None
                    assert chosen in allowed, f"{name}: blamed {chosen}, not one of {allowed}"
                    self.end(name, Skipped(chosen))

    def policy(self, blamed: list[str], given: dict[str, Outcome]) -> None:
        if not self.stop_on_failure or self.stopped:
            return
        own = [name for name in self.concluded if self.lost(name)]
        if not blamed and not own:
            return
        chosen = {each.because for each in given.values() if each.status == "cancelled"} - {None}
        allowed = blamed or own
        culprit = next(iter(chosen)) if chosen else allowed[0]
        assert culprit in allowed
        self.stop(Cancelled(because=culprit))

    def launchable(self) -> list[str]:
        return [
            name
            for name in self.unsettled("waiting")
            if (self.closed or self.eager[name]) and not self.holders(name)
        ]

    def suspend(self) -> None:
        """Each call left is pending because of the nearest person's call, the first of equals."""
        people = [name for name in self.calls if self.is_person(name)]
        blamed: dict[str, str] = {}
        queue = deque((name, name) for name in people)
        while queue:
            source, culprit = queue.popleft()
            for name in self.calls:
                held = source in self.holders(name) and not self.is_person(name)
                if held and name not in blamed:
                    blamed[name] = culprit
                    queue.append((name, culprit))
        for name in self.unsettled():
            self.concluded[name] = Pending(because=blamed[name])
        self.outcomes |= {n: o for n, o in self.concluded.items() if n not in self.outcomes}


def same(left: Outcome, right: Outcome) -> bool:
    """Whether two outcomes say the same; of errors made by the machine, the kind and the reason."""
    if left.error is None or right.error is None or left.error is right.error:
        return left == right
    return (
        type(left) is type(right)
        and type(left.error) is type(right.error)
        and (str(right.error) in str(left.error))
    )


def edges(dependants) -> list[tuple[str, bool]]:
    """Return who waits, and whether for the value."""
    return [(node.call.id, hard) for node, hard in dependants]


def snapshot(machine: Scheduler) -> tuple[object, ...]:
    """Return all that a machine knows, as values."""
    nodes = [
        (n.call, n.index, n.eager, n.state, n.layer, n.missing, edges(n.dependants))
        for n in machine._nodes.values()
    ]
    expected = {name: edges(found) for name, found in machine._expected.items()}
    layers = [tuple(n.call.id for n in layer) for layer in machine._layers]
    free = [node.call.id for node in machine._free]
    flags = (machine.closed, machine.stopped, machine.finished, machine._active)
    actions = list(machine._actions)
    return nodes, expected, layers, free, dict(machine.outcomes), flags, actions


def draw_plan(random: Random) -> list[tuple[Call, bool]]:
    """Return calls in random order, most plans acyclic, and whether each is eager."""
    ranked = random.sample(NAMES, random.randint(2, len(NAMES)))
    wild = random.random() < 0.25

    def some(index: int, most: int) -> list[str]:
        found = random.choices(ranked[:index], k=random.randint(0, most)) if index else []
        if wild and random.random() < 0.15:
            found.append(random.choice([*ranked[:index], *ranked[index + 1 :], "nowhere"]))
        return found

    plan = []
    for index, name in enumerate(ranked):
        args: dict[str, object] = {f"h{i}": Ref(each) for i, each in enumerate(some(index, 1))}
        args |= {f"d{i}": Ref(each, default=0) for i, each in enumerate(some(index, 1))}
        after, ordered = tuple(some(index, 1)), tuple(some(index, 2))
        problem = "a bad call" if random.random() < 0.05 else None
        eager = random.random() < 0.8
        plan.append((Call(name, "t", args, after, ordered, problem), eager))
    random.shuffle(plan)
    return plan


class SchedulerMachine(RuleBasedStateMachine):
    """Random plans, streams, completions, deadlines and stops."""

    @initialize(
        stop_on_failure=st.booleans(),
        barrier=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    def begin(self, *, stop_on_failure: bool, barrier: bool, seed: int) -> None:
        self.prepare(stop_on_failure=stop_on_failure, barrier=barrier, seed=seed)
        note(f"{self.arrival}")

    def prepare(self, *, stop_on_failure: bool, barrier: bool, seed: int) -> None:
        policy = "stop" if stop_on_failure else "skip"
        self.machine = Scheduler(on_failure=policy, barrier=barrier)
        self.model = Model(stop_on_failure=stop_on_failure, barrier=barrier)
        # Drawn from one seed: Hypothesis' own draws give plans with too few edges.
        self.arrival = draw_plan(Random(seed))
        self.stops = 0
        self.started: dict[str, int] = {}
        self.launches: list[str] = []
        self.aborts: list[str] = []
        self.finishes = 0
        random = Random(seed + 1)
        count = random.choice([0, 3, len(self.arrival)])
        calls, self.arrival = self.arrival[:count], self.arrival[count:]
        last = [] if self.arrival or random.random() < 0.3 else [Closed()]
        self.feed(*(Added(call, eager=eager) for call, eager in calls), *last)

    def names(self, *states: State) -> list[str]:
        return [call.id for call in self.machine.calls if self.machine.state(call.id) in states]

    def feed(self, *events: Event) -> None:
        assert not self.model.finished or isinstance(events[0], Stop | Expired)
        before = dict(self.machine.outcomes)
        actions = self.machine.receive(*events)
        concluded = [a for a in actions if isinstance(a, Conclude)]
        given = {a.call: a.outcome for a in concluded}
        assert len(given) == len(concluded), "a call was concluded twice"
        assert not given.keys() & before.keys(), "an outcome was given twice"
        expected = self.model.receive(events, given)
        rest = [a for a in actions if not isinstance(a, Conclude | Abort)]
        assert rest == expected
        assert given.keys() == self.model.concluded.keys()
        for name, outcome in given.items():
            assert same(outcome, self.model.concluded[name]), name
        aborted = [a for a in actions if isinstance(a, Abort)]
        assert sorted(n for a in aborted for n in a.calls) == sorted(self.model.aborted)
        for abort in aborted:
            assert list(abort.calls) == [c.id for c in self.machine.calls if c.id in abort.calls]
            self.aborts.extend(abort.calls)
        self.finishes += sum(isinstance(a, Finish) for a in actions)
        for action in rest:
            if isinstance(action, Launch):
                self.launches.extend(action.calls)
                self.check_launch(action)
        if any(isinstance(a, Finish) for a in actions):
            assert isinstance(actions[-1], Finish)

    def check_launch(self, action: Launch) -> None:
        outcomes = self.machine.outcomes
        for name in action.calls:
            call = self.machine.call(name)
            assert all(outcomes[each].status == "done" for each in call.needs)
            assert all(each in outcomes for each in call.waits)

    # Events that are allowed.

    @precondition(lambda self: not self.model.closed)
    @rule(
        data=st.data(), count=st.integers(1, 8), settled=st.integers(0, 2), dice=st.integers(0, 9)
    )
    def arrive(self, data, count: int, settled: int, dice: int) -> None:
        """Calls arrive, others settle, and perhaps the plan is complete, all in one batch."""
        calls, self.arrival = self.arrival[:count], self.arrival[count:]
        events: list[Event] = [Added(call, eager=eager) for call, eager in calls]
        active = self.names(State.READY, State.RUNNING)
        events += [Settled(n, data.draw(OUTCOMES)) for n in active[:settled]]
        events = data.draw(st.permutations(events))
        last = dice == 0 or (dice < 5 and not self.arrival)
        self.feed(*events, *([Closed()] if last else []))

    @precondition(lambda self: self.names(State.READY))
    @rule(data=st.data())
    def start(self, data) -> None:
        self.feed(Started(data.draw(st.sampled_from(self.names(State.READY))), 1.0))

    @precondition(lambda self: self.names(State.READY, State.RUNNING, State.STOPPING))
    @rule(data=st.data(), count=st.sampled_from([1, 1, 1, 2, 3]))
    def settle(self, data, count: int) -> None:
        active = self.names(State.READY, State.RUNNING, State.STOPPING)
        chosen = data.draw(st.permutations(active))[:count]
        self.feed(*(Settled(name, data.draw(OUTCOMES)) for name in chosen))

    @rule(seed=st.integers(0, 2**32), steps=st.integers(1, 12))
    def go_on(self, seed: int, steps: int) -> None:
        """A stretch of an ordinary run; Hypothesis leaves single rules out of whole runs."""
        self.proceed(Random(seed), steps)

    def proceed(self, random: Random, steps: int) -> None:
        for _ in range(steps):
            ready, running = self.names(State.READY), self.names(State.RUNNING, State.STOPPING)
            if self.arrival and not self.model.closed and random.random() < 0.4:
                call, eager = self.arrival.pop(0)
                self.feed(Added(call, eager=eager))
            elif not self.arrival and not self.model.closed and random.random() < 0.3:
                self.feed(Closed())
            elif ready and random.random() < 0.6:
                self.feed(Started(random.choice(ready)))
            elif ready or running:
                ended = random.sample([*ready, *running], 1)
                self.feed(*(Settled(name, random.choice(ENDS)) for name in ended))
            self.agrees()

    @precondition(lambda self: self.model.layers)
    @rule(data=st.data(), dice=st.integers(0, 3))
    def expire(self, data, dice: int) -> None:
        if dice:
            return
        self.feed(Expired(data.draw(st.integers(0, len(self.model.layers) - 1))))

    @precondition(lambda self: self.stops < 3 and (self.launches or self.model.finished))
    @rule(outcome=STOPS, dice=st.integers(0, 5))
    def stop(self, outcome: Outcome, dice: int) -> None:
        """Stop now and then; a second time always changes nothing."""
        if self.model.stopped or self.model.finished:
            before = snapshot(self.machine)[:-1]
            self.feed(Stop(outcome))
            assert snapshot(self.machine)[:-1] == before
        elif dice == 0:
            self.feed(Stop(outcome))
        self.stops += dice == 0 or self.model.stopped or self.model.finished

    # Events that are refused.

    @rule(data=st.data(), kind=st.integers(0, 11))
    def refuse(self, data, kind: int) -> None:
        """What the state does not allow is refused, alone or behind allowed events of a batch."""
        name = data.draw(st.sampled_from(NAMES))
        state = self.machine.state(name) if name in self.model.calls else None
        fresh = Added(Call("fresh", "t"))
        bad: tuple[Event, ...] = ()
        if kind == 0 and state is not State.READY:
            bad = (Started(name),)
        elif kind == 1 and state not in (State.READY, State.RUNNING, State.STOPPING):
            bad = (Settled(name, Done(1)),)
        elif kind == 2:
            bad = (Expired(data.draw(st.sampled_from([-1, len(self.model.layers)]))),)
        elif kind == 3 and self.model.calls:
            bad = (Added(Call(data.draw(st.sampled_from(list(self.model.calls))), "t")),)
        elif kind == 4:
            bad = (Added(Call("self", "t", {"x": Ref("self", default=1)})),)
        elif kind == 5:
            bad = (Closed(), Closed())
        elif kind == 6:
            bad = (Closed(), fresh)
        elif kind == 7:
            bad = (fresh, fresh)
        elif kind == 8:
            bad = (fresh, Stop(Cancelled()))
        elif kind == 9 and self.model.closed:
            bad = (data.draw(st.sampled_from([Closed(), fresh])),)
        elif kind == 10 and state is State.READY:
            bad = (fresh, Started(name))
        elif kind == 11 and self.names(State.RUNNING):
            settled = Settled(self.names(State.RUNNING)[0], Done(1))
            bad = data.draw(st.sampled_from([(settled, settled), (settled, Expired(0))]))
        if not bad:
            return
        if kind in (1, 3, 4) and not self.model.closed and data.draw(st.booleans()):
            bad = (fresh, *bad)
        before = snapshot(self.machine)
        with pytest.raises(Refused):
            self.machine.receive(*bad)
        assert snapshot(self.machine) == before

    # What always holds.

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "machine"):
            return
        machine, model = self.machine, self.model
        assert (machine.closed, machine.stopped, machine.finished) == (
            model.closed,
            model.stopped,
            model.finished,
        )
        assert machine.outcomes.keys() == model.outcomes.keys()
        assert [call.id for call in machine.calls] == list(model.calls)
        for name in model.calls:
            assert machine.state(name) is self.expected_state(name)
            missing = [each for each, _ in model.edges(name) if each not in model.outcomes]
            assert sorted({*machine.missing(name)}) == sorted({*missing})

    def expected_state(self, name: str) -> State:
        if name in self.model.outcomes:
            return State.SETTLED
        state = self.model.state[name]
        if state == "waiting":
            return State.WAITING if self.model.holders(name) else State.HELD
        return State(state)

    @invariant()
    def counts(self) -> None:
        if not hasattr(self, "machine"):
            return
        assert len(self.launches) == len(set(self.launches))
        assert len(self.aborts) == len(set(self.aborts))
        complete = self.model.closed and len(self.machine.outcomes) == len(self.model.calls)
        assert self.machine.finished == complete == (self.finishes == 1)
        for name, outcome in self.machine.outcomes.items():
            if outcome.status == "skipped":
                assert name not in self.launches
                assert self.machine.outcomes[str(outcome.because)].status in LOST

    def teardown(self) -> None:
        """However far it came, closing and answering everything ends the run."""
        if not hasattr(self, "machine"):
            return
        if not self.model.closed:
            self.feed(Closed())
        for _ in NAMES:
            for name in self.names(State.READY, State.RUNNING, State.STOPPING):
                if self.machine.state(name) is not State.SETTLED:
                    self.feed(Settled(name, Done(0)))
        assert self.machine.finished
        self.agrees()
        self.counts()


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(
    max_examples=settings().max_examples * 2, stateful_step_count=25, deadline=None
)


@pytest.mark.parametrize("barrier", [False, True])
@pytest.mark.parametrize("stop_on_failure", [False, True])
def test_many_ordinary_runs_agree_with_the_model(*, stop_on_failure: bool, barrier: bool) -> None:
    """Long runs to the end, which single rules in random order seldom make."""
    for seed in range(600 if not stop_on_failure else 150):
        run = SchedulerMachine()
        run.prepare(stop_on_failure=stop_on_failure, barrier=barrier, seed=seed)
        run.proceed(Random(seed), 30)
        run.counts()
        run.teardown()
