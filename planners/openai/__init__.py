r"""Planners for OpenAI's two APIs, and for the many servers that speak Chat Completions.

The SDK gives tool calls as text that may not be JSON, for tools that may not exist; every id
needs its answer. **Chat Completions**, with a call that uses another one's result:

```python
import asyncio

from dagexec import Executor, tool
from dagexec.testing import ScriptedModel
from planners.openai import ChatPlanner


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


@tool(effect="pure")
def write(text: str) -> str:
    return text.upper()


async def main():
    calls = [("price", {"title": "Emma"}), ("write", {"text": {"$template": "Emma: ${1}"}})]
    client = ScriptedModel([calls, "Done."]).openai()  # AsyncOpenAI()
    planner, executor = ChatPlanner([price, write]), Executor([price, write])
    messages = [
        {"role": "system", "content": planner.instructions},
        {"role": "user", "content": "What does Emma cost?"},
    ]
    while True:
        reply = await client.chat.completions.create(
            model="gpt-5.5", messages=messages, tools=planner.tools
        )
        messages.append(reply.choices[0].message)
        plan = planner.plan(reply)
        if not plan:
            break
        messages += planner.results(await executor.run(plan))
    print(messages[-2], messages[-1].content, sep="\n")


asyncio.run(main())
```

```text
{'role': 'tool', 'tool_call_id': 'call_2', 'content': '[call 2]\nEMMA: 7.25'}
Done.
```

**Responses**:

```python
import asyncio

from dagexec import Executor, tool
from dagexec.testing import ScriptedModel
from planners.openai import ResponsesPlanner


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


async def main():
    client = ScriptedModel([[("price", {"title": "Emma"})], "Done."]).openai()  # AsyncOpenAI()
    planner = ResponsesPlanner([price])
    items = [{"role": "user", "content": "What does Emma cost?"}]
    reply = await client.responses.create(
        model="gpt-5.5", instructions=planner.instructions, input=items, tools=planner.tools
    )
    items += reply.output
    items += planner.results(await Executor([price]).run(planner.plan(reply)))
    print(items[-1])


asyncio.run(main())
```

```text
{'type': 'function_call_output', 'call_id': 'call_1', 'output': '[call 1]\n7.25'}
```

`planners.solve` is this loop with deadlines, streaming, a journal and conversations that go on.

# Servers that speak these protocols

Nothing here needs to be switched on: each reply is read as it comes, whatever the server.

| server | what is odd | what dagexec does |
|---|---|---|
| Gemini's endpoint | calls without index or with an empty id | assigns by id, index and order; gives a call without an id one |
| | `extra_content` with a `thought_signature` that must come back, also in a delta of its own | keeps unknown fields of a call and sends them back |
| | ends with MALFORMED_FUNCTION_CALL and no call | asks once more, then raises with what came |
| Mistral | the id `"null"` in continuations | takes it for no id |
| | content now a text, now a list of parts | makes both a list, keeps the text |
| DeepSeek | `reasoning_content` beside the text | keeps it and sends it back |
| Qwen | the whole call in one delta; `""` for no arguments | reads `""`, `null` and `{}` as no arguments, sends back `{}` |
| | `<tool_call>` as text where the server parses none | `status` is "text_calls"; `text_calls=True` runs them |
| Ollama | `finish_reason` `""` on every chunk | takes it for no end |
| | arguments as an object; refuses empty ones | sends the text of a JSON object |
| vLLM | the whole arguments once more at the end | reads the object once |
| | refuses arguments that are no JSON | sends back what the call was read as, else `{"INVALID_JSON": "…"}` |
| SGLang | ends with `""` or "abort" | only known good ends are good: no write starts, the answer says why |
| | "stop" beside calls | the calls count, not the word |
| llama.cpp | arguments as an object | sends text |
| | Responses without `output_index`, items without `id` | knows an item by place, id and `call_id` |
| LiteLLM | `{}` before the real arguments | waits behind `{}` for what follows |
| | all calls with index 0 | tells them apart by id and name |
| | Messages: two blocks at one index | assigns what can belong to one only; what may be another's is not run |
| OpenRouter | `reasoning_details` in fragments, signed | merges them by index and sends them back |
| | error bodies with status 200 | asks once more, then raises with the server's message |
| Azure, Copilot | chunks without choices; text in one choice, calls in another | passes over them; takes the calls from where they are |
| proxies | an empty `function_call` beside everything | leaves it out |
| | names with remains of a template; a character cut in two | cleans the name; joins the halves |

`Solution.reason` is the server's own word for a bad end. Moonshot's endpoint takes a property named
`$ref` for a JSON pointer: make its planner with `references=False`.

Importing this package does not import `openai`; only `response()` does. It stands on
`planners._core`. This file reads whole replies and writes answers; `_chat_stream` and
`_responses_stream` put streams together, `_api` is what a loop asks of these APIs. What
servers do differently is one table, `planners._core.servers`.
"""  # noqa: E501 - rows of tables

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from dagexec import DagexecError, MissingExtra, Tool
from dagexec.lowlevel import explained
from planners._core.api import Api
from planners._core.call_log import CallRecord, RawCall
from planners._core.edge import get, is_list, items, listed, plain, said, text, worded
from planners._core.planner import Answer, Planner
from planners._core.render import failure_text, value_text
from planners._core.returned import returned
from planners._core.servers import is_good_end
from planners._core.stream import Assembler
from planners._core.widen import OPENAI, Dialect
from planners.openai._api import ChatApi, ResponsesApi, choice_of, is_legacy
from planners.openai._chat_stream import ChatAssembler
from planners.openai._client_items import (
    CLIENT_ITEMS,
    client_call,
    is_client_item,
    mcp_approval,
    waiting,
)
from planners.openai._responses_stream import ResponsesAssembler

__all__ = ["ChatPlanner", "ResponsesPlanner", "mcp_approval"]

_CUT: Final = "Not run: the reply was cut off ({why}). {what}"
_SHORTER: Final = "Write the calls again, fewer or shorter ones at a time."
_OTHERWISE: Final = "Go on without these calls, or write them differently."
_ECHOED: Final = ("caller", "namespace")


def _cut(why: str) -> str:
    return _CUT.format(why=why, what=_SHORTER if "length" in why or "max" in why else _OTHERWISE)


class ChatPlanner(Planner):
    """For Chat Completions; `plan` takes a completion, one of its choices, or a message.

    Of several choices the first is read. The deprecated `function_call` is answered with a
    message of role `function`. The API takes text only as a tool's result and has no mark for
    errors, so the text says what failed.
    """

    dialect: ClassVar[Dialect] = OPENAI
    api: ClassVar[Api] = ChatApi()

    @classmethod
    def recognises(cls, payload: Any) -> bool:
        """Whether this is a completion, a choice or an assistant's message with calls."""
        if get(payload, "object") == "chat.completion":
            return True
        if any(get(get(choice, "message"), "role") for choice in items(payload, "choices")):
            return True
        message = get(payload, "message", payload)
        calls = get(message, "tool_calls") or get(message, "function_call")
        return get(message, "role") == "assistant" and (message is not payload or bool(calls))

    @classmethod
    def response(cls, payload: dict[str, Any]) -> Any:
        """Return the SDK's `ChatCompletion`, `Choice` or `ChatCompletionMessage` for a dict."""
        try:
            from openai.types import chat
            from openai.types.chat.chat_completion import Choice
        except ImportError as error:
            raise _missing() from error
        if "message" in payload:
            return Choice.construct(**payload)
        if "choices" in payload:
            return chat.ChatCompletion.construct(**payload)
        return chat.ChatCompletionMessage.construct(**payload)

    def _read(self, response: Any) -> list[RawCall]:
        if get(response, "error") is not None and not items(response, "choices"):
            raise DagexecError(
                f"{type(self).__name__}: the API answered with an error"
                f"{worded(get(response, 'error'))}"
            )
        choice = choice_of(response)
        if choice is None:
            return []
        message = get(choice, "message")
        # A message of the other two APIs has a type; some servers leave out the role in a choice.
        alone = message is response and get(message, "role") != "assistant"
        if message is None or alone or get(message, "type") == "message":
            raise self._refused(response)
        reason = get(choice, "finish_reason")
        good = reason is None or is_good_end("chat", str(reason))
        cut = None if good else _cut(f"finish_reason {reason or repr(reason)}")
        calls = [_chat_call(call, cut) for call in items(message, "tool_calls")]
        legacy = get(message, "function_call")
        if is_legacy(legacy) and not calls:
            arguments = get(legacy, "arguments")
            calls = [RawCall("", text(legacy, "name"), arguments, "legacy", problem=cut)]
        return calls

    def _assembler(self) -> Assembler:
        return ChatAssembler(lambda call: _chat_call(call, None), self._by_name)

    def _definition(
        self, tool: Tool[..., Any], schema: dict[str, Any], *, strict: bool
    ) -> dict[str, Any]:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        function["parameters"] = schema
        if strict:
            function["strict"] = True
        return {"type": "function", "function": function}

    def _for_code(self, tool: Tool[..., Any]) -> dict[str, Any]:
        del tool
        raise DagexecError("Chat Completions runs no code that calls tools: leave out callers=")

    def _answers(self, answers: Sequence[Answer]) -> list[Any]:
        # A tool message holds text only; what shows its media comes behind the whole batch.
        shown: list[dict[str, Any]] = []
        for answer in answers:
            if answer.blocks:
                head = answer.text.partition("\n")[0] if self._references else answer.raw.name
                shown += [{"type": "text", "text": f"Media of {head}:"}, *answer.blocks]
        behind = [{"role": "user", "content": shown}] if shown else []
        return [*map(_chat_answer, answers), *behind]


def _chat_call(call: Any, cut: str | None) -> RawCall:
    id_ = said(call, "id")
    custom = get(call, "custom")
    if custom is not None:
        return RawCall(id_, text(custom, "name"), get(custom, "input"), "custom", problem=cut)
    function = get(call, "function")
    return RawCall(id_, text(function, "name"), get(function, "arguments"), problem=cut)


def _chat_answer(answer: Answer) -> dict[str, Any]:
    if answer.raw.kind == "legacy":
        return {"role": "function", "name": answer.raw.name, "content": answer.text}
    return {"role": "tool", "tool_call_id": answer.raw.id, "content": answer.text}


@explained
class ResponsesPlanner(Planner):
    """For the Responses API; `plan` takes a response or a list of its output items.

    Answers are paired by `call_id`. Items that the API itself acts on (web search, MCP, code
    interpreter and so on) are left alone. Those that the client has to answer without being a tool
    of its own need a tool that takes them: `handles={"shell_call": "run"}` gives `shell_call` to
    the tool `run`, with the fields of its action as arguments. So it is with `local_shell_call`,
    `apply_patch_call`, `computer_call`, and `tool_search_call` where the client executes it. The
    tool's definition is not sent: put the provider's own among `solve(tools=...)`. A request for an
    MCP approval is a call of `mcp_approval`, which waits for a person like any other.
    """

    dialect: ClassVar[Dialect] = OPENAI
    api: ClassVar[Api] = ResponsesApi()

    def __init__(
        self,
        tools: Iterable[Tool[..., Any] | Callable[..., Any]],
        *,
        handles: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Take the options of every planner too."""
        super().__init__(tools, **options)
        self._handles = dict(handles or {})
        for kind, name in self._handles.items():
            if kind not in CLIENT_ITEMS or name not in self._by_name:
                raise DagexecError(
                    f"handles={{{kind!r}: {name!r}}}: it takes {', '.join(CLIENT_ITEMS)}, each with"
                    f" the name of a tool: {', '.join(self._by_name)}"
                )
        unsent = {*self._handles.values(), mcp_approval.name}
        self._definitions = [each for each in self._definitions if each["name"] not in unsent]

    @classmethod
    def recognises(cls, payload: Any) -> bool:
        """Whether this is a response, or a list of output items."""
        if get(payload, "object") == "response":
            return True
        found = listed(payload) or items(payload, "output")
        return bool(found) and all(isinstance(get(item, "type"), str) for item in found)

    @classmethod
    def response(cls, payload: Any) -> Any:
        """Return the SDK's `Response` for a dict, or its output items for a list of them."""
        try:
            from openai.types.responses import Response
        except ImportError as error:
            raise _missing() from error
        if is_list(payload):
            return Response.construct(object="response", output=payload).output
        return Response.construct(**payload)

    def _read(self, response: Any) -> list[RawCall]:
        output = response if is_list(response) else get(response, "output")
        if not is_list(output):
            raise self._refused(response)
        status = None if output is response else get(response, "status")
        cut = None
        if status not in (None, "completed"):
            detail = get(get(response, "incomplete_details"), "reason")
            cut = _cut(f"status {status}" + (f": {detail}" if detail else ""))
        calls = [self._call(item, cut) for item in waiting(output)]
        return [call for call in calls if call is not None]

    def _call(self, item: Any, cut: str | None = None) -> RawCall | None:
        if is_client_item(item):
            return client_call(item, self._handles, self._by_name, cut)
        return _response_call(item, cut)

    def _assembler(self) -> Assembler:
        return ResponsesAssembler(self._call)

    def _answer(self, record: CallRecord) -> Answer:
        raw, outcome = record.raw, record.outcome
        if raw.kind not in CLIENT_ITEMS:
            return super()._answer(record)
        if outcome is not None and outcome.status == "done":
            return Answer(raw, value_text(outcome.value), done=True, value=outcome.value)
        if outcome is None or (outcome.status != "failed" and record.problem is not None):
            return Answer(raw, self._unanswered(record), done=False)
        text = failure_text(outcome, named=self._named, show=self._show_errors, limit=None)
        return Answer(raw, text, done=False)

    def _definition(
        self, tool: Tool[..., Any], schema: dict[str, Any], *, strict: bool
    ) -> dict[str, Any]:
        definition: dict[str, Any] = {"type": "function", "name": tool.name}
        if tool.description:
            definition["description"] = tool.description
        # Said in either case: this API takes a missing `strict` for true.
        return {**definition, "parameters": schema, "strict": strict}

    def _for_code(self, tool: Tool[..., Any]) -> dict[str, Any]:
        schema = returned(tool) if "programmatic" in self._callers else None
        more = {} if schema is None else {"output_schema": schema}
        return {**super()._for_code(tool), **more}

    def _answers(self, answers: Sequence[Answer]) -> list[Any]:
        return [_output(answer) for answer in answers]


_RESPONSE_KINDS: Final = {
    "function_call": ("function", "arguments"),
    "custom_tool_call": ("custom", "input"),
}
_OUTPUTS: Final = {"function": "function_call_output", "custom": "custom_tool_call_output"}


def _response_call(item: Any, cut: str | None) -> RawCall | None:
    found = _RESPONSE_KINDS.get(get(item, "type", ""))
    if found is None:
        return None
    kind, body = found
    status = get(item, "status")
    if cut is None and status not in (None, "", "completed"):
        cut = f"Not run: the call was cut off (status {status}). Write it again."
    # A custom call's output has no field for the namespace.
    echoed = _ECHOED if kind == "function" else _ECHOED[:1]
    echo = {name: plain(value) for name in echoed if (value := get(item, name)) is not None}
    id_ = said(item, "call_id") or said(item, "id")
    code = get(get(item, "caller"), "type", "direct") != "direct"
    name, args = text(item, "name"), get(item, body)
    return RawCall(id_, name, args, kind, echo, problem=cut, from_code=code)


def _output(answer: Answer) -> dict[str, Any]:
    raw = answer.raw
    if raw.kind in CLIENT_ITEMS:
        found = CLIENT_ITEMS[raw.kind].output(raw, answer.value, answer.text, answer.done)
        return {**found, **raw.echo}
    parts = [{"type": "input_text", "text": answer.text}, *answer.blocks]
    output = parts if answer.blocks else answer.text
    return {"type": _OUTPUTS[raw.kind], "call_id": raw.id, "output": output, **raw.echo}


def _missing() -> MissingExtra:
    return MissingExtra("the openai SDK is not installed: pip install openai")
