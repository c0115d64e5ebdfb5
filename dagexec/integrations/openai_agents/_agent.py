"""`dag_agent`: an agent of the SDK whose turns run as graphs."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar, cast, final

from agents import Agent, AgentHooks, FunctionTool, RunContextWrapper
from agents import tool as sdk
from agents.exceptions import AgentsException
from agents.tool_context import ToolContext
from pydantic_core import to_json

from dagexec import CallError, Report, Tool
from dagexec._runtime.observers import Observer
from dagexec._runtime.settings import SomeTimeouts
from dagexec._tools.options import ToolOptions
from dagexec.integrations._turns import turn as turns
from dagexec.integrations._turns.answers import Answer, answer_to
from dagexec.integrations._turns.conversation import Conversation, Spoken, read_arguments
from dagexec.integrations._turns.crew import DEFAULT_CONCURRENCY, Crew, Settings, needs_approval
from dagexec.integrations._turns.ticket import Ticket
from dagexec.integrations._turns.turn import Turn
from dagexec.integrations.openai_agents._runs import CALL, Run, Runs, get, value_of
from dagexec.integrations.openai_agents._servers import Server, told
from dagexec.integrations.openai_agents._tools import bare, given, handed_in, to_function_tool
from dagexec.lowlevel import INSTRUCTIONS, widened

_log: Final = logging.getLogger("dagexec")
A = TypeVar("A", bound=Agent[Any])

# What the SDK has no public name for. Without one of these an agent runs as it always did.
_NEEDED: Final = (
    "_FailureHandlingFunctionToolInvoker",
    "invoke_function_tool",
    "resolve_function_tool_failure_error_function",
    "set_function_tool_failure_error_function",
    "with_function_tool_failure_error_handler",
)


def dag_agent(
    agent: A,
    *,
    tools: Sequence[Tool[..., Any]] = (),
    timeouts: SomeTimeouts | None = None,
    concurrency: int | None = DEFAULT_CONCURRENCY,
    on_failure: Literal["skip", "stop"] = "skip",
    barrier: bool = False,
    observers: Sequence[Observer] = (),
    references: bool = True,
    options: Mapping[str, ToolOptions] | None = None,
    capacities: Mapping[str, int] | None = None,
    errors: Literal["answer", "raise"] = "answer",
    on_report: Callable[[Report], object] | None = None,
) -> A:
    """Return a copy of an agent that runs the function tools of each turn as a graph.

    Args:
        agent: the agent; it stays as it is.
        tools: tools of dagexec that the agent gets, with their options, beside its own.
        timeouts: how long things may take, in seconds; `turn` and `workflow` both bound one turn.
            A call that does not end in time is answered with a text that says so. By default only
            a turn has a limit, of 600 s.
        concurrency: how many calls run at a time, over all runs of the agent on an event loop;
            `max_function_tool_concurrency` of a run's config holds as well.
        on_failure: "skip" costs a failure its dependants, "stop" cancels the rest of the turn.
        barrier: whether calls that become ready together wait until those before have ended.
        observers: called with every event and action of the scheduler.
        references: whether arguments may refer to other calls' results, by number or by id, and
            whether the model is told so.
        options: options of `dagexec.tool` by the tool's name, such as
            `{"search": {"effect": "read", "timeout": 5}}`. `approval` is `needs_approval`.
        capacities: how much there is of each resource that tools use.
        errors: "answer" makes an exception of any tool the result of its call; "raise" lets those
            of tools without a failure policy end the run, as the SDK does.
        on_report: called with the `Report` of each turn, which has the pictures.

    Raises DagexecError or ToolDefinitionError for settings that cannot be.
    """
    settings = Settings(
        timeouts=timeouts,
        concurrency=concurrency,
        on_failure=on_failure,
        barrier=barrier,
        observers=tuple(observers),
        references=references,
        options=options,
        capacities=capacities,
        errors=errors,
        on_report=on_report,
    )
    crew = Crew(settings, turns.perform, turns.Observer(), (AgentsException,))
    crew.own(tools)
    missing = [name for name in _NEEDED if not hasattr(sdk, name)]
    own = [to_function_tool(each) for each in tools]
    if missing:
        _log.warning(
            "agents.tool has no %s in this version: the agent runs as it does without dagexec",
            missing[0],
        )
        return cast("A", agent.clone(tools=[*agent.tools, *own])) if own else agent
    return _Desk(crew).taking_over(agent, own)


@final
class _Desk:
    """Where the calls of one agent are handed in."""

    def __init__(self, crew: Crew) -> None:
        """Begin without runs."""
        self._crew = crew
        self._references = crew.settings.references
        self._runs = Runs()
        # The tools that hand their calls in, by name.
        self._names: set[str] = set()
        # By the tool's name, a schema and what takes references in its place.
        self._widened: dict[str, tuple[Any, dict[str, Any]]] = {}

    def taking_over(self, agent: A, own: Sequence[FunctionTool]) -> A:
        """Return a copy of an agent whose calls come here."""
        changes: dict[str, Any] = {
            "tools": [self.taken(each) for each in (*agent.tools, *own)],
            "hooks": (_OnlyHooks if agent.hooks is None else _Hooks)(self, agent.hooks),
        }
        if self._references:
            changes["instructions"] = _instructed(agent.instructions)
        one: Any = agent.clone(**changes)
        one.__class__ = _asking(type(agent), self)
        return cast("A", one)

    def taken(self, tool: Any) -> Any:
        """Return what an agent gets for one of its tools."""
        if not isinstance(tool, FunctionTool) or tool is not given(tool):
            return tool
        self._names.add(tool.name)
        judge = self._crew.judge(tool.name)
        if judge.approval and not tool.needs_approval:
            one: Any = copy.copy(tool)
            one._dagexec_given = tool  # noqa: SLF001 - an attribute of ours
            one.needs_approval = _policy(judge)
            tool = one
        return handed_in(
            tool,
            partial(self._invoke, bare(tool)),
            self._leave,
            schema=self._wide(tool) if self._references else None,
            answers=self._crew.settings.errors == "answer",
        )

    def _wide(self, tool: FunctionTool) -> dict[str, Any]:
        """Return a schema that takes references; tools of servers are made anew each time."""
        kept = self._widened.get(tool.name)
        if kept is None or kept[0] != tool.params_json_schema:
            schema = copy.deepcopy(tool.params_json_schema)
            kept = self._widened[tool.name] = (schema, widened(schema))
        return kept[1]

    # ------------------------------------------------------------------------------------ one turn

    def asked(self, context: RunContextWrapper[Any], items: list[Any]) -> None:
        """Read a request before it is sent, and number the results in it."""
        run = self._runs.of(context)
        run.learn(items)
        if self._references:
            run.headed(items)

    def replied(self, context: RunContextWrapper[Any], output: Sequence[Any]) -> None:
        """Announce the calls of a reply."""
        run = self._runs.of(context)
        calls = [item for item in output if get(item, "type") == CALL]
        for item in calls:  # an id that the model uses again is a new call
            run.known.pop(str(get(item, "call_id")), None)
        spoken = run.learn(calls)
        run.turn = self._turn(run, spoken) if spoken else None

    def _turn(self, run: Run, calls: list[Spoken]) -> Turn:
        def history() -> list[Spoken]:
            return [each for each in run.known.values() if each not in calls]

        conversation = Conversation(calls, history, references=self._references)
        run.announced.update(call.key for call in calls)
        made = Turn(self._crew, conversation, value=value_of)
        made.leave(call.key for call in calls if call.tool not in self._names)
        return made

    def _leave(self, context: RunContextWrapper[Any], call_id: str) -> None:
        turn = self._runs.of(context).turn
        if turn is not None:
            turn.leave([call_id])

    def _turn_of(self, context: ToolContext[Any]) -> Turn | None:
        """Return the turn of a call; a run that was interrupted goes on without a reply."""
        run, id_ = self._runs.of(context), context.tool_call_id
        turn = run.turn
        if turn is not None and turn.admits(id_):
            return turn
        if id_ not in run.known:
            run.known.update(self._runs.knowing(id_))
        if id_ not in run.known:
            run.learn(context.turn_input)
        spoken = run.known.get(id_)
        if spoken is None:
            # Nothing of the conversation is known here: the call can refer to nothing.
            args = read_arguments(context.tool_arguments)
            spoken = Spoken(0, id_, context.tool_name, key=id_, args=args)
        # The others of its reply have left what they left, before a person was asked.
        run.turn = self._turn(run, [spoken])
        return run.turn

    # ------------------------------------------------------------------------------------ one call

    async def _invoke(self, tool: FunctionTool, context: ToolContext[Any], arguments: str) -> Any:
        """Hand a call in, and return what became of it."""
        turn = self._turn_of(context)
        if turn is None or not turn.admits(context.tool_call_id):
            return await sdk.invoke_function_tool(
                function_tool=tool, context=context, arguments=arguments
            )

        async def execute(values: dict[str, Any] | None) -> Any:
            given = arguments
            if values is not None:
                given = to_json(values, inf_nan_mode="constants", fallback=str).decode()
            with told() as refusals:
                raw = await sdk.invoke_function_tool(
                    function_tool=tool, context=context, arguments=given
                )
            if refusals:
                raise Answer(raw)
            return raw

        limit = getattr(
            getattr(context.run_config, "tool_execution", None),
            "max_function_tool_concurrency",
            None,
        )
        ticket = await turn.run(context.tool_call_id, execute, limit=limit)
        return self._result(turn, ticket)

    @staticmethod
    def _result(turn: Turn, ticket: Ticket) -> Any:
        outcome = ticket.outcome
        assert outcome is not None  # noqa: S101 - a ticket comes back with one
        if outcome.status == "done":
            return ticket.raw
        failure = ticket.error or outcome.error
        if isinstance(failure, Answer):
            return failure.raw
        foreign = failure is not None and not isinstance(failure, CallError)
        if outcome.status == "failed" and failure is not None and foreign:
            raise failure  # what to tell the model is the tool's own policy
        return answer_to(outcome, turn.conversation.named)


def _policy(judge: Tool[..., Any]) -> Callable[..., Any]:
    async def policy(context: Any, args: dict[str, Any], call_id: str) -> bool:
        del context, call_id
        return needs_approval(judge, args)

    policy.of_dagexec = True  # type: ignore[attr-defined] # pyright: ignore[reportFunctionMemberAccess]
    return policy


def _instructed(instructions: Any) -> Any:
    """Return an agent's instructions with those on references."""
    if not callable(instructions):
        return f"{instructions}\n\n{INSTRUCTIONS}" if instructions else INSTRUCTIONS

    async def both(context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
        found = instructions(context, agent)
        text = await found if inspect.isawaitable(found) else found
        return f"{text}\n\n{INSTRUCTIONS}" if text else INSTRUCTIONS

    return both


def _asking(kind: type[Any], desk: _Desk) -> type[Any]:
    """Return a class of agents like this one, and of its name, whose tools come from a desk.

    What servers offer, and what hooks or clones add to the tools, is known only at each request.
    """

    async def get_mcp_tools(self: Any, run_context: RunContextWrapper[Any]) -> list[Any]:
        servers = self.mcp_servers
        if not all(isinstance(each, Server) for each in servers):
            self.mcp_servers = [
                each if isinstance(each, Server) else Server(each) for each in servers
            ]
        found: list[Any] = await kind.get_mcp_tools(self, run_context)
        return found

    async def get_all_tools(self: Any, run_context: RunContextWrapper[Any]) -> list[Any]:
        found = await kind.get_all_tools(self, run_context)
        return [desk.taken(each) for each in found]

    same = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    own = {"get_mcp_tools": get_mcp_tools, "get_all_tools": get_all_tools}
    return type(kind.__name__, (kind,), {**same, **own})


class _Hooks(AgentHooks[Any]):
    """Tells the desk of requests and replies, and the agent's own hooks of everything."""

    def __init__(self, desk: _Desk, own: AgentHooks[Any] | None) -> None:
        self._desk = desk
        self._own: Any = AgentHooks[Any]() if own is None else own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    async def on_llm_start(
        self, context: Any, agent: Any, system_prompt: Any, input_items: Any
    ) -> None:
        await self._own.on_llm_start(context, agent, system_prompt, input_items)
        self._desk.asked(context, input_items)

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        self._desk.replied(context, response.output)
        await self._own.on_llm_end(context, agent, response)

    async def on_start(self, context: Any, agent: Any) -> None:
        await self._own.on_start(context, agent)

    async def on_end(self, context: Any, agent: Any, output: Any) -> None:
        await self._own.on_end(context, agent, output)

    async def on_handoff(self, context: Any, agent: Any, source: Any) -> None:
        await self._own.on_handoff(context, agent, source)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        await self._own.on_tool_start(context, agent, given(tool))

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        await self._own.on_tool_end(context, agent, given(tool), result)


class _OnlyHooks(_Hooks):
    """The hooks of an agent that has none of its own.

    A stored state tells agents of one name apart by what they are made of, and refuses those with
    hooks, whose state it does not know; a callable counts as one that has none.
    """

    def __call__(self) -> None:
        """Do nothing: that it could be called is all."""
