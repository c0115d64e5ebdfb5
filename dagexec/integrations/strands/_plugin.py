"""`DagPlugin`: a plugin of an agent, whose turns run as graphs."""

# Strands is not installed beside all of dagexec's extras, so its types are not there to be checked.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import logging
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, Literal, final

from strands.hooks import BeforeToolCallEvent
from strands.middleware import ExecuteToolStage, InvokeModelStage
from strands.plugins import Plugin
from strands.tools.executors import ConcurrentToolExecutor

from dagexec import DagexecError, Report, Tool
from dagexec._runtime.observers import Observer
from dagexec._runtime.settings import SomeTimeouts
from dagexec._tools.checking import approval_question
from dagexec._tools.options import ToolOptions
from dagexec.integrations._turns import turn as turns
from dagexec.integrations._turns.conversation import Conversation, Spoken
from dagexec.integrations._turns.crew import DEFAULT_CONCURRENCY, Crew, Settings, needs_approval
from dagexec.integrations._turns.turn import Turn
from dagexec.integrations.strands._batch import CURRENT, Batch, Record, Setting, Waits
from dagexec.integrations.strands._messages import (
    ModelSide,
    Numbers,
    is_answer,
    learn,
    schema_of,
    spoken,
    spoken_in,
    takes_text,
    uses_in,
)
from dagexec.integrations.strands._tools import OwnTool, watched

_log: Final = logging.getLogger("dagexec")

# What the framework has no public name for. Without it an agent runs as it always did.
_NEEDED: Final = ("_execute", "_stream_with_trace")
_APPROVAL: Final = "dagexec-approval"
_YES: Final = ("y", "yes")


class DagPlugin(Plugin):
    """Runs the tool calls of each turn as a graph: `Agent(..., plugins=[DagPlugin()])`.

    Args:
        tools: tools of dagexec that the agent gets, with their options.
        timeouts: how long things may take, in seconds; `turn` and `workflow` both bound one turn.
            A call that does not end in time is answered with a text that says so. By default only
            a turn has a limit, of 600 s.
        concurrency: how many calls run at a time, over all agents with this plugin that share an
            event loop; 1 in the place of `SequentialToolExecutor`.
        on_failure: "skip" costs a failure its dependants, "stop" cancels the rest of the turn.
        barrier: whether calls that become ready together wait until those before have ended.
        observers: called with every event and action of the scheduler.
        references: whether arguments may refer to other calls' results, by number or by id, and
            whether the model is told so.
        options: options of `dagexec.tool` by the tool's name, such as
            `{"search": {"effect": "read", "timeout": 5}}`. `approval` is an interrupt, which
            `True`, "y" and "yes" answer.
        capacities: how much there is of each resource that tools use.
        on_report: called with the `Report` of each turn, which has the pictures.

    Raises DagexecError or ToolDefinitionError for settings that cannot be.
    """

    name = "dagexec"

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
        on_report: Callable[[Report], object] | None = None,
    ) -> None:
        """Check the settings."""
        super().__init__()
        settings = Settings(
            timeouts=timeouts,
            concurrency=concurrency,
            on_failure=on_failure,
            barrier=barrier,
            observers=tuple(observers),
            references=references,
            options=options,
            capacities=capacities,
            on_report=on_report,
        )
        self._crew = Crew(settings, turns.perform, turns.Observer(), (Waits,))
        self._crew.own(tools)
        self._own = [OwnTool(each) for each in tools]
        self._references = references
        self._model_side = ModelSide()
        self._numbers: weakref.WeakKeyDictionary[Any, Numbers] = weakref.WeakKeyDictionary()

    def init_agent(self, agent: Any) -> None:
        """Take over an agent's tool calls; called by the framework."""
        if self._own:
            agent.tool_registry.process_tools(list(self._own))
        missing = [name for name in _NEEDED if not hasattr(ConcurrentToolExecutor, name)]
        if missing:
            _log.warning(
                "ConcurrentToolExecutor of strands has no %s in this version: the agent runs as it"
                " does without dagexec",
                missing[0],
            )
            return
        if type(agent.tool_executor) is not ConcurrentToolExecutor:
            kind = type(agent.tool_executor).__name__
            msg = (
                f"the agent has a tool_executor of its own, {kind}, and DagPlugin runs its calls:"
                " leave tool_executor= out; DagPlugin(concurrency=1) runs one call at a time"
            )
            raise DagexecError(msg)
        agent.tool_executor = _Executor(self)
        self._crew.executor(agent.tool_registry.registry)  # made once, not by the first turns
        agent.add_hook(self._approve, BeforeToolCallEvent)
        agent.add_middleware(ExecuteToolStage.Input, _kept)
        if self._references:
            agent.add_middleware(InvokeModelStage.Input, self._shown)

    # --------------------------------------------------------------------------------- the request

    def _first(self, agent: Any) -> int:
        """Return the number of the first call that an agent's messages have."""
        numbers = self._numbers.get(agent)
        if numbers is None:
            numbers = self._numbers[agent] = Numbers()
        return numbers.first(agent.messages)

    def _shown(self, context: Any) -> Any:
        return self._model_side.shown(context, self._first(context.agent))

    def _approve(self, event: Any) -> None:
        """Ask a person, by an interrupt, where the options of a tool want it."""
        name, args = event.tool_use["name"], event.tool_use.get("input") or {}
        judge = self._crew.judge(name)
        if not judge.approval or event.cancel_tool or not needs_approval(judge, args):
            return
        answer = event.interrupt(_APPROVAL, reason=approval_question(judge, args))
        if answer is not True and str(answer).strip().casefold() not in _YES:
            event.cancel_tool = f"A person denied this call: {answer}"

    # -------------------------------------------------------------------------------- the calls

    def batch(self, setting: Setting, uses: Sequence[Any], results: Sequence[Any]) -> Batch:
        """Return the calls of a reply, to be run; `results` are those that it has already."""
        agent = setting.agent
        found = spoken(agent.messages, self._first(agent))
        messages = [each for each in agent.messages if uses_in(each)]
        wanted = {use.get("toolUseId") for use in uses}
        said = {use.get("toolUseId") for use in uses_in(messages[-1])} if messages else set()
        if not wanted <= said:  # the framework runs what stands in no message
            first = sum(map(len, found)) + self._first(agent)
            found.append(spoken_in(uses, first))
            messages.append({"content": [{"toolUse": use} for use in uses]})
        learn(found[-1] if found else [], results)
        records = self._records(agent, found[-1] if found else [], uses)
        calls = [record.spoken for record in records]

        def history() -> list[Spoken]:
            return [each for group in found for each in group if each not in calls]

        conversation = Conversation(calls, history, references=self._references)
        turn = Turn(self._crew, conversation, value=_as_it_is, asks=(Waits,))
        return Batch(setting, turn, records)

    def _records(self, agent: Any, said: Sequence[Spoken], uses: Sequence[Any]) -> list[Record]:
        """Return the tool uses that run, each with the call that the model wrote."""
        left = list(said)
        records: list[Record] = []
        for use in uses:
            one = next(each for each in left if each.id == str(use.get("toolUseId")))
            left.remove(one)
            registry = agent.tool_registry
            tool = registry.dynamic_tools.get(one.tool) or registry.registry.get(one.tool)
            one.texts = takes_text(schema_of(tool))
            one.marked = one.marked and not is_answer(tool)
            records.append(Record(one, use))
        return records


def _kept(context: Any) -> Any:
    """Let the tool of a call keep what its function returns."""
    record = CURRENT.get()
    if (
        record is None
        or context.tool is None
        or record.spoken.id != context.tool_use.get("toolUseId")
    ):
        return context
    return context.replace(tool=watched(context.tool, record.keep))


def _as_it_is(value: Any) -> Any:
    return value


@final
class _Executor(ConcurrentToolExecutor):
    """The executor of an agent with the plugin."""

    def __init__(self, plugin: DagPlugin) -> None:
        self._plugin = plugin

    async def _execute(  # noqa: PLR0917 - the framework's own signature
        self,
        agent: Any,
        tool_uses: list[Any],
        tool_results: list[Any],
        cycle_trace: Any,
        cycle_span: Any,
        invocation_state: dict[str, Any],
        structured_output_context: Any = None,
    ) -> AsyncGenerator[Any, None]:
        if not tool_uses:
            return
        setting = Setting(
            agent, cycle_trace, cycle_span, invocation_state, structured_output_context
        )
        batch = self._plugin.batch(setting, tool_uses, tool_results)
        events = batch.run(tool_results)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()
