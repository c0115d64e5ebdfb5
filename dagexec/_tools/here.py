"""The other side of a process tool: what dagexec knows when it runs inside a worker process."""

from __future__ import annotations

from typing import Any, Protocol, final

from dagexec._core.plan import Plan


class Link(Protocol):
    """The way from a worker process to the executor that it works for."""

    tools: tuple[str, ...]

    def run(self, plan: Plan, run_id: str | None) -> Any:
        """Run a plan there, as part of the call that this process runs; return its report."""
        ...


@final
class Here:
    """What this process is: `link` in a worker process while it runs a call."""

    __slots__ = ("importing", "link")

    def __init__(self) -> None:
        """Start as a process like any other."""
        self.link: Link | None = None
        # Whether it imports the main script again, to find a tool in it.
        self.importing = False


here = Here()
