"""How far runs on Temporal scale, on paper: `python -m tests.benchmarks.scale [--quick]`.

A simulation. What decides is the engine's own deciding half (`dagexec.engines._drive.Drive`), one
for each run; the server, its shards and the workers are a model in virtual time, with the costs
below. Printed for 1, 10, 100 and 1,000 workers on 1, 4 and 512 shards: calls and runs a second in
the steady state, how long a run takes, and what is busy, of which the busiest is the next limit.
Takes some ten minutes, `--quick` three.

What the model leaves out: the server's queues of tasks (partitions, matching), its caches, eager
execution, retries, deaths, values of any size, and the database as anything but a time for a write.
"""

from __future__ import annotations

import argparse
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from time import thread_time
from typing import Any

from dagexec import Call, Done, Ref
from dagexec.engines._drive import Drive
from dagexec.lowlevel import outcome_body


@dataclass(frozen=True)
class Costs:
    """Seconds. Measured on two cores with a dev server, but for those that are assumed."""

    # Measured: 5.5 to 7.5 ms of processor a call, of the server, the worker and who decides. Half
    # of it is taken to be the server's (assumed), which any number of its processes may share.
    server: float = 0.003
    # A worker's part of a call, on the one processor that a Python process has.
    worker: float = 0.0015
    # A workflow task in the process that decides, without what the deciding half itself takes.
    task: float = 0.001
    # The deciding half; None takes what it really takes, here and now.
    decide: float | None = None
    # Measured as the server's default: reads of a shard's transfer queue a second, each of at most
    # so many tasks.
    polls: float = 20.0
    batch: int = 100
    # Assumed: what an update of a workflow keeps its shard busy, i.e. a write to a database in the
    # same building. A call has two of its own (started, completed), a workflow task two.
    write: float = 0.002
    # Assumed: one way between processes.
    wire: float = 0.0005


@dataclass(frozen=True)
class Load:
    """What is run: plans of twelve calls, as many at a time as the workers can take."""

    workers: int = 10
    shards: int = 4
    # Seconds that a call takes by itself, on average.
    seconds: float = 1.0
    # Calls that one worker runs at a time.
    concurrency: int = 20
    # Virtual seconds: until figures count, and how long they do.
    settle: float = 8.0
    during: float = 8.0
    seed: int = 0


# Runs that are open in each shard, at most.
_RUNS = 130
# Calls a second, at most: more take an hour to simulate.
_MOST = 50_000

# One call, eight beside each other, one that needs them all, and two in a row.
WIDE = 8
PLAN = [
    Call("a", "look"),
    *[Call(f"b{n}", "look", {"value": Ref("a")}) for n in range(WIDE)],
    Call("c", "look", {"value": [Ref(f"b{n}") for n in range(WIDE)]}),
    Call("d", "look", {"value": Ref("c")}),
    Call("e", "look", {"value": Ref("d")}),
]
SPEC: dict[str, Any] = {
    "calls": [call.to_dict() for call in PLAN],
    "call": None,
    "layer": None,
    "run": None,
    "scope": "workflow",
    "on_failure": "skip",
    "barrier": False,
    "effects": {"look": "read"},
}
ORDER = {call.id: number for number, call in enumerate(PLAN)}
RESULT = {"outcome": outcome_body(Done("x" * 100, attempts=1)), "starts": 1, "abandoned": 0}


class Clock:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heappush(self._soon, (max(when, self.now), next(self._ids), what))

    def run(self, until: float) -> None:
        while self._soon and self._soon[0][0] <= until:
            self.now, _, what = heappop(self._soon)
            what()


class Line:
    """Something that does one thing at a time, in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = 0.0
        self.busy = 0.0

    def take(self, seconds: float, then: Callable[[], None]) -> None:
        self._free = max(self._free, self._clock.now) + seconds
        self.busy += seconds
        self._clock.at(self._free, then)


class Shard:
    """A shard of the server: writes one after the other, and a queue that is read now and then."""

    def __init__(self, clock: Clock, costs: Costs) -> None:
        self._clock, self._costs = clock, costs
        self.line = Line(clock)
        self._waiting: deque[Callable[[], None]] = deque()
        self._next = 0.0
        self._is_due = False

    def write(self, then: Callable[[], None]) -> None:
        self.line.take(self._costs.write, then)

    def transfer(self, then: Callable[[], None]) -> None:
        """Hand a task over at the next read of the queue."""
        self._waiting.append(then)
        self._plan()

    def _plan(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            self._clock.at(self._next, self._read)

    def _read(self) -> None:
        self._is_due = False
        self._next = self._clock.now + 1 / self._costs.polls
        for _ in range(min(len(self._waiting), self._costs.batch)):
            self._waiting.popleft()()
        self._plan()


@dataclass
class Counts:
    """What was done while it counted."""

    calls: int = 0
    seconds: list[float] = field(default_factory=list)
    decided: float = 0.0


class Workers:
    """Workers with slots, and the calls that wait for one."""

    def __init__(self, clock: Clock, count_: int, concurrency: int) -> None:
        self.counts = Counts()
        self.lines = [Line(clock) for _ in range(count_)]
        self._slots = [concurrency] * count_
        # Who has a slot, in turn; some have not any more.
        self._free = deque(list(range(count_)) * concurrency)
        self._waiting: deque[Callable[[int], None]] = deque()

    @property
    def busy(self) -> float:
        """Seconds of processor that they have used."""
        return sum(line.busy for line in self.lines)

    def call(self, begin: Callable[[int], None]) -> None:
        """Give a call to a worker with a free slot."""
        while self._free:
            worker = self._free.popleft()
            if self.take(worker):
                begin(worker)
                return
        self._waiting.append(begin)

    def take(self, worker: int) -> bool:
        """Take a slot of this worker, if it has one."""
        if not self._slots[worker]:
            return False
        self._slots[worker] -= 1
        return True

    def done(self, worker: int) -> None:
        """Take a worker's slot back."""
        self.counts.calls += 1
        if self._waiting:
            self._waiting.popleft()(worker)
        else:
            self._slots[worker] += 1
            self._free.append(worker)


class World:
    """Workers, shards and runs."""

    def __init__(self, load: Load, costs: Costs) -> None:
        self.load, self.costs = load, costs
        self.clock = Clock()
        self.rng = random.Random(load.seed)
        self.shards = [Shard(self.clock, costs) for _ in range(load.shards)]
        self.workers = Workers(self.clock, load.workers, load.concurrency)
        # On average 12 calls in 5 steps: enough runs to keep all slots busy, and half as many more;
        # but no more than keep the shards busy, for in a long line nothing is steady.
        slots = 1.5 * load.workers * load.concurrency * 5 / len(PLAN)
        for _ in range(round(min(slots, _RUNS * load.shards))):
            self.clock.at(self.rng.uniform(0, 5 * load.seconds), self.start)

    def start(self) -> None:
        _Run(self)


class _Run:
    """One run: the real deciding half, and its way through the model."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shard = world.rng.choice(world.shards)
        # The process that decides keeps the run in its cache.
        self.decider = world.rng.choice(world.workers.lines)
        self.drive = Drive(SPEC)
        self.begun = world.clock.now
        self.ended: list[str] = []
        self.is_told = True
        self.is_new = True
        self.shard.write(self._hand_over)

    def _hand_over(self) -> None:
        """A workflow task: over the queue to the process that decides."""
        self.shard.transfer(lambda: self.shard.write(self._decide))

    def _decide(self) -> None:
        ended, self.ended = sorted(self.ended, key=ORDER.__getitem__), []
        self.is_told = False
        before = thread_time()
        if self.is_new:
            self.is_new = False
            self.drive.begin(self.world.clock.now, {})
        else:
            self.drive.take(self.world.clock.now, [(name, RESULT) for name in ended])
        costs, took = self.world.costs, thread_time() - before
        took = took if costs.decide is None else costs.decide
        self.world.workers.counts.decided += took
        names = [out.name for out in self.drive.launches]
        self.decider.take(costs.task + took, lambda: self.shard.write(lambda: self._launch(names)))

    def _launch(self, names: list[str]) -> None:
        world = self.world
        for name in names:
            self.shard.transfer(lambda name=name: world.workers.call(self._caller(name)))
        if self.drive.machine.finished:
            world.workers.counts.seconds.append(world.clock.now - self.begun)
            world.start()

    def _caller(self, name: str) -> Callable[[int], None]:
        world = self.world

        def begin(worker: int) -> None:
            seconds = world.rng.expovariate(1 / world.load.seconds) if world.load.seconds else 0.0

            def run() -> None:
                world.clock.at(world.clock.now + seconds + 2 * world.costs.wire, end)

            def end() -> None:
                world.workers.done(worker)
                self.shard.write(lambda: self._heard(name))

            self.shard.write(lambda: world.workers.lines[worker].take(world.costs.worker, run))

        return begin

    def _heard(self, name: str) -> None:
        self.ended.append(name)
        if not self.is_told:
            self.is_told = True
            self._hand_over()


@dataclass(frozen=True)
class Figures:
    """What a load came to, a second."""

    calls: float
    runs: float
    # Seconds that a run took, half of them more; 0 where hardly any ended.
    took: float
    # Parts of the time: of slots, of workers' processors, of the busiest shard.
    slots: float
    processors: float
    shard: float
    # Processors of the server that are needed, and writes to its database a second.
    cores: float
    writes: float
    # Microseconds of the deciding half, a call.
    decided: float

    @property
    def limit(self) -> str:
        """What is full, or the slots."""
        parts = {"shards": self.shard, "workers' processors": self.processors}
        full = max(parts, key=parts.__getitem__)
        return full if parts[full] > 0.9 else "slots of the workers"


def simulate(load: Load, costs: Costs | None = None) -> Figures:
    """Run the load; return what it came to."""
    costs = costs or Costs()
    world = World(load, costs)
    world.clock.run(load.settle)
    world.workers.counts = Counts()
    lines = [shard.line for shard in world.shards]
    before = [line.busy for line in lines]
    worked = world.workers.busy
    world.clock.run(load.settle + load.during)
    counts, during = world.workers.counts, load.during
    busy = [line.busy - was for line, was in zip(lines, before, strict=True)]
    times = sorted(counts.seconds) or [0.0]
    calls = counts.calls / during
    return Figures(
        calls=calls,
        runs=calls / len(PLAN),
        took=times[len(times) // 2] if len(times) > 20 else 0.0,
        slots=calls * load.seconds / (load.workers * load.concurrency),
        processors=(world.workers.busy - worked) / during / load.workers,
        shard=min(1.0, max(busy) / during),
        cores=calls * costs.server,
        writes=sum(busy) / during / costs.write,
        decided=1e6 * counts.decided / max(1, counts.calls),
    )


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale")
    parser.add_argument("--quick", action="store_true", help="no more than 100 workers")
    options = parser.parse_args()
    sizes = (1, 10, 100) if options.quick else (1, 10, 100, 1000)
    print(
        f"{'calls of':>9}{'workers':>9}{'shards':>8}{'calls/s':>9}{'runs/s':>8}{'a run':>8}"
        f"{'cores':>7}{'writes/s':>10}{'decided':>10}  next limit"
    )
    for seconds in (1.0, 0.05):
        for workers in sizes:
            if workers * 20 / seconds > _MOST:
                continue
            for shards in (1, 4, 512):
                during = 8.0 if workers < sizes[-1] else 4.0
                settle = 8.0 if shards > 4 else 24.0  # a shard that is full takes longer
                f = simulate(Load(workers, shards, seconds, settle=settle, during=during))
                did = f"{f.calls:>9.0f}{f.runs:>8.1f}{f.took:>6.1f} s"
                needs = f"{f.cores:>7.1f}{f.writes:>10.0f}{f.decided:>7.0f} us"
                row = f"{seconds:>7.2f} s{workers:>9}{shards:>8}{did}{needs}  {f.limit}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
