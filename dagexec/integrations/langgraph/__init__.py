r'''LangGraph: a node that runs a message's tool calls as a graph, in place of `ToolNode`.

Under `ToolNode`, siblings run on after a failure and overlap with the retried node; a hung tool
holds the whole message; and after an approval the node starts over, so that a `transfer` beside
the call that asked runs twice. One line changes:

```python
import asyncio

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import Command, interrupt

from dagexec import Timeouts
from dagexec.integrations.langgraph import DagToolNode


@tool
async def look_up(title: str) -> dict:
    """Look up a book."""
    return {"title": title, "price": 7.25}


@tool
def order(title: str, amount: float) -> str:
    """Order a book."""
    return f"ordered {title} for {amount}: {interrupt(f'pay {amount}?')}"


def ask_model(state):  # in your graph: a model
    calls = [
        {"name": "look_up", "args": {"title": "Emma"}, "id": "call_1"},
        {
            "name": "order",
            "args": {"title": {"$ref": "1.title"}, "amount": {"$ref": "1.price"}},
            "id": "call_2",
        },
    ]
    return {"messages": [AIMessage("", tool_calls=calls)]}


node = DagToolNode(  # ToolNode([look_up, order])
    [look_up, order],
    timeouts=Timeouts(call=30),
    options={"look_up": {"effect": "read", "timeout": 5}},
)
builder = StateGraph(MessagesState)
builder.add_node("model", ask_model)
builder.add_node("tools", node)
builder.set_entry_point("model")
builder.add_edge("model", "tools")
graph = builder.compile(checkpointer=InMemorySaver())


async def main():
    thread = {"configurable": {"thread_id": "1"}}
    state = await graph.ainvoke({"messages": [("user", "Order Emma.")]}, thread)
    (asked,) = state["__interrupt__"]
    state = await graph.ainvoke(Command(resume={asked.id: "yes"}), thread)
    print(asked.value, state["messages"][-1].content, sep="\n")


asyncio.run(main())
```

```text
pay 7.25?
ordered Emma for 7.25: yes
```

The model has to know that it may refer: `planners.langchain.bind` gives it the widened schemas, the
instructions, and the number of each call.

# From `ToolNode` to `DagToolNode`

| `ToolNode` | `DagToolNode` |
|---|---|
| a placeholder for another call's result goes to the tool as it is | `{"$ref": "1.price"}` and `{"$template": …}` work, within a message and across turns; the value keeps its type |
| siblings run on after a failure, and overlap with the retried node | siblings finish first, then the original exception is raised, and a retry or `invoke(None)` repeats only the failed call |
| a hung tool holds the message | a call is cut off at its limit and answered with an error; the others keep their results |
| one interrupt a turn; answers go by the order in which tools ask | all interrupts of a message in one turn, each with an id of its own; what is done is not done again |
| `max_concurrency` is ignored under `ainvoke` | it holds under `invoke` and `ainvoke` |
| a sync wrapper, or six sync tools that wait for the loop, block everything | each has a thread of its own |
| async tools fail under `invoke` | they work |
| types in `handle_tool_errors` are forgotten once there is a wrapper | they hold |
| a call that is already answered (a person's refusal, then `jump_to="tools"`) runs | it does not run, and each id is answered once |
| of several commands for the parent graph one arrives, and no answer beside it | all arrive, as one command, with the other calls' answers |
| a call costs | 0.7 to 0.9 of that, for 1,000 no-op calls |

What differs, on purpose:

- A whole message has a limit of 600 s, and at most 20 of its calls run at a time; `timeouts=` and
  `concurrency=` change that. A call has no limit of its own unless you give one: sub-agents take
  long.
- An error that nobody handles is raised when the siblings have ended, not before
  (`on_failure="stop"` cancels them). If one call fails and another interrupts, the error comes
  first.
- Sync tools run in dagexec's threads, not in the loop's executor.
- Arguments of a tool call that LangChain could not read (`invalid_tool_calls`) are answered, too.
  The node works outside of a graph, and `[]` as input is a ValueError.
- One of LangGraph's 260 own tests fails, of the version for `create_react_agent`'s `v1`: it
  asserts that a finished call runs again after another's interrupt. The other 259 pass, all 99 of
  `ToolNode`.
- Finished calls survive errors, retries and interrupts, not the cancellation of the node from
  outside: LangGraph saves nothing then. `add_node(timeout=…)` is such a one; use `timeouts=`
  here.
- It stands on a few undocumented names of LangGraph's. Where they are missing it logs that once,
  and interrupts are LangGraph's own. It runs on asyncio only, as LangGraph does.

# Agents

`create_agent` and `create_react_agent` (`version="v2"`) send each call to the tools' node by
itself, so no node could see two calls together. `dag_agent` takes the agent that they made and
returns one whose node gets the whole message, with the same tools, middleware and checkpointer:

    from langchain.agents import create_agent
    from planners.langchain import references

    agent = create_agent(model, tools, middleware=[references()])  # last: sees what the model gets
    agent = dag_agent(agent, timeouts=Timeouts(call=30))

In the batch the `updates` of a graph come when the node ends. With `stream_calls=True` each call,
as it ends, is on the `custom` stream: `{"type": "tool_call", "tool_call_id": …, "name": …,
"status": …, "message": …}`; `stream_mode="tools"` and what tools write themselves come at once
anyway.

# Tools and approvals

`from_langchain(tool, effect="read")` makes a dagexec tool of a LangChain tool, for any
`Executor`. `DagToolNode` takes dagexec's tools as well as LangChain's; `options={"order": {…}}`
gives a LangChain tool the options of `dagexec.tool`. For tools with `uses=` the node has
`capacities=`. A call that asks, by `approval=` or `ask()`, is an interrupt of the graph. The
answers are those of `executor.resume`: `Approve()`, `Deny("why")`, `Edit({...})` and
`Done(value)`; for an approval also as JSON: `true`, `false`, `{"type": "edit", "args": {…}}`,
`{"type": "deny", "reason": "…"}`, `{"type": "done", "value": …}`. An answer that does not fit is
a `DagexecError`, and can be given again. Arguments named by `secret=` are shown as `<secret>`.

Unlike in an `Executor`, identical calls of a `pure` tool each run; `runs="process"` is refused; and
there is no journal: LangGraph's checkpointer decides what becomes of a node after a crash, so
`reconcile=` is not asked.

Needs `pip install 'dagexec[langgraph]'`.
'''  # noqa: E501 - rows of tables

from importlib import import_module

from dagexec._errors import MissingExtra

try:
    import_module("langgraph.prebuilt.tool_node")
except ImportError as error:
    _MSG = "LangGraph is not installed: pip install 'dagexec[langgraph]'"
    raise MissingExtra(_MSG) from error

from dagexec.integrations.langgraph._agent import dag_agent
from dagexec.integrations.langgraph._node import DagToolNode
from dagexec.integrations.langgraph._references import FIRST_CALL, numbered
from dagexec.integrations.langgraph._tools import from_langchain, to_langchain

__all__ = [
    "FIRST_CALL",
    "DagToolNode",
    "dag_agent",
    "from_langchain",
    "numbered",
    "to_langchain",
]
