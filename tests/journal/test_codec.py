"""Values come back as they were, with their types; what cannot is refused when it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from dagexec import Approve, Deny, Done, Edit, Failed, InDoubt, JournalError, Pending, TimedOut
from dagexec._core.outcome_json import outcome_body
from dagexec.journal import Types
from dagexec.journal._records import (
    answer_body,
    answer_of,
    fingerprint,
    outcome_of,
    same_call,
)

TYPES = Types()


class Colour(Enum):
    red = 1


class Word(StrEnum):
    yes = "y"


class Pair(NamedTuple):
    left: object
    right: object


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    tags: set = field(default_factory=set)
    hidden: int = field(default=0, init=False)


class Order(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    points: list[object] = []


def back(value):
    return TYPES.loads(TYPES.dumps(value))


PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
HASHABLE = PLAIN | st.binary() | st.dates() | st.decimals(allow_nan=False) | st.uuids()
VALUES = st.recursive(
    HASHABLE | st.datetimes() | st.timedeltas() | st.times() | st.fractions(),
    lambda inner: (
        (
            st.lists(inner)
            | st.dictionaries(HASHABLE | st.just("$type"), inner)
            | st.tuples(inner, inner)
            | st.builds(Pair, inner, inner)
            | st.builds(Order, name=st.text(), more=inner)
        )
        | st.frozensets(HASHABLE)
        | st.sets(HASHABLE)
    ),
    max_leaves=12,
)


def same(one, other):
    """Equal, of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(VALUES)
def test_values_come_back_as_they_were(value):
    """With the types of everything in them."""
    assert same(back(value), value)


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -0.0,
        1e-320,
        {1: "a", "1": "b", None: "c"},
        {"$type": "tuple", "value": [1]},
        bytearray(b"x"),
        2 + 3j,
        Colour.red,
        Word.yes,
        Point(1.5, {1}),
        Order(name="a", points=[Point(1.0)], other=(1, 2)),
        Path("/tmp/x"),
        PurePosixPath("a/b"),
        datetime(2026, 1, 2, tzinfo=UTC),
        [date.min, time.max, timedelta.min, Decimal("1.50"), Decimal("Infinity")],
        UUID(int=5),
        Fraction(1, 3),
        "\ud800",
        "\0",
    ],
    ids=map(str, range(18)),
)
def test_unusual_values_come_back(value):
    """Also those at the edges."""
    assert same(back(value), value)


def test_numbers_that_json_has_not():
    """Infinity and NaN."""
    assert back([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert math.isnan(back(math.nan))


class Unknown:
    pass


def local_class():
    @dataclass
    class Local:
        x: int

    return Local(1)


@pytest.mark.parametrize("value", [Unknown(), [Unknown()], local_class(), object, len, lambda: 0])
def test_what_could_not_come_back_is_refused(value):
    """When it is written, not days later."""
    with pytest.raises(JournalError, match="cannot be recorded"):
        TYPES.dumps(value)


def test_a_value_in_itself_is_refused():
    """And one nested too deep."""
    endless = []
    endless.append(endless)
    with pytest.raises(JournalError, match="contains itself"):
        TYPES.dumps(endless)


def test_types_of_ones_own():
    """By name and exact class; a name belongs to one."""
    types = Types()
    types.register(Unknown, "unknown", lambda _: None, lambda _: Unknown())
    assert isinstance(types.loads(types.dumps({"a": [Unknown()]}))["a"][0], Unknown)
    with pytest.raises(JournalError, match="has its place already"):
        types.register(Point, "unknown", lambda _: None, lambda _: None)
    with pytest.raises(JournalError, match="not registered here"):
        TYPES.loads(types.dumps(Unknown()))


@pytest.mark.parametrize(
    "text",
    [
        '{"$type":"model","class":"os:system","value":{"fields":{},"extra":null,"set":[]}}',
        '{"$type":"dataclass","class":"nowhere:X","value":{}}',
        '{"$type":"dataclass","class":"builtins:int","value":{}}',
        '{"$type":"enum","class":"os:path.join","value":"x"}',
        '{"$type":"tuple"}',
        '{"$type":"bytes","value":7}',
        "nonsense",
        '{"$type":"int","value":"zz"}',
    ],
)
def test_a_file_cannot_make_anything_else(text):
    """No import, no call, no attribute that is computed: a clear error."""
    with pytest.raises(JournalError):
        TYPES.loads(text)


@pytest.mark.parametrize(
    "outcome",
    [
        Done((1, {2})),
        Done(None, started=1.0, ended=2.0, queued=0.5, attempts=3),
        Failed(ValueError("no"), maybe=True),
        TimedOut("layer"),
        Pending({"approve": "x", "args": {}}),
        Pending(because="a"),
        InDoubt(),
    ],
)
def test_outcomes_come_back(outcome):
    """All but the class of an error, which is told by name."""
    again = outcome_of(back(outcome_body(outcome)))
    assert outcome_body(again) == outcome_body(outcome)
    assert type(again) is type(outcome)


@pytest.mark.parametrize("answer", [Approve(), Deny("x"), Edit({"a": 1}), Done((1,)), "yes", None])
def test_answers_come_back(answer):
    """Each as what it is."""
    assert answer_of(back(answer_body(answer))) == answer


def test_the_observer_of_the_suite_notices_a_contradiction():
    """It would be worth nothing otherwise."""
    from dagexec import Call
    from dagexec.lowlevel import Added, Closed
    from tests.replaying import Recording, contradictions

    machine = Recording()
    machine.receive(Added(Call("a", "t")), Closed())
    assert list(contradictions()) == []
    machine = Recording()
    machine.receive(Added(Call("a", "t")), Closed())
    machine.heard[0][1].pop()
    assert len(list(contradictions())) == 1


def test_half_a_surrogate_pair_has_a_fingerprint():
    """Models write such texts, with escapes; JSON in UTF-8 cannot hold them."""
    assert fingerprint({"text": "a\ud800"}) != fingerprint({"text": "a\ud801"})
    assert same_call({"id": "1", "args": {"t": "\ud800"}}, {"id": "1", "args": {"t": "\ud800"}})
