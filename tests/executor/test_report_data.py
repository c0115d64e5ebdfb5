"""Reports as data: rows for tables, two runs side by side, outcomes that give or raise."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import (
    Call,
    DagexecError,
    Done,
    Each,
    Executor,
    Failed,
    InDoubt,
    Plan,
    Ref,
    Report,
    Skipped,
    TimedOut,
    Timeouts,
    tool,
)
from dagexec._pictures.durations import duration
from dagexec.journal import MemoryJournal, SqliteJournal

pytestmark = pytest.mark.anyio

KEYS = ["id", "tool", "status", "started", "seconds", "queued", "attempts", "error"]
KEYS += ["because", "blocked"]


@tool(effect="read")
async def look(x: object = 1, seconds: float = 0.5) -> object:
    """Return x, later."""
    await anyio.sleep(seconds)
    return x


@tool(effect="read")
async def fail(x: object = 1) -> object:
    """Raise."""
    raise ValueError("no")


@tool(approval=True)
async def pay(x: int = 1) -> int:
    """Wait for a person."""
    return x


PLAN = Plan(
    [
        Call("a", "look"),
        Call("b", "fail"),
        Call("c", "look", {"x": Ref("b")}),
        Call("d", "look", {"seconds": 60}),
        Call("e", "pay"),
        Call("f", "look", {"x": Ref("e")}),
        Call("g", "look", {"x": Ref("a")}),
    ]
)


async def mixed(plan=PLAN, **options):
    executor = Executor([look, fail, pay], timeouts=Timeouts(call=2), concurrency=2, **options)
    return await executor.run(plan)


async def test_rows_hold_a_dict_a_call_of_plain_json():
    """In plan order, each with the same keys, and JSON takes all of it."""
    report = await mixed()
    rows = report.rows()
    assert [row["id"] for row in rows] == list("abcdefg")
    assert all(list(row) == KEYS for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    first, second, third, fourth = rows[:4]
    assert (first["tool"], first["status"], first["seconds"]) == ("look", "done", 0.5)
    assert second["error"] == "ValueError: no"
    assert (third["status"], third["started"], third["attempts"]) == ("skipped", None, 0)
    assert (fourth["status"], fourth["seconds"]) == ("timed_out", 2.0)
    assert rows[6]["queued"] == report["g"].queued
    assert [row["because"] for row in rows] == [None, None, "b", None, None, "e", None]
    assert {row["blocked"] for row in rows} == {0.0}


async def test_items_are_counted_apart_from_the_calls_of_the_plan():
    """One call with `$each` is one call in the line; ids that look alike mislead nobody."""
    plan = Plan(
        [
            Call("a", "look", {"x": Each([1, 2, 3])}),
            Call("b", "fail", {"x": Each([1, 2])}),
            Call("c[0]", "look"),
            Call("a[x]", "look"),
        ]
    )
    report = await mixed(plan)
    assert str(report).startswith("4 calls: 3 done, 1 failed; 5 items: 3 done, 2 failed in ")
    again = Report.from_json(report.to_json())
    assert str(again) == str(report)


async def test_rows_of_a_live_run_say_where_its_calls_are():
    """What has not ended is there too."""
    executor = Executor([look], concurrency=1)
    plan = Plan([Call("a", "look"), Call("b", "look"), Call("c", "look", {"x": Ref("a")})])
    async with executor.start(plan) as run:
        await anyio.sleep(0.1)
        rows = run.report.rows()
        assert [row["status"] for row in rows] == ["running", "ready", "waiting"]
        assert [row["attempts"] for row in rows] == [1, 0, 0]
        assert rows[0]["seconds"] is None


async def test_rows_after_json_are_the_same():
    """Errors too, although they come back as records of errors."""
    report = await mixed()
    assert Report.from_json(report.to_json()).rows() == report.rows()


async def test_when_a_run_began():
    """In UTC, and JSON keeps it; a report that does not say it has None."""
    before = datetime.now(UTC)
    report = await mixed()
    assert before <= report.started_at <= datetime.now(UTC)
    assert report.started_at.tzinfo is UTC
    body = report.to_dict()
    assert Report.from_dict(json.loads(json.dumps(body))).started_at == report.started_at
    del body["started_at"]
    assert Report.from_dict(body).started_at is None
    body["started_at"] = "2026-01-01T00:00:00"
    with pytest.raises(DagexecError, match="time zone"):
        Report.from_dict(body)
    assert Executor().start(Plan()).report.started_at is None


async def test_a_resumed_run_began_when_it_began_first():
    """The journal keeps it."""
    journal = MemoryJournal()
    executor = Executor([pay], journal=journal)
    first = await executor.run(Plan([Call("a", "pay")]), run_id="r")
    await anyio.sleep(5)
    again = await executor.resume("r", {"a": Done(3)})
    assert again.outputs == {"a": 3}
    assert again.started_at == first.started_at is not None


@pytest.mark.real_time
async def test_a_file_keeps_when_a_run_began(tmp_path):
    """So does a journal in a file, for whoever reads it later."""
    executor = Executor([pay], journal=SqliteJournal(tmp_path / "j.db"))
    first = await executor.run(Plan([Call("a", "pay")]), run_id="r")
    other = Executor([pay], journal=SqliteJournal(tmp_path / "j.db"))
    assert (await other.resume("r")).started_at == first.started_at


async def test_an_outcome_gives_its_value_or_raises():
    """The call's own error, or one that names call, status and cause."""
    report = await mixed()
    assert report["a"].result() == 1
    with pytest.raises(ValueError, match="no") as caught:
        report["b"].result()
    assert caught.value.__notes__ == ["in call 'b' of tool 'fail'"]
    with pytest.raises(TimeoutError):
        report["d"].result()
    for name, words in {
        "c": "call 'c' of tool 'look' is skipped: it needs 'b'",
        "e": "call 'e' of tool 'pay' is pending: it waits for an answer",
        "f": "call 'f' of tool 'look' is pending: it waits for 'e'",
    }.items():
        with pytest.raises(DagexecError, match=words):
            report[name].result()


def test_outcomes_that_belong_to_no_report_raise_too():
    """They know no call."""
    assert Done(3).result() == 3
    assert Done(3).tool is None
    for outcome, words in (
        (Skipped("b"), "the call is skipped: it needs 'b'"),
        (InDoubt(), "the call is in_doubt: a crash"),
        (TimedOut("turn"), "the call is timed_out: the deadline of the turn expired"),
        (Failed(None), "the call is failed: no error"),
    ):
        with pytest.raises(DagexecError, match=words):
            outcome.result()


async def test_an_outcome_knows_its_tool_and_seconds():
    """Also where one deadline ended many calls with one outcome."""
    executor = Executor([look], timeouts=Timeouts(workflow=1), concurrency=1)
    plan = Plan([Call(name, "look", {"seconds": 60}) for name in "abc"])
    report = await executor.run(plan)
    assert {name: outcome.call.id for name, outcome in report.items()} == {
        each: each for each in "abc"
    }
    assert {outcome.tool for outcome in report.values()} == {"look"}
    assert report["a"].seconds == 1.0
    assert report["b"].seconds is None
    assert report["a"] is report["a"]


def test_a_repr_is_short():
    """Only what means something, and long values are cut."""
    assert repr(Done(3)) == "Done(value=3)"
    assert repr(Done(None)) == "Done(value=None)"
    assert repr(Skipped("b")) == "Skipped(because='b')"
    long = Done({"page": "x" * 5000, "rows": list(range(5000))}, started=0.0, ended=1.5, attempts=1)
    assert len(repr(long)) < 250
    assert "started=0.0, ended=1.5" in repr(long)

    class Nasty:
        def __repr__(self):
            raise RuntimeError

    assert "Nasty" in repr(Done(Nasty()))


async def test_what_is_not_there_says_why():
    """Both a KeyError, as mappings have it, and a DagexecError that names the cause."""
    report = await mixed()
    for asked, name, words in (
        (report.outputs, "b", "call 'b' of tool 'fail' is failed: ValueError: no"),
        (report.outputs, "c", "is skipped: it needs 'b'"),
        (report.outputs, "aa", "no call 'aa'; did you mean 'a'"),
        (report, "zz", "no call 'zz'"),
    ):
        with pytest.raises(KeyError, match=words) as caught:
            asked[name]
        assert isinstance(caught.value, DagexecError)
        assert not str(caught.value).startswith('"')
    assert "zz" not in report
    assert report.get("zz") is None
    outputs = report.outputs
    assert outputs == {"a": 1, "g": 1}
    assert outputs.get("b") is None
    assert type(copy.copy(outputs)) is type(pickle.loads(pickle.dumps(outputs))) is dict
    del outputs["a"]
    with pytest.raises(KeyError, match="a"):
        outputs["a"]


async def test_two_runs_side_by_side():
    """By call and by tool, as tables and as text."""
    slow, fast = await mixed(), await mixed(Plan([Call("a", "look", {"seconds": 0.1})]))
    both = fast.compare(slow)
    row = both.rows()[0]
    assert row == {
        "id": "a",
        "tool": "look",
        "status": "done",
        "other_status": "done",
        "seconds": pytest.approx(0.1),
        "other_seconds": 0.5,
        "difference": pytest.approx(-0.4),
        "queued": 0.0,
        "other_queued": 0.0,
    }
    assert repr(both) == str(both)
    gone = both.rows()[1]
    assert (gone["id"], gone["status"], gone["other_status"]) == ("b", None, "failed")
    assert gone["difference"] is None
    tools = {row["tool"]: row for row in both.tools()}
    assert (tools["look"]["calls"], tools["look"]["other_calls"]) == (1, 5)
    assert (tools["look"]["done"], tools["look"]["other_done"]) == (1, 2)
    assert tools["look"]["other_seconds"] == pytest.approx(0.5 + 2.0 + 0.5)
    assert tools["pay"]["difference"] is None
    text = str(both)
    assert "this run   1 call: 1 done in 100 ms" in text
    assert "b fail: not there, was failed" in text
    assert json.loads(json.dumps(both.rows() + both.tools()))


async def test_calls_with_the_same_id_and_another_tool_are_not_the_same():
    """A model's second answer numbers its calls from 1 again."""
    one, two = await mixed(Plan([Call("1", "look")])), await mixed(Plan([Call("1", "fail")]))
    rows = one.compare(two).rows()
    assert [(row["tool"], row["status"], row["other_status"]) for row in rows] == [
        ("look", "done", None),
        ("fail", None, "failed"),
    ]


async def test_a_comparison_tells_of_the_queue():
    """A run that took longer because its calls waited for a slot shows so, in data and text."""

    @tool(effect="read")
    async def look() -> None:
        await anyio.sleep(0.25)

    plan = Plan([Call(name, "look") for name in "abc"])
    narrow = await Executor([look], concurrency=1).run(plan)
    wide = await Executor([look]).run(plan)
    both = narrow.compare(wide)
    assert [row["queued"] for row in both.rows()] == pytest.approx([0.0, 0.25, 0.5])
    assert [row["other_queued"] for row in both.rows()] == [0.0] * 3
    assert both.tools()[0]["queued"] == pytest.approx(0.75)
    assert "750 ms / 0 ms" in str(both)


def test_only_a_report_can_be_compared():
    """The mistake is named."""
    with pytest.raises(DagexecError, match="takes the report of another run, not dict"):
        Report(Plan(), {}).compare({})


def test_empty_runs_can_be_compared():
    """There is nothing to say, and it is said."""
    both = Report(Plan(), {}).compare(Report(Plan(), {}))
    assert both.rows() == both.tools() == []
    assert "nothing to do in 0 ms" in str(both)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (-1e-9, "0 ms"),
        (0.00004, "0 ms"),
        (0.0023, "2.3 ms"),
        (0.00996, "10 ms"),
        (0.2314, "231 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (2.312, "2.31 s"),
        (600, "600.00 s"),
    ],
)
def test_durations(seconds, text):
    """Seconds with two digits, below that milliseconds."""
    assert duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e5))
def test_no_duration_is_told_wrong(seconds):
    """What is shown is the duration, to half of the last digit that is shown."""
    number, unit = duration(seconds).split()
    told = float(number) * {"s": 1.0, "ms": 0.001}[unit]
    digit = 0.01 if unit == "s" else 0.001 if seconds > 0.00995 else 0.0001
    assert abs(told - seconds) <= 0.5001 * digit
    assert (unit == "s") == (seconds >= 0.9995)


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_any_moment_survives_json(moment):
    """To the microsecond."""
    began = (moment - datetime(1970, 1, 1)) / timedelta(seconds=1)  # noqa: DTZ001
    report = Report(Plan(), {}, began=began)
    assert Report.from_json(report.to_json()).started_at == report.started_at
