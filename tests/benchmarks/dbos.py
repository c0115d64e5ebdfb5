"""Measure what workers on DBOS get done: `python -m tests.benchmarks.dbos`.

For 1, 2 and 4 workers, each a process of its own: the seconds from `run` to its report for 40 calls
of 0.2 s, 4 at a time in each worker, and for 300 calls that do nothing, 20 at a time. The process
that asks decides only. PostgreSQL is a throwaway cluster without fsync, on the same machine as all
the rest.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from dagexec import Call, Timeouts, tool
from dagexec.engines.dbos import DbosEngine
from tests.engines.cluster import cluster

ROOT = Path(__file__).parent.parent.parent
WORKERS = (1, 2, 4)
POLLING = 0.05


@tool(effect="read")
async def nap(seconds: float) -> float:
    """Sleep."""
    await asyncio.sleep(seconds)
    return seconds


@tool(effect="read")
async def nothing() -> None:
    """Do nothing."""


@tool
async def write() -> None:
    """Do nothing, as a write: it waits until its intent is in the database."""


def many(tool_name: str) -> list[Call]:
    """Return 300 calls side by side."""
    return [Call(f"c{each}", tool_name) for each in range(300)]


NAPS = [Call(f"c{each}", "nap", {"seconds": 0.2}) for each in range(40)]
CHAIN = [Call(f"c{n}", "nothing", after=(f"c{n - 1}",) if n else ()) for n in range(20)]
# How many calls at a time in each worker, and what is run.
LOADS: dict[int, dict[str, list[Call]]] = {
    4: {"40 calls of 0.2 s": NAPS},
    20: {
        "300 reads that do nothing": many("nothing"),
        "300 writes that do nothing": many("write"),
        "a chain of 20": CHAIN,
    },
}


def engine(url: str, concurrency: int, *, calls: bool) -> DbosEngine:
    """Return the engine of a worker, or that of the process that asks."""
    return DbosEngine(
        [nap, nothing, write],
        database_url=url,
        name=f"bench{concurrency}",
        timeouts=Timeouts(workflow=None),
        concurrency=concurrency,
        polling=POLLING,
        calls=calls,
    )


async def work(url: str, concurrency: int) -> None:
    """Be a worker until the input ends."""
    async with engine(url, concurrency, calls=True):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


async def measure(url: str, count: int, concurrency: int) -> None:
    """Print what so many workers get done."""
    command = [sys.executable, "-m", "tests.benchmarks.dbos", url, str(concurrency)]
    workers = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    try:
        async with engine(url, concurrency, calls=False) as asking:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            await asyncio.sleep(2)  # DBOS looks for new queues once a second
            for name, plan in LOADS[concurrency].items():
                began = perf_counter()
                report = await asking.run(plan)
                took = perf_counter() - began
                assert report.ok, report
                rate = len(plan) / took
                print(f"{count} worker(s)  {name:28} {took:7.2f} s  {rate:7.1f} calls/s")
    finally:
        for worker in workers:
            worker.communicate()


def main() -> None:
    """Measure with 1, 2 and 4 workers; with a URL as argument, be one of them."""
    if len(sys.argv) > 1:
        asyncio.run(work(sys.argv[1], int(sys.argv[2])))
        return
    with cluster() as server:
        for count in WORKERS:
            for concurrency in LOADS:
                asyncio.run(measure(f"{server.url}/bench{count}", count, concurrency))


if __name__ == "__main__":
    main()
