'''Programs: the Python that a model wrote, run out of order with the result of running it in order.

A model that may write a program instead of single calls writes loops over lists, and calls that
need one another, in one reply. Other systems run such a program line by line, or gather all that
is pending at each `await`: one slow call holds all others up, one hung call loses all results,
and a program that is sent again after an error repeats its writes.

```python
from dagexec import Executor, tool
from dagexec.programs import Program


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


program = Program("""
prices = {}
for title in ["Dune", "Emma"]:
    prices[title] = price(title)
print(len(prices), "prices")
min(prices, key=lambda title: prices[title])
""")
report = Executor([price]).run_sync(program)
print(report.result, report.printed, report.error)
```

```text
Emma 2 prices
 None
```

A call does not wait: its value is a promise, and an operation on it is done when it is there.
Only where the program looks at a value (`if`, `for`, a comprehension, a part of a local container
that a value names) it waits. A `try` that does one thing with a value, and the same with another
one in its handlers, waits for nothing. So both prices above are asked for at the same time, without
`gather`; `await` and `asyncio.gather` may be written and change nothing.

What it comes to is what Python would: the value of the last expression, what is printed, the
error and its line. A read or a pure call may run ahead of what is before it. A write starts when
all before it has ended well and nothing can raise or branch away any more; so a program's writes
come one by one and in order, and a read behind a write waits for it if both touch the same
resource (`reads=` and `writes=` of their tools; tools that name none may touch the same).

The language is a part of Python, interpreted from its syntax tree: assignments, operators,
f-strings, indexing, methods of str, list, dict and set, comprehensions, if, for, while,
functions, lambdas, try, raise, the usual builtins, `math`, `json`, `re` (in linear time, so without
references back and looking around), `statistics`, `datetime` (without a clock), of `itertools` what
ends and is read once, where it stands, and `functools.reduce` and `partial`. There are no
classes, no attributes of results, no imports of other modules, and no way to an object of the host.
What is not in it is refused before anything runs (`ProgramRefused`), with line, column and what to
write instead. Steps, calls, sizes, memory (of what is alive) and printed text have limits, each an
error that names itself (`LimitReached`).

A call that is not done raises `ToolError` in the program, which may catch it: `error.tool`,
`error.call`, `error.status`. What the program does not catch is `report.error`, a `ProgramFailed`
with the line. When a deadline ends the run, `report.error` says where the program stood
(`ProgramStopped`), and what is done is in the report as always. With a journal, running the same
program again under the same `run_id` goes on where it was: calls that are done are not repeated.
On `dagexec.engines` any process goes on with it, by its `run_id` alone.
A program that failed is sent again, corrected: `Program(source, earlier=calls_of(report))` takes
the values of all calls that are done, each with the same tool and arguments once and in order.
The variables that it had where it failed are `report.program.left`. Reads of a program that a model
is still writing start as its statements are complete: see `_early`.

It may import what `_tools` and `_core` hold. Read `_pipeline` first: it is the idea.
`_expressions` and `_statements` compile to closures, `_live` steps the program, `_source` feeds
it into a run.
'''

from dagexec.programs._earlier import EarlierCall, calls_of
from dagexec.programs._early import EarlyProgram
from dagexec.programs._ends import end_body, end_of
from dagexec.programs._errors import (
    Fault,
    LimitReached,
    ProgramFailed,
    ProgramRefused,
    ProgramStopped,
    ToolError,
)
from dagexec.programs._machine import identifier
from dagexec.programs._program import Program
from dagexec.programs._session import (
    LANGUAGE,
    RUN_PROGRAM,
    Programs,
    is_answer,
    program_tool,
    result_of,
    told,
)
from dagexec.programs._stubs import stub, stubs

__all__ = [
    "LANGUAGE",
    "RUN_PROGRAM",
    "EarlierCall",
    "EarlyProgram",
    "Fault",
    "LimitReached",
    "Program",
    "ProgramFailed",
    "ProgramRefused",
    "ProgramStopped",
    "Programs",
    "ToolError",
    "calls_of",
    "end_body",
    "end_of",
    "identifier",
    "is_answer",
    "program_tool",
    "result_of",
    "stub",
    "stubs",
    "told",
]
