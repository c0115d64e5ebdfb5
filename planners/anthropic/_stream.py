"""Anthropic's stream of events, put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, final

from planners._core.call_log import RawCall
from planners._core.edge import get, is_dict, is_list, plain, text
from planners._core.stream import Assembler, Begun, JsonEnd, Progress, Written, stream_error

# What the SDK's wrapper adds to the events of the API itself: the same things once more.
_REPEATED: Final = frozenset({"text", "input_json", "citation", "thinking", "signature", "ping"})
_PARTS: Final = {"citation": "citations"}


@final
class _Block:
    """A content block that is being written."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.json = ""
        self.end = JsonEnd()
        self.begun = False
        self.written = False
        self.stopped = False

    @property
    def is_call(self) -> bool:
        """Whether it is a call of one of our tools."""
        return self.body.get("type") == "tool_use"

    @property
    def arguments(self) -> Any:
        """The input: an object, or text where it cannot be read as one."""
        if not self.json.strip():
            return self.body.get("input") or {}
        try:
            return json.loads(self.json)
        except (ValueError, RecursionError):
            return self.json

    def whole(self) -> dict[str, Any]:
        """Return the block as the API sends it in a message."""
        if "input" not in self.body:
            return self.body
        found = self.arguments
        # An input has to be an object; Anthropic's own word for one that cannot be read.
        return {**self.body, "input": found if is_dict(found) else {"INVALID_JSON": self.json}}


@final
class MessagesAssembler(Assembler):
    """The events of a message, from the raw stream or from the SDK's wrapper round it."""

    def __init__(self, read: Callable[[Any], RawCall]) -> None:
        """Read a whole `tool_use` block with `read`."""
        super().__init__()
        self._read = read
        self._message: dict[str, Any] = {"type": "message", "role": "assistant"}
        self._blocks: dict[object, _Block] = {}

    def feed(self, event: Any) -> Iterator[Progress]:
        """Take an event; raise DagexecError for one that carries an error."""
        kind = text(event, "type")
        if kind == "error":
            self.recognised = True
            raise stream_error(get(event, "error", event))
        known = kind.startswith(("message_", "content_block_")) or kind in _REPEATED
        self.recognised = self.recognised or known
        if kind == "message_start":
            self._message |= plain(get(event, "message")) or {}
        elif kind == "message_delta":
            yield from self._on_end(event)
        elif kind.startswith("content_block_"):
            yield from self._on_block(kind, event)

    def _on_block(self, kind: str, event: Any) -> Iterator[Progress]:
        key = get(event, "index")
        if kind == "content_block_start":
            # That the model went on shows that the blocks before are whole, not cut off.
            yield from self._look_again()
            block = self._blocks[key] = _Block(dict(plain(get(event, "content_block"))))
            if block.is_call:
                block.begun = True
                yield Begun(key, text(block.body, "id"))
            return
        found = self._blocks.get(key)
        if found is None:
            return
        if kind == "content_block_stop":
            found.stopped = True
        else:
            _add(found, get(event, "delta"))
        if found.end.closed:
            yield from self._written(key, found)
        elif found.stopped and found.is_call and not found.json.strip():
            yield Written(key, self._read({**found.body, "input": found.arguments}), sure=False)

    def _look_again(self) -> Iterator[Progress]:
        """Take calls that have stopped for complete, though their input is no closed object."""
        for key, block in self._blocks.items():
            if block.stopped:
                yield from self._written(key, block)

    def _written(self, key: object, block: _Block) -> Iterator[Progress]:
        if block.begun and not block.written:
            block.written = True
            yield Written(key, self._read({**block.body, "input": block.arguments}))

    def _on_end(self, event: Any) -> Iterator[Progress]:
        delta = plain(get(event, "delta"))
        if is_dict(delta):
            self._message |= {name: value for name, value in delta.items() if value is not None}
        usage = plain(get(event, "usage"))
        if is_dict(usage):
            # Cumulative: they take the place of what the start said.
            known: dict[str, Any] = self._message.get("usage") or {}
            self._message["usage"] = known | {k: v for k, v in usage.items() if v is not None}
        reason = self._message.get("stop_reason")
        self.ended = reason is not None
        if reason == "tool_use":
            for block in self._blocks.values():
                block.stopped = True
            yield from self._look_again()

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return a `message`."""
        if not self.recognised:
            return None
        if given is None:
            blocks = [block.whole() for block in self._blocks.values()]
            return {**self._message, "content": blocks}
        found = list(self._blocks.items())
        last = max((at for at, (key, _) in enumerate(found) if key in given), default=-1)
        kept = [
            block
            for key, block in found[: last + 1]
            if key in given or (block.stopped and not block.is_call)
        ]
        kept += [block for _, block in found[last + 1 :] if block.body.get("type") == "text"]
        message = {**self._message, "content": [block.whole() for block in kept]}
        message["stop_reason"] = None
        return message


def _add(block: _Block, delta: Any) -> None:
    """Add a delta to its block, also one of a kind that came after this was written."""
    if text(delta, "type") == "input_json_delta":
        piece = text(delta, "partial_json")
        block.json += piece
        block.end.feed(piece)
        return
    found = plain(delta)
    if not is_dict(found):
        return
    for name, value in found.items():
        if name == "type":
            continue
        into = _PARTS.get(name, name)
        known = block.body.get(into)
        if into != name:
            block.body[into] = [*(known if is_list(known) else []), value]
        elif isinstance(known, str) and isinstance(value, str):
            block.body[into] = known + value
        else:
            block.body[into] = value
