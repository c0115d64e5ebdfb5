"""Forks: gunicorn's preload, Celery's workers, multiprocessing. A child starts clean."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading

import anyio
import pytest

from dagexec import Call, Executor, Timeouts, current_call, tool
from dagexec._concurrency.threads import run_in_thread
from dagexec.limits import Breaker, Limiter, Retry
from tests.forking import LONG, in_fork

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


EXECUTORS: dict[str, Executor] = {}


@tool(effect="read")
def twice(n: int) -> int:
    """Double, in a thread."""
    return 2 * n


def both(executor, backend):
    """Run three calls in a loop of their own, and return their values."""
    calls = [Call(str(n), "twice", {"n": n}) for n in range(3)]
    return anyio.run(executor.run, calls, backend=backend).outputs


EXPECTED = str({"0": 0, "1": 2, "2": 4})


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("own", [True, False])
def test_a_child_does_not_wait_for_threads_that_it_does_not_have(backend, own):
    """The parent's idle threads are not in the child, with the parent's executor or its own."""
    executor = Executor([twice], timeouts=Timeouts(call=LONG))
    assert both(executor, backend)
    child = executor if own else Executor([twice])
    assert in_fork(lambda: both(child, backend)) == EXPECTED
    assert str(both(executor, backend)) == EXPECTED


def test_a_pool_of_forked_processes_runs_plans():
    """What multiprocessing does on Linux before 3.14."""
    executor = EXECUTORS["it"] = Executor([twice], timeouts=Timeouts(call=LONG))
    assert both(executor, "asyncio")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        got = pool.map_async(_work, range(4))
        assert got.get(LONG) == [0, 2, 4, 6]


def _work(n):
    return EXECUTORS["it"].run_sync([Call("a", "twice", {"n": n})])["a"].value


@tool(effect="read")
def forks(backend: str) -> str:
    """Fork in the thread of a tool; the child runs a plan of its own."""
    return in_fork(lambda: both(EXECUTORS["it"], backend))


@tool(effect="read")
def forks_in_place() -> str:
    """Fork in the thread of a tool; the child waits for its plan."""
    run_sync = EXECUTORS["it"].run_sync
    return in_fork(lambda: run_sync([Call("c", "twice", {"n": 3})]).outputs)


async def test_a_child_forked_inside_a_tool_runs_its_plans_itself(anyio_backend_name):
    """Not in the event loop of the parent, which nobody turns there, nor on the parent's slot."""
    executor = EXECUTORS["it"] = Executor([twice, forks, forks_in_place], concurrency=1)
    report = await executor.run(
        [Call("a", "forks", {"backend": anyio_backend_name}), Call("b", "forks_in_place")]
    )
    report.raise_for_failures()
    assert report.outputs == {"a": EXPECTED, "b": str({"c": 6})}


@pytest.mark.parametrize("backend", ["asyncio"])  # trio believes to be in its loop there
def test_a_child_forked_inside_an_async_tool(backend):
    """The loop's thread forks."""

    @tool
    async def forks() -> str:
        """Fork."""
        run_sync = executor.run_sync
        return in_fork(lambda: run_sync([Call("c", "twice", {"n": 3})]).outputs)

    executor = Executor([twice, forks])
    report = anyio.run(executor.run, [Call("a", "forks")], backend=backend)
    assert report["a"].value == str({"c": 6})


async def test_a_limiter_in_use_at_the_fork_serves_the_child(anyio_backend_name):
    """Its calls of the parent never end in the child: they do not count there."""
    limiter = Limiter("forked", in_flight=1)
    retry = Retry(3, breaker=Breaker())

    @tool(effect="read", limits=[limiter], retry=retry)
    def limited() -> int:
        """Take a place."""
        return current_call().attempt

    executor = Executor([limited])
    async with limiter.acquire():

        def child():
            return anyio.run(executor.run, [Call("a", "limited")], backend=anyio_backend_name)

        text = await run_in_thread(lambda: in_fork(lambda: child().outputs))
        assert text == str({"a": 1})
        assert limiter.in_flight == 1
    assert limiter.in_flight == 0
    assert (await executor.run([Call("a", "limited")])).ok


@pytest.mark.skipif(sys.platform != "linux", reason="unix sockets")
def test_the_doctor_finds_the_child_and_not_the_parent_in_it(monkeypatch, tmp_path):
    """The child closes the parent's socket, and listens itself once it runs something."""
    from dagexec._runtime import listener

    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(listener, "_listening", {})
    path = listener.listen()
    executor = Executor([twice])

    def child():
        before = list(listener._listening)
        value = both(executor, "asyncio")
        own = listener.listen()
        names = [each.name for each in threading.enumerate()]
        return (
            before,
            value,
            own.name == f"dagexec-doctor-{os.getpid()}.sock",
            sorted(each for each in names if each == "dagexec doctor"),
        )

    expected = ([], {"0": 0, "1": 2, "2": 4}, True, ["dagexec doctor"])
    assert in_fork(child) == str(expected)
    assert path.exists()
    assert listener.listen() == path


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("how", ["return", "raise"])
async def test_a_child_that_comes_back_out_of_a_tool_ends(tmp_path, kind, how):
    """It would do again what its parent does: each write once, each call one outcome."""
    path, children = tmp_path / "written", []

    def fork():
        pid = os.fork()
        if pid == 0:
            if how == "raise":
                raise ValueError
            return 0
        children.append(pid)
        return pid

    @tool(name="forks")
    def forks_sync() -> int:
        """Fork in a thread."""
        return fork()

    @tool(name="forks")
    async def forks_async() -> int:
        """Fork in the loop."""
        await anyio.sleep(0)
        return fork()

    @tool
    async def write(n: int) -> int:
        """Write something down, twice would be wrong."""
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{n}\n")
        await anyio.sleep(0.01)
        return n

    executor = Executor([forks_sync if kind == "sync" else forks_async, write])
    calls = [Call("f", "forks"), *[Call(str(n), "write", {"n": n}, after=("f",)) for n in range(3)]]
    async with executor.start(calls) as run:
        pass
    assert run.report.ok
    _, status = await run_in_thread(lambda: os.waitpid(children[0], 0))
    assert os.waitstatus_to_exitcode(status) == 1
    assert sorted(path.read_text().split()) == ["0", "1", "2"]
