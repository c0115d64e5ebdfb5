"""Limits for calls: how many at a time, how much in what time, and when to try again.

Twenty parallel calls against one API key are twenty refusals, then twenty retries at the same
moment. A `Limiter` has a cap of calls in flight and any number of rates behind one queue, first
come, first served; every call that names its key shares it.

```python
from dagexec import Call, Executor, tool
from dagexec.limits import Limiter, RateLimited, Retry, current_permit

model = Limiter.openai("openai:gpt-5.5", requests=500, tokens=300_000)  # your account's, a minute
refused = []


@tool(
    effect="read",
    limits=["openai:gpt-5.5"],  # the limiter, or its key; several are charged in one step
    cost=lambda args: {"tokens": len(args["text"]) + 200},  # an estimate
    retry=Retry(3, base=0.01, timeout=20),  # up to 3 attempts of 20 s each
)
async def summary(text: str) -> str:
    if not refused:
        refused.append(text)
        raise RateLimited(retry_after=0.01)  # a 429 of openai, anthropic or httpx does the same
    current_permit().settle(tokens=120)  # what was used; and .observe(response.headers)
    return text[:4]


report = Executor([summary]).run_sync([Call("a", "summary", {"text": "It was the best of times"})])
print(report.outputs, report["a"].attempts, model.in_flight)
```

```text
{'a': 'It w'} 2 0
```

A call that waits for a limit holds no executor slot, and its timeout starts only when it is
admitted.

- `Rate(300_000, per=60, burst=None, settle="reserved")`: `settle` says when the provider charges
  the quota. `"actual"` gives back at once what was not used, `"reserved"` (OpenAI's tokens) never
  does, `"expected"` (Anthropic's output) keeps room for what calls have used of their estimates
  recently. `Limiter.openai`, `.anthropic`, `.gemini` are starting points, `Limiter.from_headers`
  reads a reply.
- A provider's headers only lower the level. A refusal is refunded once, closes the key's gate
  until `retry-after` plus jitter, and keeps its place in the queue.
- A call that cannot go before the run's deadline is timed out at once and costs nothing. A call
  larger than the bucket waits for a full bucket and overdraws it; with `oversize="reject"` it
  fails at once.
- `Retry` tries only what its effect allows, never a write, and only inside the call's timeout.
  Retries add at most 20 % to the calls of a run and key (`budget=0.2`), plus 10 (`reserve`).
  `breaker=Breaker()` stops trying what fails again and again. Turn the retries of SDKs off:
  `max_retries=0`.
- Outside of tools: `async with limiter.acquire({"tokens": 2000}, deadline=…, priority=1) as
  permit`. Each step of priority gets four times the turns of the one below.

## Several processes, several machines

A store keeps the levels of a key for all processes that use it. They are then served as if they
were one, in the order in which their calls come, and a refusal of one holds all of them back.

```py
from dagexec.limits import Limiter, PostgresStore, RedisStore

store = RedisStore("redis://localhost:6379/0")  # or PostgresStore("postgresql://localhost/shop")
model = Limiter.openai("openai:gpt-5.5", requests=500, tokens=300_000, store=store, peers=4)
```

What that means, with two limiters of one process, in virtual time:

```python
import anyio

from dagexec.limits import Limiter, MemoryStore, Rate
from dagexec.testing import run_virtual

store = MemoryStore()  # over processes: RedisStore(…) or PostgresStore(…)


async def main() -> None:
    one, other = (
        Limiter("key", rates={"tokens": Rate(60, per=60)}, store=store, margin=0) for _ in range(2)
    )
    async with one.acquire({"tokens": 60}):
        pass
    begun = anyio.current_time()
    async with other.acquire({"tokens": 30}):
        print(f"after {anyio.current_time() - begun:.0f} s")


run_virtual(main)
```

```text
after 30 s
```

| | knows of the others | needs |
|---|---|---|
| `RedisStore(url)` | everything | a Redis or Valkey, `pip install "dagexec[redis]"` |
| `PostgresStore(url)` | everything | a PostgreSQL, `pip install "dagexec[postgres]"` |
| `peers=4` | how many there are | nothing: each keeps to its part |
| `peers="auto"` | nothing | nothing: each learns its part |

- The server's clock counts, so the machines' clocks need not agree. Booking a call is one round
  trip; each process books one call at a time, so a store that answers in 1 ms admits up to 1,000
  calls a second for each process.
- Stores work on asyncio and on trio. A tool keeps its limiter in each worker of an engine, too.
- While the server cannot be reached, a limiter with `peers=` goes on with its part of the rates,
  from an empty bucket, and one without fails its calls with `StoreLost`: nobody goes over the limit
  because a server is down. Both log one warning, and try the server again after 0.5 to 8 s. What
  was used meanwhile is booked then. Where an answer was lost, a level is too low for a while, never
  too high.
- A server that was restarted or emptied, or fell back behind what a process has booked, is not
  taken to be full: its buckets were empty at that process's last booking. A process that comes anew
  cannot know. A server that loads its data, or has no connection to spare, is waited for within the
  timeout.
- A booking that is cancelled under way is undone when its answer comes, and what a call that gives
  up had booked is given back at once.
- Where limiters of one key have different limits, the smaller one counts while both are used.
- With `peers="auto"` a limiter begins with a small share of the rates, which doubles every four
  seconds until the first refusal. A refusal takes almost half of its share, time without one lets
  the share grow, and headers that show more let it take more at once. Headers that show little,
  what comes in five seconds, take a quarter of the share, so that all slow down before anyone is
  refused. A client that comes late gets a share within a minute, and one that is left takes what
  the others leave: within three minutes, or at once where there are headers. No share exceeds 0.95,
  so that newcomers find some.
- The limits that a limiter is given are the most that it uses: after an upgrade, make another.
  Where the provider lowers them for a while, `peers="auto"` follows, also for one client alone. One
  that does not use dagexec gets what it takes. A request larger than what comes in five seconds
  finds too little often where several share a key: give its tool `Retry(refusals=40)`.
- `in_flight` is for each process. `dagexec.limits.Store` is the interface for a store of your own;
  `MemoryStore` is one for tests.

In a simulation of providers (`python -m tests.benchmarks.limits`) 1,000 calls take within 1 % of
what the limits allow, with at most 3 refusals on average; four clients with a store, within 2 %.
With `peers="auto"`, refusals a request are 0.00 to 0.02 for four clients, at most 0.04 for eight
and 0.03 to 0.16 for 16, within 4 % of what the limits allow; where there are no headers, 0.05 to
0.08, 0.10 to 0.13 and 0.22 to 0.23, within 9 %; with no option at all, 0.4 to 1.6. With four real
processes and 1,600 requests (`python -m tests.benchmarks.machines`) a store keeps refusals to a few
or none, and all take 1.01 to 1.03 of the least time on two busy cores.
"""

from __future__ import annotations

from typing import cast

from dagexec._errors import (
    AdmissionTimeout,
    BreakerOpen,
    DagexecError,
    OversizeError,
    RateLimited,
    StoreLost,
)
from dagexec._tools.context import current_call
from dagexec.limits._limiter import Limiter, acquire
from dagexec.limits._permit import Permit
from dagexec.limits._postgres import PostgresStore
from dagexec.limits._rates import Rate
from dagexec.limits._redis import RedisStore
from dagexec.limits._retry import Breaker, Retry, transient
from dagexec.limits._store import Ask, MemoryStore, Store

__all__ = [
    "AdmissionTimeout",
    "Ask",
    "Breaker",
    "BreakerOpen",
    "Limiter",
    "MemoryStore",
    "OversizeError",
    "Permit",
    "PostgresStore",
    "Rate",
    "RateLimited",
    "RedisStore",
    "Retry",
    "Store",
    "StoreLost",
    "acquire",
    "current_permit",
    "transient",
]


def current_permit() -> Permit:
    """Return the permit of the call that this code runs for; raise DagexecError without one.

    A tool calls `settle` and `observe` on it; to be refused it raises RateLimited, or lets the
    429 of its HTTP client through.
    """
    permit = current_call().permit
    if permit is None:
        msg = "current_permit() works inside a tool that has limits=; this call has none"
        raise DagexecError(msg)
    return cast("Permit", permit)
