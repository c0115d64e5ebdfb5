"""Identical calls of pure tools share one execution in a run.

"Identical" is the tool and its arguments, references resolved. The first such call leads: it runs,
and the others follow it: they get its outcome, with `attempts` 0 and `because` naming the leader.
An outcome that says nothing about the arguments, a pending question or the deadline of a layer, is
not shared: then the next in line runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeAlias, TypeVar, final

from dagexec._core.outcomes import Outcome

F = TypeVar("F")
Key: TypeAlias = "tuple[str, Hashable]"


@final
class Identical(Generic[F]):
    """The calls of one run that lead, and those that follow each; a driver says what becomes of it.

    A follower is whatever the driver keeps of a call that waits.
    """

    __slots__ = ("_followers", "_frozen", "_leaders")

    def __init__(self) -> None:
        """Begin with no calls."""
        self._leaders: dict[Key, str] = {}
        self._followers: dict[str, list[tuple[str, F]]] = {}
        # Imported for the first call.
        self._frozen: Callable[[Any], Hashable] | None = None

    def leader_of(
        self, name: str, tool: str, arguments: Mapping[str, Any], ended: Mapping[str, Outcome]
    ) -> str | None:
        """Return the call whose outcome this one gets, or None: then it runs and leads others."""
        if self._frozen is None:
            from dagexec._core.sameness import frozen

            self._frozen = frozen
        try:
            key = tool, self._frozen(arguments)
        except (TypeError, RecursionError):
            return None  # an argument of which nobody knows when it is the same
        leader = self._leaders.setdefault(key, name)
        if leader == name:
            return None
        outcome = ended.get(leader)
        if outcome is not None and not speaks_for_all(outcome):
            self._leaders[key] = name
            return None
        return leader

    def follow(self, leader: str, name: str, follower: F) -> None:
        """Let a call wait for its leader, which has not ended."""
        self._followers.setdefault(leader, []).append((name, follower))

    def released(self, leader: str) -> list[tuple[str, F]]:
        """Return the calls that waited for one that has ended; they wait no more."""
        return self._followers.pop(leader, [])

    def waits_for(self, name: str) -> str | None:
        """Return the leader that a call waits for, for those who look on."""
        for leader, followers in self._followers.items():
            if any(name == each for each, _ in followers):
                return leader
        return None


def shared(outcome: Outcome, leader: str, now: float, since: float) -> Outcome:
    """Return a leader's outcome as that of a call that was ready `since`; seconds of the run."""
    return replace(outcome, attempts=0, started=now, ended=now, queued=now - since, because=leader)


def speaks_for_all(outcome: Outcome) -> bool:
    """Whether an outcome comes from the tool and its arguments alone."""
    return outcome.status in ("done", "failed") or outcome.scope == "call"
