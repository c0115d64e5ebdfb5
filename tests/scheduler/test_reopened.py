"""Reopened: an answer that comes later leads to the same outcomes as one that was there at once."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec._core.outcomes import Cancelled, Done, Failed, InDoubt, Pending, TimedOut
from dagexec._core.plan import Call
from dagexec._core.refs import Ref
from dagexec._core.scheduler import (
    Abort,
    Added,
    Closed,
    Expired,
    Launch,
    Refused,
    Reopened,
    Scheduler,
    Settled,
    Started,
    State,
    Stop,
)


def draw(random: Random, size: int) -> list[Call]:
    calls = []
    for index in range(size):
        names = [f"c{each}" for each in range(index)]
        some = random.sample(names, min(len(names), random.randrange(3)))
        kind = random.randrange(3)
        args = {"x": [Ref(name, default=0) if kind == 1 else Ref(name) for name in some]}
        calls.append(
            Call(
                f"c{index}", "t", args if kind < 2 else {}, ordered=tuple(some if kind > 1 else ())
            )
        )
    return calls


def launched(actions):
    return [name for action in actions if isinstance(action, Launch) for name in action.calls]


def run(machine, ready, random, ends):
    """Start and settle what is ready, in any order, with these ends."""
    queue = list(ready)
    while queue:
        name = queue.pop(random.randrange(len(queue)))
        if machine.state(name) is not State.READY:
            continue
        machine.receive(Started(name))
        queue += launched(machine.receive(Settled(name, ends(name))))


def statuses(machine):
    return {
        call.id: (machine.outcomes[call.id].status, machine.outcomes[call.id].because)
        for call in machine.calls
    }


@given(st.integers(0, 10**9), st.integers(1, 12), st.booleans())
def test_an_answer_may_come_later(seed, size, barrier):
    """Pending or in doubt first, answered in any order: the same outcomes in the end."""
    random = Random(seed)
    calls = draw(random, size)
    final = {call.id: random.choice((Done(1), Done(1), Failed(ValueError()))) for call in calls}
    asks = {call.id for call in calls if random.random() < 0.4}
    at_once = Scheduler(barrier=barrier)
    first = at_once.receive(*map(Added, calls), Closed())
    run(at_once, launched(first), Random(seed), final.__getitem__)
    later = Scheduler(barrier=barrier)
    asked = set()

    def end(name):
        if name in asks and name not in asked:
            asked.add(name)
            return random.choice((Pending("?"), InDoubt()))
        return final[name]

    first = later.receive(*map(Added, calls), Closed())
    run(later, launched(first), random, end)
    while True:
        assert later.finished
        waiting = [
            name
            for name, outcome in later.outcomes.items()
            if outcome.status in ("pending", "in_doubt") and outcome.because is None
        ]
        if not waiting:
            break
        some = random.sample(waiting, random.randrange(1, len(waiting) + 1))
        run(later, launched(later.receive(*map(Reopened, some))), random, end)
    assert {name: each[0] for name, each in statuses(later).items()} == {
        name: each[0] for name, each in statuses(at_once).items()
    }


def test_what_may_be_reopened():
    """Ready, running and stopping calls, and those that wait for an answer; nothing else."""
    machine = Scheduler()
    calls = [Call("a", "t"), Call("b", "t"), Call("c", "t", {"x": Ref("b")})]
    machine.receive(*map(Added, calls), Closed())
    assert machine.receive(Reopened("a")) == [Launch(1, ("a",))]
    machine.receive(Started("a"))
    assert machine.receive(Reopened("a")) == [Launch(2, ("a",))]
    machine.receive(Settled("b", Pending("?")))
    machine.receive(Settled("a", Done(1)))
    assert machine.finished
    for name in ("a", "c", "nobody"):
        with pytest.raises(Refused):
            machine.receive(Reopened(name))
    assert machine.receive(Reopened("b")) == [Launch(3, ("b",))]
    assert not machine.finished
    machine.receive(Settled("b", Done(1)))
    machine.receive(Started("c"))
    machine.receive(Stop(Cancelled()))
    assert machine.receive(Reopened("c")) == [Launch(5, ("c",))]
    machine.receive(Settled("c", Done(1)))
    assert machine.finished
    assert all(outcome.status == "done" for outcome in machine.outcomes.values())


def test_an_answered_call_that_a_barrier_holds_outlives_its_old_layer():
    machine = Scheduler(barrier=True)
    machine.receive(Added(Call("a", "t", {})), Added(Call("b", "t", {})), Closed())
    machine.receive(Started("a"))
    machine.receive(Started("b"))
    machine.receive(Settled("a", Pending()))
    assert machine.receive(Reopened("a")) == []  # b still runs
    assert machine.receive(Expired(0)) == [Abort(("b",), TimedOut("layer"))]
    assert machine.receive(Settled("b", TimedOut("layer"))) == [Launch(1, ("a",))]
