"""What stands before the calls of a tool: its limiters, its costs, its retries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from dagexec._errors import DagexecError
from dagexec._tools.tool import Tool
from dagexec.limits._limiter import Limiter, named
from dagexec.limits._retry import Retry

_log: Final = logging.getLogger("dagexec")


@final
@dataclass(frozen=True, slots=True)
class ToolLimits:
    """What stands before the calls of one tool: its limiters, its costs, its retries."""

    limiters: tuple[Limiter, ...]
    cost: Mapping[str, float] | Callable[[dict[str, Any]], Mapping[str, float]] | None
    retry: Retry | None
    key: str

    def cost_of(self, arguments: dict[str, Any]) -> Mapping[str, float] | None:
        """Return what a call with these arguments costs."""
        return self.cost(dict(arguments)) if callable(self.cost) else self.cost


def limits_of(tools: Iterable[Tool[..., Any]]) -> dict[str, ToolLimits] | None:
    """Return the limits and retries by tool, None if no tool has any; raise DagexecError."""
    found: dict[str, ToolLimits] = {}
    for tool in tools:
        if tool.cost is not None and not tool.limits:
            msg = f"tool {tool.name!r} has a cost and no limits that it counts for: give limits="
            raise DagexecError(msg)
        if tool.limits or tool.retry is not None:
            limits = _limits(tool)
            if limits.retry is not None or limits.limiters:
                found[tool.name] = limits
    return found or None


def limiters_of(tool: Tool[..., Any]) -> list[Limiter]:
    """Return the limiters of a tool, those that it names too; raise DagexecError."""
    given = [named(each) if isinstance(each, str) else each for each in tool.limits]
    for each in given:
        if not isinstance(each, Limiter):
            msg = f"limits={each!r} of tool {tool.name!r}: give a Limiter, or the key of one"
            raise DagexecError(msg)
    return given


def _limits(tool: Tool[..., Any]) -> ToolLimits:
    given = limiters_of(tool)
    retry: object = tool.retry
    if retry is not None and not isinstance(retry, Retry):
        msg = f"retry={retry!r} of tool {tool.name!r}: give a Retry, such as Retry(attempts=3)"
        raise DagexecError(msg)
    if retry is not None and not tool.effect.retries and retry.breaker is None:
        _log.warning(
            "tool %r has retry=, and its effect is write: it is never tried again. If calling it"
            ' twice is as good as once, say so: effect="idempotent"',
            tool.name,
        )
    key = given[0].key if given else tool.name
    # One that limits nothing would only cost time.
    limiters = tuple(each for each in dict.fromkeys(given) if not each.unlimited or retry)
    return ToolLimits(limiters, tool.cost, retry, key)
