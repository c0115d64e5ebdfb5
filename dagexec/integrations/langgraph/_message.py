"""One message's tool calls: from what LangGraph hands in to the answers in the model's order."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from contextvars import ContextVar, copy_context
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast, final

from langchain_core.runnables.config import get_config_list, var_child_runnable_config
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.prebuilt import ToolRuntime

from dagexec import Call, CallError, Plan, Tool
from dagexec._errors import CallCancelled, Denied
from dagexec._tools.context import Asked, answer_from
from dagexec.integrations.langgraph._answers import error_message, outcome_text
from dagexec.integrations.langgraph._blocking import in_event_loop, in_thread
from dagexec.integrations.langgraph._input import (
    answers_to_unreadable,
    ids_of,
    limit_of,
    messages_of,
)
from dagexec.integrations.langgraph._ledger import merged, open_ledger
from dagexec.integrations.langgraph._people import QUESTION, People
from dagexec.integrations.langgraph._record import CURRENT, Record
from dagexec.integrations.langgraph._references import References, is_marked, without_faults
from dagexec.lowlevel import Conclude, Settled, current_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import ToolCall
    from langchain_core.runnables import RunnableConfig

    from dagexec import Executor, Outcome, Report, Timeouts
    from dagexec._runtime.observers import Observer
    from dagexec._tools.options import ToolOptions
    from dagexec.integrations.langgraph._node import DagToolNode

_TASK: Final = "__pregel_task_id"
_MESSAGE: Final[ContextVar[Message]] = ContextVar("dagexec_langgraph_message")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a node was made with, besides what the stock class keeps itself."""

    timeouts: Timeouts
    concurrency: int | None
    on_failure: Any
    barrier: bool
    observers: tuple[Observer, ...]
    references: bool
    options: Mapping[str, ToolOptions]
    stream_calls: bool
    capacities: Mapping[str, int]


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

    def __init__(
        self, node: DagToolNode, given: Any, config: RunnableConfig, runtime: Any, *, blocking: bool
    ) -> None:
        """Read the input and what an attempt before has left."""
        hooks: Any = node
        calls: list[ToolCall]
        calls, self.input_type = hooks._parse_input(given)  # noqa: SLF001
        self._node = node
        self._hooks = hooks
        self._config = config
        self._blocking = blocking
        self._writer = getattr(runtime, "stream_writer", None)
        configs = get_config_list(config, len(calls))
        state = hooks._extract_state(given, configs[0]) if configs else None  # noqa: SLF001
        self._messages: Sequence[Any] = messages_of(given, state, hooks._messages_key)  # noqa: SLF001
        written = self.input_type != "tool_calls"
        self._unreadable = answers_to_unreadable(self._messages) if written else []
        self.records = [
            Record(id_, call, self.input_type, self._tool_runtime(call, each, state, runtime), n)
            for n, (id_, call, each) in enumerate(zip(ids_of(calls), calls, configs, strict=True))
        ]
        self._by_id = {record.id: record for record in self.records}
        self._ledger = open_ledger(config, self.records)
        self._people: dict[str, People] = {}
        for record in self.records:
            if not record.settled:
                self._open(record)
        self._references: References | None = None
        self._arun = hooks._arun_one  # noqa: SLF001

    def _open(self, record: Record) -> None:
        """Give a call what people have answered; raise DagexecError for what is no answer."""
        ledger, judge = self._ledger, self._node.driven(record.call["name"], blocking=False).judge
        bodies = () if ledger is None else ledger.bodies.get(record.id, ())
        record.people = people = self._people[record.id] = People(record.id, judge, bodies)
        if ledger is None:
            people.by_order = True
            return
        found = ledger.answer(record)
        if found is not None:
            people.take(*found, self._as_asked(record, judge))
            ledger.took(record)
        record.decide()
        record.runtime.config = ledger.config(record)

    def _as_asked(self, record: Record, judge: Tool[..., Any]) -> Call:
        args = dict(record.call["args"])
        if not self._node.settings.references:
            args = {key: {"$literal": value} for key, value in args.items()}
        return Call(record.id, judge.name, args)

    def _tool_runtime(
        self, call: ToolCall, config: RunnableConfig, state: Any, runtime: Any
    ) -> ToolRuntime:
        return ToolRuntime(
            state=state,
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
        token = _MESSAGE.set(self)
        try:
            report = await executor.run(plan, run_id=self._run_id())
        finally:
            _MESSAGE.reset(token)
        return self._answers(report)

    def run_blocking(self) -> list[Any]:
        """Do the same where there is no event loop to wait in."""
        plan, executor = self._prepared()
        context = copy_context()
        context.run(_MESSAGE.set, self)
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
        left = [record for record in self.records if not record.settled]
        for record in left:
            name = record.call["name"]
            if name not in tools:
                tools[name] = self._node.driven(name, blocking=self._blocking).tool
        observers = settings.observers
        if settings.stream_calls and self._writer is not None:
            observers = (*observers, self._stream)
        limit = limit_of(settings.concurrency, self._config.get("max_concurrency"))
        executor = self._node.executor(tools.values(), observers, limit)
        calls = self._calls(left, tools)
        denied = {record.id: record.denied for record in left if record.denied is not None}
        if denied:
            calls = [
                replace(call, problem=denied[call.id]) if call.id in denied else call
                for call in calls
            ]
        return Plan(calls), executor

    def _calls(self, left: Sequence[Record], tools: Mapping[str, Tool[..., Any]]) -> list[Call]:
        refers = self._node.settings.references
        marked = {record.id for record in left if is_marked(record.call["args"])}
        if not marked or not refers:
            shown = bool(self._node.settings.observers)
            calls: list[Call] = []
            for record in left:
                known = tools[record.call["name"]]
                args: dict[str, Any] = {}
                asked_for = known.templates or known.cost is not None
                # Each attempt is given new ones: a tool may have changed its own.
                if shown or asked_for or known.retry is not None:
                    args = dict(record.call["args"])
                    if record.id in marked:
                        args = {key: {"$literal": value} for key, value in args.items()}
                calls.append(Call(record.id, known.name, args))
            return calls
        self._references = References(self._messages, self.records)
        found: list[Call] = []
        for record in left:
            name = record.call["name"]
            own = self._node.tools_by_name.get(name)
            found.append(self._references.call(record, tools[name].name, own))
        return without_faults(found)

    # ------------------------------------------------------------------------------------ one call

    async def awaited(self, args: dict[str, Any], *, direct: bool) -> Any:
        """Run the current call in the event loop, and return its value."""
        record, call = self._begin(args)
        run = self._node.run_awaited if direct else self._arun
        try:
            call = self._admitted(record, call)
            answer = await run(call, record.input_type, record.runtime)
        except (GraphInterrupt, Asked) as ended:
            return self._after(record, ended)
        return record.take(answer)

    def called(self, args: dict[str, Any]) -> Any:
        """Run the current call in this thread, and return its value."""
        record, call = self._begin(args)
        try:
            call = self._admitted(record, call)
            answer = self._hooks._run_one(call, record.input_type, record.runtime)  # noqa: SLF001
        except (GraphInterrupt, Asked) as ended:
            return self._after(record, ended)
        return record.take(answer)

    def _begin(self, args: dict[str, Any]) -> tuple[Record, ToolCall]:
        record = self._by_id[current_id()]
        CURRENT.set(record)
        answer_from(self._people)
        if record.begun and record.people is not None:
            # The tool runs from its first line: what it asks again has been answered.
            record.people.given.rewind()
            if self._ledger is not None:
                # A copy, since a thread that was left behind may still use the other.
                record.runtime = copy(record.runtime)
                record.runtime.config = self._ledger.config(record)
        if self._ledger is not None:
            # What `interrupt()` reads, also in a wrapper, before any tool is called.
            var_child_runnable_config.set(record.runtime.config)
        return record, record.begin(args or None)

    def _admitted(self, record: Record, call: ToolCall) -> ToolCall:
        """Return a call that a person has agreed to, perhaps with other arguments."""
        people = record.people
        if people is None:
            return call
        admitted = people.admitted(call)
        if admitted is None:
            raise Asked(None if people.asks is None else people.asks[1])
        return admitted

    def _after(self, record: Record, ended: BaseException) -> Any:
        """Return the value of a call on which a person has decided; else say what it asks."""
        people = record.people
        if people is not None and people.verdict is not None:
            record.decide()
            if record.denied is not None:
                raise Denied(record.denied)
            return record.raw
        if isinstance(ended, GraphInterrupt):
            record.interrupt = ended
            asked = people and people.asks
            question = asked[1] if asked else [getattr(e, "value", None) for e in ended.args[0]]
            raise Asked(question) from ended
        if people is not None and people.asks is None:
            people.asks = (QUESTION, cast("Asked", ended).question)
        raise ended

    # ---------------------------------------------------------------------------------- the answers

    def _answers(self, report: Report) -> list[Any]:
        for record in self.records:
            if not record.settled:
                self._judge(record, report[record.id])
        self._leave()
        return [*(record.answer for record in self.records), *self._unreadable]

    def _judge(self, record: Record, outcome: Outcome) -> None:
        """Say what an outcome means: an answer, or something that has to leave the node."""
        status = outcome.status
        if status == "pending" and outcome.because is None and not record.is_asking:
            # It asked where only the executor saw it.
            if record.people is not None:
                record.people.asks = (QUESTION, outcome.question)
            return
        if status in ("done", "pending") or record.answer is not None:
            return
        error = outcome.error
        if status == "failed" and error is not None and not isinstance(error, CallError):
            self._fail(record, error, began=outcome.started is not None)
            return
        if status == "skipped" and self._is_open(outcome.because):
            return
        if status == "cancelled" and outcome.started is None and self._is_open(outcome.because):
            return
        record.answer = error_message(outcome_text(outcome, self._named), record.call)
        record.caught = error

    def _fail(self, record: Record, error: Exception, *, began: bool) -> None:
        """Keep an error that was not written for the model."""
        if isinstance(error, GraphBubbleUp):
            record.leaves = error
        elif isinstance(error, CallCancelled) and error.__cause__ is not None:
            record.error = error.__cause__
        elif began:
            record.error = error  # nobody has handled it
        else:
            # What kept a call from starting is handled as if its tool had raised it.
            try:
                record.answer = self._hooks._answer_to(error, record.call)  # noqa: SLF001
                record.caught = error
            except Exception as unhandled:  # noqa: BLE001 - it leaves the node with the others
                record.error = unhandled

    def _is_open(self, id_: str | None) -> bool:
        """Whether a call has no answer yet, so that those that wait for it have none either."""
        record = self._by_id.get(id_ or "")
        return record is not None and record.answer is None

    def _named(self, id_: str) -> str:
        if self._references is not None:
            return self._references.named(id_)
        record = self._by_id.get(id_)
        return "another call" if record is None else f"the call of {record.call['name']!r}"

    def _leave(self) -> None:
        """Raise what has to leave the node: the first error, else the interrupts, else the rest.

        An error goes first: what asked will ask again, and nobody answers for a node that failed.
        """
        records = self.records
        error = next((record.error for record in records if record.error is not None), None)
        leaves = [record.leaves for record in records if record.leaves is not None]
        drained = next((each for each in leaves if not isinstance(each, ParentCommand)), None)
        asking = [record for record in records if record.is_asking]
        if error is None and not leaves and not asking:
            return
        ledger = self._ledger
        if ledger is not None:
            ledger.save()
        if error is not None:
            raise error
        if drained is not None:
            raise drained
        if asking and ledger is not None:
            raise merged(each for record in asking for each in ledger.interrupts(record))
        if asking and asking[0].interrupt is not None:
            raise asking[0].interrupt
        raise leaves[0]

    def _stream(self, event: object) -> None:
        """Tell the graph's stream of a call that has ended."""
        if not isinstance(event, Settled | Conclude) or self._writer is None:
            return
        record = self._by_id[event.call]
        self._judge(record, event.outcome)
        if record.answer is not None:
            self._writer(
                {
                    "type": "tool_call",
                    "tool_call_id": record.call["id"],
                    "name": record.call["name"],
                    "status": event.outcome.status,
                    "message": record.answer,
                }
            )
