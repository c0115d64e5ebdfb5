"""Measure what workers on both engines get done: `python -m tests.benchmarks.engines`.

For 1 and 2 workers, each a process of its own: the seconds from `run` to its report for 40 calls of
0.2 s, 4 at a time in each worker, for 300 calls that do nothing, 20 at a time, and for a chain of
50; for 5,000 calls in one run; and the small ones again in one process that asks, decides and
works. Where there are workers, the process that asks decides on Temporal, and does nothing else on
DBOS. PostgreSQL is a throwaway
cluster without fsync, Temporal's server holds its data in memory and reads a shard's queue 2,000
times a second; all is on the same machine. A server that is not installed is left out.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter
from typing import Any

from dagexec import Call, Ref, Timeouts, tool
from tests.engines.cluster import binaries, cluster
from tests.engines.temporal.server import binary, served

ROOT = Path(__file__).parent.parent.parent
WORKERS = (1, 2)
POLLING = 0.05


@tool(effect="read")
async def nap(seconds: float) -> float:
    """Sleep."""
    await asyncio.sleep(seconds)
    return seconds


@tool(effect="read")
async def nothing(value: object = None) -> str:
    """Do nothing."""
    return "x" * 100


@tool
async def write() -> None:
    """Do nothing, as a write: it waits until its intent is recorded."""


def many(tool_name: str, count: int = 300) -> list[Call]:
    """Return calls side by side."""
    return [Call(f"c{each}", tool_name) for each in range(count)]


def grid(chains: int, length: int) -> list[Call]:
    """Return chains side by side, each call given the value of the one before."""
    return [
        Call(f"c{at}-{n}", "nothing", {"value": Ref(f"c{at}-{n - 1}")} if n else {})
        for at in range(chains)
        for n in range(length)
    ]


NAPS = [Call(f"c{each}", "nap", {"seconds": 0.2}) for each in range(40)]
# How many calls at a time in each worker, and what is run.
LOADS: dict[int, dict[str, list[Call]]] = {
    4: {"40 calls of 0.2 s": NAPS},
    20: {
        "300 reads that do nothing": many("nothing"),
        "300 writes that do nothing": many("write"),
        "a chain of 50": grid(1, 50),
    },
}
SMALL = LOADS[20]
LARGE = {"5,000 reads side by side": many("nothing", 5000), "10 chains of 500": grid(10, 500)}


def engine(kind: str, where: str, concurrency: int, *, calls: bool) -> Any:
    """Return the engine of a worker, or that of the process that asks."""
    settings: dict[str, Any] = {
        "name": f"bench{concurrency}",
        "timeouts": Timeouts(workflow=None),
        "concurrency": concurrency,
        "calls": calls,
    }
    if kind == "DBOS":
        from dagexec.engines.dbos import DbosEngine

        return DbosEngine([nap, nothing, write], database_url=where, polling=POLLING, **settings)
    from dagexec.engines.temporal import TemporalEngine

    return TemporalEngine([nap, nothing, write], address=where, **settings)


async def work(kind: str, where: str, concurrency: int) -> None:
    """Be a worker until the input ends."""
    async with engine(kind, where, concurrency, calls=True):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    os._exit(0)  # Temporal's library may abort an interpreter that ends


async def measure(
    kind: str, where: str, count: int, concurrency: int, loads: dict[str, list[Call]]
) -> None:
    """Print what so many workers get done."""
    command = [sys.executable, "-m", "tests.benchmarks.engines", kind, where, str(concurrency)]
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
        async with engine(kind, where, concurrency, calls=not workers) as asking:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            await asyncio.sleep(2)  # DBOS looks for new queues once a second
            for name, plan in loads.items():
                began = perf_counter()
                report = await asking.run(plan)
                took = perf_counter() - began
                assert report.ok, report
                each = 1000 * took / len(plan)
                who = f"{count} worker(s)" if count else "one process"
                print(f"{kind:9}{who}  {name:28} {took:7.2f} s  {each:6.1f} ms each", flush=True)
    finally:
        for worker in workers:
            worker.communicate()


def measure_all(kind: str, started: AbstractContextManager[Any], place: str) -> None:
    """Measure one engine on a server of its own."""
    with started as server:
        for count in WORKERS:
            for concurrency, loads in LOADS.items():
                where = place.format(server=server, count=count)
                asyncio.run(measure(kind, where, count, concurrency, loads))
        for count, loads in ((1, LARGE), (0, SMALL)):
            concurrency = 50 if loads is LARGE else 20
            where = place.format(server=server, count=f"large{count}")
            asyncio.run(measure(kind, where, count, concurrency, loads))


def main() -> None:
    """Measure both engines; with three arguments, be one of the workers."""
    if len(sys.argv) > 1:
        asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
        return
    if binary():
        measure_all("Temporal", served(), "{server.address}")
    if binaries():
        measure_all("DBOS", cluster(), "{server.url}/bench{count}")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
