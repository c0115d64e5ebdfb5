'''Pydantic AI: the tool calls of a turn, run as a graph.

An agent of Pydantic AI starts all tool calls of a reply at once. A call that needs another's result
waits for a turn of its own, through the model. A call that hangs holds up its turn, an exception
ends the run, and a reply with 800 calls starts 800. `Dag` changes that in one line:

```python
import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from dagexec import Timeouts
from dagexec.integrations.pydantic_ai import Dag
from dagexec.testing import ScriptedModel

calls = [
    ("search", {"query": "jellyfish"}),
    ("save", {"path": "titles.txt", "text": {"$ref": "1[0]"}}),
]
client = ScriptedModel([calls, "Saved."]).openai()  # with a key: Agent("openai:gpt-5.5", ...)
agent = Agent(
    OpenAIChatModel("gpt-5.5", provider=OpenAIProvider(openai_client=client)),
    capabilities=[
        Dag(
            timeouts=Timeouts(call=30, turn=120),
            concurrency=8,
            options={
                "search": {"effect": "read", "timeout": 5},
                "save": {"writes": "file:{path}"},
            },
        )
    ],
)


@agent.tool_plain
async def search(query: str) -> list[str]:
    """Search the web."""
    return [f"On {query}", f"More on {query}"]


@agent.tool_plain
async def save(path: str, text: str) -> None:
    """Write a file."""
    print(f"{path}: {text}")


result = asyncio.run(agent.run("Find papers on jellyfish and save the first title"))
print(result.output)
```

```text
titles.txt: On jellyfish
Saved.
```

The model writes both calls in one reply, the second with `{"$ref": "1[0]"}` as its text: the
tools' schemas take references, the instructions say how, and each result begins with its number.
Two calls that write the same file run in the model's order. A call that takes longer than its limit
costs its own result and those of calls that need it, and the model is told.

What stays: validation by the tool's own schema (of arguments with references once the values are
there), dependencies, `ModelRetry` and its budgets, `ToolFailed`, `ApprovalRequired` and deferred
tools, `sequential`, toolsets and MCP servers, output tools, usage limits, streaming, `iter`,
instrumentation, cancellation. What a history holds is what the framework puts there.

What differs: an exception of a tool becomes the result of its call, and the run goes on;
`errors="raise"` ends the run as before. A synchronous tool that a limit or a cancellation overtakes
is left in its thread, where the framework would wait for it. A call that needs the result of one
that waits for an approval is answered "not run yet". With `references=False` the model's side stays
as it is.

It needs `pip install 'dagexec[pydantic-ai]'`, and asyncio, as agents do. An agent of Temporal, DBOS
or Prefect is refused: a replay has to take the same steps, which deadlines do not.
'''

from importlib import import_module

from dagexec._errors import MissingExtra

try:
    import_module("pydantic_ai.capabilities")
except ImportError as error:
    _MSG = "Pydantic AI 2 is not installed: pip install 'dagexec[pydantic-ai]'"
    raise MissingExtra(_MSG) from error

from dagexec.integrations.pydantic_ai._dag import Dag
from dagexec.integrations.pydantic_ai._tools import to_pydantic_ai

__all__ = ["Dag", "to_pydantic_ai"]
