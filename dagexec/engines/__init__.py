"""Engines: other drivers of the same scheduler, for runs that outlive a process and a machine.

| | `dagexec.engines.dbos` | `dagexec.engines.temporal` |
|---|---|---|
| needs | a PostgreSQL | a Temporal server, or Temporal Cloud |
| suits | services that have a PostgreSQL already | organisations that run Temporal already, long chains |
| limits over all machines | calls in flight, and rates of calls | rates of calls |
| a crash over a write | `in_doubt` | `in_doubt` |

Both take the same plans, tools and answers as an `Executor`, and their reports are the same. With
one machine, prefer an `Executor` with a journal (`dagexec.journal`): it is faster and knows more.
"""  # noqa: E501 - rows of tables
