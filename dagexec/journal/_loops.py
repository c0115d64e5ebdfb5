"""The event loops of runs, seen from the thread of a journal: calls into them, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal


def post(native: Any, function: Callable[..., Any], *args: Any) -> bool:
    """Call a function in the event loop of this token, soon; return False if the loop has ended."""
    soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    try:
        soon(function, *args)
    except RuntimeError:
        return False
    return True


def state_of(native: Any) -> Literal["running", "stopped", "ended"]:
    """Return whether an event loop turns, stands still but may go on, or has ended for good."""
    if isinstance(native, asyncio.AbstractEventLoop):
        if native.is_closed():
            return "ended"
        return "running" if native.is_running() else "stopped"
    return "running" if post(native, bool) else "ended"
