"""The sweeper: takes over runs whose process has ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from dagexec._errors import DagexecError, JournalError, RunOwned
from dagexec.journal._base import LEASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagexec._executor import Executor
    from dagexec._report import Report

_log: Final = logging.getLogger("dagexec")


async def sweep(
    executor: Executor,
    *,
    every: float | None = LEASE,
    on_report: Callable[[Report], object] | None = None,
) -> None:
    """Resume runs that have not ended and that nobody drives; again every so many seconds.

    With `every=None` it looks once and returns when the runs that it took over have ended;
    otherwise it goes on until it is cancelled. It may run in any number of processes: each run is
    taken over by one. Looking needs no slot of the executor and no thread of a pool, so that full
    ones cannot hold it up. Runs that wait for answers are left alone. A run that cannot be resumed
    is logged, once.

    Raises DagexecError if the executor has no journal, JournalError from the first look.
    """
    journal = executor.journal
    if journal is None:
        msg = "there is nothing to sweep: give the executor a journal, Executor(journal=)"
        raise DagexecError(msg)
    busy: set[str] = set()
    hopeless: set[str] = set()

    async def take_over(run_id: str) -> None:
        try:
            report = await executor.resume(run_id)
            if on_report is not None:
                on_report(report)
        except RunOwned:
            pass  # another was faster
        except DagexecError as error:
            hopeless.add(run_id)
            _log.warning("the run %r cannot be taken over: %s", run_id, error)
        finally:
            busy.discard(run_id)

    infos = await journal.runs()
    async with anyio.create_task_group() as group:
        while True:
            for info in infos:
                known = info.id in busy or info.id in hopeless
                if info.state == "stale" and info.kind in ("plan", "stream") and not known:
                    busy.add(info.id)
                    group.start_soon(take_over, info.id)
            if every is None:
                return
            await anyio.sleep(every)
            try:
                infos = await journal.runs()
            except JournalError as error:
                infos = []
                _log.warning("the sweeper cannot look: %s", error)
