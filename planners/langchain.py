'''The model's side of LangGraph: tools that take references, for any LangChain chat model.

A node can only run calls as a graph if the model knows that it may refer from one call to another.
`bind` gives a model the tools with widened schemas, the instructions, and the number of each call
in front of its result; the messages in the state stay unchanged.

```python
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from planners.langchain import bind


@tool
async def look_up(title: str) -> dict:
    """Look up a book."""
    return {"title": title, "price": 7.25}


class Scripted(GenericFakeChatModel):  # in the place of ChatOpenAI, ChatAnthropic, …
    def bind_tools(self, tools, **options):
        print(tools[0].args["title"]["type"])  # a text, or a reference
        return self.bind(**options)


model = bind(Scripted(messages=iter([AIMessage("Hello.")])), [look_up])
print(model.invoke("Hello").content)
```

```text
['string', 'object']
Hello.
```

For `create_agent`, which binds the tools itself, `references()` is a middleware that does the same.

Importing this module needs the extra langgraph; only `references` needs the package `langchain`.
'''

# LangChain's own types come without their parameters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as SingleInputTool
from langchain_core.tools import tool as as_tool
from langchain_core.utils.function_calling import convert_to_openai_tool

from dagexec import MissingExtra, Tool
from dagexec.integrations.langgraph import FIRST_CALL, numbered, to_langchain
from dagexec.lowlevel import INSTRUCTIONS, widened

R = TypeVar("R")

__all__ = ["bind", "instructions", "references", "widen"]

instructions: str = INSTRUCTIONS
"""What `bind` and `references` add to the system message."""


def widen(tool: BaseTool | Tool[..., Any] | Callable[..., Any]) -> BaseTool:
    """Return a tool for a model only: each parameter takes a reference, too.

    Name, description and a provider's extras are the tool's own. It cannot be called.
    """
    if isinstance(tool, Tool):
        tool = to_langchain(tool)
    known: Any = tool if isinstance(tool, BaseTool) else as_tool(tool)
    parameters = _parameters(known)
    # LangChain puts name and description of the tool into the schema of its parameters.
    for name in ("title", "description"):
        parameters.pop(name, None)
    return StructuredTool(
        name=known.name,
        description=known.description,
        args_schema=_sayable(widened(parameters)),
        extras=known.extras,
        func=_not_to_be_called,
    )


def _parameters(tool: BaseTool) -> dict[str, Any]:
    if isinstance(tool, SingleInputTool) and tool.args_schema is None:
        # It takes one text, and only LangChain's conversion for providers says what it is called.
        shown: dict[str, Any] = convert_to_openai_tool(tool)["function"]["parameters"]
        return shown
    schema: Any = tool.tool_call_schema
    return dict(schema if isinstance(schema, dict) else schema.model_json_schema())


def _sayable(node: Any) -> Any:
    """Return a schema without a property that is named `$ref`.

    LangChain takes each key of that name for a pointer, wherever it stands, and raises.
    """
    if isinstance(node, list):
        return [_sayable(each) for each in node]
    if not isinstance(node, dict):
        return node
    known = cast("dict[str, Any]", node)
    if known.get("required") in (["$ref"], ["$template"], ["$each"]) and "properties" in known:
        rest = {key: value for key, value in known.items() if key != "properties"}
        return {**rest, "additionalProperties": {"type": "string"}}
    return {key: _sayable(value) for key, value in known.items()}


def _not_to_be_called(**args: Any) -> Any:
    del args
    msg = "a tool made by widen() describes a tool to a model; give DagToolNode the tool itself"
    raise TypeError(msg)


def bind(
    model: BaseChatModel,
    tools: Sequence[BaseTool | Tool[..., Any] | Callable[..., Any] | dict[str, Any]],
    **kwargs: Any,
) -> Runnable[Any, AIMessage]:
    """Return the model with tools whose arguments may refer to other calls' results.

    It takes and gives what the model does. `tools` are LangChain tools, functions or dagexec tools;
    a dict, which is a tool that the provider runs, goes as it is. `kwargs` go to the model's
    `bind_tools`.
    """
    defined = [each if isinstance(each, dict) else widen(each) for each in tools]
    bound: Any = model.bind_tools(defined, **kwargs)
    if isinstance(bound, RunnableBinding):
        return _Numbered(bound=bound.bound, kwargs=bound.kwargs, config=bound.config)
    return _Numbered(bound=bound)


class _Numbered(RunnableBinding[Any, AIMessage]):
    """A model that is shown the numbers of calls, and whose own calls are numbered."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002
        messages, first = _prepared(input)
        return _marked(super().invoke(messages, config, **kwargs), first)

    async def ainvoke(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        messages, first = _prepared(input)
        return _marked(await super().ainvoke(messages, config, **kwargs), first)

    def stream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessage]:
        messages, first = _prepared(input)
        for position, chunk in enumerate(super().stream(messages, config, **kwargs)):
            yield chunk if position else _marked(chunk, first, always=True)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessage]:
        messages, first = _prepared(input)
        begun = False
        async for chunk in super().astream(messages, config, **kwargs):
            yield chunk if begun else _marked(chunk, first, always=True)
            begun = True

    # One by one: each input has numbers of its own.
    batch = Runnable.batch
    abatch = Runnable.abatch


def _prepared(given: Any) -> tuple[list[BaseMessage], int]:
    """Return the messages for the model, and the number of its next call."""
    if isinstance(given, str):
        messages: list[BaseMessage] = [HumanMessage(given)]
    elif hasattr(given, "to_messages"):
        messages = list(given.to_messages())
    else:
        messages = convert_to_messages(given)
    shown, first = _shown(messages)
    head = shown[0] if shown else None
    if isinstance(head, SystemMessage):
        return [_instructed(head), *shown[1:]], first
    return [SystemMessage(INSTRUCTIONS), *shown], first


def _instructed(message: SystemMessage | None) -> SystemMessage:
    if message is None:
        return SystemMessage(INSTRUCTIONS)
    content: Any = message.content
    if isinstance(content, str):
        text: Any = f"{content}\n\n{INSTRUCTIONS}"
    else:
        text = [*content, {"type": "text", "text": INSTRUCTIONS}]
    return message.model_copy(update={"content": text})


def _shown(messages: Iterable[BaseMessage]) -> tuple[list[BaseMessage], int]:
    """Return messages with the number of its call in front of each result, and the next number."""
    given = list(messages)
    firsts = {id(message): number for number, message in numbered(given)}
    numbers: dict[str, int] = {}
    following = 1
    found: list[BaseMessage] = []
    for message in given:
        if isinstance(message, AIMessage) and id(message) in firsts:
            first = firsts[id(message)]
            numbers = {call["id"] or "": n for n, call in enumerate(message.tool_calls, first)}
            following = first + len(message.tool_calls)
        elif isinstance(message, ToolMessage) and message.tool_call_id in numbers:
            found.append(_headed(message, numbers[message.tool_call_id]))
            continue
        found.append(message)
    return found, following


def _headed(message: ToolMessage, number: int) -> ToolMessage:
    head = f"[call {number}: failed]" if message.status == "error" else f"[call {number}]"
    content: Any = message.content
    if isinstance(content, str):
        text: Any = f"{head}\n{content}"
    else:
        text = [{"type": "text", "text": head}, *content]
    return message.model_copy(update={"content": text})


def _marked(reply: R, first: int, *, always: bool = False) -> R:
    """Note the number of a reply's first call: what is left out of a later request changes none."""
    if isinstance(reply, AIMessage) and (reply.tool_calls or always):
        metadata = {**reply.response_metadata, FIRST_CALL: first}
        return cast("R", reply.model_copy(update={"response_metadata": metadata}))
    return reply


def references() -> Any:
    """Return a middleware for `create_agent` that lets the model refer to other calls' results.

        agent = dag_agent(create_agent(model, tools, middleware=[references()]))

    Put it last, so that it sees the request as the model gets it. Raises MissingExtra without the
    package `langchain`.
    """
    return _middleware()()


@cache
def _middleware() -> type[Any]:
    try:
        from langchain.agents.middleware import AgentMiddleware
    except ImportError as error:
        msg = "create_agent and its middleware are in the package langchain: pip install langchain"
        raise MissingExtra(msg) from error

    class References(AgentMiddleware):
        """Shows the model numbers and tools that take references."""

        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            """Change what the model sees."""
            changed, first = _requested(request)
            return _answered(handler(changed), first)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            """Change what the model sees."""
            changed, first = _requested(request)
            return _answered(await handler(changed), first)

    return References


def _requested(request: Any) -> tuple[Any, int]:
    shown, first = _shown(request.messages)
    changed = request.override(
        messages=shown,
        system_message=_instructed(request.system_message),
        tools=[widen(each) if isinstance(each, BaseTool) else each for each in request.tools],
    )
    return changed, first


def _answered(response: Any, first: int) -> Any:
    if isinstance(response, AIMessage):
        return _marked(response, first)
    inner = getattr(response, "model_response", response)
    inner.result = [_marked(message, first) for message in inner.result]
    return response
