"""Count the instructions that dagexec needs for a call: `python -m tests.benchmarks.instructions`.

Counts the bytecode instructions that the interpreter runs in dagexec's own files, so the figures
do not depend on the machine or on what else it does. They do depend on the version of Python and
are kept for each in `instructions.json`; `--update` writes those of this one. The test fails where
a workload needs more than 3 % above what is kept: a change that costs more says so by updating.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from tests.benchmarks import workloads as work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import FrameType

    from dagexec import Call, Executor

KEPT = Path(__file__).with_suffix(".json")
OWN = str(Path(sys.modules["dagexec"].__file__ or "").parent)
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
CALLS = 200


class Counter:
    """Counts instructions in dagexec's frames while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        gc.disable()
        sys.settrace(self.enter)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        gc.enable()

    def enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        """Follow the frames of dagexec only."""
        if not frame.f_code.co_filename.startswith(OWN):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.step

    def step(self, _frame: FrameType, event: str, _arg: object) -> Any:
        """Count an instruction."""
        self.count += event == "opcode"
        return self.step


async def streamed(plan: Any) -> AsyncIterator[Call]:
    """Give the calls of a plan one by one."""
    for call in plan:
        yield call


def workloads() -> dict[str, Callable[[Executor], Awaitable[object]]]:
    """Return what is counted."""
    fan_out, chain, passing = work.fan_out(CALLS), work.chain(CALLS), work.passing(CALLS)
    return {
        "fan-out": lambda executor: executor.run(fan_out),
        "chain": lambda executor: executor.run(chain),
        "values passed": lambda executor: executor.run(passing),
        "streamed": lambda executor: executor.run(streamed(fan_out)),
    }


async def count(run: Callable[[Executor], Awaitable[object]]) -> int:
    """Return the instructions for each call, the second time: the first fills caches.

    Python 3.12 counts nothing before it has been asked to once.
    """
    executor = work.executor()
    for _ in range(2):
        counter = Counter()
        with counter:
            await run(executor)
    return round(counter.count / CALLS)


def measured() -> dict[str, int]:
    """Return the instructions for each call of each workload."""
    return {name: anyio.run(partial(count, run)) for name, run in workloads().items()}


def main() -> None:
    """Show the counts, or keep them."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.instructions")
    parser.add_argument("--update", action="store_true", help="keep these counts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = measured()
    if options.update:
        kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
        kept[VERSION] = found
        KEPT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found) if options.json else "\n".join(f"{v:>8} {k}" for k, v in found.items()))


if __name__ == "__main__":
    main()
