"""The scheduler and its events, for those who write an engine or a planner of their own.

Feed events to `Scheduler.receive`, do what the actions say. The theory is in the docstring of
`dagexec._scheduler`.
"""

from dagexec._notices import Retrying, Waiting
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
from dagexec._tools import as_tools

__all__ = [
    "Abort",
    "Action",
    "Added",
    "Closed",
    "Conclude",
    "Event",
    "Expired",
    "Finish",
    "Launch",
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
    "follow",
    "order_conflicts",
]
