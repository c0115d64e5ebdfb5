r"""LLMCompiler for any chat model: the plan is text, and no native tool calling is needed.

The model writes a plan and the calls run as a graph: with `stream=True` each starts as soon as its
line is complete and its inputs exist. The model sees the results and decides: it finishes with an
answer, or writes another plan, which may refer to all earlier results. The idea and the form are
those of [An LLM Compiler for Parallel Function Calling](https://arxiv.org/abs/2312.04511).

```python
import asyncio

from dagexec import Executor, tool
from dagexec.testing import ScriptedModel
from planners import solve
from planners.llmcompiler import LLMCompilerPlanner


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


@tool(effect="pure")
def write(text: str) -> str:
    return text.upper()


async def main():
    model = ScriptedModel(
        [
            "Thought: two prices at once.\n"
            '1. price("Dune")\n'
            '2. price("Emma")\n'
            '3. write("Dune $1, Emma ${2}, or $$20 together")\n'
            "4. join()<END_OF_PLAN>",
            '{"thought": "that is it", "action": "finish", "answer": "Dune costs more."}',
        ]
    )
    answer = await solve(
        "Which costs more, Dune or Emma?",
        planner=LLMCompilerPlanner([price, write]),
        client=model.openai(),  # or an AsyncAnthropic
        model="any-chat-model",
        executor=Executor([price, write]),
        stream=True,
    )
    print(answer, answer.reports[0]["3"].value, sep="\n")


asyncio.run(main())
```

```text
Dune costs more.
DUNE 9.5, EMMA 7.25, OR $20 TOGETHER
```

| in a plan | |
|---|---|
| `1. search("x", limit=3)` | a number, a tool, arguments by place or name: Python or JSON literals |
| `$1` | the value of call 1, with its type where it is the whole argument; inside a text, as text |
| `${1.items[0].name}` | a part of it; a bare `$1` has no path, so `$1.50` is money |
| `$7` without an earlier call 7 | text. Exception: if an earlier line looked like a call but could not be parsed, the reference is refused, because that line may have been call 7 |
| `$$1`, `$${1}` | the text `$1`, `${1}`; `$$` before anything else is itself |
| `4. join()<END_OF_PLAN>` | the end |

A line that cannot be read costs its own call, with an answer for the model; the rest runs. What a
reasoning model writes between `<think>` and `</think>` is neither call nor answer. Some servers
drop the opening tag; everything before `</think>` is then treated as reasoning, and calls already
streamed from it are stopped. `plan` and `stream` also take plain text and pieces of it,
`planner.format(plan)` writes what they read, `planner.decision` is the last reply's decision, and
`dagexec run plan.txt` runs a plan from a file.

`python -m tests.benchmarks --only patterns` runs the four patterns of the paper with a scripted
model and tools that have the latencies of its tables, in virtual time; seconds per question:

| pattern | ReAct | parallel calls, level by level | dagexec | streaming | over ReAct | paper |
|---|---|---|---|---|---|---|
| parallel (HotpotQA) | 7.12 | 4.29 | 4.00 | 3.80 | 1.87x | 1.80x |
| parallel, then aggregate (Movie) | 20.47 | 6.77 | 5.64 | 4.96 | 4.13x | 3.74x |
| dependent chains (ParallelQA) | 35.90 | 20.95 | 21.72 | 16.39 | 2.19x | 2.15x |
| replanning (Game of 24) | 241.20 | 90.98 | 86.48 | 78.88 | 3.06x | 2.89x |

The time before a request's first token is solved for from two totals of the paper; the columns of
parallel calls and of streaming are predictions (the paper measured 4.42, 7.42 and 19.29 s, and
3.95, 5.47, 16.69 and 83.6 s).

It stands on `planners._core`. The way of a text: `_reply` holds one reply, `_grammar` finds its
calls line by line (`_line_heads` their beginnings, `_literals` their arguments),
`_dollar_references` reads `$1`, `_decisions` what the model decided. `_prompt` tells the model the
form.
"""  # noqa: E501 - rows of tables

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from dagexec import BadReference, Call, DagexecError, Outcome, Plan, Tool
from dagexec.lowlevel import explained, order_conflicts, without_faults
from planners._core.api import Api
from planners._core.call_log import CallLog, CallRecord, RawCall
from planners._core.cutting import IN_TEXT, cut
from planners._core.planner import Answer, Planner
from planners._core.render import failure_text, value_text
from planners._core.widen import OPENAI, Dialect
from planners.llmcompiler import _prompt as prompt
from planners.llmcompiler._api import CompilerApi
from planners.llmcompiler._decisions import Decision
from planners.llmcompiler._dollar_references import referenced, refuse, unreadable, written
from planners.llmcompiler._grammar import JOIN
from planners.llmcompiler._items import Numbered
from planners.llmcompiler._line_heads import looks_like_plan
from planners.llmcompiler._reply import SPOILT, Numbers, Reply, TextStream
from planners.llmcompiler._reply_text import whole as text_of
from planners.llmcompiler._thoughts import spoken

__all__ = ["Decision", "LLMCompilerPlanner"]

_LEFT_OUT: Final = (
    "Not run: ... is a placeholder, not a value; write all values out, or the text in quotes"
)
_JSON_REFERENCE: Final = re.compile(r'\{"\$ref": "([1-9][0-9]*)((?:[.\[][^"]*)?)"\}')


@explained
class LLMCompilerPlanner(Planner):
    """The planner, joiner and replanner of LLMCompiler, for any chat model.

    `instructions` is the system prompt: it holds the tools, so `tools` is empty, and a request is
    made without any. `plan` and `stream` take a reply's text, pieces of it, or the response or
    stream of an API. `results` is one message from the user, which asks for the decision;
    `decision` is what the last reply decided, if it did.

    A line that cannot be read costs its own call, which fails with an answer for the model. The
    ids of calls are the model's numbers; they go on from plan to plan.

    Args:
        tools: tools, or functions that become tools; none may be called `join`.
        references: whether `$1` and the like are references; without, they are text.
        limit: characters of a result that the model sees; None for all. The whole value can still
            be referred to.
        show_errors: whether the model sees type and message of the exceptions that tools raise.
        placeholders: whether a call is refused that has a placeholder such as "<result of call 1>"
            for an argument; never without `references`.
        examples: examples of questions and plans, in the form that the prompt describes.

    Raises ToolDefinitionError and DagexecError for what cannot be.
    """

    dialect: ClassVar[Dialect] = OPENAI
    api: ClassVar[Api] = CompilerApi()

    decision_schema: ClassVar[Mapping[str, Any]] = prompt.DECISION
    """The JSON Schema of a decision, for an API that can be held to one."""

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]],
        *,
        references: bool = True,
        limit: int | None = 20_000,
        show_errors: bool = True,
        placeholders: bool = True,
        examples: str | Iterable[str] = (),
    ) -> None:
        """Make the prompt."""
        super().__init__(
            tools,
            references=references,
            limit=limit,
            show_errors=show_errors,
            placeholders=placeholders,
        )
        taken = next((name for name in self._by_name if name.lower() == JOIN), None)
        if taken is not None:
            msg = f"a tool cannot be called {taken!r}: join() ends a plan; rename it by tool(name=)"
            raise DagexecError(msg)
        self._examples = (examples,) if isinstance(examples, str) else tuple(examples)
        self._reply = Reply(self._call)

    @property
    def tools(self) -> list[Any]:
        """Nothing: the prompt holds the tools. Leave them out of the request."""
        return []

    @property
    def instructions(self) -> str:
        """Text for the system prompt: the tools, the form of a plan, examples."""
        return prompt.instructions(
            self._by_name.values(), self._examples, references=self._references
        )

    @property
    def decision(self) -> Decision | None:
        """What the last reply decided; None where it is a plan, or was not read to its end.

        A reply in prose, without any call, is an answer.
        """
        reply = self._reply
        if reply.decided is not None:
            return reply.decided
        if reply.calls or reply.joined or not reply.closed:
            return None
        said = spoken(reply.text)
        if reply.text.strip() and not said:  # nothing but thoughts
            return None
        return Decision("finish", _without_heading(said))

    def fresh(self) -> Self:
        """Return a planner with the same tools and options for another conversation."""
        other = super().fresh()
        other._reply = Reply(other._call)  # noqa: SLF001
        return other

    def plan(self, response: Any) -> Plan:
        """Return the calls of a reply as a plan; empty if the reply has none.

        `response` is text, pieces of it, or a response of an API. A call that cannot be read or
        run stays in the plan with its `problem`, and fails with it; the others run.

        Errors: DagexecError where `response` is none of these.
        """
        found = text_of(response)
        last = self._log.last()
        given = self._reply
        again = given.text == found.text and given.closed and not given.urged
        if not again or any(each.answered for each in last) or len(last) != len(given.calls):
            reply = self._begin()
            reply.forget = self._numbers.forget
            reply.feed(found.text)
            reply.close()
        self._reply.cut = found.cut
        calls = without_faults(self._reply.calls)
        for record, call in zip(self._log.last(), calls, strict=True):
            record.problem = call.problem
        return Plan(order_conflicts(calls, self._by_name))

    def stream(  # type: ignore[override]  # one with the same face as the others'
        self,
        sdk_stream: str | AsyncIterable[Any] | Iterable[Any],
        *,
        on_event: Callable[[Any], object] | None = None,
    ) -> TextStream:
        """Return an iterator over the calls of a reply, each as soon as its line is complete.

        `sdk_stream` gives pieces of text, or an API's events. It goes into `executor.run`.

        Errors, while it is read: what `sdk_stream` raises; DagexecError where the stream says that
        it failed, ends before the reply does, or holds something else.
        """
        return TextStream(self._begin, sdk_stream, on_event)

    def replayed(self, response: Any, heard: Iterable[Any], *, whole: bool) -> TextStream:
        """Return the stream of a reply that was read before, with the very calls of then."""
        del heard  # the text says it all, in whatever pieces it comes
        stream = TextStream(self._begin, (), None)
        found = text_of(response)
        stream.replay([found.text], whole=whole)
        self._reply.cut, stream.response = found.cut, response
        return stream

    def format(self, plan: Iterable[Call]) -> str:
        """Return a plan as text; reading it gives the same calls.

        Raises DagexecError for what the text cannot say: ids that are no numbers, `after`,
        problems, and values that are not JSON.
        """
        return written(plan)

    @classmethod
    def recognises(cls, payload: Any) -> bool:
        """Whether this is the text of a plan; responses belong to their APIs' own planners."""
        return isinstance(payload, str) and looks_like_plan(payload)

    @classmethod
    def response(cls, payload: Any) -> Any:
        """Return the text itself: there is no SDK behind it."""
        return payload

    # ------------------------------------------------------------------------------------- reading

    def _begin(self) -> Reply:
        self._numbers.begin()
        self._reply = Reply(self._call, self._by_name)
        return self._reply

    @property
    def _numbers(self) -> Numbers:
        assert isinstance(self._log, Numbers)  # noqa: S101 - made by _new_log
        return self._log

    def _new_log(self) -> CallLog:
        return Numbers(self._by_name, references=self._references, placeholders=self._placeholders)

    def _call(self, item: Numbered) -> Call:
        """Return a call as a plan takes it; other calls may follow."""
        numbers = self._numbers
        if not item.number:
            label = item.label if item.number is None else "0"
            self._reply.lose(label, numbers.following)
        record = numbers.write(item.number, self._raw(item))
        call = numbers.call(record, complete=False)
        if call.problem is not None:
            # Messages about references are in JSON's form, which the model has not been shown.
            text = _JSON_REFERENCE.sub(r"${\1\2}", call.problem)
            call = Call(call.id, call.tool, problem=text)
        record.problem = call.problem
        return call

    def _raw(self, item: Numbered) -> RawCall:
        """Return a call with its arguments by name and its references as such."""
        if item.problem is not None:
            where = "This call" if item.number is None else f"Call {item.number}"
            problem = f"{where} ({item.name}) cannot be read: {item.problem}."
            return RawCall("", item.name, None, problem=f"{problem} Write it again.")
        if item.number == 0:
            return RawCall("", item.name, None, problem="Not run: numbers begin at 1.")
        named = self._placed(item)
        if isinstance(named, str):
            return RawCall("", item.name, None, problem=named)
        if not self._references:
            return RawCall("", item.name, named)
        try:
            found = self._referenced(named, item)
        except BadReference as error:
            return RawCall("", item.name, None, problem=f"{error}.")
        return RawCall("", item.name, found)

    def _referenced(self, named: dict[str, Any], item: Numbered) -> dict[str, Any]:
        """Return the arguments of a call with the references in them.

        Raises BadReference for one that leads to a line that is no call, or that could lead to one
        because a line with a tool's name was not read as a call: as text it would go to the tool in
        the place of a result. So would three dots.
        """
        if item.left_out and self._placeholders:
            raise BadReference(_LEFT_OUT)
        own = item.number or 0
        known, lost, mentioned = self._numbers.numbered, self._reply.lost, self._reply.mentioned

        def exists(number: int) -> bool:
            if number < own and number not in known and (mentioned or str(number) in lost):
                raise unreadable(str(number))
            return number < own and number in known

        refuse(named, lost)
        return {name: referenced(value, exists) for name, value in named.items()}

    def _placed(self, item: Numbered) -> dict[str, Any] | str:
        """Return all arguments by name, or a text about those that cannot be named."""
        tool = self._by_name.get(item.name)
        if tool is None or not item.positional:
            return item.named
        names = list(tool.parameters.get("properties") or ())
        if not names and tool.parameters.get("additionalProperties") is True:
            names = [f"arg{at}" for at, _ in enumerate(item.positional, 1)]
        if len(item.positional) > len(names):
            takes = f"{tool.name}({prompt.signature(tool.parameters)})"
            return f"{len(item.positional)} arguments without a name are too many for {takes}."
        given = dict(zip(names, item.positional, strict=False))
        twice = next((name for name in given if name in item.named), None)
        if twice is not None:
            return f"The argument {twice!r} is given twice, once by its place and once by its name."
        return {**given, **item.named}

    def _read(self, response: Any) -> list[RawCall]:
        del response
        return [record.raw for record in self._log.last()]

    # ----------------------------------------------------------------------------------- answering

    def results(self, report: Mapping[str, Outcome]) -> list[Any]:
        """Return the results of a plan and the request to decide, as one message from the user.

        Where the reply announced a new plan and did not write it, the message asks for it. Empty
        where the reply was an answer.
        """
        return super().results(report) or self._urged()

    def close_out(self) -> list[Any]:
        """Return answers for the calls of the last plan that have none, or what `results` would."""
        return super().close_out() or self._urged()

    def _urged(self) -> list[Any]:
        """Return what moves the model on after a reply without calls that is no answer; once."""
        reply = self._reply
        if self._log.last() or reply.urged:
            return []
        reply.urged = True
        if reply.decided is not None and reply.decided.action == "replan":
            return [_message(prompt.replan(self._numbers.following))]
        if reply.decided is None and reply.joined:
            return [self._asked(["The plan has no calls."])]
        if reply.closed and reply.text.strip() and not spoken(reply.text):
            return [self._asked(["Your reply holds thoughts and nothing else."])]
        return []

    def _rendered(self, records: Sequence[CallRecord]) -> list[Any]:
        if not records:
            return []
        return [self._asked([self._text_of(record) for record in records])]

    def _asked(self, texts: list[str]) -> dict[str, Any]:
        """Return texts, what else there is to say of the reply, and the request to decide."""
        late = ", ".join(self._reply.late)
        if late:
            texts = [*texts, f"Not run, because they stand behind join(): {late}."]
        if self._reply.spoilt:
            texts = [*texts, SPOILT]
        if self._reply.cut:
            texts = [*texts, "Your reply was cut off; what you meant to write behind is missing."]
        results = any(record.answered for record in self._log.records)
        question = prompt.decide(
            self._numbers.following, results=results, references=self._references
        )
        return _message("\n\n".join([*texts, question]))

    def _text_of(self, record: CallRecord) -> str:
        outcome = record.outcome
        head = f"call {record.id}: {record.raw.name}" if record.number else record.raw.name
        if outcome is None:
            return f"[{head}, not run]\n{self._unanswered(record)}"
        if outcome.status == "done":
            number = record.number if self._references and record.number else None
            text = value_text(outcome.value, outcome.form)
            return f"[{head}]\n{cut(text, self._limit_of(record), number, IN_TEXT)}"
        text = failure_text(outcome, named=self._named, show=self._show_errors, limit=None)
        if record.items:
            text = self._of_items(record, text)
        return f"[{head}, {outcome.status.replace('_', ' ')}]\n{cut(text, self._limit, None)}"

    def _definition(
        self, tool: Tool[..., Any], schema: dict[str, Any], *, strict: bool
    ) -> dict[str, Any]:
        del schema, strict
        return {"name": tool.name}

    def _answers(self, answers: Sequence[Answer]) -> list[Any]:
        return [_message("\n\n".join(answer.text for answer in answers))]


def _message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _without_heading(text: str) -> str:
    """Return an answer in prose without the word "Answer:" before it."""
    return re.sub(r"\A\**(?:Final )?Answer\**:\**\s*", "", text.strip(), flags=re.IGNORECASE)
