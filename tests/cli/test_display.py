"""The two views of a run, from events alone."""

from __future__ import annotations

import io
import json

import pytest

from dagexec import Call, Done, Executor, Failed, Pending, Plan, Report, Skipped, TimedOut, Timeouts
from dagexec.cli._display import ROWS, Live, Plain, clip, ending
from dagexec.lowlevel import Added, Conclude, Launch, Reopened, Settled, Started


def feed(view, count, *, started=0, failed=0):
    """Add `count` calls, start some, and let some of those fail."""
    names = [f"c{index}" for index in range(count)]
    for name in names:
        view.take(Added(Call(name, "tool")))
    view.take(Launch(0, tuple(names)))
    for name in names[:started]:
        view.take(Started(name, 0.0))
    for name in names[:failed]:
        view.take(Settled(name, Failed(ValueError("no"), started=0.0, ended=0.5)))


def test_the_table_is_bounded_and_counts_the_rest():
    """However many calls: 12 rows, the longest runners, the last failures, and how many more."""
    view = Live(Executor(timeouts=Timeouts(workflow=60)), io.StringIO())
    feed(view, 100, started=60, failed=30)
    table = [text for _, text in view.table(ROWS)]
    assert len(table) == ROWS
    assert "0/100 done" in table[0]
    assert "30 running" in table[0]
    assert "30 failed" in table[0]
    assert "40 waiting" in table[0]
    assert "of 60 s" in table[0]
    assert "c30" in table[1]
    assert any("ValueError: no" in row for row in table)
    assert "not shown" in table[-1]


@pytest.mark.parametrize("rows", range(1, 14))
@pytest.mark.parametrize("shape", [(0, 0, 0), (1, 1, 0), (5, 5, 5), (30, 3, 1), (40, 40, 2)])
def test_the_table_fits_every_height(rows, shape):
    """No shape of a run needs more rows than there are."""
    count, started, failed = shape
    view = Live(Executor(), io.StringIO())
    feed(view, count, started=started, failed=failed)
    assert len(view.table(rows)) <= rows


def test_a_row_shows_the_timeout_and_what_a_failure_cost():
    """The bar of a running call; skips count at the call that caused them."""
    view = Live(Executor(timeouts=Timeouts(call=8)), io.StringIO())
    feed(view, 3, started=2, failed=1)
    view.take(Conclude("c2", Skipped("c0")))
    table = "\n".join(text for _, text in view.table(ROWS))
    assert "timeout 8 s" in table
    assert "1 skipped because of it" in table


def test_the_table_is_drawn_over_itself_and_taken_away(monkeypatch):
    """Each drawing goes back over the last one; closing leaves an empty place."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    view = Live(Executor(), stream)
    feed(view, 3, started=2, failed=1)
    view.tick()
    assert "\x1b[31m" in stream.getvalue()
    view.tick()
    view.close()
    assert stream.getvalue().count("\x1b[4F\x1b[J") == 2
    assert stream.getvalue().endswith("\x1b[4F\x1b[J")


def test_no_color(monkeypatch):
    """NO_COLOR takes the colours and leaves the table."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    view = Live(Executor(), stream)
    feed(view, 3, started=2, failed=1)
    view.tick()
    assert "\x1b[" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


def test_plain_tells_of_failures_and_now_and_then_of_the_counts():
    """A heartbeat, and no line for what goes well."""
    stream = io.StringIO()
    view = Plain(stream)
    feed(view, 2, started=2, failed=1)
    view.take(Settled("c1", Done(1)))
    view.tick()
    assert stream.getvalue().splitlines() == [
        "  0.50 s  ✗ c0 tool              500 ms  ValueError: no"
    ]
    view.tick()
    assert "1/2 done  1 failed" in stream.getvalue()


def test_verbose_tells_everything():
    """Starts and ends, above the table of a live view too."""
    stream = io.StringIO()
    view = Live(Executor(), stream, Plain(stream, verbose=True))
    feed(view, 2, started=2)
    view.tick()
    view.take(Settled("c1", TimedOut("call", started=0.0, ended=1.0)))
    assert "▶ c0" in stream.getvalue()
    assert (
        stream.getvalue()
        .splitlines()[-1]
        .endswith("! c1 tool              timed out (call) 1.00 s")
    )


class Gone(io.StringIO):
    """A stderr that nobody reads any more."""

    def write(self, text):
        raise BrokenPipeError(text)


def test_a_closed_stderr_does_not_break_the_run():
    """The views are not what a run is about."""
    feed(Plain(Gone()), 2, started=2, failed=2)
    view = Live(Executor(), Gone())
    feed(view, 2, started=2, failed=2)
    view.tick()
    view.close()


def test_the_ending_is_bounded():
    """The counts, and a line each for a dozen calls that are not done."""
    calls = [{"id": f"c{index}", "tool": "t", "args": {}} for index in range(40)]
    outcomes = {call["id"]: {"status": "failed", "attempts": 1} for call in calls}
    body = {"version": 1, "run_id": "", "elapsed": 1, "abandoned": 0, "plan": {"calls": calls}}
    report = Report.from_json(json.dumps({**body, "outcomes": outcomes}))
    lines = list(ending(report, told=False))
    assert len(lines) == ROWS + 2
    assert lines[-1] == "  + 28 more, which the report names"
    assert len(list(ending(report, told=True))) == 1


def test_clip_counts_columns():
    """Wide characters take two, combining ones none."""
    assert clip("abc", 3) == "abc"
    assert clip("abcd", 3) == "ab…"
    assert clip("日本語", 5) == "日本…"
    assert clip("e\u0301e\u0301", 2) == "e\u0301e\u0301"


def test_the_critical_path_has_a_row_however_many_calls():
    """It ends with what runs longest, and goes back over what that waited for."""
    view = Live(Executor(), io.StringIO())
    feed(view, 100, started=60, failed=30)
    view.take(Added(Call("late", "tool", after=("first",))))
    view.take(Added(Call("first", "tool")))
    view.take(Settled("first", Done(1, started=0.0, ended=0.5, queued=0.0)))
    for name in list(view.progress.running):
        view.progress.running[name] = 9.0
    view.take(Started("late", 0.5))
    table = [text for _, text in view.table(ROWS)]
    assert len(table) == ROWS
    assert table[-1] == "  critical path so far: first -> late"


def test_a_long_path_is_shortened_and_the_end_names_it():
    """Its beginning and its end, in one line."""
    calls = [Call(f"c{n}", "tool", after=(f"c{n - 1}",) if n else ()) for n in range(30)]
    outcomes = {f"c{n}": Done(n, started=float(n), ended=n + 1.0, queued=0.0) for n in range(30)}
    report = Report(Plan(calls), outcomes, elapsed=30.0)
    lines = list(ending(report, told=True))
    assert lines[1] == ("  critical path: c0 -> c1 -> c2 -> … 24 more … -> c27 -> c28 -> c29")
    view = Live(Executor(), io.StringIO())
    for call in calls:
        view.take(Added(call))
        view.take(Settled(call.id, outcomes[call.id]))
    assert "… 24 more …" in view.table(ROWS)[-1][1]


def test_what_is_resumed_counts_once():
    """A call that had waited for a person runs, and so does what waited for it."""
    view = Live(Executor(), io.StringIO())
    for name in ("a", "p", "q"):
        view.take(Added(Call(name, "tool")))
    view.take(Settled("a", Done(1)))
    view.take(Settled("p", Pending("run?")))
    view.take(Conclude("q", Pending(None, because="p")))
    assert view.progress.counts() == "1/3 done  2 pending"
    view.take(Reopened("p"))
    view.take(Launch(0, ("p",)))
    view.take(Started("p", 0.0))
    assert view.progress.counts() == "1/3 done  1 running  1 pending"
    view.take(Settled("p", Done(1)))
    view.take(Launch(1, ("q",)))
    view.take(Started("q", 0.1))
    assert view.progress.counts() == "2/3 done  1 running"
