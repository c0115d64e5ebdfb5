"""Journals: where runs are recorded, to be resumed after a crash and with people's answers.

executor = Executor(tools, journal=SqliteJournal("runs.db"))
report = await executor.run(plan, run_id="order-17")     # again after a crash: goes on
report = await executor.resume("order-17", {"pay": Approve()})

The way through the code: `_base` says what a journal is, `_backlog` what a run has on its way into
one, `_records` and `_codec` how a record is written. `_sqlite` is the face of the journal in a
file, `_writer` its thread and `_store` its tables; `_owner` and `_owned` say whose a run is.
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
