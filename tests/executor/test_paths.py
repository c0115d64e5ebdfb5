"""Where the path of a reference leads: into texts that are JSON, to the end, to each item."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import Call, Executor, Plan, Ref, tool
from dagexec._core.paths import follow
from dagexec._core.refs import decode, encode
from dagexec._errors import BadReference

VALUE = {"id": "a", "items": [{"n": 1, "tags": ["x"]}, {"n": 2, "tags": []}], "0": "zero"}
TEXT = json.dumps(VALUE)


@pytest.mark.parametrize(
    ("value", "path", "found"),
    [
        (TEXT, ("id",), "a"),
        ("\n " + TEXT, ("items", 0, "n"), 1),
        (json.dumps({"result": TEXT}), ("result", "items", 1, "n"), 2),
        (json.dumps({"result": json.dumps({"r": TEXT})}), ("result", "r", "id"), "a"),
        ({"result": TEXT}, ("result",), TEXT),
        ([TEXT], (0, "id"), "a"),
        (VALUE, ("items", -1, "n"), 2),
        (TEXT, ("items", -1, "n"), 2),
        (VALUE, ("items", ...), VALUE["items"]),
        (VALUE, ("items", ..., "n"), [1, 2]),
        (TEXT, ("items", ..., "tags"), [["x"], []]),
        (VALUE, ("items", ..., "tags", ...), [["x"], []]),
        ([TEXT, VALUE], (..., "id"), ["a", "a"]),
        ([[1, 2], (3,)], (..., -1), [2, 3]),
        ([], (..., "id"), []),
    ],
    ids=str,
)
def test_paths(value, path, found):
    """What lies there keeps its type."""
    assert follow(value, path) == found


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ("no JSON at all", ("id",), "has no parts: a text that is not JSON, 'no JSON at all'"),
        (5, ("id",), "is an int and has no parts"),
        ("{" * 5000, ("id",), "not JSON, '{{{"),
        ("[" * 100_000, (0,), "not JSON, '[[["),
        ('"text"', ("id",), "not JSON"),
        ("5", (0,), "not JSON"),
        (TEXT, ("nope",), "has id, items, 0"),
        (TEXT, ("items", 2), "at 'items' is a list of 2".replace("items", ".items")),
        (TEXT, ("items", -3), "is a list of 2"),
        (VALUE, (...,), "nothing at '[*]'"),
        (VALUE, ("items", ..., "m"), "the value at '.items[0]' has n, tags"),
        ([VALUE, "x"], (..., "id"), "the value at '[1]' is a str"),
    ],
    ids=str,
)
def test_paths_that_lead_nowhere(value, path, said):
    """The error says what is there, a text by its first characters."""
    with pytest.raises(BadReference) as caught:
        follow(value, path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_written_form():
    """`[*]` and `[-1]` in JSON; `...` in Python; a key called `*` stays a key."""
    ref = Ref("1", ("orders", ..., "id", -1))
    assert str(ref) == "1.orders[*].id[-1]"
    assert Ref.parse(str(ref)) == ref
    assert decode(encode(ref)) == ref
    assert Ref.parse("1.*") == Ref("1", ("*",))
    assert Ref.parse('1["[*]"]') == Ref("1", ("[*]",))
    with pytest.raises(BadReference):
        Ref.parse("1[**]")


def test_what_was_read_is_nobody_elses():
    """A tool that changes its argument changes no other call's."""
    first = follow(TEXT, ("items",))
    first.append("changed")
    first[0]["n"] = "changed"
    assert follow(TEXT, ("items",)) == VALUE["items"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.data())
def test_text_and_object_are_entered_alike(value, data):
    """Whatever leads into a value leads into its text, to the same."""
    path, inside = [], value
    while isinstance(inside, list | dict) and inside and data.draw(st.booleans()):
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        path.append(data.draw(st.sampled_from(keys)))
        inside = inside[path[-1]]
    if path:
        assert follow(json.dumps(value), tuple(path)) == inside


@pytest.mark.anyio
async def test_a_run_with_such_paths():
    """In arguments and templates; the text is read once for all of them."""
    from dagexec._core import paths

    @tool(effect="read")
    async def get() -> str:
        return TEXT

    @tool(effect="read")
    async def put(value: object) -> object:
        return value

    paths._read.cache_clear()
    calls = [Call("1", "get"), Call("t", "put", {"value": {"$template": "<${1.items[-1].n}>"}})]
    calls += [Call(f"{n}", "put", {"value": {"$ref": "1.items[*].n"}}) for n in range(2, 30)]
    report = await Executor([get, put]).run(Plan(calls))
    assert report["t"].value == "<2>"
    assert report["2"].value == [1, 2]
    assert paths._read.cache_info().misses == 1


def test_a_reference_without_its_fields_has_no_parts_in_their_place():
    """Copying, unpickling and debuggers look at objects that are only just being made."""
    unmade = object.__new__(Ref)
    for name in ("call", "path", "default", "_repr_html_"):
        assert not hasattr(unmade, name)
    made = Ref("a", ("b",), default=[1])
    for copied in (copy.deepcopy(made.c), pickle.loads(pickle.dumps(made["c"]))):
        assert (copied.call, copied.path, copied.default) == ("a", ("b", "c"), [1])
