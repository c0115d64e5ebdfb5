"""`DagPlugin`: a plugin of a runner, whose agents' turns run as graphs."""

# The ADK is not installed beside all of dagexec's extras, so its types are not there to be checked.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool
from google.genai import types

from dagexec import CallError, Report, Tool, current_call
from dagexec._core.wrong_names import explained
from dagexec._runtime.observers import Observer
from dagexec._runtime.settings import SomeTimeouts
from dagexec._tools.options import ToolOptions
from dagexec._tools.settle import run_tool
from dagexec.integrations._turns import turn as turns
from dagexec.integrations._turns.answers import Answer, answer_to
from dagexec.integrations._turns.conversation import Conversation, Spoken
from dagexec.integrations._turns.crew import DEFAULT_CONCURRENCY, Crew, Settings, needs_approval
from dagexec.integrations._turns.ticket import Ticket
from dagexec.integrations._turns.turn import Turn
from dagexec.integrations.adk._contents import failed, seen_by, show, spoken, value_of
from dagexec.lowlevel import CannotRun

_log: Final = logging.getLogger("dagexec")

# Calls that steer the framework; they are no part of a turn's graph.
_STEERING: Final = frozenset(
    {"transfer_to_agent", "set_model_response", "exit_loop", "finish_task"}
)
_KEPT: Final = 256
_CONFIRM: Final = "This tool call requires confirmation, please approve or reject."
_REJECTED: Final = "This tool call is rejected."


class _Waits(Exception):
    """A call has a first result only; `raw` is what it returned."""

    def __init__(self, raw: Any) -> None:
        super().__init__("the call has no final result yet")
        self.raw = raw


@explained
class DagPlugin(BasePlugin):
    """Runs the function calls of each turn as a graph: `Runner(..., plugins=[DagPlugin()])`.

    Args:
        tools: tools of dagexec that every agent of the runner gets, with their options.
        timeouts: how long things may take, in seconds; `turn` and `workflow` both bound one turn.
            A call that does not end in time is answered with a text that says so. By default only
            a turn has a limit, of 600 s.
        concurrency: how many calls run at a time, over all agents of the runner.
        on_failure: "skip" costs a failure its dependants, "stop" cancels the rest of the turn.
        barrier: whether calls that become ready together wait until those before have ended.
        observers: called with every event and action of the scheduler.
        references: whether arguments may refer to other calls' results, by number or by id, and
            whether the model is told so.
        options: options of `dagexec.tool` by the tool's name, such as
            `{"search": {"effect": "read", "timeout": 5}}`. `approval` asks for a confirmation.
        capacities: how much there is of each resource that tools use.
        errors: "answer" makes an exception of a tool that no callback answers the result of its
            call; "raise" lets it end the run, as the ADK does.
        on_report: called with the `Report` of each turn, which has the pictures.
        name: the plugin's.

    Raises DagexecError or ToolDefinitionError for settings that cannot be.
    """

    def __init__(
        self,
        tools: Sequence[Tool[..., Any]] = (),
        *,
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
        name: str = "dagexec",
    ) -> None:
        """Check the settings."""
        super().__init__(name=name)
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
        self._crew = Crew(settings, turns.perform, turns.Observer(), (_Waits,))
        self._crew.own(tools)
        self._own = [OwnTool(each) for each in tools]
        self._references = references
        self._declarations: dict[str, tuple[Any, Any]] = {}
        # The turns of the last calls, by their sessions and ids.
        self._turns: OrderedDict[tuple[str, str], Turn] = OrderedDict()

    # -------------------------------------------------------------------------------- the request

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Let the tools of a request hand their calls in, and show the model how to refer."""
        if self._own:
            llm_request.append_tools(self._own)
        for name, tool in llm_request.tools_dict.items():
            if name not in _STEERING and not hasattr(tool, "_dagexec"):
                llm_request.tools_dict[name] = self._handed_in(tool)
        if self._references:
            name = callback_context.agent_name
            found = spoken(seen_by(callback_context))
            said = [call for event, calls in found if event.author == name for call in calls]
            show(llm_request, said, self._declarations)

    def _handed_in(self, tool: BaseTool) -> BaseTool:
        one: Any = copy.copy(tool)
        one._dagexec = True  # noqa: SLF001
        one.run_async = partial(self._run, tool)
        return one

    # ------------------------------------------------------------------------------------ one call

    def _turn(self, tool_context: Any, *, known: bool = False) -> Turn | None:
        """Return the turn of a call, which stands in the last event that has it.

        An id may be used again in a later event; with `known` the call has been handed in.
        """
        id_ = tool_context.function_call_id
        session = tool_context.session
        turn = self._turns.get((session.id, id_))
        if turn is not None and (known or turn.admits(id_)):
            return turn
        found = list(spoken(seen_by(tool_context)))
        for place in range(len(found) - 1, -1, -1):
            calls = found[place][1]
            if any(call.key == id_ for call in calls):
                break
        else:
            return None
        before = [call for _, earlier in found[:place] for call in earlier]
        conversation = Conversation(calls, lambda: before, references=self._references)
        turn = Turn(self._crew, conversation, value=value_of, asks=(_Waits,))
        turn.leave(call.key for call in calls if call.tool in _STEERING)
        self._turns.update(((session.id, call.key), turn) for call in calls)
        while len(self._turns) > _KEPT and next(iter(self._turns.values())) is not turn:
            self._turns.popitem(last=False)
        return turn

    async def _run(self, tool: BaseTool, *, args: dict[str, Any], tool_context: Any) -> Any:
        """Hand a call in, and return what became of it."""
        turn = self._turn(tool_context)
        id_ = tool_context.function_call_id
        if turn is None or not turn.admits(id_):
            return await tool.run_async(args=args, tool_context=tool_context)
        judge = self._crew.judge(tool.name)

        async def execute(values: dict[str, Any] | None) -> Any:
            given = args if values is None else values
            if judge.approval and needs_approval(judge, given):
                tool_context.request_confirmation(hint=f"Please confirm the call of {tool.name}.")
                raise _Waits({"error": _CONFIRM})
            raw = await tool.run_async(args=given, tool_context=tool_context)
            actions = tool_context.actions
            asked = (actions.requested_tool_confirmations, actions.requested_auth_configs)
            if tool.is_long_running or any(id_ in (each or {}) for each in asked):
                raise _Waits(raw)
            if failed(raw):
                raise Answer(raw)
            return raw

        return self._result(turn, await turn.run(id_, execute))

    @staticmethod
    def _result(turn: Turn, ticket: Ticket) -> Any:
        outcome, error = ticket.outcome, ticket.error
        assert outcome is not None  # noqa: S101 - a ticket comes back with one
        if outcome.status == "done":
            return ticket.raw
        if isinstance(error, _Waits | Answer):
            return error.raw
        failure = error or outcome.error
        if outcome.status == "failed" and not isinstance(failure, CallError) and failure:
            raise failure  # callbacks may have an answer
        return {"error": answer_to(outcome, turn.conversation.named)}

    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: Any
    ) -> dict[str, Any] | None:
        """Put values in the place of references where a person has confirmed a call."""
        confirmation = tool_context.tool_confirmation
        if hasattr(tool, "_dagexec") or confirmation is None:
            return None
        if self._crew.judge(tool.name).approval and not confirmation.confirmed:
            return {"error": _REJECTED}
        turn = self._turn(tool_context) if self._references else None
        if turn is None:
            return None
        one = next(c for c in turn.conversation.calls if c.key == tool_context.function_call_id)
        if not turn.conversation.refers(one):
            return None
        try:
            values = self._values(tool_context, one)
        except CannotRun as error:
            return {"error": str(error)}
        tool_args.clear()
        tool_args.update(values)
        return None

    def _values(self, tool_context: Any, one: Spoken) -> dict[str, Any]:
        """Return the arguments of a call with the values that the session has."""
        known = [call for _, calls in spoken(seen_by(tool_context)) for call in calls]
        others = [call for call in known if call.key != one.key]
        alone = Conversation([one], lambda: others, references=True)
        call = alone.plan_call(one, "confirmed")
        if call.problem is not None:
            raise CannotRun(call.problem)
        from dagexec.lowlevel import resolved

        return resolved(call, {})

    async def after_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: Any, result: Any
    ) -> None:
        """Take note of a call that a callback has answered: it will not come."""
        del tool_args, result
        if hasattr(tool, "_dagexec"):
            turn = self._turn(tool_context, known=True)
            if turn is not None:
                turn.leave([tool_context.function_call_id])

    async def on_tool_error_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: Any, error: Exception
    ) -> dict[str, Any] | None:
        """Answer for a tool that raised, if the agent has nobody who does."""
        del tool_args
        turn = self._turn(tool_context, known=True)
        if turn is not None:
            turn.leave([tool_context.function_call_id])  # an unknown tool never comes
        agent = tool_context._invocation_context.agent  # noqa: SLF001
        own = getattr(agent, "canonical_on_tool_error_callbacks", ())
        if own or self._crew.settings.errors == "raise" or not hasattr(tool, "_dagexec"):
            return None
        _log.info("tool %r failed; the model is told", tool.name, exc_info=error)
        return {"error": f"{type(error).__name__}: {error}"}


class OwnTool(BaseTool):
    """A tool of dagexec as the ADK's."""

    def __init__(self, tool: Tool[..., Any]) -> None:
        """Take its name and its texts."""
        super().__init__(name=tool.name, description=tool.description or tool.name)
        self._tool = tool

    def _get_declaration(self) -> Any:
        return types.FunctionDeclaration(
            name=self.name,
            description=self.description,
            parameters_json_schema=self._tool.parameters,
        )

    async def run_async(self, *, args: dict[str, Any], tool_context: Any) -> Any:
        """Run it, inside of a turn."""
        del tool_context
        tool = self._tool
        checked = tool.validate(args)
        if tool.needs_context is not None:
            checked[tool.needs_context] = current_call()
        return await run_tool(tool, checked)
