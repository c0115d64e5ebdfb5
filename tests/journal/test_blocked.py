"""Steps that blocked the event loop are still in the report of a run that is read again."""

from __future__ import annotations

import time

import pytest

from dagexec import Approve, Call, Executor, tool
from dagexec.journal import MemoryJournal
from dagexec.journal._base import Record
from dagexec.journal._records import report_of

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@tool(effect="write")
async def blocks(seconds: float = 0.12) -> str:
    """Block the event loop."""
    time.sleep(seconds)
    return "done"


@tool(effect="write", approval=True)
async def asks() -> str:
    """Block it too, once a person has approved."""
    time.sleep(0.12)
    return "done"


async def test_a_resumed_run_adds_to_what_it_had(journal):
    """As with threads that were left behind; running it again counts nothing twice."""
    executor = Executor([blocks, asks], journal=journal)
    calls = [Call("a", "blocks"), Call("b", "asks")]
    first = await executor.run(calls, run_id="r")
    assert first.blocked == 1
    recorded = report_of("r", await journal.read("r"))
    assert (recorded.blocked, recorded.blocked_seconds) == (1, first.blocked_seconds)
    second = await executor.resume("r", {"b": Approve()})
    assert second.blocked == 2
    assert second.blocked_seconds >= first.blocked_seconds + 0.12
    for again in (await executor.run(calls, run_id="r"), await executor.resume("r")):
        assert (again.blocked, again.blocked_seconds) == (2, second.blocked_seconds)


async def test_a_run_inside_a_call_that_waits_keeps_it(journal):
    """Its records are written once its call waits."""

    @tool
    async def outer() -> object:
        report = await inner.run([Call("x", "blocks"), Call("y", "asks")])
        return report.outputs

    inner = Executor([blocks, asks], journal=journal)
    executor = Executor([outer], journal=journal)
    report = await executor.run([Call("o", "outer")], run_id="r")
    assert report["o"].status == "pending"
    (name,) = [run.id for run in await journal.runs() if run.id != "r"]
    assert report_of(name, await journal.read(name)).blocked == 1


async def test_a_journal_of_an_older_dagexec_is_read():
    """Its last records do not say it."""
    journal = MemoryJournal()
    body = {"calls": [Call("b", "asks").to_dict()], "on_failure": "skip", "barrier": False}
    session = await journal.claim("old", Record("plan", None, body))
    kept = [
        Record("settled", "b", {"status": "pending", "attempts": 0}),
        Record("end", None, {"elapsed": 2.5, "abandoned": 3}),
    ]
    for record in kept:
        session.append(record, lambda error: None)
    await session.release("waiting", "1 pending", ["b"])
    old = report_of("old", await journal.read("old"))
    assert (old.elapsed, old.abandoned, old.blocked, old.blocked_seconds) == (2.5, 3, 0, 0.0)
    executor = Executor([asks], journal=journal)
    waiting = await executor.resume("old")
    assert (waiting.abandoned, waiting.blocked) == (3, 0)
    report = await executor.resume("old", {"b": Approve()})
    assert (report.outputs, report.abandoned, report.blocked) == ({"b": "done"}, 3, 1)
