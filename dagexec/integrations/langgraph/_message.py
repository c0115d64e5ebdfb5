"""One message's tool calls: from what LangGraph hands in to the answers in the model's order."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, final

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables.config import get_config_list, var_child_runnable_config
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.prebuilt import ToolRuntime
from langgraph.types import interrupt

from dagexec import Call, CallError, Executor, Plan, Tool, tool
from dagexec._errors import CallCancelled
from dagexec.integrations.langgraph._answers import decided, error_message, outcome_text
from dagexec.integrations.langgraph._blocking import in_event_loop, in_thread
from dagexec.integrations.langgraph._ledger import merged, open_ledger
from dagexec.integrations.langgraph._record import CURRENT, Record
from dagexec.integrations.langgraph._references import References, is_marked, without_faults
from dagexec.integrations.langgraph._tools import fitting_name
from dagexec.lowlevel import Asked, Conclude, Settled, current_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.messages import ToolCall
    from langchain_core.runnables import RunnableConfig

    from dagexec import Outcome, Report, Timeouts
    from dagexec._observers import Observer
    from dagexec._options import ToolOptions
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


def as_dag_tool(
    name: str, *, asynchronous: bool, direct: bool, options: ToolOptions
) -> Tool[..., Any]:
    """Return the tool that an executor runs for the calls of this name.

    It takes its call from the message that runs. Arguments are LangChain's to check, so its schema
    is open. `direct` is how a tool is awaited under `invoke`.
    """

    def arun(**args: Any) -> Any:  # a coroutine: a function that awaits it would cost a frame
        return _MESSAGE.get().awaited(args, direct=direct)

    def run(**args: Any) -> Any:
        return _MESSAGE.get().called(args)

    function: Callable[..., Any] = arun if asynchronous else run
    runs: Literal["async", "thread"] = "async" if asynchronous else "thread"
    chosen: ToolOptions = {"description": "", **options, "name": _own_name(name), "runs": runs}
    # People are asked by an interrupt of the graph.
    chosen["approval"] = False
    made = tool(function, **chosen)
    # Calls do not share an execution: their arguments are not all that LangChain hands to a tool.
    return tool(made, effect="read") if made.effect == "pure" else made


def _own_name(name: str) -> str:
    fitting = fitting_name(name)
    if fitting == name:
        return name
    return f"{fitting[:100]}_{blake2b(name.encode(), digest_size=4).hexdigest()}"


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
        self._messages: Sequence[Any] = _messages(given, state, hooks._messages_key)  # noqa: SLF001
        self._unreadable = self._answers_to_unreadable() if self.input_type != "tool_calls" else []
        self.records = [
            Record(id_, call, self.input_type, self._tool_runtime(call, each, state, runtime))
            for id_, call, each in zip(_ids(calls), calls, configs, strict=True)
        ]
        self._by_id = {record.id: record for record in self.records}
        self._ledger = open_ledger(config, self.records)
        if self._ledger is not None:
            for position, record in enumerate(self.records):
                if not record.settled:
                    own = self._ledger.config(record, position, record.runtime.config)
                    record.runtime.config = own
        self._references: References | None = None
        self._arun = hooks._arun_one  # noqa: SLF001

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

    def _answers_to_unreadable(self) -> list[ToolMessage]:
        """Return answers to calls whose arguments LangChain could not read: they need one, too."""
        last = next((m for m in reversed(self._messages) if isinstance(m, AIMessage)), None)
        return [
            ToolMessage(
                content=f"Error: the arguments cannot be read: {bad.get('error') or 'no JSON'}."
                " Write them again as one JSON object.",
                name=bad.get("name") or "",
                tool_call_id=bad["id"],
                status="error",
            )
            for bad in (last.invalid_tool_calls if last is not None else ())
            if bad.get("id")
        ]

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
                tools[name] = self._node.dag_tool(name, blocking=self._blocking)
        observers = settings.observers
        if settings.stream_calls and self._writer is not None:
            observers = (*observers, self._stream)
        limit = _limit(settings.concurrency, self._config.get("max_concurrency"))
        executor = Executor(
            tools.values(),
            timeouts=settings.timeouts,
            on_failure=settings.on_failure,
            barrier=settings.barrier,
            observers=observers,
            concurrency=limit,
        )
        return Plan(self._calls(left, tools)), executor

    def _calls(self, left: Sequence[Record], tools: Mapping[str, Tool[..., Any]]) -> list[Call]:
        refers = self._node.settings.references
        marked = {record.id for record in left if is_marked(record.call["args"])}
        if not marked or not refers:
            shown = bool(self._node.settings.observers)
            calls: list[Call] = []
            for record in left:
                known = tools[record.call["name"]]
                args: dict[str, Any] = {}
                if shown or known.templates or known.cost is not None:
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
            call = self._approved(call)
            answer = await run(call, record.input_type, record.runtime)
        except GraphInterrupt as interrupt:
            raise _asked(record, interrupt) from interrupt
        return record.take(answer)

    def called(self, args: dict[str, Any]) -> Any:
        """Run the current call in this thread, and return its value."""
        record, call = self._begin(args)
        try:
            call = self._approved(call)
            answer = self._hooks._run_one(call, record.input_type, record.runtime)  # noqa: SLF001
        except GraphInterrupt as interrupt:
            raise _asked(record, interrupt) from interrupt
        return record.take(answer)

    def _begin(self, args: dict[str, Any]) -> tuple[Record, ToolCall]:
        record = self._by_id[current_id()]
        CURRENT.set(record)
        if self._ledger is not None:
            # What `interrupt()` reads, also in a wrapper, before any tool is called.
            var_child_runnable_config.set(record.runtime.config)
        return record, record.begin(args or None)

    def _approved(self, call: ToolCall) -> ToolCall:
        """Return a call that a person has agreed to, perhaps with other arguments."""
        approval = self._node.settings.options.get(call["name"], {}).get("approval", False)
        if not approval or (callable(approval) and not approval(**call["args"])):
            return call
        return decided(call, interrupt({"type": "approval", **_shown(call)}))

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
        if status in ("done", "pending") or record.answer is not None:
            return
        error = outcome.error
        if status == "failed" and not isinstance(error, CallError):
            if isinstance(error, GraphBubbleUp):
                record.leaves = error
            elif isinstance(error, CallCancelled) and error.__cause__ is not None:
                record.error = error.__cause__
            else:
                record.error = error
            return
        if status == "skipped" and self._is_open(outcome.because):
            return
        if status == "cancelled" and outcome.started is None and self._is_open(outcome.because):
            return
        record.answer = error_message(outcome_text(outcome, self._named), record.call)
        record.caught = error

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
        asking = [record for record in records if record.interrupt is not None]
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


def _shown(call: ToolCall) -> dict[str, Any]:
    return {"tool_call_id": call["id"], "name": call["name"], "args": call["args"]}


def _asked(record: Record, interrupt: GraphInterrupt) -> Asked:
    record.interrupt = interrupt
    return Asked([getattr(each, "value", None) for each in interrupt.args[0]])


def _messages(given: Any, state: Any, key: str) -> Sequence[Any]:
    for source in (given, state):
        if isinstance(source, list) and source and not isinstance(source[-1], dict):
            return source
        found = source.get(key) if isinstance(source, dict) else getattr(source, key, None)
        if isinstance(found, list):
            return found
    return ()


def _ids(calls: Sequence[ToolCall]) -> list[str]:
    """Return an id for each call: its own, where it has one that no other has."""
    ids: dict[str, None] = {}
    for position, call in enumerate(calls):
        own = call["id"] or ""
        ids[own if own and own not in ids else f"{own}#{position}"] = None
    return list(ids)


def _limit(own: int | None, given: int | None) -> int:
    """Return how many calls may run at a time."""
    usable = [each for each in (own, given) if each is not None and (each > 0 or each == own)]
    return min(usable) if usable else _DEFAULT_LIMIT


_DEFAULT_LIMIT: Final = 20
