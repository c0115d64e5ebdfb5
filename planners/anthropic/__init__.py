r"""The planner for Anthropic's Messages API.

Every `tool_use` block needs its `tool_result` in the next message, or the API answers 400 from then
on. README has the loop written out; this is one turn of it:

```python
import asyncio

from dagexec import Executor, tool
from dagexec.testing import ScriptedModel
from planners.anthropic import MessagesPlanner


@tool(effect="read")
async def price(title: str) -> float:
    return {"Dune": 9.5, "Emma": 7.25}[title]


async def main():
    client = ScriptedModel([[("price", {"title": "Emma"})], "Done."]).anthropic()
    planner = MessagesPlanner([price])
    messages = [{"role": "user", "content": "What does Emma cost?"}]
    reply = await client.messages.create(  # with a key, of AsyncAnthropic()
        model="claude-sonnet-5-5",
        max_tokens=1024,
        system=planner.instructions,
        messages=messages,
        tools=planner.tools,
    )
    messages.append({"role": "assistant", "content": reply.content})
    messages += planner.results(await Executor([price]).run(planner.plan(reply)))
    print(messages[-1]["content"][-1])


asyncio.run(main())
```

```text
{'type': 'tool_result', 'tool_use_id': 'toolu_1', 'content': '[call 1]\n7.25'}
```

Importing this package does not import `anthropic`; only `response()` does. It stands on
`planners._core`. This file reads whole replies and writes answers; `_stream` puts streams together,
`_api` is what a loop asks of this API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from dagexec import MissingExtra, Tool
from planners._core.api import Api
from planners._core.call_log import RawCall
from planners._core.edge import get, items, said, text
from planners._core.planner import Answer, Planner
from planners._core.servers import is_good_end
from planners._core.stream import Assembler
from planners._core.widen import ANTHROPIC, Dialect
from planners.anthropic._api import MessagesApi
from planners.anthropic._stream import MessagesAssembler

__all__ = ["MessagesPlanner"]

# The turn is sent back as it is and the model goes on with it; nothing is run. The SDK's own
# table is in anthropic/lib/tools/_beta_runner.py.
_GOES_ON: Final = frozenset({"pause_turn", "compaction"})
_OTHERWISE: Final = frozenset({"refusal"})


class MessagesPlanner(Planner):
    """For Messages; `plan` takes a message. Only `tool_use` blocks are calls.

    Blocks that the API itself acts on (`server_tool_use`, `mcp_tool_use`) are left alone. Calls
    are run when the message came to a good end (`stop_reason` `tool_use` or `end_turn`), or when a
    dict does not say why it stopped.
    """

    dialect: ClassVar[Dialect] = ANTHROPIC
    api: ClassVar[Api] = MessagesApi()

    @classmethod
    def recognises(cls, payload: Any) -> bool:
        """Whether this is a message of an assistant, made of blocks."""
        if get(payload, "role") != "assistant":
            return False
        blocks = items(payload, "content")
        if get(payload, "type") == "message":
            return True
        return any(get(block, "type") == "tool_use" for block in blocks)

    @classmethod
    def response(cls, payload: dict[str, Any]) -> Any:
        """Return the SDK's `Message` for a dict."""
        try:
            from anthropic.types import Message
        except ImportError as error:
            msg = "the anthropic SDK is not installed: pip install anthropic"
            raise MissingExtra(msg) from error
        return Message.construct(**payload)

    def _read(self, response: Any) -> list[RawCall]:
        content = get(response, "content")
        blocks = isinstance(content, str | list | tuple) and get(response, "tool_calls") is None
        if get(response, "role") != "assistant" or not blocks:
            raise self._refused(response)
        reason = get(response, "stop_reason")
        if reason in _GOES_ON:
            return []
        problem = (
            None if reason is None or is_good_end(self.api.name, str(reason)) else _stopped(reason)
        )
        return [
            _call(block, problem)
            for block in items(response, "content")
            if get(block, "type") == "tool_use"
        ]

    def _assembler(self) -> Assembler:
        return MessagesAssembler(lambda block: _call(block, None))

    def _definition(
        self, tool: Tool[..., Any], schema: dict[str, Any], *, strict: bool
    ) -> dict[str, Any]:
        definition: dict[str, Any] = {"name": tool.name}
        if tool.description:
            definition["description"] = tool.description
        definition["input_schema"] = schema
        return {**definition, "strict": True} if strict else definition

    def _answers(self, answers: Sequence[Answer]) -> list[Any]:
        # One message, results only: text before them is refused, text behind them ends the turn.
        return [{"role": "user", "content": [_block(answer) for answer in answers]}]


def _call(block: Any, problem: str | None) -> RawCall:
    name = get(block, "toolset_name")
    echo = {"toolset_name": name} if name else {}
    id_ = said(block, "id")
    code = get(get(block, "caller"), "type", "direct") != "direct"
    args = get(block, "input")
    return RawCall(id_, text(block, "name"), args, echo=echo, problem=problem, from_code=code)


def _block(answer: Answer) -> dict[str, Any]:
    content: Any = answer.text
    if answer.blocks:
        content = [{"type": "text", "text": answer.text}, *answer.blocks]
    block = {"type": "tool_result", "tool_use_id": answer.raw.id, "content": content}
    error: dict[str, Any] = {} if answer.done else {"is_error": True}
    return {**block, **error, **answer.raw.echo}


def _stopped(reason: str) -> str:
    if reason not in _OTHERWISE:
        return (
            f"Not run: the reply was cut off (stop_reason {reason})."
            " Write the calls again, fewer or shorter ones at a time."
        )
    return (
        f"Not run: the reply ended with stop_reason {reason}, not for tool use."
        " Write the calls again if you still need them."
    )
