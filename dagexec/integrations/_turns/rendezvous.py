"""The rendezvous of one turn: which calls enter the plan, and which it no longer waits for.

A framework announces the calls of a reply, then starts some of them, in tasks of its own. Of the
others some never come: their arguments are wrong, their tool is unknown, a person has to agree
first, they hand over to another agent. Some come later, because the framework starts only so many
at a time, or one by itself. A call that refers to one that never comes must not wait for it, and
one that refers to a call that comes only after it has ended would wait for ever.

Each announced call is in one of four states:

    EXPECTED --Came--> INSIDE --Ended--> OUT
        |                ^
        +----Left-> GONE-+ Came           (a framework may start again what it had given up)

`receive` takes an event and returns what to do, as actions: `Enter` puts a call that has come into
the plan, `Lack` puts one there in the place of a call that gives nothing, so that what needs it is
skipped and what only waits for its turn goes on, and `Close` says that the plan is whole.

The rules:

1. A call enters the plan as it comes. What it waits for is the plan's affair.
2. What is gone, or comes only after the call that waits for it has ended, is lacking at once.
   A call of a later group comes after all of an earlier one have ended.
3. When every call that is inside waits for one that has not come, and the framework starts no
   further one before one of these has ended, those that they wait for are lacking. So they are
   when nothing has come for too long (`Late`).
4. A call that was lacking and comes after all enters again, by another name.
5. The plan is whole when every announced call is out or gone.

The announced calls have no cycles: who announces them has seen to that. Nothing here waits, and
nothing here knows a clock; a refused event changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias, final


class State(Enum):
    """Where a call of the turn is."""

    EXPECTED = "expected"
    INSIDE = "inside"
    OUT = "out"
    GONE = "gone"


@final
@dataclass(frozen=True, slots=True)
class Announced:
    """A call of the reply: its id, the ids of calls that it waits for, and its group.

    The calls of a group are started together, after those of the groups before it have ended.
    """

    id: str
    waits: tuple[str, ...] = ()
    group: int = 0


# ----------------------------------------------------------------------------------------- events


@final
@dataclass(frozen=True, slots=True)
class Came:
    """The framework has started a call; it starts at most `limit` at a time, None for no limit."""

    id: str
    limit: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Left:
    """A call will not come, or no longer."""

    id: str


@final
@dataclass(frozen=True, slots=True)
class Ended:
    """The plan has an outcome for a call that is inside."""

    id: str


@final
@dataclass(frozen=True, slots=True)
class Late:
    """Nothing has come or ended for longer than anybody should wait."""


Event: TypeAlias = Came | Left | Ended | Late

# ---------------------------------------------------------------------------------------- actions


@final
@dataclass(frozen=True, slots=True)
class Enter:
    """Put a call into the plan; `again` if something stands there for it already."""

    id: str
    again: bool = False


@final
@dataclass(frozen=True, slots=True)
class Lack:
    """Put into the plan that a call gives nothing; `gone` if it never will."""

    id: str
    gone: bool


@final
@dataclass(frozen=True, slots=True)
class Close:
    """The plan is whole."""


Action: TypeAlias = Enter | Lack | Close

_TABLE: Final[Mapping[State, Mapping[type[Event], State]]] = MappingProxyType(
    {
        State.EXPECTED: {Came: State.INSIDE, Left: State.GONE},
        State.INSIDE: {Ended: State.OUT},
        State.OUT: {},
        State.GONE: {Came: State.INSIDE, Left: State.GONE},
    }
)


class Refused(Exception):
    """An event that the state of its call does not allow."""


@final
class Rendezvous:
    """The state of one turn."""

    __slots__ = (
        "_announced",
        "_closed",
        "_dependants",
        "_entered",
        "_expected",
        "_grouped",
        "_groups",
        "_inside",
        "_lacking",
        "_limit",
        "_states",
    )

    def __init__(self, announced: Iterable[Announced]) -> None:
        """Expect these calls; each id once."""
        self._announced = {each.id: each for each in announced}
        self._states = dict.fromkeys(self._announced, State.EXPECTED)
        self._dependants: dict[str, list[str]] = {}
        for each in self._announced.values():
            for other in each.waits:
                self._dependants.setdefault(other, []).append(each.id)
        # How many calls of each group are expected; the groups from the last to the first, so that
        # the one whose turn it is can be taken from the end when none of it is expected any more.
        self._expected = Counter(each.group for each in self._announced.values())
        self._groups = sorted(self._expected, reverse=True)
        self._grouped = len(self._groups) > 1
        # The calls that are inside, in the order in which they came.
        self._inside: dict[str, None] = {}
        # What the plan holds something for, and of that what stands there as lacking.
        self._entered: set[str] = set()
        self._lacking: set[str] = set()
        self._limit: int | None = None
        self._closed = False

    # ------------------------------------------------------------------------------ what is known

    def state(self, name: str) -> State:
        """Return the state of an announced call."""
        return self._states[name]

    @property
    def closed(self) -> bool:
        """Whether the plan is whole."""
        return self._closed

    @property
    def stands(self) -> bool:
        """Whether some are inside and all of them wait for calls that have not come."""
        return bool(self._inside) and len(self._blocked()) == len(self._inside)

    # --------------------------------------------------------------------------------- the one way

    def receive(self, event: Event) -> list[Action]:
        """Take an event and return what to do; raise Refused for one that cannot be now."""
        actions: list[Action] = []
        if isinstance(event, Late):
            self._give_up(actions)
            return actions
        name = event.id
        before = self._states.get(name)
        following = None if before is None else _TABLE[before].get(type(event))
        if before is None or following is None:
            where = "not announced" if before is None else before.value
            msg = f"{type(event).__name__}({name!r}): the call is {where}"
            raise Refused(msg)
        self._states[name] = following
        if before is State.EXPECTED:
            self._expected[self._announced[name].group] -= 1
        self._handlers[type(event)](self, event, actions)
        self._look_round(actions)
        return actions

    def restart(self) -> None:
        """Begin another plan, after the one before was closed: nothing stands in it yet."""
        self._entered.clear()
        self._lacking.clear()
        self._closed = False

    def _on_came(self, event: Came, actions: list[Action]) -> None:
        call = self._announced[event.id]
        self._limit = event.limit
        self._inside[call.id] = None
        again = call.id in self._entered
        self._entered.add(call.id)
        self._lacking.discard(call.id)
        for other in call.waits:
            state = self._states[other]
            later = state is State.EXPECTED and self._announced[other].group > call.group
            if later or state is State.GONE:
                self._lack(other, actions)
        actions.append(Enter(call.id, again))

    def _on_left(self, event: Left, actions: list[Action]) -> None:
        if any(name in self._inside for name in self._dependants.get(event.id, ())):
            self._lack(event.id, actions)

    def _on_ended(self, event: Ended, actions: list[Action]) -> None:
        del actions
        del self._inside[event.id]

    _handlers: ClassVar[Mapping[type[Event], Any]] = MappingProxyType(
        {Came: _on_came, Left: _on_left, Ended: _on_ended}
    )

    def _lack(self, name: str, actions: list[Action]) -> None:
        if name not in self._lacking:
            self._lacking.add(name)
            self._entered.add(name)
            actions.append(Lack(name, gone=self._states[name] is State.GONE))

    # ------------------------------------------------------------------------- who waits for whom

    def _look_round(self, actions: list[Action]) -> None:
        while self._groups and not self._expected[self._groups[-1]]:
            self._groups.pop()
        if not self._inside:
            if not self._groups and not self._closed:
                self._closed = True
                actions.append(Close())
        elif self._groups and not self._can_come():
            self._give_up(actions)

    def _can_come(self) -> bool:
        """Whether the framework may start another call before one that is inside has ended."""
        if self._limit is not None and len(self._inside) >= self._limit:
            return False
        if not self._grouped:
            return True
        return all(self._announced[name].group >= self._groups[-1] for name in self._inside)

    def _give_up(self, actions: list[Action]) -> None:
        """Let nobody wait for what has not come, if nobody inside could go on otherwise."""
        if not self.stands:
            return
        for name in self._inside:
            for other in self._announced[name].waits:
                if self._states[other] is State.EXPECTED:
                    self._lack(other, actions)

    def _blocked(self) -> set[str]:
        """Return the calls inside that wait, directly or not, for one that has not come."""
        found: set[str] = set()
        waits = {name: self._announced[name].waits for name in self._inside}
        todo = [name for name in waits if any(map(self._missing, waits[name]))]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                dependants = self._dependants.get(name, ())
                todo.extend(each for each in dependants if each in self._inside)
        return found

    def _missing(self, name: str) -> bool:
        return self._states[name] is State.EXPECTED and name not in self._lacking
