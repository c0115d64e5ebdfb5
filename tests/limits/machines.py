"""Real processes that share a key of one real server: `python -m tests.benchmarks.machines`.

The server stands for a provider that counts tokens when a request comes in and refuses what does
not fit; it speaks lines of JSON over a socket in a folder. Each client is a process with a limiter
of its own, and knows of the others only what its limiter's options say.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import anyio

from dagexec.limits import Limiter, PostgresStore, Rate, RedisStore

ROOT = Path(__file__).parent.parent.parent
# Seconds' worth of tokens that may go at once; providers have a minute's. What a limiter keeps
# back, a fiftieth of it, is longer than a request needs to arrive, also on a busy machine.
BURST = 5.0


@dataclass(frozen=True)
class Load:
    """So many requests in all, for so many clients, at a rate that takes about so many seconds."""

    requests: int = 1600
    clients: int = 4
    seconds: float = 12.0
    seed: int = 0

    def sizes(self):
        """Return how many tokens each request takes."""
        rng = random.Random(self.seed)
        return [max(20, int(rng.lognormvariate(math.log(1500), 1.0))) for _ in range(self.requests)]

    @property
    def rate(self):
        """Tokens a second."""
        return sum(self.sizes()) / (self.seconds + BURST)


class Provider:
    """The server, and what it counted."""

    def __init__(self, load):
        self.load = load
        self.rate = load.rate
        self.cap = load.rate * BURST
        self.level = self.cap
        self.at = None
        self.refused = self.served = 0
        self.last = 0.0

    def answer(self, tokens):
        """Admit or refuse a request; return what to say."""
        now = time.monotonic()
        if self.at is None:
            self.at = now
        self.level = min(self.cap, self.level + self.rate * (now - self.at))
        self.at = now
        lack = min(tokens, self.cap) - self.level
        said = {"remaining": max(0.0, self.level)}
        if lack > 0:
            self.refused += 1
            return said | {"after": lack / self.rate}
        self.level -= tokens
        self.served += 1
        self.last = now
        return said | {"remaining": max(0.0, self.level)}

    async def serve(self, path, *, task_status):
        """Answer until cancelled."""
        rng = random.Random(self.load.seed)

        async def client(stream):
            async with stream:
                buffer = b""
                async for data in stream:
                    buffer += data
                    while b"\n" in buffer:
                        line, _, buffer = buffer.partition(b"\n")
                        said = self.answer(json.loads(line)["tokens"])
                        if "after" not in said:
                            await anyio.sleep(rng.uniform(0.1, 0.3))
                        await stream.send(json.dumps(said).encode() + b"\n")

        async with await anyio.create_unix_listener(path) as listener:
            task_status.started()
            await listener.serve(client)


async def client(path, sizes, limiter):
    """Send all requests when told to; each asks until it is served."""
    if limiter.store is not None:
        await limiter.store.gate("none")  # the connection of a process that has run for a while
    print("ready", flush=True)
    assert await anyio.to_thread.run_sync(sys.stdin.readline) == "go\n"

    async def one(tokens):
        async with (
            limiter.acquire({"tokens": tokens}) as permit,
            await anyio.connect_unix(path) as stream,
        ):
            while True:
                await stream.send(json.dumps({"tokens": tokens}).encode() + b"\n")
                said = json.loads(await stream.receive())
                headers = {"tokens": {"remaining": said["remaining"]}}
                if "after" not in said:
                    permit.observe(headers)
                    return
                permit.rejected(said["after"], headers)
                await permit.again()

    async with anyio.create_task_group() as group:
        for tokens in sizes:
            group.start_soon(one, tokens)


def limiter_of(rate, options):
    """Return the limiter of one client."""
    kinds = {"redis": RedisStore, "postgres": PostgresStore}
    given = {name: value for name, value in options.items() if name not in ("key", "store", "url")}
    if "store" in options:
        given["store"] = kinds[options["store"]](options["url"])
    rates = {"tokens": Rate(rate * 60, burst=rate * BURST, settle="reserved")}
    return Limiter(options.get("key", "machines"), in_flight=100, rates=rates, **given)


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    served: int
    refused: int
    ratio: float


async def measure(load, **options):
    """Let the clients loose; `options` are those of a limiter, or name a store and its `url`."""
    folder = Path(tempfile.mkdtemp(prefix="dagexec-machines-"))
    path = folder / "provider"
    provider = Provider(load)
    command = [sys.executable, "-m", "tests.limits.machines", str(path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = []
    try:
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: provider.serve(path, task_status=task_status))
            for number in range(load.clients):
                order = {
                    "sizes": load.sizes()[number :: load.clients],
                    "rate": load.rate,
                    "options": options,
                }
                process = subprocess.Popen(
                    command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
                processes.append(process)
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            for process in processes:
                assert await anyio.to_thread.run_sync(process.stdout.readline) == b"ready\n"
            begun = time.monotonic()
            for process in processes:
                process.stdin.write(b"go\n")
                process.stdin.flush()
            for process in processes:
                assert await anyio.to_thread.run_sync(process.wait) == 0
            group.cancel_scope.cancel()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        path.unlink(missing_ok=True)
        folder.rmdir()
    bound = (sum(load.sizes()) - provider.cap) / provider.rate
    return Figures(provider.served, provider.refused, (provider.last - begun) / bound)


def main():
    """Be a client."""
    order = json.loads(sys.stdin.readline())
    limiter = limiter_of(order["rate"], order["options"])
    anyio.run(client, sys.argv[1], order["sizes"], limiter)


if __name__ == "__main__":
    main()
