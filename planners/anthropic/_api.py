"""Anthropic's Messages in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from planners._core import arguments
from planners._core.api import Api, Ending
from planners._core.edge import get, is_dict, items, listed, mended, nameable, once, plain, text
from planners._core.servers import ending
from planners._core.widen import ANTHROPIC, NotStrict, strict

# Tokens of a reply, which this API wants to be told; `solve(max_tokens=)` changes it. Above about
# 21,000 the SDK refuses to wait for a reply that does not stream.
MAX_TOKENS: Final = 8192
_GOING_ON: Final = ("pause_turn", "compaction")


class MessagesApi(Api):
    """Messages."""

    name: ClassVar[str] = "messages"
    resource: ClassVar[str] = "messages"
    client: ClassVar[str] = "anthropic.AsyncAnthropic"

    def reply(self, response: Any) -> list[Any]:
        """Return the message; nothing for one without content, which the API does not take.

        Blank texts are left out and thoughts that lead to nothing too: both would be refused.
        """
        body = mended(plain(response))
        content = get(body, "content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        blocks = [_sent(block) for block in listed(content) if is_dict(block) and not _blank(block)]
        if get(body, "stop_reason") not in _GOING_ON:
            blocks = _closed(blocks)
        while blocks and blocks[-1].get("type") in ("thinking", "redacted_thinking"):
            blocks.pop()
        if not blocks:
            return []
        return [{"role": "assistant", "content": once(blocks, ("tool_use",), "id")}]

    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the `id` of each `tool_use`, and each `tool_use_id`."""
        for block in (block for message in messages for block in items(message, "content")):
            kind = get(block, "type")
            if is_dict(block) and kind in ("tool_use", "tool_result"):
                yield block, "id" if kind == "tool_use" else "tool_use_id"

    def text(self, response: Any) -> str:
        """Return the texts of all blocks."""
        content = get(response, "content")
        if isinstance(content, str):
            return content
        return "".join(
            text(block, "text")
            for block in items(response, "content")
            if get(block, "type") == "text"
        )

    def ending(self, response: Any) -> Ending:
        """Return it from `stop_reason`; a word that nobody knows is a reply that was cut off."""
        if get(response, "type") == "error":
            return "failed"
        reason = get(response, "stop_reason")
        return "answered" if reason is None else ending(self.name, str(reason))

    def carried(self, response: Any) -> dict[str, Any]:
        """Return the container of code execution, without which its calls cannot be answered."""
        id_ = text(get(response, "container"), "id")
        return {"container": id_} if id_ else {}

    def structured(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return `output_config`; nothing for a schema that this API cannot hold to."""
        del name
        try:
            sent = strict(schema, ANTHROPIC)
        except NotStrict:
            return {}
        return {"output_config": {"format": {"type": "json_schema", "schema": sent}}}

    def piece(self, event: Any) -> str:
        """Return the delta of a text."""
        delta = get(event, "delta")
        return text(delta, "text") if get(delta, "type") == "text_delta" else ""

    def is_shortened(self, response: Any) -> bool:
        """Whether there was a compaction, or the context was edited."""
        edits = items(get(response, "context_management"), "applied_edits")
        blocks = items(response, "content")
        return bool(edits) or any(get(block, "type") == "compaction" for block in blocks)

    def reason(self, response: Any) -> str:
        """Return `stop_reason`."""
        return text(response, "stop_reason")

    def request(
        self, *, model: str, system: str, messages: list[Any], tools: list[Any]
    ) -> dict[str, Any]:
        """Return the arguments of `messages.create`."""
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": MAX_TOKENS,
            "messages": list(messages),
        }
        if system:
            body["system"] = system
        return {**body, "tools": tools} if tools else body


def _blank(block: dict[str, Any]) -> bool:
    return block.get("type") == "text" and not str(block.get("text", "")).strip()


def _sent(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block without nulls, nested ones apart: what a tool was given stays as it is."""
    sent = {key: value for key, value in block.items() if value is not None}
    sent.pop("parsed_output", None)
    if str(block.get("type")).endswith("tool_use"):
        sent["input"] = arguments.as_object(block.get("input"))
    if block.get("type") == "tool_use":
        sent["name"] = nameable(text(block, "name"))
    return sent


def _closed(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what the API was to do itself and has no result of, where it will not be done.

    Beside a call of the client's, the API still does it when that has its answer.
    """
    if any(block.get("type") == "tool_use" for block in blocks):
        return blocks
    done = {block.get("tool_use_id") for block in blocks}
    return [
        block
        for block in blocks
        if not str(block.get("type")).endswith("_tool_use") or block.get("id") in done
    ]
