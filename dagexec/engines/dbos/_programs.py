"""Rounds of programs: interpreted again wherever they are decided, and compared with what was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dbos import DBOS

from dagexec import DagexecError
from dagexec.engines._drive import Drive
from dagexec.engines.dbos._site import Site
from dagexec.journal import Types

# How many slices a program computes between two looks at the time and at what has ended; a slice
# takes a few milliseconds. Calls that are under way wait for a look before they write anything.
_LOOK: Final = 50
_LOOK_AT_CALLS: Final = 10


def look_after(drive: Drive) -> int:
    """Return how many slices a program computes before the next look."""
    return _LOOK_AT_CALLS if drive.out else _LOOK


def kept_end(drive: Drive, types: Types) -> dict[str, Any]:
    """Return what is kept of the end of a program with the result of its round; {} of a plan."""
    if not drive.is_program:
        return {}
    from dagexec.programs import end_body

    return {"end": end_body(drive.program_end(), types.dumps)}


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
