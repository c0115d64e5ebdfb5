"""The workflow of a round: what the deciding half is told, and what it asks for, as steps.

It is a single chain of steps, so it does not matter that DBOS tells steps apart by position:
`begin`, then for each turn `stop` or `wait`. What a step returns is all that the deciding
half hears of: the time, and which calls have ended, in the order in which they stand in the plan.
Calls are workflows of their own, found by ids made of run, round and call, never by position;
launching one that is there already does nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from dbos import DBOS

from dagexec.engines._drive import Drive
from dagexec.engines._front import FIELDS, broken, died
from dagexec.engines._one import Assignment
from dagexec.engines._out import Out
from dagexec.engines.dbos._calls import Calls
from dagexec.engines.dbos._ends import Waiter
from dagexec.engines.dbos._here import Here
from dagexec.engines.dbos._programs import LOOK, caught_up, kept_end, refuse_other_calls
from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._workflows import answer_id, cancel_id, id_of, is_new, step

# Calls that are begun, or put into their queues, at the same time, each on a connection.
_AT_ONCE: Final = 8


@final
class Rounds:
    """The rounds that this process drives."""

    def __init__(
        self,
        site: Site,
        queues: Mapping[str, str],
        calls: Calls,
        here: Here,
        made: Callable[[Mapping[str, Any], Mapping[str, Any] | None], Drive],
    ) -> None:
        """Keep the names of the queues, by tool; under "" the one of all other tools.

        `made` makes what drives a round.
        """
        self._made = made
        self._site = site
        self._queues = queues
        self._calls = calls
        self._here = here

    async def drive(self, text: str) -> str:
        """Run a round to its end."""
        site = self._site
        own = str(DBOS.workflow_id)
        site.enter(own)
        spec = site.types.loads(text)
        drive = await caught_up(self._made(spec, await self._before(spec)))
        cancelled = bool(spec.get("cancelled"))
        drive.begin(await step("begin", self._now), spec["answers"], cancelled=cancelled)
        mail = _Mail(site, spec)
        past = None if is_new(own) else await site.outside(_turns(own))
        with site.ends.waiter() as waiter:
            turn = 0
            while not drive.ended or drive.aborts:
                turn += 1
                if drive.launches:
                    waiter.expect(mail.out(drive), new=past is None)
                    await self._launch(spec, drive, mail, turn, past)
                if drive.aborts:
                    drive.withdrawn(await self._stop(spec, drive, turn, mail))
                elif drive.computing and turn % LOOK:
                    await asyncio.sleep(0)
                    drive.compute()
                elif not mail.hand_over(drive):
                    await self._turn(drive, turn, mail, waiter)
                await mail.publish(drive)
        return site.types.dumps(drive.result() | kept_end(drive, site.types))

    async def _now(self) -> float:
        return self._site.database.now()

    async def _before(self, spec: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result of the round before, which has ended and does not change any more."""
        if spec["round"] == 1:
            return None
        return await self._site.result(spec["run_id"], spec["round"] - 1)

    async def _turn(self, drive: Drive, turn: int, mail: _Mail, waiter: Waiter) -> None:
        """Wait until something has happened, and tell the deciding half."""
        for name in mail.gone(drive):
            waiter.forget([name])
        if drive.machine.stopped:
            waiter.forget(mail.watched)
        else:
            waiter.expect(mail.watched)
        news = await step(f"wait:{turn}", waiter.wait, drive.until)
        calls = {each: mail.calls.pop(each) for each in news["ended"] if each in mail.calls}
        # Not a step: what a call left does not change any more.
        results = await self._results([*calls], waiter)
        drive.take(
            news["now"],
            [(calls[each], result or _broken(why)) for each, (result, why) in results],
            cancelled=mail.cancel in news["ended"],
        )
        await mail.take(news["ended"], news["now"])
        waiter.forget(news["ended"])

    async def _results(self, ended: list[str], waiter: Waiter) -> list[tuple[str, tuple[Any, str]]]:
        """Return what calls returned, in this order: what is known here, what the database has."""
        loads = self._site.types.loads
        known = {each: waiter.text_of(each) for each in ended}
        asked = [each for each, text in known.items() if text is None]
        found = dict(zip(asked, await self._site.outputs(asked), strict=True))
        for each, text in known.items():
            if text is not None:
                found[each] = (loads(text), "")
        return [(each, found[each]) for each in ended]

    # ------------------------------------------------------------------------------ out and back in

    def _assigned(self, spec: Mapping[str, Any], drive: Drive, mail: _Mail) -> list[list[str]]:
        """Return id, queue and assignment of the calls to launch."""
        assigned: list[list[str]] = []
        # Who is told when it has ended, and whether it is worth a look for more then.
        news = {"asks": self._site.news.own, "many": len(drive.launches) > 1}
        for out in drive.launches:
            tool = drive.machine.call(out.name).tool
            work = self._assignment(spec, drive, out, tool)
            body = {name: getattr(work, name) for name in FIELDS} | {"round": spec["round"], **news}
            queue = self._queues.get(tool, self._queues[""])
            assigned.append([mail.id_of(out.name), queue, self._site.types.dumps(body)])
        return assigned

    @staticmethod
    def _assignment(spec: Mapping[str, Any], drive: Drive, out: Out, tool: str) -> Assignment:
        return Assignment(
            run=spec["run_id"],
            call=out.name,
            tool=tool,
            args=out.args,
            timeout=spec["call"],
            until=out.until,
            scope=out.scope,
            zero=drive.zero,
            ready=out.ready,
            past=drive.of(out.name).to_dict(),
        )

    async def _launch(
        self, spec: Mapping[str, Any], drive: Drive, mail: _Mail, turn: int, past: int | None
    ) -> None:
        """Begin calls, or put them into their queues; those that are there stay as they are.

        No step: that they were launched is known once a later step is recorded. `past` is the turn
        that an earlier life of this workflow came to.
        """
        if not spec.get("brief"):
            await step(f"launch:{turn}", self._put_all, self._assigned(spec, drive, mail))
            return
        if past is not None and drive.is_program:
            await refuse_other_calls(self._site, self._assigned(spec, drive, mail))
        if past is not None and turn <= past:
            return
        assigned = self._assigned(spec, drive, mail)
        if past is not None:
            there = {*await self._site.database.known([name for name, _, _ in assigned])}
            assigned = [each for each in assigned if each[0] not in there]
        await self._put_all(assigned)

    async def _put_all(self, assigned: list[list[str]]) -> int:
        room = asyncio.Semaphore(_AT_ONCE)
        queued = Counter[str]()

        async def put(name: str, queue: str, text: str) -> None:
            async with room:
                queued[queue] += await self._here.put(name, queue, text)

        async def put_all() -> None:
            async with asyncio.TaskGroup() as group:
                for name, queue, text in assigned:
                    group.create_task(put(name, queue, text))

        await self._site.outside(put_all())
        for queue, count in (+queued).items():
            self._site.news.tell_work(queue, count, self._here.worker_places)
        return len(assigned)

    async def _stop(
        self, spec: Mapping[str, Any], drive: Drive, turn: int, mail: _Mail
    ) -> list[str]:
        """Tell calls to stop; return those that no worker had begun.

        A deadline the workers know by themselves.
        """
        ids = {mail.id_of(out.name): out.name for out in drive.aborts}
        cause = drive.aborts[0].aborted
        if cause is not None and cause.status == "cancelled":
            await DBOS.set_event_async("stop", {"because": cause.because})
            self._calls.stop(id_of(self._site.name, spec["run_id"], spec["round"]), cause.because)
        taken = await step(f"stop:{turn}", self._site.database.withdraw, [*ids])
        return [name for each, name in ids.items() if each in taken]


@final
class _Mail:
    """The answers that a round is given in its middle, and what it tells of itself for them.

    Rounds of an older dagexec have no `mail` in their spec: they take answers after their end only,
    and their steps stay as they were.
    """

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
        return [self.cancel, self._next()] if self._spec.get("mail") else [self.cancel]

    def _next(self) -> str:
        spec = self._spec
        return answer_id(self._site.name, spec["run_id"], spec["round"], self.count + 1)

    async def take(self, ended: list[str], now: float) -> None:
        """Take in answers, if they are among what has ended; what they are does not change."""
        if self._spec.get("mail") and self._next() in ended:
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
        if not self._spec.get("mail") or drive.ended or waiting == self._published:
            return
        self._published = waiting
        await DBOS.set_event_async("known", self._site.types.dumps(drive.result()))


async def _turns(own: str) -> int:
    """Return the last turn of a round that was recorded in an earlier life of it."""
    steps = await DBOS.list_workflow_steps_async(own)
    kinds = [each["function_name"].partition(":") for each in steps]
    return max((int(turn) for kind, _, turn in kinds if kind in ("wait", "stop")), default=0)


def _broken(why: str) -> dict[str, Any]:
    """Return the result of a call that has none."""
    return died() if why.startswith("MAX_RECOVERY") else broken(why)
