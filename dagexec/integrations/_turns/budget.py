"""How long a turn may still take, over all of the plans that it needs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import final

from dagexec import Executor


@final
@dataclass(slots=True)
class Budget:
    """The time of one turn: its limits count from when its first call came."""

    _began: float | None = None

    def left_for(self, executor: Executor) -> Executor | None:
        """Return the executor with what is left of the turn's time, None if nothing is."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        elapsed, times = now - self._began, executor.timeouts
        if elapsed == 0 or (times.turn is None and times.workflow is None):
            return executor
        left = {
            scope: None if limit is None else limit - elapsed
            for scope, limit in (("turn", times.turn), ("workflow", times.workflow))
        }
        if any(limit is not None and limit <= 0 for limit in left.values()):
            return None
        return executor.within(replace(times, **left))
