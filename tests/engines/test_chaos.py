"""Chains with writes in them, while workers die or hang and the database is restarted.

A few rounds each; `DAGEXEC_ROUNDS=20` makes it as many.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Deny
from tests.engines.cluster import Cluster, cluster
from tests.engines.processes import Worker, begun, lines, wait_for
from tests.engines.test_workers import asking

if TYPE_CHECKING:
    from pathlib import Path

    from dagexec import Report

pytestmark = [
    pytest.mark.integration,
    pytest.mark.real_time,
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]

WRITES = ("s", "t", "w")


class Chaos:
    """Workers, and what happens to them in each round."""

    def __init__(self, server: Cluster, name: str, folder: Path) -> None:
        self.server = server
        self.url = f"{server.url}/chaos"
        self.name = name
        self.folder = folder
        self.random = Random(name)
        self.seen = Counter[str]()
        self.workers: list[Worker] = []

    def command(self) -> list[str]:
        module = [sys.executable, "-m", "tests.engines.worker", "chaos"]
        return [*module, self.url, self.name, str(self.folder)]

    async def fill(self) -> None:
        """Have two workers that are ready."""
        while len(self.workers) < 2:
            made = Worker(self.command(), self.folder / "errors")
            self.workers.append(made)
            await asyncio.to_thread(made.wait_until_ready)

    async def kill(self) -> None:
        victim = self.workers.pop(self.random.randrange(2))
        drop(victim)
        await self.fill()

    async def hang(self) -> None:
        """Stop one for longer than its lease; it wakes up at the end of the round."""
        victim = self.random.choice(self.workers)
        victim.process.send_signal(signal.SIGSTOP)

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await asyncio.sleep(self.random.uniform(0, 1))
        await asyncio.to_thread(self.server.start)

    async def wake(self) -> None:
        """Let those that hang say what they have to say, and do not need them any more."""
        for worker in self.workers:
            worker.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(1)
        for worker in self.workers:
            drop(worker)
        self.workers.clear()

    async def round(self, engine: Any, number: int, how: str) -> None:
        await self.fill()
        run = f"{how}{number}"
        self.workers[0].tell(run=run, plan="payments")
        await asyncio.to_thread(wait_for, lambda: bool(lines(self.folder, run)), 60)
        await asyncio.sleep(self.random.uniform(0, 0.8))
        await getattr(self, how)()
        from tests.engines.worker import payments

        report = await engine.run(payments(), run_id=run)
        if how == "hang":
            await self.wake()
        self.check(report, run)
        doubtful = [call for call in WRITES if report[call].status == "in_doubt"]
        if doubtful:
            await self.fill()  # who settles them
            report = await engine.resume(run, {call: Deny("nobody knows") for call in doubtful})
            assert {report[call].status for call in doubtful} == {"failed"}
        assert not any(each.status in ("pending", "in_doubt") for each in report.values())
        self.check(report, run)

    def check(self, report: Report, run: str) -> None:
        """No write began twice, none that is done did not end, and what is unknown is told."""
        began = begun(self.folder, run)
        ended = Counter(line.call for line in lines(self.folder, run) if line.what == "end")
        for call in WRITES:
            status = report[call].status
            assert began[call] <= 1, (run, call, began)
            if status == "done":
                assert (began[call], ended[call]) == (1, 1)
                assert report[call].value == f"{call}({before(report, call)})"
            if began[call]:
                assert status in ("done", "in_doubt", "failed"), (run, call, status)
            self.seen[status] += 1
        for call, outcome in report.items():
            if outcome.status == "pending":
                assert report[outcome.because or ""].status == "in_doubt"
            self.seen["ran again"] += max(0, began[call] - 1)


def drop(worker: Worker) -> None:
    worker.kill()
    worker.end()


def before(report: Report, call: str) -> str:
    return str(report[{"s": "a", "t": "p", "w": "b"}[call]].value)


@pytest.mark.parametrize(("how", "rounds"), [("kill", 3), ("restart", 2), ("hang", 1)])
async def test_no_write_happens_twice(how, rounds, name, tmp_path, capsys):
    """Done once, or in doubt and told, whoever dies at whatever moment."""
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
    rounds = int(os.environ.get("DAGEXEC_ROUNDS", str(rounds)))
    with cluster() as server:
        chaos = Chaos(server, name, tmp_path)
        try:
            async with asking(chaos.url, name, tmp_path) as engine:
                for number in range(rounds):
                    await chaos.round(engine, number, how)
        finally:
            for worker in chaos.workers:
                drop(worker)
    with capsys.disabled():
        print(f"\n{how}, {rounds} rounds: {dict(chaos.seen)}")
    assert chaos.seen["done"] + chaos.seen["in_doubt"] + chaos.seen["failed"] >= 3 * rounds
