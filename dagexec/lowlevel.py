"""The scheduler and its events, for those who write an engine or a planner of their own.

Feed events to `Scheduler.receive`, do what the actions say. The theory is in the docstring of
`dagexec._scheduler`.
"""

from dagexec._context import Asked, current_id
from dagexec._notices import Progress, Retrying, Waiting
from dagexec._order import order_conflicts
from dagexec._refs import as_text, follow
from dagexec._scheduler import (
    Abort,
    Action,
    Added,
    Closed,
    Conclude,
    Event,
    Expired,
    Finish,
    Launch,
    Refused,
    Reopened,
    Scheduler,
    Settled,
    Started,
    State,
    Stop,
)
from dagexec._threads import run_in_loop, run_in_thread
from dagexec._tools import as_tools

__all__ = [
    "Abort",
    "Action",
    "Added",
    "Asked",
    "Closed",
    "Conclude",
    "Event",
    "Expired",
    "Finish",
    "Launch",
    "Progress",
    "Refused",
    "Reopened",
    "Retrying",
    "Scheduler",
    "Settled",
    "Started",
    "State",
    "Stop",
    "Waiting",
    "as_text",
    "as_tools",
    "current_id",
    "follow",
    "order_conflicts",
    "run_in_loop",
    "run_in_thread",
]
