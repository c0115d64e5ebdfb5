"""The scheduler and its events, for those who write an engine or a planner of their own.

An executor is one driver of a machine that decides and never waits. Feed events to
`Scheduler.receive`, do what the actions say. The theory is in the docstring of
`dagexec._core.scheduler`.

An engine has two halves. The one that decides feeds the scheduler, puts values in the place of
references (`resolved`), and keeps events, outcomes and answers as JSON (`to_record`, `to_event`,
`outcome_body`, `outcome_of`, `answer_entry`). The other runs one call, wherever that is: an
`Executor.within(timeouts, journal=...)` over a plan of this one call, with a journal of the
engine's own (`dagexec.journal.Journal`) that tells what the call had been through. Timeouts,
retries, approvals, questions and doubt are then what they are everywhere. `dagexec.engines` has
both halves, and `dagexec.engines.dbos` is the first engine made of them.
"""

from __future__ import annotations

from typing import Any

from dagexec._concurrency.signals import Asked
from dagexec._concurrency.threads import run_in_loop, run_in_thread
from dagexec._core.braces import Braces
from dagexec._core.earlier_calls import (
    MARKS,
    CannotRun,
    EarlierCalls,
    number_of,
    value_at,
    without_faults,
)
from dagexec._core.events import Abandoned, Blocked, Progress, Retrying, Waiting
from dagexec._core.identical import Identical, shared, speaks_for_all
from dagexec._core.json_form import as_text
from dagexec._core.media import as_media, parts_of
from dagexec._core.names import checked_id, kind_of
from dagexec._core.nested import shown_question
from dagexec._core.outcome_json import outcome_body
from dagexec._core.paths import follow
from dagexec._core.sameness import frozen
from dagexec._core.scheduler import (
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
    Spread,
    Started,
    State,
    Stop,
)
from dagexec._core.told import MAYBE, SCOPES, too_late
from dagexec._core.wrong_names import explained
from dagexec._errors import text_of
from dagexec._tools import schemas
from dagexec._tools.checking import resolved, spread_of
from dagexec._tools.context import current_id
from dagexec._tools.order import order_conflicts
from dagexec._tools.tool import Tool, as_tools
from dagexec._tools.widening import INSTRUCTIONS, widened
from dagexec.journal._answers import (
    answer_entry,
    check_answer,
    inner_secrets,
    repeats,
    secret_call,
    written_secrets,
)
from dagexec.journal._records import outcome_of, same_call, to_event, to_record
from dagexec.limits import Limiter

__all__ = [
    "INSTRUCTIONS",
    "MARKS",
    "MAYBE",
    "SCOPES",
    "Abandoned",
    "Abort",
    "Action",
    "Added",
    "Asked",
    "Blocked",
    "Braces",
    "CannotRun",
    "Closed",
    "Conclude",
    "EarlierCalls",
    "Event",
    "Expired",
    "Finish",
    "Identical",
    "Launch",
    "Progress",
    "Refused",
    "Reopened",
    "Retrying",
    "Scheduler",
    "Settled",
    "Spread",
    "Started",
    "State",
    "Stop",
    "Waiting",
    "answer_entry",
    "as_media",
    "as_text",
    "as_tools",
    "check_answer",
    "checked_id",
    "current_id",
    "explained",
    "follow",
    "frozen",
    "inner_secrets",
    "kind_of",
    "limiters_of",
    "number_of",
    "order_conflicts",
    "outcome_body",
    "outcome_of",
    "parts_of",
    "repeats",
    "resolved",
    "run_in_loop",
    "run_in_thread",
    "same_call",
    "schemas",
    "secret_call",
    "shared",
    "shown_question",
    "speaks_for_all",
    "spread_of",
    "text_of",
    "to_event",
    "to_record",
    "too_late",
    "value_at",
    "widened",
    "without_faults",
    "written_secrets",
]


def limiters_of(tool: Tool[..., Any]) -> list[Limiter]:
    """Return the limiters of a tool, those that it names too; raise DagexecError."""
    from dagexec.limits._tool_limits import (
        limiters_of as found,  # with dagexec.limits, which few need
    )

    return found(tool)
