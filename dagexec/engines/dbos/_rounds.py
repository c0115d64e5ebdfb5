"""The workflow of a round: what the deciding half is told, and what it asks for, as steps.

It is a single chain of steps, so it does not matter that DBOS tells steps apart by position:
`begin`, then for each turn `stop` or `wait`. What a step returns is all that the deciding
half hears of: the time, and which calls have ended, in the order in which they stand in the plan.
Calls run here, as part of the round (`_here`), or are workflows of their own, found by ids made of
run, round and call, never by position; launching one that is there already does nothing.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, TypeAlias, final

from dbos import DBOS

from dagexec.engines._drive import Drive
from dagexec.engines._front import FIELDS, broken, died
from dagexec.engines._one import Assignment
from dagexec.engines._out import Out, unbegun
from dagexec.engines._report import caught_up
from dagexec.engines.dbos._calls import Calls
from dagexec.engines.dbos._ends import Waiter
from dagexec.engines.dbos._here import Here, Own
from dagexec.engines.dbos._mail import Mail
from dagexec.engines.dbos._programs import (
    kept_end,
    look_after,
    other_calls,
    refuse_other_calls,
)
from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._sizes import ALL, fitting
from dagexec.engines.dbos._workflows import id_of, is_new, refuse_fork, step
from dagexec.lowlevel import outcome_body

# Id, queue and text of a call that is to be run.
Assigned: TypeAlias = "tuple[str, str, str]"


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
        self.site = site
        self.queues = queues
        self.calls = calls
        self.here = here
        self._made = made

    async def drive(self, text: str) -> str:
        """Run a round to its end."""
        site, own = self.site, str(DBOS.workflow_id)
        spec = site.types.loads(text)
        refuse_fork(own, site.name, spec["run_id"], spec["round"])
        site.enter(own, lambda: site.news.tell_ended(spec["asks"], own))
        drive = await caught_up(self._made(spec, await self._before(spec)))
        past = None if is_new(own) else await site.outside(_turns(own))
        with site.ends.waiter() as waiter:
            async with Own(self.here, waiter) as calls:
                await _Round(self, spec, drive, waiter, calls).run(past)
        return fitting(ALL, site.types.dumps(drive.result() | kept_end(drive, site.types)))

    async def _before(self, spec: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result of the round before, which has ended and does not change any more."""
        if spec["round"] == 1:
            return None
        return await self.site.result(spec["run_id"], spec["round"] - 1)


@final
class _Round:
    """A round that is under way."""

    def __init__(
        self,
        rounds: Rounds,
        spec: Mapping[str, Any],
        drive: Drive,
        waiter: Waiter,
        own: Own,
    ) -> None:
        """Keep what it is about."""
        self._rounds = rounds
        self._site = rounds.site
        self._spec = spec
        self._drive = drive
        self._waiter = waiter
        self._own = own
        # The last turn that an earlier life of this workflow recorded; None where there was none,
        # or it is far behind.
        self._past: int | None = None
        self._mail = Mail(rounds.site, spec)
        self._turn = 0
        # Of each call, the marks of the writes and the looks that were begun in this round.
        self._marks: dict[str, list[str]] = {}
        # Of each call of a program, what it was asked for.
        self._asked: dict[str, str] = {}

    async def run(self, past: int | None) -> None:
        """Go on turn by turn, to the end; `past` is the turn that an earlier life of it came to."""
        self._past = past
        drive, spec = self._drive, self._spec
        begun = await step("begin", self._now)
        drive.begin(begun, spec["answers"], cancelled=bool(spec.get("cancelled")))
        while not drive.ended or drive.aborts:
            self._turn += 1
            await self._launch()
            if drive.aborts:
                drive.withdrawn(await self._stop())
            elif drive.computing and self._turn % look_after(drive):
                await sleep(0)
                drive.compute()
            elif not self._mail.hand_over(drive):
                await self._wait()
            await self._mail.publish(drive)

    async def _now(self) -> float:
        return self._site.database.now()

    @property
    def _replays(self) -> bool:
        """Whether this turn was recorded in an earlier life."""
        return self._past is not None and self._turn <= self._past

    # --------------------------------------------------------------------------------- coming back

    async def _wait(self) -> None:
        """Wait until something has happened, and tell the deciding half."""
        drive, mail, waiter = self._drive, self._mail, self._waiter
        for name in mail.gone(drive):
            waiter.forget([name])
        if drive.machine.stopped:
            waiter.forget(mail.watched)
        else:
            waiter.expect(mail.watched)
        news = await step(f"wait:{self._turn}", self._news, drive.until)
        self._own.recorded()
        self._own.raise_failed()
        self._go_past()
        for name, mark in news.get("begun", ()):
            self._marks.setdefault(name, []).append(mark)
        self._compare(news.get("asked", {}))
        calls = {each: mail.calls.pop(each) for each in news["ended"] if each in mail.calls}
        # Not a step: what a workflow left does not change any more.
        results = await self._results([*calls], news.get("texts", {}))
        drive.take(
            news["now"],
            [(calls[each], result_of(result, why)) for each, (result, why) in results],
            cancelled=mail.cancel in news["ended"],
        )
        await mail.take(news["ended"], news["now"])
        waiter.forget(news["ended"])

    async def _news(self, until: float | None) -> dict[str, Any]:
        news = self._own.told(await self._waiter.wait(until))
        if self._drive.is_program:
            names = [*news.get("texts", ()), *(name for name, _ in news.get("begun", ()))]
            news["asked"] = {each: self._asked[each] for each in names if each in self._asked}
        return news

    def _go_past(self) -> None:
        """Take note that a step was recorded: what is launched from now on never was before."""
        if not self._replays:
            self._past = None

    async def _results(
        self, ended: list[str], texts: Mapping[str, str]
    ) -> list[tuple[str, tuple[Any, str]]]:
        """Return what calls returned, in this order: what is known here, what the database has."""
        loads = self._site.types.loads
        known = {each: texts.get(each, self._waiter.text_of(each)) for each in ended}
        asked = [each for each, text in known.items() if text is None]
        found = dict(zip(asked, await self._site.outputs(asked), strict=True))
        for each, text in known.items():
            if text is not None:
                found[each] = (loads(text), "")
        return [(each, found[each]) for each in ended]

    # ----------------------------------------------------------------------------------- going out

    async def _launch(self) -> None:
        """Begin calls here, or put them into their queues.

        No step: that they were launched is known once a later step is recorded.
        """
        launches = self._drive.launches
        if launches:
            names = self._mail.out(self._drive)
            self._waiter.expect(names, new=self._past is None, there=True)
        if self._past is not None:
            await self._launch_again(launches)
            return
        others: list[Assigned] = []
        for out in launches:
            name, queue, text = self._assigned(out, len(launches))
            if self._rounds.here.takes(queue, self._drive.machine.call(out.name).tool):
                self._own.take(name, text)
            else:
                others.append((name, queue, text))
        if others:
            await self._site.outside(self._rounds.here.queued.put(others))

    async def _launch_again(self, launches: list[Out]) -> None:
        """Launch what an earlier life of this round may have launched before it ended.

        Behind its last step, that is all that is out and is no workflow: as one, so that DBOS
        counts how many workers it takes down.
        """
        drive, mail = self._drive, self._mail
        if drive.is_program and launches:
            again = [self._assigned(out, len(launches)) for out in launches]
            await refuse_other_calls(self._site, again)
        if self._replays:
            return
        out = {mail.id_of(each.name): each for each in drive.out.values()}
        there = {*await self._site.database.known([*out])}
        lost = {name: each for name, each in out.items() if name not in there}
        for name, each in lost.items():
            if each.aborted is not None:
                outcome = unbegun(drive.past.get(each.name), each.aborted)
                self._own.settle(name, {**broken(""), "outcome": outcome_body(outcome)})
        alive = [each for each in lost.values() if each.aborted is None]
        assigned = [self._assigned(each, len(alive)) for each in alive]
        await self._site.outside(self._rounds.here.queued.put(assigned))

    def _assigned(self, out: Out, count: int) -> Assigned:
        """Return id, queue and assignment of one of so many calls that are launched together."""
        drive, spec = self._drive, self._spec
        tool = drive.machine.call(out.name).tool
        work = Assignment(
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
        body = {name: getattr(work, name) for name in FIELDS} | {
            "round": spec["round"],
            # Who is told when it has ended, and whether it is worth a look for more then.
            "asks": self._site.news.own,
            "many": count > 1,
            "marks": self._marks.get(self._mail.id_of(out.name), []),
        }
        if "trace" in spec:
            body["trace"] = spec["trace"]
        name = self._mail.id_of(out.name)
        if drive.is_program:
            self._asked[name] = _asked(self._site.types.dumps([tool, out.args]))
        queue = self._rounds.queues.get(tool, self._rounds.queues[""])
        text = self._site.types.dumps(body)
        return name, queue, fitting(f"what call {out.name!r} is given", text)

    def _compare(self, asked: Mapping[str, str]) -> None:
        """Raise DagexecError if a program asked for another call before its process ended."""
        for name, before in asked.items():
            if self._asked.get(name) != before:
                call = self._mail.calls.get(name)
                tool = None if call is None else self._drive.machine.call(call).tool
                raise other_calls("" if tool is None else f" of {tool}()")

    async def _stop(self) -> list[str]:
        """Tell calls to stop; return those that nobody had begun.

        A deadline the workers know by themselves.
        """
        drive, spec, mail = self._drive, self._spec, self._mail
        ids = {mail.id_of(out.name): out.name for out in drive.aborts}
        cause = drive.aborts[0].aborted
        if cause is not None and cause.status == "cancelled":
            await DBOS.set_event_async("stop", {"because": cause.because})
            whole = id_of(self._site.name, spec["run_id"], spec["round"])
            self._rounds.calls.stop(whole, cause.because)
            self._own.stop(cause.because)
        taken = await step(f"stop:{self._turn}", self._withdraw, [*ids])
        self._go_past()
        return [name for each, name in ids.items() if each in taken]

    async def _withdraw(self, names: list[str]) -> list[str]:
        await self._own.given()
        held = [each for each in names if self._own.release(each)]
        return held + await self._site.database.withdraw(names)


async def _turns(own: str) -> int | None:
    """Return the last turn that was recorded in an earlier life of a round; None if it had none."""
    steps = await DBOS.list_workflow_steps_async(own)
    if not steps:
        return None
    kinds = [each["function_name"].partition(":") for each in steps]
    return max((int(turn) for kind, _, turn in kinds if kind in ("wait", "stop")), default=0)


def _asked(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def result_of(found: Any, why: str) -> dict[str, Any]:
    """Return the result of a call: what was found of it, or that it has none, and why."""
    if found:
        result: dict[str, Any] = found
        return result
    return died() if why.startswith("MAX_RECOVERY") else broken(why)
