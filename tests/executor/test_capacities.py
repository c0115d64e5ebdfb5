"""Named resources (`uses=`): all at once, in turn, never locked, always given back."""

from __future__ import annotations

import json
import logging
import random
import threading

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec import Call, DagexecError, Executor, Plan, Timeouts, ToolDefinitionError, tool
from dagexec._concurrency.capacities import Capacities, Hold
from dagexec._errors import PoolDeadlock
from dagexec.limits import Retry

pytestmark = pytest.mark.anyio


class Meter:
    """Counts what is in use, and the most that ever was."""

    def __init__(self):
        self.now = {}
        self.peak = {}

    async def use(self, uses, seconds):
        for name, count in uses.items():
            self.now[name] = self.now.get(name, 0) + count
            self.peak[name] = max(self.peak.get(name, 0), self.now[name])
        try:
            await anyio.sleep(seconds)
        finally:
            for name, count in uses.items():
                self.now[name] -= count


def user(meter, name, uses, **options):
    """Return a tool that uses resources for so many seconds."""

    async def run(seconds: float = 1) -> str:
        await meter.use(uses, seconds)
        return name

    return tool(run, name=name, uses=uses, **options)


def free(executor):
    """Check that nothing is held and nobody waits."""
    for capacities in executor._shared._by_loop.values():
        assert not capacities.held
        assert not capacities._parked
    for slots in executor._slots.values():
        assert slots.free == executor.concurrency
        assert not slots.waiters


async def test_only_so_many_at_a_time():
    """Those who wait hold no slot: the others go on."""
    meter = Meter()
    tools = [user(meter, "gpu", {"gpu": 1}), user(meter, "free", {})]
    executor = Executor(tools, capacities={"gpu": 2}, concurrency=3)
    calls = [Call(f"g{n}", "gpu") for n in range(6)] + [Call(f"f{n}", "free") for n in range(3)]
    report = await executor.run(Plan(calls))
    assert report.ok
    assert meter.peak == {"gpu": 2}
    assert report["f0"].ended == pytest.approx(1)
    assert report.elapsed == pytest.approx(3)
    assert report["g5"].queued == pytest.approx(2)
    free(executor)


async def test_several_are_taken_at_once():
    """Two that each want both, in either order, and a stream of small ones past a large one."""
    meter = Meter()
    tools = [
        user(meter, "ab", {"a": 1, "b": 1}),
        user(meter, "ba", {"b": 1, "a": 1}),
        user(meter, "one", {"c": 1}),
        user(meter, "all", {"c": 3}),
    ]
    executor = Executor(tools, capacities={"a": 1, "b": 1, "c": 3}, concurrency=10)
    calls = [Call(str(n), ("ab", "ba")[n % 2]) for n in range(6)]
    calls += [Call(f"c{n}", "one", {"seconds": 1 + n / 10}) for n in range(3)]
    calls += [Call("all", "all"), *(Call(f"d{n}", "one") for n in range(6))]
    report = await executor.run(Plan(calls))
    assert report.ok
    assert meter.peak == {"a": 1, "b": 1, "c": 3}
    # First come, first served: the large one has its turn before those that came later.
    assert report["all"].started < min(report[f"d{n}"].started for n in range(6))
    free(executor)


@pytest.mark.parametrize(
    "timeouts", [Timeouts(call=0.5), Timeouts(workflow=0.5), Timeouts(layer=0.5)]
)
async def test_waiting_is_not_running(timeouts):
    """The call's own time begins when it has what it uses; the outer scopes count."""
    meter = Meter()
    executor = Executor(
        [user(meter, "t", {"x": 1})], capacities={"x": 1}, timeouts=timeouts, concurrency=2
    )
    report = await executor.run(Plan([Call(str(n), "t", {"seconds": 0.3}) for n in range(3)]))
    if timeouts.call == 0.5:
        assert report.ok
        assert report.elapsed == pytest.approx(0.9)
    else:
        assert [each.status for each in report.values()] == ["done", "timed_out", "timed_out"]
        assert report["2"].started is None
    free(executor)
    assert (await executor.run([Call("again", "t", {"seconds": 0.1})])).ok


async def test_two_runs_share_them():
    """Also when one of them is cancelled while it holds or waits."""
    meter = Meter()
    executor = Executor([user(meter, "t", {"x": 1})], capacities={"x": 1}, concurrency=4)
    plan = Plan([Call(str(n), "t") for n in range(3)])
    for tenths in range(1, 70, 7):
        async with anyio.create_task_group() as group:
            group.start_soon(executor.run, plan)
            with anyio.move_on_after(tenths / 10):
                await executor.run(plan)
        free(executor)
    assert meter.peak == {"x": 1}


async def test_the_end_of_a_run_forgets_nobody_else():
    """Engines run each call of a run as a run of its own, under one id."""
    meter = Meter()
    tools = [user(meter, "gpu", {"gpu": 1}), user(meter, "free", {})]
    executor = Executor(tools, capacities={"gpu": 1}, timeouts=Timeouts(workflow=5))
    reports = {}

    async def run(name, tool, seconds):
        reports[name] = await executor.run([Call(name, tool, {"seconds": seconds})], run_id="r")

    async with anyio.create_task_group() as group:
        group.start_soon(run, "a", "gpu", 2)
        await anyio.sleep(0.1)
        group.start_soon(run, "b", "gpu", 1)
        await anyio.sleep(0.1)
        group.start_soon(run, "c", "free", 1)
    assert {name: report[name].status for name, report in reports.items()} == {
        **dict.fromkeys("abc", "done")
    }
    assert reports["b"].elapsed == pytest.approx(2.9)
    free(executor)


async def test_a_nested_call_that_would_wait_for_its_own_parent_is_refused():
    """With the names of both; the run ends."""
    meter = Meter()

    @tool(uses={"gpu": 1})
    async def outer() -> str:
        """Run one below that needs the same."""
        report = await executor.run(Plan([Call("below", "inner"), Call("other", "free")]))
        assert report["other"].ok
        report.raise_for_failures()

    executor = Executor(
        [outer, user(meter, "inner", {"gpu": 1}), user(meter, "free", {})], capacities={"gpu": 1}
    )
    report = await executor.run(Plan([Call("above", "outer"), Call("beside", "inner")]))
    text = str(report["above"].error.exceptions[0])
    assert isinstance(report["above"].error.exceptions[0], PoolDeadlock)
    assert "'below'" in text
    assert "'above'" in text
    assert report["beside"].ok
    free(executor)


async def test_a_cross_over_of_nested_calls_is_refused():
    """A holds x and wants y below, B holds y and wants x below: one of them is told."""
    meter = Meter()

    def nesting(name, mine, other):
        async def run() -> str:
            await anyio.sleep(1)
            (await executor.run(Plan([Call(f"{name}-below", other)]))).raise_for_failures()
            return name

        return tool(run, name=name, uses={mine: 1})

    tools = [nesting("a", "x", "use-y"), nesting("b", "y", "use-x")]
    tools += [user(meter, "use-x", {"x": 1}), user(meter, "use-y", {"y": 1})]
    executor = Executor(tools, capacities={"x": 1, "y": 1}, timeouts=Timeouts(workflow=100))
    report = await executor.run(Plan([Call("A", "a"), Call("B", "b")]))
    assert sorted(each.status for each in report.values()) == ["done", "failed"]
    assert report.elapsed < 10
    free(executor)


async def test_nested_calls_that_fit_are_not_refused():
    """There is enough for both, or someone else will give it back."""
    meter = Meter()

    @tool(uses={"gpu": 1})
    async def outer() -> int:
        """Run below."""
        report = await executor.run(Plan([Call(str(n), "inner") for n in range(3)]))
        report.raise_for_failures()
        return len(report)

    executor = Executor([outer, user(meter, "inner", {"gpu": 1})], capacities={"gpu": 2})
    report = await executor.run(
        Plan([Call("above", "outer"), *(Call(f"b{n}", "inner") for n in range(4))])
    )
    report.raise_for_failures()
    assert meter.peak["gpu"] <= 2
    free(executor)


@pytest.mark.parametrize("seed", range(60))
async def test_random_trials_give_everything_back(seed):
    """Failures, timeouts, cancellations, nested runs."""
    chance = random.Random(seed)
    meter = Meter()
    total = {"a": 1, "b": 2, "c": 3}

    def leaf(index):
        uses = {
            name: chance.randint(1, most) for name, most in total.items() if chance.random() < 0.5
        }

        async def run() -> None:
            await meter.use(uses, chance.choice([0, 0.5, 1, 3]))
            if chance.random() < 0.2:
                raise ValueError

        return tool(run, name=f"leaf{index}", uses=uses)

    leaves = [leaf(index) for index in range(5)]

    @tool(uses={"c": 1})
    async def node() -> None:
        """Run below, while it holds one of three."""
        with anyio.move_on_after(chance.choice([1, 5, 1000])):
            await executor.run(some(2))

    def some(count):
        return Plan(
            Call(str(n), "node" if chance.random() < 0.2 else chance.choice(leaves).name)
            for n in range(count)
        )

    executor = Executor(
        [*leaves, node],
        capacities=total,
        concurrency=chance.choice([1, 2, 5]),
        timeouts=Timeouts(call=chance.choice([2, 50]), workflow=chance.choice([4, 500])),
    )
    with anyio.move_on_after(chance.choice([1.5, 4, 10_000])):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(executor.run, some(6))
    free(executor)
    assert all(meter.peak[name] <= total[name] for name in meter.peak)
    assert not any(meter.now.values())


@settings(max_examples=settings().max_examples * 2)
@given(st.data())
def test_nobody_waits_without_need(data):
    """A property of `Capacities` alone: whoever is parked lacks something, or one before him."""
    total = {"a": 2, "b": 3}
    capacities = Capacities(total)
    holds = []
    for index in range(data.draw(st.integers(1, 25))):
        if capacities.held and data.draw(st.booleans()):
            capacities.give(data.draw(st.sampled_from(list(capacities.held))))
        else:
            uses = {
                name: data.draw(st.integers(1, most))
                for name, most in total.items()
                if data.draw(st.booleans())
            }
            hold = Hold(str(index), "t", "r", uses, granted=lambda _: True)
            holds.append(hold)
            capacities.take(hold)
        used = {name: sum(each.uses.get(name, 0) for each in capacities.held) for name in total}
        assert all(used[name] <= total[name] for name in total)
        before = set()
        for each in capacities._parked:
            short = any(used[name] + count > total[name] for name, count in each.uses.items())
            assert short or before & each.uses.keys()
            before |= each.uses.keys()
    while capacities.held:
        capacities.give(next(iter(capacities.held)))
    assert not capacities._parked


def test_what_cannot_be_used_is_refused_at_once():
    """The errors name the tool and the way out."""
    with pytest.raises(ToolDefinitionError, match="uses="):
        tool(lambda: 1, name="t", uses={"gpu": 0})
    needy = tool(lambda: 1, name="t", uses={"gpu": 2})
    with pytest.raises(DagexecError, match=r"'t' uses 2 of 'gpu'.*capacities"):
        Executor([needy], capacities={"gpu": 1})
    with pytest.raises(DagexecError, match="capacities"):
        Executor([needy])
    with pytest.raises(DagexecError, match="whole number"):
        Executor([], capacities={"gpu": 1.5})


def facts(caplog):
    """Return what the last line about the end of a run says."""
    record = [each for each in caplog.records if hasattr(each, "dagexec")][-1]
    assert json.loads(record.getMessage().removeprefix("run ended ")) == record.dagexec
    return record.dagexec


async def test_the_end_of_a_run_is_one_line_in_the_log(caplog):
    """Counts, seconds, what is active, what is held."""
    caplog.set_level(logging.INFO, "dagexec")
    meter = Meter()
    executor = Executor([user(meter, "t", {"x": 1}, timeout=2)], capacities={"x": 5})
    await executor.run(
        [Call("a", "t"), Call("b", "t", {"seconds": 9}), Call("c", "t", after=("b",))], run_id="r1"
    )
    told = facts(caplog)
    assert told.pop("elapsed") == pytest.approx(2)
    assert {key: value for key, value in told.items() if value} == {
        "run_id": "r1", "calls": 3, "done": 1, "timed_out": 1, "skipped": 1,
    }  # fmt: skip
    assert (told["active"], told["held"]) == ([], {})
    assert len([each for each in caplog.records if hasattr(each, "dagexec")]) == 1


@pytest.mark.real_time
async def test_a_thread_left_behind_keeps_what_it_uses(caplog):
    """The line says so, as a warning; when the thread ends after all, it is given back."""
    release = threading.Event()

    @tool(uses={"gpu": 1}, timeout=0.5)
    def stuck(wait: bool = True) -> int:
        """Wait for the test."""
        if wait:
            release.wait(50)
        return 1

    executor = Executor([stuck], capacities={"gpu": 1}, timeouts=Timeouts(workflow=2))
    report = await executor.run([Call("s", "stuck")])
    assert report["s"].status == "timed_out"
    told = facts(caplog)
    assert (told["active"], told["held"]) == (["s"], {"s": {"gpu": 1}})
    report = await executor.run([Call("t", "stuck", {"wait": False})])
    assert (report["t"].status, report["t"].scope) == ("timed_out", "workflow")
    release.set()
    with anyio.fail_after(40):
        while not (await executor.run([Call("u", "stuck", {"wait": False})])).ok:
            await anyio.sleep(0.05)
    free(executor)


@pytest.mark.real_time
async def test_there_is_no_second_attempt_beside_the_thread_of_the_first():
    """It would use the GPU that the thread, which was left behind, goes on using."""
    gate = threading.Event()
    begun = []

    @tool(uses={"gpu": 1}, effect="read", retry=Retry(2, timeout=1, base=0.01))
    def train() -> None:
        """Wait at the gate."""
        begun.append(1)
        gate.wait(20)

    executor = Executor([train], capacities={"gpu": 1})
    report = await executor.run([Call("t", "train")])
    gate.set()
    assert (report["t"].status, report["t"].attempts, len(begun)) == ("timed_out", 1, 1)
    assert "its thread did not end" in report["t"].error.__notes__[0]
    with anyio.fail_after(20):
        while not (await executor.run([Call("u", "train")])).ok:
            await anyio.sleep(0.05)
    free(executor)
