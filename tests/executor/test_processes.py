"""Tools with runs="process": real worker processes, on both backends."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from dagexec import (
    Call,
    DagexecError,
    Executor,
    Plan,
    Ref,
    Timeouts,
    ToolDefinitionError,
    tool,
)
from dagexec.lowlevel import Progress
from dagexec.processes import ProcessGone

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # interpreters start, and machines are slow
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is left"),
]


def _tools():
    """Import the tools under a name that leads nowhere: their file has to be enough."""
    name = "tools_for_processes"
    if name not in sys.modules:
        path = Path(__file__).with_name("tools_for_processes.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


T = _tools()


def alive(pid):
    """Return whether a process is there and no zombie."""
    from dagexec.processes._tree import stat

    found = stat(pid)
    return found is not None and found.state not in "ZX"


async def test_values_go_there_and_back():
    """By reference, large ones too; the process is not this one, and is used again."""
    async with Executor(T.ALL) as executor:
        calls = [
            Call("a", "where"),
            Call("b", "where", after=("a",)),
            Call("c", "big", {"size": 8_000_000}, after=("b",)),
            Call("d", "length", {"data": Ref("c")}),
            Call("e", "double", {"x": Ref("d")}),
        ]
        report = await executor.run(Plan(calls))
        assert report["a"].value == report["b"].value != os.getpid()
        assert report["e"].value == 16_000_000
        worker = report["a"].value
        assert (await executor.run([Call("a", "where")])).outputs == {"a": worker}
        assert alive(worker)
    assert not alive(worker)


@pytest.mark.slow
async def test_failures_are_their_calls_own():
    """Exceptions, exits and deaths; the siblings do not notice."""
    async with Executor(T.ALL) as executor:
        calls = [
            Call("value", "fail", {"kind": "value"}),
            Call("local", "fail", {"kind": "local"}),
            Call("leaves", "fail", {"kind": "exit"}),
            Call("exit", "die", {"how": "exit"}),
            Call("kill", "die", {"how": "SIGKILL"}),
            Call("segv", "die", {"how": "SIGSEGV"}),
            Call("lambda", "unsendable"),
            *(Call(str(n), "double", {"x": n}) for n in range(10)),
        ]
        report = await executor.run(Plan(calls))
        assert report.outputs == {str(n): 2 * n for n in range(10)}
        assert type(report["value"].error) is ValueError
        assert "tools_for_processes.py" in "".join(report["value"].error.__notes__)
        assert "Local: mine" in str(report["local"].error)
        assert "SystemExit(4)" in str(report["leaves"].error)
        assert "exit code 7" in str(report["exit"].error)
        assert "signal 9" in str(report["kill"].error)
        assert "signal 11" in str(report["segv"].error)
        assert isinstance(report["kill"].error, ProcessGone)
        assert report["kill"].maybe
        assert "cannot be sent" in str(report["lambda"].error)


async def test_killed_at_the_deadline(mark):
    """With all that it has started; the run goes on with other processes."""

    async def case(scope):
        timeouts = Timeouts(**{"call": None, "workflow": None, scope: 3})
        async with Executor(T.ALL, timeouts=Timeouts(call=50)) as warm:
            # To start an interpreter may take longer than that on a loaded machine.
            await warm.run([Call("a", "where"), Call("b", "where")])
            executor = warm.within(timeouts)
            start = time.perf_counter()
            report = await executor.run([Call("h", "hang", {"mark": mark}), Call("w", "where")])
            assert time.perf_counter() - start < 50
            assert (report["h"].status, report["h"].scope) == ("timed_out", scope)
            assert report["w"].ok, scope
            assert report.abandoned == 0

    async with anyio.create_task_group() as group:
        for scope in ("call", "workflow"):
            group.start_soon(case, scope)


async def test_cancelling_the_caller_kills_them(mark):
    """Promptly."""
    async with Executor(T.ALL) as executor:
        await executor.run([Call(str(n), "where") for n in range(3)])
        start = time.perf_counter()
        with anyio.move_on_after(2):
            await executor.run([Call(str(n), "hang", {"mark": mark}) for n in range(3)])
        assert time.perf_counter() - start < 50


async def test_what_a_tool_leaves_running_ends_with_its_call(mark):
    """Children in other sessions and threads: the process is not used again."""
    async with Executor(T.ALL) as executor:
        report = await executor.run([Call("a", "leaves_children", {"mark": mark})])
        assert not alive(report["a"].value)
        report = await executor.run([Call("a", "leaves_a_thread")])
        assert not alive(report["a"].value)


async def test_what_it_knows_of_its_call():
    """Context, key, deadline; and its progress comes to those who look on."""
    seen = []
    async with Executor(T.ALL, observers=[seen.append], timeouts=Timeouts(call=60)) as executor:
        report = await executor.run([Call("a", "who"), Call("b", "tells", {"count": 3})])
        id_, name, run_id, key, left = report["a"].value
        assert (id_, name, len(key)) == ("a", "who", 64)
        assert run_id
        assert 0 < left <= 60
    told = [each for each in seen if isinstance(each, Progress)]
    assert [(each.call, each.done, each.total) for each in told] == [
        ("b", n, 3) for n in (1.0, 2.0, 3.0)
    ]


async def test_printing_does_not_disturb_it():
    """Stdin is empty."""
    async with Executor(T.ALL) as executor:
        assert (await executor.run([Call("a", "prints")])).outputs == {"a": ""}


def test_the_processes_outlive_an_event_loop_and_end_with_the_executor():
    """Each `run_sync` has a loop of its own, and not a process of its own."""
    executor = Executor(T.ALL)
    workers = {executor.run_sync([Call("a", "where")])["a"].value for _ in range(3)}
    assert len(workers) == 1
    (worker,) = workers
    assert alive(worker)
    del executor
    import gc

    gc.collect()
    deadline = time.monotonic() + 60
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(worker)


async def test_an_idle_process_that_died_is_replaced():
    """Nobody notices."""
    async with Executor(T.ALL) as executor:
        worker = (await executor.run([Call("a", "where")]))["a"].value
        os.kill(worker, 9)
        with anyio.fail_after(60):
            while alive(worker):
                await anyio.sleep(0.01)
        await anyio.sleep(0.05)  # the loop turns, and sees its end
        assert (await executor.run([Call("a", "where")]))["a"].value != worker


def test_what_cannot_be_sent_is_refused_when_it_is_given():
    """With the way out."""

    @tool(runs="process")
    def local() -> None:
        """Be local."""

    with pytest.raises(ToolDefinitionError, match="top level of a module"):
        Executor([local])


async def test_arguments_that_cannot_be_sent():
    """A failure of that call."""
    async with Executor(T.ALL) as executor:
        plan = Plan([Call("a", "length", {"data": b"x"})])
        assert (await executor.run(plan)).ok
    with pytest.raises(DagexecError):
        raise pickle.loads(pickle.dumps(ProcessGone("it pickles")))


async def test_sequential_runs_start_no_process():
    """To debug: in this one."""
    executor = Executor(T.ALL, concurrency=0)
    assert (await executor.run([Call("a", "where")])).outputs == {"a": os.getpid()}


@pytest.mark.slow
async def test_process_tools_nest():
    """They run plans by the executor that runs them; depth 2, fan-out 3, two slots."""
    async with T.executor as executor:
        report = await executor.run([Call("top", "node", {"depth": 2})])
        report.raise_for_failures()
        assert report.outputs == {"top": 27}


SCRIPT = """
from dagexec import Call, Executor, tool

@tool(runs="process")
def square(x: int) -> int:
    "Square."
    return x * x

{guard}print(Executor([square]).run_sync([Call("a", "square", {{"x": 7}})]).raise_for_failures())
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_tools_of_the_main_script(tmp_path, guarded):
    """They are found; a script that runs plans when it is imported is told what to do."""
    script = tmp_path / "script.py"
    guard = 'if __name__ == "__main__":\n    ' if guarded else ""
    script.write_text(SCRIPT.format(guard=guard))
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    if guarded:
        assert done.returncode == 0, done.stderr
    else:
        assert '__name__ == "__main__"' in done.stderr


def test_a_killed_parent_leaves_no_worker(tmp_path, mark):
    """SIGKILL in the middle of a call."""
    program = f"""
import sys, importlib.util
spec = importlib.util.spec_from_file_location("tools_for_processes", {T.__file__!r})
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from dagexec import Call, Executor
executor = Executor(module.ALL)
print(executor.run_sync([Call("a", "where")])["a"].value, flush=True)
executor.run_sync([Call("a", "hang", {{"mark": {mark!r}}})])
"""
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(1)
        parent.kill()
    deadline = time.monotonic() + 60
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)
