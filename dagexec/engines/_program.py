"""The program of a run, as the deciding half of an engine drives it.

A plan is stored when its run begins; the calls of a program are found while it runs. So a run of a
program stores the text, and what the program was begun with. Whoever decides interprets it, up to
where it has to wait. It is told outcomes in the order in which the scheduler is, and its steps are
counted in the log between them. Told and stepped the same again, in another process, it makes the
same calls; that these are those of the log is checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias, final

from dagexec import Call, DagexecError
from dagexec.lowlevel import (
    Added,
    Closed,
    Conclude,
    Reopened,
    Settled,
    outcome_body,
    outcome_of,
    same_call,
)

# Kind, call, body: a record of the log. Each list of them was told at once.
Entry: TypeAlias = "list[Any]"
Log: TypeAlias = "list[list[Entry]]"
# What a program is told, and how often it was stepped then, in order.
Told: TypeAlias = "Added | Closed | Conclude | Reopened | Settled | int"

# A step whose calls do not start, because a failure has ended the run; a count is positive.
LAST: Final = -1

_HEARD = (Added, Closed, Conclude, Reopened, Settled)
_OTHER = (
    "the program of the run cannot go on here: it comes to {}, where its record has {}. Another"
    " version of dagexec, or other tools than those that it was begun with, can be the cause"
)


class Steps(Protocol):
    """A program, as a `Drive` has it: interpreted here, or by somebody else who is asked."""

    # Calls that it made and has not handed out, where a log ends.
    left: int

    @property
    def taken(self) -> int:
        """How many steps the last `advance` took."""
        ...

    @property
    def due(self) -> bool:
        """Whether `advance` leads further, now or when others had their turn."""
        ...

    @property
    def busy(self) -> bool:
        """Whether it goes on by itself, here or elsewhere."""
        ...

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        ...

    def may_advance(self, *, turned: bool, closed: bool) -> bool:
        """Whether `advance` leads further now; `turned` says that others had their turn.

        `closed` says that the run takes no more calls: then whether there is anything to hear.
        """
        ...

    def advance(self) -> list[Call]:
        """Go on; return the calls that may start now."""
        ...

    def hear(self, item: object, /) -> None:
        """Hear an event or an action."""
        ...

    def recorded(self, items: Sequence[object], /) -> None:
        """Take what a log has, to be heard in `catch_up`."""
        ...

    def catch_up(self) -> Iterator[None]:
        """Go to where the log ends."""
        ...

    def end(self, *, stands: bool) -> Any:
        """Return what it came to, so far."""
        ...


@final
class StepsTaken:
    """The steps of a program in a log, each count where it stood when they were taken."""

    def __init__(self, log: Log) -> None:
        """Count in this log."""
        self._log = log
        # The entry of steps that somebody else takes now.
        self._entry: Entry | None = None

    def begin(self) -> None:
        """Take note that somebody else takes steps, with what the log has so far."""
        self._entry = ["steps", None, 0]
        self._log.append([self._entry])

    def count(self, number: int) -> None:
        """Count steps: those that had begun, or that were taken just now."""
        if self._entry is not None:
            self._entry[2], self._entry = number, None
        elif self._log and self._log[-1][0][0] == "steps":
            self._log[-1][0][2] += number
        else:
            self._log.append([["steps", None, number]])


class Source(Protocol):
    """A program that runs, without I/O."""

    @property
    def due(self) -> bool:
        """Whether `advance` would lead further."""
        ...

    @property
    def pausing(self) -> bool:
        """Whether it computes, and only lets others have their turn."""
        ...

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        ...

    def advance(self) -> list[Call]:
        """Go on until it waits or pauses; return the calls that may start now."""
        ...

    def observe(self, item: Any, /) -> None:
        """Hear what became of a call."""
        ...

    def stand(self) -> None:
        """Take note that it waits for a person, and for nothing else."""
        ...

    def end(self) -> Any:
        """Return what it came to, so far."""
        ...


@final
class RunProgram:
    """The program of one run: stepped by a `Drive`, or brought to where a log of one ends."""

    def __init__(self, source: Source, checked: Callable[[Call], Call]) -> None:
        """Stand before its first line; `checked` adds its problem to a call that cannot run."""
        self._source = source
        self._checked = checked
        self.left = 0
        # What a log says that it was told, and has not been told here yet.
        self._record: list[Told] = []
        # Calls that it made here, and that the log has not been compared with.
        self._made: deque[Call] = deque()

    # ------------------------------------------------------------------------------ as a log has it

    def recorded(self, items: Sequence[object]) -> None:
        """Take what a log has, to be heard in `catch_up`: events, actions, counts of steps."""
        self._record += [item for item in items if isinstance(item, (*_HEARD, int))]

    def catch_up(self) -> Iterator[None]:
        """Go to where the log ends; yields where others may have a turn.

        Raises DagexecError where the program makes other calls than the log has.
        """
        record, self._record = self._record, []
        for item in record:
            if isinstance(item, int):
                yield from self._stepped(item)
            elif isinstance(item, Added):
                self._compare(item.call)
            elif isinstance(item, Closed) and not self.over:
                raise DagexecError(_OTHER.format("a call", "its end"))
            else:
                self.hear(item)
        if len(self._made) != self.left:
            found = _named(self._made[self.left]) if len(self._made) > self.left else "a wait"
            there = "none" if len(self._made) > self.left else "another call"
            raise DagexecError(_OTHER.format(found, there))

    def rest(self) -> list[Call]:
        """Return the calls that it made and the log does not have, once."""
        rest, self.left = [*self._made], 0
        self._made.clear()
        return rest

    def hold(self, calls: Iterable[Call]) -> None:
        """Keep calls that are not handed out yet, for `rest`."""
        self._made += calls

    def _stepped(self, count: int) -> Iterator[None]:
        for _ in range(count):
            self._made += self.advance()
            yield
        if count == LAST:
            self.advance()

    def _compare(self, call: Call) -> None:
        made = self._made.popleft() if self._made else None
        if made is None or not same_call(made.to_dict(), call.to_dict()):
            found = "its end or a wait" if made is None else _named(made)
            raise DagexecError(_OTHER.format(found, _named(call)))

    # ----------------------------------------------------------------------------------------- live

    @property
    def taken(self) -> int:
        """How many steps the last `advance` took."""
        return 1

    @property
    def due(self) -> bool:
        """Whether a step leads further."""
        return self._source.due

    @property
    def busy(self) -> bool:
        """Whether it goes on by itself."""
        return self._source.due

    def may_advance(self, *, turned: bool, closed: bool) -> bool:  # noqa: ARG002 - of others
        """Whether a step leads further now."""
        return self._source.due and (turned or not self._source.pausing)

    @property
    def pausing(self) -> bool:
        """Whether it computes, and only lets others have their turn."""
        return self._source.pausing

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._source.over

    def advance(self) -> list[Call]:
        """Go one step on; return the calls that may start now."""
        return [self._checked(call) for call in self._source.advance()]

    def hear(self, item: object) -> None:
        """Hear an event or an action; an outcome as a log gives it, so that it is always the same.

        An error that was recorded has a name and a text only.
        """
        if isinstance(item, Settled):
            item = Settled(item.call, outcome_of(outcome_body(item.outcome)))
        if isinstance(item, Settled | Conclude | Reopened):
            self._source.observe(item)

    def end(self, *, stands: bool) -> Any:
        """Return what it came to; `stands` says that only answers can lead it further."""
        if stands:
            self._source.stand()
        return self._source.end()


def _named(call: Call) -> str:
    return f"call {call.id} of {call.tool}() in line {call.line}"
