"""`run_command`, with real commands on both backends."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, Plan, tool
from dagexec.processes import CommandFailed, GuardExpired, Guards, _watchdog, run_command

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(180),  # for machines that are slow
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells"),
]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a tree is")

FLOOD = """
import sys, threading
block = b"x" * 1_000_000
def write(pipe):
    for _ in range(20):
        pipe.write(block)
        pipe.flush()
other = threading.Thread(target=write, args=(sys.stderr.buffer,))
other.start()
write(sys.stdout.buffer)
other.join()
"""


def python(code, *args):
    """Return a command; `args` mark it."""
    return [sys.executable, "-c", code, *args]


async def test_what_it_returns():
    """Output, exit code, counts; text from stdin."""
    result = await run_command(["sh", "-c", "cat; echo err >&2; exit 3"], input="in")
    assert (result.returncode, result.ok, result.cut) == (3, False, False)
    assert (result.text, result.stderr) == ("in", b"err\n")
    assert (result.stdout_bytes, result.stderr_bytes) == (2, 4)
    with pytest.raises(CommandFailed, match="exit code 3: err") as caught:
        result.check()
    assert caught.value.result is result
    assert (await run_command(["true"])).check().ok


async def test_arguments_are_not_shown_and_no_shell_is_used():
    """A secret argument stays out of the repr; a string is refused with the way out."""
    result = await run_command(["echo", "s3cret; echo $HOME"])
    assert result.text == "s3cret; echo $HOME\n"
    assert "s3cret" not in repr(await run_command(["true", "s3cret"]))
    with pytest.raises(DagexecError, match="list of program and arguments"):
        await run_command("echo hi")
    with pytest.raises(FileNotFoundError):
        await run_command(["no-such-program-anywhere"])


async def test_20_mb_on_both_pipes_at_once(mark):
    """More than 300 times what pipes hold; the exit is waited for."""
    result = await run_command(python(FLOOD, mark))
    assert (result.returncode, result.stdout_bytes, result.stderr_bytes) == (
        0,
        20_000_000,
        20_000_000,
    )
    assert len(result.stdout) == len(result.stderr) == 64 * 1024
    assert result.cut
    whole = await run_command(python(FLOOD, mark), keep=None)
    assert len(whole.stdout) == len(whole.stderr) == 20_000_000


async def test_input_larger_than_a_pipe_comes_back(mark):
    """It is written while both pipes are read."""
    result = await run_command(["cat"], input=b"y" * 3_000_000, keep=None)
    assert result.stdout == b"y" * 3_000_000
    unread = await run_command(["true", mark], input=b"y" * 3_000_000)
    assert unread.returncode == 0


async def test_50_at_once(mark):
    """Side by side, each with its own output."""
    texts = {}

    async def one(n):
        line = 'sleep 0.2; echo "$0"'
        texts[n] = (await run_command(["sh", "-c", line, str(n), mark])).text

    start = time.perf_counter()
    async with anyio.create_task_group() as group:
        for n in range(50):
            group.start_soon(one, n)
    assert texts == {n: f"{n}\n" for n in range(50)}
    assert time.perf_counter() - start < 60
    assert _watchdog.watchdog._shell is None


LOOP = "trap '' TERM; : > ./deaf-\\$\\$; while :; do sleep 0.05; done"


@LINUX
@pytest.mark.parametrize("fork", ["sh", "setsid sh"])
async def test_one_that_ignores_sigterm_and_forks(mark, fork, tmp_path):
    """SIGKILL reaches it and all that it started, also what changed its session."""
    line = f'loop="{LOOP}"; {fork} -c "$loop" $0 & eval "$loop"'
    async with anyio.create_task_group() as group:
        group.start_soon(partial(run_command, ["sh", "-c", line, mark], cwd=tmp_path, grace=0.5))
        while len(list(tmp_path.iterdir())) < 2:
            await anyio.sleep(0.01)
        start = time.perf_counter()
        group.cancel_scope.cancel()
    assert 0.4 < time.perf_counter() - start < 60


@LINUX
async def test_what_it_leaves_behind_ends_with_it(mark):
    """A command that ends well, and its child that holds its stdout and has left its session."""
    holder = python("import time; time.sleep(1000)", mark)
    code = (
        "import subprocess, sys\n"
        f"subprocess.Popen({holder!r})\n"
        f"subprocess.Popen({holder!r}, start_new_session=True)\n"
        "print('done')"
    )
    start = time.perf_counter()
    result = await run_command(python(code))
    assert result.text == "done\n"
    assert result.ok
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize(
    ("guards", "command"),
    [
        (Guards(wall=0.3), ["sh", "-c", "while :; do :; done"]),
        (Guards(progress=0.3), ["sh", "-c", "while :; do :; done"]),
        (Guards(stderr=1 << 20), ["sh", "-c", "while :; do echo text >&2; done"]),
        pytest.param(Guards(liveness=0.3), ["sleep", "1000"], marks=LINUX),
    ],
    ids=["wall", "progress", "stderr", "liveness"],
)
async def test_each_guard_stops_it(guards, command):
    """The error names the guard."""
    start = time.perf_counter()
    with pytest.raises(GuardExpired) as caught:
        await run_command(command, guards=guards, grace=1)
    assert caught.value.guard in repr(guards)
    assert getattr(guards, caught.value.guard) is not None
    assert caught.value.guard != "request"
    assert time.perf_counter() - start < 60


@pytest.mark.slow
@LINUX
async def test_who_computes_is_alive():
    """Silence is no progress, but a busy processor is life."""
    code = "import time\nend = time.process_time() + 3\nwhile time.process_time() < end: pass"
    assert (await run_command(python(code), guards=Guards(liveness=2))).ok
    with pytest.raises(GuardExpired, match="wrote nothing"):
        await run_command(python(code), guards=Guards(progress=0.4))


@pytest.mark.parametrize("wrong", [{"wall": 0}, {"request": "1"}, {"stderr": True}])
def test_guards_refuse_what_is_none(wrong):
    """The error names the field."""
    with pytest.raises(DagexecError, match=next(iter(wrong))):
        Guards(**wrong)


async def test_a_tool_s_deadline_ends_its_command(mark):
    """Nothing of a call is left when its run returns."""

    @tool(effect="read", timeout=0.3)
    async def hang() -> str:
        """Run a command that does not end."""
        return (await run_command(["sh", "-c", "sleep 1000", mark])).text

    report = await Executor([hang]).run(Plan([Call("a", "hang"), Call("b", "hang")]))
    assert [each.status for each in report.values()] == ["timed_out"] * 2


async def test_cancellation_by_asyncio_itself_leaves_nothing(mark, anyio_backend_name):
    """`Task.cancel` gets past every shield; again and again, at any moment."""
    if anyio_backend_name == "trio":
        pytest.skip("asyncio's own")
    import asyncio

    for n in range(12):
        line = "trap '' TERM; while :; do sleep 0.05; done"
        running = asyncio.create_task(run_command(["sh", "-c", line, mark], grace=5))
        await anyio.sleep(0.002 * n)
        while not running.done():
            running.cancel()
            await anyio.sleep(0.01)


PARENT = """
import sys, anyio
from dagexec.processes import Child
async def main():
    loop = "trap '' TERM; while :; do sleep 0.05; done"
    line = f'loop="{{loop}}"; setsid sh -c "$loop" $0 & eval "$loop"'
    command = ["sh", "-c", line, "{mark}"]
    async with Child(command):
        await anyio.sleep(0.5)
        print("up", flush=True)
        await anyio.sleep(1000)
anyio.run(main, backend="{backend}")
"""


@LINUX
def test_children_end_when_their_parent_is_killed(mark, anyio_backend_name):
    """By SIGKILL, which nobody can handle; the stubborn ones too. The fixture waits."""
    code = PARENT.format(mark=mark, backend=anyio_backend_name)
    with subprocess.Popen(python(code), stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"up\n"
        parent.kill()


def test_a_watchdog_that_was_killed_is_replaced(mark):
    """And told of all children that there are."""
    dog = _watchdog.Watchdog()
    sleepers = [subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(3)]
    try:
        dog.add(sleepers[0].pid, "tag-a")
        dog._shell.kill()
        dog._shell.wait()
        dog.add(sleepers[1].pid, "tag-b")
        dog.add(sleepers[2].pid, "tag-c")
        dog.remove(sleepers[2].pid)
        shell = dog._shell
        shell.stdin.close()
        assert shell.wait(60) == 0
        assert [each.wait(60) for each in sleepers[:2]] == [-15, -15]
        assert sleepers[2].poll() is None
    finally:
        for each in sleepers:
            each.kill()
            each.wait()
