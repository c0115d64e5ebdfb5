"""Records made by `value`: compared, hashed, copied and pickled by their fields."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, replace

import pytest

from dagexec import Call, Done, Failed
from dagexec._core.events import Added, Launch, Settled, Started

EACH = [
    Added(Call("a", "t")),
    Started("a", 1.5),
    Settled("a", Done(1)),
    Launch(2, ("a", "b")),
    Done(1, attempts=1, started=1.0, ended=2.0, queued=0.5),
    Failed(None, attempts=2),
]


@pytest.mark.parametrize("one", EACH, ids=lambda one: type(one).__name__)
def test_a_record_is_its_fields(one):
    """A copy is equal in every way to what it was made of, and holds nothing beyond its fields."""
    for twin in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one)), replace(one)):
        assert type(twin) is type(one)
        assert twin == one
        assert repr(twin) == repr(one)
    assert not hasattr(one, "__dict__")
    assert one != replace(one, **{fields(one)[0].name: object()})


def test_a_record_is_hashed_by_its_fields():
    """Equal ones are one key of a mapping."""
    assert len({Done(1), Done(1), Done(2)}) == 2
    assert len({Started("a", 1.0), Started("a", 1.0)}) == 1
