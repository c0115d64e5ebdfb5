"""What the engine takes from inside of DBOS, and does without where a DBOS has it no more.

Each is for speed alone. Without them calls go by the queues, which DBOS looks into from time to
time: slower, and as safe. That is said once.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

_log: Final = logging.getLogger("dagexec")
# What was said to be missing; it stays so for the life of the process.
_said: Final[dict[str, None]] = {}


def active() -> Any:
    """Return what DBOS's queue threads count their running calls by, None if it cannot be had.

    DBOS has no other way to say that a place of a queue is taken.
    """
    found = getattr(_instance(), "_active_workflows_set", None)
    if hasattr(found, "count_for_queue") and hasattr(found, "add"):
        return found
    _say("begin a call without a queue")
    return None


def pauses() -> list[threading.Event]:
    """Return the events by which DBOS's threads pause, those of its queues among them."""
    events = getattr(_instance(), "background_thread_stop_events", None)
    found = [each for each in events or () if isinstance(each, threading.Event)]
    if not found:
        _say("wake a worker that waits for a call")
    return found


def everybodys_queue() -> str | None:
    """Return the name of DBOS's own queue, from which each process takes; None if it has none."""
    try:
        from dbos._utils import INTERNAL_QUEUE_NAME  # pyright: ignore[reportPrivateUsage]
    except ImportError:
        return None
    return INTERNAL_QUEUE_NAME


def _instance() -> Any:
    try:
        from dbos._dbos import _get_dbos_instance  # pyright: ignore[reportPrivateUsage]
    except ImportError:
        return None
    return _get_dbos_instance()


def _say(what: str) -> None:
    if what not in _said:
        _said[what] = None
        _log.warning("this DBOS has no way to %s: calls go by queues, more slowly", what)
