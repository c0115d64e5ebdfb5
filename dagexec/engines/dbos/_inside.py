"""What the engine takes from inside of DBOS, and does without where a DBOS has it no more.

Each is for speed alone. Without them calls go by the queues, which DBOS looks into from time to
time, and pauses are longer where the database is away: slower, and as safe. That is said once.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, final

from dagexec.engines.dbos._database import takes_it_later

_log: Final = logging.getLogger("dagexec")
# What was said to be missing; it stays so for the life of the process.
_said: Final[dict[str, None]] = {}
# Seconds that DBOS's threads pause at the longest between two tries to reach the database. By
# themselves it is up to a minute and a half, in which nothing goes on though it may be back.
_PAUSE: Final = 5.0
# And in an engine that has ended: not so short that a thread which only looks would be busy.
_ENDED: Final = 0.05


# What says in DBOS's module of its tables whether an error is worth another try.
_JUDGES: Final = "retriable_postgres_exception"


@final
class Tries:
    """The tries of DBOS's threads to reach a database that is away, and the pauses in between.

    It tries for ever, in threads that an interpreter waits for at its end. And it does not try
    again where the database is there and takes nothing, as in a failover or when its disk is full:
    the run would break off, and as that cannot be recorded either, nobody would know of it.
    """

    def __init__(self) -> None:
        """Leave DBOS as it is."""
        self._over = threading.Event()
        self._module: Any = None
        self._judges: Any = None

    def attach(self) -> None:
        """Take the place of the clock in DBOS's module of its tables."""
        module: Any = None
        with suppress(ImportError):
            module = import_module("dbos._sys_db")
        if getattr(module, "time", None) is time and hasattr(module, _JUDGES):
            self._module = module
            self._module.time = self
            self._judges = getattr(module, _JUDGES)
            setattr(module, _JUDGES, self.is_worth_another)
        else:
            _say("end its tries to reach the database", "a process waits for it at its end")

    def end(self) -> None:
        """Let each try be the last one, and pause no more."""
        tables: Any = getattr(_instance(), "_sys_db_field", None)
        if hasattr(tables, "_retry_connection_errors"):
            tables._retry_connection_errors = False  # noqa: SLF001
        self._over.set()

    def detach(self) -> None:
        """Give DBOS its clock back."""
        if self._module is not None:
            self._module.time = time
            setattr(self._module, _JUDGES, self._judges)

    def is_worth_another(self, error: Exception) -> bool:
        """Whether the database may take later what it did not take now."""
        return self._judges(error) or takes_it_later(getattr(error, "orig", None))

    def sleep(self, seconds: float) -> None:
        """Pause, but not for long."""
        if self._over.wait(min(seconds, _PAUSE)):
            time.sleep(min(seconds, _ENDED))

    def __getattr__(self, name: str) -> Any:
        """Return what else DBOS uses of the clock."""
        return getattr(time, name)


def active() -> Any:
    """Return what DBOS's queue threads count their running calls by, None if it cannot be had.

    DBOS has no other way to say that a place of a queue is taken.
    """
    found = getattr(_instance(), "_active_workflows_set", None)
    if hasattr(found, "count_for_queue") and hasattr(found, "add"):
        return found
    _say("begin a call without a queue")
    return None


def active_names() -> list[str] | None:
    """Return the workflows that DBOS counts as running here, None if it does not say.

    From before they begin until their ends are recorded, or they find that they were overtaken.
    """
    names = getattr(active(), "activeList", None)
    return None if names is None else [*names()]


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


def _say(what: str, then: str = "calls go by queues, more slowly") -> None:
    if what not in _said:
        _said[what] = None
        _log.warning("this DBOS has no way to %s: %s", what, then)
