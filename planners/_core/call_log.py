"""From what a provider's reply says to the calls of a plan.

A `CallLog` numbers the calls, 1, 2, 3 … across all turns, and keeps what became of each, so
that a later turn can refer to an earlier result. Whatever is wrong with a call becomes its
`problem`, a text for the model; nothing that a model writes raises here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

from dagexec import BadReference, Call, Outcome, PlanError, Ref, Tool
from dagexec.lowlevel import (
    MARKS,
    CannotRun,
    EarlierCalls,
    number_of,
    order_conflicts,
    schemas,
    value_at,
    without_faults,
)
from planners._core import arguments
from planners._core.edge import bare, is_dict, mended
from planners._core.placeholders import Placeholders, explained

_SHOWN: Final = 20
_LONGEST: Final = 60  # characters of a name
_COMPARED: Final = 500  # tools that a wrong name is compared with
_LOOKED: Final = 100  # earlier calls among which one of a tool is looked for
_NAMELESS: Final = "(no name)"


@dataclass(frozen=True, slots=True)
class RawCall:
    """A call as the provider sent it.

    `arguments` is JSON text, a dict or None; of a `custom` call it is free text. `echo` goes back
    with the answer. `problem` is set where the reply itself says that the call must not run.
    """

    id: str
    name: str
    arguments: Any
    kind: str = "function"
    echo: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problem: str | None = None
    # Code in the provider's sandbox made it: arguments are data, and a program reads the answer.
    from_code: bool = False

    def says_the_same(self, other: RawCall) -> bool:
        """Whether another form of a call is one of the same tool with the same arguments."""
        if (self.name, self.kind) != (other.name, other.kind):
            return False
        if self.arguments == other.arguments:
            return True
        try:
            known, now = arguments.read(self.arguments), arguments.read(other.arguments)
        except CannotRun:  # free text never is what it was not
            return False
        return known == now


@dataclass(slots=True, eq=False)
class CallRecord:
    """A call of the conversation: its number, its turn, and what became of it."""

    number: int
    turn: int
    raw: RawCall
    repeats: CallRecord | None = None
    problem: str | None = None
    # The call as the plan has it, None for one that cannot run.
    call: Call | None = None
    outcome: Outcome | None = None
    # Of a call that ran once for each item of a list: what became of the items, in order.
    items: tuple[Outcome, ...] = ()
    answered: bool = False
    # The model began to write it and the stream broke off: it is no part of the conversation.
    void: bool = False
    # It ran on arguments that were not the last: what came of it does not count.
    taken_back: bool = False
    # What the model is told in place of the outcome.
    verdict: str | None = None

    @property
    def id(self) -> str:
        """The id of the call in its plan."""
        return str(self.number)


class CallLog(EarlierCalls[CallRecord]):
    """The calls of one conversation, in the order in which the model wrote them."""

    runs_each = True

    def __init__(
        self, tools: Mapping[str, Tool[..., Any]], *, references: bool, placeholders: bool = True
    ) -> None:
        """Begin without calls; `placeholders` says whether arguments that are some are refused."""
        self.records: list[CallRecord] = []
        self._tools = tools
        self._references = references
        self._placeholders = Placeholders(tools) if references and placeholders else None
        self._turn = 0
        # Whether a `Dialogue` keeps the messages that these calls belong to.
        self.owned = False
        # Calls up to this number are out of the model's sight: it may count from 1 again.
        self.hidden = 0
        # Whether the model has seen no number since then.
        self.lost_count = False
        # Whether calls may still follow in the reply that is being read.
        self._growing = False
        # The namespace in which the model has called a tool that does not name its own.
        self._spaces: dict[str, str] = {}
        self._aliases: dict[str, CallRecord] = {}
        self._own: set[str] = set()
        # The number of the first call of this turn.
        self._first = 1
        # Calls of this turn whose tool does not exist: the first ones hear what was meant.
        self._wrong = 0

    def turn(self, raws: Sequence[RawCall], *, shortened: bool = False) -> tuple[Call, ...]:
        """Take the calls of a whole reply; a reply that is read a second time keeps its numbers."""
        last = self.last()
        if not last or last[0].answered or [record.raw for record in last] != list(raws):
            self.begin()
            last = [self.add(raw) for raw in raws]
        if shortened:
            self.shorten()
        calls = without_faults([self.call(record) for record in last])
        for record, call in zip(last, calls, strict=True):
            record.problem = call.problem
        return tuple(order_conflicts(calls, self._tools))

    def hide(self, number: int) -> None:
        """Take calls up to a number for out of the model's sight: nothing can refer to them."""
        if number > self.hidden:
            self.hidden, self.lost_count = number, True

    def shorten(self) -> None:
        """Take all calls before this turn for out of the model's sight."""
        self.hide(max((each.number for each in self.records if each.turn < self._turn), default=0))

    @property
    def next_number(self) -> str:
        """A text for the model that has lost count."""
        return (
            "Earlier parts of the conversation are out of your sight. The numbers of your calls go"
            f" on all the same: your next call is call {len(self.records) + 1}."
        )

    def adopt(self, count: int) -> None:
        """Number calls from behind `count` earlier ones, which nothing is known of."""
        for number in range(len(self.records) + 1, count + 1):
            raw = RawCall("", "an earlier call", None)
            self.records.append(CallRecord(number, 0, raw, answered=True))

    @property
    def number_of_turn(self) -> int:
        """The turn that goes on, counted from 1; 0 before the first."""
        return self._turn

    def begin(self) -> None:
        """Begin a turn without calls."""
        self._turn += 1
        self._own = set()
        self._wrong = 0
        self._first = len(self.records) + 1

    def add(self, raw: RawCall) -> CallRecord:
        """Number a call."""
        record = self.place(raw.id)
        record.raw = raw
        return record

    def place(self, id_: str) -> CallRecord:
        """Number a call that the model has begun to write; its id may still be unknown ("")."""
        record = CallRecord(len(self.records) + 1, self._turn, RawCall(id_, "", None))
        self.records.append(record)
        self._claim(record)
        return record

    def fill(self, record: CallRecord, raw: RawCall) -> Call:
        """Return a call whose arguments have arrived; others of its reply may still follow."""
        known, record.raw = record.raw.id, raw
        if raw.id != known:
            self._claim(record)
        call = self.call(record, complete=False)
        record.problem = call.problem
        return call

    def judge(self, records: Sequence[CallRecord]) -> None:
        """Give calls that were taken before all of their reply was there their verdicts.

        A reference to what never came is known at the end only; the model hears of it as in a reply
        that came whole.
        """
        now = [each for each in records if each.turn == self._turn and not each.answered]
        if not any(_is_lost(each) for each in now):
            return
        self._wrong = 0
        kept = [each.call for each in now]
        calls = without_faults([self.call(each) for each in now])
        for record, known, call in zip(now, kept, calls, strict=True):
            record.call = known
            if not record.taken_back and _is_lost(record):
                record.verdict = call.problem

    def may_run_twice(self, raw: RawCall) -> bool:
        """Whether a call may start before it is certain that it is whole."""
        tool = self._found(raw.name)
        return tool is not None and tool.effect.eager

    def _claim(self, record: CallRecord) -> None:
        id_ = record.raw.id
        # Some servers send no ids, or the same ones in each turn; within a turn they must differ.
        if id_ and id_ in self._own:
            record.repeats = self._aliases[id_]
        elif id_:
            self._own.add(id_)
            self._aliases[id_] = record

    def last(self) -> list[CallRecord]:
        """Return the calls of the last turn."""
        return self.of_turn(self._turn)

    def of_turn(self, turn: int) -> list[CallRecord]:
        """Return the calls of a turn."""
        return [record for record in self.records if record.turn == turn and not record.void]

    def call(self, record: CallRecord, *, complete: bool = True) -> Call:
        """Return a call as a plan takes it.

        With `complete` False calls may follow, and a reference to a number beyond the last one is
        left for later to judge.
        """
        self._growing = not complete
        try:
            call = self._checked(record)
        except PlanError as error:
            text = "\n".join(problem.message for problem in error.problems)
        except CannotRun as error:
            text = str(error)
        else:
            record.call = call
            return call
        name, origin = record.raw.name or _NAMELESS, record.raw.id or None
        return Call(record.id, name, problem=text, provider_id=origin)

    def _checked(self, record: CallRecord) -> Call:
        """Return a call that can run; raise CannotRun or PlanError for others."""
        raw = record.raw
        if raw.problem is not None:
            raise CannotRun(raw.problem)
        if record.repeats is not None:
            raise CannotRun(_repeated(record.repeats))
        tool = self._tool(raw.name or _NAMELESS, str(raw.echo.get("namespace") or ""))
        if raw.kind == "custom":
            args: dict[str, Any] = {_text_parameter(tool): mended(str(raw.arguments or ""))}
        else:
            args = arguments.of_tool(raw.arguments, tool)
        if not self._references or raw.from_code:
            args = {key: _plain(item) for key, item in args.items()}
        elif self._placeholders is not None and raw.kind != "custom":
            self._refuse_placeholder(args, record, tool, self._placeholders)
        origin = raw.id or None
        call = Call(record.id, tool.name, args, provider_id=origin)
        if call.refs or call.each:
            found = self.substituted(call.args, record)
            call = Call(record.id, tool.name, found, provider_id=origin)
        problems = tool.problems(call.args)
        if problems:
            raise CannotRun(tool.explain(problems))
        return call

    def _refuse_placeholder(
        self,
        args: Mapping[str, Any],
        record: CallRecord,
        tool: Tool[..., Any],
        placeholders: Placeholders,
    ) -> None:
        """Refuse a call that has a text such as "<result of call 1>" for a value."""
        found = placeholders.find(args)
        if found is None:
            return
        name, text, meant = found
        text = "…" if name in tool.secret else text
        other = self._meant(meant, record)
        raise CannotRun(explained(name, text, "1" if other is None else other.id))

    def _meant(self, meant: str, record: CallRecord) -> CallRecord | None:
        """Return the call of a number, or the last one of a tool's name, else the last one."""
        numbered = self.known(meant) if number_of(meant) is not None else None
        if numbered is not None and numbered is not record:
            return numbered
        others = [other for other in islice(reversed(self.records), _LOOKED) if other is not record]
        named = (other for other in others if meant and other.raw.name.lower() == meant)
        return next(named, others[0] if others else None)

    def _found(self, name: str) -> Tool[..., Any] | None:
        return self._tools.get(name) or self._tools.get(bare(name))

    def _tool(self, name: str, space: str) -> Tool[..., Any]:
        """Return the tool of a name; a namespace is part of the name, or must be the only one."""
        for join in (".", "__", "_", "-") if space else ():
            if (tool := self._tools.get(f"{space}{join}{name}")) is not None:
                return tool
        tool = self._found(name)
        if tool is not None and space and self._spaces.setdefault(tool.name, space) != space:
            raise CannotRun(
                f"Not run: the name {name!r} is one of two namespaces, {self._spaces[tool.name]!r}"
                f" and {space!r}, and there is one tool for it. Use the first one."
            )
        if tool is not None:
            return tool
        self._wrong += 1
        name = name if len(name) <= _LONGEST else name[:_LONGEST] + "…"
        compared = list(islice(self._tools, _COMPARED)) if self._wrong <= _SHOWN else ()
        close = get_close_matches(name, compared, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        more = len(self._tools) - _SHOWN
        shown = ", ".join(islice(self._tools, _SHOWN))
        shown += f", … and {more} more" if more > 0 else ""
        there = f" The tools are: {shown}." if shown else " There are no tools."
        raise CannotRun(f"There is no tool {name!r}.{hint}{there}")

    # ----------------------------------------------------------------- references to other calls

    def known(self, name: str) -> CallRecord | None:
        """Return the call that a reference names."""
        number = number_of(name)
        if number is not None and 1 <= number <= len(self.records):
            return self.records[number - 1]
        return self._aliases.get(name)

    def listed(self) -> Iterator[tuple[CallRecord, int, str]]:
        """Yield each call, its number and its tool, from the last."""
        for record in reversed(self.records):
            yield record, record.number, record.raw.name

    def target(self, ref: Ref, call: CallRecord, other: CallRecord, *, text: bool) -> Any:
        """Return a reference inside the turn, or the value that an earlier turn left."""
        del text
        self._refuse_hidden(ref, call, other)
        if other.turn == call.turn:
            return Ref(other.id, ref.path, ref.default)
        outcome = other.outcome
        if outcome is None or outcome.status != "done":
            index = ref.path[0] if ref.path else None
            # One item of a call that failed for others.
            if isinstance(index, int) and 0 <= index < len(other.items):
                item = other.items[index]
                if item.status == "done":
                    return value_at(item.value, Ref(ref.call, ref.path[1:], ref.default))
            state = "has no result" if outcome is None else f"is {outcome.status}: no result"
            raise CannotRun(
                f"Call {other.number} ({other.raw.name}) {state} to refer to."
                " Call it again, or pass a value."
            )
        return value_at(outcome.value, ref)

    def _refuse_hidden(self, ref: Ref, call: CallRecord, other: CallRecord) -> None:
        """Refuse a number that could be read in two ways, or that the model cannot know."""
        number = number_of(ref.call)
        if number is None or not self.hidden:
            return
        first = self._first_of(call.turn)
        counted_anew = self.lost_count and number <= call.number - first
        if other.number <= self.hidden or counted_anew:
            raise CannotRun(
                f"It is not clear which call {number} is: earlier parts of the conversation are out"
                " of your sight, and the numbers of the calls go on. This call is call"
                f" {call.number}; the first one of this reply is call {first}. Write the call again"
                f" with the number that you mean, from {self.hidden + 1} on, or with a value."
            )

    def _first_of(self, turn: int) -> int:
        """Return the number of the first call of a turn."""
        if self.records[self._first - 1 : self._first] and turn == self._turn:
            return self._first
        return next((each.number for each in self.records if each.turn == turn), 1)

    def missing(self, ref: Ref, call: CallRecord) -> Any:
        """Leave a number beyond the last call for later, where calls may follow."""
        number = number_of(ref.call)
        if self._growing and number is not None and number > len(self.records):
            return Ref(str(number), ref.path, ref.default)
        return super().missing(ref, call)


def _is_lost(record: CallRecord) -> bool:
    """Whether a call may not have run because of what it refers to."""
    outcome = record.outcome
    if outcome is None or outcome.started is not None:
        return False
    unable = record.call is None and outcome.status == "failed"
    return unable or outcome.status == "skipped" or isinstance(outcome.error, BadReference)


def _repeated(first: CallRecord) -> str:
    return (
        f"Not run: the id {first.raw.id!r} was already that of call {first.number}"
        f" ({first.raw.name}), which was run. Write this call again."
    )


def _text_parameter(tool: Tool[..., Any]) -> str:
    """Return the parameter that takes the text of a custom call."""
    schema = tool.parameters
    properties: dict[str, Any] = schema.get("properties") or {}
    texts = [name for name, part in properties.items() if schemas.accepts(part, "string", schema)]
    if "input" in texts:
        return "input"
    if not texts:
        raise CannotRun(f"The tool {tool.name!r} takes no text. Call it with arguments as JSON.")
    needed = [name for name in texts if name in (schema.get("required") or ())]
    return (needed or texts)[0]


def _plain(value: Any) -> Any:
    """Return an argument so that nothing in it is read as a reference."""
    level = [value]
    while level:
        if any(is_dict(node) and not MARKS.isdisjoint(node) for node in level):
            return {"$literal": value}
        level = arguments.inside(level)
    return value
