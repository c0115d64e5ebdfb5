"""Outcomes as text for the model."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import BaseModel

from dagexec import (
    Cancelled,
    DagexecError,
    Done,
    Executor,
    Failed,
    InDoubt,
    Pending,
    Skipped,
    TimedOut,
    tool,
)

MAYBE = "may have taken effect"


@tool
async def act(n: int = 0) -> None:
    """Act."""


class Model(BaseModel):
    """A model."""

    a: int = 1


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: float = 1.5


class Broken:
    """Its repr raises."""

    def __repr__(self):
        raise RuntimeError


def cyclic():
    """Return a list that holds itself."""
    found = []
    found.append(found)
    return found


def nested():
    """Return a list too deep for any recursion."""
    found = []
    for _ in range(100_000):
        found = [found]
    return found


def rendered(wire, outcome, **options):
    """Return the text for one call."""
    planner = wire.planner([act], **options)
    planner.plan(wire.reply(("act", {}), ("act", {"n": 1})))
    outcomes = {"1": outcome, "2": Failed(ValueError("x"))}
    return wire.answers(planner.results(outcomes))[0][1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Zürich ☃ $5", "Zürich ☃ $5"),
        ("", ""),
        (None, "null"),
        ({"$ref": "1"}, '{"$ref":"1"}'),
        ([1, float("nan"), float("inf")], "[1,NaN,Infinity]"),
        (Model(), '{"a":1}'),
        (Point(), '{"x":1.5}'),
        ({1: {2}}, '{"1":[2]}'),
        (b"bytes", "bytes"),
        (b"\xff\x00", "<2 bytes>"),
        ("half \ud800", "half ?"),
        ({"b": Broken()}, '{"b":"<Broken>"}'),
        (Broken(), '"<Broken>"'),
        (cyclic(), "[[...]]"),
    ],
)
def test_values(wire, value, text):
    """A string goes as it is, anything else as JSON, and nothing raises."""
    assert rendered(wire, Done(value), references=False) == text
    assert rendered(wire, Done(value)) == f"[call 1]\n{text}"


@pytest.mark.parametrize(
    "value", [nested(), {"a": b"\xff"}, {"a": "\ud800"}, [10**5000], object()], ids=list("abcde")
)
def test_values_that_json_cannot_hold(wire, value):
    """Whatever a tool returns, there is a text that can be sent."""
    rendered(wire, Done(value)).encode()


def test_long_values_are_cut(wire):
    """A long value is cut, and the note tells how to pass on all of it."""
    text = rendered(wire, Done("x" * 500), limit=100)
    assert "x" * 100 + "\n[cut: 100 of 500 characters shown" in text
    assert '{"$ref": "1"} passes the whole value on' in text
    text = rendered(wire, Done("x" * 500), limit=100, references=False)
    assert text == "x" * 100 + "\n[cut: 100 of 500 characters shown]"
    assert len(rendered(wire, Done("x" * 50_000), limit=None)) > 50_000
    with pytest.raises(DagexecError, match="limit"):
        wire.planner([act], limit=0)


@pytest.mark.parametrize(
    ("outcome", "parts"),
    [
        (Failed(ValueError("bad date")), ["[call 1: failed]", "ValueError: bad date", "without"]),
        (Failed(ValueError()), ["ValueError\n"]),
        (Failed(DagexecError("as it is")), ["as it is"]),
        (Failed(OSError("x"), maybe=True), ["OSError: x", MAYBE]),
        (TimedOut("call", started=0.0), ["[call 1: timed out]", "time limit of the call"]),
        (TimedOut("turn"), ["Not run", "this turn"]),
        (TimedOut("workflow", started=0.0, maybe=True), ["whole run", MAYBE]),
        (Skipped("2"), ["Not run: call 2 (act) gave no result"]),
        (Cancelled(), ["run was stopped"]),
        (Cancelled(because="2", started=0.0, maybe=True), ["because of call 2 (act)", MAYBE]),
        (Pending("Really?"), ["a person has to answer first: Really?"]),
        (
            Pending({"nested": [{"name": "p", "for": "approval", "question": "Pay?", "path": []}]}),
            ['answer first: {"p":"Pay?"}'],
        ),
        (Pending(because="2"), ["call 2 (act) waits for a person"]),
        (InDoubt(), ["[call 1: in doubt]", "nobody knows"]),
    ],
)
def test_what_is_not_done_says_what_happened(wire, outcome, parts):
    """Each status has a text of its own that says what to do next."""
    text = rendered(wire, outcome)
    assert all(part in text for part in parts)
    assert len(text) < 250


def test_errors_can_be_hidden(wire):
    """With show_errors=False the model does not see a tool's exception."""
    text = rendered(wire, Failed(ValueError("password")), show_errors=False)
    assert "password" not in text
    assert "The tool failed." in text


def test_a_problem_reaches_the_model_word_for_word(wire):
    """The text of a call that could not be run is the answer."""
    planner = wire.planner([act], references=False)
    plan = planner.plan(wire.reply(("act", {"n": "many"})))
    report = Executor([act], concurrency=0).run_sync(plan)
    assert wire.answers(planner.results(report)) == [("call_1", plan["1"].problem)]
