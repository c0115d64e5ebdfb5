"""What goes wrong with LangGraph's own node, one by one, on every path."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, RetryPolicy, interrupt

from dagexec import Timeouts
from dagexec.integrations.langgraph import DagToolNode

HANGS = pytest.mark.parametrize(
    ("timeouts", "text"),
    [
        (Timeouts(call=1.5), "its time limit"),
        *(
            pytest.param(Timeouts(**{"call": None, scope: 1.5}), text, marks=pytest.mark.slow)
            for scope, text in (
                ("layer", "the calls that started together"),
                ("turn", "this turn"),
                ("workflow", "all calls together"),
            )
        ),
    ],
    ids=["call", "layer", "turn", "workflow"],
)


def test_nothing_outlives_a_failure(way, state, graph):
    """The error comes bare, when the siblings have ended; nothing happens after it."""
    effects = []

    @way.tool(seconds=0.02)
    def fails() -> str:
        raise ValueError("broken")

    @way.tool(seconds=0.2)
    def writes(name: str) -> str:
        effects.append(name)
        return name

    node = DagToolNode([fails, writes])
    given = state(("fails", {}), ("writes", {"name": "a"}), ("writes", {"name": "b"}))
    for runnable in (node, graph(node)):
        effects.clear()
        with pytest.raises(ValueError, match=r"^broken"):
            way.run(runnable, given)
        assert sorted(effects) == ["a", "b"]
        assert not way.orphans
        time.sleep(0.3)
        assert sorted(effects) == ["a", "b"]


def test_on_failure_stop_cancels_the_siblings(way, state):
    """What has not begun never does, and what waits is told; a blocked thread is left behind."""
    effects = []

    @way.tool(seconds=0.05)
    def fails() -> str:
        raise ValueError("broken")

    @way.tool(seconds=0.05)
    def writes(name: str) -> str:
        effects.append(name)
        return name

    node = DagToolNode([fails, writes], on_failure="stop", concurrency=1)
    calls = [("fails", {}), *(("writes", {"name": str(n)}) for n in range(5))]
    with pytest.raises(ValueError, match="broken"):
        way.run(node, state(*calls))
    assert not effects
    assert not way.orphans


def test_a_retried_node_runs_only_what_failed(way, state, graph, contents):
    """The attempts of a retry policy do not overlap, and what is done is done once."""
    runs = Counter()
    at_once = Counter()

    @way.tool(seconds=0.01)
    def flaky() -> str:
        runs["flaky"] += 1
        if runs["flaky"] < 3:
            raise ValueError("not yet")
        return "there"

    @way.tool(seconds=0.1)
    def writes(name: str) -> str:
        runs[name] += 1
        at_once[name] += 1
        return name

    policy = RetryPolicy(max_attempts=3, initial_interval=0.01, jitter=False, retry_on=ValueError)
    made = graph(DagToolNode([flaky, writes]), retry_policy=policy)
    result = way.run(
        made, state(("writes", {"name": "a"}), ("flaky", {}), ("writes", {"name": "b"}))
    )
    assert contents(result) == ["a", "there", "b"]
    assert runs == {"flaky": 3, "a": 1, "b": 1}
    assert not way.orphans


def test_a_failed_run_goes_on_with_what_failed(way, state, graph, thread, contents):
    """With a checkpointer the same holds for the next run of the thread."""
    runs = Counter()

    @way.tool
    def flaky() -> str:
        runs["flaky"] += 1
        if runs["flaky"] < 2:
            raise ValueError("not yet")
        return "there"

    @way.tool
    def writes(name: str) -> str:
        runs[name] += 1
        return name

    made = graph(DagToolNode([flaky, writes]), checkpointer=InMemorySaver())
    with pytest.raises(ValueError, match="not yet"):
        way.run(made, state(("writes", {"name": "a"}), ("flaky", {})), thread)
    assert contents(way.run(made, None, thread)) == ["a", "there"]
    assert runs == {"flaky": 2, "a": 1}


@HANGS
def test_a_hung_tool_is_answered_and_its_siblings_are_kept(way, state, release, timeouts, text):
    """Whichever limit it is that ends, the model is told which, and that a write may have run."""

    @way.tool(seconds=lambda: 60 if way.kind == "waits" else 0)
    def hangs() -> str:
        release.wait(60)
        return "late"

    @way.tool
    def quick() -> str:
        return "quick"

    begin = time.monotonic()
    node = DagToolNode([hangs, quick], timeouts=timeouts, handle_tool_errors=False)
    messages = way.run(node, state(("quick", {}), ("hangs", {}), ("quick", {})))["messages"]
    assert time.monotonic() - begin < 50
    assert [each.tool_call_id for each in messages] == ["c1", "c2", "c3"]
    assert [each.status for each in messages] == ["success", "error", "success"]
    assert text in messages[1].content
    assert "may have taken effect" in messages[1].content
    assert not way.orphans


def test_a_tools_own_timeout(way, state, release):
    """The option of one tool takes the place of the node's."""

    @way.tool(seconds=lambda: 60 if way.kind == "waits" else 0)
    def hangs() -> str:
        release.wait(60)
        return "late"

    options = {"hangs": {"timeout": 0.2, "effect": "read"}}
    node = DagToolNode([hangs], options=options)
    (message,) = way.run(node, state(("hangs", {})))["messages"]
    assert message.status == "error"
    assert "may have taken effect" not in message.content


def test_a_timeout_of_the_node_ends_async_tools(state, graph):
    """LangGraph's own `timeout=` cancels the run; nothing is left behind."""
    cancelled = []

    async def hangs() -> str:
        """Hang."""
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(True)
        return "late"

    made = graph(DagToolNode([hangs]), timeout=2.0)

    async def run():
        with pytest.raises(Exception, match="timeout"):
            await made.ainvoke(state(("hangs", {}), ("hangs", {})))
        await asyncio.sleep(0.1)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert not asyncio.run(run())
    assert cancelled == [True, True]


@pytest.mark.parametrize("trials", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_parallel_interrupts_reach_their_own_call(way, state, graph, trials):
    """Trials with random delays: one turn, nothing misrouted, every effect once."""
    random.seed(7)
    for trial in range(trials):
        effects = Counter()

        @way.tool(seconds=lambda name: random.random() / 100)
        def approve(name: str) -> str:
            answer = interrupt({"ask": name})
            effects[name] += 1  # noqa: B023 - used in this trial only
            return f"{name}={answer}"

        @way.tool(seconds=lambda: random.random() / 100)
        def writes() -> str:
            effects["writes"] += 1  # noqa: B023
            return "written"

        made = graph(DagToolNode([approve, writes]), checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": str(trial)}}
        names = ["a", "b", "c"]
        calls = [("approve", {"name": name}) for name in names]
        given = state(*calls[:2], ("writes", {}), calls[2])
        asked = way.run(made, given, config)["__interrupt__"]
        assert [each.value["ask"] for each in asked] == names
        assert len({each.id for each in asked}) == 3
        answers = {each.id: f"yes to {each.value['ask']}" for each in asked}
        result = way.run(made, Command(resume=answers), config)
        assert "__interrupt__" not in result
        assert [each.content for each in result["messages"][1:]] == [
            "a=yes to a",
            "b=yes to b",
            "written",
            "c=yes to c",
        ]
        assert effects == dict.fromkeys([*names, "writes"], 1)


def test_arguments_that_depend_on_other_calls(way, state, contents):
    """Values keep their type, templates make text, and what depends waits."""
    order = []

    @way.tool(seconds=0.05)
    def search(query: str) -> dict:
        order.append(query)
        return {"items": [{"url": query}, {"url": "other"}], "count": 2}

    @way.tool
    def double(number: int) -> int:
        order.append(number)
        return number * 2

    @way.tool
    def join(text: str, items: list) -> str:
        return f"{text} {len(items)}"

    given = state(
        (
            "join",
            {"text": {"$template": "of ${2}, ${3.items[0].url}"}, "items": {"$ref": "3.items"}},
        ),
        ("double", {"number": {"$ref": "c3.count"}}),
        ("search", {"query": "$5"}),
    )
    found = contents(way.run(DagToolNode([search, double, join]), given))
    assert found == ["of 4, $5 2", "4", '{"items": [{"url": "$5"}, {"url": "other"}], "count": 2}']
    assert order == ["$5", 2]


@pytest.mark.parametrize("limit", [1, 3])
def test_max_concurrency(way, state, graph, limit):
    """The config's limit holds on every path."""
    running = 0
    most = 0
    lock = threading.Lock()
    end = time.monotonic() + 100

    def count(step):
        nonlocal running, most
        with lock:
            running += step
            most = max(most, running)

    def alone():
        """Return whether so many have not met yet: a slow machine starts them one by one."""
        return most < limit and time.monotonic() < end

    async def waits() -> str:
        """Wait."""
        count(1)
        await asyncio.sleep(0.02)
        while alone():
            await asyncio.sleep(0.001)
        count(-1)
        return "done"

    def blocks() -> str:
        """Block."""
        count(1)
        time.sleep(0.02)
        while alone():
            time.sleep(0.001)
        count(-1)
        return "done"

    node = DagToolNode([waits, blocks])
    calls = [(way.kind, {})] * 9
    for runnable in (node, graph(node)):
        most = 0
        way.run(runnable, state(*calls), {"max_concurrency": limit})
        assert most == limit


def test_sync_wrappers_do_not_block_the_loop(way, state, contents):
    """Six wrappers meet at a barrier; one after the other they would wait for ever."""
    barrier = threading.Barrier(6)

    @way.tool
    def echo(text: str) -> str:
        return text

    def wrapper(request, execute):
        barrier.wait(20)
        return execute(request)

    node = DagToolNode([echo], wrap_tool_call=wrapper)
    given = state(*(("echo", {"text": str(n)}) for n in range(6)))
    assert contents(way.run(node, given)) == [str(n) for n in range(6)]


def test_nested_use_does_not_starve(way, state, graph, contents):
    """Tools that run the same node, and more of them than may run at a time."""

    @way.tool
    def leaf(text: str) -> str:
        return text.upper()

    inner = DagToolNode([leaf], concurrency=2)

    async def waits(text: str) -> str:
        """Run the inner node."""
        return contents(await graph(inner).ainvoke(state(("leaf", {"text": text}))))[0]

    def blocks(text: str) -> str:
        """Run the inner node."""
        return contents(graph(inner).invoke(state(("leaf", {"text": text}))))[0]

    node = DagToolNode([waits, blocks], concurrency=2, timeouts=Timeouts(call=30))
    given = state(*((way.kind, {"text": f"t{n}"}) for n in range(24)))
    assert contents(way.run(node, given)) == [f"T{n}" for n in range(24)]


def test_tools_that_block_on_the_loop_do_not_starve(state, contents):
    """More of them than the loop's own executor has threads: it needs none of those."""

    async def run():
        loop = asyncio.get_running_loop()

        def reenters(n: int) -> str:
            """Wait for work that the loop's executor has to do."""
            return str(asyncio.run_coroutine_threadsafe(ask(n), loop).result(20))

        async def ask(n):
            return await loop.run_in_executor(None, lambda: n)

        node = DagToolNode([reenters], concurrency=40)
        return await node.ainvoke(state(*(("reenters", {"n": n}) for n in range(40))))

    assert contents(asyncio.run(run())) == [str(n) for n in range(40)]
