"""LangChain's tools as dagexec's, and dagexec's as LangChain's."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import Callable, Coroutine, Hashable, Mapping
from contextvars import copy_context
from types import CoroutineType
from typing import Any, Final, Unpack, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as SingleInputTool
from langchain_core.tools import base as base_module
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.errors import GraphInterrupt
from langgraph.prebuilt import tool_node as stock
from pydantic import ValidationError

from dagexec import Media, Tool, ToolDefinitionError, current_call
from dagexec._concurrency.signals import Asked
from dagexec._concurrency.threads import enclosing_thread_call, run_in_loop
from dagexec._tools.arguments import fitted
from dagexec._tools.options import ToolOptions
from dagexec._tools.settle import collected_here, settled
from dagexec.integrations.langgraph._blocking import in_event_loop, in_thread
from dagexec.integrations.langgraph._people import QUESTION
from dagexec.integrations.langgraph._tracked import CURRENT, ErrorAnswer, TrackedCall
from dagexec.lowlevel import as_text, parts_of

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.:/-]")
_LONGEST: Final = 128
_OWN: Final = "__dagexec_tool__"


def fitting_name(name: str) -> str:
    """Return a name as dagexec takes it, for one that LangChain takes."""
    return _UNFIT.sub("_", name)[:_LONGEST] or "_"


def is_async(tool: BaseTool) -> bool:
    """Whether the tool has an async implementation of its own."""
    if type(tool).ainvoke not in _DELEGATING:
        return True
    if isinstance(tool, StructuredTool | SingleInputTool):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun  # noqa: SLF001


# These call `invoke` in a thread where there is nothing async.
_DELEGATING: Final = (BaseTool.ainvoke, StructuredTool.ainvoke, SingleInputTool.ainvoke)


def is_async_only(tool: BaseTool) -> bool:
    """Whether the tool can only be awaited."""
    if isinstance(tool, StructuredTool | SingleInputTool):
        return tool.func is None and tool.coroutine is not None
    return False


# ------------------------------------------------------------------------ the value before its text


def twin_of(tool: BaseTool) -> BaseTool:
    """Return a live view of a tool that tells the current tracked what the tool returned.

    LangChain makes text of a tool's value before it hands it out, and a reference passes the value
    on with its type. The view also answers once what LangChain asks of a tool's signature at each
    call, which is a third of the price of a call.
    """
    twin = object.__new__(_twin_class(type(tool)))
    set_ = object.__setattr__
    known = getattr(tool, "_injected_args_keys", None)  # found through annotations, then kept
    set_(twin, "__dict__", tool.__dict__)
    for slot in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        set_(twin, slot, getattr(tool, slot, None))
    del known
    return twin


@functools.lru_cache(maxsize=256)
def _twin_class(kind: type[BaseTool]) -> type[BaseTool]:
    given: Any = kind
    base: Any = BaseTool
    structured: Any = StructuredTool
    members: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    run = _lean_run if given._run is structured._run else given._run  # noqa: SLF001
    members["_run"] = _answering(given._run, _noting(run))  # noqa: SLF001
    members["_parse_input"] = _parsing(given._parse_input)  # noqa: SLF001
    # LangChain looks whether the class has its own.
    if given._arun is not base._arun:  # noqa: SLF001
        arun = _lean_arun if given._arun is structured._arun else given._arun  # noqa: SLF001
        members["_arun"] = _answering(given._arun, _anoting(arun))  # noqa: SLF001
    return type(kind.__name__, (kind,), members)


def _parsing(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Return LangChain's check of arguments, which takes what fits in its JSON form only too."""

    def parse(self: BaseTool, tool_input: Any, tool_call_id: str | None) -> Any:
        def attempt(args: Mapping[str, Any]) -> Any:
            try:
                return inner(self, dict(args), tool_call_id)
            except ValidationError:
                return []

        try:
            return inner(self, tool_input, tool_call_id)
        except ValidationError:
            found = fitted(attempt, tool_input) if isinstance(tool_input, dict) else []
            if isinstance(found, list):
                raise
            return found

    return parse


def _noting(inner: Callable[..., Any]) -> Callable[..., Any]:
    def run(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        try:
            value = inner(self, *args, **kwargs)
        except Asked as asked:
            raise _interrupt_of(asked) from asked
        content, put_back = _content_of(self, value)
        content = settled(collected_here(content))
        if isinstance(content, CoroutineType):
            content = _waited_for(cast("CoroutineType[Any, Any, Any]", content))
        value = put_back(content)
        _note(self, value)
        return _as_content(self, value)

    return run


def _anoting(inner: Callable[..., Any]) -> Callable[..., Any]:
    async def arun(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        try:
            value = await inner(self, *args, **kwargs)
        except Asked as asked:
            raise _interrupt_of(asked) from asked
        content, put_back = _content_of(self, value)
        content = settled(content)
        value = put_back(await content if isinstance(content, CoroutineType) else content)
        _note(self, value)
        return _as_content(self, value)

    return arun


def _content_of(tool: BaseTool, value: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return what the model sees of a value, and what makes a value of it again."""
    if tool.response_format == "content_and_artifact" and isinstance(value, tuple) and value:
        content, *rest = cast("tuple[Any, ...]", value)
        return content, lambda content: (content, *rest)
    return value, lambda content: content


def _interrupt_of(asked: Asked) -> BaseException:
    """Return what LangChain knows as the end of a tool that asks, so that its callbacks see one."""
    tracked = CURRENT.get()
    if tracked is None or tracked.people is None:
        return asked
    if tracked.people.asks is None:
        tracked.people.asks = (QUESTION, asked.question)
    return GraphInterrupt(())


def _as_content(tool: BaseTool, value: Any) -> Any:
    """Return a value with media in it as LangChain's content blocks, any other as it is."""
    if tool.response_format == "content_and_artifact":
        return value
    items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    if all(isinstance(item, dict | str) for item in items):
        return value  # blocks already
    parts = parts_of(value)
    return value if parts is None else [_block(part) for part in parts]


def _block(part: Any) -> dict[str, Any]:
    if not isinstance(part, Media):
        return {"type": "text", "text": as_text(part)}
    kind = "image" if part.type.startswith("image/") else "file"
    place = {"url": part.url} if part.data is None else {"base64": part.base64}
    return {"type": kind, **place, "mime_type": part.type}


def _note(tool: BaseTool, value: Any) -> None:
    tracked = CURRENT.get()
    if tracked is not None:
        split = tool.response_format == "content_and_artifact" and isinstance(value, tuple)
        # The model has seen the content and refers to that; the artifact is for the program.
        tracked.raw = cast("Any", value)[0] if split and value else value


def _answering(original: Callable[..., Any], function: Any) -> Any:
    """Give a method the signature and the annotations of another, as they are asked for."""
    function.__name__ = original.__name__
    function.__qualname__ = original.__qualname__
    function.__signature__ = inspect.signature(original)
    param = base_module._get_runnable_config_param(original)  # noqa: SLF001
    function.__annotations__ = {} if param is None else {param: RunnableConfig}
    return function


@functools.lru_cache(maxsize=1024)
def _asks(function: Callable[..., Any]) -> tuple[bool, str | None]:
    """Say whether a tool's function takes callbacks, and which parameter takes the config."""
    param = base_module._get_runnable_config_param(function)  # noqa: SLF001
    try:
        return "callbacks" in inspect.signature(function).parameters, param
    except (TypeError, ValueError):
        return False, param


def _given(
    function: Callable[..., Any], config: RunnableConfig, run_manager: Any, kwargs: dict[str, Any]
) -> dict[str, Any]:
    callbacks, param = _asks(function) if isinstance(function, Hashable) else _asks_now(function)
    if callbacks and run_manager:
        kwargs["callbacks"] = run_manager.get_child()
    if param:
        kwargs[param] = config
    return kwargs


_asks_now = _asks.__wrapped__


def _lean_run(
    self: Any, *args: Any, config: RunnableConfig, run_manager: Any = None, **kwargs: Any
) -> Any:
    """Do what `StructuredTool._run` does."""
    function = self.func
    if not function:
        msg = "StructuredTool does not support sync invocation."
        raise NotImplementedError(msg)
    return function(*args, **_given(function, config, run_manager, kwargs))


async def _lean_arun(
    self: Any, *args: Any, config: RunnableConfig, run_manager: Any = None, **kwargs: Any
) -> Any:
    """Do what `StructuredTool._arun` does."""
    function = self.coroutine
    if not function:
        original: Any = BaseTool._arun  # noqa: SLF001
        return await original(self, *args, config=config, run_manager=run_manager, **kwargs)
    return await function(*args, **_given(function, config, run_manager, kwargs))


# ---------------------------------------------------------------------------- tools for an executor


def parameters_of(tool: BaseTool) -> dict[str, Any]:
    """Return the JSON Schema of what a model passes to a LangChain tool.

    LangChain's `Tool` takes one text; without a schema of its own only LangChain's conversion for
    providers knows its parameter.
    """
    if isinstance(tool, SingleInputTool) and tool.args_schema is None:
        shown: dict[str, Any] = convert_to_openai_tool(tool)["function"]["parameters"]
        return shown
    found: Any = tool.tool_call_schema
    schema: dict[str, Any] = dict(found if isinstance(found, dict) else found.model_json_schema())
    config = base_module._get_runnable_config_param(tool._run)  # noqa: SLF001
    if tool.args_schema is None and config in schema.get("properties", {}):
        # LangChain shows it to the model, and passes its own.
        schema["properties"] = {key: x for key, x in schema["properties"].items() if key != config}
        schema["required"] = [name for name in schema.get("required", ()) if name != config]
    return schema


def from_langchain(tool: BaseTool, **options: Unpack[ToolOptions]) -> Tool[..., Any]:
    """Return a LangChain tool as a dagexec tool, to be used with any `Executor`.

    Name, description and schema are its own, as are validation, callbacks and errors. The value is
    what the tool returned. `options` are those of `dagexec.tool`; the default effect is `write`.

    Raises ToolDefinitionError for a tool that needs a graph's state, store or runtime: those are
    there in `DagToolNode` only.
    """
    found = stock._get_all_injected_args(tool)  # noqa: SLF001
    if found.state or found.store or found.runtime:
        msg = (
            f"tool {tool.name!r} takes a graph's state, store or runtime, which only a graph has:"
            " give it to DagToolNode"
        )
        raise ToolDefinitionError(msg)
    twin = twin_of(tool)

    def prepared(args: dict[str, Any]) -> tuple[Any, TrackedCall]:
        call: Any = {"name": tool.name, "args": args, "id": current_call().id, "type": "tool_call"}
        tracked = TrackedCall(call["id"], call, "dict", cast("Any", None))
        tracked.wanted = True
        CURRENT.set(tracked)
        return call, tracked

    def value(tracked: TrackedCall, answer: Any) -> Any:
        if isinstance(answer, ToolMessage) and answer.status == "error":
            raise ErrorAnswer(str(answer.content))
        return tracked.raw

    async def arun(**args: Any) -> Any:
        call, tracked = prepared(args)
        return value(tracked, await twin.ainvoke(call))

    def run(**args: Any) -> Any:
        call, tracked = prepared(args)
        return value(tracked, twin.invoke(call))

    function: Callable[..., Any] = arun if is_async(tool) else run
    chosen: ToolOptions = {"description": tool.description, **options}
    name = fitting_name(tool.name)
    return Tool.from_schema(name, parameters_of(tool), function, **chosen)  # pyright: ignore[reportArgumentType]


class OwnTool(StructuredTool):
    """A dagexec tool in LangChain: its arguments may have any name.

    LangChain hands arguments on as keywords, beside its own `config` and `run_manager`.
    """

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self._parse_input(tool_input, tool_call_id),), {}

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        (given,) = args
        del kwargs
        if self.func is None:
            msg = "StructuredTool does not support sync invocation."
            raise NotImplementedError(msg)
        return self.func(**given)

    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        (given,) = args
        del kwargs
        if self.coroutine is None:
            return await run_in_executor(None, self._run, given)
        return await self.coroutine(**given)


def to_langchain(tool: Tool[..., Any]) -> StructuredTool:
    """Return a dagexec tool as a LangChain tool with the same name, texts and schema.

    `DagToolNode` does so with the dagexec tools that it is given, and finds them again by it, with
    their options. The text of an argument that does not fit reaches the model as it does through a
    planner.
    """

    def arguments(args: dict[str, Any]) -> dict[str, Any]:
        checked = tool.validate(args)
        if tool.needs_context is not None:
            checked[tool.needs_context] = current_call()
        return checked

    def run(**args: Any) -> Any:
        value = tool.function(**arguments(args))
        # As an executor does: a function that is not async may hand out a coroutine.
        return _waited_for(value) if isinstance(value, CoroutineType) else value

    async def arun(**args: Any) -> Any:
        value = tool.function(**arguments(args))
        return await value if isinstance(value, CoroutineType) else value

    asynchronous = tool.runs == "async"
    for function in (run, arun):
        setattr(function, _OWN, tool)
    return OwnTool(
        name=tool.name,
        description=tool.description or tool.name,
        args_schema=tool.parameters,
        func=None if asynchronous else run,
        coroutine=arun if asynchronous else None,
    )


def own_tool(tool: BaseTool) -> Tool[..., Any] | None:
    """Return the dagexec tool that a LangChain tool was made of by `to_langchain`, else None."""
    function = getattr(tool, "coroutine", None) or getattr(tool, "func", None)
    found = getattr(function, _OWN, None)
    return found if isinstance(found, Tool) else None


def _waited_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return a coroutine's value, from the thread of a synchronous tool."""

    async def run() -> Any:
        try:
            return await coroutine
        except Asked as asked:  # it ends the tool in its thread, not the loop's part of it
            return asked

    if enclosing_thread_call() is not None:
        value = run_in_loop(run)
    elif in_event_loop():  # where there are no threads, to debug
        context = copy_context()
        value = in_thread(lambda: context.run(asyncio.run, run()))
    else:
        value = asyncio.run(run())
    if isinstance(value, Asked):
        raise value
    return value
