"""Engines: other drivers of the same scheduler, for runs that outlive a process and a machine.

| | `dagexec.engines.dbos` | `dagexec.engines.temporal` |
|---|---|---|
| needs | a PostgreSQL | a Temporal server, or Temporal Cloud |
| suits | services that have a PostgreSQL already | organisations that run Temporal already, long chains |
| limits over all machines | calls in flight, and rates of calls | rates of calls |
| a crash over a write | `in_doubt` | `in_doubt` |

Both take the same plans, tools and answers as an `Executor`, and their reports are the same. With
one machine, prefer an `Executor` with a journal (`dagexec.journal`): it is faster and knows more.

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
"""  # noqa: E501 - rows of tables
