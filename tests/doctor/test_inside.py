"""What the calls of a run hold, wait for, and where they stand; asked from inside and outside."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, Ref, Timeouts, current_call, doctor, tool
from dagexec._runtime.waits import snapshot_of_all
from dagexec.limits import Limiter
from dagexec.testing import run_virtual

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]  # programs start: slow machines
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="unix sockets of Linux")


@tool(effect="read")
async def deep(name: str = "") -> str:
    """Wait two frames down."""

    async def below():
        await anyio.sleep(60)

    await below()
    return name


@tool(effect="read", approval=True)
async def asks() -> str:
    """Needs a person."""
    return ""


async def test_resources_and_limits_are_shown():
    """What a call uses, who waits for it, and what a limit holds back."""

    @tool(uses={"gpu": 1})
    async def train() -> None:
        """Use the GPU."""
        await anyio.sleep(60)

    @tool(effect="read", limits=(Limiter("search", in_flight=1),))
    async def search() -> None:
        """Use the search."""
        await anyio.sleep(60)

    executor = Executor([train, search], capacities={"gpu": 1})
    calls = [Call("t", "train"), Call("u", "train"), Call("s", "search"), Call("v", "search")]
    async with executor.start(calls) as run:
        await anyio.sleep(1)
        found = {each.id: each for each in run.waits()}
        run.cancel()
    assert found["t"].holds == ("a slot", "1 gpu")
    assert (found["u"].state, found["u"].holds, found["u"].waits_for) == ("ready", (), ("1 gpu",))
    assert (found["s"].state, found["v"].state) == ("running", "ready")
    assert found["v"].waits_for == ("limit search",)


async def test_what_each_call_waits_for():
    """Running, ready, waiting, held, pending; its slot, its place, its dependencies."""

    async def source():
        yield Call("a", "deep", {"name": "hunter2"})
        yield Call("b", "deep", {"name": Ref("a")})
        yield Call("c", "deep")
        yield Call("q", "asks")
        yield Call("r", "deep", after=("q",))
        yield Call("w", "writes")
        yield Call("x", "deep", {"name": Ref("late")})
        await anyio.sleep(60)

    @tool
    async def writes() -> None:
        """Wait for the end of the plan."""

    executor = Executor([deep, asks, writes], concurrency=1)
    with anyio.move_on_after(5):
        async with executor.start(source(), run_id="one") as run:
            await anyio.sleep(2)
            waits = run.waits()
            found = {each.id: each for each in waits}
            snapshot = executor.snapshot()
    assert waits.id == "one"
    assert [each.state for each in waits] == [
        "running", "waiting", "ready", "ready", "waiting", "held", "waiting",
    ]  # fmt: skip
    assert found["a"].holds == ("a slot",)
    assert found["a"].where.function.endswith("deep.<locals>.below")
    assert [each.function.rpartition(".")[2] for each in found["a"].stack][:2] == ["deep", "below"]
    assert found["a"].seconds == pytest.approx(2)
    assert found["a"].left == pytest.approx(28)
    assert found["b"].waits_for == ("call a",)
    assert found["c"].waits_for == ("a slot",)
    assert found["w"].waits_for == ("the end of the plan",)
    assert found["x"].waits_for == ("call late, which has not arrived",)
    assert snapshot.runs == (waits,)
    assert (snapshot.slots, snapshot.taken, snapshot.queued) == (1, 1, 1)
    text = json.dumps(snapshot.to_dict()) + str(snapshot)
    assert "hunter2" not in text
    assert json.loads(snapshot.to_json()) == json.loads(json.dumps(snapshot.to_dict()))
    assert "a (deep) running, for 2.0 s, holds a slot, at " in str(waits)
    assert not executor.snapshot().runs
    assert not run.waits()


async def test_a_call_that_waits_for_a_person():
    """It is pending, and what needs it waits for the answer."""
    executor = Executor([deep, asks])
    with anyio.move_on_after(5):
        plan = [Call("q", "asks"), Call("r", "deep", {"name": Ref("q")}), Call("s", "deep")]
        async with executor.start(plan) as run:
            await anyio.sleep(1)
            found = {each.id: each for each in run.waits()}
    assert (found["q"].state, found["q"].waits_for) == ("pending", ("an answer",))
    assert found["r"].waits_for == ("the answer to call q",)


async def test_runs_under_other_timeouts_are_the_executors_own():
    """`within` and `solve`, which uses it, make runs that its snapshot and the doctor show."""
    executor, other = Executor([deep]), Executor([deep])
    again = executor.within(Timeouts(call=9)).within(Timeouts(call=8))
    with anyio.move_on_after(5):
        async with again.start([Call("a", "deep")], run_id="one"):
            await anyio.sleep(1)
            found = [each.snapshot() for each in (executor, again, other)]
            everything = snapshot_of_all()
    assert [[run.id for run in each.runs] for each in found] == [["one"], ["one"], []]
    assert [each.taken for each in found] == [1, 1, 0]
    assert "one" in [run.id for run in everything.runs]


@pytest.mark.parametrize("concurrency", [0, 1, 5])
async def test_a_nested_run(concurrency):
    """The outer call has given its slot back and waits for the run, which shows its own calls."""

    @tool(effect="read")
    async def outer() -> str:
        return str(await executor.run([Call("i", "deep")], run_id="inner"))

    executor = Executor([outer, deep], concurrency=concurrency)
    with anyio.move_on_after(5):
        async with executor.start([Call("o", "outer")], run_id="outer") as _:
            await anyio.sleep(1)
            snapshot = executor.snapshot()
    above, below = snapshot.runs
    (call,), (inner,) = above, below
    assert call.waits_for == ("run inner",)
    assert call.holds == ()
    assert call.where.function.endswith("outer")
    assert inner.holds == (("a slot",) if concurrency else ())
    assert inner.where.function.endswith("below")
    assert snapshot.taken == min(concurrency, 1)


async def test_generators_and_groups():
    """An async generator is walked through; a call that waits for its own tasks stands there."""

    async def values():
        await anyio.sleep(60)
        yield 1

    @tool(effect="read")
    async def iterates() -> None:
        async for _ in values():
            pass

    @tool(effect="read")
    async def groups() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 60)

    executor = Executor([iterates, groups])
    with anyio.move_on_after(5):
        async with executor.start([Call("i", "iterates"), Call("g", "groups")]) as run:
            await anyio.sleep(1)
            found = {each.id: each for each in run.waits()}
    assert found["i"].where.function.endswith("values")
    assert found["g"].where.function.endswith("groups")


async def test_from_inside_a_call():
    """A tool that looks at its own run sees where it stands itself."""
    seen = []

    @tool(effect="read")
    async def looks() -> None:
        seen.append(executor.snapshot())

    executor = Executor([looks])
    await executor.run([Call("a", "looks")])
    (run,) = seen[0].runs
    assert "looks" in {each.function.rpartition(".")[2] for each in run.calls[0].stack}


@pytest.mark.real_time
async def test_a_tool_in_a_thread():
    """The thread's id, as the system and py-spy show it, and its frame."""
    native = []

    @tool(effect="read")
    def sleeps() -> None:
        native.append(threading.get_native_id())
        end.wait(50)

    end = threading.Event()
    executor = Executor([sleeps])
    async with executor.start([Call("a", "sleeps")]) as run:
        while not native:
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        (call,) = run.waits()
        end.set()
    assert call.thread == native[0]
    assert call.holds == ("a slot", f"thread {native[0]}")
    assert call.where.function.endswith("sleeps")


@pytest.mark.real_time
async def test_from_another_thread_while_the_loop_is_blocked():
    """Where a hung event loop stands can only be said from outside of it."""
    seen = []

    def look():
        time.sleep(0.2)
        seen.append(executor.snapshot())

    @tool(effect="read")
    async def blocks() -> None:
        await anyio.sleep(0)
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    executor = Executor([blocks])
    await executor.run([Call("a", "blocks")])
    (run,) = seen[0].runs
    (call,) = run
    assert call.where.function.endswith("blocks")
    assert call.seconds > 0.1


@pytest.mark.real_time
async def test_looking_from_another_thread_all_the_time():
    """Nothing breaks on either side, however fast the run goes."""
    stop = threading.Event()
    errors, looks = [], []

    def look():
        while not stop.is_set():
            try:
                looks.append(len(executor.snapshot().runs))
            except DagexecError:
                continue
            except BaseException as error:
                errors.append(error)
                return

    @tool(effect="read")
    async def quick() -> str:
        await anyio.sleep(0)
        return current_call().id

    executor = Executor([quick], concurrency=3)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        end = time.monotonic() + 40
        rounds = 0
        while rounds < 10 or (len(looks) < 10 and not errors and time.monotonic() < end):
            rounds += 1
            plan = [
                Call(f"c{n}", "quick", after=(f"c{n - 5}",) if n > 4 else ()) for n in range(40)
            ]
            assert (await executor.run(plan)).ok
    finally:
        stop.set()
        thread.join()
    assert not errors
    assert looks


def test_a_run_that_is_not_driven():
    """Before its beginning there is nothing to see."""

    async def main():
        run = Executor([deep]).start([Call("a", "deep")], run_id="x")
        assert len(run.waits()) == 0
        assert run.waits().id == "x"
        run.cancel()  # or it would be told that nobody entered it

    run_virtual(main)


# ------------------------------------------------------------------------------------ from outside

LISTENS = """
import anyio, sys, time
from dagexec import Call, Executor, Timeouts, doctor, tool

@tool(effect="read")
async def waits_for_ever(password: str) -> None:
    print("ready", flush=True)
    await anyio.sleep_forever()

@tool(effect="read")
async def blocks() -> None:
    time.sleep(600)

async def main():
    executor = Executor([waits_for_ever, blocks], timeouts=Timeouts(call=None))
    plan = [Call("w", "waits_for_ever", {"password": "hunter2"})]
    if "block" in sys.argv:
        plan.append(Call("b", "blocks", after=()))
    async with executor.start(plan, run_id="the-run"):
        await anyio.sleep(600)

anyio.run(main, backend=sys.argv[1])
"""


@pytest.fixture
def listening(tmp_path, request):
    """Start a program with DAGEXEC_DOCTOR=1, its runtime folder elsewhere, and return its id."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    script = tmp_path / "program.py"
    script.write_text(LISTENS)
    environment = {
        **os.environ,
        "XDG_RUNTIME_DIR": str(runtime),
        "DAGEXEC_DOCTOR": "1",
        "PYTHONPATH": os.pathsep.join([".", *sys.path]),
    }
    process = subprocess.Popen(
        [sys.executable, str(script), *request.param],
        stdout=subprocess.PIPE,
        env=environment,
    )
    yield process, environment, runtime
    process.kill()
    process.communicate()


@LINUX
@pytest.mark.real_time
@pytest.mark.parametrize(
    "listening", [["asyncio"], ["trio"]], indirect=True, ids=["asyncio", "trio"]
)
def test_the_doctor_asks_a_live_process(listening, monkeypatch):
    """Over a socket that is the user's alone; ids and lines, no arguments."""
    process, environment, runtime = listening
    assert process.stdout.readline() == b"ready\n"
    (path,) = runtime.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    diagnosis = doctor.examine(process.pid)
    assert diagnosis.verdict == "healthy"
    inside = diagnosis.inside[process.pid]
    (run,) = inside["runs"]
    assert run["id"] == "the-run"
    assert run["calls"][0]["where"].endswith("in waits_for_ever")
    assert "waits_for_ever" in str(diagnosis)
    assert "hunter2" not in diagnosis.to_json() + str(diagnosis)
    argv = [sys.executable, "-m", "dagexec", "doctor", str(process.pid), "--json"]
    ended = subprocess.run(argv, env=environment, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["inside"][str(process.pid)]["runs"][0]["id"] == "the-run"
    process.terminate()
    process.wait(50)
    assert doctor.ask(process.pid) is None


@LINUX
@pytest.mark.real_time
@pytest.mark.parametrize("listening", [["asyncio", "block"]], indirect=True)
def test_a_blocked_event_loop_answers(listening, monkeypatch):
    """Its own thread says where the loop stands."""
    process, _, runtime = listening
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    end = time.monotonic() + 50
    while time.monotonic() < end:
        answer = doctor.ask(process.pid)
        calls = [call for run in (answer or {"runs": []})["runs"] for call in run["calls"]]
        if [call for call in calls if (call["where"] or "").endswith("in blocks")]:
            return
        time.sleep(0.1)
    pytest.fail("the doctor did not see where the loop stands")


HANGS = """
import os, subprocess, sys
from dagexec import Call, Executor, Timeouts, tool

@tool(effect="read")
def fetch() -> bytes:
    noisy = "import sys; sys.stderr.write('x' * 2**20); print('done')"
    child = subprocess.Popen([sys.executable, "-c", noisy], stdout=-1, stderr=-1)
    print("ready", flush=True)
    return child.stdout.read()

Executor([fetch], timeouts=Timeouts(call=300)).run_sync([Call("the-call", "fetch")])
"""


@LINUX
@pytest.mark.real_time
def test_the_doctor_names_the_call_that_hangs(start, monkeypatch, tmp_path):
    """A child's full pipe, the thread that does not read it, and the call that runs in it."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("DAGEXEC_DOCTOR", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", *sys.path]))
    process = start(HANGS)
    end = time.monotonic() + 50
    while True:
        diagnosis = doctor.examine(process.pid)
        text = str(diagnosis)
        if "which runs call 'the-call' (fetch)" in text and diagnosis.verdict != "healthy":
            break
        assert time.monotonic() < end, text
    # The deadline of the call will end it.
    assert diagnosis.verdict == "stall"
    assert "the-call (fetch) running" in text


@LINUX
def test_what_cannot_listen_runs_all_the_same(monkeypatch, tmp_path, caplog):
    """The switch is for looking: it must stop nothing."""
    monkeypatch.setattr("dagexec._runtime.listener.folders", lambda _: (tmp_path / "none",))
    monkeypatch.setattr("dagexec._runtime.listener._listening", {})
    monkeypatch.setenv("DAGEXEC_DOCTOR", "1")
    Executor([deep])
    assert "no folder for the doctor's socket" in caplog.text


@LINUX
@pytest.mark.real_time
def test_listening_twice_is_listening_once(monkeypatch, tmp_path):
    """And a folder that others may enter is refused."""
    code = """
import os
from dagexec import doctor
first = doctor.listen()
assert doctor.listen() == first
assert doctor.ask(os.getpid())["runs"] == []
pid = os.fork()
if pid == 0:
    assert doctor.listen() != first
    assert doctor.ask(os.getpid())["runs"] == []
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert first.exists()
print(first)
"""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    environment = {
        **os.environ,
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONPATH": os.pathsep.join([".", *sys.path]),
    }
    argv = [sys.executable, "-W", "error", "-c", code]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stdout.startswith(str(folder))
    assert not Path(ended.stdout.strip()).exists()


async def test_a_call_that_waits_for_an_identical_one():
    """It holds no slot, and names the call whose outcome it will get."""

    @tool(effect="pure")
    async def pure(number: int) -> int:
        await anyio.sleep(60)
        return number

    executor = Executor([pure])
    with anyio.move_on_after(5):
        plan = [Call("a", "pure", {"number": 1}), Call("b", "pure", {"number": 1})]
        async with executor.start(plan) as run:
            await anyio.sleep(1)
            found = {each.id: each for each in run.waits()}
    assert found["b"].waits_for == ("call a, which is identical",)
