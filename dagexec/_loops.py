"""The event loop that code is in, or one of its own."""

from __future__ import annotations

import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


def in_event_loop() -> bool:
    """Whether this code runs in an event loop, asyncio's or trio's."""
    try:
        current_token()
    except RuntimeError:
        return False
    return True


def run_in_new_loop(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an async function in an event loop of its own, in a copy of this context."""
    context = copy_context()
    # A context that was copied out of an event loop says that it is in one; anyio believes it.
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context.run(anyio.run, function)
