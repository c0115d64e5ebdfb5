"""What is known of a round now, by what it has recorded of itself: for a report in its middle.

Told what its steps returned, the deciding half stands where it stood when the last one was
recorded. Nothing is begun and nothing waited for here.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

from dbos import DBOS

from dagexec.engines._drive import Drive
from dagexec.engines._report import caught_up
from dagexec.engines.dbos._mail import Mail
from dagexec.engines.dbos._programs import look_after
from dagexec.engines.dbos._rounds import result_of
from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._workflows import id_of


async def seen(
    site: Site,
    made: Callable[[Mapping[str, Any], Mapping[str, Any] | None], Drive],
    spec: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a round that is under way has come to, as the result of one in its middle."""
    number = spec["round"]
    before = None if number == 1 else await site.result(spec["run_id"], number - 1)
    drive = await caught_up(made(spec, before))
    name = id_of(site.name, spec["run_id"], number)
    steps = await site.outside(DBOS.list_workflow_steps_async(name))
    kinds = ("begin", "wait", "stop")
    told = [each for each in steps if each["function_name"].partition(":")[0] in kinds]
    await _Seen(site, spec, drive, iter([each["output"] for each in told])).go_on()
    return drive.result()


@final
class _Seen:
    """A round, as far as its steps say."""

    def __init__(
        self, site: Site, spec: Mapping[str, Any], drive: Drive, told: Iterator[Any]
    ) -> None:
        self._site = site
        self._spec = spec
        self._drive = drive
        self._told = told
        self._mail = Mail(site, spec)

    async def go_on(self) -> None:
        """Go on turn by turn, as a round does, until nothing more was recorded."""
        drive, spec, mail = self._drive, self._spec, self._mail
        begun = next(self._told, None)
        if begun is None:
            return
        drive.begin(begun, spec["answers"], cancelled=bool(spec.get("cancelled")))
        turn = 0
        while not drive.ended or drive.aborts:
            turn += 1
            mail.out(drive)
            if drive.computing and not drive.aborts and turn % look_after(drive):
                await sleep(0)
                drive.compute()
            elif drive.aborts or not mail.hand_over(drive):
                told = next(self._told, None)
                if told is None:
                    return
                await self._take(told)

    async def _take(self, told: Any) -> None:
        drive, mail = self._drive, self._mail
        if drive.aborts:
            names = {mail.id_of(out.name): out.name for out in drive.aborts}
            drive.withdrawn([name for each, name in names.items() if each in told])
            return
        mail.gone(drive)
        calls = {each: mail.calls.pop(each) for each in told["ended"] if each in mail.calls}
        texts = told.get("texts", {})
        asked = [each for each in calls if each not in texts]
        found = dict(zip(asked, await self._site.outputs(asked), strict=True))
        loads = self._site.types.loads
        results = [
            (call, loads(texts[each]) if each in texts else result_of(*found[each]))
            for each, call in calls.items()
        ]
        drive.take(told["now"], results, cancelled=mail.cancel in told["ended"])
        await mail.take(told["ended"], told["now"])
