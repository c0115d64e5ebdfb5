"""What a tool sees: ContextVars, its call; how many tasks there are; the mode to debug."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import anyio
import pytest

from dagexec import (
    Approve,
    Call,
    DagexecError,
    Executor,
    Plan,
    PlanError,
    Ref,
    Timeouts,
    ask,
    current_call,
    tool,
)
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio
user: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.mark.real_time
@pytest.mark.parametrize("concurrency", [0, 1, 20])
async def test_context_variables_of_the_caller_reach_tools_and_do_not_leak(concurrency):
    """Async and sync tools see the caller's; what one sets no other call sees."""

    @tool
    async def in_loop() -> str:
        """Read, set, wait, read."""
        before = user.get()
        user.set("in_loop")
        await anyio.sleep(0.001)
        assert user.get() == "in_loop"
        return before

    @tool
    def in_thread() -> str:
        """Read, set."""
        before = user.get()
        user.set("in_thread")
        return before

    user.set("caller")
    calls = []
    for n in range(6):
        name = "in_loop" if n % 2 else "in_thread"
        calls.append(Call(str(n), name, after=(str(n - 2),) if n > 1 else ()))
    report = await Executor([in_loop, in_thread], concurrency=concurrency).run(Plan(calls))
    assert set(report.outputs.values()) == {"caller"}
    assert len(report.outputs) == 6
    assert user.get() == "caller"


async def test_a_tool_knows_its_call():
    """Id, tool, run id and a key that is its own; none outside."""

    @tool
    async def who() -> object:
        """Tell."""
        await anyio.sleep(1)
        return current_call()

    with pytest.raises(DagexecError, match="inside a tool"):
        current_call()
    calls = Plan([Call("a", "who"), Call("b", "who")])
    report = await Executor([who]).run(calls, run_id="r1")
    seen = report.outputs
    assert {name: (each.id, each.tool, each.run_id) for name, each in seen.items()} == {
        "a": ("a", "who", "r1"),
        "b": ("b", "who", "r1"),
    }
    assert len({each.idempotency_key for each in seen.values()}) == 2
    with pytest.raises(DagexecError, match="inside a tool"):
        current_call()


async def test_a_chain_of_500_needs_no_more_tasks():
    """Counted from inside, the number of tasks never changes: one more, the watchdog."""
    counts = set()

    @tool
    async def link(x: int) -> int:
        """Count tasks."""
        await anyio.lowlevel.checkpoint()
        counts.add(len(anyio.get_running_tasks()))
        return x + 1

    before = len(anyio.get_running_tasks())
    calls = [Call("0", "link", {"x": 0})]
    calls += [Call(str(n), "link", {"x": Ref(str(n - 1))}) for n in range(1, 500)]
    report = await Executor([link]).run(Plan(calls))
    assert report.outputs["499"] == 500
    assert counts == {before + 1}


@pytest.mark.parametrize("timeouts", [Timeouts(), Timeouts(layer=100)], ids=["", "layers"])
async def test_a_fan_out_of_1000_has_as_many_tasks_as_slots(timeouts):
    """With 20 slots there are at most 22 tasks beside the caller's."""
    most = 0

    @tool
    async def leaf() -> None:
        """Count tasks."""
        nonlocal most
        await anyio.sleep(0.1)
        most = max(most, len(anyio.get_running_tasks()))

    before = len(anyio.get_running_tasks())
    report = await Executor([leaf], timeouts=timeouts, concurrency=20).run(
        Plan([Call(str(n), "leaf") for n in range(1000)])
    )
    assert report.ok
    assert most - before <= 22


async def test_concurrency_0_runs_in_the_callers_task_in_plan_order():
    """One after the other, and no threads."""
    seen = []

    @tool
    async def in_loop(n: int) -> None:
        """Note the task."""
        await anyio.sleep(1)
        seen.append((n, anyio.get_current_task().id, threading.current_thread()))

    @tool
    def blocking(n: int) -> None:
        """Note the thread; a synchronous tool sees no event loop, as in a thread of its own."""
        seen.append((n, None, threading.current_thread()))

    calls = [
        Call("0", "in_loop", {"n": 0}),
        Call("1", "blocking", {"n": 1}, after=("3",)),
        Call("2", "in_loop", {"n": 2}),
        Call("3", "blocking", {"n": 3}),
        Call("4", "blocking", {"n": 4}, after=("0",)),
    ]
    report = await Executor([in_loop, blocking], concurrency=0).run(Plan(calls))
    assert report.ok
    assert [n for n, _, _ in seen] == [0, 2, 3, 1, 4]
    assert {task for _, task, _ in seen} == {anyio.get_current_task().id, None}
    assert {thread for _, _, thread in seen} == {threading.current_thread()}
    assert report.elapsed == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize(("text", "peak"), [("0", 1), ("1", 1), ("3", 3)])
async def test_the_environment_sets_the_concurrency(monkeypatch, text, peak):
    """DAGEXEC_CONCURRENCY takes the place of the argument."""
    monkeypatch.setenv("DAGEXEC_CONCURRENCY", text)
    box = ToolBox()
    box.tool("t", seconds=1)
    assert (await Executor(box.tools, concurrency=7).run(Plan([Call(c, "t") for c in "abcdef"]))).ok
    assert box.peak == peak


@pytest.mark.parametrize("text", ["-1", "many", "1.5", ""])
def test_a_bad_environment_is_refused(monkeypatch, text):
    """The error shows the value."""
    monkeypatch.setenv("DAGEXEC_CONCURRENCY", text)
    with pytest.raises(DagexecError, match="concurrency"):
        Executor([])


@pytest.mark.parametrize(
    "settings", [{"concurrency": -1}, {"concurrency": 1.5}, {"on_failure": "x"}]
)
def test_bad_settings_are_refused(settings):
    """Before anything runs."""
    with pytest.raises(DagexecError):
        Executor([], **settings)


def test_check_lists_every_problem():
    """Unknown tools, bad arguments with and without references, in one error."""

    @tool
    async def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    plan = Plan(
        [
            Call("1", "add", {"a": 1, "b": "x"}),
            Call("2", "sub", {}),
            Call("3", "add", {"a": Ref("1"), "c": 2}),
            Call("4", "add", {"a": 1, "b": Ref("1")}),
        ]
    )
    with pytest.raises(PlanError) as caught:
        Executor([add]).check(plan)
    named = {problem.call: problem.kind for problem in caught.value.problems}
    assert named == {"1": "bad_arguments", "2": "unknown_tool", "3": "bad_arguments"}
    assert "add" in str(caught.value)


@pytest.mark.parametrize("concurrency", [0, 1, 20])
async def test_a_call_that_waits_for_a_person_is_pending(concurrency):
    """Approval and ask(): pending with the question, dependants pending too, the rest runs."""

    @tool
    async def asks() -> str:
        """Ask from inside a task group."""
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 100)
            return await ask({"how": "many?"})

    box = ToolBox()
    box.tool("pay", approval=True, secret=("key",))
    box.tool("t", seconds=1)
    plan = Plan(
        [
            Call("pay", "pay", {"amount": 3, "key": "S3CRET"}),
            Call("asks", "asks"),
            Call("after", "t", after=("pay",)),
            Call("later", "t", after=("after", "rest")),
            Call("rest", "t"),
        ]
    )
    report = await Executor([*box.tools, asks], concurrency=concurrency).run(plan)
    assert [each.status for each in report.values()] == ["pending"] * 4 + ["done"]
    assert report["pay"].question == {"approve": "pay", "args": {"amount": 3, "key": "<secret>"}}
    assert report["asks"].question == {"how": "many?"}
    assert [report[name].because for name in ("pay", "asks", "after", "later")] == [
        None,
        None,
        "pay",
        "pay",
    ]
    assert box.order == ["t"]
    assert not report.ok
    with pytest.raises(DagexecError, match="pending"):
        report.raise_for_failures()


async def test_resume_without_a_journal_is_an_error():
    """Nobody knows the run."""
    with pytest.raises(DagexecError, match="r1"):
        await Executor([]).resume("r1", answers={"a": Approve()})
