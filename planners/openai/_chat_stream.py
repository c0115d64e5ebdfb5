"""Chat Completions' chunks, put together.

A fragment of a call should carry the index of its call, and the first one its id and name. Servers
leave each of them out, send "null" for it, give all calls one index or each fragment another id; so
a fragment is assigned by all three, and by whether the call that it may belong to is complete.
Nothing says when the arguments of a call are: they look complete when their JSON object has closed,
and are when the next call begins or the reply has said why it ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, final

from planners._core.call_log import RawCall
from planners._core.edge import (
    fields_of,
    get,
    is_dict,
    is_list,
    listed,
    mended,
    plain,
    text,
    word,
)
from planners._core.servers import is_good_end, worst_end
from planners._core.stream import Assembler, Begun, JsonEnd, Progress, Written, stream_error
from planners.openai._parts import merge

# The events that the SDK's `stream()` adds to the chunks; they say the same once more.
_WRAPPER: Final = ("content.", "refusal.", "tool_calls.", "logprobs.")
_KINDS: Final = {"function": "arguments", "custom": "input"}
_HEAD: Final = ("id", "created", "model", "usage", "service_tier", "system_fingerprint")
_CHOICE: Final = ("index", "delta", "message", "finish_reason")
_DELTA: Final = ("content", "refusal", "tool_calls", "function_call")
_FRAGMENT: Final = ("index", "id", "function", "custom")
_KNOWN: Final = (*_HEAD, "choices", "error", "object", "type")
# Of a fragment; what else it has goes back with its call.
_OWN: Final = frozenset({"index", "id", "type", *_KINDS})
_NOTHING_MORE: Final = frozenset({"role", "tool_calls"})
_SAID: Final = frozenset({"name", *_KINDS.values()})


@final
class _Call:
    """A call of a chat message that is being written."""

    def __init__(self) -> None:
        self.id = ""
        self.kind = "function"
        self.name = ""
        self.pieces: list[str] = []
        self.rest: dict[str, Any] = {}
        self.inner: dict[str, Any] = {}
        self.end = JsonEnd()
        # What was handed out last, and whether anything came after that.
        self.read: RawCall | None = None
        self.fresh = False
        # Whether it was handed out as one that is over.
        self.ended = False

    @property
    def arguments(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""

    @property
    def is_closed(self) -> bool:
        """Whether it is complete if nothing more comes."""
        return self.end.closed or self.end.hollow

    @property
    def is_ghost(self) -> bool:
        """Whether nothing was ever said of it but what belongs to another."""
        return not self.name and not self.arguments.strip()

    def body(self) -> dict[str, Any]:
        """Return the call as the API sends it in a message."""
        inner = {**self.inner, "name": self.name, _KINDS[self.kind]: self.arguments}
        return {"id": self.id, "type": self.kind, **self.rest, self.kind: inner}

    def add(self, fragment: dict[str, Any], id_: str, name: str, piece: str) -> bool:
        """Take a fragment; return whether the call looks complete and did not before."""
        self.id = self.id or id_
        if fragment.get("custom") is not None:
            self.kind = "custom"
        if name and name != self.name:  # some servers send the whole name with every fragment
            self.name += name
        self.fresh = True
        inner = fragment.get(self.kind)
        if is_dict(inner) and not _SAID.issuperset(inner):
            merge(self.inner, inner, leave=_SAID)
        if not _OWN.issuperset(fragment):
            merge(self.rest, fragment, leave=_OWN)
        if piece:
            self.pieces.append(piece)
        closed = self.end.feed(piece) if piece else self.end.closed
        return closed and self.read is None and self.kind == "function" and bool(self.name)


@final
class ChatAssembler(Assembler):
    """The chunks of a completion; of several choices the first, or the first that has calls."""

    def __init__(self, read: Callable[[Any], RawCall], names: Collection[str] = ()) -> None:
        """Read a whole call with `read`; `names` are those of the tools."""
        super().__init__()
        self._read = read
        self._names = names
        self._head: dict[str, Any] = {}
        self._choices: dict[object, _Choice] = {}

    def feed(self, event: Any) -> Iterable[Progress]:
        """Take a chunk, or the SDK's `ChunkEvent` round one; its other events repeat the chunks."""
        chunk = _as_dict(event)
        error, choices = chunk.get("error"), chunk.get("choices")
        self.recognised = self.recognised or (
            is_list(choices)
            or error is not None
            or chunk.get("object") == "chat.completion.chunk"
            or text(chunk, "type").startswith(_WRAPPER)
        )
        if error is not None:
            raise stream_error(error)
        if not is_list(choices):
            return ()
        for name in _HEAD:
            if (found := chunk.get(name)) is not None:
                self._head[name] = found if isinstance(found, str) else plain(found)
        progress: list[Progress] = []
        for choice in choices:
            choice_ = choice if is_dict(choice) else fields_of(choice, _CHOICE)
            self._on_choice(choice_, progress)
        return progress

    def _on_choice(self, choice: dict[str, Any], progress: list[Progress]) -> None:
        into = self._choice(choice.get("index") or 0)
        changed = into.feed(choice)
        if changed and into is self._choices.get(0):
            progress += self._progress(changed)
        if into.reason is not None and not self.ended:
            self.ended = into in (self._first, self._calling())

    def _choice(self, index: object) -> _Choice:
        found = self._choices.get(index)
        if found is None:
            found = self._choices[index] = _Choice(self._names)
        return found

    @property
    def _first(self) -> _Choice | None:
        """The choice whose calls are handed out before the end."""
        return self._choices.get(0)

    def _progress(self, changed: list[tuple[_Call, str]]) -> Iterator[Progress]:
        for call, what in changed:
            if what == "begun":
                yield Begun(call, call.id)
            elif what == "closed":
                call.fresh, call.read = False, self._read(call.body())
                yield Written(call, call.read, ended=False)
            elif call.name and call.is_closed and (call.fresh or not call.ended):
                if call.fresh or call.read is None:
                    call.fresh, call.read = False, self._read(call.body())
                call.ended = True
                yield Written(call, call.read)

    def _calling(self) -> _Choice:
        """Return the choice that has the calls: some servers put the text into another."""
        found = list(self._choices.values())
        first = self._first or (found[0] if found else _Choice(self._names))
        return next((each for each in (first, *found) if each.calls), first)

    def being_written(self) -> tuple[object, str, str] | None:
        """Return the call that is written now."""
        first = self._first
        if first is None or not first.all or first.all[-1].ended:
            return None
        call = first.all[-1]
        return call, call.name, call.arguments

    def keys(self) -> list[object] | None:
        """Return the calls."""
        return list(self._calling().calls)

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return a `chat.completion` with one choice."""
        if not self.recognised:
            return None
        first, calling = self._first or _Choice(self._names), self._calling()
        message = {key: value for key, value in first.message.items() if key != "function_call"}
        calls = [call.body() for call in calling.calls if given is None or call in given]
        if calls:
            message["tool_calls"] = calls
        if given is None and "function_call" in first.message:
            message["function_call"] = first.message["function_call"]
        reason = worst_end("chat", calling.reason, first.reason) if given is None else None
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        found: dict[str, Any] = {"object": "chat.completion", **self._head, "choices": [choice]}
        return mended(found)


@final
class _Choice:
    """One choice of a completion."""

    def __init__(self, names: Collection[str]) -> None:
        self.message: dict[str, Any] = {"role": "assistant", "content": None}
        self.reason: str | None = None
        self.all: list[_Call] = []
        # What is not said of a call that has begun is said of the next one.
        self._next = _Call()
        self._names = names
        # The call that fragments with an index belong to.
        self._at: dict[object, _Call] = {}
        self._ids: dict[str, _Call] = {}

    @property
    def calls(self) -> list[_Call]:
        """The calls, without those that are none."""
        return [call for call in self.all if not call.is_ghost]

    def feed(self, choice: dict[str, Any]) -> list[tuple[_Call, str]]:
        """Take a choice of a chunk; return what became of calls: begun, closed, ended."""
        changed: list[tuple[_Call, str]] = []
        delta = choice.get("delta")
        if not delta and not self.all and self.message["content"] is None:
            delta = choice.get("message")  # the whole message in one chunk, as without a stream
        delta = delta if is_dict(delta) else fields_of(delta, _DELTA)
        parts = delta.get("tool_calls")
        for part in [parts] if is_dict(parts) else listed(parts):
            fragment = part if is_dict(part) else fields_of(part, _FRAGMENT)
            self._fragment(fragment, changed)
        if not _NOTHING_MORE.issuperset(delta):
            merge(self.message, delta, leave=_NOTHING_MORE)
        reason = word(choice.get("finish_reason"))
        if reason and (
            self.reason is None or is_good_end("chat", self.reason)
        ):  # a bad end stays one
            self.reason = reason
            changed += [(call, "ended") for call in self.all]
        return changed

    def _fragment(self, fragment: dict[str, Any], changed: list[tuple[_Call, str]]) -> None:
        inner = fragment.get("custom") or fragment.get("function")
        inner = inner if is_dict(inner) else fields_of(inner, _SAID)
        id_, name = word(fragment.get("id")), word(inner.get("name"))
        piece = inner.get("arguments")
        piece = inner.get("input") if piece is None else piece
        if not isinstance(piece, str):  # some servers send the object itself
            piece = "" if piece is None else json.dumps(plain(piece))
        index = fragment.get("index")
        index = int(index) if isinstance(index, str) and index.isdecimal() else index
        call = self._owner(index, id_, name, piece)
        if call is None and (id_ or name or piece.strip()):
            call, self._next = self._next, _Call()
            if self.all:
                changed.append((self.all[-1], "ended"))
            self.all.append(call)
            call.id = id_
            changed.append((call, "begun"))
        if call is None:  # more about the last one, or about the first that comes
            call = self.all[-1] if self.all else self._next
        elif index is not None:
            self._at[index] = call
        if id_:
            self._ids.setdefault(id_, call)
        if call.add(fragment, id_, name, piece):
            changed.append((call, "closed"))

    def _owner(self, index: Any, id_: str, name: str, piece: str) -> _Call | None:
        """Return the call that a fragment goes on with; None for a new one."""
        if index is not None:
            call = self._at.get(index) or (None if name else self._ids.get(id_))
        else:
            call = self._ids.get(id_) or (self.all[-1] if self.all else None)
        if call is None or self._goes_on(call, id_, name, piece):
            return call
        return None

    def _goes_on(self, call: _Call, id_: str, name: str, piece: str) -> bool:
        """Whether a fragment is more of this call, and not the first of another."""
        if not name:
            return True
        if id_ and call.id and id_ != call.id:
            # A new id and a name: another call, if this one can be over; some servers make an id
            # for each fragment.
            return name == call.name and not call.is_closed
        if name == call.name:
            return not call.end.closed or not piece.strip() or piece == call.arguments
        # The rest of a name, or that of another call.
        known = call.name in self._names and name in self._names
        return not call.arguments.strip() and not known


def _as_dict(event: Any) -> dict[str, Any]:
    """Return a chunk as a dict."""
    if get(event, "choices") is None and get(event, "type") == "chunk":
        event = get(event, "chunk")
    if is_dict(event):
        return event
    if get(event, "choices") is not None:  # all at once: a model is slow to say what it lacks
        event = plain(event)
    return event if is_dict(event) else {name: get(event, name) for name in _KNOWN}
