'''OpenAI Agents SDK: the function tools of a turn, run as a graph.

The SDK starts all function calls of a reply at once. A call that needs another's result waits for a
turn of its own, through the model. Only an async tool can have a timeout, nothing limits how many
calls of one tool run, and two calls that write the same file race. `dag_agent` changes that in one
line:

```python
import asyncio

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled

from dagexec import Timeouts
from dagexec.integrations.openai_agents import dag_agent
from dagexec.testing import ScriptedModel


@function_tool
async def search(query: str) -> list[str]:
    """Search the web."""
    return [f"On {query}", f"More on {query}"]


@function_tool
async def save(path: str, text: str) -> None:
    """Write a file."""
    print(f"{path}: {text}")


set_tracing_disabled(True)  # without a key there is nowhere to send traces
calls = [
    ("search", {"query": "jellyfish"}),
    ("save", {"path": "titles.txt", "text": {"$ref": "1[0]"}}),
]
client = ScriptedModel([calls, "Saved."]).openai()  # with a key: model="gpt-5.5"
model = OpenAIChatCompletionsModel("gpt-5.5", openai_client=client)
agent = dag_agent(
    Agent(name="Librarian", instructions="Be brief.", tools=[search, save], model=model),
    timeouts=Timeouts(call=30, turn=120),
    concurrency=8,
    options={
        "search": {"effect": "read", "timeout": 5},
        "save": {"writes": "file:{path}"},
    },
)
result = asyncio.run(Runner.run(agent, "Find papers on jellyfish, save the first title"))
print(result.final_output)
```

```text
titles.txt: On jellyfish
Saved.
```

The model writes both calls in one reply, the second with `{"$ref": "1[0]"}` as its text: the
tools' schemas take references, the instructions say how, and each result begins with its number.
Two calls that write the same file run in the model's order. A call that takes longer than its limit
costs its own result and those of calls that need it, and the model is told.

What stays: `Runner.run`, `run_streamed` and `run_sync`, handoffs, input and output guardrails of
tools, `needs_approval` with interruptions and resumed states, `failure_error_function`, timeouts of
tools, agents as tools, MCP servers, hooks, sessions, tracing. Hosted tools are untouched. The agent
that was given stays as it is: the result is a copy. An agent that is handed over to is not changed;
wrap it too.

What differs: what the model is sent, the hooks of a run and results name copies of the tools and of
their input guardrails, not the objects that were given; the agent's own hooks and the exception of
a tripwire name those. A copy of a tool equals (`==`) the tool. Schemas are sent without strict
mode, which has no words for references. A call with references in its arguments needs approval if
its tool may need it, since nobody can look at the values yet. Values go from call to call as JSON,
which is what the SDK's tools take. A function tool without a failure policy of its own that raises
is answered, as others are; `errors="raise"` ends the run as before. A tool of dagexec cannot `ask`
here. A guardrail of a tool's output looks at what goes back to the model, not at what goes from
call to call. With `references=False` schemas, instructions and results stay as they are.

It needs `pip install 'dagexec[openai-agents]'`, and asyncio, as the SDK does.
'''

from importlib import import_module

from dagexec._errors import MissingExtra

try:
    import_module("agents.tool_context")
except ImportError as error:
    _MSG = "The OpenAI Agents SDK is not installed: pip install 'dagexec[openai-agents]'"
    raise MissingExtra(_MSG) from error

from dagexec.integrations.openai_agents._agent import dag_agent
from dagexec.integrations.openai_agents._tools import to_function_tool

__all__ = ["dag_agent", "to_function_tool"]
