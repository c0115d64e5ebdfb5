"""`Dag`: the capability that runs the tool calls of a turn as a graph."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Literal, final

from pydantic_ai import Agent, ToolFailed, _utils
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import (
    AgentRunError,
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    SkipToolExecution,
    ToolFailedError,
    ToolRetryError,
    UserError,
)
from pydantic_ai.messages import ModelResponse, ToolCallPart, ToolReturn
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import AgentDepsT, RunContext, ToolDefinition
from pydantic_ai.toolsets import FunctionToolset
from pydantic_core import ValidationError

from dagexec import CallError, DagexecError, Report, Tool
from dagexec._core.earlier_calls import is_marked
from dagexec._core.wrong_names import explained
from dagexec._runtime.observers import Observer
from dagexec._runtime.settings import SomeTimeouts
from dagexec._tools.options import ToolOptions
from dagexec.integrations._turns import turn as turns
from dagexec.integrations._turns.answers import answer_to
from dagexec.integrations._turns.conversation import Conversation, read_arguments
from dagexec.integrations._turns.crew import (
    DEFAULT_CONCURRENCY,
    Crew,
    Settings,
    needs_approval,
)
from dagexec.integrations._turns.ticket import Ticket
from dagexec.integrations._turns.turn import Turn
from dagexec.integrations.pydantic_ai._messages import (
    ModelSide,
    calls_of,
    reply_with,
    spoken,
)
from dagexec.integrations.pydantic_ai._tools import to_pydantic_ai
from dagexec.lowlevel import Asked

_log: Final = logging.getLogger("dagexec")

# How the framework, and tools through it, steer a run: never the result of a call.
_STEERING: Final = (
    AgentRunError,
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    SkipToolExecution,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
    UserError,
    ValidationError,
)
# Without it a synchronous tool holds its call, and the turn, for as long as it likes.
_abandoning: Final[Callable[[], AbstractContextManager[None]]] = getattr(
    _utils, "abandon_threads_on_cancel", nullcontext
)
_ASKING: Final = (ApprovalRequired, CallDeferred)
# Kinds of tools whose calls are run elsewhere, or only after a person has agreed.
_ELSEWHERE: Final = ("external", "unapproved", "output")


@final
@dataclass(slots=True)
class _Run:
    """What is known of one run of an agent."""

    turn: Turn | None = None
    response: ModelResponse | None = None
    # The calls whose arguments fit and which have not been started; and of those that hold
    # references, what validates them once the values are there.
    valid: set[str] = field(default_factory=set[str])
    # The groups of the turn of which a call has been started.
    begun: set[int] = field(default_factory=set[int])
    validators: dict[str, Callable[[Any], Any]] = field(
        default_factory=dict[str, Callable[[Any], Any]]
    )


@final
@dataclass(frozen=True, slots=True)
class _Skipped:
    """Another capability has given the result in the tool's place; the framework counts that."""

    skipped: SkipToolExecution


@explained
class Dag(AbstractCapability[AgentDepsT]):
    """Runs the tool calls of each turn of an agent as a graph: `Agent(..., capabilities=[Dag()])`.

    Args:
        tools: tools of dagexec that the agent gets, with their options, beside its own.
        timeouts: how long things may take, in seconds; `turn` and `workflow` both bound one turn.
            A call that does not end in time is answered with a text that says so. By default only
            a turn has a limit, of 600 s.
        concurrency: how many calls run at a time, over all runs of the agent on an event loop.
        on_failure: "skip" costs a failure its dependants, "stop" cancels the rest of the turn.
        barrier: whether calls that become ready together wait until those before have ended.
        observers: called with every event and action of the scheduler.
        references: whether arguments may refer to other calls' results, by number or by id, and
            whether the model is told so.
        options: options of `dagexec.tool` by the tool's name, such as
            `{"search": {"effect": "read", "timeout": 5}}`. With `approval` a call is deferred, as
            with `ApprovalRequired`. `effect`, `retry`, `limits`, `reads`, `writes` and `uses` mean
            what they mean to an `Executor`; a `pure` tool's identical calls each run.
        capacities: how much there is of each resource that tools use.
        errors: "answer" makes an exception of a tool the result of its call; "raise" lets it end
            the run, as the framework does.
        on_report: called with the `Report` of each turn, which has the pictures.

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
        id: str | None = None,
    ) -> None:
        """Check the settings."""
        self.id = id
        self.description = None
        self.defer_loading = False
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
        self._settings = settings
        self._crew = Crew(settings, turns.perform, turns.Observer(), _STEERING)
        self._tools = list(tools)
        self._crew.own(self._tools)
        self._model_side = ModelSide()
        self._run = _Run()

    # ------------------------------------------------------------------------------ what it brings

    def get_ordering(self) -> CapabilityOrdering:
        """Stand outermost: what other capabilities do to a call belongs to the call."""
        return CapabilityOrdering(position="outermost")

    def get_toolset(self) -> FunctionToolset[AgentDepsT] | None:
        """Return the tools of dagexec that it was given."""
        if not self._tools:
            return None
        return FunctionToolset[AgentDepsT]([to_pydantic_ai(each) for each in self._tools])

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> Dag[AgentDepsT]:
        """Return one for a run, with the same tools and slots."""
        del ctx
        one = copy.copy(self)
        one._run = _Run()  # noqa: SLF001 - its own
        return one

    async def before_run(self, ctx: RunContext[AgentDepsT]) -> None:
        """Refuse an agent whose runs are replayed."""
        _refuse_replay(ctx)

    async def prepare_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Show the model how to refer to results."""
        if not self._settings.references:
            return request_context
        return self._model_side.shown(request_context, ctx.messages)

    # ------------------------------------------------------------------------------------ one turn

    async def wrap_node_run(self, ctx: RunContext[AgentDepsT], *, node: Any, handler: Any) -> Any:
        """End what runs of a turn when the framework has ended it."""
        del ctx
        if not Agent.is_call_tools_node(node):
            return await handler(node)
        cancelled = False
        try:
            return await handler(node)
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            turn, self._run.turn, self._run.response = self._run.turn, None, None
            self._run.valid.clear()
            self._run.validators.clear()
            # A cancelled run cancels its calls only after this, and keeps the results of those that
            # are done: they end their turn by themselves.
            if turn is not None:
                await (turn.release() if cancelled else turn.aclose())

    def _turn(self, ctx: RunContext[AgentDepsT], call: ToolCallPart) -> Turn | None:
        """Return the turn that a call belongs to; None for calls that no reply has."""
        run, id_ = self._run, call.tool_call_id
        turn = run.turn
        if turn is not None and turn.admits(id_) and run.response is not None:
            return turn
        response = reply_with(ctx.messages, id_)
        if response is None:
            return None
        known = spoken(ctx.messages, response, before=False)
        if run.response is response and turn is not None:
            # Some are started again, after a person has agreed: what the others left stays.
            values = {each.key: each.value for each in turn.conversation.calls}
            for each in known:
                each.value = values.get(each.key, each.value)
        messages = list(ctx.messages)
        conversation = Conversation(
            known,
            lambda: spoken(messages, response, before=True),
            references=self._settings.references,
        )
        run.response = response
        run.begun.clear()
        run.turn = Turn(
            self._crew,
            conversation,
            groups=self._groups(ctx, response),
            value=_value,
            asks=_ASKING,
        )
        return run.turn

    def _groups(self, ctx: RunContext[Any], response: ModelResponse) -> dict[str, int]:
        """Say which calls are started after others have ended: behind barriers and output tools."""
        manager = ctx.tool_manager
        groups: dict[str, int] = {}
        group, alone = 0, False
        serial = manager is not None and manager.get_parallel_execution_mode() == "sequential"
        for call in calls_of(response):
            definition = None if manager is None else manager.get_tool_def(call.tool_name)
            kind = None if definition is None else definition.kind
            barrier = serial or (definition is not None and definition.sequential)
            # Calls behind an output tool are looked at only after it, unless they have been.
            late = kind == "output" and call.tool_call_id not in self._run.valid
            if barrier or alone:
                group += 1
            groups[call.tool_call_id] = group
            alone = barrier or (late and self._unseen_behind(response, call))
        return groups

    def _unseen_behind(self, response: ModelResponse, call: ToolCallPart) -> bool:
        calls = calls_of(response)
        behind = calls[calls.index(call) + 1 :]
        return not any(each.tool_call_id in self._run.valid for each in behind)

    # ------------------------------------------------------------------------------------ one call

    async def wrap_tool_validate(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: Any,
        handler: Any,
    ) -> dict[str, Any]:
        """Validate a call, or put that off until the values are there that it refers to."""
        read = read_arguments(args) if self._settings.references else None
        later = read is not None and is_marked(read)
        validated: dict[str, Any] = read if later and read is not None else await handler(args)
        if tool_def.kind not in _ELSEWHERE or ctx.tool_call_approved:
            self._run.valid.add(call.tool_call_id)
            if later:
                self._run.validators[call.tool_call_id] = handler
        return validated

    async def wrap_tool_execute(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        """Hand the call in, and return what became of it."""
        del tool_def
        run, id_ = self._run, call.tool_call_id
        # A tool that calls others by itself, in a sandbox for one, has no turn for them.
        turn = self._turn(ctx, call) if id_ in run.valid else None
        if turn is None or not turn.admits(id_):
            return await handler(args)
        groups = turn.groups
        if groups[id_] not in run.begun:
            # What is started with this call has been validated, or it will not come.
            run.begun.add(groups[id_])
            turn.leave(
                other
                for other, group in groups.items()
                if group <= groups[id_] and other not in run.valid
            )
        run.valid.discard(id_)
        validate = run.validators.pop(id_, None)
        judge = self._crew.judge(call.tool_name)

        async def execute(values: dict[str, Any] | None) -> Any:
            found = args if values is None or validate is None else await _late(validate, values)
            if judge.approval and not ctx.tool_call_approved and needs_approval(judge, found):
                raise ApprovalRequired
            try:
                # A deadline cannot reach into a thread; what it leaves there ends by itself.
                with _abandoning():
                    return await handler(found)
            except SkipToolExecution as skipped:
                return _Skipped(skipped)

        ticket = await turn.run(id_, execute)
        return self._result(ctx, turn, ticket)

    def _result(self, ctx: RunContext[AgentDepsT], turn: Turn, ticket: Ticket) -> Any:
        outcome, error = ticket.outcome, ticket.error
        assert outcome is not None  # noqa: S101 - a ticket comes back with one
        name = ticket.spoken.tool
        if outcome.status == "done":
            if outcome.attempts > 1 and ctx.tool_manager is not None:
                # An attempt that failed has been made good.
                ctx.tool_manager.failed_tools.discard(name)
            if isinstance(ticket.raw, _Skipped):
                raise ticket.raw.skipped
            return ticket.raw
        if outcome.status == "pending" and isinstance(error, _ASKING):
            raise error
        if isinstance(error, Asked):
            raise CallDeferred(metadata={"question": error.question})
        if outcome.status == "failed":
            self._judge(name, error if isinstance(error, Exception) else outcome.error)
        raise ToolFailed(answer_to(outcome, turn.conversation.named))

    def _judge(self, name: str, failure: Exception | None) -> None:
        """Raise a failure that is not for the model."""
        if failure is None or isinstance(failure, CallError):
            return
        if isinstance(failure, _STEERING) or self._settings.errors == "raise":
            raise failure
        _log.info("tool %r failed; the model is told", name, exc_info=failure)


def _value(raw: Any) -> Any:
    """Return what the model has seen of what a tool returned."""
    found: Any = raw.skipped.result if isinstance(raw, _Skipped) else raw
    return found.return_value if isinstance(found, ToolReturn) else found


async def _late(validate: Callable[[Any], Any], values: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await validate(values)
    except Exception as error:
        # Validators may defer a call; that comes wrapped where it is not expected so late.
        deferral = getattr(error, "deferral", None)
        if isinstance(deferral, _ASKING):
            raise deferral from error
        raise
    return found


def _refuse_replay(ctx: RunContext[Any]) -> None:
    """Raise DagexecError for an agent whose runs are replayed."""
    found: list[str] = []

    def look(capability: object) -> None:
        if type(capability).__module__.startswith("pydantic_ai.durable_exec"):
            found.append(type(capability).__name__)

    if ctx.root_capability is not None:
        ctx.root_capability.apply(look)
    if ctx.agent is not None and type(ctx.agent).__module__.startswith("pydantic_ai.durable_exec"):
        found.append(type(ctx.agent).__name__)
    if found:
        msg = (
            f"Dag cannot run an agent with {found[0]}: a replay has to take the same steps, and"
            " deadlines do not. Take Dag away, or use dagexec.engines for durable runs."
        )
        raise DagexecError(msg)
