"""Calls from a reply that is still being written.

An `Assembler` knows one API's events: it puts the reply together and says when a call begins and
when its arguments are complete. `CallStream` numbers the calls and hands them out.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Protocol, TypeAlias, final

from dagexec import Call, DagexecError, Executor
from planners._core.call_log import CallLog, CallRecord, RawCall
from planners._core.edge import worded
from planners._core.reply_stream import ReplyStream, ended_early, events_of

_STRUCTURE: Final = re.compile(r'["{}\[\]]')
_STRING: Final = re.compile(r'["\\]')

# Characters that a `JsonEnd` keeps unread at most: a long text is not copied with each piece.
_LOOK: Final = 500

_RAW: Final = tuple(each.name for each in fields(RawCall))

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
    """A call that had begun is complete, as far as can be seen; it may come again, with more.

    One that is not `sure` has ended without arguments, which may be all of it or the place where a
    reply was cut off: it counts if it can run as it is. One that is not `ended` looks complete,
    because its JSON has closed, and nothing has said so yet: enough for a call that may run twice.
    """

    key: object
    raw: RawCall
    sure: bool = True
    ended: bool = True


Progress: TypeAlias = Begun | Written


class Assembler(ABC):
    """Puts a reply together from the events of one API."""

    def __init__(self) -> None:
        """Start with nothing."""
        # Whether the reply has said why it ended; a stream may still have more to say then.
        self.ended = False
        # Whether any event was one of this API.
        self.recognised = False
        # Whether the model lost sight of earlier calls, as far as can be seen by now.
        self.shortened = False

    @abstractmethod
    def feed(self, event: Any) -> Iterable[Progress]:
        """Take one event, an SDK's object or a dict; raise DagexecError for an error event."""

    def being_written(self) -> tuple[object, str, str] | None:
        """Return what the model writes now: a key, the tool's name, and its arguments so far."""
        return None

    def keys(self) -> list[object] | None:
        """Return the keys of the calls of `response()`, in its order; None where they are all."""
        return None

    @abstractmethod
    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return the reply in its API's form, or None where nothing has arrived.

        Of a reply that broke off, `given` are the keys of its complete calls: the others, and what
        else cannot stand in a conversation, are left out.
        """


@final
class Replayed(Assembler):
    """A reply that another assembler has put together; its events are what was `heard` of it."""

    def __init__(self, response: dict[str, Any], *, shortened: bool) -> None:
        """Take the reply as it was put together."""
        super().__init__()
        self.shortened = shortened
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

    Text that does not begin with a brace has no end that can be seen: it is never `closed`. Nor is
    `{}`, behind which some servers send the real object.
    """

    __slots__ = ("_begun", "_depth", "_empty", "_escaped", "_hollow", "_inside", "_kept", "closed")

    def __init__(self) -> None:
        """Begin before the first character."""
        self.closed = False
        self._hollow = False
        self._begun = False
        self._empty = True
        self._depth = 0
        self._inside = False
        self._escaped = False
        # Pieces that cannot have closed anything.
        self._kept = ""

    @property
    def hollow(self) -> bool:
        """Whether it would be closed if it was not empty."""
        if self._kept:
            self.feed("", now=True)
        return self._hollow

    def feed(self, text: str, *, now: bool = False) -> bool:
        """Take a piece; return whether the object is closed by now."""
        if self._depth < 0 or self.closed:
            return self.closed
        if "}" not in text and not now and len(self._kept) < _LOOK:
            self._kept += text
            return False
        text, self._kept = self._kept + text, ""
        at, end = 0, len(text)
        while at < end and not self.closed:
            if self._inside:
                at = self._in_string(text, at)
            elif self._begun:
                at = self._outside(text, at)
            elif text[at].isspace():
                at += 1
            elif text[at] == "{":
                self._begun = True
            else:
                self._depth = -1
                break
        return self.closed

    def _outside(self, text: str, at: int) -> int:
        found = _STRUCTURE.search(text, at)
        if found is None:
            return len(text)
        char = found.group()
        if char == '"':
            self._inside, self._empty = True, False
        else:
            self._depth += 1 if char in "{[" else -1
            self.closed = self._depth == 0 and not self._empty
            self._hollow = self._depth == 0 and self._empty
            self._begun = self._depth != 0 or self.closed
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


SAID_TWICE: Final = (
    "Not valid: the reply gave a call two sets of arguments, one after the other, and this call ran"
    " on the first or needs one that did. Write it again."
)


class Companion(Protocol):
    """Sees calls while they are written, and has work of its own beside the run of a stream."""

    def see(self, key: object, name: str, text: str) -> None:
        """Take the first call of a reply while it is written: its tool and its arguments so far."""
        ...

    def accompany(self, executor: Executor, /) -> Callable[[], Awaitable[object]] | None:
        """Return what goes on beside the run, until that ends."""
        ...


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
        is_shortened: Callable[[Any], bool],
        on_event: Callable[[Any], object] | None = None,
        companion: Companion | None = None,
    ) -> None:
        """Read nothing yet."""
        self._companion = companion
        super().__init__(source, events_of(source, refused), on_event)
        self._assembler = assembler
        self._log = log
        self._read = read
        self._refused = refused
        self._is_shortened = is_shortened
        self._records: dict[object, CallRecord] = {}
        self._given: dict[int, Call] = {}
        # Of each call in turn: its place, and its id when it begins, or what was read of it.
        self._heard: list[tuple[int, str | RawCall, bool]] = []
        # How many calls had begun before each.
        self._places: dict[object, int] = {}

    @property
    def heard(self) -> list[Any]:
        """What was said of the calls, in order: where each began, and as what it was read."""
        return [
            {"call": at, "begun": said}
            if isinstance(said, str)
            else {"call": at, "written": {n: getattr(said, n) for n in _RAW}, "sure": sure}
            for at, said, sure in self._heard
        ]

    def accompany(self, executor: Executor) -> Callable[[], Awaitable[object]] | None:
        """Return what goes on beside the run of these calls; None for nothing."""
        return None if self._companion is None else self._companion.accompany(executor)

    # -------------------------------------------------------------------------------- its own parts

    def _begin(self) -> None:
        self._log.begin()

    def _take(self, event: Any) -> None:
        for progress in self._assembler.feed(event):
            if self._assembler.shortened:
                self._log.shorten()
            if isinstance(progress, Begun):
                self._places[progress.key] = at = len(self._places)
                self._heard.append((at, progress.id, True))
                self._records[progress.key] = self._log.place(progress.id)
            else:
                self._on_written(progress)
        if not self._assembler.recognised:
            raise self._refused(event)
        # What comes before a call in the reply may write what it reads.
        if (
            self._companion is not None
            and (found := self._assembler.being_written()) is not None
            and self._places.get(found[0], len(self._places)) == 0
        ):
            self._companion.see(*found)

    def _on_written(self, written: Written) -> None:
        record, raw = self._records[written.key], written.raw
        if record.number in self._given:
            return  # the end of the reply says whether that was all
        if not written.ended and not self._log.may_run_twice(raw):
            return  # it could not start before the end: what comes until then counts
        self._heard.append((self._places[written.key], raw, written.sure))
        self._give(record, raw, sure=written.sure)

    def _give(self, record: CallRecord, raw: RawCall, *, sure: bool = True) -> None:
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
        if self._is_shortened(self.response):
            self._log.shorten()
        raws = self._read(self.response) if self.response is not None else []
        for record, raw in zip(self._ordered(raws), raws, strict=True):
            if record.number not in self._given:
                self._give(record, raw)
            else:
                self._confirm(record, raw)

    def _ordered(self, raws: Sequence[RawCall]) -> list[CallRecord]:
        """Return the records of the calls of the whole reply; the others are void."""
        records = list(self._records.values())
        keys = self._assembler.keys()
        if keys is not None and len(keys) == len(raws):
            found = [self._records.get(key) for key in keys]
        else:
            found = [*records[: len(raws)], *[None] * (len(raws) - len(records))]
        there = {record.number for record in found if record is not None}
        for record in records:
            if record.number not in there:
                record.void = True
                if record.number in self._given:  # the reply goes on in another: none counts
                    self.broken = self.broken or "the reply is not over: it goes on in the next one"
        return [
            self._log.place(raw.id) if record is None else record
            for record, raw in zip(found, raws, strict=True)
        ]

    def _confirm(self, record: CallRecord, raw: RawCall) -> None:
        """Compare a call that was handed out with what the reply says of it now."""
        # An id that came late or a repeat is as it was; the rest is the reply's last word.
        known, record.raw = record.raw, replace(raw, id=raw.id or record.raw.id)
        if self._given[record.number].problem is not None:
            return
        if raw.problem is not None:
            record.problem = self.broken = raw.problem
        elif not known.says_the_same(raw):
            self._take_back(record)

    def _take_back(self, record: CallRecord) -> None:
        """Refuse a call that was handed out with less than the reply says of it now.

        What it and those that refer to it have given counts no longer, and no other call starts.
        """
        self.broken = SAID_TWICE
        taken = {record.id}
        for call in self._given.values():
            if not taken.isdisjoint((call.id, *call.needs, *call.waits)):
                taken.add(call.id)
        for each in self._records.values():
            if each.id in taken:
                each.problem = each.verdict = SAID_TWICE
                each.taken_back = True

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
    return DagexecError(f"the API ended the stream with an error{worded(error)}")
