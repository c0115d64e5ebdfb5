"""What the packages export, and what importing them costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import dagexec
import planners
from dagexec import lowlevel

DAGEXEC = [
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
LOWLEVEL = [
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
PLANNERS = [
    "CallBegan",
    "CallEnded",
    "CallStream",
    "Dialogue",
    "Planner",
    "Said",
    "Solution",
    "Turn",
    "solve",
    "solving",
]


@pytest.mark.parametrize(
    ("module", "names"),
    [(dagexec, DAGEXEC), (lowlevel, LOWLEVEL), (planners, PLANNERS)],
    ids=["dagexec", "lowlevel", "planners"],
)
def test_the_public_names(module, names):
    """Exactly these, sorted; a new one is a decision."""
    assert module.__all__ == names
    assert all(hasattr(module, name) for name in names)


def _loaded(statement):
    code = f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    return set(json.loads(out))


def test_dagexec_loads_no_model_and_no_planner():
    """Nor jsonschema and the command, which few programs need."""
    loaded = _loaded("import dagexec, dagexec.lowlevel")
    assert not loaded & {
        *("openai", "anthropic", "planners", "jsonschema", "trio", "dagexec.cli"),
        *("langgraph", "langchain_core"),
    }


@pytest.mark.parametrize("module", ["planners", "planners.openai", "planners.anthropic"])
def test_planners_load_no_sdk(module):
    """The SDKs are imported by `response()` alone, which makes their types."""
    assert not _loaded(f"import {module}") & {"openai", "anthropic"}


def test_the_command_loads_no_planner():
    """It finds planners by their entry points, when it reads a reply."""
    assert not _loaded("import dagexec.cli") & {"openai", "anthropic", "planners"}


def _cpu_seconds(*modules):
    """Return the least that each import took of the processor, tried in turns."""
    best = dict.fromkeys(modules, float("inf"))
    for _ in range(7):
        for each in modules:
            code = f"import time; began = time.process_time(); import {each}; "
            code += "print(time.process_time() - began)"
            out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            best[each] = min(best[each], float(out.stdout))
    return best.values()


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.timeout(400)  # fourteen interpreters, and machines that are slow
def test_importing_dagexec_is_light():
    """It takes at most half as long again as what it stands on."""
    own, below = _cpu_seconds("dagexec", "anyio, networkx, pydantic")
    assert own <= 1.5 * below
