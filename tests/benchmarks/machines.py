"""Measure limits over processes: `python -m tests.benchmarks.machines [--seeds 3]`.

Four processes send 1,600 requests against one key of a provider that refuses what does not fit:
requests refused, and the makespan over the bound of a fluid.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import mean

import anyio

from tests.engines.cluster import cluster
from tests.limits.machines import Load, measure
from tests.limits.servers import redis_server


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.machines")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="that a run takes at least")
    options = parser.parse_args()
    print(f"{'four processes':<24}{'refused':>9}{'/ bound':>9}")
    with redis_server() as redis, cluster() as postgres:
        ways = {
            "RedisStore": {"store": "redis", "url": redis.url},
            "PostgresStore": {"store": "postgres", "url": f"{postgres.url}/postgres"},
            "peers=4": {"peers": 4},
            'peers="auto"': {"peers": "auto"},
            "no word of each other": {},
        }
        for way, given in ways.items():
            runs = []
            for seed in range(options.seeds):
                load = Load(seconds=options.seconds, seed=seed)
                runs.append(anyio.run(partial(measure, load, key=f"{way} {seed}", **given)))
            refused, ratio = mean(r.refused for r in runs), mean(r.ratio for r in runs)
            print(f"{way:<24}{refused:>9.1f}{ratio:>9.3f}", flush=True)


if __name__ == "__main__":
    main()
