"""Records the histories that `test_replay.py` replays.

    python -m tests.engines.temporal.record [programs]

With "programs" those of programs, which have a file of their own. Needs the program `temporal`. Do
it for a new format of what a workflow is given or tells, beside the old file, never instead of it:
runs of the old format may still wait for a person.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from dagexec import Approve, Call, Deny, Each, Edit, Ref, Timeouts
from dagexec.engines.temporal import TemporalEngine, _launches, _workflow
from dagexec.engines.temporal._wire import FORMAT
from dagexec.programs import Program
from tests.engines.parity import PLANS
from tests.engines.temporal.server import served
from tests.engines.temporal.test_programs import COMPUTES
from tests.engines.test_programs import PROGRAMS, WAITING
from tests.engines.tools_for_engines import TOOLS

FILE = Path(__file__).with_name(f"histories-{FORMAT}.json.gz")
PROGRAMS_FILE = Path(__file__).with_name(f"histories-{FORMAT}-programs.json.gz")
PLAIN = ("values keep their types", "a failure skips what needs it", "a call for each item")
PLAIN += ("timeouts of calls", "identical pure calls", "retries", "conflicts", "nothing")


def move_early() -> None:
    """Let runs move to a fresh history in the middle, as "moved" did."""
    _workflow.MOVE_EVENTS, _launches.WINDOW = 80, 5  # type: ignore[misc]


async def record(address: str) -> dict[str, Any]:
    """Run plans of all kinds; return their histories by name."""
    engine = TemporalEngine(TOOLS, address=address, name="record")
    late = TemporalEngine(TOOLS, address=address, name="late", timeouts=Timeouts(workflow=1.5))
    async with engine, late:
        for name in PLAIN:
            await engine.run(PLANS[name], run_id=name)
        await engine.run(PLANS["questions"], run_id="questions")
        for answers in ({"a": Edit({"amount": 4}), "d": "here"}, {"c": Deny("no")}, {"d": 12}):
            await engine.resume("questions", answers)
        slow = [Call("n", "nap", {"seconds": 1.5}), Call("p", "pay", {"amount": 3})]
        slow.append(Call("s", "same", {"value": Ref("p")}))
        await beside(engine, slow, "answered beside")
        waiting = asyncio.create_task(engine.run(slow, run_id="cancelled"))
        await asyncio.sleep(0.7)
        await engine.cancel("cancelled")
        await waiting
        await engine.run(slow, run_id="cancelled while it waits")
        await engine.cancel("cancelled while it waits")
        await late.run([Call("n", "nap", {"seconds": 50}), *slow[1:]], run_id="late")
        move_early()
        await engine.run([Call("m", "add", {"x": Each(tuple(range(40)))})], run_id="moved")
        return await recorded(engine, late)


async def record_programs(address: str) -> dict[str, Any]:
    """Run programs; return their histories by name."""
    engine = TemporalEngine(TOOLS, address=address, name="programs")
    late = TemporalEngine(TOOLS, address=address, name="late", timeouts=Timeouts(workflow=1.5))
    async with engine, late:
        for name, source in PROGRAMS.items():
            await engine.run(Program(source, max_steps=20_000), run_id=name)
        await engine.run(Program(WAITING), run_id="questions")
        for answers in ({"3": Approve()}, {"4": "here"}, {"4": "there"}, {"5": Deny("no")}):
            await engine.resume("questions", answers)
        await engine.run(Program(COMPUTES.replace("double", "add")), run_id="computes")
        slow = Program("n = nap(1.5)\np = pay(3)\n[n, same(p)]")
        waiting = asyncio.create_task(engine.run(slow, run_id="cancelled"))
        await asyncio.sleep(0.7)
        await engine.cancel("cancelled")
        await waiting
        await engine.run(slow, run_id="cancelled while it waits")
        await engine.cancel("cancelled while it waits")
        await late.run(Program("n = nap(50)\np = pay(3)"), run_id="late")
        move_early()
        await engine.run(Program("sum(add(each) for each in range(40))"), run_id="moved")
        return await recorded(engine, late)


async def recorded(*engines: TemporalEngine) -> dict[str, Any]:
    """Return what their server has recorded."""
    found: dict[str, Any] = {}
    for each in engines:
        async for run in each._runs._client.list_workflows():  # type: ignore[union-attr]
            handle = each._runs._client.get_workflow_handle(run.id, run_id=run.run_id)  # type: ignore[union-attr]
            found[f"{run.id} {run.run_id}"] = (await handle.fetch_history()).to_json_dict()
    hide(found)
    return found


def hide(history: Any) -> None:
    """Take out who ran it, and where."""
    if isinstance(history, dict):
        for key in ("identity", "name"):
            if "@" in str(history.get(key, "")):
                history[key] = "recorded"
        for item in history.values():
            hide(item)
    elif isinstance(history, list):
        for item in history:
            hide(item)


async def beside(engine: TemporalEngine, plan: list[Call], run_id: str) -> None:
    waiting = asyncio.create_task(engine.run(plan, run_id=run_id))
    await asyncio.sleep(0.7)
    await engine.resume(run_id, {"p": Approve()})
    await waiting


if __name__ == "__main__":
    programs = sys.argv[1:] == ["programs"]
    with served() as server:
        histories = asyncio.run((record_programs if programs else record)(server.address))
    file = PROGRAMS_FILE if programs else FILE
    file.write_bytes(gzip.compress(json.dumps(histories, sort_keys=True).encode(), 9, mtime=0))
    print(len(histories), "histories,", file.stat().st_size, "bytes")
