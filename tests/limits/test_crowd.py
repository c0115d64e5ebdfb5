"""Clients of one key that know nothing of each other: each learns its share."""

from __future__ import annotations

import itertools
import random
from statistics import mean

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec.limits import Limiter, OversizeError, Rate
from dagexec.limits._crowd import LEAST, MOST, START, Crowd
from dagexec.testing import run_virtual

BACKENDS = ("asyncio", "trio")
SHAPES = ("openai", "anthropic", "requests")


def auto():
    """Return the options of such a limiter."""
    return {"peers": "auto"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_four_strangers_share_a_key(simulation, backend):
    """A short load; the slow tests have the figures."""
    run = simulation.simulate("requests", count=200, clients=4, backend=backend, options=auto)
    assert run.done == 200
    assert run.refused <= 60


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mute", [False, True], ids=["headers", "no headers"])
def test_few_refusals_for_many_requests(simulation, backend, shape, mute):
    """Within a tenth of the bound, four clients and 1,600 requests.

    On average; single runs take up to 1.13 of the bound.
    """
    runs = [
        simulation.simulate(
            shape, seed=seed, count=1600, clients=4, backend=backend, options=auto, mute=mute
        )
        for seed in range(6)
    ]
    assert all(run.done == 1600 for run in runs)
    assert mean(run.refused for run in runs) <= (0.15 if mute else 0.05) * 1600
    assert mean(run.ratio for run in runs) <= 1.1
    assert max(run.ratio for run in runs) <= 1.16


def crowd_of(starts, seconds, *, leave=(), simulation=None, seed=0, mute=True):
    """Let clients come at `starts`, ask all the time, and leave at `leave`; return their log."""
    log = []

    async def main():
        rng = random.Random(seed)
        provider = simulation.Provider("requests", 0.0, mute, rng)
        begun = anyio.current_time()

        async def one(name, start, end):
            await anyio.sleep(start)
            mine = simulation.limiter("requests", rng, peers="auto", in_flight=20)
            requests = simulation.load(50, seed)

            async def call(number):
                while True:
                    async with mine.acquire({"tokens": 100}) as permit:
                        await simulation.talk(provider, requests[number % 50], permit)
                    log.append((name, anyio.current_time() - begun))

            with anyio.move_on_after(max(0.0, end - start)):
                async with anyio.create_task_group() as group:
                    for number in range(12):
                        group.start_soon(call, number)

        async with anyio.create_task_group() as group:
            for name, start in enumerate(starts):
                end = leave[name] if name < len(leave) else seconds
                group.start_soon(one, name, start, min(end, seconds))
        return provider.refused

    with simulation.repeatable("asyncio", seed):
        return log, run_virtual(main)


def served(log, name, since, until):
    """Return how many of a client's calls ended in this time."""
    return sum(1 for who, at in log if who == name and since <= at < until)


def test_who_is_left_takes_what_the_others_leave(simulation):
    """Without a word from the provider: the whole rate within three minutes."""
    log, _ = crowd_of([0, 0, 0, 0], 900, leave=[900, 400, 400, 400], simulation=simulation)
    before = served(log, 0, 300, 400) / 100
    after = served(log, 0, 700, 900) / 200
    assert before <= 1.2  # of 2 a second
    assert after >= 1.8


def test_who_comes_late_gets_a_share(simulation):
    """From those who had all of it; refusals stay few."""
    log, refused = crowd_of([0, 300], 900, simulation=simulation)
    first, second = (served(log, name, 600, 900) for name in (0, 1))
    assert 0.5 <= first / second <= 2
    assert first + second >= 0.9 * 600
    assert refused <= 0.3 * len(log)


@pytest.mark.slow
@settings(max_examples=15)
@given(
    times=st.lists(st.tuples(st.integers(0, 300), st.integers(60, 600)), min_size=1, max_size=8),
    seed=st.integers(0, 100),
)
def test_nobody_starves(simulation, times, seed):
    """Whoever comes and goes: in each five minutes each gets a fifth of its fair part at least."""
    starts = [start for start, _ in times]
    leave = [start + stay for start, stay in times]
    log, _ = crowd_of(starts, 900, leave=leave, simulation=simulation, seed=seed)
    for name, (start, end) in enumerate(zip(starts, leave, strict=True)):
        for since in range(start, min(end, 900) - 300, 100):
            assert served(log, name, since, since + 300) >= 600 / len(times) / 5


@settings(max_examples=10)
@given(
    shares=st.lists(st.floats(LEAST, MOST), min_size=2, max_size=8),
    seed=st.integers(0, 1000),
)
def test_shares_become_equal(shares, seed):
    """From whatever they were: whoever sends more is refused more, and gives up more."""
    rng, crowds = random.Random(seed), []
    for share in shares:
        crowds.append(Crowd())
        crowds[-1].share = share
    sums = dict.fromkeys(range(len(shares)), 0.0)
    for second in range(6000):
        for crowd in crowds:
            crowd.grow(float(second))
            assert LEAST <= crowd.share <= MOST
        total = sum(crowd.share for crowd in crowds)
        for number, crowd in enumerate(crowds):
            if total > 1 and rng.random() < crowd.share:
                crowd.refused(float(second), float(second))
            sums[number] += crowd.share if second > 3000 else 0.0
    assert max(sums.values()) <= 2 * min(sums.values())
    assert 0.6 <= sum(sums.values()) / 3000 <= 1.3


def test_calls_that_were_under_way_count_once():
    """Fifty that were refused together halve the share once, or nearly so."""
    crowd = Crowd()
    crowd.grow(10.0)
    for _ in range(50):
        crowd.refused(9.0, 10.0)
    assert START / 2 <= crowd.share < 0.6 * START
    assert not crowd.refused(10.0, 11.0)
    assert crowd.refused(10.5, 11.0)


def test_a_warning_takes_a_quarter_and_counts_once_in_ten_seconds():
    """The level needs that long to rise; a refusal counts at any time."""
    crowd = Crowd(0.4)
    assert crowd.warned(10.0, 12.0)
    assert crowd.share == pytest.approx(0.3)
    assert not crowd.warned(21.0, 23.0)
    assert crowd.refused(21.0, 23.0)
    assert not crowd.warned(23.5, 33.5)
    assert crowd.warned(33.5, 35.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("left", "slower"), [(24, True), (26, False), (-3, False)])
def test_little_that_is_left_is_a_warning(backend, left, slower):
    """That is what comes in five seconds; only those who know nothing of the others need it."""

    async def main():
        for peers in ("auto", 4, 1):
            mine = Limiter("k", rates={"tokens": Rate(300)}, peers=peers)
            before = mine.ledger.buckets["tokens"].peers
            async with mine.acquire({"tokens": 1}) as permit:
                permit.observe({"tokens": {"remaining": left}})
            changed = mine.ledger.buckets["tokens"].peers > 1.01 * before
            assert changed == (slower and peers == "auto")

    run_virtual(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_a_refusal_nothing_has_piled_up(backend):
    """Without a word but when to come back: one goes then, and the others at the share's pace."""
    starts = []

    async def main():
        rates = {"tokens": Rate(600)}
        mine = Limiter("k", rates=rates, peers="auto", margin=0, random=lambda: 0.0)
        mine.ledger.learn(Crowd(0.5), 0.0)
        begun = anyio.current_time()
        refused = []

        async def one():
            async with mine.acquire({"tokens": 10}) as permit:
                if not refused:
                    refused.append(permit)
                    permit.rejected(retry_after=20)
                    await permit.again()
                starts.append(anyio.current_time() - begun)

        mine.ledger.buckets["tokens"].level = 10.0
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)

    run_virtual(main, backend=backend)
    assert starts[0] == pytest.approx(20, abs=0.1)
    # A quarter of the rate is left after the refusal, 2.5 a second, and grows: so 4 s, and less.
    for before, after in itertools.pairwise(starts):
        assert 2 <= after - before <= 4


def test_who_was_never_refused_doubles():
    """Alone, one has nearly all after half a minute; while it may not send, it learns nothing."""
    crowd = Crowd()
    for second in range(30):
        crowd.grow(float(second))
    assert crowd.share == MOST
    other = Crowd(START)
    for second in range(3600):
        other.grow(float(second), may_send=False)
    assert other.share == START


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_waits_for_long_sees_that_its_share_grows(backend):
    """One that was pushed aside waits for a minute, and not for the hour that it seemed to take."""

    async def main():
        mine = Limiter("k", rates={"tokens": Rate(100, per=100)}, peers="auto", margin=0)
        mine.ledger.learn(Crowd(LEAST), 0.0)
        mine.ledger.buckets["tokens"].level = -10.0
        begun = anyio.current_time()
        async with mine.acquire({"tokens": 1}):
            pass
        return anyio.current_time() - begun

    assert 60 < run_virtual(main, backend=backend) < 400


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("clients", [2, 8, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_for_any_number_of_clients(simulation, clients, shape):
    """A provider that says what is left: few refusals, and within a tenth of the bound."""
    run = simulation.simulate(shape, count=1600, clients=clients, options=auto)
    assert run.done == 1600
    assert run.refused <= (0.1 if clients <= 8 else 0.25) * 1600
    assert run.ratio <= 1.1


def test_who_asks_for_nothing_learns_nothing():
    """An hour without a call is no hour without a refusal."""
    crowd = Crowd()
    crowd.grow(0.0)
    crowd.grow(3600.0)
    assert crowd.share < START + 0.1
    crowd.shift(-3600.0)
    assert not crowd.grow(0.0)
    assert crowd.grow(1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_larger_than_its_part_goes(backend):
    """The provider would take it; larger than the whole bucket is refused."""

    async def main():
        for peers in (4, "auto"):
            rates = {"tokens": Rate(100, per=1)}
            mine = Limiter("k", rates=rates, oversize="reject", peers=peers)
            with anyio.fail_after(10):
                async with mine.acquire({"tokens": 90}):
                    pass
            with pytest.raises(OversizeError, match="at most 100 "):
                async with mine.acquire({"tokens": 101}):
                    pass

    run_virtual(main, backend=backend)
