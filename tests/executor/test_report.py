"""The report of a run that has a bit of everything."""

from __future__ import annotations

import pytest

from dagexec import Call, DagexecError, Executor, Plan, Ref, Report, Timeouts
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio


async def mixed():
    """Return the report of a run with five kinds of outcomes."""
    box = ToolBox()
    box.tool("ok", seconds=1, returns={"a": [1, None]})
    box.tool("bad", seconds=1, raises=ValueError("no"))
    box.tool("slow", seconds=99)
    box.tool("pay", approval=True)
    plan = Plan(
        [
            Call("1", "ok"),
            Call("2", "bad"),
            Call("3", "slow"),
            Call("4", "ok", {"x": Ref("2")}),
            Call("5", "ok", {"x": Ref("1", ("a", 0))}),
            Call("6", "pay", {"x": 1}),
        ]
    )
    return await Executor(box.tools, timeouts=Timeouts(call=1.5)).run(plan, run_id="r")


async def test_one_line():
    """Counts in a fixed order, and the time."""
    report = await mixed()
    line = "6 calls: 2 done, 1 failed, 1 timed_out, 1 skipped, 1 pending in 2.00 s"
    assert str(report) == line
    assert repr(report) == f"<Report: {line}>"
    assert report.outputs == {"1": {"a": [1, None]}, "5": {"a": [1, None]}}


async def test_exceptions_name_their_calls():
    """A group in plan order; asking twice adds no second note."""
    report = await mixed()
    for _ in range(2):
        group = report.exceptions
        assert [error.__notes__ for error in group.exceptions] == [
            ["in call '2' of tool 'bad'"],
            ["in call '3' of tool 'slow'"],
        ]
    with pytest.raises(ExceptionGroup) as caught:
        report.raise_for_failures()
    assert caught.group_contains(ValueError, match="no")
    assert caught.group_contains(TimeoutError)


async def test_there_and_back_through_json():
    """Every field comes back; errors as type and message."""
    report = await mixed()
    back = Report.from_json(report.to_json())
    assert list(back) == list(report)
    assert str(back) == str(report)
    assert (back.run_id, back.elapsed, back.abandoned) == ("r", report.elapsed, 0)
    assert back.plan.to_dict() == report.plan.to_dict()
    for name, outcome in report.items():
        same = back[name]
        fields = ("status", "value", "scope", "because", "question", "attempts", "started", "ended")
        for field in (*fields, "queued", "maybe"):
            assert getattr(same, field) == getattr(outcome, field), (name, field)
        assert (same.error is None) == (outcome.error is None)
    assert str(back["2"].error) == "ValueError: no"
    assert back.to_json() == report.to_json()


async def test_the_critical_path():
    """From the last end back to a call that waited for none."""
    assert (await mixed()).critical_path == ("1", "5")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"version": 1}', "null"])
def test_what_is_no_report_is_refused(text):
    """With one kind of error."""
    with pytest.raises(DagexecError):
        Report.from_json(text)
