r'''dagexec: runs the tool calls of a model's answer as a graph of dependencies.

A model's reply holds several tool calls. Under `asyncio.gather` one exception loses the results of
all, one hung call holds the turn, siblings of a failed call run on unseen, and a call that needs
another one's result costs a turn of its own. Here they become a plan:

```python
from dagexec import Call, Executor, Ref, Template, Timeouts, tool


@tool(effect="read", timeout=5)
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


@tool(effect="pure")
def write(text: str) -> str:
    return text.upper()


executor = Executor([price, write], timeouts=Timeouts(call=30, workflow=600), concurrency=20)
plan = [
    Call("dune", "price", {"title": "Dune"}),
    Call("text", "write", {"text": Template("{} EUR", Ref("dune"))}),
]
report = executor.run_sync(plan)  # in a coroutine: await executor.run(plan)
print(report, report.outputs, sep="\n")
```

```text
2 calls: 2 done in 1.2 ms
{'dune': 9.5, 'text': '9.5 EUR'}
```

A plan comes from a planner (see `planners`), from JSON (`Plan.from_json`), from a program
(`dagexec.programs`) or is written by hand, as here.

# References

| in Python | in JSON: plan files, and what models write | |
|---|---|---|
| `Ref("search", ("items", 0, "url"))` | `{"$ref": "search.items[0].url"}` | the value, with its type |
| `Ref("search", default=None)` | | the default if that call is not done |
| `Template("{} and {}", Ref("a"), Ref("b"))` | `{"$template": "${a} and ${b}"}` | text; `$$` is a dollar sign |
| `Each(Ref("1", ("orders",)))` | `{"$each": "1.orders"}` | one call for each item of a list |
| | `{"$literal": {"$ref": "x"}}` | an object that only looks like a reference |

A plain string is always itself: `"$5"` and `"${HOME}"` are text, and what a tool returns is never
read for references. A path enters mappings, sequences, declared fields (of dataclasses, models,
named tuples) and text that is JSON: `{"$ref": "1.id"}` of the text `{"id": "a"}` is `"a"`. `[-1]`
counts from the end, and `1.orders[*].id` is the list of that part of each order. Each dependant
gets its own copy of containers of JSON's kinds; other objects are shared.

`Each` makes calls of their own, `2[0]`, `2[1]` …, with their own deadlines, retries, approvals and
records. The value of call `2` is the list of theirs. If some fail, `2` is `failed` and its error
names them; `2[0]` can still be referred to. `Executor(max_items=1000)` bounds their number.

```python
import json

from dagexec import Call, Each, Executor, Ref, tool


@tool(effect="read")
async def customer(name: str) -> str:
    """Return a customer, as JSON in a text: most servers answer like this."""
    return json.dumps({"name": name, "orders": [{"id": "W1"}, {"id": "W2"}]})


@tool(effect="read")
async def order(id: str) -> dict:
    """Return an order."""
    return {"id": id, "cost": len(id) * 10}


calls = [
    Call("1", "customer", {"name": "Mia"}),
    Call("2", "order", {"id": Each(Ref.parse("1.orders[*].id"))}),
    Call("3", "order", {"id": Ref("2", (-1, "id"))}),
]
report = Executor([customer, order]).run_sync(calls)
print(report.outputs["2"], list(report))
```

```text
[{'id': 'W1', 'cost': 20}, {'id': 'W2', 'cost': 20}] ['1', '2', '2[0]', '2[1]', '3']
```

`Plan(calls)` checks what it can see, `executor.check(plan)`, which `run` calls first, adds tools
and argument types. Both raise one `PlanError` that names every problem:

```python
from dagexec import Call, Executor, Plan, PlanError, tool


@tool(effect="read")
async def price(title: str) -> float:
    return 9.5


try:
    Executor([price]).check(Plan([Call("x", "prize", {}), Call("y", "price", {"titel": "Emma"})]))
except PlanError as error:
    print(error)
```

```text
the plan has 2 problems:
  - call 'x': there is no tool 'prize'; did you mean 'price'? There are: price
  - call 'y': Wrong arguments for price: title: missing; titel: unknown argument (did you mean
    title?). Expected: title (string, required).
```

# Effects

`effect=` says what a tool does to the world: `"pure"` (same arguments, same value; equal calls
share one execution), `"read"` (changes nothing), `"idempotent"` (twice is the same as once) or
`"write"`, the default. `pure` and `read` calls of a streamed plan start while the model still
writes; the others wait for its end. Only a `write` is never tried again. One that timed out may
have taken effect: `outcome.maybe` and the text for the model say so.

`reads=("file:{path}",)` and `writes=("file:{path}",)` name what a call touches. Two calls that
conflict run in the model's order, everything else in parallel. `approval=True`, or a function of
the arguments, asks a person first; see `dagexec.journal`.

# Deadlines and failures

`Timeouts(call=30, layer=None, turn=None, workflow=600)` are seconds; None is no limit. They nest,
and what has finished when one expires is kept. `@tool(timeout=)` bounds the calls of one tool,
and all attempts of a call together. It counts from when the call is admitted: the wait for a slot
or a limit is bounded by the outer deadlines, and shown as queue time.

```python
import anyio

from dagexec import Call, Executor, Ref, tool


@tool(effect="read", timeout=0.05)
async def slow(title: str) -> str:
    await anyio.sleep(60)
    return title


@tool(effect="pure")
def write(text: str) -> str:
    return text.upper()


report = Executor([slow, write]).run_sync(
    [
        Call("s", "slow", {"title": "Emma"}),
        Call("p", "write", {"text": "Dune"}),
        Call("w", "write", {"text": Ref("s")}),
    ]
)
for name, outcome in report.items():
    print(name, outcome.status, outcome.value, outcome.scope, outcome.because)
```

```text
s timed_out None call None
p done DUNE None None
w skipped None None s
```

`on_failure="skip"` skips what depends on a failed call; `"stop"` cancels what is unfinished.
`concurrency=20` is the number of calls at a time; `concurrency=0` runs one after the other in the
caller's task, without threads, to debug. `barrier=True` waits for a whole level before the next.

# The report

`Report` is a mapping from ids to outcomes, in plan order: `.ok`, `.outputs` (values of done
calls), `.exceptions` (an `ExceptionGroup` or None), `.raise_for_failures()`, `.elapsed`
(seconds), `.critical_path`, `.blocked`, `.abandoned`, and JSON both ways. `.diagram` and
`.timeline` are two pictures; each is text, mermaid, SVG or JSON, of a plan, a live run or a
report, and shows itself in a notebook. More than 60 calls are folded: failures, running calls,
the critical path and the longest calls stay single, the others are drawn as groups.
`report.save_html("run.html")` writes one page with both pictures, each call's details and a
search; `values=False` leaves arguments and results out. Arguments that a tool declares `secret=`
are never in a page, a report's JSON, a `repr`, a log or a span.

`report.rows()` is one dict a call, for `pandas.DataFrame` or polars; `report.compare(other)` sets
two runs side by side; `report.started_at` is when the run began. `outcome.result()` returns the
value or raises the failure; `outcome.seconds`, `.queued` and `.tool` are what the rows hold.

The log `dagexec` names each call that failed or timed out in a warning, with its id, tool, status
and the error's type, and never with its arguments (of a run of many failures the first 20, the
others at INFO). Each run ends with one line there, at INFO, or as a warning if threads are still
active.

# Live runs

A plan may be an async iterator of calls that are still being written. Each starts as soon as it and
its inputs are there, if its effect allows that; the others wait for the end of the plan.

```python
import asyncio

from dagexec import Call, Executor, Ref, Template, tool


@tool(effect="read")
async def price(title: str) -> float:
    return 9.5


@tool(effect="pure")
def write(text: str) -> str:
    return text


async def arriving():
    yield Call("a", "price", {"title": "Dune"})
    await asyncio.sleep(0.05)
    yield Call("b", "write", {"text": Template("{} EUR", Ref("a"))})


async def main():
    async with Executor([price, write]).start(arriving()) as run:
        async for event in run:  # the scheduler's events, see `dagexec.lowlevel`
            pass  # run.report can be read, and run.cancel() called, at any time
    print(run.report.outputs)


asyncio.run(main())
```

```text
{'a': 9.5, 'b': '9.5 EUR'}
```

# Runs inside tools

A tool may run a plan itself, with the same executor; both together keep to its concurrency.

```python
from dagexec import Call, Executor, tool


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


@tool(effect="read")
async def total(titles: list[str]) -> float:
    inner = await executor.run([Call(title, "price", {"title": title}) for title in titles])
    inner.raise_for_failures()
    return sum(inner.outputs.values())


executor = Executor([price, total], concurrency=1)
print(executor.run_sync([Call("t", "total", {"titles": ["Dune", "Emma"]})]).outputs)
```

```text
{'t': 16.75}
```

The inner run has a new id each time that its tool runs. With
`run_id=current_call().idempotency_key` it has the same id at each attempt and after a crash: with
a journal, what is done in it is not done again. In a synchronous tool, `run_sync()` does the
same. Anything else that is async is called through `dagexec.lowlevel.run_in_loop`, which runs it
in the event loop that waits for the tool; anyio's `from_thread` does not know these threads.

# Threads, processes, resources

An async function runs in the event loop, any other in a thread. A thread that does not end is
abandoned at its deadline; in a long loop, `current_call().check()` raises once nobody waits for
the call any more. `runs="process"` runs the function in a worker process, which is killed at the
deadline with everything that it has started. The function, its arguments and its value have to
pickle: it stands at the top level of a module, and a script guards its main part with `if
__name__ == "__main__":`. Idle workers are kept for the next call and end with the executor.

```python
import asyncio
import statistics

from dagexec import Call, Executor, tool

median = tool(statistics.median, runs="process", effect="pure", timeout=20)


@tool(effect="read", uses={"gpu": 1, "db": 2})
async def embed(text: str) -> list[float]:
    return [float(len(text))]


async def main():
    async with Executor([median, embed], capacities={"gpu": 1, "db": 4}) as executor:
        calls = [Call("m", "median", {"data": [3, 1, 2]}), Call("a", "embed", {"text": "Dune"})]
        print((await executor.run(calls)).outputs)


if __name__ == "__main__":
    asyncio.run(main())
```

```text
{'m': 2, 'a': [4.0]}
```

A call gets all that its tool `uses` at once, or waits without holding a slot, in turn. A call
that would deadlock (it needs a resource held by a call that waits for it) is refused, naming
both.

`executor.background(watch, restart=Restart())` starts an async function that outlives a run. It is
started again when it raises, as often as `dagexec.processes.Restart` allows, and ends with the
executor (`async with`, or `aclose()`).

# Images, audio and files

A tool may return `Media`, bytes of a known kind, an image of PIL, a figure of matplotlib, content
blocks of LangChain or MCP, or a list of texts and these. Each API gets them in its own form, and a
text with the reason for what it does not take. By reference they travel whole. Pages and notebooks
show images, journals keep them, logs never contain them.

```python
from dagexec import Call, Executor, Media, tool


@tool(effect="read")
async def plot() -> Media:
    """Draw a chart."""
    return Media(b"\x89PNG\r\n\x1a\n...", name="chart.png")


print(Executor([plot]).run_sync([Call("1", "plot")]).outputs["1"])
```

```text
[image/png, 11 bytes, chart.png]
```

# Typical mistakes

| what people write | what happens |
|---|---|
| `time.sleep` or `requests` in an async tool | it holds the event loop, so no deadline holds; the log names tool, file and line, and `report.blocked` counts it. Write a plain `def`: it runs in a thread |
| `f"{Ref('a')} EUR"` | raises, and names `Template("{} EUR", Ref("a"))` |
| `if report:` | True also after failures: a report is a mapping. Use `report.ok` |
| `executor.run_sync()` in a coroutine | an error that says to `await executor.run()` |
| `asyncio.wait_for(executor.run(plan), 30)` | cancels the run and loses its report. Use `Timeouts(workflow=30)`: what is done is kept |
| a lambda or a notebook's function with `runs="process"` | refused: another process cannot find it |
| a folder of your own called `planners` | hides dagexec's package of that name: rename it |

# For those who change dagexec

The way through the code, from below; each package imports what is named before it, and its own
docstring says which file to read first. `_pictures` draws plain values, `_errors` has all errors.
`_core` holds plans, outcomes and the scheduler, which decides and never waits; `_concurrency`
threads and slots. `_tools` makes functions callable by a model. `journal`, `limits`, `processes`,
`programs` and `testing` each stand alone on these. `_runtime` drives the scheduler with anyio: it
is what `Executor` and `Run` are made of. `lowlevel` hands the machine to other drivers, `doctor`
finds out why a process hangs. `engines` and `integrations` join dagexec to other libraries, and
`cli` is the command. Begin with `_core/scheduler.py`, then `_runtime/state.py`.
'''  # noqa: E501 - rows of tables  # noqa: E501 - rows of tables

from dagexec._core.media import Media
from dagexec._core.outcomes import (
    Approve,
    Cancelled,
    Deny,
    Done,
    Edit,
    Failed,
    InDoubt,
    Outcome,
    Pending,
    Skipped,
    TimedOut,
)
from dagexec._core.plan import Call, Plan
from dagexec._core.refs import Each, Ref, Template
from dagexec._core.report import Report
from dagexec._errors import (
    ArgumentError,
    BadReference,
    CallCancelled,
    CallError,
    CallTimeout,
    DagexecError,
    Denied,
    JournalError,
    MissingExtra,
    PlanError,
    Problem,
    RunOwned,
    ToolDefinitionError,
)
from dagexec._runtime.executor import Executor
from dagexec._runtime.run import Run
from dagexec._runtime.settings import Timeouts
from dagexec._tools.context import CallContext, ask, current_call
from dagexec._tools.tool import Effect, Tool, tool

__all__ = [
    "Approve",
    "ArgumentError",
    "BadReference",
    "Call",
    "CallCancelled",
    "CallContext",
    "CallError",
    "CallTimeout",
    "Cancelled",
    "DagexecError",
    "Denied",
    "Deny",
    "Done",
    "Each",
    "Edit",
    "Effect",
    "Executor",
    "Failed",
    "InDoubt",
    "JournalError",
    "Media",
    "MissingExtra",
    "Outcome",
    "Pending",
    "Plan",
    "PlanError",
    "Problem",
    "Ref",
    "Report",
    "Run",
    "RunOwned",
    "Skipped",
    "Template",
    "TimedOut",
    "Timeouts",
    "Tool",
    "ToolDefinitionError",
    "ask",
    "current_call",
    "tool",
]

__version__ = "0.1.0"
