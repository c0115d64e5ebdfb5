"""What was recorded can be read again: flags, numpy, deep values, odd ids, and older records."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum, Flag, IntFlag
from fractions import Fraction
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr

from dagexec import (
    Call,
    Done,
    Edit,
    Effect,
    Executor,
    JournalError,
    Timeouts,
    current_call,
    tool,
)
from dagexec.journal import MemoryJournal, SqliteJournal, Types
from dagexec.journal._base import Record
from dagexec.journal._records import fingerprint, report_of
from dagexec.limits import Rate
from dagexec.lowlevel import Added
from dagexec.processes import CommandResult, Guards

TYPES = Types()


class Perm(Flag):
    R = 1
    W = 2
    BIG = 1 << 3000


class IntPerm(IntFlag):
    R = 1
    W = 2


class Open(Enum):
    known = 1

    @classmethod
    def _missing_(cls, value):
        made = object.__new__(cls)
        made._name_, made._value_ = f"x{value}", value
        return made


def back(value):
    return TYPES.loads(TYPES.dumps(value))


@given(st.integers(0, 3), st.integers(0, 2**40))
def test_flags_come_back(strict, free):
    """Combined, empty, and numbers without a name."""
    for value in (Perm(strict), Perm(strict) | Perm.BIG, IntPerm(free), re.RegexFlag(strict)):
        assert back([value]) == [value]
        assert type(back(value)) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("R", Perm.R), ("R|W", Perm.R | Perm.W), (None, Perm(0))],
)
def test_flags_of_older_records(name, value):
    """By name only, which was not to be read; a number was not written."""
    text = json.dumps({"$type": "enum", "class": f"{__name__}:Perm", "value": name})
    assert TYPES.loads(text) is value


def test_what_a_flag_without_a_name_was_is_not_guessed():
    """An IntFlag may be any number."""
    text = json.dumps({"$type": "enum", "class": f"{__name__}:IntPerm", "value": None})
    with pytest.raises(JournalError):
        TYPES.loads(text)


def test_a_member_that_is_made_when_asked_for_is_refused():
    """Nobody finds it by its name."""
    assert back(Open.known) is Open.known
    with pytest.raises(JournalError, match="none of the members"):
        TYPES.dumps(Open(7))


@pytest.mark.parametrize(
    "code",
    [
        "np.int64(-3)",
        "np.float32(1.5)",
        "np.float64('nan')",
        "np.bool_(True)",
        "np.str_('ä')",
        "np.bytes_(b'x')",
        "np.complex128(1+2j)",
        "np.datetime64('2026-01-02T03:04')",
        "np.timedelta64(5, 's')",
        "np.arange(6).reshape(2, 3)",
        "np.asfortranarray(np.arange(6.).reshape(2, 3))",
        "np.zeros((0, 3), dtype='<u2')",
        "np.array(5)",
        "np.array(['a', 'bcd'])",
        "np.array([(1, 2.)], dtype=[('a', 'i4'), ('b', 'f8')])",
        "np.array([(1, 2.)], dtype=[('a', 'i4'), ('b', 'f8')])[0]",
        "np.array([1, 'x', None, (1, 2)], dtype=object)",
        "np.arange(3, dtype='>i4')",
        "np.arange(12)[::3]",
    ],
)
def test_numpy_comes_back(code):
    """Scalars and arrays, with dtype and shape, anywhere in a value."""
    np = pytest.importorskip("numpy")
    value = eval(code, {"np": np})
    found = back({"deep": [value]})["deep"][0]
    assert type(found) is type(value)
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    np.testing.assert_array_equal(found, value)


def test_arrays_that_cannot_come_back_are_refused():
    """Objects in fields, classes of others."""
    np = pytest.importorskip("numpy")
    for value in (np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]), np.ma.array([1])):
        with pytest.raises(JournalError, match="cannot be recorded"):
            TYPES.dumps(value)


@pytest.mark.parametrize("digits", [700, 4000, 4300, 5000, 20000])
def test_long_integers_come_back_whatever_python_is_told_to_read(digits):
    """Also in a fraction, a decimal, and where somebody has lowered Python's limit."""
    value = [10**digits + 1, -(10**digits), Fraction(10**digits, 3), Decimal(10) ** digits]
    text = TYPES.dumps(value)
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert TYPES.loads(text) == value
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    "wrap",
    [lambda v: [v], lambda v: {"a": v}, lambda v: (v,), lambda v: {1: v}, lambda v: Plain(x=v)],
    ids=["list", "dict", "tuple", "keys", "dataclass"],
)
def test_what_is_written_is_not_too_deep_to_be_read(wrap):
    """Up to a limit that holds on any stack; beyond it the value is refused."""

    def down(frames, function):
        return function() if not frames else down(frames - 1, function)

    def written(value):
        try:
            return TYPES.dumps(value)
        except JournalError:
            return None

    value, deepest = 1, 0
    for depth in range(1, 400):
        value = wrap(value)
        text = written(value)
        if text is None:
            break
        deepest = depth
        assert depth % 20 or down(300, lambda text=text: TYPES.loads(text)) is not None
    assert 50 <= deepest <= 200
    with pytest.raises(JournalError, match="deeper than 200 levels"):
        TYPES.dumps(value)


@dataclass
class Plain:
    x: object


@dataclass
class Named(str):  # noqa: SLOT000
    x: int = 0


class Needs:
    def __new__(cls, _needed):
        return super().__new__(cls)


@dataclass
class Made(Needs):
    x: int = 0


def test_objects_that_are_more_than_their_fields_are_refused():
    """They would come back without the rest, or not at all."""
    for value in (Named("text"), Made(1)):
        with pytest.raises(JournalError, match="more than its fields"):
            TYPES.dumps(value)


class Private(BaseModel):
    x: int
    _count: int = PrivateAttr(default=7)
    _open: list[int] = PrivateAttr(default_factory=list)


def test_private_attributes_are_there_again():
    """What they are by default: they may hold anything, so they are not recorded."""
    value = Private(x=1)
    value._count = 9
    found = back(value)
    assert (found.x, found._count, found._open) == (1, 7, [])
    assert found.__pydantic_private__ == Private(x=1).__pydantic_private__


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), AttributeError("x")])
def test_what_a_registered_type_raises_is_an_error_of_the_journal(error):
    """When it is written, and when it is read."""

    def raises(_):
        raise error

    for write, read in ((raises, Plain), (lambda value: value.x, raises)):
        types = Types()
        types.register(Plain, "plain", write, read)
        with pytest.raises(JournalError, match=type(error).__name__):
            types.loads(types.dumps(Plain(1)))


# ------------------------------------------------------------------------------- records of before

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))


def test_values_recorded_before_modules_were_renamed_can_be_read():
    """Dagexec's own classes stood in the file with the modules that they were in."""
    found = {name: TYPES.loads(text) for name, text in RECORDED["values"].items()}
    assert found["Done"] == Done((1, {2}))
    assert found["Edit"] == Edit({"a": 1})
    assert found["Added"] == Added(Call("a", "t"))
    assert found["Effect"] is Effect.read
    assert found["Timeouts"] == Timeouts(call=1)
    assert found["Rate"] == Rate(5)
    assert found["Guards"] == Guards(wall=3)
    assert isinstance(found["CommandResult"], CommandResult)
    assert found["ints"] == [10**50, 10**1500, 10**5000]
    assert found["frac"] == Fraction(1, 3)
    assert found["td"] == timedelta(1, 2, 3)
    assert found["flags"] == re.IGNORECASE | re.MULTILINE
    for name, value in found.items():
        assert back(value) == value, name


def test_a_run_recorded_before_can_be_read():
    """Its records are told to today's scheduler."""
    records = [Record(kind, call, TYPES.loads(body)) for kind, call, body in RECORDED["records"]]
    report = report_of("r", records)
    assert {name: outcome.status for name, outcome in report.items()} == {
        "1": "done",
        "2": "failed",
        "3": "skipped",
        "4": "done",
        "5": "pending",
    }
    assert report["4"].value == {"a": (1, 2), "s": {3}}


def test_own_classes_are_written_by_their_public_names():
    """So that a module can be renamed once more."""
    for value in (Done(1), Rate(5), Guards(), Added(Call("a", "t")), Timeouts()):
        assert "._" not in TYPES.dumps(value)


# -------------------------------------------------------------------------------------- odd texts


@tool(effect="write")
async def key(text: str) -> list[str]:
    """Return what it got, and its idempotency key."""
    return [text, current_call().idempotency_key]


@pytest.mark.anyio
@pytest.mark.real_time
@pytest.mark.parametrize(
    "name", ["\ud800", "a\udfff b", "$json:x", '$json:"\\ud800"'], ids=range(4)
)
async def test_ids_that_utf8_cannot_hold(tmp_path, name):
    """A model's JSON may hold half of a surrogate pair: of a run, of a call, in a value."""
    with SqliteJournal(tmp_path / "runs.db", large=30) as journal:
        executor = Executor([key], journal=journal)
        report = await executor.run([Call(name, "key", {"text": name})], run_id=name)
        assert report[name].value[0] == name
        assert [info.id for info in await journal.runs()] == [name]
        records = await journal.read(name)
        assert report_of(name, records)[name].value == report[name].value
        assert (await executor.resume(name))[name].value == report[name].value
        with pytest.raises(JournalError, match="knows no run"):
            await executor.resume(name + "?")
        await journal.forget(name)
        assert await journal.runs() == []


@pytest.mark.anyio
async def test_arguments_that_json_cannot_hold_have_a_fingerprint():
    """Bytes, huge integers, half of a surrogate pair: a journal must not make the call fail."""

    @tool(effect="idempotent")
    async def take(value: object) -> int:
        """Take anything."""
        return 1

    values = [b"\xff", {"a": b"\xff"}, 10**5000, {b"\xff": 1}, {"a": 10**5000, "b": "\ud800"}]
    assert len({fingerprint({"value": value}) for value in values}) == len(values)
    executor = Executor([take], journal=MemoryJournal())
    for value in values:
        report = await executor.run([Call("a", "take", {"value": value})])
        assert report.ok, report["a"].error


def test_the_cost_of_a_plain_value_is_small():
    """The check of the depth stands in the way of every value."""
    value = {"rows": [{"id": n, "name": "x" * 20, "tags": ["a", "b"]} for n in range(2000)]}

    async def measured():
        start = anyio.current_time()
        TYPES.dumps(value)
        return anyio.current_time() - start

    assert anyio.run(measured) < 1


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict([("b", 1), ("a", [Decimal("1.5")])]),
        Counter("abba"),
        Counter({1: 2, (3, 4): -1}),
        defaultdict(list, {"a": [1]}),
        defaultdict(lambda: 7, {"a": 1}),
        deque([1, (2, 3)]),
        deque([1, 2], maxlen=2),
        range(3, 30, 5),
        {"inside": [deque([Counter("a")])]},
    ],
)
def test_the_containers_of_the_standard_library_come_back(value):
    """With their types and their order; of a defaultdict also how it makes what is missing."""
    again = TYPES.loads(TYPES.dumps(value))
    assert again == value
    assert type(again) is type(value)
    if isinstance(value, OrderedDict):
        assert list(again) == list(value)
    if isinstance(value, deque):
        assert again.maxlen == value.maxlen
    if isinstance(value, defaultdict):
        known = value.default_factory is list
        assert again.default_factory is (list if known else None)


def test_one_may_still_be_registered_otherwise():
    """As before they had a place."""
    types = Types()
    types.register(deque, "deque", list, deque)
    assert types.loads(types.dumps(deque([1]))) == deque([1])
    assert '"deque"' in types.dumps(deque([1]))
