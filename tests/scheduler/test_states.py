"""Each rule of the scheduler, one at a time; events in, actions out."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from typing import Any

import pytest

from dagexec._core import events as _events
from dagexec._core import scheduler as _scheduler
from dagexec._core import states as _states
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
    Action,
    Added,
    Closed,
    Conclude,
    Event,
    Expired,
    Finish,
    Launch,
    Refused,
    Reopened,
    Scheduler,
    Settled,
    Spread,
    Started,
    State,
    Stop,
    blame,
)
from dagexec._errors import BadReference, CallError

BOOM = Failed(ValueError("boom"))
DONE = Done(1)
ASK = Pending("may I?")
STOP = Stop(Cancelled())


def call(name: str, *after: str, ordered: tuple[str, ...] = (), default: tuple[str, ...] = ()):
    """Make a call by its edges."""
    args = {f"a{i}": Ref(each, default=None) for i, each in enumerate(default)}
    return Call(name, "t", args, after, ordered)


def whole(*calls: Call, **options: Any) -> tuple[Scheduler, list[Action]]:
    """Give a fresh machine a complete plan."""
    machine = Scheduler(**options)
    return machine, machine.receive(*map(Added, calls), Closed())


def launched(actions: list[Action]) -> list[str]:
    """Return what was launched, in order."""
    return [name for each in actions if isinstance(each, Launch) for name in each.calls]


def concluded(actions: list[Action]) -> dict[str, Outcome]:
    """Return what the machine settled itself."""
    return {each.call: each.outcome for each in actions if isinstance(each, Conclude)}


def statuses(machine: Scheduler) -> dict[str, str]:
    """Return the statuses by id."""
    return {name: machine.outcomes[name].status for name in sorted(machine.outcomes)}


# ------------------------------------------------------------------------------ layers and batches


def test_layers_are_in_plan_order_and_numbered_from_zero():
    """What one batch makes ready is one layer, in the order of arrival, whatever came first."""
    calls = [call("d", "b", "a"), call("c", "a"), call("b"), call("a")]
    machine, actions = whole(*calls)
    assert actions == [Launch(0, ("b", "a"))]
    assert machine.receive(Settled("b", DONE)) == []
    assert machine.receive(Settled("a", DONE)) == [Launch(1, ("d", "c"))]
    assert machine.receive(Settled("d", DONE), Settled("c", DONE)) == [Finish()]


def test_what_a_batch_unlocks_is_one_layer_sorted_by_plan_order():
    """Two completions in one batch make one layer, sorted by the plan and not by completion."""
    machine, _ = whole(call("a"), call("b"), call("c", "a"), call("d", "b"), call("e", "a"))
    actions = machine.receive(Settled("b", DONE), Settled("a", DONE))
    assert actions == [Launch(1, ("c", "d", "e"))]


def test_an_empty_batch_does_nothing_and_an_empty_plan_ends_at_once():
    """No events, no actions; a plan without calls finishes when it is closed."""
    machine = Scheduler()
    assert machine.receive() == []
    assert (machine.finished, machine.closed, machine.stopped) == (False, False, False)
    assert machine.receive(Closed()) == [Finish()]
    assert (machine.finished, machine.closed, machine.stopped) == (True, True, False)
    assert machine.receive() == []


def test_the_readable_state_follows_a_call_through_its_life():
    """A driver can read calls, states, outcomes and what is missing; unknown names are errors."""
    machine = Scheduler()
    first, second = call("a"), call("b", "a", default=("late",))
    machine.receive(Added(first), Added(second))
    assert list(machine.calls) == [first, second]
    assert machine.call("b") is second
    assert machine.missing("b") == ("a", "late")
    assert machine.state("a") is State.READY
    assert machine.state("b") is State.WAITING
    assert machine.receive(Started("a", 2.0)) == []
    assert machine.state("a") is State.RUNNING
    machine.receive(Settled("a", DONE))
    assert machine.state("a") is State.SETTLED
    assert machine.missing("b") == ("late",)
    assert machine.outcomes == {"a": DONE}
    for read in (machine.call, machine.state, machine.missing):
        with pytest.raises(KeyError):
            read("ghost")


def test_a_call_that_names_a_dependency_twice_starts_when_it_is_done():
    """The same id in `after` twice is one dependency in effect."""
    machine, _ = whole(call("a"), call("b", "a", "a"))
    assert machine.receive(Settled("a", DONE)) == [Launch(1, ("b",))]


def test_finish_comes_once_and_last():
    """Nothing follows `Finish`, and the skips of the last batch come before it."""
    machine, _ = whole(call("a"), call("b", "a"))
    actions = machine.receive(Settled("a", BOOM))
    assert actions == [Conclude("b", Skipped("a")), Finish()]
    assert machine.receive(STOP) == machine.receive(Expired(0)) == machine.receive() == []
    assert not machine.stopped


# --------------------------------------------------------------------------------------- streaming


def test_an_eager_call_starts_while_the_plan_is_open_and_another_at_its_end():
    """A call that is not eager is held until `Closed`, although nothing is missing."""
    machine = Scheduler()
    assert machine.receive(Added(call("a"))) == [Launch(0, ("a",))]
    assert machine.receive(Added(call("b"), eager=False)) == []
    assert machine.state("b") is State.HELD
    assert machine.receive(Added(call("c"))) == [Launch(1, ("c",))]
    assert machine.receive(Settled("a", DONE), Settled("c", DONE)) == []
    assert machine.receive(Closed()) == [Launch(2, ("b",))]
    assert machine.receive(Settled("b", DONE)) == [Finish()]


def test_a_forward_reference_waits_until_that_call_arrives():
    """In a stream a reference to a call further down is an edge like any other."""
    machine = Scheduler()
    assert machine.receive(Added(call("b", "a", default=("a2",)))) == []
    assert machine.receive(Added(call("a"))) == [Launch(0, ("a",))]
    assert machine.receive(Added(call("a2"))) == [Launch(1, ("a2",))]
    assert machine.receive(Settled("a", DONE)) == []
    assert machine.receive(Settled("a2", BOOM)) == [Launch(2, ("b",))]


def test_a_call_added_after_its_dependency_ended_is_ready_or_skipped_at_once():
    """The outcome of what a new call needs is known already."""
    machine = Scheduler()
    machine.receive(Added(call("a")), Added(call("x")))
    machine.receive(Settled("a", DONE), Settled("x", BOOM))
    assert machine.receive(Added(call("b", "a"))) == [Launch(1, ("b",))]
    assert machine.receive(Added(call("y", "x"))) == [Conclude("y", Skipped("x"))]
    assert machine.receive(Added(call("z", "y", "b"))) == [Conclude("z", Skipped("x"))]
    assert machine.receive(Added(call("d", default=("x",)))) == [Launch(2, ("d",))]


@pytest.mark.parametrize("needs", [("x", "y"), ("y", "x")])
def test_a_late_call_blames_the_call_that_failed_first(needs):
    """Of two lost dependencies the one that failed first is named, in whatever order written."""
    machine = Scheduler()
    machine.receive(Added(call("y")), Added(call("x")), Added(call("y2", "y")))
    machine.receive(Settled("x", BOOM))
    machine.receive(Settled("y", BOOM))
    assert concluded(machine.receive(Added(call("z", *needs)))) == {"z": Skipped("x")}
    assert concluded(machine.receive(Added(call("w", "y2", "y")))) == {"w": Skipped("y")}
    foreign = [Settled(name, Skipped(f"gone {name}")) for name in ("p", "q")]
    machine.receive(Added(call("p")), Added(call("q")))
    machine.receive(*foreign)
    assert concluded(machine.receive(Added(call("v", "p", "q")))) == {"v": Skipped("gone p")}


def test_a_bad_call_fails_at_once_and_costs_its_dependants():
    """`problem` becomes a failed outcome with that text; the references of such a call are moot."""
    bad = Call("a", "t", {"x": Ref("nowhere")}, after=("b",), problem="no such tool")
    _, actions = whole(call("b", "a"), bad, call("c"))
    assert launched(actions) == ["c"]
    outcomes = concluded(actions)
    assert list(outcomes) == ["a", "b"]
    assert isinstance(outcomes["a"].error, CallError)
    assert str(outcomes["a"].error) == "no such tool"
    assert outcomes["b"] == Skipped("a")


# ---------------------------------------------------------------------------- unknown and circular


def test_what_has_not_arrived_at_the_end_is_unknown():
    """At `Closed` a call that refers to nothing fails, its dependants are skipped, others run."""
    machine = Scheduler()
    machine.receive(Added(call("b", "ghost")), Added(call("c", "b")), Added(call("d")))
    actions = machine.receive(Closed())
    outcomes = concluded(actions)
    assert list(outcomes) == ["b", "c"]
    assert isinstance(outcomes["b"].error, BadReference)
    assert "'ghost'" in str(outcomes["b"].error)
    assert outcomes["c"] == Skipped("b")
    assert machine.receive(Settled("d", DONE)) == [Finish()]


def test_a_default_does_not_excuse_an_unknown_call():
    """A reference with a default to a call that never comes is as wrong as one without."""
    _, actions = whole(call("b", default=("ghost",)), call("c", ordered=("spirit",)))
    assert {type(each.error) for each in concluded(actions).values()} == {BadReference}
    assert actions[-1] == Finish()


def test_each_call_in_a_cycle_hears_of_it_and_dependants_are_skipped():
    """All members fail for the cycle, also one that refers to a missing call."""
    calls = [call("a", "b"), call("b", "c", "ghost"), call("c", default=("a",)), call("d", "c")]
    machine, actions = whole(*calls, call("e"), call("f", ordered=("d",)))
    outcomes = concluded(actions)
    assert list(outcomes) == ["a", "b", "c", "d"]
    for name in "abc":
        assert "cycle" in str(outcomes[name].error)
    assert outcomes["d"] == Skipped("c")
    assert launched(actions) == ["e", "f"]
    assert machine.missing("f") == ()


def test_two_faults_below_one_another_each_keep_their_own():
    """A call with a fault of its own is failed, not skipped, though it needs another such call."""
    _, actions = whole(call("b", "a", "ghost"), call("a", "ghost"))
    assert [each.status for each in concluded(actions).values()] == ["failed", "failed"]


def test_a_cycle_through_a_lost_call_is_found():
    """A skipped call that keeps an order can be part of a cycle, and that is reported."""
    bad = Call("x", "t", problem="bad")
    machine, actions = whole(call("b", ordered=("a",)), bad, call("a", "b", "x"))
    assert statuses(machine) == {"a": "skipped", "b": "failed", "x": "failed"}
    assert actions[-1] == Finish()


def test_a_faulty_call_does_not_break_an_order_between_others():
    """What is ordered behind an unknown reference still waits for what that call waited for."""
    calls = [call("z"), call("b", "ghost", ordered=("z",)), call("e", ordered=("b",))]
    machine, actions = whole(*calls)
    assert launched(actions) == ["z"]
    assert machine.receive(Settled("z", BOOM)) == [Launch(1, ("e",))]


def test_a_cycle_lets_go_what_is_ordered_behind_it():
    """The members of a cycle wait for each other no more; what one waited for outside, it does."""
    calls = [call("z"), call("a", "b"), call("b", "a", ordered=("z",))]
    machine, actions = whole(*calls, call("e", ordered=("a",)), call("f", ordered=("b",)))
    assert launched(actions) == ["z", "e"]
    assert machine.receive(Settled("z", DONE)) == [Launch(1, ("f",))]


# --------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("lost", [BOOM, TimedOut("call"), Cancelled(), Skipped("elsewhere")])
def test_a_loss_skips_all_descendants_and_names_the_first_failure(lost):
    """Direct and indirect dependants are skipped with the culprit; all others run."""
    calls = [call("a"), call("b", "a"), call("c", "b"), call("d"), call("e", "d")]
    machine, _ = whole(*calls)
    culprit = "elsewhere" if lost.status == "skipped" else "a"
    actions = machine.receive(Settled("a", lost))
    assert actions == [Conclude("b", Skipped(culprit)), Conclude("c", Skipped(culprit))]
    assert machine.receive(Settled("d", DONE)) == [Launch(1, ("e",))]


def test_the_first_of_two_failures_is_to_blame():
    """A call that two failures reach is skipped once, with the name of the earlier one."""
    machine, _ = whole(call("a"), call("b"), call("c", "a", "b"))
    actions = machine.receive(Settled("b", BOOM), Settled("a", BOOM))
    assert actions == [Conclude("c", Skipped("b")), Finish()]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_long_chain_is_skipped_without_recursion(streamed):
    """Ten thousand links, skipped from the top or ended by a fault, need no deep stack."""
    count = 10_000
    links = [call(f"c{i}", f"c{i - 1}", ordered=("z",)) for i in range(1, count)]
    machine = Scheduler()
    if streamed:
        machine.receive(Added(call("c0")), Added(call("z")))
        machine.receive(Settled("c0", BOOM))
        outcomes = concluded(machine.receive(*map(Added, links)))
    else:
        machine.receive(*map(Added, [call("c0"), call("z"), *links]))
        outcomes = concluded(machine.receive(Settled("c0", BOOM)))
    assert list(outcomes) == [link.id for link in links]
    assert {each.because for each in outcomes.values()} == {"c0"}
    machine.receive(Added(call("last", ordered=(f"c{count - 1}",))))
    assert machine.state("last") is State.WAITING
    assert launched(machine.receive(Settled("z", DONE))) == ["last"]


def test_a_long_chain_behind_a_pending_call_is_pending():
    """The same for those who wait for a person."""
    machine, _ = whole(call("c0"), *[call(f"c{i}", f"c{i - 1}") for i in range(1, 10_000)])
    outcomes = concluded(machine.receive(Settled("c0", ASK)))
    assert len(outcomes) == 9_999
    assert {each.because for each in outcomes.values()} == {"c0"}


# ----------------------------------------------------------------------------- defaults and orders


@pytest.mark.parametrize("end", [DONE, BOOM, TimedOut("call"), Cancelled(), Skipped("x")])
def test_soft_edges_wait_for_the_end_however_it_was(end):
    """A reference with a default and an order need only that the call has ended."""
    machine, actions = whole(call("a"), call("b", default=("a",)), call("c", ordered=("a",)))
    assert launched(actions) == ["a"]
    assert machine.receive(Settled("a", end)) == [Launch(1, ("b", "c"))]


def test_a_skipped_call_does_not_break_the_order_of_its_neighbours():
    """Of a chain of conflicting calls the last waits for the first, though those between fell."""
    calls = [call("x"), call("z"), call("a", "x", ordered=("z",)), call("b", "x", ordered=("a",))]
    last, reader = call("e", ordered=("b",)), call("r", default=("b",))
    machine, _ = whole(*calls, last, reader)
    actions = machine.receive(Settled("x", BOOM))
    assert list(concluded(actions)) == ["a", "b"]
    assert launched(actions) == ["r"]
    assert machine.state("e") is State.WAITING
    assert machine.receive(Settled("z", DONE)) == [Launch(2, ("e",))]


def test_a_chain_through_a_hard_dependency_is_kept_too():
    """A lost call between may have waited for a value and not only for an order."""
    calls = [call("x"), call("z"), call("a", "x", "z"), call("e", ordered=("a",))]
    machine, _ = whole(*calls)
    assert launched(machine.receive(Settled("x", BOOM))) == []
    assert launched(machine.receive(Settled("z", BOOM))) == ["e"]


def test_a_call_that_arrives_behind_a_skipped_one_keeps_the_order():
    """The chain holds for a call that is added after its neighbour was skipped."""
    machine = Scheduler()
    machine.receive(Added(call("x")), Added(call("z")), Added(call("a", "x", ordered=("z",))))
    machine.receive(Settled("x", BOOM))
    assert launched(machine.receive(Added(call("e", ordered=("a",))))) == []
    assert launched(machine.receive(Added(call("r", default=("a",))))) == ["r"]
    late = machine.receive(Added(call("s", "a")), Added(call("f", ordered=("s",))))
    assert concluded(late) == {"s": Skipped("x")}
    assert launched(late) == []
    assert machine.receive(Settled("z", DONE)) == [Launch(2, ("e", "f"))]
    assert launched(machine.receive(Added(call("g", ordered=("a",))))) == ["g"]


# ------------------------------------------------------------------------------------ stop policies


def test_on_failure_stop_cancels_all_that_is_left():
    """Unstarted calls, also dependants, are cancelled with the culprit; running are aborted."""
    calls = [call("a"), call("b"), call("c"), call("d", "a"), call("e", default=("a",))]
    machine, _ = whole(*calls, on_failure="stop")
    machine.receive(Started("a"))
    machine.receive(Started("b"))
    end = Cancelled(because="a")
    actions = machine.receive(Settled("a", BOOM))
    assert actions == [*(Conclude(name, end) for name in "cde"), Abort(("b",), end)]
    assert machine.stopped
    assert machine.state("b") is State.STOPPING
    assert machine.receive(Settled("b", BOOM)) == [Finish()]


def test_on_failure_stop_also_cancels_what_came_in_the_same_batch():
    """A call that arrives together with the failure it depends on is cancelled, not skipped."""
    machine = Scheduler(on_failure="stop")
    machine.receive(Added(call("a")))
    actions = machine.receive(Settled("a", BOOM), Added(call("b", "a")), Added(call("c")))
    assert concluded(actions) == dict.fromkeys("bc", Cancelled(because="a"))
    assert actions[-1] == Finish()
    with pytest.raises(Refused):
        machine.receive(Added(call("d")))


@pytest.mark.parametrize("first", [Call("a", "t", problem="bad"), call("a", "ghost")])
def test_on_failure_stop_counts_a_call_that_cannot_run(first):
    """A call that fails before it starts stops the run as well."""
    machine, actions = whole(first, call("b"), call("c", "a"), on_failure="stop")
    assert statuses(machine) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert launched(actions) == []
    assert actions[-1] == Finish()


@pytest.mark.parametrize("end", [DONE, ASK, InDoubt()])
def test_on_failure_stop_lets_the_rest_run_where_nothing_failed(end):
    """Done, pending and in doubt are no failures."""
    machine, _ = whole(call("a"), call("b"), on_failure="stop")
    assert machine.receive(Settled("a", end)) == []
    assert not machine.stopped


def test_on_failure_stop_after_a_deadline_names_the_call_that_expired():
    """The deadline of a layer is a failure like others, once the first call of it is timed out."""
    machine, _ = whole(call("a"), call("b", "a"), on_failure="stop")
    actions = machine.receive(Expired(0))
    assert concluded(actions) == {"a": TimedOut("layer"), "b": Cancelled(because="a")}


def test_stop_ends_all_and_counts_once():
    """Running calls are aborted once, the others concluded; another `Stop` changes nothing."""
    machine, _ = whole(call("a"), call("b"), call("c", "a"))
    machine.receive(Started("b"))
    end = TimedOut("workflow")
    actions = machine.receive(Stop(end))
    assert actions == [Conclude("a", end), Conclude("c", end), Abort(("b",), end)]
    assert machine.stopped
    assert machine.receive(STOP) == []
    assert machine.receive(Expired(0)) == []
    assert machine.receive(Settled("b", DONE)) == [Finish()]
    assert machine.outcomes["b"] == DONE


def test_stop_before_the_end_of_a_stream_closes_it():
    """What comes after `Stop` is refused, and what was held or expected is concluded."""
    machine = Scheduler()
    machine.receive(Added(call("a"), eager=False), Added(call("b", "late")))
    assert machine.receive(STOP) == [
        Conclude("a", Cancelled()),
        Conclude("b", Cancelled()),
        Finish(),
    ]
    assert machine.closed
    for event in (Closed(), Added(call("late"))):
        with pytest.raises(Refused):
            machine.receive(event)
    assert Scheduler().receive(STOP) == [Finish()]


def test_nothing_is_launched_after_stop():
    """A running call that returns frees nothing any more."""
    machine, _ = whole(call("a"), call("b", "a"), call("c", default=("a",)))
    machine.receive(Started("a"))
    machine.receive(STOP)
    assert machine.receive(Settled("a", DONE)) == [Finish()]
    assert statuses(machine) == {"a": "done", "b": "cancelled", "c": "cancelled"}


# --------------------------------------------------------------------------- deadlines and barriers


def test_expired_ends_a_layer_and_nothing_else():
    """Unstarted calls of the layer are timed out, running ones aborted, dependants skipped."""
    calls = [call("a"), call("b"), call("c"), call("d", "a"), call("e", "b"), call("f", "c")]
    machine, _ = whole(*calls)
    machine.receive(Started("b"))
    machine.receive(Settled("c", DONE))
    end = TimedOut("layer")
    assert machine.receive(Expired(0)) == [
        Conclude("a", end),
        Conclude("d", Skipped("a")),
        Abort(("b",), end),
    ]
    assert machine.receive(Expired(0)) == []
    assert machine.receive(Settled("b", end)) == [Conclude("e", Skipped("b"))]
    assert machine.receive(Expired(1)) == [Conclude("f", end), Finish()]


def test_a_barrier_starts_a_layer_when_the_one_before_has_ended():
    """With `barrier` what becomes free is held, and joins one layer in plan order."""
    machine, actions = whole(call("d", "b"), call("a"), call("b"), call("c", "a"), barrier=True)
    assert actions == [Launch(0, ("a", "b"))]
    machine.receive(Started("a"))
    assert machine.receive(Settled("a", DONE)) == []
    assert machine.state("c") is State.HELD
    assert machine.receive(Settled("b", DONE)) == [Launch(1, ("d", "c"))]
    assert machine.receive(Settled("c", ASK)) == []
    assert machine.receive(Settled("d", DONE)) == [Finish()]


def test_a_barrier_opens_when_a_deadline_ends_the_layer():
    """An expired call that had not started no longer holds the next layer back."""
    machine, _ = whole(call("a"), call("b"), call("c", "a"), barrier=True)
    machine.receive(Settled("a", DONE))
    assert machine.receive(Expired(0)) == [
        Conclude("b", TimedOut("layer")),
        Launch(1, ("c",)),
    ]


# ------------------------------------------------------------------------------- waiting for people


@pytest.mark.parametrize("end", [ASK, InDoubt()])
def test_dependants_of_a_waiting_call_are_pending_at_the_end_only(end):
    """While anything runs they wait; then they are pending, with the call to blame."""
    calls = [call("a"), call("z"), call("b", "a"), call("c", default=("b",)), call("d", "z")]
    machine, _ = whole(*calls)
    assert machine.receive(Settled("a", end)) == []
    assert machine.receive(Settled("z", DONE)) == [Launch(1, ("d",))]
    waits = Pending(because="a")
    assert machine.receive(Settled("d", DONE)) == [
        Conclude("b", waits),
        Conclude("c", waits),
        Finish(),
    ]


def test_a_pending_run_waits_for_the_end_of_the_stream():
    """As long as calls may come, nothing is suspended; a new call may wait for the pending one."""
    machine = Scheduler()
    machine.receive(Added(call("a")))
    assert machine.receive(Settled("a", ASK)) == []
    assert machine.receive(Added(call("b", "a"))) == []
    assert machine.receive(Added(call("c", default=("a",)))) == []
    assert concluded(machine.receive(Closed())) == dict.fromkeys("bc", Pending(because="a"))


@pytest.mark.parametrize("order", ["px", "xp"])
def test_an_order_behind_a_skipped_call_and_a_pending_one(order):
    """The chain leads through the skipped call to the pending one, whichever ended first."""
    calls = [call("x"), call("p"), call("a", "x", ordered=("p",)), call("e", ordered=("a",))]
    machine, _ = whole(*calls)
    for name in order:
        machine.receive(Settled(name, ASK if name == "p" else BOOM))
    assert statuses(machine) == {"a": "skipped", "e": "pending", "p": "pending", "x": "failed"}
    assert machine.outcomes["e"].because == "p"


@pytest.mark.parametrize("order", ["pqx", "xqp", "qxp"])
def test_who_is_to_blame_for_a_pending_call_does_not_depend_on_the_order(order):
    """Of two waiting calls the first of the plan is named; a failure wins over both."""
    calls = [call("x"), call("p"), call("q"), call("b", "q", "p"), call("c", "q", "x")]
    machine, _ = whole(*calls)
    for name in order:
        machine.receive(Settled(name, BOOM if name == "x" else ASK))
    assert machine.outcomes["b"] == Pending(because="p")
    assert machine.outcomes["c"] == Skipped("x")


def test_many_ways_to_a_pending_call_are_walked_once():
    """A ladder of diamonds has 2**40 ways through it, and ends at once all the same."""
    calls = [call("b0")]
    for i in range(40):
        arms = call(f"l{i}", f"b{i}"), call(f"r{i}", f"b{i}")
        calls += [*arms, call(f"b{i + 1}", f"l{i}", f"r{i}")]
    machine, _ = whole(*calls)
    machine.receive(Settled("b0", ASK))
    assert {each.because for each in machine.outcomes.values()} == {None, "b0"}
    assert len(machine.outcomes) == len(calls)


def test_a_pending_call_that_names_another_passes_the_blame_on():
    """A resumed run may settle a call as pending because of one that is not its own."""
    machine, _ = whole(call("a"), call("b", "a"))
    machine.receive(Settled("a", Pending(because="root")))
    assert machine.outcomes["b"] == Pending(because="root")


def test_blame_names_the_call_itself_unless_it_fell_with_another():
    """Only what was skipped or waits for another passes the blame on."""
    assert blame("a", BOOM) == blame("a", ASK) == blame("a", Skipped(None)) == "a"
    assert blame("a", Skipped("b")) == blame("a", Pending(because="b")) == "b"
    assert blame("a", Cancelled(because="b")) == "a"


# -------------------------------------------------------------------------------- what is refused

ALLOWED = {
    ("ready", "Started"),
    ("ready", "Settled"),
    ("running", "Settled"),
    ("stopping", "Settled"),
}
WHERE = ["unknown", "waiting", "held", "ready", "running", "stopping", "settled"]


def snapshot(machine: Scheduler) -> object:
    """Return all that the machine holds, as text that does not depend on identity."""
    nodes = {
        name: [repr(getattr(node, slot)) for slot in node.__slots__ if slot != "dependants"]
        + [(other.call.id, hard) for other, hard in node.dependants]
        for name, node in machine._nodes.items()
    }
    rest = {
        name: copy.copy(value)
        for name, value in vars(machine).items()
        if name not in ("_nodes", "_handlers")
    }
    return nodes, repr(list(rest.items()))


def in_state(where: str) -> Scheduler:
    """Return a machine in which call "n" is in this state, and "r" is ready."""
    machine = Scheduler()
    machine.receive(Added(call("r")))
    if where == "unknown":
        return machine
    needs = ("r",) if where == "waiting" else ()
    machine.receive(Added(call("n", *needs), eager=where != "held"))
    if where in ("running", "stopping"):
        machine.receive(Started("n"))
    if where == "stopping":
        machine.receive(Expired(1))
    if where == "settled":
        machine.receive(Settled("n", DONE))
    assert machine.state("n").value == where
    return machine


@pytest.mark.parametrize("event", [Started("n", 1.0), Settled("n", DONE)])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("batch", [False, True])
def test_an_event_of_a_call_is_taken_or_refused_by_its_state(where, event, batch):
    """What is not in the table raises `Refused`, names event and state, and changes nothing."""
    machine = in_state(where)
    events = (Settled("r", DONE), event) if batch else (event,)
    kind = type(event).__name__
    if (where, kind) in ALLOWED and not (batch and kind == "Started"):
        machine.receive(*events)
        assert machine.state("n") is (State.RUNNING if kind == "Started" else State.SETTLED)
        return
    before = snapshot(machine)
    said = "alone" if batch and kind == "Started" else f"{kind}.*'n' is {where}"
    with pytest.raises(Refused, match=said):
        machine.receive(*events)
    assert snapshot(machine) == before


NEW = Added(call("new"))


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((Added(call("r")),), "added twice"),
        ((NEW, NEW), "two events .* 'new'"),
        ((Settled("r", DONE), Settled("r", DONE)), "two events .* 'r'"),
        ((NEW, Settled("new", DONE)), "'new' is unknown"),
        ((Added(call("s", "s")),), "refers to itself"),
        ((Added(call("s", default=("s",))),), "refers to itself"),
        ((Closed(), NEW), "'new' was added after"),
        ((NEW, Closed(), Closed()), "closed twice"),
        ((Expired(1),), "no layer 1"),
        ((Expired(-1),), "no layer -1"),
        ((NEW, STOP), "Stop must come alone"),
        ((Expired(0), Settled("r", DONE)), "Expired must come alone"),
    ],
)
def test_a_batch_is_refused_as_a_whole(events: tuple[Event, ...], said):
    """One event that is not allowed refuses all, and the machine has not changed."""
    machine = in_state("unknown")
    before = snapshot(machine)
    with pytest.raises(Refused, match=said):
        machine.receive(*events)
    assert snapshot(machine) == before
    assert machine.receive(NEW) == [Launch(1, ("new",))]


def test_a_call_may_be_added_and_others_settled_in_one_batch():
    """`Added`, `Settled` and `Closed` may be mixed, and make one layer."""
    machine = in_state("unknown")
    actions = machine.receive(Settled("r", DONE), NEW, Added(call("b", "r")), Closed())
    assert actions == [Launch(1, ("new", "b"))]


# --------------------------------------------------------------------------- what the files may do

NODES = [
    node
    for module in (_scheduler, _states, _events)
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
]


def test_the_scheduler_imports_no_clock_no_loop_and_no_chance():
    """It decides and never waits."""
    names = []
    for node in NODES:
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(str(node.module))
    modules = {name.partition(".")[0] for name in names}
    assert modules <= {"__future__", "dagexec", "dataclasses", "enum", "typing", "collections"}


def test_the_scheduler_has_no_sets():
    """Without sets nothing can iterate over one."""
    assert not [n for n in NODES if isinstance(n, ast.Set | ast.SetComp)]
    used = [node.id for node in NODES if isinstance(node, ast.Name)]
    assert not {"set", "frozenset"} & {*used}


def test_default_values_of_events():
    """A call is eager unless it is said, and a start without a time is at the run's."""
    assert Added(call("a")).eager
    assert Started("a").at == pytest.approx(0.0)


# ------------------------------------------------------------------------- a call for each item


def spread_machine(count=2, **options):
    """Return a machine in which "e" has become that many calls, and the actions of that."""
    machine = Scheduler(**options)
    machine.receive(
        Added(Call("s", "t")),
        Added(Call("e", "t", {"x": {"$each": "s"}})),
        Added(Call("all", "t", {"x": {"$ref": "e"}})),
        Added(Call("one", "t", {"x": {"$ref": "e[1]"}})),
        Closed(),
    )
    machine.receive(Settled("s", Done(list(range(count)))))
    return machine, machine.receive(Spread("e", count))


def test_a_call_becomes_one_for_each_item():
    """They are launched together in the place of the call, which waits for them."""
    machine, actions = spread_machine()
    assert actions == [Launch(2, ("e[0]", "e[1]"))]
    assert machine.state("e") is State.WAITING
    assert machine.missing("e") == ("e[0]", "e[1]")
    assert [call.id for call in machine.calls] == ["s", "e", "e[0]", "e[1]", "all", "one"]
    assert machine.place("e") < machine.place("e[0]") < machine.place("e[1]") < machine.place("all")
    assert machine.call("e[1]").args == {"x": Ref("s", (1,))}
    assert machine.receive(Settled("e[1]", Done("b"))) == [Launch(3, ("one",))]
    actions = machine.receive(Settled("e[0]", Done("a")))
    assert actions == [Conclude("e", Done(["a", "b"])), Launch(4, ("all",))]


def test_an_item_that_is_lost_fails_the_call_when_all_have_ended():
    """Its dependants are skipped, those of other items are not."""
    machine, _ = spread_machine()
    machine.receive(Settled("e[0]", Failed(ValueError())))
    assert machine.state("e") is State.WAITING
    machine.receive(Started("e[1]"))
    actions = machine.receive(Settled("e[1]", Done("b")))
    assert concluded(actions)["e"].status == "failed"
    assert concluded(actions)["all"] == Skipped("e")
    assert Launch(3, ("one",)) in actions


def test_no_items_at_all():
    """An empty list, at once."""
    _, actions = spread_machine(0)
    assert actions[0] == Conclude("e", Done([]))
    assert Launch(2, ("all", "one")) in actions


@pytest.mark.parametrize("outcome", [TimedOut("workflow"), Cancelled()])
def test_a_stop_ends_items_and_their_call(outcome):
    """What runs is aborted, the call is what the stop says; items that end later change nothing."""
    machine, _ = spread_machine()
    machine.receive(Started("e[0]"))
    actions = machine.receive(Stop(outcome))
    assert concluded(actions)["e"] == outcome
    assert concluded(actions)["e[1]"] == outcome
    actions = machine.receive(Settled("e[0]", Done(1)))
    assert actions == [Finish()]
    assert machine.outcomes["e"] == outcome


def test_a_layer_that_expires_leaves_the_call_to_its_items():
    """The layer in which the call was ready is not that of its items."""
    machine, _ = spread_machine()
    assert machine.receive(Expired(1)) == []
    actions = machine.receive(Expired(2))
    assert concluded(actions)["e[0]"].status == "timed_out"
    assert concluded(actions)["e"].status == "failed"


def test_items_that_wait_for_a_person():
    """So does the call, and goes on with the answers."""
    machine, _ = spread_machine()
    machine.receive(Settled("e[0]", Done("a")))
    actions = machine.receive(Settled("e[1]", Pending("?")))
    assert concluded(actions)["e"] == Pending(because="e[1]")
    assert concluded(actions)["all"] == Pending(because="e[1]")
    machine.receive(Reopened("e[1]"))
    assert machine.state("e") is State.WAITING
    actions = machine.receive(Settled("e[1]", Done("b")))
    assert machine.outcomes["e"] == Done(["a", "b"])


def test_a_failure_that_stops_the_run_stops_items_too():
    """With `on_failure="stop"`."""
    machine, _ = spread_machine(on_failure="stop")
    actions = machine.receive(Settled("e[0]", Failed(ValueError())))
    assert {name: each.status for name, each in concluded(actions).items()} == dict.fromkeys(
        ("e", "e[1]", "all", "one"), "cancelled"
    )


def test_calls_that_come_later_know_the_items():
    """In a stream: they wait for the item that they refer to, or are skipped for it."""
    machine = Scheduler()
    machine.receive(Added(Call("e", "t", {"x": {"$each": [1, 2]}})))
    machine.receive(Spread("e", 2, ((0, 1),)))
    assert machine.state("e[1]") is State.WAITING
    machine.receive(Settled("e[0]", Failed(ValueError())))
    machine.receive(Added(Call("late", "t", {"x": {"$ref": "e[0]"}})))
    assert machine.outcomes["late"] == Skipped("e[0]")
    machine.receive(Added(Call("later", "t", {"x": {"$ref": "e[1]"}})))
    machine.receive(Added(Call("far", "t", {"x": {"$ref": "e[7]"}})))
    actions = machine.receive(Settled("e[1]", Done(2)))
    assert Launch(3, ("later",)) in actions
    assert machine.outcomes["far"] == Skipped("e")


@pytest.mark.parametrize(
    "event",
    [
        Spread("s", 1),
        Spread("no", 1),
        Spread("e", -1),
        Spread("e", 2, ((1, 0),)),
        Spread("e", 2, ((0, 2),)),
        Spread("e", 1),
    ],
    ids=str,
)
def test_spreads_that_are_refused(event):
    """A call without a list, unknown or not ready, numbers that are wrong, an id that is taken."""
    machine = Scheduler()
    taken = [Added(Call("e[0]", "t"))] if event == Spread("e", 1) else []
    machine.receive(
        Added(Call("s", "t")), Added(Call("e", "t", {"x": {"$each": [1]}})), *taken, Closed()
    )
    before = [call.id for call in machine.calls]
    with pytest.raises(Refused):
        machine.receive(event)
    assert [call.id for call in machine.calls] == before
    with pytest.raises(Refused):
        machine.receive(Settled("s", Done()), Spread("e", 1))
    assert machine.state("s") is State.READY
