"""Which arguments are the same: what is listed, in every respect that a tool could see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from dagexec import Done, Failed, Pending
from dagexec._core.identical import Identical, shared
from dagexec._core.sameness import frozen


class Grade(IntEnum):
    one = 1


class Word(Enum):
    one = 1


class Bits(Flag):
    a = 1
    b = 2


class Pair(NamedTuple):
    x: object
    y: object = None


@dataclass(frozen=True)
class Point:
    x: object


@dataclass
class Loose:
    x: object


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: object
    _hidden: int = PrivateAttr(default=0)


class Zone(tzinfo):
    def utcoffset(self, _when):
        return timedelta(0)

    def dst(self, _when):
        return timedelta(0)

    def __repr__(self):
        return "a zone"


def model(hidden=0, **fields):
    made = Model(**fields)
    made._hidden = hidden
    return made


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - one without a zone is among the cases
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EACH = [
    None, True, False, 0, 1, 2, "1", "a", b"a", 0.0, -0.0, 1.0, 1 + 0j, Decimal("1.5"),
    Decimal("1.50"), date(2026, 1, 1), NAIVE, NOON,
    NOON.astimezone(timezone(timedelta(hours=9))), NOON.astimezone(ZoneInfo("UTC")),
    NAIVE.replace(fold=1), time(1), timedelta(1), UUID(int=1), PurePosixPath("a"),
    Grade.one, Word.one, Bits.a, Bits.a | Bits.b, [1], [True], [1.0], (1,), (True,), {"a": 1},
    {"a": True}, {1: 2}, {True: 2}, frozenset({1}), frozenset({True}), Pair(1),
    Pair(True), Pair(1, [1]), Point(1), Point(True), Point((1,)), Loose(1), model(x=1),
    model(x=True), model(x=1, y=2), model(x=1, hidden=1), [[1], {"a": (1,)}],
]  # fmt: skip


def test_each_is_the_same_as_itself_and_as_nothing_else():
    """Equal is not enough: a tool can tell 1 from True, and noon from noon elsewhere."""
    import copy

    for index, one in enumerate(EACH):
        assert frozen(one) == frozen(copy.deepcopy(one)), one
        for other in EACH[:index]:
            assert frozen(one) != frozen(other), (one, other)


class Own(int):
    """Equal to an int, and more than one."""


def with_more():
    point = Point(1)
    object.__setattr__(point, "note", "x")
    return point


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Own(1),
        Fraction(1, 2),
        with_more(),
        NOON.astimezone(Zone()),
        {1},
        [object()],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_listed_is_never_taken_for_the_same(value):
    """Its class may say that two are equal for reasons of its own."""
    with pytest.raises(TypeError):
        frozen(value)


def test_the_first_leads_until_its_outcome_speaks_for_itself_alone():
    """Followers wait for it; where it says nothing about them, the next one leads."""
    calls: Identical[str] = Identical()
    ended = {}
    assert calls.leader_of("a", "t", {"x": 1}, ended) is None
    assert calls.leader_of("b", "t", {"x": 1}, ended) == "a"
    assert calls.leader_of("c", "other", {"x": 1}, ended) is None
    assert calls.leader_of("d", "t", {"x": object()}, ended) is None
    calls.follow("a", "b", "what b needs")
    assert calls.waits_for("b") == "a"
    ended["a"] = Pending("?")
    assert calls.released("a") == [("b", "what b needs")]
    assert calls.waits_for("b") is None
    assert calls.leader_of("b", "t", {"x": 1}, ended) is None
    ended["b"] = Failed(ValueError())
    assert calls.leader_of("e", "t", {"x": 1}, ended) == "b"
    outcome = shared(Done(1, attempts=3, started=0.5, ended=0.7), "b", 2.0, 1.5)
    assert (outcome.value, outcome.attempts, outcome.because) == (1, 0, "b")
    assert (outcome.started, outcome.ended, outcome.queued) == (2.0, 2.0, 0.5)
