"""`dag_agent`: an agent of smolagents whose turns run as graphs."""

# smolagents has no types to be checked.
# mypy: ignore-errors
# pyright: basic

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, final

from smolagents import ActionStep, ChatMessage, ToolCallingAgent
from smolagents.agents import ToolOutput
from smolagents.memory import ToolCall
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole
from smolagents.monitoring import Timing

from dagexec import DagexecError, Report, Tool
from dagexec._runtime.observers import Observer
from dagexec._runtime.settings import SomeTimeouts
from dagexec._tools.options import ToolOptions
from dagexec.integrations._turns import turn as turns
from dagexec.integrations._turns.conversation import Conversation, Spoken, read_arguments
from dagexec.integrations._turns.crew import DEFAULT_CONCURRENCY, Crew, Settings
from dagexec.integrations._turns.turn import Turn
from dagexec.integrations.smolagents._batch import Batch, Leaving, Record
from dagexec.integrations.smolagents._loop import Home
from dagexec.integrations.smolagents._tools import FINAL, OwnTool, shown, takes_text
from dagexec.lowlevel import INSTRUCTIONS

_log: Final = logging.getLogger("dagexec")
# What `_Graphed` is put in front of: any class of agents.
_AGENT: Any = object
A = TypeVar("A", bound=ToolCallingAgent)

# What the framework does not document. Without one of these an agent runs as it always did.
_NEEDED: Final = ("process_tool_calls", "tools_and_managed_agents", "initialize_system_prompt")


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
    """Return a copy of a `ToolCallingAgent` that runs the tool calls of each turn as a graph.

    Args:
        agent: the agent; it stays as it is.
        tools: tools of dagexec that the agent gets, with their options, beside its own.
        timeouts: how long things may take, in seconds; `turn` and `workflow` both bound one turn.
            A call that does not end in time is answered with a text that says so. By default only
            a turn has a limit, of 600 s.
        concurrency: how many calls run at a time, in the place of `max_tool_threads`.
        on_failure: "skip" costs a failure its dependants, "stop" cancels the rest of the turn.
        barrier: whether calls that become ready together wait until those before have ended.
        observers: called with every event and action of the scheduler.
        references: whether arguments may refer to other calls' results, by number or by id, and
            whether the model is told so.
        options: options of `dagexec.tool` by the tool's name, such as
            `{"search": {"effect": "read", "timeout": 5}}`. There is no `approval`: the framework
            has nobody to ask.
        capacities: how much there is of each resource that tools use.
        errors: "answer" makes an exception of a tool the observation of its call; "raise" makes it
            the error of the step, as the framework does, when all calls have ended.
        on_report: called with the `Report` of each turn, which has the pictures.

    Raises DagexecError or ToolDefinitionError for settings that cannot be.
    """
    if not isinstance(agent, ToolCallingAgent):
        msg = (
            f"dag_agent() takes a ToolCallingAgent, not a {type(agent).__name__}: the code that a"
            " CodeAgent writes is a program, see planners.programs"
        )
        raise DagexecError(msg)
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
    crew = Crew(settings, turns.perform, turns.Observer(), (Leaving,))
    crew.own(tools)
    names = (*agent.tools, *agent.managed_agents, *(each.name for each in tools))
    for name in names:
        if crew.judge(name).approval:
            msg = f"approval= of {name!r}: smolagents has nobody to ask; ask inside of the tool"
            raise DagexecError(msg)
    crew.executor(names)  # made once, not by each turn that has another tool
    missing = [name for name in _NEEDED if not hasattr(type(agent), name)]
    if missing:
        _log.warning(
            "ToolCallingAgent of smolagents has no %s in this version: the agent runs as it does"
            " without dagexec",
            missing[0],
        )
    kind = type(agent) if missing else _graphed(type(agent))
    one: Any = object.__new__(kind)
    vars(one).update(vars(agent), _dagexec_desk=_Desk(crew))
    one.tools = {**agent.tools, **{each.name: OwnTool(each) for each in tools}}
    one.state = dict(agent.state)
    one.memory = copy.copy(agent.memory)
    one.memory.steps = list(agent.memory.steps)
    return one


@final
class _Desk:
    """The calls of one agent: those that run, and what those before have left."""

    def __init__(self, crew: Crew) -> None:
        """Begin without calls."""
        self._crew = crew
        self.references = crew.settings.references
        self.raises = crew.settings.errors == "raise"
        self.batch: Batch | None = None
        self._home = Home()
        # By step, as long as the agent's memory has it.
        self._past: list[tuple[Any, list[Spoken]]] = []

    def announced(self, agent: Any, calls: Sequence[ToolCall]) -> list[Record]:
        """Return the calls of a reply with their numbers."""
        steps = {id(each) for each in agent.memory.steps}
        self._past = [each for each in self._past if id(each[0]) in steps]
        number = self._past[-1][1][-1].number + 1 if self._past else 1
        known = {**agent.tools, **agent.managed_agents}
        keys: set[str] = set()
        records: list[Record] = []
        for n, call in enumerate(calls, number):
            key = call.id if call.id not in keys else f"{call.id} {n}"
            keys.add(key)
            args = read_arguments(call.arguments)
            spoken = Spoken(n, call.id, call.name, key=key, args=args)
            spoken.texts = takes_text(known.get(call.name))
            spoken.marked = spoken.marked and call.name != FINAL
            records.append(Record(spoken, call, call.arguments))
        return records

    def turn(self, calls: Sequence[Spoken]) -> Turn:
        """Return the turn of these calls; called in its event loop."""
        past = [earlier for _, earlier in self._past]

        def history() -> Iterable[Spoken]:
            return [each for earlier in past for each in earlier]

        conversation = Conversation(calls, history, references=self.references)
        return Turn(self._crew, conversation)

    def run(self, agent: Any, step: Any, records: list[Record]) -> Iterator[Record]:
        """Yield the calls as they end."""
        calls = [record.spoken for record in records]

        def process(call: ToolCall, arguments: Any) -> Any:
            return _processed(agent, call, arguments)

        batch = self.batch = Batch(self._home, lambda: self.turn(calls), records, process)
        try:
            yield from batch.run()
        finally:
            self.batch = None
            self._past.append((step, calls))


def _processed(agent: Any, call: ToolCall, arguments: Any) -> Any:
    """Run one call by the framework's own code, and return its output."""
    function = ChatMessageToolCallFunction(arguments=arguments, name=call.name)
    one = ChatMessageToolCall(function=function, id=call.id, type="function")
    message = ChatMessage(role=MessageRole.ASSISTANT, tool_calls=[one])
    scratch = ActionStep(step_number=0, timing=Timing(start_time=0))
    found = None
    for each in agent._dagexec_bare(message, scratch):  # noqa: SLF001
        if isinstance(each, ToolOutput):
            found = each
    return found


class _Graphed(_AGENT):
    """What an agent whose calls come to a desk does otherwise."""

    _dagexec_desk: _Desk

    @property
    def tools_and_managed_agents(self) -> list[Any]:
        found = super().tools_and_managed_agents
        return [shown(each) for each in found] if self._dagexec_desk.references else found

    def initialize_system_prompt(self) -> str:
        prompt = super().initialize_system_prompt()
        return f"{prompt}\n\n{INSTRUCTIONS}" if self._dagexec_desk.references else prompt

    def interrupt(self) -> None:
        super().interrupt()
        batch = self._dagexec_desk.batch
        if batch is not None:
            batch.stop()

    def _dagexec_bare(self, chat_message: Any, memory_step: Any) -> Iterator[Any]:
        return super().process_tool_calls(chat_message, memory_step)

    def process_tool_calls(self, chat_message: Any, memory_step: Any) -> Iterator[Any]:
        calls = [
            ToolCall(name=each.function.name, arguments=each.function.arguments, id=each.id)
            for each in chat_message.tool_calls
        ]
        yield from calls
        desk = self._dagexec_desk
        records = desk.announced(self, calls)
        failed: Exception | None = None
        for record in desk.run(self, memory_step, records):
            if record.error is not None and desk.raises:
                failed = failed or record.error
                continue
            yield _output(record)
        if failed is not None:
            raise failed
        for record in records:
            if record.output is None:  # the agent was interrupted before its first step
                yield _output(record)
        memory_step.tool_calls = calls
        memory_step.observations = _observed(memory_step.observations, records, desk)


def _graphed(kind: type[Any]) -> type[Any]:
    """Return a class of agents like this one, and of its name, whose calls come to a desk."""
    same = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (_Graphed, kind), same)


def _output(record: Record) -> ToolOutput:
    if record.output is not None:
        record.output.tool_call = record.call
        return record.output
    record.output = ToolOutput(
        id=record.call.id,
        output=record.text,
        is_final_answer=False,
        observation=record.text,
        tool_call=record.call,
    )
    return record.output


def _observed(before: str | None, records: Sequence[Record], desk: _Desk) -> str:
    """Return what the model sees of the results, each with the number of its call."""
    texts = [
        f"[call {each.spoken.number}]\n{each.output.observation}"
        if desk.references and not each.output.is_final_answer
        else each.output.observation
        for each in records
    ]
    return ((before or "") + "\n".join(texts)).rstrip("\n")
