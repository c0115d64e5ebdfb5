'''Google ADK: the tool calls of a turn, run as a graph.

An agent of the ADK starts all function calls of a reply at once. A call that needs another's result
waits for a turn of its own, through the model. A call that hangs holds up its turn, an exception
ends the run, and two calls that write the same file race. `DagPlugin` changes that in one line:

```python
import asyncio

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types

from dagexec import Timeouts
from dagexec.integrations.adk import DagPlugin


async def search(query: str) -> dict:
    """Search the web."""
    return {"items": [f"On {query}", f"More on {query}"]}


async def save(path: str, text: str) -> dict:
    """Write a file."""
    print(f"{path}: {text}")
    return {"saved": path}


calls = [
    ("search", {"query": "jellyfish"}),
    ("save", {"path": "titles.txt", "text": {"$ref": "1.items[0]"}}),
]
parts = [types.Part(function_call=types.FunctionCall(name=n, args=a)) for n, a in calls]


class Script(BaseLlm):  # with a key: LlmAgent(model="gemini-3-pro", ...)
    async def generate_content_async(self, llm_request, stream=False):
        asked = len(llm_request.contents) == 1
        content = types.Content(role="model", parts=parts if asked else [types.Part(text="Saved.")])
        yield LlmResponse(content=content)


agent = LlmAgent(name="librarian", model=Script(model="script"), tools=[search, save])
plugin = DagPlugin(
    timeouts=Timeouts(call=30, turn=120),
    concurrency=8,
    options={
        "search": {"effect": "read", "timeout": 5},
        "save": {"writes": "file:{path}"},
    },
)
runner = InMemoryRunner(agent, plugins=[plugin])
events = asyncio.run(runner.run_debug("Find papers on jellyfish, save a title", quiet=True))
print(events[-1].content.parts[0].text)
```

```text
titles.txt: On jellyfish
Saved.
```

The model writes both calls in one reply, the second with `{"$ref": "1.items[0]"}` as its text: the
tools' declarations take references, the instructions say how, and each result names its call. Two
calls that write the same file run in the model's order. A call that takes longer than its limit
costs its own result and those of calls that need it, and the model is told.

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
