"""The other process: resumes runs with the answers that it reads, a line of JSON at a time.

python answering.py JOURNAL WORLD
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio

from dagexec import Approve, CallContext, Deny, Done, Edit, Executor, ask, tool
from dagexec.journal import SqliteJournal

KINDS = {
    "approve": lambda _: Approve(),
    "deny": Deny,
    "edit": Edit,
    "done": Done,
    "value": lambda value: value,
}


def make_tools(world: Path) -> list[object]:
    """Tools that leave a line in the world when they take effect."""

    def note(context: CallContext, value: object) -> None:
        descriptor = os.open(world, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, json.dumps([context.run_id, context.id, value]).encode() + b"\n")
        os.close(descriptor)

    @tool
    async def work(n: int, context: CallContext, parts: list[object] | None = None) -> list:
        """A write like any other."""
        note(context, n)
        return [context.id, n, parts]

    @tool(approval=True)
    async def pay(n: int, context: CallContext) -> list:
        """A write that a person has to approve."""
        note(context, n)
        return [context.id, n]

    @tool(approval=lambda args: args["n"] > 100)
    async def order(n: int, context: CallContext) -> list:
        """A write that a person has to approve if it is large."""
        note(context, n)
        return [context.id, n]

    @tool
    async def asking(n: int, context: CallContext) -> list:
        """A write that asks first."""
        answer = await ask(f"what shall {context.id} take instead of {n}?")
        note(context, answer)
        return [context.id, answer]

    return [work, pay, order, asking]


async def main() -> None:
    journal = SqliteJournal(sys.argv[1])
    executor = Executor(make_tools(Path(sys.argv[2])), journal=journal)
    for line in sys.stdin:
        run_id, answers = json.loads(line)
        made = {name: KINDS[kind](value) for name, (kind, value) in answers.items()}
        report = await executor.resume(run_id, made)
        sys.stdout.write(json.dumps({name: each.status for name, each in report.items()}) + "\n")
        sys.stdout.flush()
    journal.close()


if __name__ == "__main__":
    anyio.run(main)
