"""dagexec: runs the tool calls of a model's answer as a graph of dependencies.

    report = await Executor(tools).run(plan)

A `Plan` comes from a planner (`planners.openai`, `planners.anthropic`) or is written by hand.

The way through the code, from below; each package imports what is named before it, and its own
docstring says which file to read first. `_pictures` draws plain values, `_errors` has all errors.
`_core` holds plans, outcomes and the scheduler, which decides and never waits; `_concurrency`
threads and slots. `_tools` makes functions callable by a model. `journal`, `limits`, `processes`
and `testing` each stand alone on these. `_runtime` drives the scheduler with anyio: it is what
`Executor` and `Run` are made of. `lowlevel` hands the machine to other drivers, `doctor` finds out
why a process hangs. `engines` and `integrations` join dagexec to other libraries, and `cli` is the
command. Begin with `_core/scheduler.py`, then `_runtime/state.py`.
"""

from dagexec._core.media import Media
from dagexec._core.outcomes import (
    Approve,
    Cancelled,
    Deny,
    Done,
    Edit,
    Failed,
    InDoubt,
    Outcome,
    Pending,
    Skipped,
    TimedOut,
)
from dagexec._core.plan import Call, Plan
from dagexec._core.refs import Each, Ref, Template
from dagexec._core.report import Report
from dagexec._errors import (
    ArgumentError,
    BadReference,
    CallCancelled,
    CallError,
    CallTimeout,
    DagexecError,
    Denied,
    JournalError,
    MissingExtra,
    PlanError,
    Problem,
    RunOwned,
    ToolDefinitionError,
)
from dagexec._runtime.executor import Executor
from dagexec._runtime.run import Run
from dagexec._runtime.settings import Timeouts
from dagexec._tools.context import CallContext, ask, current_call
from dagexec._tools.tool import Effect, Tool, tool

__all__ = [
    "Approve",
    "ArgumentError",
    "BadReference",
    "Call",
    "CallCancelled",
    "CallContext",
    "CallError",
    "CallTimeout",
    "Cancelled",
    "DagexecError",
    "Denied",
    "Deny",
    "Done",
    "Each",
    "Edit",
    "Effect",
    "Executor",
    "Failed",
    "InDoubt",
    "JournalError",
    "Media",
    "MissingExtra",
    "Outcome",
    "Pending",
    "Plan",
    "PlanError",
    "Problem",
    "Ref",
    "Report",
    "Run",
    "RunOwned",
    "Skipped",
    "Template",
    "TimedOut",
    "Timeouts",
    "Tool",
    "ToolDefinitionError",
    "ask",
    "current_call",
    "tool",
]

__version__ = "0.1.0"
