"""Full speed without a refusal, against providers simulated in virtual time.

The tables are in tests/benchmarks/limits.py; these are their bounds, for fewer seeds.
"""

from __future__ import annotations

from statistics import mean

import anyio
import pytest

from dagexec import Call, Executor, Timeouts, tool
from dagexec.limits import MemoryStore, RateLimited, Retry, current_permit
from dagexec.testing import run_virtual

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BACKENDS = ("asyncio", "trio")
SEEDS = range(5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", ["openai", "anthropic", "requests"])
def test_one_client_is_as_fast_as_the_provider_allows(simulation, backend, shape):
    """Within one hundredth of the fluid bound, with at most 5 of 1,000 requests refused."""
    runs = [simulation.simulate(shape, seed=seed, backend=backend) for seed in SEEDS]
    assert all(run.done == 1000 for run in runs)
    assert mean(run.refused for run in runs) <= 5
    assert mean(run.ratio for run in runs) <= 1.01


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("shape", "best"), [("openai", 60), ("anthropic", 57), ("requests", 60)])
def test_four_clients_with_a_store_are_as_one(simulation, backend, shape, best):
    """Fewer refusals than any policy that takes less than 1.07 of the bound."""
    runs = [
        simulation.simulate(
            shape, seed=seed, backend=backend, clients=4, options=lambda: {"store": MemoryStore()}
        )
        for seed in range(3)
    ]
    assert all(run.done == 1000 for run in runs)
    assert mean(run.refused for run in runs) <= best / 4
    assert mean(run.ratio for run in runs) <= 1.02


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", ["openai", "anthropic"])
def test_calls_that_hang_take_no_slot_with_them(simulation, backend, shape):
    """8 % of the requests never answer: with a timeout, 1,000 of 1,000 get an answer."""
    run = simulation.simulate(shape, backend=backend, hangs=0.08, timeout=30)
    assert run.done == 1000
    assert 40 <= run.timeouts <= 160
    assert all(each.in_flight == each.waiting == 0 for each in run.limiters)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_through_an_executor(simulation, backend):
    """Tools with limits and retries: hung attempts are cut off, and every call has an outcome."""
    requests = simulation.load(1000, 0)

    async def main():
        provider = simulation.Provider("openai", 0.08)
        limiter = simulation.limiter("openai", provider.rng)

        @tool(
            effect="read",
            limits=[limiter],
            cost=lambda args: simulation.cost("openai", requests[args["number"]]),
            retry=Retry(4, timeout=30),
        )
        async def ask(number: int) -> int:
            headers, used = await provider.answer(requests[number])
            current_permit().observe(headers)
            return used["tokens"]

        calls = [Call(str(n), "ask", {"number": n}) for n in range(1000)]
        timeouts = Timeouts(call=150, workflow=3600)
        executor = Executor([ask], timeouts=timeouts, concurrency=100)
        report = await executor.run(calls)
        assert len(report) == 1000
        assert sum(outcome.status == "done" for outcome in report.values()) >= 995
        assert limiter.in_flight == limiter.waiting == 0
        assert provider.refused <= 5
        assert anyio.current_time() - 1000 <= 1.25 * provider.bound(requests)
        retried = [outcome for outcome in report.values() if outcome.attempts > 1]
        assert 40 <= len(retried) <= 160

    run_virtual(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_refusal_is_no_failure(simulation, backend):
    """A provider that refuses half of what comes first: all are served, in their places."""
    refused = []

    async def main():
        limiter = simulation.limiter("requests", provider_rng())

        @tool(effect="read", limits=[limiter], retry=Retry(1))
        async def ask(number: int) -> int:
            if number % 2 and number not in refused:
                refused.append(number)
                raise RateLimited(retry_after=3)
            return number

        report = await Executor([ask], timeouts=Timeouts(workflow=None)).run(
            [Call(str(n), "ask", {"number": n}) for n in range(40)]
        )
        assert report.ok
        assert [report[str(n)].attempts for n in range(4)] == [1, 2, 1, 2]

    run_virtual(main, backend=backend)


def provider_rng():
    """Return chance that is the same each time."""
    import random

    return random.Random(1)
