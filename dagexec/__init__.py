"""dagexec: runs the tool calls of a model's answer as a graph of dependencies.

    report = await Executor(tools).run(plan)

A `Plan` comes from a planner (`planners.openai`, `planners.anthropic`) or is written by hand.
"""

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
from dagexec._core.refs import Ref, Template
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
    "Edit",
    "Effect",
    "Executor",
    "Failed",
    "InDoubt",
    "JournalError",
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
