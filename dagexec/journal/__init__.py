r"""Journals: runs that outlive their process, and people in the loop.

After a crash somebody runs the agent again, and the payment happens twice. With a journal, a run
that is started again under its id goes on where it was: what is done is not done again, a
finished run returns its report, and a write that was under way is asked about.

```python
import asyncio

from dagexec import Approve, Call, Executor, Ref, ask, tool
from dagexec.journal import SqliteJournal


@tool(effect="read")
async def price(title: str) -> float:
    return 9.5


@tool(approval=True)  # or a function of the arguments
async def pay(amount: float) -> str:
    return f"paid {amount}"


@tool
async def address(name: str) -> str:
    street = await ask(f"Where does {name} live?")  # effects belong after the question
    return f"{name}, {street}"


async def main():
    journal = SqliteJournal("runs.db")
    executor = Executor([price, pay, address], journal=journal)
    plan = [
        Call("p", "price", {"title": "Dune"}),
        Call("pay", "pay", {"amount": Ref("p")}),
        Call("to", "address", {"name": "Ann"}),
    ]
    report = await executor.run(plan, run_id="order-17")
    print(report["pay"].question, report["to"].question, sep="\n")

    # days later, in any process, all at once or one by one
    report = await executor.resume("order-17", {"to": "Mill Lane 3"})
    report = await executor.resume("order-17", {"pay": Approve()})  # or Deny("why"), Edit({...})
    print(report.outputs)
    journal.close()


asyncio.run(main())
```

```text
{'approve': 'pay', 'args': {'amount': 9.5}}
Where does Ann live?
{'p': 9.5, 'pay': 'paid 9.5', 'to': 'Ann, Mill Lane 3'}
```

# After a crash

A call that was running when its process ended runs again if its effect allows it, with the same
`current_call().idempotency_key`. A `write` is never started twice: it is `in_doubt`, and goes on
with `Approve()` to run it again, `Deny("why")` if it did not happen, or `Done(value)` if it did; or
with what its tool finds out, `@tool(reconcile=…)`, or a policy, `Executor(in_doubt=…)`. Nobody can
promise that an effect outside happens exactly once; this is what can be done.

A resumed run keeps the `on_failure` and the `barrier` that it began with. A caller's cancellation
leaves it open; deadlines and `run.cancel()` are final. `sweep(executor)` takes over runs whose
process has ended. A run has one owner at a time; a process that ended on the same machine is
replaced at once, another after 15 s of silence.

# Questions inside of tools

When a tool runs a plan of its own, for example a sub-agent, and a call in it waits for a person,
the tool's call waits too, whatever the tool makes of the report. Its question lists what waits
inside, by name: `{"nested": [{"name": "pay", "tool": "pay", "for": "approval", "question": …}]}`.
Answer the outer call: `resume("order-17", {"agent": {"pay": Approve()}})`; with one thing inside,
`Approve()` alone is enough. The tool then runs again from its first line and finds its runs where
they were: nothing in them is done twice. This holds at any depth, after a crash and in another
process. A run inside a call that does not wait is not recorded, unless it has a `run_id` of its
own.

# Conversations

`planners.solve(…, journal=journal, run_id="talk-4")` records the model's replies too. The same
call after a crash, or after a person has answered, goes on where it was and pays for no reply
twice. With `conversation=` it continues that conversation, under the same name or a new
`run_id=`.

# What is kept

Values are kept as JSON with their types (standard library, dataclasses, pydantic models, `Types`
for others). What is written in arguments that a tool declares `secret` is not kept: then the plan
has to be given again. References in them are kept, and so are the keys of a dict that holds nothing
else. What an `Edit` gives for such an argument reaches the tool and is not kept either. Where its
call has to begin anew, after a crash or because its tool asked something, it never runs with what
the `Edit` had changed: it waits for approval again, and the question's `"missing"` names what the
next `Edit` has to give. Whether an answer is one that was given before is told without its secrets.
Damaged or truncated journal files are refused with instructions for recovery.
`MemoryJournal` does the same within one process, for tests. On the command line: `dagexec run …
--journal FILE --run-id RUN`, `dagexec runs`, `dagexec show RUN`, and `dagexec resume RUN --tools
… --answer ID=approve`, which asks for what is missing at a terminal.

The way through the code: `_base` says what a journal is, `_backlog` what a run has on its way into
one, `_records` and `_codec` how a record is written. `_sqlite` is the face of the journal in a
file, `_writer` its thread and `_store` its tables; `_owner` and `_owned` say whose a run is.
"""

from dagexec.journal._base import Journal, Record, RunInfo, Session
from dagexec.journal._codec import Types
from dagexec.journal._memory import MemoryJournal
from dagexec.journal._sqlite import SqliteJournal
from dagexec.journal._sweep import sweep

__all__ = [
    "Journal",
    "MemoryJournal",
    "Record",
    "RunInfo",
    "Session",
    "SqliteJournal",
    "Types",
    "sweep",
]
