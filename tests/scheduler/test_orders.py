"""In what order calls end is an input: it changes neither what becomes of them nor a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec._core.outcomes import Cancelled, Done, Failed, InDoubt, Outcome, Pending, TimedOut
from dagexec._core.plan import Call, Plan
from dagexec._core.refs import Ref
from dagexec._core.scheduler import (
    Action,
    Added,
    Closed,
    Conclude,
    Event,
    Launch,
    Scheduler,
    Settled,
    Started,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ENDS = st.sampled_from(["done", "done", "done", "failed", "timed_out", "pending", "in_doubt"])


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Call], dict[str, str]]:
    """Draw acyclic calls in any order of writing, and how the tool of each would end."""
    ranked = [f"c{index}" for index in range(draw(st.integers(1, 9)))]
    calls = []
    for index, name in enumerate(ranked):
        below = st.lists(st.sampled_from(ranked[:index]), max_size=2) if index else st.just([])
        args: dict[str, Any] = {f"h{i}": Ref(source) for i, source in enumerate(draw(below))}
        args |= {f"d{i}": Ref(source, default=0) for i, source in enumerate(draw(below))}
        after, ordered = draw(below), draw(below)
        problem = "bad" if draw(st.integers(0, 19)) == 0 else None
        calls.append(Call(name, "t", args, tuple(after), tuple(ordered), problem))
    ends = {name: draw(ENDS) for name in ranked}
    return draw(st.permutations(calls)), ends


def outcome_of(call: Call, how: str, outcomes: dict[str, Outcome]) -> Outcome:
    """Run the tool: its value is made of the values that it was given."""
    if how == "failed":
        return Failed(ValueError(call.id))
    if how == "timed_out":
        return TimedOut("call")
    if how == "pending":
        return Pending("?")
    if how == "in_doubt":
        return InDoubt()
    given_ = [outcomes[ref.call].value if outcomes[ref.call].ok else 0 for ref in call.refs]
    return Done((call.id, *given_))


def behind(call: Call) -> list[str]:
    """Return the calls whose chains of order must have come through before this one starts."""
    return [*call.needs, *(each for each in call.waits if each in call.ordered)]


def sequential(calls: list[Call], ends: dict[str, str]) -> dict[str, Outcome | str]:
    """Run one call after the other, in an order that the edges allow, without the scheduler."""
    by_id = {call.id: call for call in calls}
    outcomes: dict[str, Outcome] = {}
    status: dict[str, str] = {}
    # A call is closed to those ordered behind it while it, or what it waited for, is with a person.
    blocked: dict[str, bool] = {}
    for name in (name for layer in Plan(calls).layers for name in layer):
        call = by_id[name]
        outcomes[name] = Failed(ValueError("bad"))
        lost = [each for each in call.needs if status[each] in ("failed", "timed_out", "skipped")]
        ordered = [each for each in behind(call) if blocked[each]]
        asked = [each for each in call.waits if status[each] in ("pending", "in_doubt")]
        if call.problem is not None:
            status[name] = "failed"
        elif lost:
            status[name] = "skipped"
        elif ordered or asked:
            status[name] = "pending"
        else:
            outcomes[name] = outcome_of(call, ends[name], outcomes)
            status[name] = outcomes[name].status
        blocked[name] = status[name] in ("pending", "in_doubt") or (
            status[name] != "done" and bool(ordered or asked)
        )
    return {
        name: outcomes[name] if state in ("done", "timed_out", "in_doubt") else state
        for name, state in status.items()
    }


def seen(outcomes: dict[str, Outcome]) -> dict[str, Outcome | str]:
    """Reduce outcomes to what must not depend on the order."""
    return {
        name: each if each.status in ("done", "timed_out", "in_doubt") else each.status
        for name, each in outcomes.items()
    }


def execute(
    calls: list[Call],
    ends: dict[str, str],
    choose: Callable[[list[str]], list[str]],
    machine: Scheduler,
    *,
    streamed: bool = False,
) -> list[tuple[tuple[Event, ...], list[Action]]]:
    """Drive the machine; `choose` says which of the running calls end next, and in what order."""
    log: list[tuple[tuple[Event, ...], list[Action]]] = []
    running: list[str] = []
    arriving = [(Added(call, eager=len(call.id) % 2 == 0),) for call in calls]
    batches: list[tuple[Event, ...]] = [*arriving, (Closed(),)]
    if not streamed:
        batches = [tuple(event for batch in batches for event in batch)]

    def feed(*events: Event) -> None:
        actions = machine.receive(*events)
        log.append((events, actions))
        for action in actions:
            if isinstance(action, Launch):
                running.extend(action.calls)
                for name in action.calls:
                    log.append(((Started(name, 0.5),), machine.receive(Started(name, 0.5))))

    while batches or running:
        names = choose(running) if running else []
        if batches and (not names or streamed):
            feed(*batches.pop(0))
            continue
        for name in names:
            running.remove(name)
        feed(*(Settled(n, outcome_of(machine.call(n), ends[n], machine.outcomes)) for n in names))
    return log


@settings(deadline=None)
@given(plan=plans(), data=st.data(), barrier=st.booleans(), streamed=st.booleans())
def test_any_order_of_completions_gives_what_sequential_execution_gives(
    plan, data, barrier, streamed
) -> None:
    """Statuses and values do not depend on who ended first, nor on how the plan arrived."""
    calls, ends = plan

    def choose(running: list[str]) -> list[str]:
        count = data.draw(st.integers(1, len(running)))
        return data.draw(st.permutations(running))[:count]

    machine = Scheduler(barrier=barrier)
    execute(calls, ends, choose, machine, streamed=streamed)
    assert machine.finished
    assert seen(machine.outcomes) == sequential(calls, ends)


@settings(deadline=None)
@given(plan=plans(), data=st.data(), stop=st.booleans(), streamed=st.booleans())
def test_replayed_events_give_the_same_actions(plan, data, stop, streamed) -> None:
    """A journal of events is enough to bring a fresh machine to the same place."""
    calls, ends = plan

    def choose(running: list[str]) -> list[str]:
        return data.draw(st.permutations(running))[:2]

    policy = "stop" if stop else "skip"
    machine = Scheduler(on_failure=policy)
    if stop:  # a stopped call is answered for by the driver of `execute`, as if it had returned
        ends = {name: "done" if end != "pending" else end for name, end in ends.items()}
    log = execute(calls, ends, choose, machine, streamed=streamed and not stop)
    replay = Scheduler(on_failure=policy)
    for events, actions in log:
        again = replay.receive(*events)
        assert [repr(each) for each in again] == [repr(each) for each in actions]
    assert list(replay.outcomes) == list(machine.outcomes)
    assert repr(replay.outcomes) == repr(machine.outcomes)


@pytest.mark.parametrize("last_first", [False, True])
def test_a_diamond_gives_the_same_whichever_arm_ends_first(last_first) -> None:
    """The plainest case, without chance: four calls, two orders, one result."""
    calls = [
        Call("d", "t", {"l": Ref("b"), "r": Ref("c")}),
        Call("b", "t", {"x": Ref("a")}),
        Call("c", "t", {"x": Ref("a")}),
        Call("a", "t"),
    ]
    ends = dict.fromkeys("abcd", "done")
    machine = Scheduler()
    log = execute(calls, ends, lambda running: [running[-1 if last_first else 0]], machine)
    launches = [a.calls for _, actions in log for a in actions if isinstance(a, Launch)]
    assert launches == [("a",), ("b", "c"), ("d",)]
    a = ("a",)
    assert machine.outcomes["d"].value == ("d", ("b", a), ("c", a))


def test_a_cancelled_call_costs_its_dependants_in_every_order() -> None:
    """A driver may answer Cancelled for a call; it counts as lost, whoever ends before it."""
    for order in ("ab", "ba"):
        machine = Scheduler()
        calls = [Call("a", "t"), Call("b", "t"), Call("c", "t", after=("a", "b"))]
        machine.receive(*map(Added, calls), Closed())
        actions: list[Action] = []
        for name in order:
            actions += machine.receive(Settled(name, Cancelled() if name == "a" else Done(1)))
        assert [a.call for a in actions if isinstance(a, Conclude)] == ["c"]
        assert machine.outcomes["c"].because == "a"
