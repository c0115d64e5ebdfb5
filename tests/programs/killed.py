"""A journaled program whose process is killed: run by `test_killed`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio

from dagexec import Executor, tool
from dagexec.journal import SqliteJournal
from dagexec.programs import Program

SOURCE = """
total = 0
for i in range(5):
    total += write(i)
    boundary(i)
try:
    write(-1)
except ToolError:
    total += write(100)
total
"""


def main(folder: Path, kill_at: int) -> None:
    log = folder / "writes"

    @tool
    async def write(n: int) -> int:
        """Write a line."""
        if n < 0:
            msg = "no negative numbers"
            raise ValueError(msg)
        with log.open("a") as file:
            file.write(f"{n}\n")
        return n

    @tool(effect="read")
    async def boundary(n: int) -> int:
        """End the process at one of its calls."""
        if n == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    async def run() -> None:
        executor = Executor([write, boundary], journal=SqliteJournal(folder / "journal.sqlite"))
        report = await executor.run(Program(SOURCE), run_id="r")
        print(report.result, report.error or "")

    anyio.run(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
