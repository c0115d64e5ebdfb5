'''smolagents: the tool calls of a turn, run as a graph.

A `ToolCallingAgent` starts all tool calls of a reply at once, each in a thread. A call that needs
another's result waits for a turn of its own, through the model. A call that hangs holds up the
agent for ever, one exception costs the results of all, and two calls that write the same file race.
`dag_agent` changes that in one line:

```python
from smolagents import ChatMessage, LogLevel, Model, ToolCallingAgent, tool
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction

from dagexec import Timeouts
from dagexec.integrations.smolagents import dag_agent


@tool
def search(query: str) -> list:
    """Search the web.

Args:
        query: what to look for
    """
    return [f"On {query}", f"More on {query}"]


@tool
def save(path: str, text: str) -> str:
    """Write a file.

Args:
        path: its name
        text: what is in it
    """
    print(f"{path}: {text}")
    return path


class Script(Model):
    """Offline; with a key: OpenAIModel("gpt-5.5")."""

    def generate(self, messages, **options):
        calls = replies.pop(0)
        functions = [ChatMessageToolCallFunction(args, name) for name, args in calls]
        uses = [ChatMessageToolCall(f, str(n), "function") for n, f in enumerate(functions)]
        return ChatMessage("assistant", "", uses)


replies = [
    [
        ("search", {"query": "jellyfish"}),
        ("save", {"path": "titles.txt", "text": {"$ref": "1[0]"}}),
    ],
    [("final_answer", {"answer": "Saved."})],
]
agent = dag_agent(
    ToolCallingAgent([search, save], Script(), verbosity_level=LogLevel.OFF),
    timeouts=Timeouts(call=30, turn=120),
    concurrency=8,
    options={
        "search": {"effect": "read", "timeout": 5},
        "save": {"writes": "file:{path}"},
    },
)
print(agent.run("Find papers on jellyfish, save the first title"))
```

```text
titles.txt: On jellyfish
Saved.
```

The model writes both calls in one reply, the second with `{"$ref": "1[0]"}` as its text: the
tools' schemas take references, the instructions say how, and each observation begins with its
number. Two calls that write the same file run in the model's order. A call that takes longer than
its limit costs its own result and those of calls that need it, and the model is told.

What stays: `run`, streams of steps and outputs, step callbacks, planning, managed agents, state
variables, images and audio, the final answer and its checks, memory and monitor. The agent that was
given stays as it is: the result is a copy. A managed agent is not changed; wrap it too.

What differs: an exception of a tool becomes the observation of its call; `errors="raise"` makes it
the error of the step as before, and the model then sees none of the results. Observations stand in
the model's order, not in that of the ids. The arguments of `final_answer` are not read for
references. Calls run in threads of dagexec's, the only call of a turn too; one may be left behind
at a deadline, and `max_tool_threads` is not asked. `agent.interrupt()` ends a turn at once: what
runs is answered as cancelled and its thread is left behind. Turns run in an
event loop of the agent's own, in a thread beside those that call `run`, which may be where a loop
runs already; the thread ends when it has had no turn for some seconds. Options
have no `approval`: there is nobody to ask. A `CodeAgent` is refused; its code is a program, see
`planners.programs`.

It needs `pip install 'dagexec[smolagents]'`.
'''

from importlib import import_module

from dagexec._errors import MissingExtra

try:
    import_module("smolagents.agents")
except ImportError as error:
    _MSG = "smolagents is not installed: pip install 'dagexec[smolagents]'"
    raise MissingExtra(_MSG) from error

from dagexec.integrations.smolagents._agent import dag_agent

__all__ = ["dag_agent"]
