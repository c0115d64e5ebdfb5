"""The timeline and the critical path: waits, retries, deadlines, and what a run waited for."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec import Call, Done, Executor, Plan, Ref, Report, Timeouts, tool
from dagexec._core.events import Retrying, Waiting
from dagexec._core.results import Mark, Underway
from dagexec._core.whereabouts import Whereabouts
from dagexec._pictures.chart import Bar, Deadline, Try, Wait
from dagexec._pictures.critical import Span, critical_links
from dagexec._pictures.glyphs import GLYPHS
from dagexec._pictures.timeline import Timeline
from dagexec.lowlevel import Added, Launch, Settled, Started
from dagexec.testing import ToolBox, run_virtual

pytestmark = pytest.mark.anyio

relaxed = settings(max_examples=settings().max_examples * 6 // 10)
SVG = "{http://www.w3.org/2000/svg}"


# -------------------------------------------------------------------------------- the critical path


async def test_without_waiting_it_follows_the_dependency_that_ended_last():
    """Of a diamond the longer side."""
    box = ToolBox()
    box.tool("short", seconds=1, returns=1)
    box.tool("long", seconds=3, returns=1)
    calls = [
        Call("a", "short"),
        Call("b", "short", {"x": Ref("a")}),
        Call("c", "long", {"x": Ref("a")}),
        Call("d", "short", {"x": Ref("b"), "y": Ref("c")}),
    ]
    report = await Executor(box.tools).run(calls)
    assert report.critical_path == ("a", "c", "d")
    assert [link.via for link in report.timeline.path] == ["start", "dependency", "dependency"]


async def test_a_run_that_its_slots_hold_up_blames_the_calls_that_held_them():
    """Three independent calls in one slot: each waited for the one before it."""
    box = ToolBox()
    box.tool("work", seconds=1, returns=1)
    report = await Executor(box.tools, concurrency=1).run([Call(n, "work") for n in "abc"])
    assert report.critical_path == ("a", "b", "c")
    assert [link.via for link in report.timeline.path] == ["start", "slot", "slot"]
    waits = {bar.id: bar.waits for bar in report.timeline.bars}
    assert waits == {"a": (), "b": (Wait("slot", 0, 1),), "c": (Wait("slot", 0, 2),)}


async def test_waits_for_dependencies_and_for_slots_are_set_apart():
    """Call b was ready after a and then had to wait for the slot of c."""
    box = ToolBox()
    box.tool("one", seconds=1, returns=1)
    box.tool("three", seconds=3, returns=1)
    calls = [Call("a", "one"), Call("b", "one", {"x": Ref("a")}), Call("c", "three")]
    report = await Executor(box.tools, concurrency=1).run(calls)
    order = sorted(report, key=lambda name: report[name].started)
    bar = next(bar for bar in report.timeline.bars if bar.id == "b")
    assert bar.waits[0] == Wait("dependencies", 0, 1)
    if order == ["a", "c", "b"]:
        assert bar.waits[1:] == (Wait("slot", 1, 4),)


@relaxed
@given(st.data())
def test_the_path_is_always_a_way_back_in_time(data):
    """For any record, even one that no run could make: it ends, and no call is on it twice."""
    count = data.draw(st.integers(1, 12))
    calls, spans = [], {}
    for index in range(count):
        before = [call.id for call in calls]
        after = tuple(data.draw(st.sets(st.sampled_from(before), max_size=2))) if before else ()
        calls.append(Call(f"c{index}", "t", after=after))
        times = sorted(data.draw(st.lists(st.integers(0, 4), min_size=3, max_size=3)))
        spans[f"c{index}"] = Span(*map(float, times))
    links = critical_links(Plan(calls), spans)
    names = [link.call for link in links]
    assert len(names) == len(set(names))
    assert spans[names[-1]].ended == max(span.ended for span in spans.values())


@relaxed
@given(st.data())
def test_the_path_of_a_real_run_leaves_no_gap(data):
    """Each call of it starts when the one before ended, and the first when the run began."""
    count = data.draw(st.integers(1, 10))
    slots = data.draw(st.integers(1, 4))
    calls = []
    for index in range(count):
        before = [call.id for call in calls]
        sources = data.draw(st.sets(st.sampled_from(before), max_size=2)) if before else ()
        seconds = data.draw(st.integers(1, 5))
        calls.append(Call(f"c{index}", "wait", {"seconds": seconds}, after=tuple(sorted(sources))))

    @tool(effect="read")
    async def wait(seconds: int) -> None:
        await anyio.sleep(seconds)

    async def run():
        return await Executor([wait], concurrency=slots).run(calls)

    report = run_virtual(run)
    at = 0.0
    for name in report.critical_path:
        assert report[name].started == pytest.approx(at, abs=1e-6)
        at = report[name].ended
    assert at == pytest.approx(report.elapsed, abs=1e-6)


# ------------------------------------------------------------------------------------ what is shown


def test_deadlines_are_lines(twelve):
    """The run's is a line across with its name, a call's a mark on its row."""
    timeline = twelve.timeline
    assert timeline.deadlines == (Deadline("workflow", 5.5),)
    root = ET.fromstring(timeline.to_svg())
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert "deadline of the workflow: 5.5 s" in texts
    assert "deadline of the call" in texts
    slow = next(bar for bar in timeline.bars if bar.id == "7")
    assert (slow.started, slow.limit, slow.ended) == (2.0, 4.5, 4.5)
    assert "deadline of the workflow, 5.5 s" in str(timeline)


async def test_a_deadline_far_away_does_not_squeeze_the_picture():
    """Ten minutes beside a second: the axis ends with the run."""
    box = ToolBox()
    box.tool("work", seconds=1, returns=1)
    timeline = (await Executor(box.tools).run([Call("a", "work")])).timeline
    assert timeline.deadlines == (Deadline("workflow", 600.0),)
    assert timeline.end == 1.0
    assert "deadline" not in str(timeline)


def test_retries_are_pieces_of_a_bar():
    """An attempt each, the waits between them drawn as waits."""
    bar = Bar(
        "a",
        "fetch",
        "done",
        "3.00 s",
        0.0,
        0.0,
        3.0,
        (Wait("retry", 1.0, 2.0), Wait("limit", 0.0, 0.5)),
        (Try(0.5, 1.0, ok=False), Try(2.0, 3.0)),
        attempts=2,
    )
    timeline = Timeline((bar,), 3.0)
    root = ET.fromstring(timeline.to_svg())
    blocks = [each for each in root.iter(f"{SVG}rect") if each.get("height") == "13"]
    assert len(blocks) == 2
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert "3.00 s (2 attempts)" in texts
    assert {"waits for a limit", "waits before its next attempt"} <= set(texts)
    assert "~" in str(timeline)
    assert timeline.to_dict()["calls"][0]["attempts"] == 2
    assert json.loads(timeline.to_json()) == timeline.to_dict()


def test_rows_stand_by_start(twelve):
    """Also calls that never started: where what they waited for was lost."""
    bars, clusters = twelve.timeline.rows()
    assert not clusters
    assert [bar.begins for bar in bars] == sorted(bar.begins for bar in bars)
    skipped = next(bar for bar in bars if bar.id == "10")
    assert (skipped.state, skipped.started, skipped.ended) == ("skipped", None, 4.5)


def test_large_runs_are_folded(many):
    """At most 60 rows: the failed and the critical calls, the longest, and one row a tool."""
    timeline = many.timeline
    bars, clusters = timeline.rows()
    assert len(bars) + len(clusters) <= 60
    assert len(bars) + sum(len(cluster.bars) for cluster in clusters) == 500
    kept = {bar.id for bar in bars}
    failed = {name for name in many if many[name].status == "failed"}
    assert failed <= kept
    longest = max(timeline.bars, key=lambda bar: bar.seconds(timeline.now)).id
    assert longest in kept
    assert set(many.critical_path[:4]) <= kept
    assert len(timeline.to_dict()["calls"]) == 500
    root = ET.fromstring(timeline.to_svg())
    most = [
        re.search(r"at most (\d+) at a time", each.text or "") for each in root.iter(f"{SVG}text")
    ]
    counts = [int(found[1]) for found in most if found]
    assert counts
    assert max(counts) <= 20, "there were 20 slots"
    assert len(str(timeline).splitlines()) <= 62
    assert timeline.to_mermaid().startswith("gantt")


@relaxed
@given(st.text(min_size=1), st.text(min_size=1))
def test_any_text_is_escaped(name, tool_name):
    """In SVG, mermaid and text."""
    bars = tuple(
        Bar(f"{name}{n}", tool_name, state, tool_name, 0, 0, n, (Wait("slot", 0, 0.5),))
        for n, state in enumerate(GLYPHS)
    )
    timeline = Timeline(bars, 3.0, caption=name)
    root = ET.fromstring(timeline.to_svg(interactive=True))
    assert not list(root.iter(f"{SVG}script"))
    assert len(str(timeline).splitlines()) == len(bars) + 2
    for line in timeline.to_mermaid().split("\n")[3:]:
        assert line.count(":") == 1
        assert ";" not in re.sub(r"#\d+;", "", line)


# ----------------------------------------------------------------------------------- plans and runs


async def test_a_live_run_shows_what_runs_waits_and_ended():
    """`run.diagram`, `run.timeline` and `run.report` at any time; bars of running calls grow."""
    box = ToolBox()
    box.tool("fast", seconds=1, returns=1)
    box.tool("slow", seconds=10, returns=1)
    calls = [
        Call("a", "fast"),
        Call("b", "slow"),
        Call("c", "fast"),
        Call("d", "fast", {"x": Ref("b")}),
    ]
    async with Executor(box.tools, concurrency=2).start(calls) as run:
        assert {node.state for node in run.diagram.nodes} <= {"plan", "waiting"}
        await anyio.sleep(0.5)
        early = {node.id: node.state for node in run.diagram.nodes}
        assert early == {"a": "running", "b": "running", "c": "ready", "d": "waiting"}
        assert run.report.elapsed == pytest.approx(0.5)
        await anyio.sleep(1)
        nodes = {node.id: node for node in run.diagram.nodes}
        assert nodes["a"].state == "done"
        assert (nodes["b"].state, nodes["b"].note) == ("running", "running 1.50 s")
        timeline = run.timeline
        assert timeline.live
        bars = {bar.id: bar for bar in timeline.bars}
        assert bars["b"].seconds(timeline.now) == pytest.approx(1.5)
        assert bars["c"].waits == (Wait("slot", 0.0, 1.0),)
        ET.fromstring(run.report.to_svg())
        # A partial report keeps all of it in JSON.
        back = Report.from_dict(run.report.to_dict())
        assert str(back.diagram) == str(run.diagram)
        assert back.timeline.to_dict() == timeline.to_dict()
    assert not run.timeline.live
    assert run.report.underway == {}
    assert run.report.critical_path == ("b", "d")


async def test_a_report_keeps_its_pictures_in_json(twelve):
    """Deadlines, waits and the path come back."""
    back = Report.from_json(twelve.to_json())
    assert back.timeline.to_dict() == twelve.timeline.to_dict()
    assert back.diagram.to_svg() == twelve.diagram.to_svg()
    assert Report.from_dict(twelve.to_dict()).to_dict() == twelve.to_dict()


def test_plans_runs_and_reports_show_themselves(twelve):
    """As picture and as text; only what is asked for is made."""
    for shown in (twelve, twelve.plan, twelve.diagram, twelve.timeline):
        bundle = shown._repr_mimebundle_()
        assert list(bundle) == ["text/html", "image/svg+xml", "text/plain"]
        ET.fromstring(bundle["image/svg+xml"])
        assert "search" in bundle["text/plain"]
        assert list(shown._repr_mimebundle_(include=["text/plain"])) == ["text/plain"]
        assert list(shown._repr_mimebundle_(exclude={"text/plain", "text/html"})) == [
            "image/svg+xml"
        ]
        assert shown._repr_svg_() == bundle["image/svg+xml"]


async def test_a_live_run_shows_itself():
    """Before, during and after."""
    box = ToolBox()
    box.tool("work", seconds=1, returns=1)
    run = Executor(box.tools).start([Call("a", "work")])
    ET.fromstring(run._repr_svg_())
    async with run:
        ET.fromstring(run._repr_mimebundle_()["image/svg+xml"])
    assert "1 done" in run._repr_mimebundle_()["text/plain"]


async def test_timeouts_without_a_deadline_show_none():
    """None means no limit, and no line."""
    box = ToolBox()
    box.tool("work", seconds=1, returns=1)
    executor = Executor(box.tools, timeouts=Timeouts(call=None, workflow=None))
    report = await executor.run([Call("a", "work")])
    assert report.timeline.deadlines == ()
    assert report.timeline.bars[0].limit is None


async def test_waits_for_limits_and_failed_attempts_are_drawn():
    """From the notices of a run: ready at 1, let in at 3, failed at 4, tried again at 6."""
    marks = {"b": (Mark("limit", 2.0), Mark("retry", 4.0, 2.0))}
    plan = Plan([Call("a", "t"), Call("b", "t", after=("a",))])
    outcomes = {
        "a": Done(1, attempts=1, started=0.0, ended=1.0, queued=0.0),
        "b": Done(1, attempts=2, started=3.0, ended=7.0, queued=2.0),
    }
    report = Report(plan, outcomes, elapsed=7.0, marks=marks)
    for each in (report, Report.from_json(report.to_json())):
        bar = each.timeline.bars[1]
        assert bar.waits == (
            Wait("dependencies", 0.0, 1.0),
            Wait("slot", 1.0, 2.0),
            Wait("limit", 2.0, 3.0),
            Wait("retry", 4.0, 6.0),
        )
        assert bar.tries == (Try(3.0, 4.0, ok=False), Try(6.0, 7.0))
        assert each.critical_path == ("a", "b")


async def test_a_live_run_knows_where_its_calls_are():
    """Notices of limits and attempts between the scheduler's events change nothing in it."""
    now = [0.0]
    progress = Whereabouts(lambda: now[0])
    progress(Added(Call("a", "t")))
    progress(Launch(0, ("a",)))
    now[0] = 1.0
    progress(Waiting("a", ("api",)))
    progress(Started("a", 2.0))
    now[0] = 3.0
    progress(Retrying("a", 1, 0.5, KeyError("x")))
    assert progress.underway["a"] == Underway("running", 0.0, 2.0)
    progress(Settled("a", Done(1)))
    assert progress.underway == {}


async def test_calls_that_had_no_slot_until_the_deadline_waited_for_one():
    """Although they never started: the wait is drawn, and stands at the end of the rows."""
    box = ToolBox()
    box.tool("work", seconds=2, returns=1)
    calls = [Call("a", "work"), Call("b", "work"), Call("c", "work", {"x": Ref("b")})]
    executor = Executor(box.tools, concurrency=1, timeouts=Timeouts(workflow=3))
    timeline = (await executor.run([*calls, Call("d", "work")])).timeline
    bars = {bar.id: bar for bar in timeline.bars}
    assert bars["d"].waits == (Wait("slot", 0.0, 3.0),)
    assert bars["c"].state == "timed_out"
    assert [bar.id for bar in timeline.rows()[0]][:2] == ["a", "b"]
    assert "░" * 10 in next(row for row in str(timeline).splitlines() if "d work" in row)
