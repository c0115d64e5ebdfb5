"""Runs inside calls that people can answer: their ids, and how their plans are kept.

The tool runs again from its first line when the answer is there, and has to find its runs where
they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagexec._core.plan import Plan
from dagexec._runtime.settings import Settings
from dagexec._tools.context import NestedRuns, current_call
from dagexec._tools.order import order_conflicts
from dagexec._tools.tool import Tool
from dagexec.journal._answers import kept_call
from dagexec.journal._base import Record
from dagexec.journal._records import fingerprint, first_record


def id_of(nested: NestedRuns, plan: Plan | None, tools: Mapping[str, Tool[..., Any]]) -> str:
    """Return an id that is the same when the tool runs again with an answer, if the plan is."""
    what = "stream" if plan is None else fingerprint({"calls": _as_recorded(plan, tools)})
    number = nested.begun[what] = nested.begun.get(what, 0) + 1
    return f"{current_call().idempotency_key}.{what}.{number}"


def first_of(
    plan: Plan | None, tools: Mapping[str, Tool[..., Any]], settings: Settings, *, orders: bool
) -> Record:
    """Return the first record of such a run; `orders` says that tools may conflict."""
    if plan is not None and orders:
        plan = Plan(order_conflicts(plan.calls, tools))
    calls = None if plan is None else _as_recorded(plan, tools)
    return first_record(calls, settings.on_failure, barrier=settings.barrier)


def _as_recorded(plan: Plan, tools: Mapping[str, Tool[..., Any]]) -> list[dict[str, Any]]:
    """Return the calls of a plan as a journal keeps them, without what is secret."""
    return [kept_call(call, tools) for call in plan.calls]
