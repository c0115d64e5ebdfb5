"""The heartbeat by itself: it wakes the loop, and leaves nothing behind."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from dagexec import Call, Executor
from dagexec._pictures.notebook import View, heartbeat, view_of
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio


def timers():
    """Return how many timers the running asyncio loop has that are not cancelled."""
    loop = asyncio.get_running_loop()
    return sum(not timer.cancelled() for timer in loop._scheduled)


@pytest.mark.real_time
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_it_wakes_the_loop_while_the_block_runs():
    """What a signal handler leaves with the loop is done within a beat, not at the next timer."""
    loop = asyncio.get_running_loop()
    before = timers()
    turns = []
    enough = asyncio.Event()
    original = loop._run_once

    def counted():
        turns.append(1)
        if len(turns) == 10:
            enough.set()
        original()

    loop._run_once = counted
    with heartbeat(0.01):
        assert timers() == before + 1
        await asyncio.wait_for(enough.wait(), 40)
    loop._run_once = original
    assert timers() == before


async def test_without_asyncio_it_does_nothing():
    """On trio a kernel cannot run anyway."""
    with heartbeat():
        await anyio.sleep(1)


async def test_a_plain_program_has_no_picture(anyio_backend):
    """Although IPython may be installed and even imported."""
    box = ToolBox()
    box.tool("work", seconds=1)
    async with Executor(box.tools).start([Call("a", "work")]) as run:
        assert view_of(run) is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_page_that_is_gone_does_not_disturb_the_run(caplog):
    """The first drawing that fails is the last."""

    class Gone:
        tries = 0

        def update(self, *args, **options):
            self.tries += 1
            raise OSError("the page is gone")

    gone = Gone()
    box = ToolBox()
    box.tool("work", seconds=20, returns=1)
    async with Executor(box.tools).start([Call("a", "work")]) as run:
        view = View(run, lambda *args, **options: gone)
        view._tick()
        view._draw()
        view._tick()
    view.close()
    assert run.report.ok
    assert gone.tries == 1
    assert "the run goes on" in caplog.text
