"""A provider with published limits, in virtual time, and clients that pass the real limiter.

What the model takes from the providers' pages, and the load, are the rules of three shapes:

* openai: a request costs input + max_tokens when it comes in, and nothing comes back; a refused
  one still costs one request; requests are enforced over 10 seconds.
* anthropic: input counts when a request comes in, output when it is written, as it really is; the
  level may go below zero; what is left is told in thousands; refused requests cost nothing.
* requests: like openai, with so few requests a minute that they bind.

The bound is that of a fluid: (all that is charged - the first burst) / rate. It is not strict
where the output may end in debt.
"""

from __future__ import annotations

import math
import random
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from dagexec.limits import Limiter, Rate, RateLimited
from dagexec.testing import run_virtual

WIRE = 0.05  # seconds, one way
EPS = 1e-9


@dataclass(frozen=True)
class Request:
    """What a call asks for, and what it will really use."""

    given: int
    guess: int
    room: int
    written: int
    seconds: float


def load(count, seed):
    """Return requests with lognormal sizes, a quarter of them output, and twice that as limit."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        total = max(20, rng.lognormvariate(math.log(1500), 1.0))
        written = max(1, int(total * rng.betavariate(2, 6)))
        given = max(1, int(total) - written)
        guess = max(1, int(given * rng.uniform(0.9, 1.1)))
        room = int(written * (1 + rng.expovariate(1.0)))
        made.append(Request(given, guess, room, written, rng.lognormvariate(math.log(2.0), 0.5)))
    return made


class Bucket:
    """The provider's own bucket."""

    def __init__(self, limit, burst=None):
        """Start full; `limit` a minute."""
        self.limit = limit
        self.rate = limit / 60
        self.cap = limit if burst is None else burst
        self.level = self.cap
        self.at = 0.0
        self.charged = 0.0

    def sync(self, now):
        """Refill."""
        self.level = min(self.cap, self.level + self.rate * (now - self.at))
        self.at = now

    def charge(self, amount):
        """Take."""
        self.level -= amount
        self.charged += amount


SHAPES = {
    "openai": {"requests": (500, 500 / 6), "tokens": (300_000, None)},
    "anthropic": {
        "requests": (1000, None),
        "input_tokens": (450_000, None),
        "output_tokens": (90_000, None),
    },
    "requests": {"requests": (120, 20), "tokens": (2_000_000, None)},
}


@dataclass
class Provider:
    """The other side: admits, refuses, hangs, fails."""

    shape: str
    hangs: float = 0.0
    # Says nothing of what is left, but how long to wait after a refusal.
    mute: bool = False
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    refused: int = 0
    tried: int = 0

    def __post_init__(self):
        """Fill the buckets, now."""
        self.buckets = {name: Bucket(*given) for name, given in SHAPES[self.shape].items()}
        for bucket in self.buckets.values():
            bucket.at = anyio.current_time()

    @property
    def at_the_end(self):
        """Whether output is counted when it is written."""
        return self.shape == "anthropic"

    def need(self, request):
        """Return what has to be there when a request comes in."""
        if self.at_the_end:
            return {"requests": 1, "input_tokens": request.given, "output_tokens": 1}
        return {"requests": 1, "tokens": request.given + request.room}

    def headers(self):
        """Return what the API would say, in its own words."""
        said = {}
        if self.mute:
            return said
        for name, bucket in self.buckets.items():
            # Of the minute's limit; that it is enforced in pieces is not told.
            left = max(0, bucket.level + bucket.limit - bucket.cap)
            if self.at_the_end:
                left = left if name == "requests" else round(left / 1000) * 1000
                said[f"anthropic-ratelimit-{name.replace('_', '-')}-remaining"] = str(int(left))
            else:
                said[f"x-ratelimit-remaining-{name}"] = str(int(left))
        return said

    def sync(self):
        """Bring all buckets up to now."""
        for bucket in self.buckets.values():
            bucket.sync(anyio.current_time())

    async def answer(self, request):
        """Serve a request and return headers and usage; raise RateLimited where it refuses."""
        self.tried += 1
        await anyio.sleep(WIRE)
        self.sync()
        need = self.need(request)
        waits = [(min(n, self.buckets[k].cap) - self.buckets[k].level, k) for k, n in need.items()]
        wait = max(lack / self.buckets[name].rate for lack, name in waits)
        if wait > EPS:
            self.refused += 1
            if not self.at_the_end and self.buckets["requests"].level >= 1:
                self.buckets["requests"].level -= 1
            headers = self.headers() | {"retry-after": f"{wait:.6f}"}
            await anyio.sleep(WIRE)
            raise RateLimited(headers=headers)
        if self.at_the_end:
            need["output_tokens"] = 0
        for name, amount in need.items():
            self.buckets[name].charge(amount)
        headers = self.headers()
        if self.rng.random() < self.hangs:
            await anyio.sleep_forever()
        await anyio.sleep(request.seconds)
        if self.at_the_end:
            self.sync()
            self.buckets["output_tokens"].charge(request.written)
            headers = self.headers()
        await anyio.sleep(WIRE)
        used = {"input_tokens": request.given, "output_tokens": request.written}
        return headers, used | {"tokens": request.given + request.written}

    def bound(self, requests):
        """Return the least seconds in which all of this can be served."""
        total = dict.fromkeys(self.buckets, 0)
        for request in requests:
            need = self.need(request)
            if self.at_the_end:
                need["output_tokens"] = request.written
            for name, amount in need.items():
                total[name] += amount
        fluid = max((total[name] - b.cap) / b.rate for name, b in self.buckets.items())
        seconds = [request.seconds for request in requests]
        return max(fluid + min(seconds), *seconds) + 2 * WIRE


def cost(shape, request):
    """Return the estimate that a client makes."""
    if shape == "anthropic":
        return {"input_tokens": request.guess, "output_tokens": request.room}
    return {"tokens": request.guess + request.room}


def limiter(shape, rng, **options):
    """Return the real limiter, with the preset of this provider and the account's limits."""
    limits = {name: limit for name, (limit, _) in SHAPES[shape].items()}
    options = {"in_flight": 50, "random": rng.random, **options}
    if shape == "anthropic":
        return Limiter.anthropic("key", **limits, **options)
    if shape == "openai":
        return Limiter.openai("key", **limits, **options)
    rates = {
        "requests": Rate(120, burst=20, refund=False),
        "tokens": Rate(2_000_000, settle="reserved"),
    }
    return Limiter("key", rates=rates, **options)


@dataclass(frozen=True)
class Figures:
    """What came of a run."""

    done: int
    refused: int
    ratio: float
    timeouts: int
    most: int
    limiters: list[Limiter]


def simulate(
    shape,
    *,
    seed=0,
    count=1000,
    clients=1,
    backend="asyncio",
    hangs=0.0,
    timeout=None,
    options=dict,
    mute=False,
):
    """Send all requests at once, through so many clients; `options` makes those of a limiter."""
    requests = load(count, seed)

    async def main():
        provider = Provider(shape, hangs, mute, random.Random(seed))
        begun = anyio.current_time()
        shared = options()
        chances = [random.Random(seed * 100 + index) for index in range(clients)]
        limiters = [limiter(shape, rng, **shared) for rng in chances]
        ends, tries, timeouts = [], [], 0

        async def one(request, own):
            nonlocal timeouts
            while True:
                async with own.acquire(cost(shape, request)) as permit:
                    with anyio.move_on_after(timeout or math.inf):
                        await talk(provider, request, permit)
                        ends.append(anyio.current_time() - begun)
                        tries.append(permit.refusals)
                        return
                timeouts += 1

        async with anyio.create_task_group() as group:
            for index, request in enumerate(requests):
                group.start_soon(one, request, limiters[index % clients])
                if index % 97 == 96:
                    await anyio.lowlevel.checkpoint()
        return Figures(
            done=len(ends),
            refused=provider.refused,
            ratio=max(ends) / provider.bound(requests),
            timeouts=timeouts,
            most=max(tries),
            limiters=limiters,
        )

    with repeatable(backend, seed):
        return run_virtual(main, backend=backend)


@contextmanager
def repeatable(backend, seed):
    """Let trio, which runs tasks in any order, take the same one each time."""
    if backend != "trio":
        yield
        return
    import trio._core._run as scheduling

    before = scheduling._ALLOW_DETERMINISTIC_SCHEDULING
    scheduling._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduling._r.seed(seed)
    try:
        yield
    finally:
        scheduling._ALLOW_DETERMINISTIC_SCHEDULING = before


async def talk(provider, request, permit):
    """Ask until there is an answer, and say what it used."""
    while True:
        try:
            headers, used = await provider.answer(request)
        except RateLimited as refusal:
            permit.rejected(headers=refusal.headers)
            await permit.again()
        else:
            permit.settle(used)
            permit.observe(headers)
            return
