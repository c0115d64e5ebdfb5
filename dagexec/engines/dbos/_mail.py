"""The answers that a round is given in its middle, and what it tells of itself for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from dbos import DBOS

from dagexec.engines._drive import Drive
from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._sizes import ALL, fitting
from dagexec.engines.dbos._workflows import answer_id, cancel_id, id_of


@final
class Mail:
    """The workflows that a round waits for: of its calls, of answers, of its cancelling."""

    def __init__(self, site: Site, spec: Mapping[str, Any]) -> None:
        """Start with none."""
        self._site = site
        self._spec = spec
        # Answers that were taken, and when, on the engine's clock.
        self._answers: tuple[float, dict[str, Any]] | None = None
        # What waits, as others can see it; None if that is not so any more.
        self._published: list[str] | None = []
        # How often a call was answered in this round: each time it is another workflow.
        self._times: dict[str, int] = {}
        # How many were handed over.
        self.count = 0
        # The workflows of the calls that are out, each with its call.
        self.calls: dict[str, str] = {}
        self.cancel = cancel_id(site.name, spec["run_id"], spec["round"])

    def out(self, drive: Drive) -> list[str]:
        """Take note of what is launched; return the ids of the workflows."""
        names = {self.id_of(out.name): out.name for out in drive.launches}
        self.calls |= names
        return [*names]

    def gone(self, drive: Drive) -> list[str]:
        """Forget the workflows whose calls are not out any more; return which."""
        if len(self.calls) == len(drive.out):
            return []
        gone = [each for each, call in self.calls.items() if call not in drive.out]
        for each in gone:
            del self.calls[each]
        return gone

    def id_of(self, call: str) -> str:
        """Return the id of the workflow of a call that was launched last."""
        spec = self._spec
        times = [self._times[call]] if call in self._times else []
        return id_of(self._site.name, spec["run_id"], spec["round"], call, *times)

    @property
    def watched(self) -> list[str]:
        """The workflows whose ends bring the next answers, and cancel the round."""
        return [self.cancel, self._next()]

    def _next(self) -> str:
        spec = self._spec
        return answer_id(self._site.name, spec["run_id"], spec["round"], self.count + 1)

    async def take(self, ended: list[str], now: float) -> None:
        """Take in answers, if they are among what has ended; what they are does not change."""
        if self._next() in ended:
            ((answers, _),) = await self._site.outputs([self._next()])
            self._answers = (now, answers or {})

    def hand_over(self, drive: Drive) -> bool:
        """Give the deciding half what was taken; return whether there was anything."""
        if self._answers is None or drive.machine.stopped:
            return False
        now, answers = self._answers
        self._answers = None
        self.count += 1
        waiting = {*drive.waiting}
        answers = {name: each for name, each in answers.items() if name in waiting}
        for name in answers:
            self._times[name] = self._times.get(name, 0) + 1
        drive.answered(now, answers)
        self._published = None
        return True

    async def publish(self, drive: Drive) -> None:
        """Let others see what waits for answers while the rest goes on."""
        waiting = drive.waiting
        if drive.ended or waiting == self._published:
            return
        self._published = waiting
        text = fitting(ALL, self._site.types.dumps(drive.result()))
        await DBOS.set_event_async("known", text)
