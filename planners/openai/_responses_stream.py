"""The Responses API's events, put together.

An item has a place (`output_index`), an id, and a call also a `call_id`. Servers leave out the
place or the id, give events other ids than items, and send deltas before the item or behind its
end; so an item is known by all three. `output_item.done` says what an item is, `response.completed`
what the whole response is: where they differ from what came before, the last one counts.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, final

from planners._core.call_log import RawCall
from planners._core.edge import (
    fields_of,
    get,
    is_dict,
    is_list,
    mended,
    plain,
    said,
    shallow,
    text,
    word,
)
from planners._core.stream import Assembler, Begun, JsonEnd, Progress, Written, stream_error
from planners.openai._client_items import is_client_item, waiting
from planners.openai._items import CALLS, arguments_of, is_call

_ENDS: Final = {"response.completed": "completed", "response.incomplete": "incomplete"}
_FAILED: Final = {
    "response.failed": "the response failed",
    "response.cancelled": "the response was cancelled",
}
_ON_DELTA: Final = frozenset({"piece", "text", "whole"})
_ON_ITEM: Final = frozenset({"item", "item done"})
_KNOWN: Final = (
    *("type", "response", "item", "output_index", "item_id", "delta", "error"),
    *("arguments", "input", "name", "call_id"),
)
_UNENDED: Final = (None, "", "in_progress", "queued")


@lru_cache(maxsize=256)
def _meaning(kind: str) -> str:
    """Return what an event of a kind is about."""
    found = "response"
    if kind == "error":
        found = "error"
    elif not kind.startswith("response."):
        found = "nothing" if kind in ("keepalive", "ping") else "unknown"
    elif kind.startswith("response.output_item."):
        found = "item done" if kind.endswith(".done") else "item"
    elif kind.endswith(("output_text.delta", "refusal.delta")):
        found = "text"
    elif kind.endswith(".delta") and ("arguments" in kind or "input" in kind):
        found = "piece"
    elif kind.endswith(".done"):
        found = "whole"
    elif kind.endswith((".delta", ".added")):
        found = "nothing"
    return found


@final
class _Item:
    """An output item that is being written."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {}
        # The field that deltas add to, of a call.
        self.name: str | None = None
        self.end = JsonEnd()
        self.begun = False
        # An event has said where it stands.
        self.placed = False
        # The API has said its last word on it.
        self.whole = False
        # Its arguments are complete, as an event of theirs says.
        self.said_all = False
        # Deltas came that may be those of another item.
        self.doubtful = False
        self.read: RawCall | None = None
        # Whether it was handed out as one that is whole.
        self.told = False

    def take(self, body: dict[str, Any]) -> None:
        """Take another form of the item; what it leaves out was said before."""
        self.name = name = CALLS.get(str(body.get("type") or self.body.get("type")))
        kept = {key: value for key, value in body.items() if value not in (None, "")}
        if name and name in body and not isinstance(body[name], str):
            kept[name] = json.dumps(body[name]) if body[name] is not None else ""
        if name and not str(kept.get(name) or "").strip():
            kept.pop(name, None)
        self.body = {**body, **self.body, **kept}


@final
class ResponsesAssembler(Assembler):
    """The events of a response."""

    def __init__(self, read: Callable[[Any], RawCall | None]) -> None:
        """Read a whole item with `read`."""
        super().__init__()
        self._read = read
        self._response: dict[str, Any] = {}
        self._items: list[_Item] = []
        self._at: dict[object, list[_Item]] = {}
        self._ids: dict[str, _Item] = {}
        # Deltas of items that have not been added.
        self._early: dict[object, list[Any]] = {}
        # An item that looks complete: the next event may be the one that says what it is.
        self._due: _Item | None = None

    def feed(self, event: Any) -> Iterable[Progress]:
        """Take an event; those that are not about calls only help to put the response together."""
        event = shallow(event, _KNOWN)
        due, self._due = self._due, None
        if due is None:
            return self._fed(event)
        if event.get("type") == "response.incomplete" or (
            get(event.get("item"), "status") == "incomplete"
        ):  # a cut has no more to say of it
            return [*self._look(due, whole=False), *self._fed(event)]
        after = list(self._fed(event))
        if self._is_due(due) or due.whole:
            return after
        return [*self._look(due, whole=False), *after]

    def _is_due(self, item: _Item) -> bool:
        return self._due is item

    def _fed(self, event: dict[str, Any]) -> Iterable[Progress]:
        kind = event.get("type") or ""
        found = _meaning(kind)
        if found == "error":
            self.recognised = True
            raise stream_error(event.get("error") or event)
        self.recognised = self.recognised or found != "unknown"
        if found in _ON_DELTA:
            return self._on_delta(kind, found, event)
        if found in _ON_ITEM:
            return self._on_item(event, done=found == "item done")
        response = event.get("response") if found == "response" else None
        if response is not None:
            self._response = dict(fields_of(response, ("status", "output", "error")))
        if kind in _FAILED:
            raise stream_error(get(response, "error", _FAILED[kind]))
        return self._on_end(_ENDS[kind]) if kind in _ENDS else ()

    def _on_end(self, status: str) -> Iterator[Progress]:
        """Take the whole response, if it says what it is made of."""
        self.ended = True
        if self._response.get("status") in _UNENDED:
            self._response["status"] = status
        output = self._response.get("output")
        waiting = dict.fromkeys(self._items)
        for body in output if is_list(output) else ():
            if not is_dict(body):
                continue
            sure = (self._ids.get(id_) for id_ in _ids(body))
            item = next((each for each in sure if each in waiting), None) or next(
                (each for each in waiting if _is_same(each.body, body)), None
            )
            if item is None:
                item = self._add(None, body)
            else:
                del waiting[item]
                item.take(body)
            item.whole, item.doubtful = True, False
        for item in self._items:
            yield from self._look(item, whole=True)

    def _on_item(self, event: dict[str, Any], *, done: bool) -> Iterator[Progress]:
        body = plain(event.get("item"))
        if not is_dict(body):
            return
        if body.get("type") not in CALLS:  # what a message says will grow
            body = copy.deepcopy(body)
        index = event.get("output_index")
        item = self._known(index, body)
        if item is None:
            item = self._add(index, body)
        else:
            item.take(body)
        self.shortened = self.shortened or "compaction" in str(item.body.get("type"))
        self._name(item, index)
        item.whole = item.whole or done
        if done:
            item.doubtful = False
        early = self._early_of(index, item.body) if self._early else ()
        if not item.begun and _is_answered(item.body):
            item.begun = True
            yield Begun(item, said(item.body, "call_id") or said(item.body, "id"))
        for kind, found, delta in early:
            self._into(item, kind, found, delta)
        yield from self._look(item, whole=item.whole)

    def _add(self, index: Any, body: dict[str, Any]) -> _Item:
        item = _Item()
        item.take(body)
        self._items.append(item)
        self._name(item, index)
        return item

    def _early_of(self, index: Any, body: dict[str, Any]) -> list[Any]:
        """Return the deltas that came before their item."""
        return [
            *self._early.pop(("at", index), ()),
            *(each for id_ in _ids(body) for each in self._early.pop(("id", id_), ())),
        ]

    def _name(self, item: _Item, index: Any) -> None:
        if index is not None and item not in self._at.setdefault(index, []):
            self._at[index].append(item)
            item.placed = True
        for id_ in _ids(item.body):
            self._ids.setdefault(id_, item)

    def _known(self, index: Any, body: dict[str, Any]) -> _Item | None:
        """Return the item that a body is another form of."""
        named = [self._ids[id_] for id_ in _ids(body) if id_ in self._ids]
        if index is not None:
            named = [item for item in named if not item.placed]
        elif not named:
            named = [
                item
                for item in self._items
                if not item.whole and not _differ(item.body, body, "id")
            ]
        here = reversed(self._at.get(index, ())) if index is not None else ()
        return next((item for item in (*here, *named) if _can_be(item.body, body)), None)

    def _on_delta(self, kind: str, found: str, event: dict[str, Any]) -> Iterable[Progress]:
        index = event.get("output_index")
        at = self._at.get(index, ()) if index is not None else ()
        item = at[0] if len(at) == 1 else self._ids.get(word(event.get("item_id")))
        if at and item not in at:  # one of several, and nothing says which
            for each in at:
                each.doubtful = not each.whole
            return ()
        if item is None:
            key = ("at", index) if index is not None else ("id", word(event.get("item_id")))
            self._early.setdefault(key, []).append((kind, found, event))
            return ()
        self._into(item, kind, found, event)
        if item.whole:
            return self._look(item, whole=True)
        if item.end.closed or item.said_all:
            self._due = item
        return ()

    @staticmethod
    def _into(item: _Item, kind: str, found: str, event: dict[str, Any]) -> None:
        """Add a delta to its item; behind the item's end it says nothing new."""
        name = item.name
        if item.whole:
            return
        if found == "text":
            _say(item.body, kind, text(event, "delta"))
        elif name is None:
            return
        elif found == "piece":
            piece = event.get("delta") or ""
            piece = piece if isinstance(piece, str) else str(piece)
            item.body[name] = (item.body.get(name) or "") + piece
            item.end.feed(piece)
        elif found == "whole" and event.get(name) is not None:
            item.said_all = True
            last = {key: said(event, key) for key in ("name", "call_id")}
            item.take({"type": item.body["type"], name: arguments_of(event[name]), **last})

    def _look(self, item: _Item, *, whole: bool) -> Iterator[Progress]:
        """Say that a call is complete if it is."""
        if not item.begun or item.doubtful:
            return
        if item.name is None:
            yield from self._look_at_client(item)
            return
        closed = item.end.closed
        if item.body.get("type") == "function_call" and not closed:
            closed = JsonEnd().feed(item.body.get("arguments") or "")
        if not (item.whole or closed) or not item.body.get("name"):
            return
        known = item.read
        name = item.name or ""
        if known is not None and (known.name, known.arguments) == (
            item.body["name"],
            item.body.get(name),
        ):
            if item.whole and whole and not item.told:
                item.told = True
                yield Written(item, known)
            return
        # What has closed is whole, whatever the item's own status was when it was added.
        body = item.body if item.whole else {**item.body, "status": "completed"}
        raw = self._read(body)
        if raw is not None:
            item.read, item.told = raw, item.whole
            yield Written(item, raw, ended=item.whole)

    def _look_at_client(self, item: _Item) -> Iterator[Progress]:
        if item.whole and is_client_item(item.body):
            item.read = item.read or self._read(item.body)
            if item.read is not None:
                yield Written(item, item.read)

    def being_written(self) -> tuple[object, str, str] | None:
        """Return the call that is written now."""
        item = self._items[-1] if self._items else None
        if item is None or item.name is None or item.whole or item.doubtful:
            return None
        found = item.body.get(item.name)
        return item, said(item.body, "name"), found if isinstance(found, str) else ""

    def keys(self) -> list[object] | None:
        """Return the items that are calls."""
        kept = waiting([item.body for item in self._items])
        return [
            item
            for item in self._items
            if is_call(item.body) or (is_client_item(item.body) and item.body in kept)
        ]

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return a `response`; the items of the stream are its output."""
        if not self.recognised:
            return None
        response = {"object": "response", **self._response}
        if given is not None:
            response.pop("status", None)
            response["output"] = self._kept(given)
        else:
            response["output"] = [_ended(item) for item in self._items]
        return mended(response)

    def _kept(self, given: Collection[object]) -> list[dict[str, Any]]:
        """Return the items up to the last complete call, without those that are not complete.

        The server knows nothing of a response that broke off: a reasoning item that does not carry
        its own content cannot be sent back, and what it led to must not name itself. A text that
        broke off is kept where no call follows it.
        """
        last = max((at for at, item in enumerate(self._items) if item in given), default=-1)
        kept = [
            {**item.body, "status": "completed"}
            for item in self._items[: last + 1]
            if item in given or (item.whole and _stands_alone(item.body))
        ]
        kept += [
            {**item.body, "status": "incomplete"}
            for item in self._items[last + 1 :]
            if item.body.get("type") == "message" and item.body.get("content")
        ]
        return [{key: value for key, value in body.items() if key != "id"} for body in kept]


def _is_answered(body: dict[str, Any]) -> bool:
    return is_call(body) or is_client_item(body)


def _ids(body: dict[str, Any]) -> list[str]:
    return [found for name in ("call_id", "id") if (found := said(body, name))]


def _can_be(known: dict[str, Any], body: dict[str, Any]) -> bool:
    """Whether a body can be another form of an item at its place or with its id."""
    return not _differ(known, body, "type", "call_id", "name")


def _differ(known: dict[str, Any], body: dict[str, Any], *names: str) -> bool:
    """Whether two forms of an item both say something, and not the same."""
    both = ((said(known, name), said(body, name)) for name in names)
    return any(one and other and one != other for one, other in both)


def _is_same(known: dict[str, Any], body: dict[str, Any]) -> bool:
    """Whether an item of the whole response is one that events told of."""
    if known.get("type") != body.get("type"):
        return False
    for name in ("call_id", "id"):
        one, other = said(known, name), said(body, name)
        if one and other:
            return one == other
    return True


def _ended(item: _Item) -> dict[str, Any]:
    """Return an item of a response that has ended."""
    body = item.body
    if item.doubtful:
        return {**body, item.name or "": "(parts of two calls, and nothing says of which)"}
    if item.whole or body.get("status") not in _UNENDED:
        return body
    closed = item.end.closed or item.said_all or not is_call(body)
    return {**body, "status": "completed" if closed else "incomplete"}


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
