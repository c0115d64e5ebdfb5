"""Process tools that nest; in a worker, `executor` leads to the one that it works for."""

from __future__ import annotations

import time

from dagexec import Call, Executor, Plan, current_call, tool


def plan_of(calls: list) -> Plan:
    """Return a plan of calls given as {"tool": ..., "args": ...}."""
    return Plan(Call(str(n), each["tool"], each["args"]) for n, each in enumerate(calls))


def note(word: str) -> None:
    """Say when a leaf begins or ends."""
    current_call().progress(time.monotonic(), None, word)


@tool(runs="process", effect="read")
def process_leaf(seconds: float = 0, fails: bool = False) -> int:
    """Be a leaf in a process."""
    note("in")
    try:
        time.sleep(seconds)
        if fails:
            raise ValueError
        return 1
    finally:
        note("out")


@tool(runs="process", effect="read")
def process_node(calls: list) -> int:
    """Run a plan below, from a process."""
    return sum(executor.run_sync(plan_of(calls)).outputs.values())


def _elsewhere(name):
    """Return a stand-in for a tool that only the parent's executor has."""

    def stand_in(**_):
        raise AssertionError

    return tool(stand_in, name=name)


names = ["async_leaf", "thread_leaf", "async_node", "thread_node"]
executor = Executor([*map(_elsewhere, names), process_leaf, process_node], concurrency=2)
