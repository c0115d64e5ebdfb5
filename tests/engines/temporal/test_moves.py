"""Runs that move to a fresh history, at a server that ends one which does not, and with cancels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dagexec import Approve, Call, DagexecError, Ref
from tests.engines.temporal.server import served
from tests.engines.temporal.test_limits import engine_at
from tests.engines.temporal.test_runs import events, exists, handle_of, statuses

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]

# The server ends a run at so many events; by itself at 51,200.
MOST = 300


@pytest.fixture(scope="module")
def narrow(needed: None) -> Iterator[str]:
    with served(f"limit.historyCount.error={MOST}") as own:
        yield own.address


@pytest.fixture
def early(monkeypatch):
    from dagexec.engines.temporal import _launches, _workflow

    monkeypatch.setattr(_workflow, "MOVE_EVENTS", 150)
    monkeypatch.setattr(_launches, "WINDOW", 10)


async def test_more_events_than_a_history_takes(narrow, name, early):
    """Those of the calls under way, which have still to come, are counted as well."""
    plan = [Call(f"n{each}", "nap", {"seconds": 0.01}) for each in range(60)]
    plan += [Call(f"l{each}", "length", {"value": [Ref(f"n{each}")]}) for each in range(60)]
    plan += [Call("p", "pay", after=("l59",))]
    async with engine_at(narrow, name) as engine, asyncio.timeout(50):
        report = await engine.run(plan, run_id="r")
        assert report["p"].status == "pending"
        report = await engine.resume("r", {"p": Approve()})
        assert await events(engine, "r") < MOST
    assert report.ok, report.exceptions


async def test_a_cancel_at_each_turn(narrow, name, monkeypatch):
    """Wherever a run is, also while it moves: it ends, and all who asked hear the same."""
    from dagexec.engines.temporal import _launches, _workflow

    monkeypatch.setattr(_workflow, "MOVE_EVENTS", 25)
    monkeypatch.setattr(_launches, "WINDOW", 3)
    plan = [Call(f"n{each}", "nap", {"seconds": 0.02}) for each in range(40)]
    plan.append(Call("l", "length", {"value": [Ref("n39")]}))

    async def one(turn: int) -> tuple[set[str], bool]:
        run_id = f"r{turn}"
        waiting = asyncio.create_task(engine.run(plan, run_id=run_id))
        await exists(engine, run_id)
        first = (await handle_of(engine, run_id).describe()).run_id
        await asyncio.sleep(0.08 * turn)
        report = await engine.cancel(run_id)
        assert (await waiting).to_dict() == report.to_dict()
        assert (await engine.report(run_id)).to_dict() == report.to_dict()
        moved = (await handle_of(engine, run_id).describe()).run_id != first
        return {*statuses(report).values()}, moved

    async with engine_at(narrow, name) as engine, asyncio.timeout(100):
        found = [
            each
            for start in (0, 8, 16)
            for each in await asyncio.gather(*(one(turn) for turn in range(start, start + 8)))
        ]
    ended = [each for each, _ in found]
    assert all(each <= {"done", "cancelled"} for each in ended)
    assert any("cancelled" in each for each in ended)
    assert any(moved and "cancelled" in each for each, moved in found)


async def test_other_code_and_the_old_one_again(address, name, monkeypatch):
    """A run that a newer release decides otherwise is left as it is: a rollback heals it."""
    from dagexec.engines.temporal import _launches

    plan = [Call("n", "nap"), Call("p", "pay", {"amount": 3}), Call("l", "nap", after=("p",))]
    async with engine_at(address, name, cached=0) as engine, asyncio.timeout(80):
        await engine.run(plan, run_id="r")
        before = _launches.short
        monkeypatch.setattr(_launches, "short", lambda name: f"other {before(name)}")
        with pytest.raises(DagexecError, match=r"'r' cannot be read here: .*ondeterminism"):
            await engine.report("r")
        with pytest.raises(DagexecError, match="another version of dagexec"):
            await engine.resume("r", {"p": Approve()})
        waiting = asyncio.create_task(engine.run(plan, run_id="r"))
        await asyncio.sleep(1)
        assert not waiting.done()
        described = await handle_of(engine, "r").describe()
        assert described.status.name == "RUNNING"
        monkeypatch.setattr(_launches, "short", before)
        report = await waiting
        assert report["p"].status == "pending"
        report = await engine.resume("r", {"p": Approve()})
    assert report.outputs == {"n": 0, "p": 3, "l": 0}
