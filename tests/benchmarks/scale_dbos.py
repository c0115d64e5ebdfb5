"""How far runs on DBOS scale, on paper: `python -m tests.benchmarks.scale_dbos [--quick]`.

The simulation of `scale`, with another model: one PostgreSQL that all workers share, with so many
processors, whose commits wait for a disk together. Printed for 1, 10, 100 and 1,000 workers and a
PostgreSQL of 4, 16 and 64 processors: calls and runs a second in the steady state, how long a run
takes, and what is busy. Takes some five minutes, `--quick` one.

What the model leaves out: contention for locks, for the queue's index and for connections, which a
PostgreSQL has a few thousand of; deaths, values of any size, vacuum, and a disk that is full.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapreplace
from random import Random
from time import thread_time

from dagexec.engines._drive import Drive
from tests.benchmarks.scale import ORDER, PLAN, RESULT, SPEC, Clock, Counts, Workers

# Seconds after which the start of a call that only looks is recorded.
BEHIND = 0.05


@dataclass(frozen=True)
class Costs:
    """Seconds. Measured on two cores with everything on one machine, but for what is assumed."""

    # Measured: 1.3 ms of a Python processor for a call in the process that decides its run.
    here: float = 0.0013
    # Measured: 5.3 ms for one that goes by a queue, a third of it the launch.
    call: float = 0.0035
    launch: float = 0.0018
    # Measured: what a link has beyond that, of who decides: a recorded wait.
    turn: float = 0.005
    # The deciding half; None takes what it really takes, here and now.
    decide: float | None = None
    # Measured: PostgreSQL's processor for a call by a queue, and for a recorded wait.
    database: float = 0.0015
    recorded: float = 0.0013
    # Measured: PostgreSQL's processor a second for a worker that waits, with polling=0.1; a tenth
    # more for the queue of rounds.
    polling: float = 0.011
    # Assumed: until a commit is on the disk; those that come together wait together.
    flush: float = 0.001
    # Assumed: one way between processes.
    wire: float = 0.0005


@dataclass(frozen=True)
class Load:
    """What is run: plans of twelve calls, as many at a time as the workers can take."""

    workers: int = 10
    # Processors of PostgreSQL.
    cores: int = 16
    # Seconds that a call takes by itself, on average.
    seconds: float = 1.0
    # Calls that one worker runs at a time.
    concurrency: int = 20
    # Virtual seconds: until figures count, and how long they do.
    settle: float = 8.0
    during: float = 8.0
    seed: int = 0


class Postgres:
    """So many processors, the first free one takes what comes, and a disk."""

    def __init__(self, clock: Clock, load: Load, costs: Costs) -> None:
        self._clock, self._costs = clock, costs
        # What polling takes is gone before anything else.
        polled = load.workers * costs.polling / load.cores
        self.polled = min(0.99, polled)
        self._free = [0.0] * load.cores
        self.busy = 0.0

    def take(self, seconds: float, then: Callable[[], None]) -> None:
        seconds /= 1 - self.polled
        ends = max(self._free[0], self._clock.now) + seconds
        heapreplace(self._free, ends)
        self.busy += seconds
        self._clock.at(ends + self._costs.flush + 2 * self._costs.wire, then)


class World:
    """Workers, their database, and runs."""

    def __init__(self, load: Load, costs: Costs) -> None:
        self.load, self.costs = load, costs
        self.clock = Clock()
        self.rng = Random(load.seed)
        self.database = Postgres(self.clock, load, costs)
        self.workers = Workers(self.clock, load.workers, load.concurrency)
        # Enough runs to keep all slots busy, and half as many more; but no more than keep the
        # processors busy, for in a long line nothing is steady.
        slots = 1.5 * load.workers * load.concurrency * 5 / len(PLAN)
        work = len(PLAN) * (costs.database + costs.recorded / 2)
        most = 12 * load.cores / work * max(load.seconds, 0.1)
        for _ in range(round(max(1.0, min(slots, most)))):
            self.clock.at(self.rng.uniform(0, 5 * load.seconds), self.start)

    def start(self) -> None:
        _Run(self)


class _Run:
    """One run: the real deciding half, and its way through the model."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = world.rng.randrange(world.load.workers)
        self.decider = world.workers.lines[self.number]
        self.drive = Drive(SPEC)
        self.begun = world.clock.now
        self.ended: list[str] = []
        self.is_told = True
        self.is_new = True
        world.database.take(world.costs.recorded, self._decide)

    def _decide(self) -> None:
        world, costs = self.world, self.world.costs
        ended, self.ended = sorted(self.ended, key=ORDER.__getitem__), []
        self.is_told = False
        before = thread_time()
        if self.is_new:
            self.is_new = False
            self.drive.begin(world.clock.now, {})
        else:
            self.drive.take(world.clock.now, [(name, RESULT) for name in ended])
        took = thread_time() - before if costs.decide is None else costs.decide
        world.workers.counts.decided += took
        names = [out.name for out in self.drive.launches]
        # What finds a place here needs no queue.
        here = [name for name in names if world.workers.take(self.number)]
        others = names[len(here) :]
        # That slow ones were begun is recorded, for all of them together.
        turns = 2 if here and world.load.seconds > BEHIND else 1
        worked = turns * costs.turn + took + len(others) * costs.launch
        stored = turns * costs.recorded + len(others) * costs.database / 2
        self.decider.take(
            worked, lambda: world.database.take(stored, lambda: self._launch(here, others))
        )

    def _launch(self, here: list[str], others: list[str]) -> None:
        world, costs = self.world, self.world.costs
        for name in here:
            self._caller(name, costs.here, 0.0)(self.number)
        for name in others:
            world.workers.call(self._caller(name, costs.call, costs.database / 2))
        if self.drive.machine.finished:
            world.workers.counts.seconds.append(world.clock.now - self.begun)
            world.start()

    def _caller(self, name: str, worked: float, stored: float) -> Callable[[int], None]:
        world = self.world

        def begin(worker: int) -> None:
            seconds = world.rng.expovariate(1 / world.load.seconds) if world.load.seconds else 0.0

            def run() -> None:
                world.clock.at(world.clock.now + seconds, end)

            def end() -> None:
                world.workers.done(worker)
                if stored:
                    world.database.take(stored, lambda: self._heard(name))
                else:
                    self._heard(name)

            world.workers.lines[worker].take(worked, run)

        return begin

    def _heard(self, name: str) -> None:
        self.ended.append(name)
        if not self.is_told:
            self.is_told = True
            self._decide()


@dataclass(frozen=True)
class Figures:
    """What a load came to, a second."""

    calls: float
    runs: float
    # Seconds that a run took, half of them more; 0 where hardly any ended.
    took: float
    # Parts of the time: of slots, of workers' processors, of PostgreSQL's, of those the polling.
    slots: float
    processors: float
    database: float
    polled: float

    @property
    def limit(self) -> str:
        """What is full, or the slots."""
        parts = {"PostgreSQL's processors": self.database, "workers' processors": self.processors}
        full = max(parts, key=parts.__getitem__)
        return full if parts[full] > 0.9 else "slots of the workers"


def simulate(load: Load, costs: Costs | None = None) -> Figures:
    """Run the load; return what it came to."""
    costs = costs or Costs()
    world = World(load, costs)
    world.clock.run(load.settle)
    world.workers.counts = Counts()
    stored = world.database.busy
    worked = world.workers.busy
    world.clock.run(load.settle + load.during)
    counts, during = world.workers.counts, load.during
    times = sorted(counts.seconds) or [0.0]
    calls = counts.calls / during
    return Figures(
        calls=calls,
        runs=calls / len(PLAN),
        took=times[len(times) // 2] if len(times) > 20 else 0.0,
        slots=calls * load.seconds / (load.workers * load.concurrency),
        processors=(world.workers.busy - worked) / during / load.workers,
        database=min(1.0, (world.database.busy - stored) / during / load.cores),
        polled=world.database.polled,
    )


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale_dbos")
    parser.add_argument("--quick", action="store_true", help="no more than 100 workers")
    options = parser.parse_args()
    print(
        f"{'calls of':>9}{'workers':>9}{'cores':>7}{'calls/s':>9}{'runs/s':>8}{'a run':>8}"
        f"{'workers':>10}{'database':>10}{'polling':>9}  next limit"
    )
    for seconds in (1.0, 0.05):
        for workers in (1, 10, 100) if options.quick else (1, 10, 100, 1000):
            for cores in (4, 16, 64):
                during = 8.0 if workers < 1000 else 3.0
                f = simulate(Load(workers, cores, seconds, during=during))
                did = f"{f.calls:>9.0f}{f.runs:>8.1f}{f.took:>6.1f} s"
                busy = f"{f.processors:>9.0%}{f.database:>10.0%}{f.polled:>9.0%}"
                row = f"{seconds:>7.2f} s{workers:>9}{cores:>7}{did}{busy}  {f.limit}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
