"""OpenAI's two streams, put together: Chat Completions' chunks and Responses' events.

Neither says when the arguments of a call are complete before other things may have happened, so a
call is taken for complete when the JSON object of its arguments has closed. Calls whose arguments
are no object (none at all, free text, broken JSON) are complete when the API says so.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, final

from planners._core.call_log import RawCall
from planners._core.edge import get, is_dict, is_list, items, plain, text
from planners._core.stream import Assembler, Begun, JsonEnd, Progress, Written, stream_error

# The events that the SDK's `stream()` adds to the chunks; they say the same once more.
_WRAPPER: Final = ("content.", "refusal.", "tool_calls.", "logprobs.")


@final
class _ChatCall:
    """A call of a chat message that is being written."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {"id": "", "type": "function"}
        self.end = JsonEnd()
        self.written = False

    def add(self, delta: Any) -> bool:
        """Take a fragment; return whether the call is complete now."""
        self.body["id"] = self.body["id"] or text(delta, "id")
        inner = get(delta, "custom")
        if inner is not None:
            self.body["type"] = "custom"
            self.body.pop("function", None)
        else:
            inner = get(delta, "function")
        kind = self.body["type"]
        key = "input" if kind == "custom" else "arguments"
        part: dict[str, Any] = self.body.setdefault(kind, {"name": "", key: ""})
        name = text(inner, "name")
        if name != part["name"]:  # some servers send the whole name with every fragment
            part["name"] += name
        piece = get(inner, key, "")
        if not isinstance(piece, str):  # some servers send the object itself
            piece = json.dumps(plain(piece))
        part[key] += piece
        return kind == "function" and self.end.feed(piece) and bool(part["name"])


@final
class ChatAssembler(Assembler):
    """The chunks of a completion; of several choices the first is read."""

    def __init__(self, read: Callable[[Any], RawCall]) -> None:
        """Read a whole call with `read`."""
        super().__init__()
        self._read = read
        self._head: dict[str, Any] = {}
        self._message: dict[str, Any] = {"role": "assistant", "content": None}
        self._reason: str | None = None
        self._calls: list[_ChatCall] = []
        # The call that fragments with an index belong to.
        self._at: dict[object, _ChatCall] = {}

    def feed(self, event: Any) -> Iterator[Progress]:
        """Take a chunk, or the SDK's `ChunkEvent` round one; its other events repeat the chunks."""
        if get(event, "type") == "chunk":
            event = get(event, "chunk")
        error = get(event, "error")
        if error is not None:
            self.recognised = True
            raise stream_error(error)
        choices = get(event, "choices")
        if not is_list(choices):
            self.recognised = self.recognised or text(event, "type").startswith(_WRAPPER)
            return
        self.recognised = True
        for name in ("id", "created", "model", "usage", "service_tier", "system_fingerprint"):
            if (found := get(event, name)) is not None:
                self._head[name] = plain(found)
        for choice in choices:
            if get(choice, "index", 0) == 0:
                yield from self._choice(choice)

    def _choice(self, choice: Any) -> Iterator[Progress]:
        delta = get(choice, "delta")
        for fragment in items(delta, "tool_calls"):
            yield from self._fragment(fragment)
        _merge(self._message, plain(delta))
        reason = get(choice, "finish_reason")
        if reason is not None:
            self._reason = reason
            self.ended = True

    def _fragment(self, fragment: Any) -> Iterator[Progress]:
        index = get(fragment, "index")
        call = self._at.get(index)
        id_ = text(fragment, "id")
        # Some servers give every call of a reply the same index; only the id tells them apart.
        if call is None or (id_ and call.body["id"] not in ("", id_)):
            call = self._at[index] = _ChatCall()
            self._calls.append(call)
            yield Begun(call, id_)
        if call.add(fragment) and not call.written:
            call.written = True
            yield Written(call, self._read(call.body))

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return a `chat.completion` with one choice."""
        if not self.recognised:
            return None
        message = {key: value for key, value in self._message.items() if key != "function_call"}
        calls = [call.body for call in self._calls if given is None or call in given]
        if calls:
            message["tool_calls"] = calls
        if given is None and "function_call" in self._message:
            message["function_call"] = self._message["function_call"]
        reason = self._reason if given is None else None
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {"object": "chat.completion", **self._head, "choices": [choice]}


def _merge(message: dict[str, Any], delta: Any) -> None:
    """Add a delta's texts, and whatever else a server puts there, to a message."""
    if not is_dict(delta):
        return
    for name, value in delta.items():
        if name in ("role", "tool_calls") or value is None:
            continue
        known = message.get(name)
        if isinstance(known, str) and isinstance(value, str):
            message[name] = known + value
        elif is_list(known) and is_list(value):
            message[name] = [*known, *value]
        elif is_dict(known) and is_dict(value):
            _merge(known, value)
        else:
            message[name] = dict(value) if is_dict(value) else value


_ENDS: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
}
_FAILED: Final = {
    "response.failed": "the response failed",
    "response.cancelled": "the response was cancelled",
}
_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}


@final
class _Item:
    """An output item that is being written."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.end = JsonEnd()
        self.begun = False
        self.written = False
        # The API has said its last word on it.
        self.whole = False


@final
class ResponsesAssembler(Assembler):
    """The events of a response."""

    def __init__(self, read: Callable[[Any], RawCall | None]) -> None:
        """Read a whole item with `read`."""
        super().__init__()
        self._read = read
        self._response: dict[str, Any] = {}
        self._items: dict[object, _Item] = {}

    def feed(self, event: Any) -> Iterator[Progress]:
        """Take an event; those that are not about calls only help to put the response together."""
        kind = text(event, "type")
        if kind == "error":
            self.recognised = True
            raise stream_error(get(event, "error", event))
        if not kind.startswith("response."):
            self.recognised = self.recognised or kind in ("keepalive", "ping")
            return
        self.recognised = True
        response = get(event, "response")
        if response is not None:
            self._response = plain(response)
        if kind in _FAILED:
            raise stream_error(get(response, "error", _FAILED[kind]))
        if kind in _ENDS:
            self.ended = True
            self._response["status"] = self._response.get("status") or _ENDS[kind]
        elif kind.startswith("response.output_item."):
            yield from self._on_item(event, done=kind.endswith(".done"))
        else:
            yield from self._on_delta(kind, event)

    def _on_item(self, event: Any, *, done: bool) -> Iterator[Progress]:
        body = copy.deepcopy(plain(get(event, "item")))
        if not is_dict(body):
            return
        key = get(event, "output_index", body.get("id"))
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(body)
        item.whole = done
        # What `done` leaves out was said when the item was added.
        item.body = {**item.body, **body}
        if item.body.get("type") not in _CALLS:
            return
        if not item.begun:
            item.begun = True
            yield Begun(key, text(item.body, "call_id") or text(item.body, "id"))
        yield from self._look(key, item, whole=done)

    def _on_delta(self, kind: str, event: Any) -> Iterator[Progress]:
        key = get(event, "output_index", get(event, "item_id"))
        item = self._items.get(key)
        if item is None:
            return
        if kind.endswith(("output_text.delta", "refusal.delta")):
            _say(item.body, kind, text(event, "delta"))
            return
        name = _CALLS.get(item.body.get("type", ""))
        if name is None:
            return
        if kind.endswith(".delta") and ("arguments" in kind or "input" in kind):
            piece = text(event, "delta")
            item.body[name] = (item.body.get(name) or "") + piece
            item.end.feed(piece)
            yield from self._look(key, item, whole=False)
        elif kind.endswith(".done") and isinstance(get(event, name), str):
            item.body[name] = get(event, name)
            yield from self._look(key, item, whole=False)

    def _look(self, key: object, item: _Item, *, whole: bool) -> Iterator[Progress]:
        """Say that a call is complete if it is."""
        if item.written:
            return
        closed = item.end.closed
        if item.body.get("type") == "function_call" and not closed:
            closed = JsonEnd().feed(item.body.get("arguments") or "")
        if not (whole or closed):
            return
        # What has closed is whole, whatever the item's own status was when it was added.
        body = item.body if whole else {**item.body, "status": "completed"}
        raw = self._read(body)
        if raw is not None:
            item.written = True
            yield Written(key, raw)

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return a `response`; the items of the stream are its output."""
        if not self.recognised:
            return None
        response = {"object": "response", **self._response}
        if given is not None:
            response.pop("status", None)
            response["output"] = self._kept(given)
        elif self._items:
            response["output"] = [item.body for item in self._items.values()]
        return response

    def _kept(self, given: Collection[object]) -> list[dict[str, Any]]:
        """Return the items up to the last complete call, without those that are not complete.

        The server knows nothing of a response that broke off: a reasoning item that does not carry
        its own content cannot be sent back, and what it led to must not name itself. A text that
        broke off is kept where no call follows it.
        """
        found = list(self._items.items())
        last = max((at for at, (key, _) in enumerate(found) if key in given), default=-1)
        kept = [
            {**item.body, "status": "completed"}
            for key, item in found[: last + 1]
            if key in given or (item.whole and _stands_alone(item.body))
        ]
        kept += [
            {**item.body, "status": "incomplete"}
            for _, item in found[last + 1 :]
            if item.body.get("type") == "message" and item.body.get("content")
        ]
        return [{key: value for key, value in body.items() if key != "id"} for body in kept]


def _stands_alone(body: dict[str, Any]) -> bool:
    return body.get("type") in ("message", "reasoning") and (
        body.get("type") == "message" or bool(body.get("encrypted_content"))
    )


def _say(body: dict[str, Any], kind: str, piece: str) -> None:
    """Add a piece of text to a message that is being written."""
    refusal = kind.endswith("refusal.delta")
    name = "refusal" if refusal else "text"
    content: list[dict[str, Any]] = body.setdefault("content", [])
    of = "refusal" if refusal else "output_text"
    if not content or content[-1].get("type") != of:
        content.append({"type": of, name: ""} | ({} if refusal else {"annotations": []}))
    content[-1][name] += piece
