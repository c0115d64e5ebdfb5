"""What the server's own commands do to a run, and to a write under way: the table of the page."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from dagexec import Call, DagexecError
from tests.engines.temporal.server import binary
from tests.engines.temporal.test_limits import engine_at, ran
from tests.engines.temporal.test_runs import handle_of

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]

HELD = [Call("h", "held")]


def _command(address: str, name: str, words: tuple[str, ...]) -> None:
    from dagexec.engines.temporal._wire import workflow_id

    program = binary()
    assert program is not None
    command = [program, *words, "--address", address, "--workflow-id", workflow_id(name, name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


async def command(address: str, name: str, *words: str) -> None:
    """Say something to the server as an operator does."""
    await asyncio.to_thread(_command, address, name, words)


async def until_begun(name: str, count: int = 1) -> None:
    while ran[name] < count:
        await asyncio.sleep(0.02)


async def test_activity_reset(address, name):
    """The write is in doubt: what it had said outlives the reset."""
    async with engine_at(address, name) as engine, asyncio.timeout(40):
        waiting = asyncio.create_task(engine.run(HELD, run_id=name))
        await until_begun(name)
        await command(address, name, "activity", "reset", "--activity-id", "h#1")
        report = await waiting
    assert report["h"].status == "in_doubt"
    assert ran[name] == 1


async def test_activity_reset_that_clears_its_heartbeat(address, name):
    """The write runs twice, as the page says: its intent is gone."""
    async with engine_at(address, name) as engine, asyncio.timeout(40):
        waiting = asyncio.create_task(engine.run(HELD, run_id=name))
        await until_begun(name)
        words = ("activity", "reset", "--clear-heartbeat-details", "--activity-id", "h#1")
        await command(address, name, *words)
        report = await waiting
    assert report["h"].value == "done"
    assert ran[name] == 2


@pytest.mark.parametrize("then", ["", "unpause"])
async def test_activity_pause(address, name, then):
    """The write goes to its end, whether it is let go on or not."""
    ran[name] = 1
    async with engine_at(address, name) as engine, asyncio.timeout(40):
        waiting = asyncio.create_task(engine.run(HELD, run_id=name))
        await until_begun(name, 2)
        await command(address, name, "activity", "pause", "--activity-id", "h#1")
        if then:
            await command(address, name, "activity", then, "--activity-id", "h#1")
        report = await waiting
    assert report["h"].value == "done"
    assert ran[name] == 2


async def test_workflow_cancel(address, name):
    """As the engine's own."""
    async with engine_at(address, name) as engine, asyncio.timeout(40):
        waiting = asyncio.create_task(engine.run(HELD, run_id=name))
        await until_begun(name)
        await command(address, name, "workflow", "cancel")
        report = await waiting
    assert (report["h"].status, report["h"].maybe) == ("cancelled", True)


async def test_workflow_terminate(address, name, caplog):
    """The run has no outcomes, and whoever asks is told; what ran stops within a beat."""
    async with engine_at(address, name) as engine, asyncio.timeout(40):
        waiting = asyncio.create_task(engine.run(HELD, run_id=name))
        await until_begun(name)
        await command(address, name, "workflow", "terminate")
        with pytest.raises(DagexecError, match=r"broke off .* it was terminated"):
            await waiting
        with pytest.raises(DagexecError, match="broke off"):
            await engine.run(HELD, run_id=name)
        while "is not this worker's any more" not in caplog.text:
            await asyncio.sleep(0.05)
    assert ran[name] == 1


async def test_workflow_reset(address, name):
    """All after the point runs again, writes too, as the page says; the report is the new one."""
    plan = [Call("m", "make", {"size": 10}), Call("p", "pay")]
    async with engine_at(address, name) as engine, asyncio.timeout(40):
        await engine.run(plan, run_id=name)
        first = (await handle_of(engine, name).describe()).run_id
        words = ("workflow", "reset", "--type", "FirstWorkflowTask", "--reason", "a test")
        await command(address, name, *words)
        report = await engine.run(plan, run_id=name)
        assert (await handle_of(engine, name).describe()).run_id != first
    assert report["p"].status == "pending"
    assert ran[name] == 2
