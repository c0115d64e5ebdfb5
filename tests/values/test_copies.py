"""Whose a value is: containers are each reader's own, everything else is shared."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, defaultdict, deque
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import Call, Plan
from dagexec._core.copies import own
from dagexec._core.refs import Literal, decode, encode
from dagexec._core.resolving import resolve

PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
VALUES = st.recursive(
    PLAIN | st.binary() | st.sets(st.integers()),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.lists(inner).map(deque)
        | st.dictionaries(st.text(), inner).map(OrderedDict)
    ),
    max_leaves=20,
)


class Pair(NamedTuple):
    left: object
    right: object


class Named(dict):
    """A user's own kind of dict."""


class Single(list):
    """One that cannot be copied."""

    def __copy__(self):
        raise TypeError


def containers(value):
    """Yield every container that can change."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from containers(item)
    elif isinstance(value, list | tuple | deque):
        if not isinstance(value, tuple):
            yield value
        for item in value:
            yield from containers(item)
    elif isinstance(value, set):
        yield value


@given(VALUES)
def test_a_copy_is_equal_and_shares_no_container(value):
    """Whatever is done to it in place cannot be seen from the other side."""
    before = copy.deepcopy(value)
    mine = own(value)
    assert mine == value
    assert type(mine) is type(value)
    theirs = {id(each) for each in containers(value)}
    for each in list(containers(mine)):
        assert id(each) not in theirs
        each.clear()
    assert value == before


def test_types_stay_and_objects_are_shared():
    """Subclasses keep their type and what they know; other objects are the same object."""
    thing, data = object(), bytearray(b"x")
    given_ = {
        "counter": Counter("aab"),
        "default": defaultdict(list, a=[1]),
        "ordered": OrderedDict(b=[1], a=2),
        "pair": Pair([1], thing),
        "named": Named(x=[1]),
        "tuple": (1, "a"),
        "single": Single([1]),
        "thing": thing,
        "data": data,
    }
    mine = own(given_)
    assert {key: type(item) for key, item in mine.items()} == {
        key: type(item) for key, item in given_.items()
    }
    assert mine["default"]["new"] == []
    assert "new" not in given_["default"]
    assert mine["pair"].left is not given_["pair"].left
    assert mine["named"]["x"] is not given_["named"]["x"]
    assert mine["tuple"] is given_["tuple"]  # nothing in it can change
    assert mine["thing"] is thing
    assert mine["pair"].right is thing
    assert mine["data"] is data
    assert mine["single"] is given_["single"]


def test_what_is_large_and_cannot_change_is_not_copied():
    """Bytes and texts inside of containers are the same objects."""
    data, text = bytes(1 << 20), "x" * (1 << 20)
    mine = own([data, {"text": text}])
    assert mine[0] is data
    assert mine[1]["text"] is text


def test_circles_and_depth():
    """A list that holds itself is copied as one; what Python's stack cannot reach is shared."""
    circle: list = [1]
    circle.append({"back": circle})
    mine = own(circle)
    assert mine is not circle
    assert mine[1]["back"] is mine
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert own(deep) is deep


@pytest.mark.parametrize("value", [{"items": []}, [[]], {"deep": [{"a": {1}}]}])
def test_a_literal_is_nobodys_but_the_plans(value):
    """Whoever made it, reads it or runs it can do to theirs what they like."""
    before = copy.deepcopy(value)
    call = Call("a", "t", {"x": {"$literal": value}})
    plan = Plan([call])
    shown = plan.to_dict()
    for each in containers(value):
        each.clear()
    for args in (resolve(dict(call.args), None), resolve(dict(call.args), None)):
        assert args["x"] == before
        for each in list(containers(args["x"])):
            each.clear()
    for each in list(containers(encode(call.args["x"]))):
        each.clear()
    assert plan.to_dict() == shown
    assert decode({"$literal": before}) == Literal(before)
