"""Measure what a journal costs: `python -m tests.benchmarks.journal`.

Each round measures, one after the other: 2,000 calls without a journal and with one at full
durability; the same records in raw sqlite3, 20 a commit; and LangGraph's SqliteSaver over a chain.
Medians of the rounds, ratios of the medians.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
import tempfile
import uuid
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anyio

from dagexec import Call, Executor, Plan, tool
from dagexec.journal import SqliteJournal
from tests.benchmarks.figures import Figure

CALLS = 2000
STEPS = 300
BATCH = 20
ROUNDS = 5
DISK = "/var/tmp"  # the system's own temporary folder may be in memory


@tool
async def write(n: int) -> int:
    """Do nothing, as a write: it waits until its intent is on the disk."""
    return n


@tool(effect="read")
async def read(n: int) -> int:
    """Do nothing, as a read."""
    return n


def plan(name: str, count: int, *, chain: bool = False) -> Plan:
    """Return calls side by side, or one after the other."""
    return Plan(
        [
            Call(f"c{n}", name, {"n": n}, after=(f"c{n - 1}",) if chain and n else ())
            for n in range(count)
        ]
    )


async def run(calls: Plan, journal: SqliteJournal | None) -> float:
    """Return the seconds that a run takes."""
    executor = Executor([write, read], journal=journal)
    gc.collect()  # else the run pays for what was made before it
    started = perf_counter()
    report = await executor.run(calls, run_id=uuid.uuid4().hex)
    took = perf_counter() - started
    assert report.ok
    return took


async def link(path: Path) -> float:
    """Return the seconds of a link of a chain of writes."""
    with SqliteJournal(path) as journal:
        await run(plan("read", 20), journal)  # the file is open
        return await run(plan("write", STEPS, chain=True), journal) / STEPS


def raw(path: Path, rows: list[Any]) -> float:
    """Return the seconds that sqlite3 takes for these records."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE records (run INT, seq INT, kind TEXT, call TEXT, body TEXT, checksum INT,"
        " PRIMARY KEY (run, seq)) WITHOUT ROWID"
    )
    gc.collect()
    started = perf_counter()
    for first in range(0, len(rows), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", rows[first : first + BATCH]
        )
        connection.execute("COMMIT")
    took = perf_counter() - started
    connection.close()
    return took


def saver(path: Path) -> float:
    """Return the seconds of a step of LangGraph's in a chain, a checkpoint at each."""
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    graph: Any = StateGraph(dict)
    graph.add_node("step", lambda state: {"n": state["n"] + 1})
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: END if state["n"] >= STEPS else "step")
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    compiled = graph.compile(checkpointer=SqliteSaver(connection))
    config = {"configurable": {"thread_id": "1"}, "recursion_limit": STEPS + 10}
    started = perf_counter()
    compiled.invoke({"n": 0}, config, durability="sync")
    took = perf_counter() - started
    connection.close()
    return took / STEPS


async def measure(folder: Path) -> dict[str, float]:
    """Return one round's figures, in seconds."""
    path = folder / f"{uuid.uuid4().hex}.db"
    figures: dict[str, float] = {}
    with SqliteJournal(path) as journal:
        await run(plan("read", 20), journal)  # the file is open
        figures["plain"] = await run(plan("write", CALLS), None)
        figures["write"] = await run(plan("write", CALLS), journal)
        figures["read"] = await run(plan("read", CALLS), journal)
        figures["chain write"] = await run(plan("write", STEPS, chain=True), journal) / STEPS
        figures["chain read"] = await run(plan("read", STEPS, chain=True), journal) / STEPS
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM records WHERE run = 2").fetchall()
    connection.close()
    figures["raw"] = raw(path.with_suffix(".raw"), rows)
    if find_spec("langgraph.checkpoint.sqlite") is not None:
        figures["saver"] = saver(path.with_suffix(".saver"))
    return figures


async def figures(rounds: int = ROUNDS) -> list[Figure]:
    """Return medians of the rounds, and their ratios with the goals."""
    with tempfile.TemporaryDirectory(prefix="dagexec-bench-", dir=DISK) as folder:
        taken = [await measure(Path(folder)) for _ in range(rounds)]
    middle = {name: median(each[name] for each in taken) for name in taken[0]}
    found = [Figure(f"journal: {name}", middle[name] * 1e3, "ms") for name in middle]
    ratios = [
        ("2,000 writes / raw sqlite3", middle["write"] / middle["raw"], 2.0),
        ("2,000 reads / raw sqlite3", middle["read"] / middle["raw"], 2.0),
    ]
    if "saver" in middle:
        step = middle["saver"]
        ratios += [
            ("one of 2,000 writes / a SqliteSaver step", middle["write"] / CALLS / step, 0.5),
            ("a link of a chain of reads / that step", middle["chain read"] / step, 0.5),
            ("a link of a chain of writes / that step", middle["chain write"] / step, 0.5),
        ]
    return found + [Figure(f"journal: {name}", ratio, "x", goal) for name, ratio, goal in ratios]


def main() -> int:
    """Print the figures; return how many goals were missed."""
    found = anyio.run(figures)
    print("\n".join(map(str, found)))
    return sum(each.met is False for each in found)


if __name__ == "__main__":
    sys.exit(main())
