"""Calls from a reply that is still being written.

An `Assembler` knows one API's events: it puts the reply together and says when a call begins and
when its arguments are complete. `CallStream` numbers the calls and hands them out.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Collection, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias, final

from dagexec import Call, DagexecError
from planners._core.call_log import CallLog, RawCall, Record
from planners._core.edge import get
from planners._core.reply_stream import ReplyStream, ended_early, events_of

_STRUCTURE: Final = re.compile(r'["{}\[\]]')
_STRING: Final = re.compile(r'["\\]')

Read: TypeAlias = "Callable[[Any], list[RawCall]]"


@final
@dataclass(frozen=True, slots=True)
class Begun:
    """The model has begun to write a call; `key` is the assembler's name for it."""

    key: object
    id: str


@final
@dataclass(frozen=True, slots=True)
class Written:
    """A call that had begun is complete.

    One that is not `sure` has ended without arguments, which may be all of it or the place where a
    reply was cut off: it counts if it can run as it is.
    """

    key: object
    raw: RawCall
    sure: bool = True


Progress: TypeAlias = Begun | Written


class Assembler(ABC):
    """Puts a reply together from the events of one API."""

    def __init__(self) -> None:
        """Start with nothing."""
        # Whether the reply has said why it ended; a stream may still have more to say then.
        self.ended = False
        # Whether any event was one of this API.
        self.recognised = False

    @abstractmethod
    def feed(self, event: Any) -> Iterable[Progress]:
        """Take one event, an SDK's object or a dict; raise DagexecError for an error event."""

    @abstractmethod
    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return the reply in its API's form, or None where nothing has arrived.

        Of a reply that broke off, `given` are the keys of its complete calls: the others, and what
        else cannot stand in a conversation, are left out.
        """


@final
class Replayed(Assembler):
    """A reply that another assembler has put together; its events are what was `heard` of it."""

    def __init__(self, response: dict[str, Any]) -> None:
        """Take the reply as it was put together."""
        super().__init__()
        self.ended = self.recognised = True
        self._response = response

    def feed(self, event: Any) -> Iterable[Progress]:
        """Take one item of `CallStream.heard`."""
        key = event["call"]
        if "begun" in event:
            return (Begun(key, event["begun"]),)
        return (Written(key, RawCall(**event["written"]), event["sure"]),)

    def response(self, given: Collection[object] | None = None) -> dict[str, Any]:
        """Return the reply; of one that broke off, what was kept of it."""
        del given
        return self._response


@final
class JsonEnd:
    """Finds the character that closes a JSON object, in text that comes in pieces.

    Text that does not begin with a brace has no end that can be seen: it is never `closed`.
    """

    __slots__ = ("_begun", "_depth", "_escaped", "_inside", "closed")

    def __init__(self) -> None:
        """Begin before the first character."""
        self.closed = False
        self._begun = False
        self._depth = 0
        self._inside = False
        self._escaped = False

    def feed(self, text: str) -> bool:
        """Take a piece; return whether the object is closed by now."""
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
            if self._begun and text[0] != "{":
                self._depth = -1
        if self._depth < 0 or self.closed:
            return self.closed
        at = 0
        while at < len(text) and not self.closed:
            at = self._in_string(text, at) if self._inside else self._outside(text, at)
        return self.closed

    def _outside(self, text: str, at: int) -> int:
        found = _STRUCTURE.search(text, at)
        if found is None:
            return len(text)
        char = found.group()
        if char == '"':
            self._inside = True
        else:
            self._depth += 1 if char in "{[" else -1
            self.closed = self._depth == 0
        return found.end()

    def _in_string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _STRING.search(text, at)
        if found is None:
            return len(text)
        self._escaped = found.group() == "\\"
        self._inside = self._escaped
        return found.end()


@final
class CallStream(ReplyStream):
    """The calls of a reply that is being written; each as soon as its arguments are complete.

    Goes into `executor.run`. It reads the SDK's stream to its end and closes it. When it has ended,
    `response` is the whole reply as a dict in its API's form, for `planner.reply(response)`. When
    it broke off, or was closed before its end, `response` holds what was complete; None if there
    was nothing.

    `broken` says why the calls of a reply must not go on although the stream came to an end: the
    provider cut the reply off. The executor then starts nothing more. `whole` says whether the
    reply has come to its end.

    Raises what the SDK's stream raises, and DagexecError where the stream ends before the reply
    does, or is no stream of this API.
    """

    def __init__(
        self,
        source: AsyncIterable[Any] | Iterable[Any],
        assembler: Assembler,
        log: CallLog,
        *,
        read: Read,
        refused: Callable[[object], DagexecError],
        on_event: Callable[[Any], object] | None = None,
    ) -> None:
        """Read nothing yet."""
        super().__init__(source, events_of(source, refused), on_event)
        self._assembler = assembler
        self._log = log
        self._read = read
        self._refused = refused
        self._records: dict[object, Record] = {}
        self._given: dict[int, Call] = {}
        # How many calls had begun before each.
        self._places: dict[object, int] = {}

    # -------------------------------------------------------------------------------- its own parts

    def _begin(self) -> None:
        self._log.begin()

    def _take(self, event: Any) -> None:
        for progress in self._assembler.feed(event):
            if isinstance(progress, Begun):
                self._places[progress.key] = at = len(self._places)
                self.heard.append({"call": at, "begun": progress.id})
                self._records[progress.key] = self._log.place(progress.id)
            else:
                raw = {each.name: getattr(progress.raw, each.name) for each in fields(RawCall)}
                at = self._places[progress.key]
                self.heard.append({"call": at, "written": raw, "sure": progress.sure})
                self._give(self._records[progress.key], progress.raw, sure=progress.sure)
        if not self._assembler.recognised:
            raise self._refused(event)

    def _give(self, record: Record, raw: RawCall, *, sure: bool = True) -> None:
        if record.number in self._given:
            return
        call = self._log.fill(record, raw)
        if call.problem is not None and not sure:
            return  # the end of the reply says more
        self._given[record.number] = call
        self._ready.append(call)

    def _finish(self) -> None:
        """Take what the end of the reply says of its calls."""
        if not self._assembler.ended:
            raise ended_early()
        self._over = self.whole = True
        self.response = self._assembler.response()
        raws = self._read(self.response) if self.response is not None else []
        records = list(self._records.values())
        records += [self._log.place(raw.id) for raw in raws[len(records) :]]
        for record, raw in zip(records, raws, strict=False):
            if record.number not in self._given:
                self._give(record, raw)
            else:
                self._confirm(record, raw)
        for record in records[len(raws) :]:  # the reply goes on in another: none of these counts
            record.void = True
            self.broken = self.broken or "the reply is not over: it goes on in the next one"

    def _confirm(self, record: Record, raw: RawCall) -> None:
        """Compare a call that was handed out with what the whole reply says of it."""
        # An id that came late or a repeat is as it was; the rest is the reply's last word.
        record.raw = replace(raw, id=raw.id or record.raw.id)
        if raw.problem is not None and self._given[record.number].problem is None:
            record.problem = raw.problem
            self.broken = raw.problem

    def _break(self) -> None:
        for record in self._records.values():
            record.void = record.number not in self._given
        given = [key for key, record in self._records.items() if not record.void]
        self.response = self._assembler.response(given)
        raws = self._read(self.response) if self.response is not None else []
        kept = [record for record in self._records.values() if not record.void]
        for record, raw in zip(kept, raws, strict=False):
            record.raw = raw


def stream_error(error: Any) -> DagexecError:
    """Return the error that a stream carries as an event."""
    kind = get(error, "code") or get(error, "type")
    message = get(error, "message") or str(error)
    named = f" ({kind})" if kind else ""
    return DagexecError(f"the API ended the stream with an error{named}: {message}")
