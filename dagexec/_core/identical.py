"""Identical calls of pure tools share one execution in a run.

"Identical" is the tool and its arguments, references resolved. The first such call leads: it runs,
and the others follow it: they get its outcome, with `attempts` 0 and `because` naming the leader.
An outcome that says nothing about the arguments, a pending question or the deadline of a layer, is
not shared: then the next in line runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, final
from uuid import UUID

from dagexec._core.outcomes import Outcome

F = TypeVar("F")
Key: TypeAlias = "tuple[str, Hashable]"

# Equal values of these types are the same value in every respect.
_SAME_IF_EQUAL: Final = frozenset({type(None), bool, int, str, bytes, date, timedelta, UUID})
# And of these if they are written alike: 0.0 and -0.0, 1.5 and 1.50, one instant at two offsets.
_SAME_IF_WRITTEN_ALIKE: Final = frozenset({float, complex, Decimal})
# Whose time zones have a representation that says it all.
_ZONES: Final = ("datetime", "zoneinfo", "pydantic_core")


@final
class Identical(Generic[F]):
    """The calls of one run that lead, and those that follow each; a driver says what becomes of it.

    A follower is whatever the driver keeps of a call that waits.
    """

    __slots__ = ("_followers", "_leaders")

    def __init__(self) -> None:
        """Begin with no calls."""
        self._leaders: dict[Key, str] = {}
        self._followers: dict[str, list[tuple[str, F]]] = {}

    def leader_of(
        self, name: str, tool: str, arguments: Mapping[str, Any], ended: Mapping[str, Outcome]
    ) -> str | None:
        """Return the call whose outcome this one gets, or None: then it runs and leads others."""
        try:
            key = tool, frozen(arguments)
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


def frozen(value: Any) -> Hashable:  # noqa: C901, PLR0911 - one a kind
    """Return something equal for the same arguments only; raise TypeError where nobody can tell.

    1, 1.0 and True are equal in Python and not the same argument. Only types that are listed here
    are known; of models and dataclasses all that they hold is compared.
    """
    kind = cast("type[Any]", type(value))
    if kind in _SAME_IF_EQUAL:
        return kind, value
    if kind is dict:
        items = cast("dict[Any, Any]", value).items()
        return kind, tuple([(frozen(key), frozen(item)) for key, item in items])
    if kind is list or kind is tuple:
        return kind, tuple([frozen(item) for item in value])
    if kind is frozenset:
        return kind, frozenset([frozen(item) for item in value])
    if kind in _SAME_IF_WRITTEN_ALIKE:
        return kind, repr(value)
    if (kind is datetime or kind is time) and _is_known(value.tzinfo):
        return kind, repr(value)
    if isinstance(value, Enum):
        return kind, value.name, frozen(value.value)
    if isinstance(value, PurePath):
        return kind, str(value)
    return kind, frozen(_held(value))


def _is_known(zone: tzinfo | None) -> bool:
    return zone is None or type(zone).__module__.partition(".")[0] in _ZONES


def _held(value: Any) -> dict[str, Any]:
    """Return all that a model, a dataclass or a NamedTuple holds; raise TypeError for others."""
    kind = cast("Any", type(value))
    names: list[str]
    if hasattr(kind, "model_fields") and hasattr(kind, "__pydantic_private__"):
        inner = (value.__pydantic_extra__, value.__pydantic_private__)
        return {"fields": value.__dict__, "more": inner}
    if is_dataclass(value):
        names = [field.name for field in fields(cast("Any", value))]
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
    else:
        msg = f"nobody knows when two objects of type {kind.__name__} are the same"
        raise TypeError(msg)
    more: dict[str, Any] = getattr(cast("Any", value), "__dict__", {})
    if not set(names).issuperset(more):
        msg = f"this {kind.__name__} holds more than its fields"
        raise TypeError(msg)
    return {name: getattr(cast("Any", value), name) for name in names}
