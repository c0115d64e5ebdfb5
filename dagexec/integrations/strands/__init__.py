'''Strands Agents: the tool calls of a turn, run as a graph.

An agent of Strands starts all tool uses of a reply at once, or one after the other. A call that
needs another's result waits for a turn of its own, through the model. A call that hangs holds up
its turn, nothing limits how many calls of one tool run, and two calls that write the same file
race. `DagPlugin` changes that in one line:

```python
from strands import Agent, tool
from strands.models.openai import OpenAIModel

from dagexec import Timeouts
from dagexec.integrations.strands import DagPlugin
from dagexec.testing import ScriptedModel


@tool
async def search(query: str) -> list[str]:
    """Search the web."""
    return [f"On {query}", f"More on {query}"]


@tool
def save(path: str, text: str) -> str:
    """Write a file."""
    print(f"{path}: {text}")
    return path


calls = [
    ("search", {"query": "jellyfish"}),
    ("save", {"path": "titles.txt", "text": {"$ref": "1[0]"}}),
]
client = ScriptedModel([calls, "Saved."]).openai()  # with a key: client_args={"api_key": ...}
agent = Agent(
    model=OpenAIModel(client, model_id="gpt-5.5"),
    tools=[search, save],
    callback_handler=None,
    plugins=[
        DagPlugin(
            timeouts=Timeouts(call=30, turn=120),
            concurrency=8,
            options={
                "search": {"effect": "read", "timeout": 5},
                "save": {"writes": "file:{path}"},
            },
        )
    ],
)
print(agent("Find papers on jellyfish, save the first title"))
```

```text
titles.txt: On jellyfish
Saved.
```

The model writes both calls in one reply, the second with `{"$ref": "1[0]"}` as its text: the
tools' schemas take references, the instructions say how, and each result begins with its number.
Two calls that write the same file run in the model's order. A call that takes longer than its limit
costs its own result and those of calls that need it, and the model is told.

What stays: hooks of all kinds and what they change, retries that a hook asks for, middleware,
interventions, interrupts of hooks, tools and agents as tools, background tasks, streams of tools,
structured output, MCP clients, sessions, tracing and metrics. Messages of an agent hold what
Strands puts there. Hooks and middleware see arguments with values in the place of references, so a
policy judges what will happen.

What differs: what a hook awaits before or after a tool counts in the time of the call. A call that
was cut off by its limit has its `AfterToolCallEvent`; a call that never began has neither event. A
call that needs the result of an interrupted one is not answered: both go on when the agent is
resumed. One that needs the result of a call in the background is answered that there is none yet.
After `agent.cancel()` no further call starts; one that runs looks at the signal itself, as before.
Synchronous tools run in threads of dagexec's, one of which may be left behind at a deadline. An
agent with a `tool_executor` of its own is refused. Bidirectional agents are left alone.

It needs `pip install 'dagexec[strands]'`, and asyncio, as Strands does.
'''

from importlib import import_module

from dagexec._errors import MissingExtra

try:
    import_module("strands.middleware")
except ImportError as error:
    _MSG = "Strands Agents is not installed: pip install 'dagexec[strands]'"
    raise MissingExtra(_MSG) from error

from dagexec.integrations.strands._plugin import DagPlugin

__all__ = ["DagPlugin"]
