"""Tools with limits and retries, run by the executor, on both backends in virtual time."""

from __future__ import annotations

import logging
from typing import Annotated

import anyio
import pytest
from pydantic import AfterValidator

from dagexec import Call, DagexecError, Executor, Ref, Timeouts, current_call, tool
from dagexec.journal import MemoryJournal
from dagexec.limits import (
    Breaker,
    BreakerOpen,
    Limiter,
    MemoryStore,
    OversizeError,
    Rate,
    RateLimited,
    Retry,
    current_permit,
)
from dagexec.lowlevel import Retrying, Started, Waiting

pytestmark = pytest.mark.anyio


class Flaky:
    """A provider that fails as often as it is told, and counts."""

    def __init__(self, failures=0, error=OSError):
        self.failures = failures
        self.error = error
        self.calls = []

    async def __call__(self):
        """Fail or answer."""
        self.calls.append((current_call().id, current_call().attempt, anyio.current_time()))
        await anyio.sleep(0.1)
        if len(self.calls) <= self.failures:
            raise self.error
        return len(self.calls)


def made(flaky, **options):
    """Return a tool that asks it."""

    @tool(**{"effect": "read", **options})
    async def ask(n: int = 0) -> int:
        return await flaky()

    return ask


async def run(ask, count=1, **options):
    """Run so many calls."""
    calls = [Call(str(n), "ask", {"n": n}) for n in range(count)]
    return await Executor([ask], **options).run(calls)


async def test_a_call_is_tried_again_until_it_succeeds():
    """The attempts are counted, numbered and told; the outcome has its times."""
    flaky, seen = Flaky(2), []
    ask = made(flaky, retry=Retry(3, random=lambda: 1.0, base=1))
    report = await run(ask, observers=[seen.append])
    assert report["0"].value == 3
    assert report["0"].attempts == 3
    assert [attempt for _, attempt, _ in flaky.calls] == [1, 2, 3]
    assert report["0"].ended == pytest.approx(0.3 + 1 + 2)
    notices = [each for each in seen if isinstance(each, Retrying)]
    assert [(each.attempt, each.delay) for each in notices] == [(1, 1.0), (2, 2.0)]
    assert sum(isinstance(each, Started) for each in seen) == 1


async def test_attempts_run_out():
    """The last error is the outcome's."""
    flaky = Flaky(9)
    report = await run(made(flaky, retry=Retry(3)))
    assert report["0"].status == "failed"
    assert report["0"].attempts == len(flaky.calls) == 3
    assert isinstance(report["0"].error, OSError)


@pytest.mark.parametrize(("effect", "attempts"), [("write", 1), ("idempotent", 3), ("pure", 3)])
async def test_only_what_the_effect_allows(effect, attempts, caplog):
    """A write is tried once, and the log says why."""
    flaky = Flaky(9)
    with caplog.at_level(logging.WARNING, "dagexec"):
        report = await run(made(flaky, retry=Retry(3), effect=effect))
    assert report["0"].attempts == len(flaky.calls) == attempts
    assert ("never tried again" in caplog.text) == (effect == "write")


@pytest.mark.parametrize("timeout", [0.5, None])
async def test_a_write_that_was_cut_off_is_not_tried_again(timeout):
    """Nor after the timeout of one attempt; it may have taken effect."""
    tries = []

    @tool(retry=Retry(5, timeout=timeout), timeout=1)
    async def ask() -> None:
        tries.append(1)
        await anyio.sleep_forever()

    report = await Executor([ask]).run([Call("0", "ask")])
    assert len(tries) == 1
    assert report["0"].status == "timed_out"
    assert report["0"].maybe


async def test_which_errors():
    """By class, by function; by default not those that the same call would raise again."""
    for on, error, attempts in (
        (OSError, OSError, 3),
        ((OSError, KeyError), KeyError, 3),
        (OSError, ValueError, 1),
        (lambda error: "x" in str(error), ValueError("x"), 3),
        (lambda error: "x" in str(error), ValueError("y"), 1),
    ):
        flaky = Flaky(9, error)
        await run(made(flaky, retry=Retry(3, on=on)))
        assert len(flaky.calls) == attempts
    flaky = Flaky(9, TypeError)
    await run(made(flaky, retry=Retry(3)))
    assert len(flaky.calls) == 1


async def test_http_statuses():
    """500 and 408 may pass, 404 does not."""
    for status, attempts in ((500, 3), (503, 3), (408, 3), (404, 1), (401, 1)):
        error = type("HTTPError", (Exception,), {"status_code": status})
        flaky = Flaky(9, error)
        await run(made(flaky, retry=Retry(3)))
        assert len(flaky.calls) == attempts


async def test_the_timeout_bounds_all_attempts_and_waits():
    """An attempt that hangs is tried again only where it has a timeout of its own."""
    tries = []

    @tool(effect="read", retry=Retry(9, timeout=2, base=1, random=lambda: 1.0), timeout=7)
    async def hangs() -> None:
        tries.append(anyio.current_time())
        await anyio.sleep_forever()

    report = await Executor([hangs]).run([Call("0", "hangs")])
    # 2 s, 1 s of waiting, 2 s: of the 7 are 2 left, which the next wait would take
    assert len(tries) == 2
    assert report["0"].status == "timed_out"
    assert report["0"].scope == "call"
    assert report["0"].ended == pytest.approx(5)
    assert any("left" in note for note in report["0"].error.__notes__)


async def test_a_back_off_holds_no_slot_and_no_permit():
    """With room for one call, another runs while the first waits."""
    flaky = Flaky(1)
    limiter = Limiter("one", in_flight=1)
    ask = made(flaky, retry=Retry(2, base=10, random=lambda: 1.0), limits=[limiter])
    report = await run(ask, 2, concurrency=1)
    assert [name for name, _, _ in flaky.calls] == ["0", "1", "0"]
    assert report["1"].ended < 1
    assert report["0"].ended > 10
    assert limiter.in_flight == 0


async def test_calls_that_wait_for_limits_leave_the_slots_to_others():
    """A slow key does not keep the rest of the plan waiting; the wait is queue time."""
    slow = Limiter("slow", rates={"requests": Rate(1, per=10, burst=1)})
    seen = []

    @tool(effect="read", limits=[slow], timeout=1)
    async def limited(n: int) -> int:
        await anyio.sleep(0.5)
        return n

    @tool(effect="read")
    async def free() -> None:
        await anyio.sleep(0.5)

    calls = [Call(f"l{n}", "limited", {"n": n}) for n in range(4)]
    calls += [Call(f"f{n}", "free") for n in range(4)]
    executor = Executor([limited, free], concurrency=2, observers=[seen.append])
    report = await executor.run(calls)
    assert report.ok
    assert max(report[f"f{n}"].ended for n in range(4)) <= 2.6
    assert [round(report[f"l{n}"].queued) for n in range(4)] == [0, 10, 20, 30]
    assert report["l3"].started == report["l3"].queued
    assert {each.call for each in seen if isinstance(each, Waiting)} == {"l1", "l2", "l3"}


async def test_what_cannot_go_before_the_run_ends_is_told_at_once():
    """It is timed out with the scope that would have expired; nothing was charged."""
    limiter = Limiter("k", rates={"requests": Rate(1, per=10, burst=1, settle="reserved")})

    @tool(effect="read", limits=[limiter])
    async def limited(n: int) -> int:
        return n

    @tool
    async def after(n: int) -> int:
        return n

    calls = [Call(str(n), "limited", {"n": n}) for n in range(4)]
    calls.append(Call("x", "after", {"n": Ref("3")}))
    report = await Executor([limited, after], timeouts=Timeouts(workflow=15)).run(calls)
    assert [report[str(n)].status for n in range(4)] == ["done", "done", "timed_out", "timed_out"]
    assert report["3"].scope == "workflow"
    assert report["3"].started is None
    assert report["3"].ended < 0.1
    assert report["3"].attempts == 0
    assert report["x"].because == "3"
    assert report.elapsed == pytest.approx(10, abs=0.1)


async def test_costs_come_from_the_arguments_and_are_settled():
    """A tool says what it really used; what it cannot use comes back."""
    limiter = Limiter("k", rates={"tokens": Rate(100)}, oversize="reject")

    @tool(effect="read", limits=["k"], cost=lambda args: {"tokens": args["n"]})
    async def ask(n: int) -> int:
        current_permit().settle(tokens=10)
        return n

    executor = Executor([ask])
    report = await executor.run([Call("a", "ask", {"n": 90}), Call("b", "ask", {"n": 500})])
    assert limiter.level("tokens") == pytest.approx(90)
    assert isinstance(report["b"].error, OversizeError)
    assert "'k'" in str(report["b"].error)
    assert report["b"].attempts == 0


async def test_a_refused_write_fails_and_closes_the_gate():
    """The next call waits for it."""
    limiter = Limiter("k", rates={"requests": Rate(100)}, random=lambda: 0.0)
    starts = []

    @tool(limits=[limiter])
    async def ask(n: int) -> int:
        starts.append(anyio.current_time() - 1000)
        if n == 0:
            raise RateLimited(retry_after=5)
        return n

    report = await Executor([ask], concurrency=1).run(
        [Call("0", "ask", {"n": 0}), Call("1", "ask", {"n": 1})]
    )
    assert report["0"].status == "failed"
    assert report["1"].ok
    assert starts == pytest.approx([0, 5])


async def test_a_storm_of_failures_stays_within_the_budget():
    """Of 1,000 calls that all fail, a fifth and the reserve are tried again; then it recovers."""
    flaky = Flaky(10**9)
    ask = made(flaky, retry=Retry(5, budget=0.2, reserve=10))
    report = await run(ask, 1000)
    assert len(flaky.calls) <= 1000 * 1.2 + 10
    assert len(flaky.calls) > 1100
    assert all(outcome.status == "failed" for outcome in report.values())
    assert any("retries" in note for note in report["999"].error.__notes__)
    flaky.failures = 0
    assert (await run(ask, 50)).ok


@pytest.mark.parametrize("down", [60.0, pytest.param(95.0, marks=pytest.mark.slow)])
async def test_a_breaker_opens_and_closes_within_one_interval(down):
    """While everything fails hardly anything is sent; after the recovery it is tried in time."""
    interval, sent = 10.0, []

    @tool(effect="read", retry=Retry(3, breaker=Breaker(5, interval)))
    async def ask(n: int) -> int:
        sent.append(anyio.current_time() - 1000)
        await anyio.sleep(0.05)
        if anyio.current_time() - 1000 < down:
            raise type("ServerError", (Exception,), {"status_code": 500})
        return n

    executor = Executor([ask], timeouts=Timeouts(workflow=None))
    ends = []

    async def one(n):
        await anyio.sleep(n * 0.1)
        report = await executor.run([Call("0", "ask", {"n": n})])
        ends.append((anyio.current_time() - 1000, report["0"]))

    async with anyio.create_task_group() as group:
        for n in range(1500):
            group.start_soon(one, n)
    during = [at for at in sent if at < down]
    assert len(during) <= 5 + 5 + down / interval + 3
    first = min(at for at, outcome in ends if outcome.ok)
    assert first <= down + interval + 0.2
    later = [outcome for at, outcome in ends if at > first + 0.2]
    assert all(outcome.ok for outcome in later)
    refused = [outcome for _, outcome in ends if isinstance(outcome.error, BreakerOpen)]
    assert len(refused) > 300
    assert all(outcome.attempts == 0 for outcome in refused)


async def test_the_sequential_mode_keeps_limits_and_retries():
    """In the caller's task, one after the other."""
    flaky = Flaky(1)
    ask = made(flaky, retry=Retry(2), limits=[Limiter("k", rates={"requests": Rate(1, per=1)})])
    report = await run(ask, 3, concurrency=0)
    assert report.ok
    assert report.elapsed >= 2


async def test_stopping_a_run_leaves_nothing_behind():
    """Calls that wait for a limit are cancelled and leave their places."""
    limiter = Limiter("k", rates={"requests": Rate(1, per=100, burst=1)})
    ask = made(Flaky(), limits=[limiter])
    executor = Executor([ask], timeouts=Timeouts(workflow=None))
    calls = [Call(str(n), "ask", {"n": n}) for n in range(5)]
    async with executor.start(calls) as live:
        await anyio.sleep(1)
        assert limiter.waiting == 4
        live.cancel()
    assert [live.report[str(n)].status for n in range(5)] == ["done"] + ["cancelled"] * 4
    assert limiter.waiting == limiter.in_flight == 0


async def test_two_executors_that_share_a_store_are_served_as_one():
    """In the order of their calls, at the rate of the key; what was not used comes back."""
    store = MemoryStore()
    starts = []

    async def one():
        limiter = Limiter("shared", rates={"tokens": Rate(60)}, store=store, margin=0)

        @tool(effect="read", limits=[limiter], cost={"tokens": 30})
        async def ask(n: int) -> None:
            starts.append(anyio.current_time() - 1000)
            current_permit().settle(tokens=15)

        calls = [Call(str(n), "ask", {"n": n}) for n in range(6)]
        report = await Executor([ask], timeouts=Timeouts(workflow=None)).run(calls)
        assert report.ok
        assert limiter.in_flight == 0
        assert not limiter.ledger.owed

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    # 12 calls use 15 each, of which 60 are there at the start and 1 comes each second.
    assert 12 * 15 - 60 <= max(starts) <= 12 * 15 - 60 + 31


async def test_a_store_that_fails_costs_the_call_and_nothing_else():
    """The error is the outcome's; no slot is lost."""

    class Broken:
        async def book(self, key, asks):
            raise ConnectionError(key)

        async def add(self, key, amounts):
            raise ConnectionError(key)

        async def gate(self, key, seconds=0.0):
            raise ConnectionError(key)

    limiter = Limiter("k", in_flight=1, rates={"requests": Rate(60)}, store=Broken())
    report = await run(made(Flaky(), limits=[limiter]), 3)
    assert [outcome.status for outcome in report.values()] == ["failed"] * 3
    assert isinstance(report["0"].error, ConnectionError)
    assert limiter.in_flight == limiter.waiting == 0


def test_bad_options_are_refused_by_name():
    """Cause and way out."""
    for options, text in (
        ({"limits": ["no such key"]}, "no such key"),
        ({"limits": [3]}, "give a Limiter"),
        ({"retry": 3}, "Retry"),
        ({"cost": {"tokens": 1}}, "limits"),
    ):
        with pytest.raises(DagexecError, match=text):
            Executor([made(Flaky(), **options)])
    for wrong in (
        lambda: Retry(0),
        lambda: Retry(base=-1),
        lambda: Retry(timeout=0),
        lambda: Retry(on=3),
        lambda: Breaker(0),
        lambda: Breaker(interval=float("nan")),
        lambda: Rate(0),
        lambda: Rate(1, per=-1),
        lambda: Rate(1, settle="later"),
        lambda: Limiter(""),
        lambda: Limiter("k", in_flight=0),
        lambda: Limiter("k", margin=1),
        lambda: Limiter("k", oversize="perhaps"),
        lambda: Limiter("k", peers=0),
        lambda: Limiter("k", peers="many"),
        lambda: Limiter("k", rates={"x": "y"}),
        lambda: Limiter("k", rates={"x": Rate(1)}).acquire({"y": 1}),
        lambda: Limiter("k", rates={"x": Rate(1)}).acquire({"x": float("inf")}),
        lambda: Limiter("k").acquire(priority=99),
    ):
        with pytest.raises(DagexecError):
            wrong()


@pytest.mark.parametrize("journal", [None, MemoryJournal()], ids=["", "journal"])
async def test_waiting_for_limits_is_not_bounded_by_the_call_before(journal):
    """The worker that ran a call with a deadline runs next one that waits far longer for limits."""

    @tool(timeout=1)
    async def brief() -> None:
        """Take a moment."""
        await anyio.sleep(0.5)

    limiter = Limiter("k", rates={"requests": Rate(1, per=10, burst=1, settle="reserved")})
    ask = made(Flaky(), limits=(limiter,), timeout=1)
    executor = Executor([brief, ask], concurrency=1, journal=journal)
    calls = [Call("first", "ask"), Call("b", "brief"), Call("then", "ask", {"n": 1})]
    report = await executor.run(calls)
    assert report.ok
    assert report["then"].started == pytest.approx(10)


@pytest.mark.parametrize("where", ["on", "arguments"])
async def test_what_goes_wrong_between_two_attempts_fails_that_call_alone(where):
    """A retry's rule and the validators of arguments are a user's code too."""
    seen = []

    def small(n: int) -> int:
        seen.append(n)
        if len(seen) > 2:  # once when the plan is checked, once for the first attempt at most
            raise ValueError("not any more")
        return n

    @tool(effect="read", retry=Retry(3, base=0.001, on=lambda error: error.code == 5))
    async def by_rule() -> None:
        """Raise what has no code."""
        raise ValueError("no")

    @tool(effect="idempotent", retry=Retry(3, base=0.001))
    async def by_arguments(n: Annotated[int, AfterValidator(small)]) -> None:
        """Fail; later its arguments do not fit any more."""
        seen.append(0)
        seen.append(0)
        raise OSError("no")

    @tool
    async def send() -> str:
        """Take a moment."""
        await anyio.sleep(1)
        return "sent"

    name, args = ("by_rule", {}) if where == "on" else ("by_arguments", {"n": 1})
    executor = Executor([by_rule, by_arguments, send])
    report = await executor.run([Call("f", name, args), Call("s", "send")])
    assert report["s"].value == "sent"
    assert (report["f"].status, str(report["f"].error)) == ("failed", "no")
    assert "it was not tried again" in report["f"].error.__notes__[0]


@pytest.mark.parametrize("concurrency", [0, 1, 20])
@pytest.mark.parametrize("starts", [False, True], ids=["run", "start"])
async def test_a_call_lends_its_place_to_its_own_run(concurrency, starts):
    """A nested call may need the limit that its parent is under; the limit holds all the same."""
    limiter = Limiter("model", in_flight=2)
    inside, peak = 0, 0

    async def use() -> None:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await anyio.sleep(1)
        inside -= 1

    @tool(effect="read", limits=(limiter,))
    async def complete(n: int) -> int:
        """Use the model."""
        await use()
        return n

    @tool(effect="read", limits=(limiter,))
    async def agent(n: int) -> int:
        """Use the model before and after a run of its own."""
        await use()
        plan = [Call("inner", "complete", {"n": n})]
        if starts:
            async with executor.start(plan) as run:
                pass
            report = run.report
        else:
            report = await executor.run(plan)
        await use()
        return report["inner"].value

    executor = Executor([complete, agent], concurrency=concurrency)
    report = await executor.run([Call(str(n), "agent", {"n": n}) for n in range(6)])
    assert [each.value for each in report.values()] == list(range(6))
    assert peak == (1 if concurrency < 2 else 2)
    assert limiter.in_flight == 0


async def test_a_nested_run_that_is_cut_off_leaves_the_place_taken_once():
    """A deadline, and an error of the nested run that the tool handles."""
    limiter = Limiter("model", in_flight=1)

    @tool(effect="read", limits=(limiter,))
    async def wait(seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    @tool(effect="read", limits=(limiter,), timeout=5)
    async def agent(seconds: float) -> int:
        """Cut a run of its own off."""
        with anyio.move_on_after(1):
            await executor.run([Call("inner", "wait", {"seconds": seconds})])
        seen = limiter.in_flight
        await anyio.sleep(seconds)
        return seen

    executor = Executor([wait, agent])
    report = await executor.run([Call("a", "agent", {"seconds": 3})])
    assert report["a"].value == 1
    report = await executor.run([Call("b", "agent", {"seconds": 30})])
    assert report["b"].status == "timed_out"
    assert limiter.in_flight == 0
