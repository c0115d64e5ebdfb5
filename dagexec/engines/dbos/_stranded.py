"""What is this process's in the database and does not run in it: others get it, after a pause.

A workflow whose task ended, and whose end could not be recorded, stays that of its process. As long
as this lives nobody else takes it up, and who waits for it would wait for as long. The same holds
for one that was claimed and never began. So a process looks for them, and gives them back. They go
on as those of a dead worker do: nothing that was recorded is done again, and a write that had begun
is in doubt.

The one that began it goes on unheard if it only seemed not to run: DBOS takes records of a workflow
from who claimed it last.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

import psycopg

from dagexec.engines.dbos._causes import cause_of, refusal
from dagexec.engines.dbos._database import Database

_log: Final = logging.getLogger("dagexec")

# Seconds between the first and the second look at one that ended here, and at one that nobody heard
# of: it may be about to begin, on a busy machine with many seconds between its claim and its task.
# What is claimed together begins one by one, so that each that begins gives the others as long.
_SOON: Final = 0.3
_LATE: Final = 10.0
# Seconds that one look can add to that: while the process hung, nothing could begin in it.
_STEP: Final = 1.0
# Seconds between two looks while none is known.
_EVERY: Final = 5.0
# How often one may be interrupted here until those who wait for it are told.
_OFTEN: Final = 3
# Names of which is kept how often they were interrupted here: many go on elsewhere.
_KNOWN: Final = 1000


@final
@dataclass(slots=True)
class _Broken:
    """A workflow whose task ended here without a result: why, and whether the database said no."""

    why: str
    refused: bool
    # Whether those who wait for it heard that it cannot go on: when it can, that is over.
    told: bool = False
    # What the log has of it: each look finds it again.
    logged: str = ""


@final
class Stranded:
    """The workflows that this process has and does not run."""

    def __init__(
        self, database: Database, runs: Callable[[], Collection[str]], queue: Callable[[], str]
    ) -> None:
        """Start with none; `runs` are the names of those that run here.

        `queue` is where one goes on that belongs into no queue of its own.
        """
        self._database = database
        self._runs = runs
        self._queue = queue
        self._broken: dict[str, _Broken] = {}
        # How often each was interrupted here, until it has returned.
        self._times: dict[str, int] = {}
        # By name and claim, the seconds for which they were seen.
        self._seen: dict[tuple[str, str], float] = {}
        # By claim, how many there were.
        self._claimed: Counter[str] = Counter()
        self._looked = 0.0
        self._next = 0.0
        self._listening: dict[str, list[Callable[[str], None]]] = {}

    def returned(self, name: str) -> None:
        """Take note that one has returned, and that this was recorded."""
        self._times.pop(name, None)

    def broke(self, name: str, error: BaseException | None) -> None:
        """Take note that the task of one ended otherwise; None for one that was cancelled.

        Mostly that was recorded, or the workflow is somebody else's by now.
        """
        if error is None:
            self._broken[name] = _Broken("it was cancelled", refused=False)
        else:
            self._broken[name] = _Broken(cause_of(error), refusal(error) is not None)

    @contextmanager
    def telling(self, name: str, tell: Callable[[str], None]) -> Generator[None]:
        """Tell somebody when one is interrupted and may not go on soon: why."""
        self._listening.setdefault(name, []).append(tell)
        try:
            yield
        finally:
            self._listening[name].remove(tell)
            if not self._listening[name]:
                del self._listening[name]

    async def look(self) -> None:
        """Give back what was seen before, and is still this process's, and does not run."""
        if not self._broken and not self._seen and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        owned = await self._database.owned()
        now, runs = time.monotonic(), {*self._runs()}
        stranded = [(name, claim) for name, claim in owned if name not in runs]
        self._take_note(stranded, now)
        names = {name for name, _ in stranded}
        for name in self._broken.keys() - names:
            del self._broken[name]
            self._times.pop(name, None)
        for name, claim in stranded:
            patience = _SOON if name in self._broken else _LATE
            if self._seen[name, claim] >= patience:
                await self._give_back(name, claim)

    def _take_note(self, stranded: list[tuple[str, str]], now: float) -> None:
        passed, self._looked = min(now - self._looked, _STEP), now
        claimed = Counter(claim for _, claim in stranded)
        begins = {claim for claim, count in self._claimed.items() if claimed[claim] < count}
        before, self._seen, self._claimed = self._seen, {}, claimed
        for name, claim in stranded:
            anew = claim in begins and name not in self._broken
            seconds = None if anew else before.get((name, claim))
            self._seen[name, claim] = 0.0 if seconds is None else seconds + passed

    async def _give_back(self, name: str, claim: str) -> None:
        broken = self._broken.get(name) or _Broken("it did not begin", refused=False)
        try:
            pause = await self._database.give_back(name, claim, self._queue())
        except psycopg.Error as error:
            why = f"{broken.why}; it cannot go on yet: {cause_of(error)}"
            broken.told = True
            self._tell(name, why)
            self._broken[name] = broken
            if why != broken.logged:
                broken.logged = why
                _log.warning("%s was interrupted: %s", name, why)
            return
        if pause is None:  # it is not ours any more, or in use just now: the next look knows
            return
        del self._seen[name, claim]
        self._claimed[claim] -= 1
        self._broken.pop(name, None)
        count = self._times[name] = self._times.pop(name, 0) + 1
        if len(self._times) > _KNOWN:
            del self._times[next(iter(self._times))]
        _log.warning("%s was interrupted, and goes on in %.1f s: %s", name, pause, broken.why)
        if (broken.refused and not broken.told) or count >= _OFTEN:
            self._tell(name, broken.why)

    def _tell(self, name: str, why: str) -> None:
        for tell in [*self._listening.get(name, ())]:
            tell(why)
