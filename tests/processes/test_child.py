"""`Child`: talking to one, and what it can do wrong."""

from __future__ import annotations

import sys
import time

import anyio
import pytest

from dagexec import DagexecError
from dagexec.processes import Child, GuardExpired, Guards, LineTooLong, ProcessGone, _output

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(180),  # for machines that are slow
    pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
]

ECHO = """
import sys
for line in sys.stdin:
    sys.stderr.write("e" * 200_000)
    sys.stderr.flush()
    print(line.strip().upper(), flush=True)
"""


def python(code, *args):
    """Return a command; `args` mark it."""
    return [sys.executable, "-c", code, *args]


async def test_a_conversation_with_a_noisy_child(mark):
    """1 MiB and more of stderr that nobody asks for; the end is waited for."""
    async with Child(python(ECHO, mark), lines=True) as child:
        lines = child.lines()
        for n in range(10):
            async with child.request():
                await child.send(f"line {n}\n".encode())
                assert await anext(lines) == f"LINE {n}\n".encode()
        await child.close_stdin()
        assert await child.wait() == 0
        assert [line async for line in lines] == []
    assert child.stderr.bytes == 2_000_000
    assert child.stderr.tail == b"e" * 64 * 1024
    assert not child.running


async def test_leaving_the_block_stops_it_gently(mark):
    """One that ends at the end of its stdin is not signalled."""
    async with Child(python(ECHO, mark), lines=True, grace=200) as child:
        await child.send(b"a\n")
        assert await anext(child.lines()) == b"A\n"
    assert child.returncode == 0


async def test_an_error_in_the_block_passes_bare(mark):
    """No group round it; the child has ended."""
    with pytest.raises(KeyError):
        async with Child(["sleep", "1000"]) as child:
            raise KeyError("mine")
    assert child.returncode == -15


async def test_a_line_too_long_loses_nothing_before_it(mark):
    """4 MiB pass, one byte more does not; what comes after is drained and dropped."""
    code = """
import sys
out = sys.stdout.buffer
out.write(b"first\\n" + b"x" * 4 * 1024**2 + b"\\n" + b"y" * (4 * 1024**2 + 1) + b"\\nlast\\n")
"""
    got = []
    async with Child(python(code, mark), stdin=False, lines=True) as child:
        with pytest.raises(LineTooLong, match="4 MiB"):
            async for line in child.lines():
                got.append(line)
        assert await child.wait() == 0
    assert [len(line) for line in got] == [6, 4 * 1024**2 + 1]
    assert child.stdout.bytes == 8 * 1024**2 + 1 + 6 + 2 + 5


async def test_a_slow_reader_holds_the_child_back(mark):
    """Memory stays bounded; every line arrives."""
    code = "import sys\nfor n in range(40): sys.stdout.write('z' * 1_000_000 + '\\n')"
    async with Child(python(code, mark), stdin=False, lines=True) as child:
        await anyio.sleep(0.5)
        assert child.stdout.bytes < 20_000_000
        assert child.returncode is None
        count = 0
        async for line in child.lines():
            count += len(line)
    assert count == 40 * 1_000_001


async def test_a_deaf_child(mark):
    """The guard's clock runs while it is written to; half a message is no message."""
    guards = Guards(request=0.3)
    async with Child(["sleep", "1000"], guards=guards, grace=0.2) as child:
        with pytest.raises(GuardExpired) as caught:
            async with child.request():
                await child.send(b"x" * 1_000_000)
        assert caught.value.guard == "request"
        assert child.half_sent
        with pytest.raises(ProcessGone, match="cut off in the middle"):
            await child.send(b"y")
        assert child.running


async def test_stopping_wakes_who_writes(mark):
    """A task that waits to write gets an error, not eternity."""
    async with Child(["sleep", "1000"], grace=0.2) as child:

        async def write():
            with pytest.raises(ProcessGone):
                await child.send(b"x" * 1_000_000)

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            await anyio.sleep(0.1)
            await child.stop()
            await child.stop()
    assert child.returncode == -15


async def test_its_end_is_seen_apart_from_the_end_of_its_output(mark):
    """A grandchild holds stdout open; the error names the exit code and the end of stderr."""
    code = (
        "import subprocess, sys, os\n"
        "subprocess.Popen(['sleep', '1000'])\n"
        "sys.stderr.write('the reason')\n"
        "sys.stderr.flush()\n"
        "os._exit(3)"
    )
    start = time.perf_counter()
    async with Child(python(code, mark), lines=True) as child:
        assert [line async for line in child.lines()] == []
        assert await child.wait() == 3
        with pytest.raises(ProcessGone, match="exit code 3") as caught:
            await child.send(b"x")
        assert caught.value.__notes__ == ["Its stderr ends with: the reason"]
    assert time.perf_counter() - start < 60


async def test_expectations_make_the_guards_count(mark):
    """An idle server may be silent; one that owes an answer may not."""
    async with Child(["sleep", "1000"], guards=Guards(progress=0.2), grace=1) as child:
        await anyio.sleep(0.6)
        assert child.running
        with pytest.raises(GuardExpired):
            async with child.request():
                await child.wait()


async def test_what_cannot_be_asked_of_it(mark):
    """The errors say what to do."""
    child = Child(["cat"], stdin=False)
    async with child:
        with pytest.raises(DagexecError, match="lines=True"):
            child.lines()
        with pytest.raises(DagexecError, match="stdin=True"):
            await child.send(b"")
    with pytest.raises(DagexecError, match="once"):
        await child.__aenter__()


async def test_output_keeps_the_end():
    """At any cut of the chunks."""
    for size in (1, 3, 7, 64):
        output = _output.Output(10)
        data = bytes(range(100))
        for start in range(0, 100, size):
            output.add(data[start : start + size])
        assert output.tail == data[-10:]
        assert output.bytes == 100
        assert output.cut
