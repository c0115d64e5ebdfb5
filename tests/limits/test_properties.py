"""Rules that hold for every mix of calls, on both backends in virtual time."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec.limits import AdmissionTimeout, Limiter, OversizeError, Rate, acquire
from dagexec.testing import START, run_virtual

BACKENDS = ("asyncio", "trio")
EPS = 1e-6

relaxed = settings(max_examples=settings().max_examples * 6 // 10)
amounts = st.sampled_from([0, 0.5, 1, 2, 3, 7, 10, 25])
moments = st.sampled_from([0, 0, 0, 0.25, 0.5, 1, 1.5, 2, 3, 5])
ENDINGS = ("done", "settled", "raises", "cancelled", "late", "rejected", "native")


@st.composite
def calls(draw, endings=ENDINGS):
    """Draw calls: when they come, what they need, how they end."""
    return draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "at": moments,
                    "need": amounts,
                    "more": amounts,
                    "hold": moments,
                    "used": amounts,
                    "ending": st.sampled_from(endings),
                    "cut": moments,
                    "priority": st.sampled_from([0, 0, 0, 1]),
                }
            ),
            min_size=1,
            max_size=14,
        )
    )


class World:
    """A limiter, and a log of what it let through."""

    def __init__(self, rates, **options):
        self.limiter = Limiter("key", rates=rates, random=lambda: 0.5, **options)
        self.log = []
        self.ended = []
        self.started = []

    async def one(self, number, call):
        """Do one call as it is described."""
        await anyio.sleep(call["at"])
        cost = {"tokens": call["need"], "units": call["more"]}
        deadline = anyio.current_time() + call["cut"] if call["ending"] == "late" else None
        if call["ending"] == "cancelled":
            with anyio.move_on_after(call["cut"]):
                await self.run(number, call, cost, deadline)
        else:
            await self.run(number, call, cost, deadline)
        self.ended.append(number)

    def note(self, amounts):
        """Log what was charged, or with a minus came back, in the order in which it happened."""
        self.log.append((anyio.current_time(), amounts))

    async def run(self, number, call, cost, deadline):
        """Pass the limiter and hold the permit."""
        try:
            async with self.limiter.acquire(
                cost, deadline=deadline, priority=call["priority"]
            ) as permit:
                now = anyio.current_time()
                assert deadline is None or now <= deadline + EPS
                self.started.append((number, now))
                self.note(cost)
                assert self.limiter.in_flight <= self.limiter.ledger.in_flight
                if call["ending"] == "rejected":
                    await anyio.sleep(call["hold"])
                    permit.rejected(retry_after=call["cut"])
                    permit.rejected(retry_after=call["cut"])
                    self.note({name: -amount for name, amount in cost.items()})
                    await permit.again()
                    self.note(cost)
                await anyio.sleep(call["hold"])
                if call["ending"] == "settled":
                    used = min(call["used"], call["need"])
                    permit.settle(tokens=used)
                    permit.settle(tokens=0)
                    self.note({"tokens": used - call["need"], "units": 0})
                if call["ending"] == "raises":
                    raise ValueError(number)
        except (ValueError, AdmissionTimeout):
            pass


RATES = {
    "plain": {"tokens": Rate(10, per=1), "units": Rate(30, per=2, burst=8)},
    "slow": {"tokens": Rate(5, per=2), "units": Rate(40, per=1)},
}


def replay(bucket, log, name, until):
    """Return the level that follows from the log alone, and check that it never was exceeded."""
    level, now = bucket.cap, START
    for when, amounts in log:
        level = min(bucket.cap, level + bucket.rate * (when - now))
        now = when
        # It fits, or it is larger than the bucket and the bucket is full.
        assert level >= min(amounts[name], bucket.cap) - EPS or amounts[name] <= 0
        level = min(bucket.cap, level - amounts[name])
    return min(bucket.cap, level + bucket.rate * (until - now))


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(
    calls=calls(),
    rates=st.sampled_from(sorted(RATES)),
    in_flight=st.sampled_from([None, 1, 2, 5]),
    margin=st.sampled_from([0.0, 0.02]),
)
def test_nothing_is_lost_and_nothing_too_early(backend, calls, rates, in_flight, margin):
    """Whatever ends how: all end, levels follow from the log, no slot and no place is left."""
    world = World(RATES[rates], in_flight=in_flight, margin=margin)

    async def main():
        async with anyio.create_task_group() as group:
            for number, call in enumerate(calls):
                if call["ending"] == "native" and backend == "asyncio":
                    group.start_soon(natively, world, number, call)
                else:
                    group.start_soon(world.one, number, call)
        return anyio.current_time()

    end = run_virtual(main, backend=backend)
    limiter = world.limiter
    assert sorted(world.ended) == list(range(len(calls)))
    assert limiter.in_flight == 0
    assert limiter.waiting == 0
    assert list(limiter.ledger.tickets) == []
    for name, bucket in limiter.ledger.buckets.items():
        expected = replay(bucket, world.log, name, end)
        bucket.sync(end)
        assert bucket.level == pytest.approx(expected, abs=EPS)
        assert bucket.open == pytest.approx(0, abs=EPS)


async def natively(world, number, call):
    """Run a call in a task of asyncio's own, and cancel that from outside."""
    task = asyncio.ensure_future(world.one(number, call))
    await anyio.sleep(call["cut"])
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        world.ended.append(number)
    else:
        assert task.exception() is None


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(calls=calls(endings=("done", "raises", "cancelled")), name=st.sampled_from(sorted(RATES)))
def test_never_more_than_burst_and_rate_in_any_interval(backend, calls, name):
    """What was admitted in any interval fits, but for one call larger than the bucket."""
    world = World(RATES[name], margin=0.0)

    async def main():
        async with anyio.create_task_group() as group:
            for number, call in enumerate(calls):
                group.start_soon(world.one, number, call)

    run_virtual(main, backend=backend)
    for dimension, bucket in world.limiter.ledger.buckets.items():
        for first in range(len(world.log)):
            total = 0.0
            for moment, cost in world.log[first:]:
                need = cost[dimension]
                total += need
                time = moment - world.log[first][0]
                debt = max(0.0, need - bucket.cap)
                assert total <= bucket.cap + bucket.rate * time + debt + EPS


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(
    needs=st.lists(amounts, min_size=1, max_size=20),
    cut=st.dictionaries(st.integers(0, 19), moments, max_size=5),
)
def test_strictly_first_come_first_served_and_bounded(backend, needs, cut):
    """A large call in front is not overtaken, and waits for no more than what is before it."""
    limiter = Limiter("key", rates={"tokens": Rate(4, per=1, burst=9)}, margin=0.0)
    bucket = limiter.ledger.buckets["tokens"]
    admitted = []

    async def one(number):
        with anyio.move_on_after(cut.get(number, math.inf)):
            async with limiter.acquire({"tokens": needs[number]}):
                admitted.append((number, anyio.current_time() - START))

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(len(needs)):
                group.start_soon(one, number)
                await anyio.sleep(0.001)  # trio starts tasks in any order

    run_virtual(main, backend=backend)
    order = [number for number, _ in admitted]
    assert order == sorted(order)
    assert set(range(len(needs))) - set(order) <= set(cut)
    for number, moment in admitted:
        before = sum(needs[: number + 1])
        assert moment <= number * 0.001 + before / bucket.rate + EPS
        if not cut:  # and work-conserving: as early as the amounts allow
            wait = (sum(needs[:number]) + min(needs[number], bucket.cap) - bucket.cap) / bucket.rate
            assert moment <= number * 0.001 + max(0.0, wait) + EPS
    assert limiter.waiting == limiter.in_flight == 0


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(
    plan=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "ab", "ba", "bc", "abc", "ca"]),
            st.sampled_from([0, 0, 1, -1]),
            amounts,
            moments,
        ),
        min_size=1,
        max_size=16,
    ),
    in_flight=st.sampled_from([None, 1, 2]),
)
def test_several_limiters_charge_in_one_step_and_never_lock_up(backend, plan, in_flight):
    """Whatever the keys and priorities: all are admitted, and what is held is held of all."""
    limiters = {
        key: Limiter(key, rates={"tokens": Rate(10, per=1)}, in_flight=in_flight) for key in "abc"
    }
    done = []

    async def one(keys, priority, need, hold):
        chosen = [limiters[key] for key in keys]
        async with acquire(chosen, {"tokens": need}, priority=priority):
            assert all(each.in_flight > 0 for each in chosen)
            await anyio.sleep(hold)
        done.append(keys)

    async def main():
        async with anyio.create_task_group() as group:
            for each in plan:
                group.start_soon(one, *each)

    run_virtual(main, backend=backend)
    assert len(done) == len(plan)
    for limiter in limiters.values():
        assert limiter.waiting == limiter.in_flight == 0
        assert limiter.ledger.pinned is None


def cancel_first(scopes):
    """Cancel the scope that has been noted by then."""
    scopes[0].cancel()


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(
    gap=st.sampled_from([0.0, 1e-12, 1e-9, 1e-6]),
    early=st.booleans(),
    count=st.integers(2, 5),
    native=st.booleans(),
)
def test_a_cancellation_at_the_instant_of_the_wake_up(backend, gap, early, count, native):
    """The slot goes to the next in line, whoever comes first: the wake-up or the cancellation."""
    limiter = Limiter("key", in_flight=1)
    through = []

    async def wait(number, status):
        with anyio.CancelScope() as scope:
            status.append(scope)
            async with limiter.acquire():
                through.append(number)
                await anyio.sleep(0.001)

    async def main():
        async with anyio.create_task_group() as group:
            permit = limiter.acquire()
            await permit.__aenter__()
            scopes = []
            if native and backend == "asyncio":
                first = asyncio.ensure_future(wait(0, scopes))
                cancel = first.cancel
            else:
                group.start_soon(wait, 0, scopes)
                first, cancel = None, partial(cancel_first, scopes)
            await anyio.sleep(0.01)
            for number in range(1, count):
                group.start_soon(wait, number, [])
                await anyio.sleep(0.01)
            steps = [cancel, permit.close] if early else [permit.close, cancel]
            for step in steps:
                step()
                if gap:
                    await anyio.sleep(gap)
            if first is not None:
                await asyncio.wait([first])

    run_virtual(main, backend=backend)
    assert through[-(count - 1) :] == list(range(1, count))
    assert limiter.waiting == limiter.in_flight == 0


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(need=st.integers(1, 60), ahead=st.lists(st.integers(1, 20), max_size=4))
def test_larger_than_the_bucket(backend, need, ahead):
    """It goes into debt in a bounded time, or is refused by name before it waits."""

    async def admission(oversize):
        limiter = Limiter("small", rates={"tokens": Rate(10, per=1)}, oversize=oversize, margin=0.0)
        for each in ahead:
            async with limiter.acquire({"tokens": min(each, 10)}):
                pass
        begun = anyio.current_time()
        async with limiter.acquire({"tokens": need}):
            took = anyio.current_time() - begun
        assert took <= (sum(ahead) + need) / 10 + EPS
        return limiter

    limiter = run_virtual(admission, "debt", backend=backend)
    assert limiter.level("tokens") <= 10 - min(need, 10) + EPS
    if need > 10:
        assert limiter.level("tokens") == pytest.approx(10 - need)
        with pytest.raises(OversizeError, match="small"):
            run_virtual(admission, "reject", backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(
    needs=st.lists(st.integers(1, 10), min_size=1, max_size=12),
    patience=st.sampled_from([0, 0.1, 1, 2.5, 5, 100]),
)
def test_a_call_that_would_be_late_fails_at_once_and_costs_nothing(backend, needs, patience):
    """It is told in no time, and exactly those that cannot go are."""
    rate, size = 2.0, 10
    limiter = Limiter(
        "key", rates={"tokens": Rate(rate, per=1, burst=size, settle="reserved")}, margin=0.0
    )
    found = {}

    async def one(number):
        begun = anyio.current_time()
        try:
            async with limiter.acquire({"tokens": needs[number]}, deadline=begun + patience):
                found[number] = anyio.current_time() - begun
        except AdmissionTimeout:
            assert anyio.current_time() == begun
            found[number] = None

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(len(needs)):
                group.start_soon(one, number)
                await anyio.sleep(1e-6)

    run_virtual(main, backend=backend)
    taken = 0
    for number, need in enumerate(needs):
        wait = max(0.0, (taken + need - size) / rate)
        if abs(wait - patience) < 1e-3:
            return  # the 1e-6 s between arrivals decide
        assert (found[number] is not None) == (wait < patience)
        taken += need if found[number] is not None else 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interactive_call_overtakes_a_batch_that_is_not_starved(backend):
    """Four turns to one: neither has to wait for all of the other."""
    limiter = Limiter("key", rates={"requests": Rate(1, per=1)}, margin=0.0)
    order = []

    async def one(kind, priority):
        async with limiter.acquire(priority=priority):
            order.append(kind)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(one, "batch", 0)
            await anyio.sleep(5.5)
            for _ in range(20):
                group.start_soon(one, "person", 1)

    run_virtual(main, backend=backend)
    assert order[6] == "person"
    waits = [n for n, kind in enumerate(order) if kind == "person"]
    assert waits[-1] <= 6 + 20 + 6
    batch = [n for n, kind in enumerate(order) if kind == "batch"]
    assert max(b - a for a, b in pairwise(batch)) <= 6
