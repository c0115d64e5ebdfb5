"""What a run needs to know of its executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from dagexec._setup import Setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagexec._guarded import Guard
    from dagexec._tools import Tool


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an executor as its runners read them; timeouts are in seconds."""

    tools: Mapping[str, Tool[..., Any]]
    call_timeout: float | None
    layer_timeout: float | None
    run_timeout: float | None
    run_scope: str
    on_failure: str
    barrier: bool
    sequential: bool
    # Whether a tool is pure: its identical calls share one execution.
    shares: bool
    # What stands before the calls of tools with limits or retries; None where no tool has any.
    guards: Mapping[str, Guard] | None = None

    @property
    def setup(self) -> Setup:
        """What of these the pictures of a run show."""
        tools = self.tools
        return Setup(
            call=self.call_timeout,
            layer=self.layer_timeout,
            run=self.run_timeout,
            scope=self.run_scope,
            tools={name: each.timeout for name, each in tools.items() if each.timeout is not None},
            secret={name: tuple(each.secret) for name, each in tools.items() if each.secret},
        )
