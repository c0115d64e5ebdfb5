"""Identical calls of pure tools share one execution; nothing else does."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Call, Executor, Plan, Ref, Timeouts, tool
from dagexec.limits import Limiter
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio


class Square:
    """A tool that counts how often it ran."""

    def __init__(self, effect="pure", seconds=1.0, **options):
        self.runs = []

        @tool(effect=effect, **options)
        async def square(n: object) -> object:
            """Return the square."""
            self.runs.append(n)
            await anyio.sleep(seconds)
            if n == "bad":
                msg = "no square"
                raise ValueError(msg)
            return n * n

        self.tool = square


def calls(*numbers):
    """Return a call for each number."""
    return [Call(f"c{at}", "square", {"n": n}) for at, n in enumerate(numbers)]


@pytest.mark.parametrize("concurrency", [0, 1, 20])
async def test_identical_calls_run_once(concurrency):
    """All get the value; those that did not run say whose it is."""
    square = Square()
    report = await Executor([square.tool], concurrency=concurrency).run(Plan(calls(3, 4, 3, 3)))
    assert report.outputs == {"c0": 9, "c1": 16, "c2": 9, "c3": 9}
    assert square.runs == [3, 4]
    assert [report[name].attempts for name in report] == [1, 1, 0, 0]
    assert [report[name].because for name in report] == [None, None, "c0", "c0"]


@pytest.mark.parametrize("effect", ["read", "idempotent", "write"])
async def test_other_effects_never_share(effect):
    """What looks at the world, or changes it, runs as often as it is called."""
    square = Square(effect)
    report = await Executor([square.tool]).run(Plan(calls(3, 3)))
    assert report.ok
    assert square.runs == [3, 3]


async def test_those_who_wait_hold_no_slot():
    """With one slot, nine identical calls do not delay what is different."""
    square, box = Square(), ToolBox()
    box.tool("other", seconds=1)
    executor = Executor([square.tool, *box.tools], concurrency=1)
    report = await executor.run(Plan([*calls(*[3] * 9), Call("o", "other")]))
    assert report.ok
    assert report.elapsed == 2
    assert square.runs == [3]
    assert all(slots.free == 1 and not slots.waiters for slots in executor._slots.values())


async def test_arguments_are_compared_after_references_are_resolved():
    """A value that comes by reference is the same argument as a literal one."""
    square = Square()
    plan = Plan([Call("a", "square", {"n": 3}), Call("b", "square", {"n": Ref("a")})])
    later = [Call("c", "square", {"n": 9}), Call("d", "square", {"n": 9}, after=("b",))]
    report = await Executor([square.tool]).run(Plan([*plan, *later]))
    assert report.outputs == {"a": 9, "b": 81, "c": 81, "d": 81}
    assert square.runs == [3, 9]


@pytest.mark.parametrize(
    "pair",
    [(1, 1.0), (1, True), (0, False), (0.0, -0.0), ([1], (1,)), ("1", 1), ({"a": 1}, {"a": 1.0})],
    ids=repr,
)
async def test_equal_values_of_another_type_are_other_arguments(pair):
    """Python's == says more than a tool may."""
    seen = []

    @tool(effect="pure")
    async def show(n: object) -> str:
        """Return it as text."""
        seen.append(n)
        return repr(n)

    source = [Call(str(at), "show", {"n": n}) for at, n in enumerate(pair)]
    report = await Executor([show]).run(Plan(source))
    assert [report[str(at)].value for at in range(2)] == [repr(n) for n in pair]


async def test_an_argument_that_cannot_be_compared_is_not_shared():
    """An object without a hash may be anything."""
    made = []

    @tool(effect="pure")
    async def make() -> object:
        """Return a set."""
        return {1, 2}

    @tool(effect="pure")
    async def size(of: object) -> int:
        """Return the size."""
        made.append(of)
        return len(of)

    plan = Plan([Call("s", "make"), *(Call(n, "size", {"of": Ref("s")}) for n in "ab")])
    report = await Executor([make, size]).run(plan)
    assert report.outputs == {"s": {1, 2}, "a": 2, "b": 2}
    assert len(made) == 2


async def test_a_failure_is_shared_and_named_for_each():
    """The tool would fail again; each call has its own outcome, each dependant its own skip."""
    square = Square()
    plan = Plan([*calls("bad", "bad"), Call("d", "square", {"n": Ref("c1")})])
    report = await Executor([square.tool]).run(plan)
    assert [report[name].status for name in report] == ["failed", "failed", "skipped"]
    assert report["d"].because == "c1"
    assert square.runs == ["bad"]


async def test_the_timeout_of_a_call_is_shared():
    """It is that of the tool with these arguments."""
    square = Square(seconds=10)
    report = await Executor([square.tool], timeouts=Timeouts(call=2)).run(Plan(calls(3, 3)))
    assert [(o.status, o.scope) for o in report.values()] == [("timed_out", "call")] * 2
    assert report.elapsed == 2


async def test_the_deadline_of_a_layer_is_not_shared():
    """The call of the later layer runs itself, in the time that its layer has."""
    runs = []

    @tool(effect="pure")
    async def slow(n: int) -> int:
        """Take 3 seconds the first time, half a second the second."""
        runs.append(n)
        await anyio.sleep(3 if len(runs) == 1 else 0.5)
        return n

    box = ToolBox()
    box.tool("first", seconds=1)
    executor = Executor([slow, *box.tools], timeouts=Timeouts(layer=2.5))
    plan = Plan(
        [Call("a", "slow", {"n": 1}), Call("f", "first"), Call("b", "slow", {"n": 1}, after=("f",))]
    )
    report = await executor.run(plan)
    assert (report["a"].status, report["a"].scope) == ("timed_out", "layer")
    assert report["b"].value == 1
    assert runs == [1, 1]
    assert report.elapsed == 3


async def test_the_end_of_the_run_reaches_those_who_wait():
    """A workflow deadline leaves no call without an outcome."""
    square = Square(seconds=10)
    executor = Executor([square.tool], timeouts=Timeouts(workflow=2))
    report = await executor.run(Plan(calls(3, 3, 3)))
    assert [(o.status, o.scope) for o in report.values()] == [("timed_out", "workflow")] * 3


async def test_approval_is_asked_for_each_call():
    """A person answers a call, not an argument."""
    square = Square(approval=True)
    report = await Executor([square.tool]).run(Plan(calls(3, 3)))
    assert [o.status for o in report.values()] == ["pending", "pending"]
    assert square.runs == []


async def test_runs_share_nothing():
    """A new run asks anew."""
    square = Square()
    executor = Executor([square.tool])
    for _ in range(2):
        assert (await executor.run(Plan(calls(3, 3)))).ok
    assert square.runs == [3, 3]


async def test_the_end_of_one_that_never_started_lets_the_others_go_on():
    """The first waits for a limit until its layer's deadline; the second has time left."""
    limiter = Limiter("squares", in_flight=1)

    @tool(effect="pure", limits=(limiter,))
    async def square(n: int) -> int:
        """Take long for 1 only."""
        await anyio.sleep(10 if n == 1 else 0.5)
        return n * n

    box = ToolBox()
    box.tool("first", seconds=1)
    executor = Executor([square, *box.tools], timeouts=Timeouts(layer=3))
    one, two = {"n": 1}, {"n": 2}
    report = await executor.run(
        [
            Call("x", "square", one),
            Call("l", "square", two),
            Call("f", "first"),
            Call("m", "square", two, after=("f",)),
        ]
    )
    assert [report[name].scope for name in "xl"] == ["layer", "layer"]
    assert report["m"].value == 4
    assert report.elapsed == 3.5
