"""The report of a run, of a round that has ended."""

from __future__ import annotations

from dataclasses import replace

from dagexec import Plan, Report
from dagexec.engines._drive import Drive


def report_of(run_id: str, drive: Drive) -> Report:
    """Return the report of a round that was replayed, and whose program has caught up."""
    end = drive.program_end()
    calls = drive.machine.calls
    if end is not None:  # a log has no lines
        calls = (replace(call, line=end.lines.get(call.id)) for call in calls)
    return Report(
        Plan(calls),
        drive.machine.outcomes,
        run_id=run_id,
        elapsed=drive.elapsed,
        abandoned=drive.abandoned,
        blocked=drive.blocked,
        blocked_seconds=drive.blocked_seconds,
        blocked_by=drive.blocked_by,
        began=drive.began,
        program=end,
    )
