"""Waiting for an event loop where there is none, or where one is waiting already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_event_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_thread(run: Callable[[], T]) -> T:
    """Run in a thread of its own: here an event loop waits, and can wait for no other."""
    found: list[T] = []
    raised: list[BaseException] = []

    def target() -> None:
        try:
            found.append(run())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=target, name="dagexec langgraph", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]
