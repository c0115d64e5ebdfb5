"""The error of a run in virtual time in which nothing can happen any more."""

from __future__ import annotations

from collections.abc import Iterable

from dagexec._errors import DagexecError


class DeadlockError(DagexecError):
    """Every task waits and no deadline is set: in virtual time nothing can ever happen again."""


def deadlock(waiting: Iterable[tuple[str, list[str]]]) -> DeadlockError:
    """Describe a deadlock from the tasks' names and formatted stacks."""
    tasks = "\n".join(f"{name} waits at\n{''.join(stack)}" for name, stack in waiting)
    return DeadlockError(
        "deadlock in virtual time: every task waits and no deadline is set (a wait for a thread, "
        f"a process or a socket needs a real clock)\n{tasks}"
    )
