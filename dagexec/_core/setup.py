"""What a report keeps of how its run was set up, and of calls that have not ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@dataclass(frozen=True, slots=True)
class Underway:
    """A call of a live run that has not ended: its state, and when it came there.

    `ready` and `started` are seconds since the run began, None before they happened.
    """

    state: Literal["waiting", "ready", "running"]
    ready: float | None = None
    started: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened to a call on its way: it began to wait for a limit, or it failed.

    `kind` is `limit` or `retry`, `at` seconds since the run began; before its next attempt a
    failed call waits `delay` seconds.
    """

    kind: Literal["limit", "retry"]
    at: float
    delay: float = 0.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What of an executor's settings the pictures of its runs show; timeouts in seconds.

    `run` is that of the whole run and `scope` whose it is: `turn` or `workflow`. `tools` are those
    that tools bring themselves, by name; `secret` the arguments that must not be shown, by tool.
    """

    call: float | None = None
    layer: float | None = None
    run: float | None = None
    scope: str = "workflow"
    tools: Mapping[str, float] = field(default_factory=dict[str, float])
    secret: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def of(self, tool: str) -> float | None:
        """Return the timeout of a call of this tool."""
        return self.tools.get(tool, self.call)

    def to_dict(self, tools: set[str]) -> dict[str, Any]:
        """Return the JSON form, with the tools that are used."""
        return {
            "call": self.call,
            "layer": self.layer,
            "run": self.run,
            "scope": self.scope,
            "tools": {name: seconds for name, seconds in self.tools.items() if name in tools},
            "secret": {name: list(args) for name, args in self.secret.items() if name in tools},
        }
