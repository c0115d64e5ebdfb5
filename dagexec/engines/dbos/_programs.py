"""Rounds of programs: interpreted again wherever they are decided, and compared with what was."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dbos import DBOS

from dagexec import DagexecError
from dagexec.engines._drive import Drive
from dagexec.engines._front import Front
from dagexec.engines.dbos._site import Site
from dagexec.journal import Types

_log: Final = logging.getLogger("dagexec")

# How many slices a program computes between two looks at the time and at what has ended; a slice
# takes a few milliseconds. Calls that are under way wait for a look before they write anything.
_LOOK: Final = 50
_LOOK_AT_CALLS: Final = 10


def look_after(drive: Drive) -> int:
    """Return how many slices a program computes before the next look."""
    return _LOOK_AT_CALLS if drive.out else _LOOK


async def caught_up(drive: Drive) -> Drive:
    """Bring the program of a round to where its log ends, and let the event loop turn meanwhile.

    Raises DagexecError where it makes other calls than those of the log.
    """
    for _ in drive.catch_up():
        await asyncio.sleep(0)
    return drive


def kept_end(drive: Drive, types: Types) -> dict[str, Any]:
    """Return what is kept of the end of a program with the result of its round; {} of a plan."""
    if not drive.is_program:
        return {}
    from dagexec.programs import end_body

    return {"end": end_body(drive.program_end(), types.dumps)}


async def to_report(front: Front, spec: Mapping[str, Any], result: Mapping[str, Any]) -> Drive:
    """Return a round that has ended, for its report.

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


async def refuse_other_calls(site: Site, assigned: Sequence[Sequence[str]]) -> None:
    """Raise DagexecError if a program began other calls of these ids before its process ended."""
    wanted = {name: text for name, _, text in assigned}
    rows = await site.outside(DBOS.list_workflows_async(workflow_ids=[*wanted]))
    for row in rows:
        before, now = (
            {part: site.types.loads(text)[part] for part in ("tool", "args")}
            for text in (row.input["args"][0], wanted[row.workflow_id])
        )
        if before != now:
            raise other_calls(f" of {now['tool']}()")


def other_calls(which: str = "") -> DagexecError:
    """Return the error of a program that makes other calls than it made before."""
    msg = (
        f"the program makes another call{which} than before its process ended: another version of"
        " dagexec, or other tools than there"
    )
    return DagexecError(msg)
