"""What a run that nobody watched shows of waits for limits and between attempts."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Call, Executor, Report, Timeouts, tool
from dagexec._core.outcomes import TimedOut
from dagexec._core.plan import Plan
from dagexec._core.results import Mark
from dagexec.limits import Limiter, Rate, Retry

pytestmark = pytest.mark.anyio


def waits(report: Report, name: str) -> list[tuple[str, float, float]]:
    """Return what a call waited for, in tenths of seconds."""
    bar = next(bar for bar in report.timeline.bars if bar.id == name)
    return [(wait.kind, round(wait.begins, 1), round(wait.ends, 1)) for wait in bar.waits]


async def test_a_wait_for_a_limit_is_no_wait_for_a_slot() -> None:
    """Also where nobody watches; a report that was saved says the same."""

    @tool(effect="read", limits=[Limiter("api", rates={"requests": Rate(1, per=10, burst=1)})])
    async def asks() -> int:
        await anyio.sleep(1)
        return 1

    report = await Executor([asks]).run([Call("a", "asks"), Call("b", "asks")])
    assert waits(report, "b") == [("limit", 0.0, 10.0)]
    assert waits(Report.from_json(report.to_json()), "b") == [("limit", 0.0, 10.0)]


async def test_the_slot_after_a_limit_is_waited_for_as_one() -> None:
    """A call that its limits let in may find all slots taken."""

    @tool(effect="read", limits=[Limiter("api", rates={"requests": Rate(1, per=10, burst=1)})])
    async def asks() -> int:
        return 1

    @tool(effect="read")
    async def works() -> int:
        await anyio.sleep(15)
        return 1

    calls = [Call("a", "asks"), Call("b", "asks"), Call("c", "works")]
    report = await Executor([asks, works], concurrency=1).run(calls)
    assert waits(report, "b")[-2:] == [("limit", 0.0, 10.0), ("slot", 10.0, 15.0)]


async def test_the_wait_before_another_attempt_is_no_run() -> None:
    """And the call's own deadline moves by what it spent in a queue, not by its back-off."""
    tried: list[float] = []

    @tool(effect="read", timeout=6, retry=Retry(2, base=2, random=lambda: 1.0, reserve=5))
    async def fails() -> int:
        tried.append(anyio.current_time())
        await anyio.sleep(1)
        if len(tried) == 1:
            raise OSError
        return 1

    @tool(effect="read")
    async def works() -> int:
        await anyio.sleep(10)
        return 1

    executor = Executor([fails, works], concurrency=1)
    report = await executor.run([Call("a", "fails"), Call("b", "works")])
    bar = report.timeline.bars[0]
    assert [(round(each.started), round(each.ended or 0), each.ok) for each in bar.tries] == [
        (0, 1, False),
        (11, 12, True),
    ]
    assert waits(report, "a") == [("retry", 1.0, 3.0), ("slot", 3.0, 11.0)]
    assert bar.limit == pytest.approx(6 + 8)


async def test_a_call_that_ends_between_attempts_has_no_further_one() -> None:
    """Its last attempt failed, and what follows is a wait."""

    @tool(effect="read", retry=Retry(5, base=20, random=lambda: 1.0))
    async def fails() -> int:
        await anyio.sleep(1)
        raise OSError

    report = await Executor([fails], timeouts=Timeouts(workflow=5)).run([Call("a", "fails")])
    assert report["a"].status == "timed_out"
    bar = report.timeline.bars[0]
    assert [(each.started, each.ended, each.ok) for each in bar.tries] == [(0, 1, False)]
    assert waits(report, "a") == [("retry", 1.0, 5.0)]
    assert "~" in str(report.timeline)


async def test_reports_of_older_versions_say_when_an_attempt_may_have_begun() -> None:
    """They have no mark of that."""
    plan = Plan([Call("a", "t")])
    outcomes = {"a": TimedOut("call", attempts=2, started=0.0, ended=9.0, queued=0.0)}
    report = Report(plan, outcomes, elapsed=9.0, marks={"a": (Mark("retry", 1.0, 2.0),)})
    bar = report.timeline.bars[0]
    assert [(each.started, each.ended) for each in bar.tries] == [(0.0, 1.0), (3.0, 9.0)]
