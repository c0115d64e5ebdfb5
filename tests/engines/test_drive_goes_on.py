"""Rounds that are answered, cancelled or moved in the middle."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dagexec import (
    Call,
    Cancelled,
    DagexecError,
    Done,
    Edit,
    Failed,
    InDoubt,
    Outcome,
    Pending,
    Ref,
    TimedOut,
)
from dagexec.engines._drive import Drive
from dagexec.engines._report import report_of
from dagexec.journal import Types
from dagexec.lowlevel import answer_entry, outcome_body
from tests.engines.programs import FRONT
from tests.engines.test_drive import begun, launched, result, spec, told

TYPES = Types()


def moved(drive: Drive, calls: list[Call], **settings: Any) -> Drive:
    """Return what goes on in another process, from JSON alone."""
    return Drive(spec(calls, **settings), TYPES.loads(TYPES.dumps(drive.result())))


def step(drive: Drive, text: str, calls: list[Call], **settings: Any) -> Drive:
    """Tell a drive what was recorded; return it, or the one that goes on in a fresh history."""
    kind, now, body = TYPES.loads(text)
    if kind == "move":
        drive = moved(drive, calls, **settings)
        drive.begin(now, body)
    elif kind == "answers":
        drive.answered(now, body)
    else:
        drive.take(now, body)
    return drive


class TestAnswersInTheMiddle:
    def test_an_answered_call_runs_while_others_do(self):
        """Its dependants too; the round is the same."""
        calls = [Call("a", "t"), Call("b", "t"), Call("c", "t", {"x": Ref("a")})]
        drive = begun(calls)
        drive.take(101.0, [("a", result(Pending("?", started=0.5)))])
        assert drive.waiting == ["a"]
        drive.answered(102.0, {"a": answer_entry("yes", drive.machine.outcomes["a"])})
        assert launched(drive) == ["a"]
        assert drive.of("a").answers
        drive.take(103.0, [("a", result(Done(1)))])
        assert [(out.name, out.args) for out in drive.launches] == [("c", {"x": 1})]
        assert not drive.machine.finished
        drive.take(104.0, [("b", result(Done(1))), ("c", result(Done(2)))])
        assert drive.machine.finished
        assert report_of("r", moved(drive, calls)).outputs == {"a": 1, "b": 1, "c": 2}


class TestCancels:
    def test_a_run_that_waits_for_a_person(self):
        """All ends, nothing is launched; a write that was in doubt may have happened."""
        calls = [
            Call("a", "t"),
            Call("b", "t", {"x": Ref("a")}),
            Call("w", "write"),
            Call("d", "t"),
        ]
        drive = begun(calls)
        settled = [("a", Pending("?", started=0.5)), ("w", InDoubt()), ("d", Done(1))]
        drive.take(101.0, [(name, result(each)) for name, each in settled])
        assert drive.machine.finished
        after = moved(drive, calls)
        after.begin(200.0, {}, cancelled=True)
        assert (after.launches, after.aborts) == ([], [])
        assert after.machine.finished
        outcomes = after.machine.outcomes
        assert {name: outcomes[name].status for name in "abwd"} == {
            "a": "cancelled",
            "b": "cancelled",
            "w": "cancelled",
            "d": "done",
        }
        assert [name for name in "abwd" if outcomes[name].maybe] == ["w"]

    def test_one_that_waits_and_runs(self):
        """What runs is told to stop once, and says what became of it."""
        calls = [Call("a", "t"), Call("b", "write"), Call("c", "t", {"x": Ref("a")})]
        drive = begun(calls)
        drive.take(101.0, [("a", result(Pending("?", started=0.5)))])
        drive.take(102.0, [], cancelled=True)
        assert [out.name for out in drive.aborts] == ["b"]
        assert drive.launches == []
        drive.take(103.0, [], cancelled=True)
        assert drive.aborts == []
        drive.take(104.0, [("b", result(Cancelled(maybe=True, started=0.1)))])
        assert drive.machine.finished
        assert {each.status for each in drive.machine.outcomes.values()} == {"cancelled"}
        assert drive.machine.outcomes["b"].maybe

    @pytest.mark.parametrize("stopped_before", [False, True])
    @pytest.mark.parametrize("asked", [Pending("?", started=0.5), InDoubt()])
    def test_a_call_that_asks_at_that_moment(self, asked, stopped_before):
        """Nobody would answer, and a run that still waited would never end."""
        calls = [Call("f", "t"), Call("a", "write"), Call("b", "t", {"x": Ref("a")})]
        for later in (0, 1):
            drive = begun(calls, on_failure="stop")
            if stopped_before:
                drive.take(100.5, [("f", result(Failed(ValueError("no"))))])
            ends = [("a", result(asked)), *([] if stopped_before else [("f", result(Done(1)))])]
            drive.take(101.0, [] if later else ends, cancelled=True)
            if later:
                drive.take(101.5, ends)
            assert drive.machine.finished
            assert drive.waiting == []
            outcomes = drive.machine.outcomes
            assert (outcomes["a"].status, outcomes["b"].status) == ("cancelled", "cancelled")
            assert (outcomes["a"].maybe, outcomes["a"].started) == (
                asked.status == "in_doubt",
                asked.started,
            )

    def test_a_call_that_does_not_know_why(self):
        """The deciding half knows by what it was stopped."""
        drive = begun([Call("a", "t"), Call("b", "t")], on_failure="stop")
        drive.take(101.0, [("a", result(Failed(ValueError("no"))))])
        drive.take(102.0, [("b", result(Cancelled(started=0.5, ended=2.0, attempts=1)))])
        outcome = drive.machine.outcomes["b"]
        assert (outcome.status, outcome.because, outcome.started) == ("cancelled", "a", 0.5)
        drive = begun([Call("a", "t")], run=5)
        drive.take(105.0, [])
        drive.take(105.1, [("a", result(Cancelled(started=0.5, ended=5.1)))])
        outcome = drive.machine.outcomes["a"]
        assert (outcome.status, outcome.scope, outcome.ended) == ("timed_out", "workflow", 5.1)
        assert "expired" in str(outcome.error)


class TestMoves:
    def test_what_was_under_way_is_launched_again(self):
        """With what is left of the run's time; what has ended is left alone."""
        calls = [Call("a", "t"), Call("b", "t"), Call("c", "t", {"x": Ref("a")})]
        drive = begun(calls, run=20)
        drive.take(105.0, [("a", result(Done(1)))])
        after = moved(drive, calls, run=20)
        after.begin(106.0, {})
        assert launched(after) == ["b", "c"]
        assert after.until == 120.0
        assert after.zero == 101.0  # what the move took does not count
        after.take(107.0, [("b", result(Done(2))), ("c", result(Done(3)))])
        assert report_of("r", moved(after, calls, run=20)).outputs == {"a": 1, "b": 2, "c": 3}

    def test_a_log_holds_no_plan(self):
        """Both sides have the spec; logs of before, which hold one, can be read."""
        calls = [Call("a", "t"), Call("b", "t", {"x": Ref("a")})]
        drive = begun(calls)
        drive.take(101.0, [("a", result(Done(1))), ("b", result(Done(2)))])
        drive.take(102.0, [("b", result(Done(2)))])
        log = drive.result()["log"]
        assert not any(kind == "added" for batch in log for kind, _, _ in batch)
        plan = [["added", call.id, {"call": call.to_dict(), "eager": False}] for call in calls]
        old = {**drive.result(), "log": [[*plan, ["closed", None, None]], *log]}
        assert report_of("r", Drive(spec(calls), old)).outputs == {"a": 1, "b": 2}

    @pytest.mark.parametrize("seed", range(60))
    def test_moves_and_answers_at_any_moment(self, seed):
        """Each call has one outcome at the end, and none that was done runs again.

        Told the same, another one asks for the same.
        """
        random = Random(seed)
        names = [f"c{each}" for each in range(random.randint(2, 9))]
        calls = [
            Call(
                name,
                random.choice(["t", "write", "pure"]),
                {"x": Ref(random.choice(names[:at])) if at and random.random() < 0.5 else at},
            )
            for at, name in enumerate(names)
        ]
        settings = {"barrier": random.random() < 0.3, "run": random.choice([None, 500])}
        ends: list[Outcome] = [Done(1), Done(1), Failed(ValueError("no")), Pending("?", started=1)]
        drive, now, done = begun(calls, **settings), 100.0, dict[str, int]()
        tape: list[Any] = []
        saw = [told(drive)]
        for _ in range(1000):
            now += random.random()
            assert not {*launched(drive)} & {*done}
            answers = {
                name: answer_entry("yes", drive.machine.outcomes[name])
                for name in drive.waiting
                if random.random() < 0.5
            }
            if drive.machine.finished and not drive.waiting:
                break
            if drive.machine.finished or random.random() < 0.2:
                item = ["move", now, answers]
            elif answers and random.random() < 0.5:
                item = ["answers", now, answers]
            else:
                ended = [name for name in drive.out if random.random() < 0.5]
                news = [(name, random.choice(ends)) for name in ended]
                done |= {name: 1 for name, each in news if each.status != "pending"}
                item = ["news", now, [(name, result(each)) for name, each in news]]
            tape.append(TYPES.dumps(item))
            drive = step(drive, tape[-1], calls, **settings)
            saw.append(told(drive))
        again = begun(calls, **settings)
        assert saw[0] == told(again)
        for text, seen in zip(tape, saw[1:], strict=True):
            again = step(again, text, calls, **settings)
            assert told(again) == seen
        assert TYPES.dumps(again.result()) == TYPES.dumps(drive.result())
        assert drive.machine.finished
        assert [*report_of("r", drive)] == names
        assert not [o for o in drive.machine.outcomes.values() if isinstance(o, TimedOut)]
        assert outcome_body(drive.machine.outcomes[names[0]])["status"] in ("done", "failed")


def test_no_secret_travels_in_an_answer_to_a_call_inside_another():
    """Whose tool may be known to nobody here: what it asked says what is secret."""
    asked = {"approve": "login", "args": {"to": "x", "token": "<secret>"}}
    wait = {"name": "l", "tool": "login", "for": "approval", "question": asked}
    calls = [Call("a", "write")]
    drive = begun(calls)
    pending = Pending({"nested": [{**wait, "path": [["inner", "l"]]}]}, started=0.5)
    drive.take(101.0, [("a", result(pending))])
    for args in ({"token": "hunter2"}, {"to": "y", "token": {"k": ["hunter2"]}}):
        for answer in (Edit(args), {"l": Edit(args)}):
            with pytest.raises(DagexecError, match="'token' of call 'l' is secret") as caught:
                FRONT.checked("r", drive, {"a": answer})
            assert "hunter2" not in str(caught.value)
    for args in ({"to": "y"}, {"to": "y", "token": "<secret>"}, {"token": None}):
        (entry,) = FRONT.checked("r", drive, {"a": {"l": Edit(args)}}).values()
        assert entry["items"][0]["answer"]["args"] == args
