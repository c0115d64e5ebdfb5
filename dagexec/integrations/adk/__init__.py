'''Google ADK: the tool calls of a turn, run as a graph.

An agent of the ADK starts all function calls of a reply at once. A call that needs another's result
waits for a turn of its own, through the model. A call that hangs holds up its turn, an exception
ends the run, and two calls that write the same file race. `DagPlugin` changes that in one line:

```python
import asyncio

from google.adk.agents import LlmAgent
from google.adk.runners import InMemoryRunner

from dagexec import Timeouts
from dagexec.integrations.adk import DagPlugin


async def search(query: str) -> dict:
    """Search the web."""
    return {"items": [query]}


async def save(path: str, text: str) -> dict:
    """Write a file."""
    return {"saved": path}


agent = LlmAgent(name="librarian", model="gemini-3-pro", tools=[search, save])
plugin = DagPlugin(
    timeouts=Timeouts(call=30, turn=120),
    concurrency=8,
    options={
        "search": {"effect": "read", "timeout": 5},
        "save": {"writes": "file:{path}"},
    },
)
runner = InMemoryRunner(agent, plugins=[plugin])
asyncio.run(runner.run_debug("Find papers on jellyfish, save the first title"))
```

The model may now write both calls in one reply, the second with `{"$ref": "1.items[0]"}` as its
text: the tools' declarations take references, the instructions say how, and each result names its
call. Two calls that write the same file run in the model's order. A call that takes longer than its
limit costs its own result and those of calls that need it, and the model is told.

What stays: callbacks of agents and plugins, state deltas, artifacts, confirmations, long-running
tools, credentials, transfers, agents as tools, MCP toolsets, streaming, tracing. Events of a
session hold what the ADK puts there.

What differs: an exception of a tool that no callback answers becomes the result of its call;
`errors="raise"` ends the run as before. A callback before a tool sees arguments with references as
the model wrote them. A call that a person has confirmed runs by itself, outside of a turn. A call
that needs the result of one that waits, for a confirmation or because it runs for long, is
answered. A synchronous function runs on the event loop, as ever in the ADK, where no limit reaches
it; a synchronous tool of dagexec runs in a thread. A bidirectional `run_live` is left alone.

It needs `pip install 'dagexec[adk]'`, and asyncio, as the ADK does.
'''

from importlib import import_module

from dagexec._errors import MissingExtra

try:
    import_module("google.adk.plugins.base_plugin")
except ImportError as error:
    _MSG = "Google ADK 2 is not installed: pip install 'dagexec[adk]'"
    raise MissingExtra(_MSG) from error

from dagexec.integrations.adk._plugin import DagPlugin

__all__ = ["DagPlugin"]
