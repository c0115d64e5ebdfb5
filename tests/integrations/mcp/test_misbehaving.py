"""Servers that behave badly: each row of what was found, with a real child process.

The fixture `mark` checks behind every test that no process is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

pytest.importorskip("mcp")

from dagexec import Call, Executor, Plan, Timeouts
from dagexec.integrations.mcp import MCPTools
from dagexec.processes import GuardExpired, Guards, ProcessGone, Restart

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # for machines that are slow
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="the server uses POSIX signals; /proc"),
]

# Seconds on top of what a case should take: two cores may be shared by many.
SLACK = 40.0
NEVER = Restart(times=0)


async def outcome_of(tools, name, /, timeouts=None, **args):
    """Return one call's outcome and the seconds that its run took."""
    executor = Executor(tools, timeouts=timeouts)
    start = time.perf_counter()
    report = await executor.run(Plan([Call("c", name, args)]))
    return report["c"], time.perf_counter() - start


async def side_by_side(function, *cases):
    """Await a function for each case, all at once: what takes the time here is waiting."""
    async with anyio.create_task_group() as group:
        for case in cases:
            group.start_soon(function, case)


@pytest.mark.parametrize(
    ("name", "args", "value"),
    [
        ("add", {"a": 1, "b": 2}, "3"),
        ("noise", {"size": 2_000_000}, "ok"),  # 1 MiB of stderr and more before the answer
        ("garbage", {"size": 5}, "ok"),
        ("garbage", {"size": 20_000}, "ok"),
        ("not_utf8", {}, "ok"),
        ("wrong_id_first", {}, "yours"),
        ("twice", {}, "first"),
        ("long", {"size": 4_000_000}, "x" * 4_000_000),  # below the limit of a line
        ("many_notes", {"size": 5000}, "ok"),
    ],
    ids=str,
)
async def test_what_costs_nothing(bad, name, args, value):
    """The call is done, the server serves on, and its exit is waited for."""
    async with MCPTools(bad(), guards=Guards(request=60)) as tools:
        outcome, took = await outcome_of(tools, name, **args)
        assert (outcome.status, outcome.value) == ("done", value)
        assert (await outcome_of(tools, "add", a=2, b=2))[0].value == "4"
        assert took < 12 + SLACK
        (connection,) = tools.connections.values()
        start = time.perf_counter()
    assert connection.restarts == 0
    assert connection.pid is None
    assert time.perf_counter() - start < SLACK


async def test_200_calls_one_after_the_other_and_1000_at_once(bad):
    """All done; with stderr in between."""
    async with MCPTools(bad()) as tools:
        executor = Executor(tools, concurrency=None, timeouts=Timeouts(call=None))
        calls = [
            Call(str(n), "noise", {"size": 10_000}, after=(str(n - 1),) if n else ())
            for n in range(200)
        ]
        assert (await executor.run(Plan(calls))).ok
        calls = [Call(str(n), "add", {"a": n, "b": 0}) for n in range(1000)]
        report = await executor.run(Plan(calls))
        assert report.outputs == {str(n): str(n) for n in range(1000)}


async def test_no_answer(bad):
    """The request's guard ends the call; what answers still is used again, and was told."""

    async def case(name):
        async with MCPTools(bad(), guards=Guards(request=2), restart=NEVER) as tools:
            outcome, took = await outcome_of(tools, name)
            assert outcome.status == "failed", name
            assert isinstance(outcome.error, GuardExpired), name
            assert "got no answer within 2 s" in str(outcome.error)
            assert 1.9 < took < 2 + SLACK, name
            if name != "half":  # which has spoiled the line that the next answer goes to
                assert len(eval((await outcome_of(tools, "cancelled"))[0].value)) == 1, name

    await side_by_side(case, "hang", "half", "wrong_id")


async def test_the_executor_s_deadlines_hold_too(bad):
    """They end the call where it waits, and the server is told."""

    async def case(scope):
        async with MCPTools(bad()) as tools:
            timeouts = Timeouts(**{"call": None, "workflow": None, scope: 1.5})
            outcome, took = await outcome_of(tools, "hang", timeouts)
            assert (outcome.status, outcome.scope) == ("timed_out", scope)
            assert took < 1.5 + SLACK, scope
            assert len(eval((await outcome_of(tools, "cancelled"))[0].value)) == 1, scope

    await side_by_side(case, "call", "workflow")


async def test_a_cancelled_caller(bad):
    """Prompt, also when the server is deaf."""
    async with MCPTools(bad(), grace=1) as tools:
        executor = Executor(tools)
        for plan in (
            Plan([Call("a", "hang")]),
            Plan([Call("a", "deaf"), Call("b", "echo", {"text": "x" * 1_000_000}, after=("a",))]),
        ):
            start = time.perf_counter()
            with anyio.move_on_after(0.5) as scope:
                await executor.run(plan)
            assert scope.cancelled_caught
            assert time.perf_counter() - start < 0.5 + SLACK


@pytest.mark.slow
async def test_a_deaf_server(bad):
    """The write counts: the second and the third call end too, and the fourth has a new server."""
    guards = Guards(request=2)
    async with MCPTools(bad(), guards=guards, grace=0.5) as tools:
        assert (await outcome_of(tools, "deaf"))[0].value == "ok"
        for _ in range(2):
            outcome, took = await outcome_of(tools, "echo", text="x" * 1_000_000)
            assert outcome.status == "failed"
            assert took < 2 + SLACK
        with anyio.fail_after(100):
            while not (await outcome_of(tools, "add", a=1, b=1))[0].ok:
                await anyio.sleep(0.1)
        (connection,) = tools.connections.values()
        assert connection.restarts == 1


async def test_giving_up_a_call_of_a_slow_reader_costs_the_others_nothing(bad):
    """It reads, only not at once: no reason to end the connection."""
    async with MCPTools(bad(), guards=Guards(request=60)) as tools:
        executor = Executor(tools)
        calls = [Call(str(n), "echo", {"text": "x" * 500_000}) for n in range(30)]
        async with anyio.create_task_group() as group:

            async def give_up():
                with anyio.move_on_after(0.05):
                    await executor.run([Call("h", "hang")])

            group.start_soon(give_up)
            report = await executor.run(Plan([*calls, Call("add", "add", {"a": 1, "b": 1})]))
        assert report.ok
        (connection,) = tools.connections.values()
        assert connection.restarts == 0


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("die", {}, "ended with exit code 3"),
        ("die_held", {}, "ended with exit code 3"),  # a grandchild holds its stdout
        ("mute", {}, "has closed its input or output"),
        ("long", {"size": 5_000_000}, "line of more than 4 MiB"),
        ("long", {"size": 50_000_000}, "line of more than 4 MiB"),
        ("long_garbage", {"size": 32_000_000}, "line of more than 4 MiB"),
    ],
    ids=str,
)
async def test_a_server_that_is_lost_in_the_middle_of_a_call(bad, name, args, said, caplog):
    """All its calls fail at once, with the reason; the next has a new server, or the reason too."""
    async with MCPTools(bad(), guards=Guards(request=60), grace=0.5) as tools:
        executor = Executor(tools)
        start = time.perf_counter()
        report = await executor.run(
            Plan([Call("other", "hang"), Call("c", name, args), Call("again", "hang")])
        )
        assert time.perf_counter() - start < 2 + SLACK
        for outcome in report.values():
            assert outcome.status == "failed"
            assert isinstance(outcome.error, ProcessGone)
            assert said in str(outcome.error)
        effect = {tool.name: tool.effect for tool in tools}[name]
        assert report["c"].maybe is (effect == "write")
        assert not report["other"].maybe
        assert (await outcome_of(tools, "add", a=1, b=1))[0].value == "2"
    if name == "die_held":
        assert "out of memory" in caplog.text


async def test_the_model_is_told_that_a_write_may_have_happened(bad):
    """In the answer that it gets."""
    from planners.openai import ChatPlanner

    async with MCPTools(bad(), grace=0.5, restart=NEVER) as tools:
        planner = ChatPlanner(tools)
        reply = {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "die", "arguments": "{}"},
                }
            ],
        }
        plan = planner.plan(
            {
                "object": "chat.completion",
                "choices": [{"index": 0, "finish_reason": "tool_calls", "message": reply}],
            }
        )
        (answer,) = planner.results(await Executor(tools).run(plan))
        assert "may have" in answer["content"]


async def test_without_restarts_the_reason_stays(bad):
    """Every later call fails at once."""
    async with MCPTools(bad(), restart=NEVER, grace=0.5) as tools:
        assert (await outcome_of(tools, "die"))[0].status == "failed"
        for _ in range(2):
            outcome, took = await outcome_of(tools, "add", a=1, b=1)
            assert outcome.status == "failed"
            assert "cannot be reached" in str(outcome.error)
            assert "exit code 3" in str(outcome.error)
            assert not outcome.maybe
            assert took < SLACK


async def test_an_idle_server_that_ends_is_started_again(bad):
    """Its end is seen without a call; not more often than the policy says."""
    restart = Restart(times=2, within=100, delay=0.05)
    async with MCPTools(bad("idle-death"), restart=restart) as tools:
        (connection,) = tools.connections.values()
        with anyio.fail_after(100):
            while connection.restarts < 2:
                await anyio.sleep(0.05)
            while (await outcome_of(tools, "add", a=1, b=1))[0].ok:
                await anyio.sleep(0.05)
        assert connection.restarts == 2


async def test_leaving_ends_the_whole_tree(bad):
    """Whoever ignores SIGTERM, and what left its group or session."""

    async def case(modes):
        async with MCPTools(bad(*modes), grace=1) as tools:
            assert (await outcome_of(tools, "add", a=1, b=1))[0].ok, modes
            start = time.perf_counter()
        assert time.perf_counter() - start < 2 + SLACK, modes

    three = ("stubborn", "grandchild", "setsid")
    await side_by_side(case, *((mode,) for mode in three), three)


@pytest.mark.parametrize(
    ("modes", "connect", "kind", "said"),
    [
        (("mute-start",), 1, GuardExpired, "did not answer within 1 s"),
        (("mute-start", "stubborn", "grandchild"), 1, GuardExpired, "did not answer within 1 s"),
        (("die-start",), 60, ProcessGone, "exit code 1"),
    ],
    ids=str,
)
async def test_a_server_that_cannot_be_connected_to(bad, modes, connect, kind, said):
    """The error names it, within the time for connecting."""
    start = time.perf_counter()
    with pytest.raises(ProcessGone, match=said) as caught:
        async with MCPTools(bad(*modes), connect=connect, grace=0.5):
            pass
    assert isinstance(caught.value.__cause__, kind)
    assert time.perf_counter() - start < 1 + SLACK


async def test_noise_before_the_handshake(bad):
    """2 MB of stderr before the first answer."""
    async with MCPTools(bad("noisy-start")) as tools:
        assert len(tools) > 10


async def test_a_flood_on_stderr(bad):
    """Bounded in memory, nothing on disk; a guard ends it if there is one."""
    guards = Guards(request=60, stderr=10 << 20)
    async with MCPTools(bad(), guards=guards, grace=0.5, restart=NEVER) as tools:
        outcome, took = await outcome_of(tools, "flood")
        assert isinstance(outcome.error, GuardExpired)
        assert outcome.error.guard == "stderr"
        assert took < SLACK
        (connection,) = tools.connections.values()
        assert connection.stderr == "e" * 64 * 1024


@pytest.mark.slow
async def test_guards_over_what_it_owes(bad):
    """It may be idle for long, but not while a call waits."""

    async def case(guard):
        guards = Guards(request=60, **{guard: 2})
        async with MCPTools(bad(), guards=guards, grace=0.5, restart=NEVER) as tools:
            await anyio.sleep(2.5)
            assert (await outcome_of(tools, "add", a=1, b=1))[0].ok, guard
            outcome, took = await outcome_of(tools, "hang")
            assert outcome.error.guard == guard
            assert took < SLACK, guard

    await side_by_side(case, "progress", "liveness")


CLIENT = """
import sys, anyio
from dagexec import Call, Executor
from dagexec.integrations.mcp import MCPTools
async def main():
    async with MCPTools(sys.argv[1:]) as tools:
        print("up", flush=True)
        await Executor(tools).run([Call("a", "hang")])
anyio.run(main)
"""


@pytest.mark.parametrize("modes", [(), ("stubborn", "grandchild", "setsid")], ids=str)
def test_a_client_that_is_killed_leaves_no_server(bad, modes):
    """By SIGKILL, in the middle of a call."""
    command = [sys.executable, "-c", CLIENT, *bad(*modes)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as client:
        assert client.stdout.readline() == b"up\n"
        time.sleep(0.2)
        client.send_signal(signal.SIGKILL)


async def test_a_mute_server_is_replaced_while_it_is_still_ended(bad):
    """The next calls do not wait out its grace: leaving the block would, here of half a minute."""
    async with MCPTools(bad("stubborn"), guards=Guards(request=60), grace=30) as tools:
        (connection,) = tools.connections.values()
        first = connection.pid
        assert (await outcome_of(tools, "mute"))[0].status == "failed"
        outcome, _ = await outcome_of(tools, "add", a=1, b=1)
        assert outcome.value == "2"
        assert connection.pid != first
        os.kill(first, 0)  # it lives on, and is being ended
        for pid in (first, connection.pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio hands its tasks to nobody
async def test_a_connection_whose_task_is_cancelled_before_its_first_step():
    """By whoever cancels all tasks of an asyncio loop: to open it then fails, and does not wait."""
    tools = MCPTools([sys.executable, "-c", "pass"])

    async def open_it():
        with pytest.raises(ProcessGone, match="cannot be reached"):
            await tools.__aenter__()

    with anyio.fail_after(SLACK):
        async with anyio.create_task_group() as group:
            group.start_soon(open_it)
            while True:
                await asyncio.sleep(0)
                found = [
                    task for task in asyncio.all_tasks() if task.get_name().startswith("the conn")
                ]
                if found:
                    found[0].cancel()
                    break
