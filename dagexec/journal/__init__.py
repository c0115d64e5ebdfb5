"""Journals: where runs are recorded, to be resumed after a crash and with people's answers.

executor = Executor(tools, journal=SqliteJournal("runs.db"))
report = await executor.run(plan, run_id="order-17")     # again after a crash: goes on
report = await executor.resume("order-17", {"pay": Approve()})
"""

from dagexec.journal._base import Journal, Record, RunInfo, Session
from dagexec.journal._codec import Types
from dagexec.journal._memory import MemoryJournal
from dagexec.journal._sqlite import SqliteJournal
from dagexec.journal._sweep import sweep

__all__ = [
    "Journal",
    "MemoryJournal",
    "Record",
    "RunInfo",
    "Session",
    "SqliteJournal",
    "Types",
    "sweep",
]
