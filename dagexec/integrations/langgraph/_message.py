"""One message's tool calls: from what LangGraph hands in to the answers in the model's order."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, cast, final

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from dagexec import Call, CallError, DagexecError, Executor, Outcome, Plan, Report, Tool
from dagexec._concurrency.signals import Asked
from dagexec._core.earlier_calls import is_marked
from dagexec._errors import CallCancelled, Denied
from dagexec._runtime.observers import Observer
from dagexec._tools.context import answer_from, stand_apart
from dagexec.integrations.langgraph._answers import error_message, outcome_text
from dagexec.integrations.langgraph._blocking import in_event_loop, in_thread
from dagexec.integrations.langgraph._carryover import carryover_of, merged
from dagexec.integrations.langgraph._commands import is_for_graph
from dagexec.integrations.langgraph._driven import Driven
from dagexec.integrations.langgraph._input import NodeInput, ids_of, limit_of
from dagexec.integrations.langgraph._items import NOBODY_TO_ASK, gathered, item_of, value_of
from dagexec.integrations.langgraph._people import NO_GRAPH, QUESTION, People
from dagexec.integrations.langgraph._references import References
from dagexec.integrations.langgraph._settings import NodeSettings
from dagexec.integrations.langgraph._tracked import CURRENT, TrackedCall
from dagexec.lowlevel import Conclude, Settled, current_id, without_faults

_TASK: Final = "__pregel_task_id"
_MESSAGE: Final[ContextVar[Message]] = ContextVar("dagexec_langgraph_message")


class Node(Protocol):
    """What a message needs of the node that runs it."""

    @property
    def settings(self) -> NodeSettings:
        """The settings that the node was made with."""
        ...

    @property
    def tools_by_name(self) -> dict[str, BaseTool]:
        """The tools, by the name that the model knows."""
        ...

    def driven(self, name: str, *, blocking: bool) -> Driven:
        """Return what an executor runs for a tool."""
        ...

    def executor(
        self,
        tools: Iterable[Tool[..., Any]],
        observers: Sequence[Observer] = (),
        concurrency: int | None = None,
    ) -> Executor:
        """Return an executor for the message."""
        ...

    def run_call(self, call: ToolCall, kind: Any, runtime: ToolRuntime) -> Any:
        """Run one call in this thread, wrappers and all."""
        ...

    def arun_call(
        self, call: ToolCall, kind: Any, runtime: ToolRuntime
    ) -> Coroutine[Any, Any, Any]:
        """Run one call in the event loop, wrappers and all."""
        ...

    def run_awaited(
        self, call: ToolCall, kind: Any, runtime: ToolRuntime
    ) -> Coroutine[Any, Any, Any]:
        """Run a tool that can only be awaited, under `invoke`: without the async wrapper."""
        ...

    def error_answer(self, error: Exception, call: ToolCall) -> ToolMessage:
        """Return the answer that the node makes of an error, or raise it."""
        ...


def arun(**args: Any) -> Any:
    """Run the current call of the message that runs, in the event loop."""
    # A coroutine is returned: a function that awaits it would cost a frame.
    return _MESSAGE.get().awaited(args, direct=False)


def arun_direct(**args: Any) -> Any:
    """Do the same for a tool that can only be awaited, under `invoke`."""
    return _MESSAGE.get().awaited(args, direct=True)


def run(**args: Any) -> Any:
    """Run the current call of the message that runs, in its thread."""
    return _MESSAGE.get().called(args)


@final
class Message:
    """A message's calls while they run."""

    def __init__(self, node: Node, given: NodeInput, *, blocking: bool) -> None:
        """Take the calls, and what an attempt before has left of them."""
        self._node = node
        self.given = given
        self._config = given.config
        self._blocking = blocking
        self._writer: Callable[[Any], object] | None
        self._writer = getattr(given.runtime, "stream_writer", None)
        ids = ids_of(given.calls)
        self.tracked_calls = [
            TrackedCall(id_, call, given.kind, self._tool_runtime(call, config), position)
            for position, (id_, call, config) in enumerate(
                zip(ids, given.calls, given.configs, strict=True)
            )
        ]
        # Where the commands go that left their tools as exceptions: the name of a graph above.
        self.target: str | None = None
        self._by_id = {tracked.id: tracked for tracked in self.tracked_calls}
        self._carryover = carryover_of(given.config, self.tracked_calls)
        self._people: dict[str, People] = {}
        for tracked in self.tracked_calls:
            if not tracked.settled:
                self._open(tracked)
        self._references: References | None = None
        # The calls that run once for each item of a list, with their items and what became of them.
        self._spread: dict[str, dict[str, TrackedCall]] = {}
        self._of_items: dict[str, Outcome] = {}
        self._arun = node.arun_call

    def _open(self, tracked: TrackedCall) -> None:
        """Give a call what people have answered; raise DagexecError for what is no answer."""
        carryover, judge = (
            self._carryover,
            self._node.driven(tracked.call["name"], blocking=False).judge,
        )
        bodies = () if carryover is None else carryover.bodies.get(tracked.id, ())
        tracked.people = people = self._people[tracked.id] = People(tracked.id, judge, bodies)
        if carryover is None:
            people.by_order = True
            return
        found = carryover.answer(tracked)
        if found is not None:
            people.take(*found, self._as_asked(tracked, judge))
            carryover.took(tracked)
        tracked.decide()
        tracked.runtime.config = carryover.config(tracked)

    def _as_asked(self, tracked: TrackedCall, judge: Tool[..., Any]) -> Call:
        args = dict(tracked.call["args"])
        if not self._node.settings.references:
            args = {key: {"$literal": value} for key, value in args.items()}
        return Call(tracked.id, judge.name, args)

    def _tool_runtime(self, call: ToolCall, config: RunnableConfig) -> ToolRuntime:
        runtime = self.given.runtime
        return ToolRuntime(
            state=self.given.state,
            tool_call_id=call["id"],
            config=config,
            context=runtime.context,
            store=runtime.store,
            stream_writer=runtime.stream_writer,
            tools=list(self._node.tools_by_name.values()),
            execution_info=runtime.execution_info,
            server_info=runtime.server_info,
        )

    # ------------------------------------------------------------------------------------- the run

    async def run(self) -> list[Any]:
        """Run the calls and return the answers; raises what has to leave the node."""
        plan, executor = self._prepared()
        token, apart = _MESSAGE.set(self), stand_apart()
        try:
            report = await executor.run(plan, run_id=self._run_id())
        finally:
            _MESSAGE.reset(token)
            stand_apart(apart)
        return self._answers(report)

    def run_blocking(self) -> list[Any]:
        """Do the same where there is no event loop to wait in."""
        plan, executor = self._prepared()
        context = copy_context()
        context.run(_MESSAGE.set, self)
        context.run(stand_apart)
        in_loop = partial(executor.run_sync, plan, run_id=self._run_id())

        def run() -> Report:
            return context.run(in_loop)

        report = in_thread(run) if in_event_loop() else run()
        return self._answers(report)

    def _run_id(self) -> str | None:
        # The same for each attempt of the node, and so are the calls' idempotency keys.
        task = (self._config.get("configurable") or {}).get(_TASK)
        return task if isinstance(task, str) and task else None

    def _prepared(self) -> tuple[Plan, Executor]:
        settings = self._node.settings
        tools: dict[str, Tool[..., Any]] = {}
        left = [tracked for tracked in self.tracked_calls if not tracked.settled]
        for tracked in left:
            name = tracked.call["name"]
            if name not in tools:
                tools[name] = self._node.driven(name, blocking=self._blocking).tool
        observers = settings.observers
        if settings.stream_calls and self._writer is not None:
            observers = (*observers, self._stream)
        limit = limit_of(settings.concurrency, self._config.get("max_concurrency"))
        executor = self._node.executor(tools.values(), observers, limit)
        calls = self._calls(left, tools)
        denied = {tracked.id: tracked.denied for tracked in left if tracked.denied is not None}
        if denied:
            calls = [
                replace(call, problem=denied[call.id]) if call.id in denied else call
                for call in calls
            ]
        return Plan(calls), executor

    def _calls(
        self, left: Sequence[TrackedCall], tools: Mapping[str, Tool[..., Any]]
    ) -> list[Call]:
        refers = self._node.settings.references
        marked = {tracked.id for tracked in left if is_marked(tracked.call["args"])}
        if not marked or not refers:
            shown = bool(self._node.settings.observers)
            calls: list[Call] = []
            for tracked in left:
                known = tools[tracked.call["name"]]
                args: dict[str, Any] = {}
                asked_for = known.templates or known.cost is not None
                # Each attempt is given new ones: a tool may have changed its own.
                if shown or asked_for or known.retry is not None:
                    args = dict(tracked.call["args"])
                    if tracked.id in marked:
                        args = {key: {"$literal": value} for key, value in args.items()}
                calls.append(Call(tracked.id, known.name, args))
            return calls
        self._references = References(self.given.messages, self.tracked_calls)
        found: list[Call] = []
        for tracked in left:
            name = tracked.call["name"]
            own = self._node.tools_by_name.get(name)
            call = self._references.call(tracked, tools[name].name, own)
            if call.each:
                self._spread[tracked.id] = {}
                if self._node.driven(name, blocking=False).judge.approval:
                    call = replace(call, args={}, problem=NOBODY_TO_ASK)
            found.append(call)
        return without_faults(found)

    # ------------------------------------------------------------------------------------ one call

    async def awaited(self, args: dict[str, Any], *, direct: bool) -> Any:
        """Run the current call in the event loop, and return its value."""
        tracked, call = self._begin(args)
        run = self._node.run_awaited if direct else self._arun
        try:
            call = self._admitted(tracked, call)
            answer = await run(call, tracked.input_type, tracked.runtime)
        except (GraphInterrupt, Asked) as ended:
            return self._after(tracked, ended)
        return self._taken(tracked, answer)

    def called(self, args: dict[str, Any]) -> Any:
        """Run the current call in this thread, and return its value."""
        tracked, call = self._begin(args)
        try:
            call = self._admitted(tracked, call)
            answer = self._node.run_call(call, tracked.input_type, tracked.runtime)
        except (GraphInterrupt, Asked) as ended:
            return self._after(tracked, ended)
        return self._taken(tracked, answer)

    def _begin(self, args: dict[str, Any]) -> tuple[TrackedCall, ToolCall]:
        tracked = self._by_id.get(current_id()) or self._item(current_id())
        CURRENT.set(tracked)
        answer_from(self._people)
        if tracked.begun and tracked.people is not None:
            # The tool runs from its first line: what it asks again has been answered.
            tracked.people.given.rewind()
            if self._carryover is not None:
                # A copy, since a thread that was left behind may still use the other.
                tracked.runtime = copy(tracked.runtime)
                tracked.runtime.config = self._carryover.config(tracked)
        if self._carryover is not None and tracked.id in self._by_id:
            # What `interrupt()` reads, also in a wrapper, before any tool is called.
            var_child_runnable_config.set(tracked.runtime.config)
        return tracked, tracked.begin(args or None)

    def _item(self, id_: str) -> TrackedCall:
        """Return the entry of one of the items of a call."""
        parent = id_.rpartition("[")[0]
        items = self._spread[parent]
        if id_ not in items:
            items[id_] = item_of(self._by_id[parent], id_)
        return items[id_]

    def _taken(self, tracked: TrackedCall, answer: Any) -> Any:
        known = tracked.id in self._by_id
        return tracked.take(answer) if known else value_of(tracked, answer)

    def _admitted(self, tracked: TrackedCall, call: ToolCall) -> ToolCall:
        """Return a call that a person has agreed to, perhaps with other arguments."""
        people = tracked.people
        if people is None:
            return call
        admitted = people.admitted(call)
        if admitted is None:
            raise Asked(None if people.asks is None else people.asks[1])
        return admitted

    def _after(self, tracked: TrackedCall, ended: BaseException) -> Any:
        """Return the value of a call on which a person has decided; else say what it asks."""
        people = tracked.people
        if tracked.id not in self._by_id:
            raise CallError(NOBODY_TO_ASK) from ended
        if people is not None and people.verdict is not None:
            tracked.decide()
            if tracked.denied is not None:
                raise Denied(tracked.denied)
            return tracked.raw
        if isinstance(ended, GraphInterrupt):
            tracked.interrupt = ended
            asked = people and people.asks
            question = asked[1] if asked else [getattr(e, "value", None) for e in ended.args[0]]
            raise Asked(question) from ended
        if people is not None and people.asks is None:
            people.asks = (QUESTION, cast("Asked", ended).question)
        raise ended

    # ---------------------------------------------------------------------------------- the answers

    def _answers(self, report: Report) -> list[Any]:
        self._of_items.update(report)
        for tracked in self.tracked_calls:
            if not tracked.settled:
                self._conclude(tracked, report[tracked.id])
        self._leave()
        return [*map(self._output, self.tracked_calls), *self.given.unreadable]

    def _judge(self, tracked: TrackedCall, outcome: Outcome) -> None:
        """Say what an outcome means: an answer, or something that has to leave the node."""
        status = outcome.status
        if status == "pending" and outcome.because is None and not tracked.is_asking:
            # It asked where only the executor saw it: in a thread, or in a run of its own.
            tracked.answer = tracked.caught = None
            if self._carryover is None:
                tracked.error = DagexecError(NO_GRAPH)
            elif tracked.people is not None:
                tracked.people.asks = (QUESTION, outcome.question)
            return
        if status in ("done", "pending") or tracked.answer is not None:
            return
        error = outcome.error
        if status == "failed" and error is not None and not isinstance(error, CallError):
            self._fail(tracked, error, began=outcome.started is not None)
            return
        if status == "skipped" and self._is_open(outcome.because):
            return
        if status == "cancelled" and outcome.started is None and self._is_open(outcome.because):
            return
        tracked.answer = error_message(outcome_text(outcome, self._named), tracked.call)
        tracked.caught = error

    def _conclude(self, tracked: TrackedCall, outcome: Outcome) -> None:
        """Answer a call, of which each item or none may have run."""
        if tracked.id not in self._spread or not self._gather(tracked, outcome):
            self._judge(tracked, outcome)

    def _gather(self, tracked: TrackedCall, outcome: Outcome) -> bool:
        """Answer a call that ran for each item; False if it did not come to that."""
        entries = self._spread[tracked.id]
        items: list[tuple[TrackedCall | None, Outcome]] = []
        while (id_ := f"{tracked.id}[{len(items)}]") in self._of_items:
            items.append((entries.get(id_), self._of_items[id_]))
        if not items and outcome.status != "done":
            return False
        gathered(tracked, outcome, items, self._told)
        return True

    def _told(self, outcome: Outcome, call: ToolCall) -> ToolMessage:
        """Return what the model is told of an outcome without a value."""
        if outcome.status == "pending":
            return error_message(NOBODY_TO_ASK, call)
        text = outcome_text(outcome, self._named)
        if self._references is not None:
            text = self._references.numbered_items(text, self._spread)
        return error_message(text, call)

    def _fail(self, tracked: TrackedCall, error: Exception, *, began: bool) -> None:
        """Keep an error that was not written for the model."""
        if isinstance(error, GraphBubbleUp):
            tracked.leaves = error
        elif isinstance(error, CallCancelled) and error.__cause__ is not None:
            tracked.error = error.__cause__
        elif began:
            tracked.error = error  # nobody has handled it
        else:
            # What kept a call from starting is handled as if its tool had raised it.
            try:
                tracked.answer = self._node.error_answer(error, tracked.call)
                tracked.caught = error
            except Exception as unhandled:  # noqa: BLE001 - it leaves the node with the others
                tracked.error = unhandled

    def _is_open(self, id_: str | None) -> bool:
        """Whether a call has no answer yet, so that those that wait for it have none either."""
        tracked = self._by_id.get(id_ or "")
        return tracked is not None and tracked.answer is None

    def _named(self, id_: str) -> str:
        if self._references is not None:
            return self._references.named(id_)
        tracked = self._by_id.get(id_)
        return "another call" if tracked is None else f"the call of {tracked.call['name']!r}"

    def _leave(self) -> None:
        """Raise what has to leave the node: the first error, else the interrupts, else the rest.

        An error goes first: what asked will ask again, and nobody answers for a node that failed.
        """
        tracked_calls = self.tracked_calls
        error = next(
            (tracked.error for tracked in tracked_calls if tracked.error is not None), None
        )
        leaves = [tracked.leaves for tracked in tracked_calls if tracked.leaves is not None]
        drained = next((each for each in leaves if not isinstance(each, ParentCommand)), None)
        asking = [tracked for tracked in tracked_calls if tracked.is_asking]
        if error is None and not leaves and not asking:
            return
        carryover = self._carryover
        if carryover is not None:
            carryover.save()
        if error is not None:
            raise error
        if drained is not None:
            raise drained
        if asking and carryover is not None:
            raise merged(each for tracked in asking for each in carryover.interrupts(tracked))
        if asking and asking[0].interrupt is not None:
            raise asking[0].interrupt

    def _output(self, tracked: TrackedCall) -> Any:
        """Return the answer to a call, or the command that left its tool as an exception."""
        if not isinstance(tracked.leaves, ParentCommand):
            return tracked.answer
        command: Command[Any] = tracked.leaves.args[0]
        if is_for_graph(self._config, command.graph):
            return replace(command, graph=None)
        self.target = self.target or command.graph
        return replace(command, graph=Command.PARENT)

    def _stream(self, event: object) -> None:
        """Tell the graph's stream of a call that has ended."""
        if not isinstance(event, Settled | Conclude) or self._writer is None:
            return
        self._of_items[event.call] = event.outcome
        tracked = self._by_id.get(event.call)
        if tracked is None:  # an item: its call tells of all
            return
        self._conclude(tracked, event.outcome)
        if tracked.answer is not None:
            self._writer(
                {
                    "type": "tool_call",
                    "tool_call_id": tracked.call["id"],
                    "name": tracked.call["name"],
                    "status": event.outcome.status,
                    "message": tracked.answer,
                }
            )
