"""The report of a run, of a round that has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from dagexec import DagexecError, Plan, Report
from dagexec.engines._drive import Drive
from dagexec.engines._front import Front

_log: Final = logging.getLogger("dagexec")


async def caught_up(drive: Drive) -> Drive:
    """Bring the program of a round to where its log ends, and let the event loop turn meanwhile.

    Raises DagexecError where it makes other calls than those of the log.
    """
    for _ in drive.catch_up():
        await asyncio.sleep(0)
    return drive


async def replayed(front: Front, spec: Mapping[str, Any], result: Mapping[str, Any]) -> Drive:
    """Return a round for its report.

    Where today's tools lead its program elsewhere, what was kept of its end tells what it came to.
    """
    try:
        return await caught_up(front.drive(spec, result))
    except DagexecError as error:
        if "end" not in result:
            raise
        from dagexec.programs import end_of

        _log.warning("the report of run %r says what was recorded: %s", spec["run_id"], error)
        drive = Drive(spec, result)
        drive.kept_end = end_of(result["end"])
        return drive


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
