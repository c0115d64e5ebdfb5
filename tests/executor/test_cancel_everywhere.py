"""A caller that is cancelled at any step, by a scope or natively, whatever tools do with it."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from functools import partial
from itertools import product

import anyio
import pytest

from dagexec import Call, Executor, Ref, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.limits import Limiter
from dagexec.testing import run_virtual

CANCELLED = BaseException
SETTINGS = {
    "usual": {},
    "one": {"concurrency": 1},
    "debug": {"concurrency": 0},
    "layers": {"timeouts": Timeouts(call=50, layer=40, turn=60)},
    "journal": {"journal": "memory"},
}
CALLS = [
    Call("a", "obeys"),
    Call("b", "swallows"),
    Call("c", "slow"),
    Call("d", "raises", {"x": Ref("a")}),
    Call("e", "nests", {"x": Ref("a")}),
    Call("f", "obeys", {"x": Ref("b"), "y": Ref("c")}),
    Call("g", "limited", {"x": Ref("d", default=None)}),
]
# What a tool may hold the end of its run up: it cleans up for so long, and no longer.
CLEAN_UP = 0.25


class World:
    """Tools of each kind, an executor of them, and what runs."""

    def __init__(self, settings):
        self.running = 0
        self.limiter = Limiter("everywhere", in_flight=1)
        settings = dict(settings)
        if settings.get("journal"):
            settings["journal"] = MemoryJournal()
        self.executor = Executor(self.tools(), **settings)

    def tools(self):
        """Return tools that obey, swallow, clean up slowly, raise in clean-up, run nested plans."""

        def counted(function):
            async def run(x=None, y=None):
                self.running += 1
                try:
                    return await function()
                finally:
                    self.running -= 1

            return tool(run, name=function.__name__, effect="read")

        async def obeys():
            for _ in range(2):
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.1)

        async def swallows():
            for _ in range(3):
                with suppress(CANCELLED):
                    await anyio.sleep(0.1)
            return 1

        async def slow():
            try:
                await anyio.sleep(0.3)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(CLEAN_UP)

        async def raises():
            try:
                await anyio.sleep(0.2)
            except CANCELLED as error:
                raise ValueError("in clean-up") from error

        async def nests():
            with anyio.move_on_after(0.15):
                await self.executor.run([Call("i", "slow"), Call("j", "obeys", after=("i",))])
            await anyio.sleep(0.05)

        async def limited():
            await self.executor.run([Call("k", "obeys")])

        plain = [obeys, swallows, slow, raises, nests]
        limits = {"limits": [self.limiter], "effect": "read"}

        async def run(x=None, y=None):
            await limited()

        return [*map(counted, plain), tool(run, name="limited", **limits)]

    async def run(self):
        """Run the calls; where there is a journal, the second time takes up the first."""
        return await self.executor.run(CALLS, run_id="r" if self.executor.journal else None)

    async def resumes(self):
        """What was cut off can go on, where there is a journal: nobody holds the run."""
        if self.executor.journal:
            report = await self.run()
            assert report.ok, str(report)
            (info,) = await self.executor.journal.runs()
            assert info.state == "done"
            self.check()

    def check(self):
        """Nothing runs, and every slot and place was given back."""
        assert self.running == 0
        assert self.limiter.in_flight == 0
        for slots in self.executor._slots.values():
            assert slots.free == (self.executor.concurrency or float("inf"))
            assert not slots.waiters
        assert self.executor.snapshot().runs == ()


def others():
    """Return the tasks beside the one that asks."""
    return {each.id for each in anyio.get_running_tasks()} - {anyio.get_current_task().id}


async def turn(number):
    """Let some turns of the event loop, and now and then some time, go by."""
    for each in range(number):
        if each % 3 == 2:
            await anyio.sleep(0.07)
        else:
            await anyio.lowlevel.checkpoint()


async def by_scope(settings, number):
    """Cancel the caller's scope after so many turns; return whether it was in time."""
    world, reports = World(settings), []
    before = others()

    async def caller():
        with scope:
            reports.append(await world.run())

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await turn(number)
        scope.cancel()
        asked = anyio.current_time()
    assert anyio.current_time() - asked <= CLEAN_UP + 1e-6
    assert others() == before
    world.check()
    await world.resumes()
    return not reports


async def natively(settings, number, *, again=0):
    """Cancel the caller's task after so many turns; return whether it was in time.

    `again` and again, a turn later each, as a server does that is impatient.
    """
    world = World(settings)
    task = asyncio.create_task(world.run())
    await turn(number)
    task.cancel()
    asked = anyio.current_time()
    for _ in range(again):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    assert anyio.current_time() - asked <= CLEAN_UP + 1e-6
    assert asyncio.all_tasks() == {asyncio.current_task()}
    world.check()
    if not task.cancelled():
        task.result()  # it had ended
    await world.resumes()
    return task.cancelled()


async def all_of(how, settings, eager=False):
    """Cancel at every step of a run."""
    if eager:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    number = 0
    while await how(settings, number):
        number += 1 if number < 15 else 5
        assert number < 150
    assert number > 20


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_scope_that_is_cancelled_at_every_step(settings, backend):
    """Prompt, no orphan, nothing kept."""
    pytest.importorskip(backend)
    logging.getLogger("dagexec").setLevel(logging.ERROR)
    try:
        run_virtual(partial(all_of, by_scope, settings), backend=backend)
    finally:
        logging.getLogger("dagexec").setLevel(logging.NOTSET)


@pytest.mark.parametrize("eager", [False, True], ids=["tasks", "eager"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_task_that_is_cancelled_at_every_step(settings, eager):
    """Asyncio's own Task.cancel(): as prompt as a scope, and it leaves as CancelledError."""
    if eager and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    run_virtual(partial(all_of, natively, settings, eager))


@pytest.mark.parametrize("again", [1, 4])
@pytest.mark.parametrize("kind", ["usual", "layers", "journal"])
def test_a_task_that_is_cancelled_again_and_again(kind, again):
    """Also while the run gives up what it has: nothing is lost by it."""
    run_virtual(partial(all_of, partial(natively, again=again), SETTINGS[kind]))


@pytest.mark.real_time
def test_on_uvloop():
    """The same on another event loop of asyncio's; by the real clock, so a few steps only."""
    uvloop = pytest.importorskip("uvloop")

    async def main():
        for number, settings in product((0, 1, 2, 5, 9, 20), ({}, {"concurrency": 0})):
            with anyio.fail_after(30):
                world = World(settings)
                task = asyncio.create_task(world.executor.run(CALLS))
                await turn(number)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                world.check()

    uvloop.run(main())
