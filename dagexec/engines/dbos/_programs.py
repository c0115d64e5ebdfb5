"""Rounds of programs: interpreted again wherever they are decided, and compared with what was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from dbos import DBOS

from dagexec import DagexecError
from dagexec.engines._drive import Drive
from dagexec.engines.dbos._site import Site

# How many slices a program computes between two looks at the time and at what has ended; a slice
# takes a few milliseconds.
LOOK: Final = 50


async def caught_up(drive: Drive) -> Drive:
    """Bring the program of a round to where its log ends, and let the event loop turn meanwhile.

    Raises DagexecError where it makes other calls than those of the log.
    """
    for _ in drive.catch_up():
        await asyncio.sleep(0)
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
            msg = (
                f"the program makes another call of {now['tool']}() than before its process ended:"
                " another version of dagexec, or other tools than there"
            )
            raise DagexecError(msg)
