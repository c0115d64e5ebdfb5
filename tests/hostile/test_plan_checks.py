"""Plans that are made to be slow to check, or to be told of at any length: near linear, all of it.

What a check does is counted, in calls of functions, and what it says in characters: twice the plan
may come to little more than twice as much. What stays inside one instruction is timed, with bounds
that a square would exceed a hundred times.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Call, Executor, Plan, PlanError, Ref, tool
from dagexec._core.plan import as_ran
from dagexec._core.scheduler import Added, Closed, Scheduler
from dagexec._tools.order import Order, order_conflicts
from dagexec.lowlevel import without_faults
from planners.openai import ChatPlanner
from tests.hostile.cost import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SMALL = 600
LARGE = 20_000
# What twice a plan may cost, where a square would cost four times as much.
GROWTH = 2.6


@tool(writes="file:{path}")
def write(path: str = "a", data: Any = None) -> None:
    """Write."""


@tool(reads="file:{path}")
def read(path: str = "a", data: Any = None) -> None:
    """Read."""


@tool(writes="{a}/{b}/{c}")
def many(a: list[str], b: list[str], c: list[str]) -> None:
    """Write to all of them."""


TOOLS = {"write": write, "read": read, "many": many}


def unknown(count: int) -> list[Call]:
    """Calls that each refer to one that does not exist."""
    return [Call(f"call{i}", "read", {"data": Ref(f"kall{i}")}) for i in range(count)]


def cycle(count: int) -> list[Call]:
    """Calls that wait for each other in one round."""
    return [Call(f"call{i}", "read", {"data": Ref(f"call{(i + 1) % count}")}) for i in range(count)]


def cycles(count: int) -> list[Call]:
    """Pairs of calls that wait for each other."""
    return [Call(f"call{i}", "read", {"data": Ref(f"call{i ^ 1}")}) for i in range(count)]


def no_tool(count: int) -> list[Call]:
    """Calls of tools that do not exist."""
    return [Call(f"call{i}", f"raed{i}") for i in range(count)]


def wrong(count: int) -> list[Call]:
    """Calls with an argument that their tool does not have."""
    return [Call(f"call{i}", "read", {"paht": i}) for i in range(count)]


def chain_ahead(count: int) -> list[Call]:
    """Writers of one file, behind a call that refers to the last one."""
    first = Call("first", "read", {"path": "b", "data": Ref(f"call{count - 1}")})
    return [first, *(Call(f"call{i}", "write") for i in range(count))]


def turned(count: int) -> list[Call]:
    """Writers of one file, each of which needs a call further down, from the other end."""
    above = [Call(f"w{i}", "write", {"data": Ref(f"r{i}")}) for i in range(count // 2)]
    below = [Call(f"r{i}", "read", {"path": "b"}) for i in reversed(range(count // 2))]
    return [*above, *below]


def anywhere(count: int) -> list[Call]:
    """Readers that may read anything, then writers of a file each."""
    half = count // 2
    readers = [Call(f"r{i}", "read", {"path": Ref("first")}) for i in range(half)]
    writers = [Call(f"w{i}", "write", {"path": f"p{i}"}) for i in range(half)]
    return [Call("first", "read", {"path": "0"}), *readers, *writers]


def check(calls: list[Call]) -> None:
    """Check them as `run` does."""
    executor = Executor(TOOLS.values())
    executor.check(Plan(calls))


def stream(calls: list[Call]) -> None:
    """Give them to the machine one by one."""
    machine, order = Scheduler(), Order(TOOLS)
    for call in calls:
        machine.receive(Added(order.add(call), eager=True))
    machine.receive(Closed())


def order(calls: list[Call]) -> None:
    """Put them in the order of their resources."""
    order_conflicts(calls, TOOLS)


def told(calls: list[Call]) -> None:
    """Keep a run of them, as a report does, and tell a model of them."""
    as_ran(calls)
    without_faults(calls)


def work(of: Callable[[], object]) -> int:
    """Return how many functions are called, those of the interpreter's too."""
    counted = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        of()
    except PlanError:
        pass
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize("use", [check, stream, order, told])
@pytest.mark.parametrize(
    "make", [unknown, cycle, cycles, no_tool, wrong, chain_ahead, turned, anywhere]
)
def test_twice_the_plan_is_twice_the_work(
    make: Callable[[int], list[Call]],
    use: Callable[[list[Call]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of each fault, wherever it is found; bounds that large plans reach are reached by these."""
    from dagexec._core import names
    from dagexec._tools import resources

    monkeypatch.setattr(names, "_COMPARISONS", 100)
    monkeypatch.setattr(resources, "_LEAST", 1000)
    monkeypatch.setattr(resources, "_EACH", 5)
    one, two = make(SMALL), make(2 * SMALL)
    work(lambda: use(one[:4]))  # fills caches
    assert work(lambda: use(two)) < GROWTH * work(lambda: use(one))


def quiet(use: Callable[[list[Call]], object], calls: list[Call]) -> float:
    """Return the seconds that a check takes, whatever it finds."""

    def of() -> None:
        with pytest.raises(PlanError):
            use(calls)

    return seconds(of)


@pytest.mark.costs
@pytest.mark.parametrize("make", [unknown, cycle, cycles, no_tool, wrong])
def test_twenty_thousand_faults_are_told_in_seconds(make: Callable[[int], list[Call]]) -> None:
    """And in some hundred characters each."""
    calls = make(LARGE)
    assert quiet(check, calls) < 10
    with pytest.raises(PlanError) as caught:
        check(calls)
    assert sum(map(len, lines(caught.value))) < 500 * LARGE
    assert max(map(len, lines(caught.value))) < 1500
    assert len(str(as_ran(calls[:1000]).calls[0].problem or "")) < 1500


def lines(error: PlanError) -> Sequence[str]:
    """Return the problems as they are shown."""
    return str(error).splitlines()


def test_messages_stay_helpful() -> None:
    """They name what was meant, some of what there is, and how much more."""
    with pytest.raises(PlanError, match=r"mean 'call3'\? There are: call0, .* and 10 more"):
        Plan([*(Call(f"call{i}", "read") for i in range(19)), Call("x", "read", after=("calll3",))])
    with pytest.raises(PlanError, match=r"did you mean 'write'\? There are: write, read, many"):
        check([Call("a", "wriite")])
    text = Plan.problems(cycle(100))[0].message
    assert "call0 -> call99 -> " in text
    assert text.count("more …") == 1
    assert "call1 -> call0;" in text


def test_long_names_are_cut() -> None:
    """However long ids and names are, and however many problems name them."""
    long = "x" * 100_000
    calls = [Call(long, "read", after=tuple(f"{long}{i}" for i in range(100)))]
    problems = Plan.problems(calls)
    assert len(problems) == 100
    assert max(len(str(each)) for each in problems) < 500
    with pytest.raises(PlanError) as caught:
        check([Call("a", long)])
    assert len(str(caught.value)) < 500


@pytest.mark.costs
def test_a_call_that_waits_for_many() -> None:
    """Each name is looked up once."""
    names = tuple(f"c{i}" for i in range(100_000))
    needs, waits = names[::2], names[1::2]
    assert seconds(lambda: Call("last", "read", after=needs, ordered=waits)) < 5
    assert Call("last", "read", after=needs, ordered=names).waits == waits


def test_lists_of_resources_are_not_multiplied() -> None:
    """What they would come to is named by its beginning: more wait, and none too few."""
    some = [f"p{i}" for i in range(1000)]
    assert len(many.resources({"a": some, "b": ["x"], "c": ["y"]})) == 1000
    found = many.resources({"a": some, "b": some, "c": some})
    assert len(found) == 1000
    assert {(each.resource, each.exact) for each in found} >= {("p0/", False)}
    assert len(many.resources({"a": some[:10], "b": some[:10], "c": ["y"]})) == 100
    long = many.resources({"a": ["x" * 100_000], "b": some, "c": ["y"]})
    assert sum(len(each.resource) for each in long) < 1_000_000


def test_many_calls_of_a_reply_with_a_fault_each() -> None:
    """A planner numbers them, and says what is wrong with each."""

    def reply(count: int, name: str, arguments: str) -> dict[str, Any]:
        calls = [
            {
                "id": f"id{i}",
                "type": "function",
                "function": {
                    "name": f"{name}{i}" if name == "raed" else name,
                    "arguments": arguments,
                },
            }
            for i in range(count)
        ]
        message = {"role": "assistant", "tool_calls": calls}
        return {"choices": [{"message": message, "finish_reason": "tool_calls"}]}

    for name, arguments in [
        ("raed#", "{}"),
        ("read", '{"path": "<result of the previous call>"}'),
        ("read", '{"data": {"$ref": "100000"}}'),
        ("read", '{"paht": 1}'),
    ]:
        costs = []
        for count in (SMALL // 2, SMALL):
            planner, body = ChatPlanner(list(TOOLS.values())), reply(count, name, arguments)
            costs.append(work(lambda: planner.plan(body)))  # noqa: B023
        assert costs[1] < GROWTH * costs[0], (name, arguments)
