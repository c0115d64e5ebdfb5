"""Measure limiters: `python -m tests.benchmarks.limits [--seeds 5] [--backend trio]`.

First the simulation: requests refused, makespan over the fluid bound, the most refusals of one
request; means over the seeds. Then what a call pays for its limits, as medians of runs that took
turns.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import mean
from time import perf_counter

import anyio

from dagexec import Call, Executor, tool
from dagexec.limits import Limiter, MemoryStore, Rate, Retry
from tests.benchmarks.figures import medians
from tests.limits.simulation import SHAPES, simulate

WAYS = {
    "one client": {},
    "four clients, a store": {"clients": 4, "options": lambda: {"store": MemoryStore()}},
    "four clients, peers=4": {"clients": 4, "options": lambda: {"peers": 4}},
    "four clients, auto": {"clients": 4, "options": lambda: {"peers": "auto"}},
    "eight clients, auto": {"clients": 8, "options": lambda: {"peers": "auto"}},
    "four, auto, no headers": {"clients": 4, "mute": True, "options": lambda: {"peers": "auto"}},
    "four clients, no word": {"clients": 4},
}


def simulation(backend: str, seeds: int) -> None:
    """Print the table of the simulation."""
    print(f"\n{backend:<30}{'provider':<12}{'refused':>9}{'/ bound':>9}{'most':>6}")
    for way, options in WAYS.items():
        for shape in SHAPES:
            runs = [simulate(shape, seed=n, backend=backend, **options) for n in range(seeds)]
            refused, ratio = mean(r.refused for r in runs), mean(r.ratio for r in runs)
            most = max(r.most for r in runs)
            print(f"{way:<30}{shape:<12}{refused:>9.1f}{ratio:>9.3f}{most:>6}", flush=True)


def tools() -> dict[str, Executor]:
    """Return an executor for each way in which a call that does nothing may be limited."""
    rates = {"requests": Rate(1e12), "tokens": Rate(1e12)}
    ways = {
        "no limits": {},
        "a limiter without limits": {"limits": [Limiter("free")]},
        "a cap": {"limits": [Limiter("cap", in_flight=1000)]},
        "a cap and two rates": {
            "limits": [Limiter("rates", in_flight=1000, rates=rates)],
            "cost": {"tokens": 10},
        },
        "retries": {"retry": Retry(3)},
    }
    made = {}
    for name, options in ways.items():

        @tool(effect="read", **options)
        async def noop() -> None:
            """Do nothing."""

        made[name] = Executor([noop])
    return made


async def costs(count: int = 1000, repeats: int = 15) -> dict[str, float]:
    """Return the seconds that a call takes in each way: medians of runs that took turns."""
    calls = [Call(str(n), "noop") for n in range(count)]

    async def run(executor: Executor) -> float:
        begun = perf_counter()
        report = await executor.run(calls)
        took = perf_counter() - begun
        assert report.ok
        return took / count

    executors = tools()
    times = await medians(repeats, *[partial(run, executor) for executor in executors.values()])
    return dict(zip(executors, times, strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.limits", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backend", choices=("asyncio", "trio"), help="only this one")
    parser.add_argument("--only", choices=("simulation", "costs"))
    options = parser.parse_args()
    for backend in (options.backend,) if options.backend else ("asyncio", "trio"):
        if options.only != "costs":
            simulation(backend, options.seeds)
        if options.only != "simulation":
            print(f"\n{backend}: a call of a tool that does nothing")
            taken = anyio.run(costs, backend=backend)
            for name, took in taken.items():
                ratio = took / taken["no limits"]
                print(f"{name:<30}{took * 1e6:>9.2f} us{ratio:>9.3f} x", flush=True)


if __name__ == "__main__":
    main()
