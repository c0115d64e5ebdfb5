"""Named resources of which there are only so many: a call gets all that it uses at once, or waits.

Nothing waits here in a task: a call that does not get its resources is parked, and launched again
by whoever gives the last of them back. All or nothing, first come, first served for each resource,
so two calls that each hold half cannot deadlock, and small calls cannot starve a large one.

What is left is a call that waits for a run of its own while it holds something: what that run needs
may be what it holds. Such a call is refused when it asks, with the names of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import final
from weakref import WeakKeyDictionary

from dagexec._errors import PoolDeadlock


@final
@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """What one call uses: names and numbers of resources; `above` is what it is nested in."""

    call: str
    tool: str
    run_id: str
    uses: Mapping[str, int]
    above: tuple[Hold, ...] = ()
    # Called when it gets them after it had to wait; False if it does not want them any more.
    granted: Callable[[Hold], bool] = field(default=bool, repr=False)

    @property
    def words(self) -> str:
        """What it uses, in words."""
        return ", ".join(f"{count} {name}" for name, count in self.uses.items())

    def __str__(self) -> str:
        """Name the call and what it uses."""
        return f"call {self.call!r} of tool {self.tool!r} ({self.words})"


@final
class Capacities:
    """How much there is of each resource, who holds it and who waits for it, on one event loop."""

    __slots__ = ("_parked", "_total", "held")

    def __init__(self, total: Mapping[str, int]) -> None:
        """Start with all of it free."""
        self._total = dict(total)
        self.held: dict[Hold, None] = {}
        self._parked: dict[Hold, None] = {}

    def held_by(self, calls: Iterable[tuple[str, str]]) -> tuple[Hold, ...]:
        """Return what these calls hold, given as the ids of run and call."""
        if not self.held:
            return ()
        by_call = {(each.run_id, each.call): each for each in self.held}
        return tuple(by_call[each] for each in calls if each in by_call)

    def parked(self, run_id: str, call: str) -> Hold | None:
        """Return what a call of a run waits for, None if it does not wait."""
        found = (each for each in tuple(self._parked) if each.call == call)
        return next((each for each in found if each.run_id == run_id), None)

    def take(self, hold: Hold) -> bool:
        """Take all that a call uses, or park it; return whether it was there.

        Raises PoolDeadlock if it could never be there, because of what waits for the call itself.
        """
        wanted = hold.uses.keys()
        if not any(wanted & each.uses.keys() for each in self._parked) and self._fits(hold):
            self.held[hold] = None
            return True
        culprit = self._culprit(hold)
        if culprit is not None:
            msg = (
                f"{hold} would wait for ever: {culprit} holds what it needs, and cannot end before"
                " it. Let only one of the two use it, or give the executor more of it"
            )
            raise PoolDeadlock(msg)
        self._parked[hold] = None
        return False

    def give(self, hold: Hold) -> None:
        """Give back all that a call used, to those who wait for it longest."""
        if self.held.pop(hold, hold) is hold:
            return
        taken: set[str] = set()
        for each in tuple(self._parked):
            if each not in self._parked:
                continue  # granting another ended its run
            wanted = each.uses.keys()
            if taken & wanted or not self._fits(each):
                taken |= wanted
                continue
            del self._parked[each]
            self.held[each] = None
            if not each.granted(each):
                del self.held[each]

    def withdraw(self, hold: Hold) -> None:
        """Forget a parked call whose run has ended.

        Not by the id of its run: an engine runs each call of one as a run of its own.
        """
        self._parked.pop(hold, None)

    def _fits(self, hold: Hold) -> bool:
        return all(
            count <= self._total[name] - sum(each.uses.get(name, 0) for each in self.held)
            for name, count in hold.uses.items()
        )

    def _culprit(self, hold: Hold) -> Hold | None:
        """Return who holds what this call can never get, or None if it will get it in time.

        A call ends unless it waits for a nested one that waits here. What waits gets its turn
        unless too much is held by those that do not end. Whoever is left over is stuck.
        """
        waiting = [*self._parked, hold]
        while True:
            kept = {above: None for each in waiting for above in each.above}
            stuck = [each for each in waiting if not self._could_have(each, kept)]
            if len(stuck) == len(waiting):
                break
            waiting = stuck
        if hold not in waiting:
            return None
        return next(each for each in kept if each.uses.keys() & hold.uses.keys())

    def _could_have(self, hold: Hold, kept: Mapping[Hold, None]) -> bool:
        return all(
            count <= self._total[name] - sum(each.uses.get(name, 0) for each in kept)
            for name, count in hold.uses.items()
        )


@final
class SharedCapacities(Mapping[str, int]):
    """How much there is of each resource, for all executors that are given this object.

    It reads as the mapping that it was made of. Each event loop has all of it to itself: loops
    cannot wake each other's tasks.
    """

    __slots__ = ("_by_loop", "_total")

    def __init__(self, total: Mapping[str, int]) -> None:
        """Start with all of it free."""
        self._total = dict(total)
        self._by_loop: WeakKeyDictionary[object, Capacities] = WeakKeyDictionary()

    def __getitem__(self, key: str) -> int:
        """Return how much there is of a resource."""
        return self._total[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._total)

    def __len__(self) -> int:
        """Return the number of resources."""
        return len(self._total)

    def on(self, loop: object) -> Capacities:
        """Return what there is on an event loop, given by its own token."""
        found = self._by_loop.get(loop)
        if found is None:
            found = self._by_loop[loop] = Capacities(self._total)
        return found
