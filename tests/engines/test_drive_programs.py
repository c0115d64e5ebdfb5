"""The deciding half of an engine, with programs: told the same, it asks for the same."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from dagexec import (
    Approve,
    Call,
    CallError,
    DagexecError,
    Deny,
    Done,
    Each,
    Failed,
    InDoubt,
    Outcome,
    Pending,
    Ref,
    Template,
    tool,
)
from dagexec.engines._drive import GRACE, Drive
from dagexec.engines._report import report_of
from dagexec.lowlevel import answer_entry, outcome_body
from dagexec.programs import EarlierCall, LimitReached, ProgramStopped
from tests.engines.programs import (
    FRONT,
    account_of,
    again,
    asked,
    caught_up,
    front_of,
    news,
    spec_of,
    told,
    turns,
)
from tests.programs.generated import World, Writer, by_python
from tests.programs.killed_anywhere import Strict
from tests.programs.test_chosen import Tries

# Programs that the slow test generates; more where more time is.
MANY = int(os.environ.get("DAGEXEC_FUZZ", "1000"))


def begun(source: str, **settings: Any) -> tuple[dict[str, Any], Drive]:
    """Return how a program is to be run, and its first round at second 100."""
    spec = {**spec_of(source), **settings}
    drive = caught_up(FRONT.drive(spec))
    drive.begin(100.0, {})
    return spec, drive


def ended(drive: Drive, now: float = 101.0, **outcomes: Outcome) -> None:
    """Let calls end."""
    news = [
        (name.lstrip("_"), {"outcome": outcome_body(each), "starts": 1, "abandoned": 0})
        for name, each in outcomes.items()
    ]
    drive.take(now, news)


def launched(drive: Drive) -> list[str]:
    return [out.name for out in drive.launches]


def does_what_python_does(seed: int, writer: type[Writer | Tries] = Writer) -> None:
    """Drive a program; ask others, at any time, what they make of it; and drive it again."""
    source = writer(Random(seed)).program()
    random, world = Random(seed), World()
    spec, drive = begun(source)
    first = asked(drive)
    history: list[Any] = []
    for heard in turns(drive, world, random):
        history.append(heard)
        if random.random() < 0.1:
            assert told(again(spec, drive)) == told(drive), source
    assert account_of(report_of("r", drive), world) == by_python(source, Strict()), source
    assert told(again(spec, drive)) == told(drive), source
    # Another process that begins the round anew, and is told what was recorded.
    _, second = begun(source)
    assert asked(second) == first
    for count, heard in enumerate(history):
        if second.computing:
            second.compute()
        else:
            second.take(101.0 + count, heard)
    assert told(second) == told(drive), source


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_generated_programs_do_what_python_does(first):
    """In any order of ends; whoever replays the log, or is told the same, comes to the same."""
    for seed in range(first, first + 20):
        does_what_python_does(seed)


def test_programs_that_try_do_what_python_does():
    """Told the same, whoever interprets them asks for the same."""
    for seed in range(20):
        does_what_python_does(seed, Tries)


@pytest.mark.slow
@pytest.mark.timeout(60 + MANY // 2)
def test_many_of_them():
    """The same, of more."""
    for seed in range(1_000, 1_000 + MANY // 10):
        does_what_python_does(seed)
        waits_for_people(seed)


def waits_for_people(seed: int) -> None:
    """Let calls of a program wait for a person, or be in doubt; each round is another process."""
    source = Writer(Random(seed)).program()
    random, world = Random(seed), World()
    spec, drive = begun(source)
    asked_for: set[str] = set()
    now = 100.0
    while True:
        now += 1
        if drive.computing:
            drive.compute()
        elif drive.ended:
            if not drive.waiting:
                break
            chosen = random.sample(drive.waiting, random.randint(1, len(drive.waiting)))
            given = {name: answer_entry(Approve(), drive.machine.outcomes[name]) for name in chosen}
            drive = again(spec, drive)
            drive.begin(now, given)
        elif drive.waiting and random.random() < 0.3:
            name = random.choice(drive.waiting)
            answer = answer_entry(Approve(), drive.machine.outcomes[name])
            drive.answered(now, {name: answer})
        else:
            heard = news(drive, world, random, asked_for)
            drive.take(now, heard)
    assert account_of(report_of("r", drive), world) == by_python(source, Strict()), source
    assert told(again(spec, drive)) == told(drive), source


def test_programs_whose_calls_wait_for_people_do_what_python_does():
    """Answered at any time, and in any order."""
    for seed in range(200, 212):
        waits_for_people(seed)


WAITS = "a = read(1)\nw = write(2)\nb = read(a)\nprint(b)\nread(w)"


@pytest.mark.parametrize("outcome", [Pending("sure?"), InDoubt()])
def test_what_waits_for_a_person_holds_only_what_depends_on_it(outcome):
    """The rest is done; then the round ends, and an answer begins the next one."""
    spec, drive = begun(WAITS)
    assert launched(drive) == ["1"]
    ended(drive, _1=Done(1))
    assert launched(drive) == ["2"]
    ended(drive, _2=outcome)
    assert drive.ended
    assert drive.waiting == ["2"]
    report = report_of("r", again(spec, drive))
    assert isinstance(report.error, ProgramStopped)
    assert "waits for a person while the program stood at line" in str(report.error)
    kept = again(spec, drive).result()
    assert "open" not in kept
    drive = caught_up(FRONT.drive(spec, kept))
    drive.begin(200.0, {"2": answer_entry(Approve(), outcome)})
    assert launched(drive) == ["2"]
    assert not drive.ended
    ended(drive, 201.0, _2=Done(7))
    while drive.launches:
        ended(drive, 202.0, **{f"_{name}": Done(name) for name in launched(drive)})
    report = report_of("r", again(spec, drive))
    assert (report.result, report.error) == ("4", None)
    assert report.printed == "3\n"


def test_answers_in_the_middle_of_a_round():
    """What is answered while other calls run goes on at once."""
    spec, drive = begun("a = read(1)\nb = read(2)\nread(b)\na")
    ended(drive, _2=Pending("who?"))
    assert not drive.ended
    drive.answered(102.0, {"2": answer_entry("Ann", Pending("who?"))})
    assert launched(drive) == ["2"]
    ended(drive, _2=Done("Ann"))
    assert launched(drive) == ["3"]
    ended(drive, _1=Done(1), _3=Done(3))
    assert report_of("r", again(spec, drive)).result == 1


def test_the_deadline_of_a_run_stops_its_program():
    """What is done is kept, and the report says where the program stood; no answer revives it."""
    spec, drive = begun("a = read(1)\nb = read(2)\nprint(a)\nc = write(3)\nb", run=5)
    ended(drive, _1=Done(1))
    assert drive.until == 105.0
    drive.take(105.0, [])
    assert [out.name for out in drive.aborts] == ["2"]
    drive.withdrawn([])
    drive.take(105.0 + GRACE, [])
    assert drive.ended
    report = report_of("r", again(spec, drive))
    assert isinstance(report.error, ProgramStopped)
    assert "the run ended while the program stood at line 5" in str(report.error)
    assert {name: each.status for name, each in report.items()} == {"1": "done", "2": "timed_out"}
    assert report.printed == "1\n"
    with pytest.raises(DagexecError, match="run it again under another run_id"):
        FRONT.checked("r", drive, {"2": Approve()})


def test_a_cancelled_run_stops_its_program():
    """What waits for a person is cancelled with it."""
    spec, drive = begun("a = write(1)\nread(a)")
    ended(drive, _1=Pending("sure?"))
    drive = again(spec, drive)
    drive.begin(200.0, {}, cancelled=True)
    assert drive.ended
    report = report_of("r", again(spec, drive))
    assert report["1"].status == "cancelled"
    assert "the run ended while the program stood at line 2" in str(report.error)


def test_a_program_that_computes_lets_others_have_a_turn():
    """Calls start between its slices, the deadline is looked at, and a replay counts the slices."""
    source = "n = 0\na = read(1)\nfor i in range(4000):\n    n += i\n[n, a]"
    spec, drive = begun(source)
    slices = 0
    assert launched(drive) == ["1"]
    while drive.computing:
        assert drive.until == 100.0
        slices += 1
        drive.compute()
        assert told(again(spec, drive)) == told(drive)
    assert slices > 2
    assert not drive.ended
    ended(drive, _1=Done(5))
    assert report_of("r", again(spec, drive)).result == [sum(range(4000)), 5]


def test_the_limits_of_a_program_are_kept_with_its_run():
    """An endless loop ends in the process that interprets it again, too."""
    spec = spec_of("while True:\n    pass", max_steps=3_000)
    drive = caught_up(FRONT.drive(spec))
    drive.begin(100.0, {})
    while drive.computing:
        drive.compute()
    assert drive.ended
    report = report_of("r", again(spec, drive))
    assert isinstance(report.error, LimitReached)
    assert "3,000 steps" in str(report.error)


def test_what_a_program_was_begun_with_is_kept_with_its_run():
    """Variables and functions of earlier programs, and what an attempt before it has done."""
    spec = spec_of(
        "read(twice(rows[0]))",
        variables={"rows": [4]},
        definitions={"twice": "def twice(x):\n    return write(x) * 2"},
        earlier=[EarlierCall("write", {"x": 4, "y": 0}, 21)],
    )
    drive = caught_up(FRONT.drive(spec))
    drive.begin(100.0, {})
    assert [out.args for out in drive.launches] == [{"x": 42}]
    ended(drive, **{f"_{launched(drive)[0]}": Done("there")})
    assert report_of("r", again(spec, drive)).result == "there"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("read(5)\nwrite(1)", "line 1: ToolError: ValueError: no"),
        ("try:\n    read(5)\nexcept ToolError:\n    write(1)", "stood at line 4"),
        ("try:\n    read(5)\nexcept ToolError:\n    raise ValueError(3)", "line 4: ValueError: 3"),
    ],
)
def test_a_failure_that_ends_the_run_ends_its_program(source, text):
    """With on_failure="stop": the program hears of it, and starts no call any more."""
    spec, drive = begun(source, on_failure="stop")
    ended(drive, _1=Failed(ValueError("no")))
    assert drive.ended
    for each in (drive, again(spec, drive)):
        report = report_of("r", each)
        assert [*report] == ["1"]
        assert text in str(report.error)


def test_other_tools_are_found_out():
    """A program that is replayed with tools that lead it elsewhere is refused, and why."""
    spec, drive = begun("a = read(1)\nwrite(a)\na")
    ended(drive, _1=Done(1))

    @tool(effect="read")
    def read(other: Any) -> Any: ...

    others = front_of([read, *[FRONT.tools[name] for name in ("pure", "write")]])
    with pytest.raises(DagexecError, match=r"read\(\) in line 1, where its record has call 1"):
        again(spec, drive, others)


def test_secrets_do_not_travel():
    """A call with a secret argument fails in the program, and is kept without it."""

    @tool(effect="read", secret=("token",))
    def login(token: str) -> str: ...

    front = front_of([login])
    spec = spec_of("t = 'hunt' + 'er2'\nlogin(t)", front)
    drive = caught_up(front.drive(spec))
    drive.begin(100.0, {})
    assert drive.ended
    report = report_of("r", again(spec, drive, front))
    assert "'token' of call '1' is secret" in str(report.error)
    assert "hunter2" not in str(drive.result()["log"])


SECRET_IN_THE_PLAN = [
    Template("hunter2 {}", Ref("g")),
    Ref("g", default="hunter2"),
    Each(Ref("g", default=["hunter2"])),
    Template("{}", Ref("g", default="hunter2")),
    {"user": Ref("g"), "password": "hunter2"},
    [Ref("g"), "hunter2"],
]
REFERENCES = [
    Ref("g"),
    Ref("g", ("x",), default=None),
    Each(Ref("g")),
    Template(" {} {}", Ref("g"), Ref("g")),
    {"user": Ref("g"), "password": [Ref("g")]},
]


@pytest.mark.parametrize("token", SECRET_IN_THE_PLAN)
def test_no_secret_travels_beside_a_reference(token):
    """Whatever of it stands in the plan is refused; a reference is no secret."""

    @tool(effect="read", secret=("token",))
    def login(token: Any) -> str: ...

    @tool(effect="read")
    def get() -> Any: ...

    front = front_of([login, get])
    with pytest.raises(DagexecError, match="'token' of call 'a' is secret") as caught:
        front.calls_of([Call("g", "get"), Call("a", "login", {"token": token})])
    assert "hunter2" not in str(caught.value)
    for each in REFERENCES:
        front.calls_of([Call("g", "get"), Call("a", "login", {"token": each})])


def test_a_wrong_argument_fails_in_the_program():
    """As in an Executor: the program may catch it."""
    spec, drive = begun("try:\n    read()\nexcept ToolError as e:\n    x = str(e)\nx")
    assert drive.ended
    assert "x" in report_of("r", again(spec, drive)).result


def test_a_denied_call_raises_in_the_program():
    """And the program goes on behind it."""
    spec, drive = begun("try:\n    write(1)\nexcept ToolError as e:\n    x = e.status\nx")
    ended(drive, _1=Pending("sure?"))
    drive = again(spec, drive)
    drive.begin(200.0, {"1": answer_entry(Deny("no"), Pending("sure?"))})
    ended(drive, 201.0, _1=Failed(CallError("denied: no")))
    assert report_of("r", again(spec, drive)).result == "failed"
