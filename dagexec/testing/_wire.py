"""A reply as each protocol sends it: as a whole, and as a stream of events.

Shapes as the packages openai 3.5x and anthropic 2.1x type them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ._reply import API, CallScript, Event, Reply, arguments, cut

__all__ = ["WIRES", "Exchange", "Wire"]

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one answer is made of."""

    number: int
    """Which answer of the model this is, counted from 1."""
    model: str
    reply: Reply
    ids: tuple[str, ...]
    """One id for each call of the reply."""
    size: int
    """Characters in a token."""
    usage: bool = False
    """The request asked a chat stream for a last chunk with the usage."""

    @property
    def calls(self) -> list[tuple[str, CallScript]]:
        """Return the calls with their ids."""
        return list(zip(self.ids, self.reply.calls, strict=True))

    @property
    def tokens(self) -> int:
        """Return how many tokens the model writes."""
        texts = [self.reply.text, *(arguments(call) for call in self.reply.calls)]
        return sum(len(cut(text, self.size)) for text in texts)


class Wire(Protocol):
    """One protocol."""

    path: str
    """The end of the URL's path."""

    def whole(self, exchange: Exchange) -> JSON:
        """Return the body of an answer that does not stream."""
        ...

    def stream(self, exchange: Exchange) -> list[Event]:
        """Return the events of an answer that streams."""
        ...

    def error(self, message: str, kind: str) -> JSON:
        """Return the body of an error."""
        ...


def _openai_error(message: str, kind: str) -> JSON:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class Chat:
    """OpenAI Chat Completions."""

    path = "/chat/completions"

    def whole(self, exchange: Exchange) -> JSON:
        """Return a `chat.completion`."""
        message: JSON = {
            "role": "assistant",
            "content": exchange.reply.text or None,
            "refusal": None,
        }
        if exchange.calls:
            message["tool_calls"] = [_chat_call(id_, call) for id_, call in exchange.calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(exchange),
        }
        return {**_chat_head(exchange), "choices": [choice], "usage": _chat_usage(exchange)}

    def stream(self, exchange: Exchange) -> list[Event]:
        """Return `chat.completion.chunk` events, and `[DONE]`."""
        events = [_delta(exchange, {"role": "assistant", "content": ""})]
        pieces = cut(exchange.reply.text, exchange.size)
        events += [_delta(exchange, {"content": piece}, token=True) for piece in pieces]
        for index, (id_, call) in enumerate(exchange.calls):
            first = {"index": index, **_chat_call(id_, (call[0], ""))}
            events.append(_delta(exchange, {"tool_calls": [first]}))
            for piece in cut(arguments(call), exchange.size):
                more = {"index": index, "function": {"arguments": piece}}
                events.append(_delta(exchange, {"tool_calls": [more]}, token=True))
        events.append(_delta(exchange, {}, finish=_finish(exchange)))
        if exchange.usage:
            last: JSON = {**_chunk_head(exchange), "choices": [], "usage": _chat_usage(exchange)}
            events.append(Event(last))
        return [*events, Event("[DONE]")]

    def error(self, message: str, kind: str) -> JSON:
        """Return an OpenAI error."""
        return _openai_error(message, kind)


def _chat_head(exchange: Exchange) -> JSON:
    return {
        "id": f"chatcmpl-{exchange.number}",
        "object": "chat.completion",
        "created": exchange.number,
        "model": exchange.model,
    }


def _chunk_head(exchange: Exchange) -> JSON:
    return {**_chat_head(exchange), "object": "chat.completion.chunk"}


def _chat_usage(exchange: Exchange) -> JSON:
    tokens = exchange.tokens
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}


def _chat_call(id_: str, call: CallScript) -> JSON:
    function = {"name": call[0], "arguments": arguments(call)}
    return {"id": id_, "type": "function", "function": function}


def _finish(exchange: Exchange) -> str:
    if exchange.reply.truncated:
        return "length"
    return "tool_calls" if exchange.reply.calls else "stop"


def _delta(
    exchange: Exchange, delta: JSON, *, finish: str | None = None, token: bool = False
) -> Event:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return Event({**_chunk_head(exchange), "choices": [choice]}, token=token)


class Responses:
    """OpenAI Responses."""

    path = "/responses"

    def whole(self, exchange: Exchange) -> JSON:
        """Return a `response` that has ended."""
        return _response(exchange, _items(exchange), _response_status(exchange))

    def stream(self, exchange: Exchange) -> list[Event]:
        """Return the typed events, from `response.created` to the end."""
        start = _response(exchange, [], "in_progress")
        events: list[JSON] = [
            {"type": "response.created", "response": start},
            {"type": "response.in_progress", "response": start},
        ]
        for index, item in enumerate(_items(exchange)):
            make = _text_events if item["type"] == "message" else _call_events
            rest: JSON = {"content": []} if item["type"] == "message" else {"arguments": ""}
            empty = {**item, **rest, "status": "in_progress"}
            place = {"output_index": index}
            events.append({"type": "response.output_item.added", **place, "item": empty})
            events += make(item, {**place, "item_id": item["id"]}, exchange.size)
            events.append({"type": "response.output_item.done", **place, "item": item})
        whole = self.whole(exchange)
        events.append({"type": f"response.{whole['status']}", "response": whole})
        return [
            Event({**data, "sequence_number": at}, data["type"], data["type"].endswith(".delta"))
            for at, data in enumerate(events)
        ]

    def error(self, message: str, kind: str) -> JSON:
        """Return an OpenAI error."""
        return _openai_error(message, kind)


def _response_status(exchange: Exchange) -> str:
    return "incomplete" if exchange.reply.truncated else "completed"


def _items(exchange: Exchange) -> list[JSON]:
    items: list[JSON] = []
    if exchange.reply.text:
        part: JSON = {"type": "output_text", "text": exchange.reply.text, "annotations": []}
        id_ = f"msg_{exchange.number}"
        items.append({"id": id_, "type": "message", "role": "assistant", "content": [part]})
    for id_, call in exchange.calls:
        named = {"call_id": id_, "name": call[0], "arguments": arguments(call)}
        items.append({"id": f"fc_{id_}", "type": "function_call", **named})
    for item in items:
        item["status"] = "completed"
    if items and exchange.reply.truncated:
        items[-1]["status"] = "incomplete"
    return items


def _response(exchange: Exchange, items: list[JSON], status: str) -> JSON:
    tokens = exchange.tokens
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1 + tokens,
    }
    return {
        "id": f"resp_{exchange.number}",
        "object": "response",
        "created_at": exchange.number,
        "model": exchange.model,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": items,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None if status == "in_progress" else usage,
    }


def _text_events(item: JSON, place: JSON, size: int) -> list[JSON]:
    part: JSON = item["content"][0]
    place = {**place, "content_index": 0}
    name = "response.output_text"
    return [
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *(
            {"type": f"{name}.delta", **place, "delta": piece, "logprobs": []}
            for piece in cut(part["text"], size)
        ),
        {"type": f"{name}.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
    ]


def _call_events(item: JSON, place: JSON, size: int) -> list[JSON]:
    name, text = "response.function_call_arguments", item["arguments"]
    return [
        *({"type": f"{name}.delta", **place, "delta": piece} for piece in cut(text, size)),
        {"type": f"{name}.done", **place, "arguments": text},
    ]


class Messages:
    """Anthropic Messages."""

    path = "/v1/messages"

    def whole(self, exchange: Exchange) -> JSON:
        """Return a `message`; arguments that are a string must be an object in JSON here."""
        content: list[JSON] = []
        if exchange.reply.text:
            content.append({"type": "text", "text": exchange.reply.text, "citations": None})
        for id_, call in exchange.calls:
            content.append({**_use(id_, call), "input": json.loads(arguments(call))})
        usage = {"input_tokens": 1, "output_tokens": exchange.tokens}
        return {**_message(exchange), "content": content, "usage": usage, **_stop(exchange)}

    def stream(self, exchange: Exchange) -> list[Event]:
        """Return the events from `message_start` to `message_stop`."""
        blocks: list[tuple[JSON, list[JSON]]] = []
        if text := exchange.reply.text:
            pieces = [{"type": "text_delta", "text": piece} for piece in cut(text, exchange.size)]
            blocks.append(({"type": "text", "text": "", "citations": None}, pieces))
        for id_, call in exchange.calls:
            pieces = [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in ("", *cut(arguments(call), exchange.size))
            ]
            blocks.append((_use(id_, call), pieces))
        events: list[JSON] = [{"type": "message_start", "message": _message(exchange)}]
        for index, (block, pieces) in enumerate(blocks):
            place = {"index": index}
            events.append({"type": "content_block_start", **place, "content_block": block})
            events += [{"type": "content_block_delta", **place, "delta": at} for at in pieces]
            events.append({"type": "content_block_stop", **place})
        usage = {"output_tokens": exchange.tokens}
        events.append({"type": "message_delta", "delta": _stop(exchange), "usage": usage})
        events.append({"type": "message_stop"})
        return [Event(data, data["type"], _has_text(data)) for data in events]

    def error(self, message: str, kind: str) -> JSON:
        """Return an Anthropic error."""
        return {"type": "error", "error": {"type": kind, "message": message}}


def _message(exchange: Exchange) -> JSON:
    return {
        "id": f"msg_{exchange.number}",
        "type": "message",
        "role": "assistant",
        "model": exchange.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _use(id_: str, call: CallScript) -> JSON:
    return {"type": "tool_use", "id": id_, "name": call[0], "input": {}}


def _stop(exchange: Exchange) -> JSON:
    reason = "tool_use" if exchange.reply.calls else "end_turn"
    return {
        "stop_reason": "max_tokens" if exchange.reply.truncated else reason,
        "stop_sequence": None,
    }


def _has_text(data: Mapping[str, Any]) -> bool:
    delta = data.get("delta", {})
    return bool(delta.get("text") or delta.get("partial_json"))


WIRES: Mapping[API, Wire] = {"chat": Chat(), "responses": Responses(), "messages": Messages()}
