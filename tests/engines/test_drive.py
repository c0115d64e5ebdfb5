"""The half of an engine that decides: told the same, it asks for the same."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from dagexec import Call, Done, Failed, Outcome, Pending, Ref, TimedOut
from dagexec.engines._drive import GRACE, Drive
from dagexec.engines._report import report_of
from dagexec.journal import Types
from dagexec.lowlevel import answer_entry, outcome_body

TYPES = Types()


def spec(calls: list[Call], **settings: Any) -> dict[str, Any]:
    """Return how a run is to be run."""
    return {
        "calls": [call.to_dict() for call in calls],
        "call": 30,
        "layer": None,
        "run": None,
        "scope": "workflow",
        "on_failure": "skip",
        "barrier": False,
        "effects": {"write": "write", "pure": "pure"},
        **settings,
    }


def result(outcome: Outcome) -> dict[str, Any]:
    """Return what a worker leaves."""
    return {"outcome": outcome_body(outcome), "starts": 1, "abandoned": 0}


def begun(calls: list[Call], **settings: Any) -> Drive:
    """Return a first round at second 100."""
    drive = Drive(spec(calls, **settings))
    drive.begin(100.0, {})
    return drive


def launched(drive: Drive) -> list[str]:
    return [out.name for out in drive.launches]


def told(drive: Drive) -> list[Any]:
    """Return what a drive asks for."""
    launches = [(out.name, out.args, out.until, out.scope) for out in drive.launches]
    return [launches, [out.name for out in drive.aborts], drive.until, drive.machine.finished]


def test_values_go_from_call_to_call():
    """Launched with values in the place of references; a chain one by one."""
    drive = begun([Call("a", "t", {"x": 1}), Call("b", "t", {"x": Ref("a")})])
    assert launched(drive) == ["a"]
    drive.take(101.0, [("a", result(Done({"$ref": "no"})))])
    assert [(out.name, out.args) for out in drive.launches] == [("b", {"x": {"$ref": "no"}})]
    drive.take(102.0, [("b", result(Done(2)))])
    assert drive.machine.finished
    assert drive.result()["elapsed"] == 2.0


def test_the_deadline_of_a_run():
    """What runs is told to stop, and answers; what does not answer is given up."""
    drive = begun([Call("a", "write"), Call("b", "t"), Call("c", "t", {"x": Ref("a")})], run=5)
    assert drive.until == 105.0
    drive.take(105.0, [])
    assert [out.name for out in drive.aborts] == ["a", "b"]
    drive.withdrawn(["b"])
    assert not drive.machine.finished
    assert drive.until == 105.0 + GRACE
    drive.take(drive.until, [])
    assert drive.machine.finished
    outcomes = drive.machine.outcomes
    assert {name: outcomes[name].scope for name in "abc"} == dict.fromkeys("abc", "workflow")
    assert outcomes["a"].maybe
    assert outcomes["b"].started is None


def test_a_worker_that_is_first_to_see_the_deadline():
    """Its word ends the run: what needs the call is timed out, not skipped."""
    drive = begun([Call("a", "t"), Call("b", "t", {"x": Ref("a")})], run=5)
    drive.take(104.99, [("a", result(TimedOut("workflow")))])
    assert drive.machine.outcomes["b"].status == "timed_out"
    assert drive.machine.finished


def test_the_deadline_of_a_layer():
    """It catches its own calls; what needs them is skipped."""
    drive = begun([Call("a", "t"), Call("b", "t"), Call("c", "t", {"x": Ref("a")})], layer=5)
    drive.take(103.0, [("b", result(Done(1)))])
    drive.take(105.0, [])
    assert [out.name for out in drive.aborts] == ["a"]
    drive.take(106.0, [("a", result(TimedOut("layer")))])
    assert drive.machine.outcomes["c"].because == "a"


def test_identical_pure_calls():
    """One runs; the others get its outcome, unless it says nothing of the arguments."""
    calls = [Call(name, "pure", {"x": 1}) for name in "abc"] + [Call("d", "pure", {"x": 1.0})]
    drive = begun(calls)
    assert launched(drive) == ["a", "d"]
    drive.take(101.0, [("a", result(Pending("?", started=0.5)))])
    assert launched(drive) == ["b"]
    drive.take(102.0, [("b", result(Done(5, attempts=1)))])
    assert drive.machine.outcomes["c"] == Done(
        5, because="b", attempts=0, started=2.0, ended=2.0, queued=2.0
    )


@pytest.mark.parametrize("seed", range(60))
def test_told_the_same_it_asks_for_the_same(seed):
    """What was recorded, told to a fresh one in another process, leads to the same run."""
    random = Random(seed)
    names = [f"c{each}" for each in range(random.randint(1, 9))]
    calls = [
        Call(
            name,
            random.choice(["t", "write", "pure"]),
            {"x": Ref(random.choice(names[:at]), (), default=0)} if at and random.random() < 0.5
            else {"x": Ref(random.choice(names[:at]), ("p",))} if at and random.random() < 0.5
            else {"x": random.randint(0, 1)},
            after=tuple(random.sample(names[:at], min(at, random.randint(0, 1)))),
        )
        for at, name in enumerate(names)
    ]  # fmt: skip
    settings: dict[str, Any] = {
        "on_failure": random.choice(["skip", "skip", "stop"]),
        "barrier": random.random() < 0.3,
        "layer": random.choice([None, 3]),
        "run": random.choice([None, 9]),
    }
    outcomes = [Done({"p": 1}), Done(0), Failed(ValueError("no")), Pending("?"), TimedOut("call")]
    tape: list[Any] = []
    saw: list[Any] = []
    drive = begun(calls, **settings)
    saw.append(told(drive))
    now = 100.0
    while not drive.machine.finished or drive.aborts:
        now += random.random()
        if drive.aborts:
            tape.append(("withdrawn", [out.name for out in drive.aborts if random.random() < 0.5]))
        else:
            ended = [name for name in drive.out if random.random() < 0.4]
            news = [(name, result(random.choice(outcomes))) for name in ended]
            tape.append(("take", now, news))
        play(drive, tape[-1])
        saw.append(told(drive))
        assert len(tape) < 1000
    assert {*drive.machine.outcomes} == {*names}

    again = Drive(json.loads(json.dumps(spec(calls, **settings))))
    again.begin(100.0, {})
    seen = [told(again)]
    for item in TYPES.loads(TYPES.dumps(tape)):
        play(again, item)
        seen.append(told(again))
    assert seen == saw
    assert TYPES.dumps(again.result()) == TYPES.dumps(drive.result())
    check_the_next_round(calls, settings, drive)


def play(drive: Drive, item: Any) -> None:
    """Tell a drive what was recorded."""
    if item[0] == "withdrawn":
        drive.withdrawn(item[1])
    else:
        drive.take(item[1], item[2])


def check_the_next_round(calls: list[Call], settings: dict[str, Any], drive: Drive) -> None:
    """The log leads to the same report; answered calls, and only they, are launched again."""
    kept = TYPES.loads(TYPES.dumps(drive.result()))
    after = Drive(spec(calls, **settings), kept)
    one, other = report_of("r", after), report_of("r", Drive(spec(calls, **settings), kept))
    assert one.to_dict() == other.to_dict()
    assert {name: outcome.status for name, outcome in one.items()} == {
        name: outcome.status for name, outcome in drive.machine.outcomes.items()
    }
    waiting = [
        name
        for name, outcome in after.machine.outcomes.items()
        if outcome.status == "pending" and outcome.because is None
    ]
    answers = {name: answer_entry("yes", after.machine.outcomes[name]) for name in waiting}
    after.begin(500.0, answers)
    assert {*launched(after)} <= {*waiting}
    assert all(after.of(name).answers for name in waiting)


def test_a_call_for_each_item():
    """Launched with the items; the list of their values goes on; a replay says the same."""
    calls = [
        Call("a", "t"),
        Call("b", "write", {"x": {"$each": "a.items"}}),
        Call("c", "t", {"x": Ref("b")}),
        Call("d", "t", {"x": Ref("b", (0,))}),
    ]
    drive = begun(calls, ordered=[])
    drive.take(101.0, [("a", result(Done({"items": [1, 2]})))])
    assert [(out.name, out.args) for out in drive.launches] == [
        ("b[0]", {"x": 1}),
        ("b[1]", {"x": 2}),
    ]
    drive.take(102.0, [("b[0]", result(Done("x")))])
    assert [(out.name, out.args) for out in drive.launches] == [("d", {"x": "x"})]
    again = Drive(spec(calls), drive.result())
    assert again.machine.state("b[1]") is drive.machine.state("b[1]")
    drive.take(103.0, [("b[1]", result(Done("y"))), ("d", result(Done(0)))])
    assert [(out.name, out.args) for out in drive.launches] == [("c", {"x": ["x", "y"]})]
    chained = begun(calls, ordered=["write"])
    chained.take(101.0, [("a", result(Done({"items": [1, 2]})))])
    assert launched(chained) == ["b[0]"]
    failed = begun(calls)
    failed.take(101.0, [("a", result(Done({"items": 3})))])
    assert "takes a list" in str(failed.machine.outcomes["b"].error)
    assert failed.machine.outcomes["c"].because == "b"


def test_steps_that_blocked_are_counted_over_calls_and_rounds():
    """A worker, or a round, of an older dagexec does not say it."""
    calls = [Call("a", "write"), Call("b", "write"), Call("c", "write")]
    drive = begun(calls)
    blocked = {**result(Done(1)), "blocked": [2, 0.5]}
    drive.take(101.0, [("a", blocked), ("b", blocked), ("c", result(Done(1)))])
    kept = TYPES.loads(TYPES.dumps(drive.result()))
    for again, before in ((kept, (4, 1.0)), ({**kept, "blocked": [1, 0.25]}, (1, 0.25))):
        report = report_of("r", Drive(spec(calls), again))
        assert (report.blocked, report.blocked_seconds) == before
    del kept["blocked"]
    assert report_of("r", Drive(spec(calls), kept)).blocked == 0
