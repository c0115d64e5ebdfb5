"""Blocking code in an async tool: no deadline can end it, and it must not go unnoticed."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from dagexec import Call, Executor, Plan, Report, Timeouts, tool
from dagexec._concurrency import steps
from dagexec._runtime import blocking
from dagexec.journal import MemoryJournal
from dagexec.journal._records import report_of
from dagexec.limits import Retry

pytestmark = pytest.mark.anyio


@tool(effect="read")
async def blocks(seconds: float = 0.3) -> str:
    """Block before the first wait."""
    time.sleep(seconds)  # the line that is named
    return "done"


@tool(effect="read")
async def blocks_late(seconds: float = 0.3) -> str:
    """Block behind a wait, below another function."""
    await anyio.sleep(0.01)
    _work(seconds)
    await anyio.sleep(0)
    return "done"


def _work(seconds: float) -> None:
    time.sleep(seconds)  # so is this one


@tool(effect="read")
async def blocks_and_fails() -> str:
    """Block, and raise."""
    time.sleep(0.2)
    raise ValueError("no")


@tool(effect="read")
async def waits(seconds: float = 0.05) -> str:
    """Wait as one should."""
    await anyio.sleep(seconds)
    return "done"


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "_named", {})


def _line_of(text: str) -> int:
    lines = Path(__file__).read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


TOOLS = [blocks, blocks_late, blocks_and_fails, waits]


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("name", "text"), [("blocks", "the line that is named"), ("blocks_late", "so is this one")]
)
async def test_a_step_that_blocks_is_named_with_its_line(
    name: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Tool, call, seconds, file and line; counted in the report, which says so in its line."""
    report = await Executor(TOOLS).run(Plan([Call("a", name), Call("b", "waits")]))
    records = [record for record in caplog.records if "blocked the event loop" in record.message]
    assert len(records) == 1
    assert records[0].levelno == logging.WARNING
    facts = records[0].dagexec  # type: ignore[attr-defined]
    assert (facts["call"], facts["tool"]) == ("a", name)
    assert (facts["file"], facts["line"]) == (__file__, _line_of(text))
    assert 0.25 < facts["seconds"] < 3
    assert f"{__file__}:{facts['line']}" in records[0].message
    assert report.blocked == 1
    assert 0.25 < report.blocked_seconds < 3
    assert "with the event loop blocked" in str(report)
    again = Report.from_json(report.to_json())
    assert (again.blocked, again.blocked_seconds) == (1, report.blocked_seconds)
    # Whatever shows the call shows it too: it is done, and the others waited for it.
    for seen in (report, again):
        assert dict(seen.blocked_by) == {"a": report.blocked_seconds}
        assert [row["blocked"] > 0.25 for row in seen.rows()] == [True, False]
        shown = [seen.diagram.to_text(), seen.diagram.to_svg(), str(seen.timeline)]
        shown += [seen.timeline.to_svg(), seen.to_html(), seen.diagram.spoken()]
        assert ["loop blocked" in text for text in shown] == [True] * 6


@pytest.mark.real_time
async def test_a_journal_keeps_which_call_blocked() -> None:
    """For its page, and for a run that goes on."""
    journal = MemoryJournal()
    executor = Executor(TOOLS, journal=journal)
    report = await executor.run(Plan([Call("a", "blocks"), Call("b", "waits")]), run_id="r")
    assert list(report.blocked_by) == ["a"]
    assert dict(report_of("r", await journal.read("r")).blocked_by) == dict(report.blocked_by)
    assert dict((await executor.resume("r")).blocked_by) == dict(report.blocked_by)


@pytest.mark.real_time
async def test_a_neighbour_that_timed_out_meanwhile_says_so() -> None:
    """Its own timeout or the run's: the error names the call that is guilty."""
    calls = [Call("slow", "waits", {"seconds": 0.2}), Call("guilty", "blocks", {"seconds": 0.8})]
    for timeouts in (Timeouts(call=0.5), Timeouts(workflow=0.5), Timeouts(layer=0.5)):
        calls[0] = Call("slow", "waits", {"seconds": 1.5})
        report = await Executor(TOOLS, timeouts=timeouts).run(Plan(calls))
        assert report["slow"].status == "timed_out"
        assert "call 'guilty' (tool 'blocks') blocked the event loop" in str(report["slow"].error)
        assert __file__ in str(report["slow"].error)


@pytest.mark.real_time
async def test_a_step_that_raises_counts_too() -> None:
    """And each attempt of a call that is tried again."""
    failing = tool(effect="read", retry=Retry(2, base=0.01))(blocks_and_fails.function)
    report = await Executor([failing]).run(Plan([Call("a", "blocks_and_fails")]))
    assert report["a"].status == "failed"
    assert report.blocked == 2


@pytest.mark.real_time
async def test_a_line_is_named_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """A loop over a thousand calls does not flood the log; each still counts."""
    calls = [Call(str(number), "blocks", {"seconds": 0.15}) for number in range(3)]
    report = await Executor(TOOLS).run(Plan(calls))
    assert report.blocked == 3
    assert sum("blocked the event loop" in record.message for record in caplog.records) == 1


async def test_waiting_is_no_blocking(caplog: pytest.LogCaptureFixture) -> None:
    """Virtual time takes no real time: no alarm."""
    report = await Executor(TOOLS).run(Plan([Call("a", "waits", {"seconds": 25})]))
    assert (report.blocked, report.blocked_seconds) == (0, 0.0)
    assert "blocked" not in str(report)
    assert "blocked" not in report.to_dict()
    assert not caplog.records


@pytest.mark.real_time
async def test_a_sync_tool_may_block(caplog: pytest.LogCaptureFixture) -> None:
    """It has a thread of its own."""

    @tool(effect="read")
    def sleeps() -> str:
        time.sleep(0.2)
        return "done"

    report = await Executor([sleeps]).run(Plan([Call("a", "sleeps")]))
    assert report.blocked == 0
    assert not caplog.records


@pytest.mark.real_time
async def test_whoever_looks_on_sees_it_while_it_lasts() -> None:
    """From another thread, as the doctor does."""
    executor = Executor(TOOLS)
    seen: list[str] = []

    def look() -> None:
        for _ in range(12):
            time.sleep(0.05)
            seen.append(str(executor.snapshot()))

    looker = threading.Thread(target=look)
    looker.start()
    await executor.run(Plan([Call("a", "blocks_late", {"seconds": 0.5})]))
    looker.join()
    assert any("holds a slot, the event loop for 0." in text for text in seen)
    assert any(f"{__file__}:{_line_of('so is this one')}" in text for text in seen)


@pytest.mark.real_time
async def test_the_thread_that_looks_ends_when_nothing_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing of a loop is kept."""
    monkeypatch.setattr(steps, "_IDLE", 0.05)
    sampler = steps.Sampler()
    monkeypatch.setattr(steps, "sampler", sampler)
    await Executor(TOOLS).run(Plan([Call("a", "waits")]))
    thread = sampler._thread
    assert thread is not None
    await anyio.sleep(0.01)
    thread.join(5)
    assert not thread.is_alive()
    assert not sampler._loops
    assert not sampler._seen
    gc.collect()


@pytest.mark.real_time
async def test_without_concurrency_there_is_no_such_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step is counted all the same, and told by where it ended."""
    sampler = steps.Sampler()
    monkeypatch.setattr(steps, "sampler", sampler)
    report = await Executor(TOOLS, concurrency=0).run(Plan([Call("a", "blocks")]))
    assert report.blocked == 1
    assert sampler._thread is None


async def test_a_call_that_failed_or_timed_out_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Id, tool, status and the error's type; no argument and no text of the error."""
    caplog.set_level(logging.INFO, "dagexec")

    @tool(effect="read", timeout=1)
    async def fails(secret: str) -> str:
        await anyio.sleep(5 if secret == "s3cret-slow" else 0)
        raise ValueError(secret)

    given = {"a": "s3cret", "b": "s3cret-slow"}
    calls = [Call(name, "fails", {"secret": text}) for name, text in given.items()]
    await Executor([fails]).run(Plan(calls))
    lines = [record.getMessage() for record in caplog.records[:-1]]
    assert lines == [
        "call 'a': tool 'fails' failed (ValueError)",
        "call 'b': tool 'fails' timed_out (CallTimeout)",
    ]
    assert "s3cret" not in caplog.text
    assert {record.levelno for record in caplog.records[:-1]} == {logging.WARNING}


@tool(effect="read")
async def always_fails() -> None:
    """Fail."""
    raise ValueError


async def test_a_run_of_many_failures_does_not_flood_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Twenty are named as a warning, and how many more there are; at INFO all of them."""
    calls = [Call(str(number), "always_fails") for number in range(50)]
    await Executor([always_fails]).run(Plan(calls))
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 21
    assert texts[-1] == "30 more calls failed or timed out; each is named at INFO"
    caplog.set_level(logging.INFO, "dagexec")
    caplog.clear()
    await Executor([always_fails]).run(Plan(calls))
    assert len([text for text in caplog.messages if "always_fails" in text]) == 50


async def test_a_notebook_shows_failures_in_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where logging is not set up, no line on stderr repeats them; where it is, all is as ever."""
    logger = logging.getLogger("dagexec")
    said: list[str] = []
    monkeypatch.setattr(logger, "filters", [lambda record: said.append(record.getMessage())])
    plan = Plan([Call("a", "always_fails")])
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    await Executor([always_fails]).run(plan)
    assert len(said) == 1
    monkeypatch.setattr(logger, "propagate", False)
    await Executor([always_fails]).run(plan)
    assert len(said) == 1


def _slow(seconds: float) -> bool:
    time.sleep(seconds)  # and this one
    return False


@pytest.mark.real_time
async def test_what_blocks_before_the_tool_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    """Validators and `approval=` run in the event loop as well."""

    @tool(effect="read", approval=lambda args: _slow(args["seconds"]))
    async def approved(seconds: float) -> str:
        return "done"

    report = await Executor([approved]).run([Call("a", "approved", {"seconds": 0.2})])
    assert report.ok
    assert report.blocked == 1
    assert report.blocked_seconds >= 0.2
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "call 'a' (tool 'approved') blocked the event loop" in record.getMessage()
    assert "`approval=`" in record.getMessage()


@pytest.mark.real_time
async def test_a_generator_whose_items_block_keeps_its_deadline() -> None:
    """Each item has its step: the loop turns between two of them."""

    @tool(effect="read", timeout=0.3)
    async def given() -> object:
        return (time.sleep(0.12) for _ in range(1000))

    with anyio.fail_after(60):
        report = await Executor([given]).run([Call("a", "given")])
    assert report["a"].scope == "call"
    assert report.elapsed < 30
    assert report.blocked >= 1
