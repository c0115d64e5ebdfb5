"""Anthropic's Messages in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from planners._core.api import Api, Ending
from planners._core.edge import get, is_dict, items, nameable, once, plain, text

# Tokens of a reply, which this API wants to be told; `solve(max_tokens=)` changes it. Above about
# 21,000 the SDK refuses to wait for a reply that does not stream.
MAX_TOKENS: Final = 8192
_ENDS: Final[dict[str, Ending]] = {
    "max_tokens": "cut_off",
    "model_context_window_exceeded": "cut_off",
    "pause_turn": "goes_on",
    "compaction": "goes_on",
    "refusal": "refused",
}


class MessagesApi(Api):
    """Messages."""

    name: ClassVar[str] = "messages"
    resource: ClassVar[str] = "messages"
    client: ClassVar[str] = "anthropic.AsyncAnthropic"

    def reply(self, response: Any) -> list[Any]:
        """Return the message; nothing for one without content, which the API does not take.

        Blank texts are left out and thoughts that lead to nothing too: both would be refused.
        """
        found = items(plain(response), "content")
        blocks = [_sent(block) for block in found if is_dict(block) and not _blank(block)]
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
        """Return it from `stop_reason`."""
        return _ENDS.get(get(response, "stop_reason", ""), "answered")

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
    if block.get("type") == "tool_use":
        sent["name"] = nameable(text(block, "name"))
    return sent
