"""The event loops of runs, seen from the thread of a journal: whether they will ever go on."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from dagexec._concurrency.loops import call_soon


def state_of(native: Any) -> Literal["running", "stopped", "ended"]:
    """Return whether an event loop turns, stands still but may go on, or has ended for good."""
    if isinstance(native, asyncio.AbstractEventLoop):
        if native.is_closed():
            return "ended"
        return "running" if native.is_running() else "stopped"
    return "running" if call_soon(native, bool) else "ended"
