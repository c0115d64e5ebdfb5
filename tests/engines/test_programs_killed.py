"""kill -9 at the calls of programs on DBOS: nothing that is done is done again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Done
from dagexec.programs import Program
from tests.engines.processes import ROOT, Worker, begun, lines, wait_for
from tests.engines.test_workers import asking, ready

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]


@pytest.fixture
def asks(url: str, name: str, tmp_path: Path) -> Any:
    """Return an engine of this process, which runs no calls."""
    return asking(url, name, tmp_path)


async def kill_anywhere(url: str, name: str, folder: Path, seed: int, *how: str) -> None:
    """Kill the processes of a generated program, and compare what it did with Python's."""
    from tests.engines.programs_killed import engine_at

    async with engine_at(url, name, []):
        pass  # the database is there, with its tables
    command = [sys.executable, "-m", "tests.engines.programs_killed", url, name, str(folder)]
    process = await asyncio.create_subprocess_exec(
        *command,
        str(seed),
        *how,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, out.decode() + errors.decode()
    assert out.startswith(b"killed at "), out


async def test_killed_at_its_calls_a_program_does_what_python_does(url, name, tmp_path):
    """Before a tool begins, and behind its effect; a second process is killed as well."""
    await kill_anywhere(url, name, tmp_path, 1, "s12")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [3, 11])
async def test_killed_at_each_of_its_calls(url, name, tmp_path, seed):
    """At every step of every tool."""
    await kill_anywhere(url, name, tmp_path, seed, "all")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_at_any_time(url, name, tmp_path):
    """Also between its calls, while the engine writes."""
    times = [f"t{0.4 + 0.1 * each:.1f}" for each in range(10)]
    await kill_anywhere(url, name, tmp_path, 5, *times)


APPROVED = """
rows = [look(n) for n in range(3)]
paid = pay(rows[0])
print(len(rows), "rows")
total = [peek(row) for row in rows]
sent = send(paid)
[sent, len(total)]
"""


@pytest.mark.timeout(120)
def test_an_approval_days_later_in_another_process(start, tmp_path):
    """What does not depend on it is done before; the text of the program is not given again."""
    approve_elsewhere(start, tmp_path)


def approve_elsewhere(start: Callable[[], Worker], tmp_path: Path) -> None:
    """Let one process run a program until it waits, and another one answer."""
    first = start().wait_until_ready()
    first.tell(run="r", program=APPROVED)
    waits = first.answer()
    assert waits["printed"] == "3 rows\n"
    assert "waits for a person while the program stood at line 7" in waits["error"]
    statuses = {name: body["status"] for name, body in waits["calls"].items()}
    done = dict.fromkeys("123567", "done")
    assert statuses == {**done, "4": "pending"}
    first.kill()
    second = start().wait_until_ready()
    second.tell(resume="r", answers={"4": "approve"})
    report = second.answer()
    assert report["error"] is None
    assert report["result"] == ["8(4(1(0)))", 3]
    assert set(begun(tmp_path).values()) == {1}
    assert {line.process for line in lines(tmp_path) if line.call in ("4", "8")} == {second.pid}


DOUBTED = """
a = peek("a")
first = send(a, 1000.0)
b = peek("b")
second = put(first)
[second, b]
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_write_in_doubt_waits_for_an_answer(start, asks, tmp_path):
    """Its worker died over it: it is not made again, and an answer leads the program on."""
    async with asks as engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(Program(DOUBTED), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        second = await asyncio.to_thread(start().wait_until_ready)
        await asyncio.to_thread(first.kill)
        report = await waiting
        statuses = {name: outcome.status for name, outcome in report.items()}
        assert statuses == {"1": "done", "2": "in_doubt", "3": "done"}
        assert "it waited for send() (call 2, line 3)" in str(report.error)
        report = await engine.resume("r", {"2": Done("by hand")})
        assert report.result == ["4(by hand)", "3(b)"]
    assert begun(tmp_path) == {"1": 1, "2": 1, "3": 1, "4": 1}
    assert {line.process for line in lines(tmp_path) if line.call == "4"} == {second.pid}


CHAINS = """
def chain(n, seconds):
    value = peek(n, seconds)
    return peek(value, 0.2)
rows = [chain(0, 0.3), chain(1, 0.05), chain(2, 0.1)]
try:
    look(rows[0], "no number")
except ToolError:
    rows.append("caught")
put(rows)
total = []
for row in rows:
    total.append(peek(row, 0.05))
print(total)
put(total)
"""


async def kill_and_look(start: Callable[[], Worker], asks: Any, folder: Path, rounds: int) -> None:
    """Kill one of two workers, each time another and at another moment, while a program runs."""
    random = Random(rounds)
    workers = [start(), start()]
    results: set[str] = set()
    async with asks as engine:
        for number in range(rounds):
            run = f"run{number}"
            for worker in workers:
                await asyncio.to_thread(ready, worker)
            workers[0].tell(run=run, program=CHAINS)
            await asyncio.to_thread(wait_for, lambda run=run: bool(lines(folder, run)))
            await asyncio.sleep(random.uniform(0, 0.8))
            victim = random.choice(workers)
            victim.kill()
            workers.remove(victim)
            workers.append(start())
            report = await engine.run(Program(CHAINS), run_id=run)
            assert report.error is None
            results.add(f"{report.result} {report.printed}")
            mine = lines(folder, run)
            # Between the end of a tool and the record of it lies a moment; who dies in it leaves
            # a call that runs again. Nobody else's does.
            ended = [(line.call, line.process) for line in mine if line.what == "end"]
            for call, count in Counter(call for call, _ in ended).items():
                assert count == 1 or (call, victim.pid) in ended
    assert len(results) == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_program_goes_on_when_one_of_its_workers_is_killed(start, asks, tmp_path):
    """Whoever decides it, and whoever runs its calls; a few rounds."""
    await kill_and_look(start, asks, tmp_path, 4)
