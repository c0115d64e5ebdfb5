"""The program of a run, as the deciding half of an engine drives it.

A plan is stored when its run begins; the calls of a program are found while it runs. So a run of a
program stores the text, and what the program was begun with. Whoever decides interprets it, up to
where it has to wait. It is told outcomes in the order in which the scheduler is, and its steps are
counted in the log between them. Told and stepped the same again, in another process, it makes the
same calls; that these are those of the log is checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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

# What a program is told, and how often it was stepped then, in order.
Told: TypeAlias = "Added | Closed | Conclude | Reopened | Settled | int"

# A step whose calls do not start, because a failure has ended the run; a count is positive.
LAST: Final = -1

_HEARD = (Added, Closed, Conclude, Reopened, Settled)
_OTHER = (
    "the program of the run cannot go on here: it comes to {}, where its record has {}. Another"
    " version of dagexec, or other tools than those that it was begun with, can be the cause"
)


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
        if self._made:
            raise DagexecError(_OTHER.format(_named(self._made[0]), "none"))

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
    def due(self) -> bool:
        """Whether a step leads further."""
        return self._source.due

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
