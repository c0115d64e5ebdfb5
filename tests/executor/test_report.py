"""The report of a run that has a bit of everything."""

from __future__ import annotations

import pytest

from dagexec import Call, DagexecError, Executor, Plan, Ref, Report, Timeouts, tool
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


async def test_secrets_are_in_no_text():
    """Not in the JSON of a report, nor in the `repr` of a call or of an event; a plan has them."""

    @tool(name="login_with_key", effect="read", secret="key")
    async def login(user: str, key: str) -> str:
        return user

    told: list[object] = []
    calls = [
        Call("1", "login_with_key", {"user": "ann", "key": "hunter2"}),
        Call("2", "login_with_key", {"user": "bob", "key": Ref("1")}),
    ]
    report = await Executor([login], observers=[told.append]).run(calls)
    assert report.ok
    for text in (report.to_json(), repr(calls), repr(told), repr(report.plan.calls)):
        assert "hunter2" not in text
        assert "<secret>" in text
        assert "ann" in text
    again = Report.from_json(report.to_json())
    assert again.plan["1"].args == {"user": "ann", "key": "<secret>"}
    assert again.plan["2"] == calls[1]
    assert again.to_json() == report.to_json()
    assert Plan.from_json(report.plan.to_json()) == report.plan
    assert (await Executor([login]).run(Plan.from_json(report.plan.to_json()))).ok
    assert repr(Call("1", "t", {"a": 1}, after=("2",))) == (
        "Call(id='1', tool='t', args={'a': 1}, after=('2',), ordered=(), problem=None)"
    )


NO_PLANS = [
    ("abc", "not a str; Plan.from_json(text) reads JSON"),
    (5, "not 5"),
    (None, "not None"),
    ([1], "not a list that holds 1"),
    ([Call("1", "t"), None], "not a list that holds None"),
    ({"calls": []}, "not a dict; Plan.from_dict(body)"),
    (Call("1", "t"), "not a Call; a plan of one call is [call]"),
]


@pytest.mark.parametrize(("given", "words"), NO_PLANS, ids=[words for _, words in NO_PLANS])
async def test_what_is_no_plan_is_refused_by_name(given, words):
    """One error, whichever way it was given."""
    executor = Executor(ToolBox().tools)

    async def live():
        async with executor.start(given):
            """Never entered."""

    for way in (lambda: executor.run(given), live):
        with pytest.raises(DagexecError, match="is needed") as caught:
            await way()
        assert words in str(caught.value)
    with pytest.raises(DagexecError, match="is needed"):
        executor.check(given)


async def test_a_stream_of_other_things_breaks_by_name():
    """The error says what came instead of a call."""

    async def source():
        yield "x"

    with pytest.raises(DagexecError, match="gives calls, not a str"):
        await Executor().run(source())
