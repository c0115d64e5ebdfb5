"""`DagToolNode`: LangGraph's `ToolNode`, run by dagexec."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, Literal

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from langchain_core.tools import BaseTool
from langgraph.errors import ParentCommand
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.prebuilt import tool_node as stock
from langgraph.prebuilt.tool_node import (
    ToolCallRequest,
    ToolInvocationError,
)
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import ValidationError

from dagexec import DagexecError, Executor, Timeouts, Tool
from dagexec._concurrency.capacities import SharedCapacities
from dagexec._concurrency.threads import enclosing_thread_call
from dagexec._core.wrong_names import explained
from dagexec._runtime.observers import Observer
from dagexec._runtime.settings import SomeTimeouts, timeouts_of
from dagexec._tools.options import ToolOptions
from dagexec.integrations.langgraph._answers import answer_to, is_invalid_resume
from dagexec.integrations.langgraph._carryover import in_graph
from dagexec.integrations.langgraph._commands import flat, merged_up, with_updates
from dagexec.integrations.langgraph._driven import Driven, driven, judge_of
from dagexec.integrations.langgraph._input import NodeInput, messages_of, unanswered
from dagexec.integrations.langgraph._message import Message, arun, arun_direct, run
from dagexec.integrations.langgraph._settings import NodeSettings
from dagexec.integrations.langgraph._tools import is_async, is_async_only, to_langchain, twin_of
from dagexec.integrations.langgraph._tracked import CURRENT
from dagexec.integrations.langgraph._unclear import explain_unclear_answers
from dagexec.journal._answers import SHOWN_SECRET
from dagexec.lowlevel import run_in_loop, run_in_thread

# A sub-agent as a tool may take minutes, so a call has no limit of its own unless it is asked for.
DEFAULT_TIMEOUTS = Timeouts(call=None, workflow=600.0)


@explained
class DagToolNode(ToolNode):
    """Runs the tool calls of a message as a graph of dependencies; in place of `ToolNode`.

    What `ToolNode` takes, it takes, and what `ToolNode` gives, it gives: inputs, outputs, commands,
    injected state, store and runtime, wrappers, error handling, callbacks. The calls themselves are
    run by a `dagexec.Executor`, the same way under `invoke` and `ainvoke`.

    Args:
        tools: LangChain tools, functions, or dagexec tools, which keep their options.
        name: as for `ToolNode`, and so are `tags`, `handle_tool_errors`, `messages_key`,
            `wrap_tool_call` and `awrap_tool_call`.
        timeouts: how long things may take, in seconds. A call that does not end in time is answered
            with an error; the others keep their results. By default only a whole message has a
            limit, of 600 s.
        concurrency: how many calls of a message run at a time, 20 by default. The config's
            `max_concurrency` takes the place of the default, and of a larger number.
        on_failure: "skip" lets the other calls end before an error leaves the node, "stop" cancels
            them.
        barrier: whether a ready layer waits until the one before has ended.
        observers: called with every event and action of the scheduler.
        references: whether arguments may refer to other calls' results, by number or by id.
        options: options of `dagexec.tool` by the tool's name, such as
            `{"search": {"effect": "read", "timeout": 5}}`. With `approval` the call interrupts the
            graph before it runs; the answer is True, False, `Approve`, `Deny`, `Edit` or `Done`, or
            as JSON `{"type": "edit", "args": {…}}`, and means what it means to `Executor.resume`.
            A dagexec tool has its own options, which these change. Each call runs by itself, also
            of a `pure` tool: it has callbacks and an id of its own.
        capacities: how much there is of each resource that tools use, as of an `Executor`; over all
            messages that this node has on an event loop.
        stream_calls: whether each call, as it ends, is written to the graph's `custom` stream, as
            `{"type": "tool_call", "tool_call_id": …, "name": …, "status": …, "message": …}`.

    An error that nobody handles leaves bare. Several interrupts of one message leave together.
    """

    def __init__(
        self,
        tools: Sequence[BaseTool | Tool[..., Any] | Callable[..., Any]],
        *,
        name: str = "tools",
        tags: list[str] | None = None,
        handle_tool_errors: Any = stock._default_handle_tool_errors,  # noqa: SLF001
        messages_key: str = "messages",
        wrap_tool_call: Any = None,
        awrap_tool_call: Any = None,
        timeouts: SomeTimeouts | None = None,
        concurrency: int | None = None,
        on_failure: Literal["skip", "stop"] = "skip",
        barrier: bool = False,
        observers: Sequence[Observer] = (),
        references: bool = True,
        options: Mapping[str, ToolOptions] | None = None,
        stream_calls: bool = False,
        capacities: Mapping[str, int] | None = None,
    ) -> None:
        """Check the settings; raise DagexecError or ToolDefinitionError for what cannot be."""
        super().__init__(
            [to_langchain(tool) if isinstance(tool, Tool) else tool for tool in tools],
            name=name,
            tags=tags,
            handle_tool_errors=handle_tool_errors,
            messages_key=messages_key,
            wrap_tool_call=wrap_tool_call,
            awrap_tool_call=awrap_tool_call,
        )
        explain_unclear_answers()
        # Without a graph there is no runtime; the stock class has no answer to that.
        self.func_accepts["runtime"] = ("N/A", Runtime())
        unknown = [name for name in options or {} if name not in self.tools_by_name]
        if unknown:
            msg = f"options for {unknown[0]!r}: the tools are {', '.join(self.tools_by_name)}"
            raise DagexecError(msg)
        self.settings = NodeSettings(
            timeouts=timeouts_of(timeouts) or DEFAULT_TIMEOUTS,
            concurrency=concurrency,
            on_failure=on_failure,
            barrier=barrier,
            observers=tuple(observers),
            references=references,
            options=dict(options or {}),
            stream_calls=stream_calls,
            capacities=dict(capacities or {}),
        )
        # Each message has an executor; what there is of a resource is there once for all of them.
        self._capacities = SharedCapacities(self.settings.capacities)
        self._driven: dict[tuple[str, bool], tuple[BaseTool, Driven]] = {}
        self._twins: dict[str, tuple[BaseTool, BaseTool]] = {}
        # What cannot be is an error now, not at the first call.
        self.executor([self.driven(name, blocking=False).tool for name in self.tools_by_name])
        kind = type(self)
        self._plain = kind._execute_tool_sync is DagToolNode._execute_tool_sync  # noqa: SLF001
        self._aplain = kind._execute_tool_async is DagToolNode._execute_tool_async  # noqa: SLF001

    @classmethod
    def from_tool_node(cls, node: ToolNode, **settings: Any) -> DagToolNode:
        """Return a node that does what a `ToolNode` does, with more settings of this class.

        Of a node of this class the settings are kept, but for those that are given.
        """
        given: Any = node
        if isinstance(node, DagToolNode):
            kept = {each.name: getattr(node.settings, each.name) for each in fields(NodeSettings)}
            settings = {**kept, **settings}
        return cls(
            list(node.tools_by_name.values()),
            name=node.name or "tools",
            tags=given.tags,
            handle_tool_errors=given._handle_tool_errors,  # noqa: SLF001
            messages_key=given._messages_key,  # noqa: SLF001
            wrap_tool_call=given._wrap_tool_call,  # noqa: SLF001
            awrap_tool_call=given._awrap_tool_call,  # noqa: SLF001
            **settings,
        )

    # --------------------------------------------------------------------------------- one message

    def _func(self, input: Any, config: RunnableConfig, runtime: Any) -> Any:  # noqa: A002
        message = Message(self, self._read(input, config, runtime), blocking=True)
        return self._combined(message.run_blocking(), message)

    async def _afunc(self, input: Any, config: RunnableConfig, runtime: Any) -> Any:  # noqa: A002
        message = Message(self, self._read(input, config, runtime), blocking=False)
        return self._combined(await message.run(), message)

    def _read(self, given: Any, config: RunnableConfig, runtime: Any) -> NodeInput:
        calls, kind = self._parse_input(given)
        configs = get_config_list(config, len(calls))
        state = self._extract_state(given, configs[0] if configs else config)
        messages = messages_of(given, state, self._messages_key)
        left = unanswered(calls, messages)
        return NodeInput(
            kind=kind,
            calls=left,
            configs=configs[: len(left)],
            config=config,
            state=state,
            messages=messages,
            runtime=runtime,
        )

    def _combined(self, outputs: Sequence[Any], message: Message) -> Any:
        outputs, kind = flat(outputs), message.given.kind
        if not in_graph(message.given.config):
            combined = self._combine_tool_outputs(outputs, kind)
            return with_updates(combined, outputs) if isinstance(combined, list) else combined
        up = merged_up(outputs, kind, self._messages_key)
        if up is None:
            return self._combine_tool_outputs(outputs, kind)
        if message.target not in (None, Command.PARENT):
            raise ParentCommand(replace(up, graph=message.target))
        return [up]

    def _parse_input(self, input: Any) -> tuple[list[ToolCall], Any]:  # noqa: A002
        if isinstance(input, list) and not input:
            msg = "No message found in input"  # the stock class: IndexError
            raise ValueError(msg)
        if isinstance(input, dict) and input.get("__type") == "tool_calls_with_context":
            return input["tool_calls"], "tool_calls"
        return super()._parse_input(input)

    def _extract_state(self, input: Any, config: RunnableConfig) -> Any:  # noqa: A002
        if isinstance(input, dict) and input.get("__type") == "tool_calls_with_context":
            return input["state"]
        return super()._extract_state(input, config)

    # ------------------------------------------------------------------------------------ one call

    def executor(
        self,
        tools: Iterable[Tool[..., Any]],
        observers: Sequence[Observer] = (),
        concurrency: int | None = None,
    ) -> Executor:
        """Return an executor for a message; raises DagexecError for settings that cannot be."""
        settings = self.settings
        return Executor(
            tools,
            timeouts=settings.timeouts,
            on_failure=settings.on_failure,
            barrier=settings.barrier,
            observers=observers,
            concurrency=concurrency,
            capacities=self._capacities,
        )

    def driven(self, name: str, *, blocking: bool) -> Driven:
        """Return what the executor runs for a tool; also for a name that only a wrapper knows."""
        tool = self.tools_by_name.get(name)
        kept = self._driven.get((name, blocking))
        if kept is not None and kept[0] is tool:
            return kept[1]
        judge = judge_of(name, tool, self.settings.options.get(name, {}))
        awaited = self._is_awaited(tool, blocking=blocking)
        function = run if not awaited else arun_direct if blocking else arun
        made = driven(name, judge, function, asynchronous=awaited)
        if tool is not None:  # a model may invent any number of names
            self._driven[name, blocking] = (tool, made)
        return made

    def _is_awaited(self, tool: BaseTool | None, *, blocking: bool) -> bool:
        """Whether a call of the tool is awaited in the event loop, else it runs in a thread."""
        if blocking:
            return self._wrap_tool_call is None and (tool is None or is_async_only(tool))
        if self._awrap_tool_call is not None:
            return True
        return self._wrap_tool_call is None and (tool is None or is_async(tool))

    def run_call(self, call: ToolCall, kind: Any, runtime: ToolRuntime) -> Any:
        """Run one call in this thread, wrappers and all."""
        return self._run_one(call, kind, runtime)

    def arun_call(
        self, call: ToolCall, kind: Any, runtime: ToolRuntime
    ) -> Coroutine[Any, Any, Any]:
        """Run one call in the event loop, wrappers and all."""
        return self._arun_one(call, kind, runtime)

    def error_answer(self, error: Exception, call: ToolCall) -> ToolMessage:
        """Return the answer that the node makes of an error; raise it if it makes none."""
        return self._answer_to(error, call)

    def _run_one(self, call: ToolCall, input_type: Any, tool_runtime: ToolRuntime) -> Any:
        tool = self.tools_by_name.get(call["name"])
        config = tool_runtime.config
        wrapper = self._wrap_tool_call
        if wrapper is None and self._plain:
            return self._invoke(call, tool, tool_runtime, input_type, config)
        request = ToolCallRequest(call, tool, tool_runtime.state, tool_runtime)
        if wrapper is None:
            return self._execute_tool_sync(request, input_type, config)
        try:
            return wrapper(request, lambda req: self._execute_tool_sync(req, input_type, config))
        except Exception as error:  # noqa: BLE001 - what nobody handles is raised again
            return self._answer_to(error, call)

    async def _arun_one(self, call: ToolCall, input_type: Any, tool_runtime: ToolRuntime) -> Any:
        tool = self.tools_by_name.get(call["name"])
        config = tool_runtime.config
        wrapper = self._awrap_tool_call
        if wrapper is None and self._aplain:
            return await self._ainvoke(call, tool, tool_runtime, input_type, config)
        request = ToolCallRequest(call, tool, tool_runtime.state, tool_runtime)
        if wrapper is None:
            return await self._execute_tool_async(request, input_type, config)

        async def execute(req: ToolCallRequest) -> Any:
            return await self._execute_tool_async(req, input_type, config)

        try:
            return await wrapper(request, execute)
        except Exception as error:  # noqa: BLE001 - what nobody handles is raised again
            return self._answer_to(error, call)

    async def run_awaited(self, call: ToolCall, kind: Any, runtime: ToolRuntime) -> Any:
        """Run a tool that can only be awaited, under `invoke`: without the async wrapper."""
        tool = self.tools_by_name.get(call["name"])
        request = ToolCallRequest(call, tool, runtime.state, runtime)
        return await self._execute_tool_async(request, kind, runtime.config)

    def _execute_tool_sync(self, request: ToolCallRequest, input_type: Any, config: Any) -> Any:
        return self._invoke(request.tool_call, request.tool, request.runtime, input_type, config)

    async def _execute_tool_async(
        self, request: ToolCallRequest, input_type: Any, config: Any
    ) -> Any:
        return await self._ainvoke(
            request.tool_call, request.tool, request.runtime, input_type, config
        )

    def _invoke(
        self,
        call: ToolCall,
        tool: BaseTool | None,
        runtime: ToolRuntime,
        input_type: Any,
        config: Any,
    ) -> Any:
        if tool is None:
            return self._refuse(call)
        args: Any = {**self._inject_tool_args(call, runtime, tool), "type": "tool_call"}
        try:
            twin = self._twin(call["name"], tool)
            if is_async_only(tool) and enclosing_thread_call() is not None:
                response = run_in_loop(partial(twin.ainvoke, args, config))
            else:
                response = twin.invoke(args, config)
            return self._answer(response, call, input_type)
        except Exception as error:  # noqa: BLE001 - what nobody handles is raised again
            return self._answer_to(error, call)

    async def _ainvoke(
        self,
        call: ToolCall,
        tool: BaseTool | None,
        runtime: ToolRuntime,
        input_type: Any,
        config: Any,
    ) -> Any:
        if tool is None:
            return self._refuse(call)
        args: Any = {**self._inject_tool_args(call, runtime, tool), "type": "tool_call"}
        try:
            twin = self._twin(call["name"], tool)
            if is_async(tool):
                response = await twin.ainvoke(args, config)
            else:
                response = await run_in_thread(partial(twin.invoke, args, config))
            return self._answer(response, call, input_type)
        except Exception as error:  # noqa: BLE001 - what nobody handles is raised again
            return self._answer_to(error, call)

    def _twin(self, name: str, tool: BaseTool) -> BaseTool:
        kept = self._twins.get(name)
        if kept is not None and kept[0] is tool:
            return kept[1]
        twin = twin_of(tool)
        if self.tools_by_name.get(name) is tool:
            self._twins[name] = (tool, twin)
        return twin

    def _refuse(self, call: ToolCall) -> ToolMessage:
        message = self._validate_tool_call(call)
        if message is None:
            msg = f"Tool {call['name']} is not registered with ToolNode"
            raise TypeError(msg)
        return message

    def _answer(self, response: Any, call: ToolCall, input_type: Any) -> Any:
        answer = self._normalize_tool_response(response, call, input_type)
        tracked = CURRENT.get()
        if tracked is not None:
            tracked.produced(answer)
        return answer

    def _answer_to(self, error: Exception, call: ToolCall) -> ToolMessage:
        if isinstance(error, ValidationError) and not is_invalid_resume(error):
            injected = self._injected_args.get(call["name"])
            shown = stock._filter_validation_errors(error, injected)  # noqa: SLF001
            secret = self.driven(call["name"], blocking=False).judge.secret
            args = call["args"].items()
            given = {key: SHOWN_SECRET if key in secret else item for key, item in args}
            invalid = ToolInvocationError(call["name"], error, given, shown)
            invalid.__cause__ = error
            error = invalid
        message = answer_to(error, call, self._handle_tool_errors)
        tracked = CURRENT.get()
        if tracked is not None:
            tracked.caught = error
        return message
