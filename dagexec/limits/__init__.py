"""Limits for calls: how many at a time, how much in what time, and when to try again.

    openai = Limiter.openai("openai:gpt-5.5", requests=500, tokens=300_000)

    @tool(effect="read", limits=[openai], cost=lambda args: {"tokens": 2000}, retry=Retry(3))
    async def summarise(text: str) -> str: ...

A call waits for its limits without a slot of the executor, and its timeout counts from when it is
admitted. Inside the tool, `current_permit()` says what was really used.
"""

from __future__ import annotations

from typing import cast

from dagexec._errors import (
    AdmissionTimeout,
    BreakerOpen,
    DagexecError,
    OversizeError,
    RateLimited,
)
from dagexec._tools.context import current_call
from dagexec.limits._limiter import Limiter, acquire
from dagexec.limits._permit import Permit
from dagexec.limits._rates import Rate
from dagexec.limits._retry import Breaker, Retry, transient
from dagexec.limits._store import Ask, MemoryStore, Store

__all__ = [
    "AdmissionTimeout",
    "Ask",
    "Breaker",
    "BreakerOpen",
    "Limiter",
    "MemoryStore",
    "OversizeError",
    "Permit",
    "Rate",
    "RateLimited",
    "Retry",
    "Store",
    "acquire",
    "current_permit",
    "transient",
]


def current_permit() -> Permit:
    """Return the permit of the call that this code runs for; raise DagexecError without one.

    A tool calls `settle` and `observe` on it; to be refused it raises RateLimited, or lets the
    429 of its HTTP client through.
    """
    permit = current_call().permit
    if permit is None:
        msg = "current_permit() works inside a tool that has limits=; this call has none"
        raise DagexecError(msg)
    return cast("Permit", permit)
