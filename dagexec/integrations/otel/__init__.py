"""Traces and metrics: OpenTelemetry for runs and calls, by the GenAI semantic conventions.

A trace of an agent that shows its model's requests does not show why its tools took so long. Here a
run is a span `invoke_workflow NAME`, and each call that starts a span `execute_tool TOOL` below it,
with the time it was queued, its attempts and its effect. What it depends on are links, since a
graph is no tree. A tool's own spans are below its call's.

```python
from dagexec import Call, Executor, tool
from dagexec.integrations.otel import Tracing


@tool(effect="read")
async def price(title: str) -> float:
    return 9.5


tracing = Tracing(
    "shop", span_attributes=lambda call, outcome: {"langfuse.observation.type": "tool"}
)
executor = Executor([price], observers=[tracing])
print(executor.run_sync([Call("p", "price", {"title": "Dune"})]).ok)
```

```text
True
```

With `planners.solve`, pass `before_turn=tracing.before_turn, after_turn=tracing.after_turn`, and
each turn is a span with its run below it; `with tracing.workflow():` puts all of it below one.

`Metrics` counts beside it: give both to `observers`. Its instruments, with their attributes:

| instrument | kind, unit | what |
|---|---|---|
| `gen_ai.client.operation.duration` | histogram, s | how long calls ran; `error.type` |
| `dagexec.calls` | counter | calls that ended; `dagexec.outcome` is their status |
| `dagexec.calls.active` | up-down counter | calls that run now |
| `dagexec.call.queue_time` | histogram, s | from ready to admitted |
| `dagexec.call.retries` | counter | attempts that were tried again; `error.type` |
| `dagexec.call.refusals` | counter | attempts that the other side refused (`RateLimited`) |
| `dagexec.loop.blocked` | counter, s | time in which async tools blocked the event loop |
| `dagexec.threads.abandoned` | counter | threads left behind at a deadline |

All have `gen_ai.tool.name`, and the first `gen_ai.operation.name`, which is `execute_tool`.
`gen_ai.tool.call.id` is the id that the provider gave the call, where a planner read it; the
call's own is `dagexec.call.id`. A resumed run counts what happens from then on.

The conventions are "in development", so their names are written out here and no package of
constants is needed. Arguments, results and messages of errors may be secret: they are left out
unless `content=True`. Needs the extra `otel`; without an observer nothing of this is even loaded.
"""

from dagexec._errors import MissingExtra

try:
    from dagexec.integrations.otel._metrics import Metrics
    from dagexec.integrations.otel._tracing import Tracing
except ImportError as missing:  # pragma: no cover - the extra is there in the tests
    _text = "dagexec.integrations.otel needs OpenTelemetry: pip install 'dagexec[otel]'"
    raise MissingExtra(_text) from missing

__all__ = ["Metrics", "Tracing"]
