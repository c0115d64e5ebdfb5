"""Worker processes: their start, their frames, their forks, and that nothing of them is left."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, Timeouts
from dagexec._concurrency.threads import run_in_thread
from dagexec.limits import Limiter, Retry
from dagexec.processes import ProcessError
from tests.forking import in_fork

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is left"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]
# Seconds that nothing here takes, on the slowest machine.
LONG = 100


def _tools():
    name = "tools_for_worker_ends"
    if name not in sys.modules:
        path = Path(__file__).with_name("tools_for_worker_ends.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


T = _tools()
PATIENT = Timeouts(call=LONG, workflow=2 * LONG)


def alive(pid):
    """Return whether a process is there and no zombie."""
    from dagexec.processes._tree import stat

    found = stat(pid)
    return found is not None and found.state not in "ZX"


# ----------------------------------------------------------------------------------------- starts


async def test_a_start_is_no_part_of_the_call_but_queue_time(monkeypatch):
    """Eight calls with a second each, and a module whose import takes longer."""
    monkeypatch.setenv("DAGEXEC_TEST_IMPORT", "1.5")
    timeouts = Timeouts(call=1.4, workflow=LONG)
    async with Executor(T.ALL, timeouts=timeouts, concurrency=2) as executor:
        calls = [Call(str(n), "echo", {"x": str(n)}) for n in range(6)]
        report = await executor.run(calls)
    assert report.ok, report.exceptions
    assert report["0"].queued > 1.4
    assert report["0"].started > 1.4


async def test_a_start_goes_on_when_the_call_that_asked_is_gone(monkeypatch):
    """Otherwise no run that is shorter than the start would ever get a process."""
    monkeypatch.setenv("DAGEXEC_TEST_IMPORT", "1")
    executor = Executor(T.ALL, timeouts=Timeouts(call=LONG, workflow=0.3), concurrency=2)
    async with executor:
        begun = anyio.current_time()
        for _ in range(1000):
            report = await executor.run([Call("a", "pid")])
            if report.ok:
                break
            assert (report["a"].status, report["a"].scope) == ("timed_out", "workflow")
            assert not report["a"].maybe
            assert anyio.current_time() - begun < LONG
        first = report["a"].value
        assert (await executor.run([Call("a", "pid")]))["a"].value == first


async def test_a_start_that_is_too_slow_says_so(monkeypatch):
    """The call fails, is not in doubt, and its error names the way out; nothing is left."""
    monkeypatch.setenv("DAGEXEC_TEST_IMPORT", "60")
    # Other tests may be running on this machine: ours are known by what they inherit.
    mark = f"DAGEXEC_TEST_MARK={os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(*mark.split("="))
    async with Executor(T.ALL, timeouts=PATIENT, start_timeout=0.7) as executor:
        report = await executor.run([Call("a", "echo", {"x": "1"}), Call("b", "twice", {"n": 1})])
    assert report["b"].ok
    assert (report["a"].status, report["a"].maybe) == ("failed", False)
    assert isinstance(report["a"].error, ProcessError)
    assert "start_timeout" in str(report["a"].error)
    assert report["a"].queued >= 0.7
    assert not [pid for pid in _workers(mark) if alive(pid)]


def _workers(mark):
    """Return the ids of the workers whose environment has an entry."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            entries = (entry / "environ").read_bytes().split(b"\0")
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in entries and b"_worker.py" in line:
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), True, "1"])
async def test_a_start_timeout_is_a_number_of_seconds(seconds):
    """Refused by name."""
    with pytest.raises(DagexecError, match="start_timeout="):
        Executor([], start_timeout=seconds)


async def test_limits_and_retries_wait_for_their_process_too(monkeypatch):
    """Each attempt has one before its time begins; the limit is not held by a failed start."""
    from dataclasses import replace

    monkeypatch.setenv("DAGEXEC_TEST_IMPORT", "1.5")
    limited = replace(T.pid, limits=(Limiter("starts", in_flight=1),), retry=Retry(3, base=0.01))
    async with Executor([limited], timeouts=Timeouts(call=1.4, workflow=LONG)) as executor:
        report = await executor.run([Call(str(n), "pid") for n in range(3)])
        assert report.ok, report.exceptions
        assert len(set(report.outputs.values())) == 1
    async with Executor([limited], start_timeout=0.2) as executor:
        report = await executor.run([Call("a", "pid"), Call("b", "pid")])
        assert [each.status for each in report.values()] == ["failed"] * 2
    assert limited.limits[0].in_flight == 0


async def test_closing_ends_what_is_starting(monkeypatch):
    """Whoever waits for it is told; nothing is left."""
    monkeypatch.setenv("DAGEXEC_TEST_IMPORT", "60")
    executor = Executor(T.ALL, timeouts=PATIENT)
    async with anyio.create_task_group() as group, executor.start([Call("a", "pid")]) as run:
        await anyio.sleep(0.5)
        group.start_soon(executor.aclose)
    assert run.report["a"].status == "failed"
    assert "closed" in str(run.report["a"].error)


# ------------------------------------------------------------------------------------------ frames


@pytest.mark.parametrize("how", ["return", "raise", "exit"])
async def test_a_forked_childs_end_is_never_taken_for_the_calls(how):
    """Nor for that of the next call."""
    async with Executor(T.ALL, timeouts=PATIENT, concurrency=1) as executor:
        calls = [
            Call("a", "forks", {"x": "one", "how": how}),
            Call("b", "echo", {"x": "two"}),
            Call("c", "forks_in_a_thread", {"x": "three"}),
            Call("d", "echo", {"x": "four"}),
        ]
        for _ in range(2):
            report = await executor.run(calls)
            assert report.outputs == {"a": "one", "b": "two", "c": "three", "d": "four"}


async def test_a_forked_child_runs_plans_of_its_own():
    """Not through the pipe of its parent."""
    async with Executor(T.ALL, timeouts=PATIENT) as executor:
        report = await executor.run([Call("a", "forked_plan")])
    assert report["a"].value == "10 12"


async def test_plans_of_several_threads_do_not_mix(anyio_backend_name):
    """Each gets its own report, and they run side by side."""
    async with Executor(T.ALL, timeouts=PATIENT, concurrency=4) as executor:
        calls = [Call(str(n), "asks_in_threads", {"count": 5, "turns": 6}) for n in range(2)]
        report = await executor.run(calls)
    expected = [[2 * (100 * number + turn) for turn in range(6)] for number in range(5)]
    assert report.outputs == {"0": expected, "1": expected}


async def test_threads_that_a_tool_leaves_do_not_disturb_the_next_call():
    """Their frames carry the number of a call that has ended."""
    async with Executor(T.ALL, timeouts=PATIENT, concurrency=1) as executor:
        for name in ("leaves_a_thread_that_asks", "leaves_a_thread_that_tells"):
            for turn in range(3):
                calls = [Call("a", name), Call("b", "echo", {"x": str(turn)}, after=("a",))]
                report = await executor.run(calls)
                assert report.outputs == {"a": "left", "b": str(turn)}


@pytest.mark.parametrize("kind", ["lock", "unreadable", "nested", "generator"])
async def test_a_write_whose_value_cannot_travel_may_have_been_done(tmp_path, kind):
    """Its text warns the model against writing it again."""
    path = tmp_path / "paid"
    async with Executor(T.ALL, timeouts=PATIENT) as executor:
        report = await executor.run([Call("a", "pays", {"path": str(path), "kind": kind})])
        assert (report["a"].status, report["a"].maybe) == ("failed", True)
        assert (await executor.run([Call("a", "pid")])).ok
    assert path.read_text() == "paid\n"


# ------------------------------------------------------------------------------- nothing is left


@pytest.mark.parametrize("how", ["spawn", "no environment", "fork", "chain"])
async def test_children_that_are_being_started_at_the_deadline_are_killed(tmp_path, how):
    """All of them: in sessions of their own, without the environment, orphans."""
    for seconds in (0.7, 3, 12):  # a machine that is slow has more time to start some
        async with Executor(T.ALL, timeouts=Timeouts(call=seconds, workflow=LONG)) as executor:
            report = await executor.run(
                [Call("a", "starts_children", {"folder": str(tmp_path), "how": how})]
            )
        assert report["a"].status == "timed_out"
        pids = [int(each.name) for each in tmp_path.iterdir()]
        if len(pids) > 5:
            break
    assert len(pids) > 5
    assert [each for each in pids if alive(each)] == []
    await anyio.sleep(0.3)  # for what would only now have written its name
    pids = [int(each.name) for each in tmp_path.iterdir()]
    assert [each for each in pids if alive(each)] == []


# ------------------------------------------------------------------------------------------- forks


async def test_a_forked_process_starts_workers_of_its_own(anyio_backend_name):
    """It neither talks to those of its parent nor ends them."""
    executor = Executor(T.ALL, timeouts=PATIENT)
    first = (await executor.run([Call("a", "pid")]))["a"].value

    def child():
        async def go():
            async with executor:
                return (await executor.run([Call("a", "pid")]))["a"].value

        return anyio.run(go, backend=anyio_backend_name)

    text = await run_in_thread(lambda: in_fork(child, LONG))
    assert text.isdecimal(), text
    assert int(text) != first
    assert not alive(int(text))
    assert (await executor.run([Call("a", "pid")]))["a"].value == first
    await executor.aclose()
    assert not alive(first)


PROGRAM = """
import os, sys, time
sys.path[:0] = [{tests!r}]
from tools_for_worker_ends import ALL
from dagexec import Call, Executor

if __name__ == "__main__":
    executor = Executor(ALL)
    print(executor.run_sync([Call("a", "pid")])["a"].value, flush=True)
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    time.sleep(600)
"""


def test_workers_end_with_their_parent_although_a_fork_of_it_lives(tmp_path):
    """The fork must not hold the pipes whose end they and their watchdog wait for."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.format(tests=str(Path(__file__).parent)))
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker, fork = int(process.stdout.readline()), int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        end = time.monotonic() + LONG
        while alive(worker) and time.monotonic() < end:
            time.sleep(0.05)
        assert not alive(worker)
        assert alive(fork)
    finally:
        os.kill(fork, signal.SIGKILL)
        process.stdout.close()
