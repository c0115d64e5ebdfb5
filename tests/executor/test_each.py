"""A call for each item of a list: the same as the calls written out by hand."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec import (
    Approve,
    BadReference,
    Call,
    Deny,
    Each,
    Executor,
    Plan,
    Ref,
    Timeouts,
    current_call,
    tool,
)
from dagexec._core.refs import decode, encode
from dagexec.journal import MemoryJournal
from dagexec.lowlevel import Added
from dagexec.testing import run_virtual

BACKENDS = ("asyncio", "trio")
LOST = "lost"


@tool(effect="read")
async def listed(items: list) -> object:
    """Return a list."""
    await anyio.sleep(0.1)
    return {"items": items}


@tool(effect="read")
async def work(item: dict, note: str = "") -> object:
    """Take as long, and end, as the item says."""
    await anyio.sleep(item["seconds"])
    if item["fails"]:
        raise ValueError(item["seconds"])
    return [item["seconds"], note]


@tool(effect="write")
async def change(item: dict) -> object:
    """Do the same; twice is wrong."""
    await anyio.sleep(item["seconds"])
    if item["fails"]:
        raise ValueError(item["seconds"])
    return item["seconds"]


@tool(effect="pure")
async def gather(values: list) -> list:
    """Return its argument: the list by hand."""
    return values


@tool(effect="read")
async def after(value: object) -> object:
    """Depend on something."""
    await anyio.sleep(0.2)
    return value


TOOLS = [listed, work, change, gather, after]


def with_each(items, name, picks):
    """Return the plan with one call for all items, and dependants of some and of all."""
    return Plan(
        [
            Call("1", "listed", {"items": {"$literal": items}}),
            Call("2", name, {"item": {"$each": "1.items"}}),
            Call("3", "after", {"value": {"$ref": "2"}}),
            *(
                Call(f"4-{pick}", "after", {"value": {"$ref": f"2[{pick}]"}})
                for pick in picks
                if pick < len(items)
            ),
            Call("5", "after", {"value": {"$ref": "3", "default": None}}, after=("1",)),
        ]
    )


def by_hand(items, name, picks):
    """Return the same plan with the calls written out."""
    names = [f"2[{index}]" for index in range(len(items))]
    return Plan(
        [
            Call("1", "listed", {"items": {"$literal": items}}),
            *(
                Call(each, name, {"item": Ref("1", ("items", index))})
                for index, each in enumerate(names)
            ),
            Call(
                "2", "gather", {"values": [Ref(each, default=LOST) for each in names]}, after=("1",)
            ),
            Call("3", "after", {"value": {"$ref": "2"}}),
            *(
                Call(f"4-{pick}", "after", {"value": Ref(f"2[{pick}]")})
                for pick in picks
                if pick < len(items)
            ),
            Call("5", "after", {"value": {"$ref": "3", "default": None}}, after=("1",)),
        ]
    )


def told(report):
    """Return what became of each call, and when; the call with the list is nobody's work."""
    found = {
        name: (outcome.status, outcome.value, outcome.scope, outcome.started, outcome.ended)
        for name, outcome in report.items()
        if name != "2"
    }
    two = report["2"]
    # By hand the list has a default for what is lost; the call for items fails then.
    lost = two.status == "failed" or (two.status == "done" and LOST in two.value)
    if lost:
        found = {name: each for name, each in found.items() if name not in ("3", "5")}
    return found, ("failed", None) if lost else (two.status, two.value)


moments = st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0, 40.0])
work_items = st.lists(
    st.fixed_dictionaries({"seconds": moments, "fails": st.sampled_from([False, False, True])}),
    max_size=5,
)
limits = st.sampled_from([None, 0.3, 1.05, 2.0])


@given(
    items=work_items,
    name=st.sampled_from(["work", "change"]),
    picks=st.sets(st.integers(0, 5)),
    options=st.fixed_dictionaries(
        {
            "concurrency": st.sampled_from([1, 2, None]),
            "barrier": st.booleans(),
            "timeouts": st.builds(Timeouts, call=limits, layer=limits, workflow=limits),
        }
    ),
    backend=st.sampled_from(BACKENDS),
)
def test_each_is_the_calls_written_out(items, name, picks, options, backend):
    """Values, failures, deadlines and the times of all calls, whatever limits there are."""
    if options["barrier"] or options["concurrency"]:
        picks = set()  # by hand, `gather` takes a slot or a layer of its own

    async def run(plan):
        return await Executor(TOOLS, **options).run(plan)

    found = run_virtual(run, with_each(items, name, picks), backend=backend)
    expected = run_virtual(run, by_hand(items, name, picks), backend=backend)
    one, two = told(found), told(expected)
    exact = not (options["barrier"] or options["concurrency"] or options["timeouts"].layer)
    if not exact:  # the call that gathers by hand costs a turn
        one, two = statuses(found), statuses(expected)
    assert one == two
    if found["2"].status != "done":
        assert found["3"].status in ("skipped", found["2"].status)


def statuses(report):
    """Return what became of the items."""
    return {name: each.status for name, each in report.items() if name.startswith("2[")}


@given(
    items=work_items,
    name=st.sampled_from(["work", "change"]),
    backend=st.sampled_from(BACKENDS),
    stopped=st.booleans(),
    limit=limits,
)
@settings(max_examples=25)
def test_a_crash_at_any_point(items, name, backend, stopped, limit):
    """Resumed from each record on, the run ends as the calls written out do.

    A write of which it is not known whether it ended is in doubt, and no other is run again.
    """
    items = [{**item, "seconds": min(item["seconds"], 3.0)} for item in items]
    plan = with_each(items, name, {0, 1})

    async def resumed(records):
        crashed = MemoryJournal()
        again = Executor(TOOLS, journal=crashed)
        await again.run(Plan([Call("x", "gather", {"values": []})]), run_id="r")
        crashed._runs["r"].records = records
        return await again.resume("r")

    async def run():
        journal = MemoryJournal()
        policy = "stop" if stopped else "skip"
        executor = Executor(
            TOOLS, journal=journal, on_failure=policy, timeouts=Timeouts(call=limit)
        )
        expected = await executor.run(plan, run_id="r")
        records = list(journal._runs["r"].records)
        for length in range(1, len(records)):
            report = await resumed(records[:length])
            doubtful = [each for each in report if report[each].status == "in_doubt"]
            assert name == "change" or not doubtful
            known = {each for each in expected if _ended(records[:length], each)}
            assert not known & {*doubtful}
            if not stopped and limit is None and not doubtful:
                assert _said(report) == _said(expected)
            for each in known:
                assert _said(report)[each] == _said(expected)[each]
            # Nothing is spread twice, and the items follow their call.
            assert list(report)[1:2] == ["2"]
            spread = [each for each in report if each.startswith("2[")]
            assert spread in ([], [f"2[{index}]" for index in range(len(items))])

    run_virtual(run, backend=backend)


def _said(report):
    """Return what a report says of each call, without times."""
    return {name: (each.status, each.value, _text(each.error)) for name, each in report.items()}


def _text(error):
    """Return an error's text; one that was recorded has the name of its type before it."""
    return None if error is None else str(error).removeprefix(f"{getattr(error, 'kind', '')}: ")


def _ended(records, name):
    """Whether records say how a call ended."""
    return any(kind == "settled" and call == name for kind, call, _ in records)


# ------------------------------------------------------------------------------- single situations


async def run(*calls, tools=TOOLS, **options):
    """Run calls."""
    return await Executor(tools, **options).run(Plan(calls))


@pytest.mark.anyio
async def test_values_come_in_order_and_by_reference():
    """A list, lists side by side, given items, other arguments, an empty list."""

    @tool(effect="read")
    async def pair(a: object, b: object, c: object = None) -> list:
        await anyio.sleep(0 if a == 1 else 1)
        return [a, b, c]

    @tool(effect="read")
    async def text() -> str:
        return '{"ids": [1, 2], "people": [{"name": "x"}, {"name": "y"}], "none": []}'

    report = await run(
        Call("1", "text"),
        Call("2", "pair", {"a": {"$each": "1.ids"}, "b": {"$each": "1.people[*].name"}}),
        Call("3", "pair", {"a": {"$each": [3, {"$ref": "no"}]}, "b": {"$ref": "1.ids[-1]"}}),
        Call("4", "pair", {"a": {"$each": "1.none"}, "b": 1}),
        Call("5", "pair", {"a": 0, "b": [{"deep": {"$each": "1.ids"}}]}),
        Call("6", "pair", {"a": Each(Ref("2")), "b": {"$each": "2[*][1]"}}),
        Call("7", "pair", {"a": 1, "b": {"$ref": "4"}, "c": {"$ref": "2[1][0]"}}),
        Call("8", "pair", {"a": {"$each": "1.nothing", "default": ["d"]}, "b": 0}),
        tools=[pair, text],
    )
    assert report.ok
    assert report["2"].value == [[1, "x", None], [2, "y", None]]
    assert report["3"].value == [[3, 2, None], [{"$ref": "no"}, 2, None]]
    assert report["4"].value == []
    assert report["5"].value == [[0, [{"deep": 1}], None], [0, [{"deep": 2}], None]]
    assert report["6"].value == [[[1, "x", None], "x", None], [[2, "y", None], "y", None]]
    assert report["7"].value == [1, [], 2]
    assert report["8"].value == [["d", 0, None]]
    assert list(report)[:5] == ["1", "2", "2[0]", "2[1]", "3"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            {"item": {"$each": "1"}},
            "$each takes a list, and '1' is a dict; refer to the list in it",
        ),
        ({"item": {"$each": "1.nothing"}}, "leads nowhere"),
        ({"item": {"$each": "1.items"}, "note": {"$each": ["a"]}}, "long: 1.items has 2"),
        ({"item": {"$each": "1.items[0].seconds"}}, "is a float"),
    ],
    ids=str,
)
async def test_what_is_no_list_or_does_not_fit(args, said):
    """Fails the call with the reason; nothing ran."""
    items = [{"seconds": 0.1, "fails": False}] * 2
    report = await run(
        Call("1", "listed", {"items": items}),
        Call("2", "work", args),
        Call("3", "after", {"value": {"$ref": "2"}}),
    )
    assert said in str(report["2"].error)
    assert (report["3"].status, report["3"].because) == ("skipped", "2")
    assert list(report) == ["1", "2", "3"]


@pytest.mark.anyio
async def test_more_than_max_items():
    """An error that names the number and the setting."""
    report = await run(
        Call("1", "gather", {"values": list(range(11))}),
        Call("2", "after", {"value": {"$each": "1"}}),
        max_items=10,
    )
    assert "there are 11 items" in str(report["2"].error)
    assert "max_items" in str(report["2"].error)


@pytest.mark.anyio
async def test_failures_are_named_and_items_can_still_be_referred_to():
    """The call is failed, its dependants are skipped, those of single items are not."""
    items = [{"seconds": n / 10, "fails": n % 3 == 2} for n in range(1, 25)]
    report = await run(
        Call("1", "listed", {"items": items}),
        Call("2", "work", {"item": {"$each": "1.items"}}),
        Call("3", "after", {"value": {"$ref": "2"}}),
        Call("4", "after", {"value": {"$ref": "2[0][0]"}}),
        Call("5", "after", {"value": {"$ref": "2[1]"}}),
        Call("6", "after", {"value": {"$ref": "2[-1]"}}),
        Call("7", "after", {"value": {"$ref": "2[99]", "default": "d"}}),
        concurrency=None,
    )
    text = str(report["2"].error)
    assert text.startswith("8 of 24 items failed: 2[1] failed (ValueError); 2[4] failed")
    assert text.endswith("and 3 more")
    assert (report["3"].status, report["3"].because) == ("skipped", "2")
    assert report["4"].value == 0.1
    assert report["4"].started == pytest.approx(report["2[0]"].ended)
    assert (report["5"].status, report["5"].because) == ("skipped", "2[1]")
    assert report["6"].status == "skipped"
    assert report["7"].value == "d"


@pytest.mark.anyio
async def test_a_streamed_plan():
    """Items are committed: they start while calls still arrive; calls that come later know them."""
    begun = []
    items = [{"seconds": 0.5, "fails": False}] * 2

    async def source():
        yield Call("1", "listed", {"items": items})
        yield Call("2", "work", {"item": {"$each": "1.items"}})
        await anyio.sleep(5)
        yield Call("3", "after", {"value": {"$ref": "2[1]"}})
        yield Call("4", "after", {"value": {"$ref": "2"}})

    report = await Executor(TOOLS, observers=[begun.append]).run(source())
    assert report.ok
    assert report["2"].ended == pytest.approx(0.6)
    assert report["3"].value == [0.5, ""]
    added = [each.call.id for each in begun if isinstance(each, Added)]
    assert added == ["1", "2", "2[0]", "2[1]", "3", "4"]


@pytest.mark.anyio
async def test_a_call_with_the_id_of_an_item():
    """Is in the way, and named."""
    report = await run(
        Call("1", "gather", {"values": [1]}),
        Call("2[0]", "after", {"value": 1}),
        Call("2", "after", {"value": {"$each": "1"}}),
    )
    assert "there is a call '2[0]' already" in str(report["2"].error)


@pytest.mark.anyio
async def test_each_item_is_approved_and_denied():
    """Questions for each; the whole waits; what is denied fails it."""
    done = []

    @tool(effect="write", approval=True)
    async def pay(amount: int) -> int:
        done.append((amount, current_call().id))
        return amount

    executor = Executor([pay, gather, after], journal=MemoryJournal())
    plan = Plan(
        [
            Call("1", "gather", {"values": [1, 2, 3]}),
            Call("2", "pay", {"amount": {"$each": "1"}}),
            Call("3", "after", {"value": {"$ref": "2"}}),
            Call("4", "after", {"value": {"$ref": "2[0]"}}),
        ]
    )
    report = await executor.run(plan, run_id="r")
    assert report["2[1]"].question == {"approve": "pay", "args": {"amount": 2}}
    assert (report["2"].status, report["2"].because) == ("pending", "2[0]")
    assert report["3"].status == "pending"
    report = await executor.resume("r", answers={"2[0]": Approve(), "2[2]": Approve()})
    assert report["4"].value == 1
    assert (report["2"].status, report["2"].because) == ("pending", "2[1]")
    report = await executor.resume("r", answers={"2[1]": Deny("too much")})
    assert report["2"].status == "failed"
    assert "1 of 3 items failed: 2[1] failed: too much" in str(report["2"].error)
    assert done == [(1, "2[0]"), (3, "2[2]")]
    report = await executor.run(plan, run_id="r")
    assert len(done) == 2


@pytest.mark.anyio
async def test_items_that_touch_the_same_resource_keep_their_order():
    """Also behind one that fails; others go side by side."""
    order = []

    @tool(effect="write", writes=("file:{path}",))
    async def save(path: str, text: str) -> None:
        order.append((path, text))
        await anyio.sleep(1)
        if text == "1":
            raise ValueError

    report = await run(
        Call("1", "gather", {"values": ["a", "a", "b", "a"]}),
        Call("2", "save", {"path": {"$each": "1"}, "text": {"$each": ["0", "1", "2", "3"]}}),
        tools=[gather, save],
    )
    assert order == [("a", "0"), ("b", "2"), ("a", "1"), ("a", "3")]
    assert report["2[3]"].ended == pytest.approx(3)


@pytest.mark.anyio
async def test_pure_items_share_an_execution():
    """The same item twice runs once."""
    runs = []

    @tool(effect="pure")
    async def square(n: int) -> int:
        runs.append(n)
        return n * n

    report = await run(
        Call("1", "gather", {"values": [2, 3, 2]}),
        Call("2", "square", {"n": {"$each": "1"}}),
        tools=[gather, square],
    )
    assert report["2"].value == [4, 9, 4]
    assert sorted(runs) == [2, 3]


@pytest.mark.anyio
async def test_one_after_the_other():
    """`concurrency=0`: in plan order, items in the place of their call."""
    order = []

    @tool(effect="read")
    async def look(n: object) -> object:
        order.append(current_call().id)
        return n

    report = await run(
        Call("1", "look", {"n": {"$literal": [7, 8]}}),
        Call("2", "look", {"n": {"$each": "1"}}),
        Call("3", "look", {"n": 1}),
        Call("4", "look", {"n": {"$ref": "2"}}),
        tools=[look],
        concurrency=0,
    )
    assert order == ["1", "2[0]", "2[1]", "3", "4"]
    assert report["4"].value == [7, 8]


def test_the_written_form():
    """There and back; what is none is refused."""
    for body in (
        {"$each": "1.a[*].b"},
        {"$each": "1", "default": []},
        {"$each": [1, {"$ref": "x"}]},
    ):
        assert encode(decode(body)) == body
    assert decode({"$each": 1}) == Each(Ref("1"))
    for wrong in ({"$each": {}}, {"$each": "1", "more": 1}, {"$each": [1], "default": []}):
        with pytest.raises(BadReference):
            decode(wrong)
    with pytest.raises(BadReference):
        Each("1.orders")
    plan = Plan([Call("1", "t"), Call("2", "t", {"a": Each(Ref("1", ("x",)))})])
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.edges == (("1", "2"),)
    assert Plan.problems([Call("2", "t", {"a": {"$each": "9"}})])
