"""Slots and limiters' places: given back on every way out, and never more calls than were asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import Call, Executor, Timeouts, tool
from dagexec.limits import Limiter
from dagexec.testing import run_virtual

pytestmark = pytest.mark.anyio


class World:
    """Tools that start nested runs in every way, and a count of those that work at a time."""

    def __init__(self, concurrency, places=None):
        self.working = self.peak = 0
        self.left = []
        self.limiter = Limiter("slots", in_flight=places or 2)
        limits = [self.limiter] if places else []
        made = [
            tool(getattr(self, name), effect="read", timeout=5, limits=limits)
            for name in WAYS
            if name != "works"
        ]
        made.append(tool(self.works, effect="read"))
        timeouts = Timeouts(workflow=60)
        self.executor = Executor(made, concurrency=concurrency, timeouts=timeouts)

    async def works(self, seconds: float = 0.3) -> None:
        """Work: what the slots are there for.

        A task group that ends with its child's error raises that instead of a cancellation: a call
        that was cut off gets here with its slot on credit, and ends before it works.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        self.working += 1
        self.peak = max(self.peak, self.working)
        try:
            await anyio.sleep(seconds)
        finally:
            self.working -= 1

    def nested(self):
        """Return a run of two calls."""
        return self.executor.run([Call("i", "works"), Call("j", "works", after=("i",))])

    async def waits(self) -> None:
        """Wait for it, then work."""
        await self.nested()
        await self.works(0.1)

    async def cuts_off(self) -> None:
        """Bound it, then work: an ordinary way to use a sub-plan."""
        with anyio.move_on_after(0.1):
            await self.nested()
        await self.works(0.5)

    async def two_at_a_time(self) -> None:
        """Wait for two side by side, one of them bounded."""

        async def bounded():
            with anyio.move_on_after(0.2):
                await self.nested()

        async with anyio.create_task_group() as group:
            group.start_soon(self.nested)
            group.start_soon(bounded)
        await self.works(0.1)

    async def fails_in_it(self) -> None:
        """Catch the error of a run that cannot be, then work."""
        with suppress(Exception):
            await self.executor.run([Call("i", "nothing")])
        await self.works(0.2)

    async def raises_beside_it(self) -> None:
        """A sibling raises, and the group cuts it off."""

        async def raises():
            await anyio.sleep(0.05)
            raise ValueError("the other half")

        with suppress(BaseExceptionGroup):
            async with anyio.create_task_group() as group:
                group.start_soon(self.nested)
                group.start_soon(raises)
        await self.works(0.2)

    async def reads_it(self) -> None:
        """Read some of a live run's events and leave its block."""
        with suppress(ZeroDivisionError):
            async with self.executor.start([Call("i", "works")]) as run:
                async for _ in run:
                    raise ZeroDivisionError
        await self.works(0.2)

    # asyncio only

    async def leaves_it(self) -> None:
        """Do not wait for it at all."""
        self.left.append(asyncio.ensure_future(self.nested()))
        await self.works(0.1)

    async def leaves_it_unstarted(self) -> None:
        """End before it begins."""
        self.left.append(asyncio.ensure_future(self.nested()))

    async def cancels_it_unstarted(self) -> None:
        """Cancel the task before its first step."""
        task = asyncio.ensure_future(self.nested())
        task.cancel()
        self.left.append(task)
        await self.works(0.1)

    async def gathers(self) -> None:
        """gather() goes on with the rest when one raises."""

        async def raises():
            await asyncio.sleep(0.05)
            raise ValueError("the other half")

        task = asyncio.ensure_future(self.nested())
        self.left.append(task)
        await asyncio.gather(task, raises())

    async def waits_for(self) -> None:
        """wait_for() cancels it natively; then work."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.nested(), 0.1)
        await self.works(0.3)

    async def shields(self) -> None:
        """Give up on it and let it go on."""
        task = asyncio.ensure_future(self.nested())
        self.left.append(task)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.1)
        await self.works(0.1)

    async def check(self):
        """Everything is free once nothing runs."""
        await asyncio.gather(*self.left, return_exceptions=True) if self.left else None
        self.left.clear()
        for slots in self.executor._slots.values():
            assert slots.free == self.executor.concurrency
            assert not slots.waiters
        assert self.limiter.in_flight == 0
        assert self.working == 0


ANYWHERE = ["works", "waits", "cuts_off", "two_at_a_time", "fails_in_it", "raises_beside_it"]
ANYWHERE += ["reads_it"]
ASYNCIO = ["leaves_it", "leaves_it_unstarted", "cancels_it_unstarted", "gathers", "waits_for"]
ASYNCIO += ["shields"]
WAYS = ANYWHERE + ASYNCIO


async def chaos(names, concurrency, places, ends):
    """Run these calls three times on one executor, cut off at a moment; compare the counters."""
    world = World(concurrency, places)
    for round_ in range(3):
        calls = [Call(f"{n}", name) for n, name in enumerate(names)]
        with anyio.move_on_after(ends if round_ == 1 else 30):
            await world.executor.run(calls)
        await world.check()
    if not set(names) & set(ASYNCIO):
        assert world.peak <= concurrency


PLANS = st.lists(st.sampled_from(WAYS), min_size=1, max_size=7)


@given(PLANS, st.integers(1, 3), st.sampled_from([None, 1, 2]), st.floats(0, 1.5))
def test_everything_is_given_back_on_asyncio(names, concurrency, places, ends):
    """After every run, however its nested runs were left."""
    run_virtual(partial(chaos, names, concurrency, places, ends))


@given(
    st.lists(st.sampled_from(ANYWHERE), min_size=1, max_size=7),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2]),
    st.floats(0, 1.5),
)
def test_everything_is_given_back_on_trio(names, concurrency, places, ends):
    """The same where no task can be left."""
    pytest.importorskip("trio")
    run_virtual(partial(chaos, names, concurrency, places, ends), backend="trio")


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize("places", [None, 1])
async def test_each_way_with_one_slot(name, places):
    """No more than one works at a time, and the others get their turn."""
    world = World(1, places)
    report = await world.executor.run([Call("a", name), Call("b", "works"), Call("c", name)])
    assert report.ok, report.exceptions
    assert world.peak == 1
    await world.check()


async def test_a_limiters_place_is_not_taken_on_credit():
    """A call that cuts its nested run off waits for its place while another has it."""
    working = peak = 0
    key = Limiter("key", in_flight=1)

    @tool(effect="read", limits=[key])
    async def asks(seconds: float = 1.0) -> None:
        nonlocal working, peak
        working += 1
        peak = max(peak, working)
        try:
            await anyio.sleep(seconds)
        finally:
            working -= 1

    @tool(effect="read", limits=[key])
    async def outer() -> None:
        nonlocal working, peak
        with anyio.move_on_after(0.1):
            await executor.run([Call("i", "asks")])
        working += 1
        peak = max(peak, working)
        await anyio.sleep(0.5)
        working -= 1

    executor = Executor([asks, outer])
    report = await executor.run([Call("a", "outer"), Call("b", "asks")])
    assert report.ok
    assert peak == 1
    assert key.in_flight == 0


async def test_a_cut_off_call_does_not_outwait_its_own_end():
    """It waits for its slot in a shield; its deadline, a stop and the caller end that at once."""

    @tool(effect="read", timeout=0.5)
    async def outer() -> None:
        with anyio.move_on_after(0.1):
            await executor.run([Call("i", "holds")])
        await anyio.sleep(100)

    @tool(effect="read", timeout=None)
    async def holds() -> None:
        await anyio.sleep(20)

    executor = Executor([outer, holds], concurrency=1, timeouts=Timeouts(call=None, workflow=50))
    calls = [Call("a", "outer"), Call("b", "holds")]
    async with executor.start(calls) as run:
        await anyio.sleep(0.7)
        assert run.report["a"].status == "timed_out"
        run.cancel()
    assert run.report.elapsed == pytest.approx(0.7)
    for cut in (0.05, 0.3):
        began = anyio.current_time()
        with anyio.move_on_after(cut):
            await executor.run(calls)
        assert anyio.current_time() - began == pytest.approx(cut)
    async with executor.start(calls) as run:
        await anyio.sleep(0.3)
        run.cancel()
    assert run.report.elapsed == pytest.approx(0.3)
    (slots,) = executor._slots.values()
    assert slots.free == 1
