"""One conversation and one reply of an LLMCompiler planner, as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, final

from dagexec import Call, DagexecError
from dagexec.lowlevel import number_of
from planners._core.call_log import CallLog, CallRecord, RawCall
from planners._core.edge import described
from planners._core.reply_stream import ReplyStream, ended_early, events_of
from planners.llmcompiler._decisions import Decision
from planners.llmcompiler._grammar import Reader
from planners.llmcompiler._items import Item, Join, Mentioned, Numbered, Thought, Unsaid
from planners.llmcompiler._reply_text import piece, refused, whole

SPOILT: Final = (
    "Calls of this reply were thoughts: a closing tag such as </think> stands behind them, and none"
    " opened before. Nothing behind it was read: write the plan again, without thoughts."
)


@dataclass(slots=True, eq=False)
class _Line(CallRecord):
    """A call under the number that the model gave it; 0 where that cannot be its id."""

    label: str = ""

    @property
    def id(self) -> str:
        """The id of the call in its plan."""
        return self.label


@final
class Numbers(CallLog):
    """The calls of a conversation under the model's own numbers."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Begin without calls."""
        super().__init__(*args, **options)
        self.numbered: dict[int, CallRecord] = {}
        self._highest = 0

    @property
    def following(self) -> int:
        """The number that the next call should have."""
        return self._highest + 1

    def begin(self) -> None:
        """Begin a turn; calls of a reply that never went back are forgotten, numbers and all."""
        last = self.last()
        if last and not any(record.answered for record in last):
            self.forget()
        super().begin()

    def adopt(self, count: int) -> None:
        """Number calls from behind `count` earlier ones, which nothing is known of."""
        self._highest = max(self._highest, count)

    def forget(self) -> None:
        """Forget the calls of this turn, numbers and all."""
        last = self.last()
        self.records = [record for record in self.records if record not in last]
        self.numbered = {record.number: record for record in self.records if record.number}
        self._highest = max(self.numbered, default=0)

    def write(self, number: int | None, raw: RawCall) -> CallRecord:
        """Take a call with its number; a number that is taken or missing is a problem of it."""
        if number is not None and number not in self.numbered:
            return self.add(replace(raw, id=str(number)))
        place = len(self.records) + 1
        if number is None:
            return self.add(replace(raw, id=f"line {place}"))
        first = self.numbered[number]
        problem = (
            f"The number {number} is already that of call {number} ({first.raw.name})."
            f" Write this call again with a number of its own, from {self.following} on."
        )
        id_ = f"{number} (again, {place})"
        return self.add(replace(raw, id=id_, arguments=None, problem=problem))

    def add(self, raw: RawCall) -> CallRecord:
        """Take a call that has its id."""
        numbered = raw.id.isdecimal()
        record = _Line(int(raw.id) if numbered else 0, self._turn, raw, label=raw.id)
        self.records.append(record)
        if numbered:
            self.numbered[record.number] = record
            self._highest = max(self._highest, record.number)
        return record

    def known(self, name: str) -> CallRecord | None:
        """Return the call that a reference names."""
        return self.numbered.get(number_of(name) or 0)


@final
class Reply:
    """One reply that is being read: its text, its calls, and what the model decided."""

    def __init__(self, call: Callable[[Numbered], Call], names: Iterable[str] = ()) -> None:
        """Begin; `call` makes a call of a plan from what the model wrote."""
        self._pieces: list[str] = []
        self.calls: list[Call] = []
        self.decided: Decision | None = None
        self.joined = False
        self.cut = False
        self.closed = False
        self.late: list[str] = []
        # What lines that are no calls have for numbers: nothing can refer to them.
        self.lost: dict[str, None] = {}
        # Where the next call without a number may find one that is free.
        self._free = 0
        # Whether a line names a tool before a bracket and was not read as a call.
        self.mentioned = False
        # Whether the model was asked to go on after it, where it has no calls.
        self.urged = False
        # Takes calls back that were thoughts; None where others have them by now.
        self.forget: Callable[[], None] | None = None
        # Whether calls that others have were thoughts: nothing behind them is read.
        self.spoilt = False
        self._call = call
        self._reader = Reader(frozenset(names))

    def feed(self, text: str) -> list[Call]:
        """Take a piece of the text; return the calls that are complete now."""
        self._pieces.append(text)
        return self._take(self._reader.feed(text))

    def close(self) -> list[Call]:
        """Take the end of the text."""
        self.closed = True
        return self._take(self._reader.close())

    @property
    def text(self) -> str:
        """What has arrived of the reply."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def lose(self, label: str, following: int) -> None:
        """Note that a call has no number, but this label, or the one that would have followed."""
        if not label:
            # Until calls are taken back, what is below stays taken.
            self._free = max(self._free, following)
            while str(self._free) in self.lost:
                self._free += 1
            label = str(self._free)
        self.lost[label] = None

    def _take(self, items: Iterable[Item]) -> list[Call]:
        begin = len(self.calls)
        for item in items:
            if self.spoilt:
                break
            if isinstance(item, Unsaid):
                self._unsay()
                begin = min(begin, len(self.calls))
            elif not isinstance(item, Numbered):
                self._note(item)
            elif item.late:
                self.late.append(str(item.number or item.name))
            else:
                self.calls.append(self._call(item))
        return self.calls[begin:]

    def _note(self, item: Join | Decision | Thought | Mentioned) -> None:
        if isinstance(item, Join):
            self.joined = True
        elif isinstance(item, Decision):
            self.decided = self.decided or item
        elif isinstance(item, Mentioned):
            self.mentioned = True
        elif item.label:
            self.lost[item.label] = None

    def _unsay(self) -> None:
        """Take back all that was read; calls that run by now cannot be."""
        if self.calls and self.forget is None:
            self.spoilt = True
            return
        if self.forget is not None:
            self.forget()
        self.lost |= dict.fromkeys(call.id for call in self.calls)
        self.calls, self.late = [], []
        self._free = 0
        self.decided, self.joined = None, False


@final
class TextStream(ReplyStream):
    """The calls of a text plan that is being written, for `executor.run`.

    It reads its source to the end and closes it. Then `response` is the reply as a message of an
    assistant, and `whole` is True; when it broke off, or was closed before its end, it holds what
    had arrived.
    """

    def __init__(
        self,
        begin: Callable[[], Reply],
        source: Any,
        on_event: Callable[[Any], object] | None,
    ) -> None:
        """Read nothing yet; `begin` gives the reply that is read into."""
        super().__init__(source, _events(source), on_event)
        self._make = begin
        self._reply: Reply
        self._ended = False
        self._of_api = False

    def _begin(self) -> None:
        self._reply = self._make()

    def _take(self, event: Any) -> None:
        reply = self._reply
        found = piece(event)
        if found is None:
            msg = (
                f"LLMCompilerPlanner cannot read {described(event)} in a stream: it takes pieces"
                " of text, or the events of an API"
            )
            raise DagexecError(msg)
        self._of_api = self._of_api or not isinstance(event, str)
        self._ended = self._ended or found.ended
        reply.cut = reply.cut or found.cut
        self._ready += reply.feed(found.text)

    def _finish(self) -> None:
        if self._of_api and not self._ended:
            raise ended_early()
        self._ready += self._reply.close()
        self._over = self.whole = True
        self.response = _said(self._reply)
        if self._reply.spoilt:
            self.broken = SPOILT

    def _break(self) -> None:
        self.response = _said(self._reply) if self._reply.text else None


def _said(reply: Reply) -> dict[str, Any]:
    said = {"role": "assistant", "content": reply.text}
    return {**said, "stop_reason": "max_tokens"} if reply.cut else said


def _events(source: Any) -> Any:
    """Return an iterator over the pieces of a source; raise DagexecError for anything else."""
    if _is_whole(source) and not hasattr(source, "__aiter__"):
        return iter([whole(source).text])  # a whole reply is a stream of one piece
    return events_of(source, refused)


def _is_whole(source: object) -> bool:
    return isinstance(source, str | dict) or hasattr(source, "model_dump")
