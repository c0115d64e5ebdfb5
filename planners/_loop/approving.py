"""Answers of a person who is there while `solve` runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeAlias, cast

from anyio.to_thread import run_sync

from dagexec import Approve, DagexecError, Deny, Outcome, Report
from dagexec.lowlevel import kind_of

# Given the calls that wait by id, returns answers by id, or one answer for all of them.
Approver: TypeAlias = "Callable[[Mapping[str, Outcome]], Awaitable[Any] | Any]"

_WAITING = ("pending", "in_doubt")


def waiting_in(report: Report) -> dict[str, Outcome]:
    """Return the calls that wait for an answer themselves, by id."""
    return {
        name: outcome
        for name, outcome in report.items()
        if outcome.status in _WAITING and outcome.because is None
    }


async def answers_of(approve: Approver, waiting: Mapping[str, Outcome]) -> dict[str, Any]:
    """Ask; return the answers by call. A function that is not async is called in a thread.

    So it may wait for the keyboard while the event loop goes on. Raises what it raises, and
    DagexecError for what are no answers.
    """
    found: Any
    if iscoroutinefunction(approve):
        found = approve(waiting)
    else:
        function: Any = approve
        found = await run_sync(function, waiting, abandon_on_cancel=True)
    if isawaitable(found):
        found = await found
    if found is None:
        return {}
    if isinstance(found, Approve | Deny):
        return dict.fromkeys(waiting, found)
    if not isinstance(found, Mapping):
        raise DagexecError(
            f"approve() returns answers by call id, {{call_id: Approve()}}, or one Approve() or"
            f" Deny(reason) for all of {', '.join(waiting)}; not {kind_of(found)}"
        )
    answers = dict(cast("Mapping[str, Any]", found))
    if unknown := [name for name in answers if name not in waiting]:
        raise DagexecError(
            f"approve() answered {unknown[0]!r}, which does not wait; these do:"
            f" {', '.join(waiting)}"
        )
    return answers
