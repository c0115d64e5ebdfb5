"""What all planners share; a provider's module adds how its API spells things."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from dagexec import CallError, DagexecError, Executor, Failed, Media, Outcome, Plan, Tool
from dagexec.lowlevel import INSTRUCTIONS, MAYBE, as_tools, explained, parts_of, schemas, widened
from planners._core import text_calls
from planners._core.api import Api
from planners._core.belonging import records_of
from planners._core.call_log import CallLog, CallRecord, RawCall
from planners._core.cutting import cut
from planners._core.edge import described, hint_for, is_dict
from planners._core.media import block_of
from planners._core.render import failure_text, json_text, value_text
from planners._core.reply_stream import ReplyStream
from planners._core.stream import Assembler, CallStream, Companion, Replayed
from planners._core.widen import Dialect, NotStrict, strict

_log = logging.getLogger("planners")

# Characters of an item's value that are shown, however many items there are.
_LEAST: Final = 200
EACH: Final = """\
To run a call once for each item of a list, write {"$each": "1.orders"} for an argument, or \
{"$each": "1.orders[*].id"} for a part of each item: one call instead of many. Its result is the \
list of their results. Several $each in one call go side by side."""


class Extra(ABC):
    """What a planner offers beside its tools: one tool more, which answers in its own way."""

    tool: Tool[..., Any]
    # Whether the model has this tool only.
    alone: bool
    instructions: str

    @abstractmethod
    def told(self, value: Any, number: int, limit: int | None) -> tuple[str, bool] | None:
        """Return the text of a value and whether it is a good one; None for what is not its own."""

    @abstractmethod
    def equipped(self, executor: Executor) -> Executor:
        """Return the executor with the tool."""

    def companion(self) -> Companion | None:
        """Return what goes along with a reply that is streamed; None for nothing."""
        return None

    @abstractmethod
    def of(self, calls: CallLog) -> Extra:
        """Return one for another conversation."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back for one call: the provider's call, the text, and whether the call is done."""

    raw: RawCall
    text: str
    done: bool
    # Blocks of the API that follow the text.
    blocks: tuple[dict[str, Any], ...] = ()
    value: Any = None


@explained
class Planner(ABC):
    """Turns a model's replies into plans and reports into what goes back to the model.

    One planner holds one conversation: it numbers the calls of all its turns and keeps their
    values, so that later calls can refer to them. `fresh()` gives one for another conversation.

    Args:
        tools: tools, or functions that become tools.
        references: whether the model may refer to other calls' results in arguments. Switch it
            off for servers that take a property named `$ref` for a JSON pointer (Moonshot's
            does) and answer 400.
        limit: characters of a result that the model sees, beginning and end of a longer one; None
            for all. The whole value can still be passed on by reference. A tool's own `limit` takes
            its place.
        strict: whether the provider has to keep to the schema. Tools whose schema cannot be
            strict, because an argument takes any value or any keys, are sent without it.
        show_errors: whether the model sees type and message of the exceptions that tools raise.
        placeholders: whether a call is refused that has a placeholder such as "<result of call 1>"
            for an argument, with an answer that shows how to refer to a result. Never without
            `references`.
        text_calls: whether a reply that is nothing but calls written as text, because its server
            parses none, has these calls. Their answers are a message of the user's.
        callers: who may call the tools, in the API's own words, where its sandbox runs code that
            calls them: `("direct", "programmatic")` for Responses, `("code_execution_20260120",)`
            for Messages. They go into each definition as `allowed_callers`. OpenAI's also say then
            what the tools return, as `output_schema`, where their functions are annotated.

    A tool's value goes back as text, also where the API knows images and files.
    """

    dialect: ClassVar[Dialect]
    api: ClassVar[Api]

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]],
        *,
        references: bool = True,
        limit: int | None = 20_000,
        strict: bool = False,
        show_errors: bool = True,
        placeholders: bool = True,
        text_calls: bool = False,
        callers: Iterable[str] = (),
    ) -> None:
        """Make the definitions; raise ToolDefinitionError for what cannot be a tool."""
        if limit is not None and limit < 1:
            msg = f"limit is a number of characters, at least 1, or None; not {limit}"
            raise DagexecError(msg)
        self._by_name: Mapping[str, Tool[..., Any]] = as_tools(tools)
        self._references = references
        self._limit = limit
        self._strict = strict
        self._show_errors = show_errors
        self._placeholders = placeholders
        self._text_calls = text_calls
        self._callers = [callers] if isinstance(callers, str) else list(callers)
        self._definitions = [self._defined(tool) for tool in self._by_name.values()]
        self._extra: Extra | None = None
        self._log = self._new_log()

    def adding(self, extra: Extra) -> Self:
        """Return a planner for a new conversation that offers one tool more."""
        other = copy.copy(self)
        other._add(extra)  # noqa: SLF001
        return other

    def _add(self, extra: Extra) -> None:
        tool = extra.tool
        if tool.name in self._by_name:
            raise DagexecError(f"there is a tool {tool.name!r} already: rename it by tool(name=)")
        self._by_name = {**({} if extra.alone else self._by_name), tool.name: tool}
        own = self._definition(tool, dict(schemas.normalised(tool.parameters)), strict=False)
        self._definitions = [*([] if extra.alone else self._definitions), own]
        self._log = self._new_log()
        self._extra = extra.of(self._log)

    def equipped(self, executor: Executor) -> Executor:
        """Return an executor that can run all that this planner offers; most often the same."""
        return executor if self._extra is None else self._extra.equipped(executor)

    @property
    def tools(self) -> list[Any]:
        """The provider's tool definitions, as dicts ready for its SDK; a copy each time."""
        return copy.deepcopy(self._definitions)

    @property
    def by_name(self) -> Mapping[str, Tool[..., Any]]:
        """The tools by name."""
        return dict(self._by_name)

    @property
    def references(self) -> bool:
        """Whether arguments may refer to other calls' results."""
        return self._references

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tools."""
        return tuple(self._by_name)

    @property
    def instructions(self) -> str:
        """Text for the system prompt that tells the model how to refer to results, or ''."""
        lost = (self._log.next_number,) if self._log.lost_count else ()
        if self._extra is not None:
            own = () if self._extra.alone or not self._references else (INSTRUCTIONS, EACH)
            return "\n\n".join((*own, self._extra.instructions, *lost))
        if not self._references:
            return ""
        return "\n\n".join((INSTRUCTIONS, EACH, *lost))

    @property
    def calls(self) -> CallLog:
        """The calls of the conversation so far, for what leads it (`Dialogue`)."""
        return self._log

    def fresh(self) -> Self:
        """Return a planner with the same tools and options for another conversation."""
        other = copy.copy(self)
        other._log = self._new_log()  # noqa: SLF001
        if self._extra is not None:
            other._extra = self._extra.of(other._log)  # noqa: SLF001
        return other

    def plan(self, response: Any) -> Plan:
        """Return the calls of a reply as a plan; empty if the reply has none.

        `response` is the SDK's object or its dict. A call that cannot run as the model wrote it
        stays in the plan with its `problem`, and fails with it; the others run.

        Errors: DagexecError where `response` is not a reply of this API.
        """
        raws = self._calls_of(response)
        return Plan(self._log.turn(raws, shortened=self.api.is_shortened(response)))

    def stream(
        self,
        sdk_stream: AsyncIterable[Any] | Iterable[Any],
        *,
        on_event: Callable[[Any], object] | None = None,
    ) -> CallStream:
        """Return the calls of a reply that is being written, each as soon as it is complete.

        `sdk_stream` is what the SDK's `create(..., stream=True)` returns, or its `stream(...)`
        entered, or any iterable of its events as dicts. The result is an async iterator of `Call`
        for `executor.run`; afterwards its `response` is the whole reply, and `results` and
        `close_out` work as after `plan`. `on_event` sees each event before it is read.

        Errors: DagexecError where it is no stream of this API.
        """
        if is_dict(sdk_stream) or hasattr(sdk_stream, "model_dump"):
            raise DagexecError("stream() takes a stream; give a whole reply to plan()")
        return CallStream(
            sdk_stream,
            self._assembler(),
            self._log,
            read=self._calls_of,
            refused=self._refused,
            is_shortened=self.api.is_shortened,
            on_event=on_event,
            companion=None if self._extra is None else self._extra.companion(),
        )

    def replayed(self, response: Any, heard: Iterable[Any], *, whole: bool) -> ReplyStream:
        """Return the stream of a reply that was read before, with the very calls of then.

        `heard` and `whole` are what the earlier stream says of itself, and `response` its reply.
        """
        stream = CallStream(
            (),
            Replayed(response, shortened=self.api.is_shortened(response)),
            self._log,
            read=self._calls_of,
            refused=self._refused,
            is_shortened=self.api.is_shortened,
        )
        stream.replay(heard, whole=whole)
        return stream

    def reply(self, response: Any) -> list[Any]:
        """Return what a reply adds to the conversation, as dicts, before the `results`.

        `response` is what `plan` takes, or the `response` of a stream.
        """
        return self.api.reply(response)

    def results(self, report: Mapping[str, Outcome]) -> list[Any]:
        """Return what goes back to the model, as dicts to append to the conversation.

        Every call of the turn is answered once, also those that the report says nothing of. A
        report of the same turn can be rendered again, after `resume` for instance. Empty if the
        turn had no calls.

        Raises DagexecError for the report of an older turn or of other calls, and for what is none.
        """
        return self._answered(records_of(self._log, report), report)

    def answers_of(self, report: Mapping[str, Outcome]) -> list[Any]:
        """Return the answers of the turn that a report belongs to, an older one perhaps, once more.

        For who replaces them where they stand, as `Dialogue.update` does; raises like `results`.
        """
        return self._answered(records_of(self._log, report, older=True), report)

    def _answered(self, records: list[CallRecord], report: Mapping[str, Outcome]) -> list[Any]:
        for record in records:
            record.outcome = report.get(record.id, record.outcome)
            record.items = _items(report, record.id) or record.items
        self._log.judge(records)
        for record in records:
            if record.verdict is not None and record.outcome is not None:
                record.outcome = Failed(CallError(record.verdict))
            record.answered = True
        if records and self._references:
            self._log.lost_count = False  # the answers say their numbers
        return self._rendered(records)

    def close_out(self) -> list[Any]:
        """Return answers for the calls of the last plan that have none, or an empty list.

        For the way out after an exception or a cancellation: a conversation cannot go on while a
        call of it is unanswered.
        """
        records = [record for record in self._log.last() if not record.answered]
        for record in records:
            record.answered = True
        return self._rendered(records)

    def looks_like_calls(self, response: Any) -> bool:
        """Whether a reply without calls is nothing but text that looks like some."""
        return bool(self._definitions) and bool(self._in_text(response))

    def _in_text(self, response: Any) -> list[RawCall]:
        """Return the calls that the text of a reply consists of."""
        if self.api.ending(response) not in ("answered", "calls"):
            return []
        found = text_calls.read(self.api.text(response), self._by_name)
        return [RawCall("", name, args, "text") for name, args in found]

    def _calls_of(self, response: Any) -> list[RawCall]:
        raws = self._read(response)
        return raws or (self._in_text(response) if self._text_calls else [])

    def _new_log(self) -> CallLog:
        return CallLog(self._by_name, references=self._references, placeholders=self._placeholders)

    @classmethod
    @abstractmethod
    def recognises(cls, payload: Any) -> bool:
        """Whether an object or a dict looks like a reply of this API."""

    @classmethod
    @abstractmethod
    def response(cls, payload: dict[str, Any]) -> Any:
        """Return the SDK's object for a reply in JSON form; imports the SDK."""

    @abstractmethod
    def _read(self, response: Any) -> list[RawCall]:
        """Return the calls of a reply, as the provider sent them."""

    def _assembler(self) -> Assembler:
        """Return what puts a reply of this API together from its events."""
        raise DagexecError(f"{type(self).__name__} cannot read a stream")

    @abstractmethod
    def _definition(
        self, tool: Tool[..., Any], schema: dict[str, Any], *, strict: bool
    ) -> dict[str, Any]:
        """Return the provider's definition of a tool."""

    @abstractmethod
    def _answers(self, answers: Sequence[Answer]) -> list[Any]:
        """Return the provider's form of answers; there is at least one."""

    def _defined(self, tool: Tool[..., Any]) -> dict[str, Any]:
        schema: Mapping[str, Any] = tool.parameters
        kept = self._strict
        if kept:
            try:
                schema = strict(schema, self.dialect)
            except NotStrict as reason:
                kept = False
                _log.info("tool %r is sent without strict: it has %s", tool.name, reason)
        if self._references:
            schema = widened(schema, exact=kept)
        elif not kept:
            schema = schemas.normalised(schema)
        definition = self._definition(tool, dict(schema), strict=kept)
        return {**definition, **self._for_code(tool)} if self._callers else definition

    def _for_code(self, tool: Tool[..., Any]) -> dict[str, Any]:
        """Return what a definition says to code that may call its tool."""
        del tool
        return {"allowed_callers": list(self._callers)}

    def _rendered(self, records: Sequence[CallRecord]) -> list[Any]:
        answers: dict[int, Answer] = {}
        for record in records:
            first = record.repeats
            if first is None or first.number not in answers:
                answers[record.number] = self._answer(record)
                continue
            # The API takes one answer for an id, so this one has to speak for both calls.
            answer = answers[first.number]
            text = f"{answer.text}\n\n{self._answer(record).text}"
            answers[first.number] = Answer(answer.raw, text, answer.done, answer.blocks)
        found = list(answers.values())
        if found and found[0].raw.kind == "text":
            return self.api.question("\n\n".join(answer.text for answer in found))
        return self._answers(found) if found else []

    def _answer(self, record: CallRecord) -> Answer:
        outcome = record.outcome
        if record.raw.from_code:
            return self._answer_to_code(record)
        number = record.number if self._references else None
        if outcome is None:
            return Answer(
                record.raw, self._headed(number, "not run", self._unanswered(record)), done=False
            )
        if outcome.status == "done":
            limit = self._limit_of(record)
            own = self._told_by_extra(record, limit)
            if own is not None:
                return own
            parts = parts_of(outcome.value)
            if parts is None:
                text = value_text(outcome.value, outcome.form)
                blocks: tuple[dict[str, Any], ...] = ()
            else:
                text, blocks = self._in_parts(parts)
            text = self._headed(number, "", cut(text, limit, number))
            return Answer(record.raw, text, done=True, blocks=blocks)
        if outcome.status in ("cancelled", "pending") and record.problem is not None:
            # A call of a streamed reply, which was cut off after it: it says more than "stopped".
            return Answer(record.raw, self._headed(number, "not run", record.problem), done=False)
        text = failure_text(outcome, named=self._named, show=self._show_errors, limit=self._limit)
        if record.items:
            text = self._of_items(record, text)
        state = outcome.status.replace("_", " ")
        return Answer(record.raw, self._headed(number, state, text), done=False)

    def _told_by_extra(self, record: CallRecord, limit: int | None) -> Answer | None:
        extra, outcome = self._extra, record.outcome
        if extra is None or outcome is None or record.raw.name != extra.tool.name:
            return None
        told = extra.told(outcome.value, record.number, limit)
        if told is None:
            return None
        text, good = told
        headed = self._headed(record.number, "" if good else "failed", text)
        return Answer(record.raw, headed, done=good)

    def _answer_to_code(self, record: CallRecord) -> Answer:
        """Return an answer for a program: JSON, all of it, without number or prose around it."""
        outcome = record.outcome
        if outcome is not None and outcome.status == "done":
            return Answer(record.raw, json_text(outcome.value), done=True)
        if outcome is None or (outcome.status != "failed" and record.problem is not None):
            text = self._unanswered(record)
        else:
            text = failure_text(outcome, named=self._named, show=self._show_errors, limit=None)
        return Answer(record.raw, json_text({"error": text}), done=False)

    def _in_parts(self, parts: Sequence[Any]) -> tuple[str, tuple[dict[str, Any], ...]]:
        """Return the text of a value with media in it, and the blocks that show those."""
        texts: list[str] = []
        blocks: list[dict[str, Any]] = []
        for part in parts:
            block = block_of(part, self.api.name) if isinstance(part, Media) else None
            if isinstance(block, dict):
                blocks.append(block)
                texts.append(str(part))
            else:
                texts.append(value_text(part) if block is None else block)
        return "\n".join(texts), tuple(blocks)

    def _limit_of(self, record: CallRecord) -> int | None:
        """Return how many characters of a result are shown: the tool's own, else the planner's."""
        tool = self._by_name.get(record.raw.name)
        return self._limit if tool is None or tool.limit is None else tool.limit

    def _of_items(self, record: CallRecord, text: str) -> str:
        """Return what became of each item of a call, with values or errors."""
        limit = self._limit_of(record)
        share = None if limit is None else max(_LEAST, limit // len(record.items))
        lost = sum(item.status != "done" for item in record.items)
        if record.outcome is not None and record.outcome.status == "failed":
            text = f"{lost} of {len(record.items)} items failed."
        lines = [text]
        for index, item in enumerate(record.items):
            state = item.status.replace("_", " ")
            if item.status == "done":
                told = cut(value_text(item.value, item.form), share, None)
            else:
                told = failure_text(item, named=self._named, show=self._show_errors, limit=share)
            lines.append(f"[{index}{'' if state == 'done' else f': {state}'}] {told}")
        return cut("\n".join(lines), limit, None)

    @staticmethod
    def _headed(number: int | None, state: str, text: str) -> str:
        if number is None:
            return text
        return f"[call {number}: {state}]\n{text}" if state else f"[call {number}]\n{text}"

    def _unanswered(self, record: CallRecord) -> str:
        if record.problem is not None:
            return record.problem
        tool = self._by_name.get(record.raw.name)
        if tool is None or tool.effect in ("pure", "read"):
            return "This call was not run. Write it again if you still need it."
        return f"This call was not run, or was broken off. {MAYBE}"

    def _named(self, id_: str) -> str:
        head, _, index = id_.removesuffix("]").rpartition("[")
        if head:
            return f"item {index} of {self._named(head)}"
        for record in self._log.records:
            if record.id == id_:
                name = record.raw.name
                return f"call {id_} ({name})" if self._references else f"the call of {name!r}"
        return f"call {id_}" if id_ else "another call"

    @classmethod
    def _refused(cls, response: object) -> DagexecError:
        return DagexecError(
            f"{cls.__name__} cannot read {described(response)}: it takes the response of its"
            f" API, as the SDK's object or as a dict{hint_for(response)}"
        )


def _items(report: Mapping[str, Outcome], id_: str) -> tuple[Outcome, ...]:
    """Return the outcomes of the calls for the items of a call."""
    found: list[Outcome] = []
    while (item := report.get(f"{id_}[{len(found)}]")) is not None:
        found.append(item)
    return tuple(found)
