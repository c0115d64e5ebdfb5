"""Runs over any number of machines: the same plans, tools and promises, on DBOS and PostgreSQL.

    engine = DbosEngine(tools, database_url="postgresql://user@host/shop", name="shop")
    async with engine:                                     # a worker that may also ask for runs
        report = await engine.run(plan, run_id="order-17")
    await engine.work()                                    # a worker, until it is cancelled

Needs the extra `dbos`. The scheduler that drives a run in one process drives a workflow of DBOS
here, and calls are workflows that wait in queues; whichever worker takes one runs it with an
`Executor`. Reports are the same, but for their times. What is otherwise:

| promise | in one process | here |
|---|---|---|
| backends | asyncio and trio | asyncio, which is all that DBOS knows |
| plans | whole, or while they are written | whole |
| runs inside of tools | with the same executor | with an `Executor`, never with the engine |
| cancelling the caller of `run` | ends the run | the run goes on; `cancel(run_id)` ends it |
| a process dies | a journal's run is continued by hand or sweep | others go on by themselves |
| who is dead | nobody was heard of for 15 s | killed: at once; hung, or cut off: after 15 s |
| a worker only seemed dead | - | its writes are in doubt, and what it says later is not heard |
| stopping calls elsewhere | at once | a deadline at once; a failure or `cancel` within a second |
| a call that does not stop | holds the run, and is named | after 10 s the run ends without it |
| `concurrency`, `capacities` | of the executor | of each worker process |
| `limits` | of the event loop | of all workers: one cap, one rate of calls for each limiter |
| `retry`: attempts, budgets, breakers | of the executor | in the worker that has the call |
| identical `pure` calls | by validated arguments | by arguments as written, references resolved |
| secret arguments | not kept by a journal | refused: calls travel through the database |
| observers, live runs, `doctor` | yes | not yet: the report comes at the end |

A write starts only when its intent is in the database, and at most once; one whose worker died over
it is `in_doubt`, to be asked of its tool's `reconcile`, the policy `in_doubt=`, or a person. A call
that takes its worker down with it ten times has failed. All workers of a name need the same tools,
and should have the same `concurrency`: the one that was opened last sets that of the queues. An
event loop that is blocked for 15 s makes its worker count as dead.

The database keeps runs until somebody deletes them (`DBOS.delete_workflows`). Connections must not
go through a pool in transaction mode: the lease of a worker is a lock of its session.
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
