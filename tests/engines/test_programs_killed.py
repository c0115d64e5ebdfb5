"""kill -9 at the calls of programs on DBOS: nothing that is done is done again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engines.processes import ROOT, Worker, begun, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]


async def kill_anywhere(url: str, name: str, folder: Path, seed: int, *how: str) -> None:
    """Kill the processes of a generated program, and compare what it did with Python's."""
    from tests.engines.test_programs import engine_at

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
    await kill_anywhere(url, name, tmp_path, 1, "s4", "s12")


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
    times = [f"t{0.3 + 0.04 * each:.2f}" for each in range(20)]
    await kill_anywhere(url, name, tmp_path, 5, *times)


@pytest.fixture
def start(mark: str, url: str, name: str, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Return what starts a worker; all have ended after the test."""
    workers: list[Worker] = []
    command = [sys.executable, "-m", "tests.engines.worker", mark, url, name, str(tmp_path)]

    def started() -> Worker:
        workers.append(Worker(command, tmp_path / "errors"))
        return workers[-1]

    yield started
    for worker in workers:
        worker.end()


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
