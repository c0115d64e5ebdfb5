"""The sweeper: takes over runs whose process has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio

from dagexec._core.report import Report
from dagexec._errors import DagexecError, JournalError, RunOwned
from dagexec.journal._base import LEASE, RUNS, Journal, RunInfo

_log: Final = logging.getLogger("dagexec")


class Resumes(Protocol):
    """What resumes runs: an `Executor`."""

    @property
    def journal(self) -> Journal | None:
        """Where the runs are recorded."""
        ...

    async def resume(self, run_id: str) -> Report:
        """Continue a run and return its report."""
        ...


async def sweep(
    executor: Resumes,
    *,
    every: float | None = LEASE,
    on_report: Callable[[Report], object] = bool,
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
    known: set[str] = set()  # under way, or found to be hopeless

    async def take_over(run_id: str) -> None:
        try:
            report = await executor.resume(run_id)
            on_report(report)
        except RunOwned:
            pass  # another was faster
        except DagexecError as error:
            _log.warning("the run %r cannot be taken over: %s", run_id, error)
            return
        known.discard(run_id)

    infos = await journal.runs()
    async with anyio.create_task_group() as group:
        while True:
            for run_id in _stale(infos, known):
                known.add(run_id)
                group.start_soon(take_over, run_id)
            if every is None:
                return
            await anyio.sleep(every)
            infos = await _look(journal)


def _stale(infos: Sequence[RunInfo], known: set[str]) -> list[str]:
    stale = [info.id for info in infos if info.state == "stale" and info.kind in RUNS]
    return [run_id for run_id in stale if run_id not in known]


async def _look(journal: Journal) -> Sequence[RunInfo]:
    try:
        return await journal.runs()
    except JournalError as error:
        _log.warning("the sweeper cannot look: %s", error)
        return ()
