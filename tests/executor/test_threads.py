"""Synchronous tools in threads, in real time; and run_sync."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, Plan, Ref, Timeouts, current_call, tool

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # for machines that are slow
]
# Seconds that nothing here takes, on the slowest machine: what hung would take longer.
LONG = 50


async def test_threads_run_side_by_side():
    """Blocking tools do not block each other or the event loop."""
    barrier = threading.Barrier(3)

    @tool
    def meet() -> str:
        """Wait for the others."""
        barrier.wait(LONG)
        return threading.current_thread().name

    report = await Executor([meet]).run(Plan([Call(str(n), "meet") for n in range(3)]))
    assert report.ok
    assert threading.main_thread().name not in report.outputs.values()


@pytest.mark.parametrize("scope", ["call", "layer", "workflow"])
async def test_a_stuck_thread_is_abandoned_counted_and_named(scope, caplog):
    """The run returns at the deadline; the late result is ignored."""
    caplog.set_level(logging.WARNING, "dagexec")
    release, ended = threading.Event(), threading.Event()

    @tool
    def stuck() -> int:
        """Wait for the test."""
        release.wait(2 * LONG)
        ended.set()
        return 1

    timeouts = Timeouts(**{"call": None, "workflow": None, scope: 0.05})
    executor = Executor([stuck], timeouts=timeouts, concurrency=1)
    start = time.perf_counter()
    report = await executor.run(Plan([Call("s", "stuck"), Call("t", "stuck", after=("s",))]))
    assert time.perf_counter() - start < LONG
    assert (report["s"].status, report["s"].scope) == ("timed_out", scope)
    assert report["s"].maybe
    assert report.abandoned == 1
    assert "call 's': tool 'stuck' did not end in time" in caplog.text
    release.set()
    assert ended.wait(LONG)
    await anyio.sleep(0.05)
    assert report["s"].status == "timed_out"
    # Its slot is free; a thread that has to begin within 0.05 s is too much to ask for.
    patient = executor.within(Timeouts())
    assert (await patient.run(Plan([Call("again", "stuck")]))).ok


async def test_check_ends_an_abandoned_thread():
    """`current_call().check()` raises in a thread that nobody waits for."""
    ended = threading.Event()

    @tool
    def loops() -> None:
        """Check now and then."""
        try:
            while True:
                current_call().check()
                time.sleep(0.005)
        finally:
            ended.set()

    report = await Executor([loops], timeouts=Timeouts(call=0.05)).run(Plan([Call("a", "loops")]))
    assert report["a"].status == "timed_out"
    assert ended.wait(LONG)


async def test_a_nested_run_of_an_abandoned_thread_ends_with_it():
    """run_sync is inside the deadline of the tool that calls it."""
    ended = threading.Event()

    @tool
    async def slow() -> None:
        """Sleep."""
        await anyio.sleep(2 * LONG)

    @tool
    def nest() -> None:
        """Run a plan below."""
        try:
            executor.run_sync(Plan([Call("x", "slow")]))
        finally:
            ended.set()

    executor = Executor([slow, nest], timeouts=Timeouts(workflow=0.1))
    start = time.perf_counter()
    with anyio.move_on_after(0.05):
        await executor.run(Plan([Call("a", "nest")]))
    assert time.perf_counter() - start < LONG
    assert ended.wait(LONG)


async def test_errors_and_values_come_back_from_threads():
    """By identity; StopIteration does not confuse the event loop."""
    thing, error = object(), ValueError("no")

    @tool
    def give() -> object:
        """Return it."""
        return thing

    @tool
    def fail() -> None:
        """Raise it."""
        raise error

    @tool
    def stop() -> None:
        """Raise what ends iterations."""
        raise StopIteration(3)

    report = await Executor([give, fail, stop]).run(
        Plan([Call("a", "give"), Call("b", "fail"), Call("c", "stop")])
    )
    assert report["a"].value is thing
    assert report["b"].error is error
    assert report["c"].status == "failed"


async def test_run_sync_inside_an_event_loop_says_what_to_do():
    """The error names the way out."""
    with pytest.raises(DagexecError, match="await"):
        Executor([]).run_sync(Plan([]))


def test_run_sync_outside_of_an_event_loop():
    """It runs an event loop of its own, each time."""

    @tool
    def double(x: int) -> int:
        """Double."""
        return 2 * x

    executor = Executor([double])
    plan = Plan([Call("a", "double", {"x": 2}), Call("b", "double", {"x": Ref("a")})])
    for _ in range(2):
        assert executor.run_sync(plan).outputs == {"a": 4, "b": 8}


@pytest.mark.parametrize("nested", [False, True])
def test_the_interpreter_exits_quickly_with_hung_threads(nested):
    """A tool that never returns holds neither the run nor the exit."""
    program = f"""
import time
from dagexec import Call, Executor, Plan, Timeouts, tool

@tool
def hang() -> None:
    "Never return."
    time.sleep(600)

@tool
def nest() -> None:
    "Run it below."
    executor.run_sync(Plan([Call("x", "hang")]))

executor = Executor([hang, nest], timeouts=Timeouts(call=1))
report = executor.run_sync(Plan([Call(str(n), "nest" if {nested} else "hang") for n in range(4)]))
# The thread of a run below may be just about to end: its own call is over, too.
print({nested} or report.abandoned == 4, report)
"""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True
    )
    assert time.perf_counter() - start < 2 * LONG
    assert done.stdout.startswith("True 4 calls: 4 timed_out")


async def test_idle_threads_are_used_again():
    """A chain of blocking tools does not need a thread for each."""
    names = []

    @tool
    def name() -> None:
        """Note the thread."""
        names.append(threading.get_ident())

    calls = [Call(str(n), "name", after=(str(n - 1),) if n else ()) for n in range(20)]
    assert (await Executor([name]).run(Plan(calls))).ok
    assert len(set(names)) <= 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_100_hung_threads(backend):
    """The run returns at its deadline, and the interpreter exits at once; none waits for them."""
    if backend == "trio":
        pytest.importorskip("trio")
    program = f"""
import functools, time
import anyio
from dagexec import Call, Executor, Timeouts, tool

@tool
def hang() -> None:
    "Never return."
    time.sleep(600)

async def main():
    executor = Executor([hang], timeouts=Timeouts(call=None, workflow=1), concurrency=None)
    began = time.monotonic()
    report = await executor.run([Call(str(n), "hang") for n in range(100)])
    print(report.abandoned, time.monotonic() - began, time.monotonic(), flush=True)

anyio.run(main, backend={backend!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True
    )
    ended = time.monotonic()
    abandoned, took, returned = map(float, done.stdout.split())
    assert abandoned == 100
    assert 1 <= took < LONG
    assert ended - returned < LONG
    assert "'active'" in done.stderr or '"active"' in done.stderr


@pytest.mark.parametrize("run", [asyncio.run, anyio.run], ids=["asyncio.run", "anyio.run"])
@pytest.mark.parametrize("concurrency", [0, pytest.param(2, marks=pytest.mark.real_time)])
async def test_a_synchronous_tool_may_run_a_loop_of_its_own(run, concurrency, anyio_backend_name):
    """In the sequential mode too, where it runs in the thread of the run's own loop."""
    if concurrency == 0 and anyio_backend_name == "trio" and run is anyio.run:
        pytest.skip("anyio allows no loop inside of trio's")

    @tool(effect="read")
    def fetch(x: int) -> int:
        async def inner() -> int:
            await (anyio if run is anyio.run else asyncio).sleep(0)
            return x + 1

        return run(inner) if run is anyio.run else run(inner())

    @tool(effect="read")
    async def after(x: int) -> int:
        await anyio.sleep(0.01)
        return x + 1

    plan = [Call("a", "fetch", {"x": 1}), Call("b", "after", {"x": Ref("a")})]
    report = await Executor([fetch, after], concurrency=concurrency).run(plan)
    assert report.outputs == {"a": 2, "b": 3}
