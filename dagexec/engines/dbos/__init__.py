"""Runs over any number of machines: the same plans, tools and promises, on DBOS and PostgreSQL.

A journal survives its process, not its machine, and one process runs only so many calls. With a
PostgreSQL, [DBOS](https://docs.dbos.dev) carries the plans and tools over any number of processes:

```py
import asyncio

from dagexec import Approve, Call, Ref, tool
from dagexec.engines.dbos import DbosEngine


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5}[title]


@tool(approval=True)
async def pay(amount: float) -> str:
    return f"paid {amount}"


url = "postgresql://shop:secret@localhost:5432/shop"
engine = DbosEngine([price, pay], database_url=url, name="shop")

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

The quick start of `dagexec.engines` makes that database; how to run workers, observe and operate
them stands there, too.

In a worker-only process call `await engine.work()`; run as many of them as you like. A process that
works decides the runs that it is asked for. The runs of one that does not are decided by a worker,
or by itself where no worker begins to within two seconds. A call begins at once in the process
that decides its run, if that has a place for it. Those that find none wait for one there; where
places become free more slowly than a queue works, other workers get from a queue as many of them as
they can take. Tools without limits share one queue; a `Limiter` becomes a queue of its own, whose
cap and rate of calls count for all machines together. What a queue cannot count, such as tokens, is
refused unless the limiter says how processes share it (`peers=`).

A call among many costs one or two milliseconds of a processor, PostgreSQL's included, a link of a
chain eight, a call that goes through a queue five to ten. Processes that work together tell each
other of calls by LISTEN and NOTIFY. Where that fails, a call waits up to `polling=0.1` seconds for
a worker to look into its queue, and as long again until its end is seen
(`python -m tests.benchmarks.engines`).

Needs the extra `dbos`. The scheduler that drives a run in one process drives a workflow of DBOS
here. Calls are a part of it, or workflows that wait in queues; whichever worker has one runs it
with an `Executor`. Reports are the same, but for their times. What differs:

| promise | in one process | here |
|---|---|---|
| backends | asyncio and trio | asyncio, which is all that DBOS knows |
| plans | whole, or while they are written | whole |
| programs | found calls are recorded | the text is stored, and interpreted again by who decides |
| runs inside of tools | with the same executor | with an `Executor`, never with the engine |
| cancelling the caller of `run` | ends the run | the run goes on; `cancel(run_id)` ends it |
| a process dies | a journal's run is continued by hand or sweep | others go on by themselves |
| who is dead | nobody was heard of for 15 s | killed: at once; hung, or cut off: after 15 s |
| the database refuses an end | the run breaks off | `run` says why; the run is tried again |
| a worker only seemed dead | - | its writes are in doubt, and what it says later is not heard |
| stopping calls elsewhere | at once | a deadline at once; a failure or `cancel` within a second |
| a call that does not stop | holds the run, and is named | after 10 s the run ends without it |
| `concurrency`, `capacities` | of the executor | of each worker process |
| `limits` | of the event loop | of all workers: one cap, one rate of calls for each limiter |
| `retry`: attempts, budgets, breakers | of the executor | in the worker that has the call |
| identical `pure` calls | by validated arguments | by arguments as written, references resolved |
| secret arguments | not kept by a journal | refused: calls travel through the database |
| observers, live runs, `doctor` | yes | not yet; `report(run_id)` says what is known now |

A write starts only when its intent is in the database, and at most once; one whose worker died over
it is `in_doubt`, to be asked of its tool's `reconcile`, the policy `in_doubt=`, or a person. A call
that takes its worker down with it eleven times has failed. All workers of a name need the same
tools, and should have the same `concurrency`: the one that was opened last sets that of the queues.
An event loop that is blocked for 15 s makes its worker count as dead.

A program (`dagexec.programs.Program`) runs like a plan: `await engine.run(program, run_id=...)`.
What is stored is its text, its variables, and what became of its calls. Whoever decides the run,
after a crash or days later, interprets it again up to where it stood: what is computed is computed
again, no call that is done is repeated, and `resume(run_id, answers)` needs no program. A call that
waits for a person, or a write that is in doubt, holds only what depends on it; when nothing else is
left, `run` returns, and `report.error` says where the program stands. A program whose run was ended
by a deadline or `cancel` does not go on. Tools must lead it to the same calls as before: a run that
finds out that they do not breaks off. The report of one that has ended tells what it came to then.

The database keeps runs until somebody deletes them (`DBOS.delete_workflows`). Connections must not
go through a pool in transaction mode: the lease of a worker is a lock of its session. A failover
that loses what was committed last loses the intents of writes as well, which then happen twice:
replicate synchronously.
"""

try:
    from dagexec.engines.dbos._engine import DbosEngine
except ImportError as _missing:
    if (_missing.name or "").partition(".")[0] not in ("dbos", "psycopg"):
        raise
    from dagexec import MissingExtra as _MissingExtra

    _text = "dagexec.engines.dbos needs DBOS and psycopg: pip install 'dagexec[dbos]'"
    raise _MissingExtra(_text) from _missing

__all__ = ["DbosEngine"]
