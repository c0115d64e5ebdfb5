"""Anthropic's stream of events, put together.

Blocks come one after the other, each with an index. Gateways give two blocks one index, deltas the
index of another block, and add to a block behind its end. What can belong to one block only is
added to it; what may be another's makes the calls unreadable between which it is doubtful.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, final

from planners._core import arguments
from planners._core.call_log import RawCall
from planners._core.edge import get, is_dict, is_list, mended, plain, said, text
from planners._core.servers import is_good_end
from planners._core.stream import Assembler, Begun, JsonEnd, Progress, Written, stream_error

# What the SDK's wrapper adds to the events of the API itself: the same things once more.
_REPEATED: Final = frozenset({"text", "input_json", "citation", "thinking", "signature", "ping"})
_PARTS: Final = {"citation": "citations"}
_DOUBTFUL: Final = "(parts of two calls, and nothing says of which)"


@final
class _Block:
    """A content block that is being written."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.json = ""
        self.end = JsonEnd()
        self.stopped = False
        # Deltas came that may be those of another block.
        self.doubtful = False
        self.read: RawCall | None = None
        self.changed = False

    @property
    def is_call(self) -> bool:
        """Whether it is a call of one of our tools."""
        return self.body.get("type") == "tool_use"

    @property
    def arguments(self) -> Any:
        """The input: an object, or text where it cannot be read as one."""
        if self.doubtful:
            return _DOUBTFUL
        if not self.json.strip():
            return self.body.get("input") or {}
        try:
            found = json.loads(self.json)
        except (ValueError, RecursionError):
            return self.json
        return found if is_dict(found) else self.json

    def raw(self) -> dict[str, Any]:
        """Return the block with its input as it came."""
        return {**self.body, "input": self.arguments}

    def whole(self) -> dict[str, Any]:
        """Return the block as the API sends it in a message."""
        if "input" not in self.body and not self.is_call:
            return self.body
        # An input has to be an object; Anthropic's own word for one that cannot be read.
        return {**self.body, "input": arguments.as_object(self.arguments)}


@final
class MessagesAssembler(Assembler):
    """The events of a message, from the raw stream or from the SDK's wrapper round it."""

    def __init__(self, read: Callable[[Any], RawCall]) -> None:
        """Read a whole `tool_use` block with `read`."""
        super().__init__()
        self._read = read
        self._message: dict[str, Any] = {"type": "message", "role": "assistant"}
        self._blocks: list[_Block] = []
        self._open: list[_Block] = []
        # Calls that have not been said to be complete.
        self._unended: list[_Block] = []
        # The blocks that began at an index.
        self._at: dict[object, list[_Block]] = {}

    def feed(self, event: Any) -> Iterator[Progress]:
        """Take an event; raise DagexecError for one that carries an error."""
        kind = text(event, "type")
        if kind == "error" or (not kind and get(event, "error") is not None):
            self.recognised = True
            raise stream_error(get(event, "error", event))
        known = kind.startswith(("message_", "content_block_")) or kind in _REPEATED
        self.recognised = self.recognised or known
        if kind == "message_start":
            self._message |= plain(get(event, "message")) or {}
        elif kind == "message_delta":
            yield from self._on_end(event)
        elif kind == "content_block_start":
            yield from self._on_start(event)
        elif kind.startswith("content_block_"):
            yield from self._on_block(kind, event)

    def _on_start(self, event: Any) -> Iterator[Progress]:
        body = plain(get(event, "content_block"))
        if not is_dict(body):
            return
        # That the model went on shows that the blocks before are whole, not cut off.
        yield from self._look_again()
        self.shortened = self.shortened or body.get("type") == "compaction"
        block = _Block(dict(body))
        self._blocks.append(block)
        self._open.append(block)
        self._at.setdefault(get(event, "index"), []).append(block)
        if block.is_call:
            self._unended.append(block)
            yield Begun(block, said(block.body, "id"))

    def _on_block(self, kind: str, event: Any) -> Iterator[Progress]:
        found = self._owners(get(event, "index"), stop=kind == "content_block_stop")
        delta = get(event, "delta")
        if len(found) > 1:
            # A gateway's second block at one index, and nothing says whose this is.
            for block in found if kind == "content_block_delta" else ():
                block.doubtful = block.doubtful or block.is_call
            return
        for block in found:
            if kind == "content_block_stop":
                block.stopped = True
                self._open.remove(block)
            else:
                _add(block, delta)
            yield from self._look(block)

    def _owners(self, index: Any, *, stop: bool) -> list[_Block]:
        """Return the blocks that an event at an index can be about."""
        open_ = self._open
        here = self._at.get(index, [])
        mine = [block for block in here if not block.stopped]
        if mine or stop:
            return mine[-1:] if stop else mine
        if here:  # behind the end of its block: more of it, unless it can be another's
            return [here[-1], *open_]
        return list(open_) or self._blocks[-1:]

    def _look(self, block: _Block) -> Iterator[Progress]:
        """Say that a call is complete if it is, as far as can be seen."""
        if not block.is_call or block.doubtful:
            return
        if block.end.closed:
            yield from self._written(block, ended=block.stopped)
        elif block.stopped and not block.json.strip():
            yield Written(block, self._read(block.raw()), sure=False, ended=False)

    def _look_again(self) -> Iterator[Progress]:
        """Take calls that have stopped for complete, though their input is no closed object."""
        waiting, self._unended = self._unended, []
        for block in waiting:
            if block.stopped:
                yield from self._written(block, ended=True)
            else:
                self._unended.append(block)

    def _written(self, block: _Block, *, ended: bool) -> Iterator[Progress]:
        if block.read is None or block.changed:
            block.changed, block.read = False, self._read(block.raw())
        yield Written(block, block.read, ended=ended)

    def _on_end(self, event: Any) -> Iterator[Progress]:
        delta = plain(get(event, "delta"))
        if is_dict(delta):
            self._message |= {name: value for name, value in delta.items() if value is not None}
        usage = plain(get(event, "usage"))
        if is_dict(usage):
            # Cumulative: they take the place of what the start said.
            known: dict[str, Any] = self._message.get("usage") or {}
            self._message["usage"] = known | {k: v for k, v in usage.items() if v is not None}
        reason = said(self._message, "stop_reason")
        self.ended = bool(reason)
        if is_good_end("messages", reason):
            for block in self._blocks:
                block.stopped = True
            yield from self._look_again()

    def being_written(self) -> tuple[object, str, str] | None:
        """Return the call that is written now."""
        block = self._open[-1] if self._open else None
        if block is None or not block.is_call or block.doubtful:
            return None
        return block, said(block.body, "name"), block.json

    def keys(self) -> list[object] | None:
        """Return the blocks that are calls."""
        return [block for block in self._blocks if block.is_call]

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return a `message`."""
        if not self.recognised:
            return None
        if given is None:
            found = {**self._message, "content": [block.whole() for block in self._blocks]}
            return mended(found)
        last = max((at for at, block in enumerate(self._blocks) if block in given), default=-1)
        kept = [
            block
            for block in self._blocks[: last + 1]
            if block in given or (block.stopped and not block.is_call)
        ]
        kept += [block for block in self._blocks[last + 1 :] if block.body.get("type") == "text"]
        message = {**self._message, "content": [block.whole() for block in kept]}
        message["stop_reason"] = None
        return mended(message)


def _add(block: _Block, delta: Any) -> None:
    """Add a delta to its block, also one of a kind that came after this was written."""
    if text(delta, "type") == "input_json_delta":
        piece = get(delta, "partial_json", "")
        piece = piece if isinstance(piece, str) else json.dumps(plain(piece))
        block.json += piece
        block.changed = True
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
