"""What a journal is: the protocol, and what is recorded.

A run is a list of records, in the order in which they were made: the plan, then what the scheduler
was told (`started` is the intent of a call, `settled` its outcome), the answers of people, and
`end`. Records are found by run and call; their order is that of the events, which is an input of
the scheduler like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, final

from dagexec._core.names import some

_NAMED: Final = 5  # runs in a message

# Seconds for which the owner of a run is believed to be alive without having been heard of.
LEASE: Final = 15.0

# Hears that a record is durable, or what kept it from being so.
OnDurable: TypeAlias = Callable[[Exception | None], None]


@final
@dataclass(frozen=True, slots=True)
class Record:
    """One record of a run.

    `kind` is `plan stream added closed started void settled expired stop answer reopened end`, or
    `batch` before as many as `body` says that belong together, or a kind of one's own in a run
    without a plan; `call` the id of the call that it is about. `body` holds JSON, and values of
    types that the journal knows.
    """

    kind: str
    call: str | None = None
    body: Any = None


@final
@dataclass(frozen=True, slots=True)
class RunInfo:
    """One line about a run.

    `state` is `running` (its owner was heard of), `stale` (it has not ended and nobody drives it),
    `waiting` (for answers) or `done`. `created` and `updated` are seconds since the epoch; `owner`
    says who drives it. `waiting_for` names the calls that need an answer.
    """

    id: str
    state: str
    kind: str
    created: float
    updated: float
    summary: str = ""
    owner: str | None = None
    waiting_for: tuple[str, ...] = field(default=())


class Session(Protocol):
    """A run that this process owns, to read what was recorded and to add to it."""

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    @property
    def records(self) -> Sequence[Record]:
        """What had been recorded when the run was claimed, in order."""
        ...

    def append(self, record: Record, done: OnDurable) -> None:
        """Add a record, behind those added before.

        Does not wait. `done` is called in the same event loop once the record is durable, with
        None, or with the error that kept it from being so; in the order of the records.
        """
        ...

    async def release(self, state: str, summary: str = "", waiting: Sequence[str] = ()) -> None:
        """Give the run up, in `state`: `open` (to be continued), `waiting` or `done`."""
        ...


class Journal(Protocol):
    """Where runs are recorded. A journal may be shared by executors, threads and processes."""

    async def claim(self, run_id: str, first: Record | None = None) -> Session:
        """Become the one owner of a run; with `first`, begin it if there is no such run.

        Raises RunOwned while another owner is alive, JournalError for an unknown run without
        `first` and for a journal that cannot be read.
        """
        ...

    async def read(self, run_id: str) -> Sequence[Record]:
        """Return the records of a run without owning it; raise JournalError if it is unknown."""
        ...

    async def runs(self) -> Sequence[RunInfo]:
        """Return a line about each run, oldest first."""
        ...


# The kinds of runs that an executor can resume; a journal may hold others.
RUNS: Final = ("plan", "stream")


async def other_kind(journal: Journal, run_id: str, kind: str) -> tuple[str, str]:
    """Return the text of the error about what is no run of calls, and the state to leave it in."""
    infos = [info for info in await journal.runs() if info.id.startswith(f"{run_id}.")]
    infos = [info for info in infos if info.kind in RUNS]
    names = ", ".join(repr(info.id) for info in infos)
    states = {info.state for info in infos}
    state = "waiting" if "waiting" in states else "open" if states - {"done"} else "done"
    return f"{run_id!r} is a {kind} and no run; its runs: {names or 'none yet'}", state


def unknown_run(run_id: str, where: str, *, known: Sequence[str] = ()) -> str:
    """Return the text of the error about a run that is not there."""
    from difflib import get_close_matches

    close = get_close_matches(run_id, known[:1000], n=1)
    if close:
        hint = f"; did you mean {close[0]!r}?"
    else:
        hint = f"; it knows {some([repr(each) for each in known], _NAMED)}" if known else ""
    return f"{where} knows no run {run_id!r}{hint}"
