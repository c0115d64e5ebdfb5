"""Schemas from elsewhere that are made to block whoever applies them."""

from __future__ import annotations

import linecache
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dagexec import ToolDefinitionError
from dagexec._tools.json_schema import SchemaArguments
from dagexec._tools.widening import widened
from planners._core.widen import ANTHROPIC, OPENAI, NotStrict, strict
from tests.hostile.cost import seconds


def arguments(part: dict[str, Any], **more: Any) -> SchemaArguments:
    """Return arguments with one parameter of this schema."""
    schema = {"type": "object", "properties": {"x": part}, **more}
    return SchemaArguments("t", schema, (), "enforce")


SLOW = [
    "^(a+)+$",
    "^(a|a)*$",
    "^(a|aa)+$",
    "(x+x+)+y",
    "^([a-zA-Z0-9]+\\s?)*$",
    "^(([a-z])+.)+[A-Z]$",
]


@pytest.mark.costs
@pytest.mark.parametrize("pattern", SLOW)
def test_a_pattern_is_matched_in_linear_time(pattern: str) -> None:
    """27 characters took 4.6 s with Python's own engine, in the event loop."""
    found = arguments({"type": "string", "pattern": pattern})
    for length in (27, 100_000):
        assert seconds(lambda n=length: found.validate({"x": "a" * n + "!"})) < 1
    text = found.validate({"x": "a" * 27 + "!"})
    assert isinstance(text, list)
    assert "should match the pattern" in text[0]


def test_patterns_say_what_they_said() -> None:
    """What fits, and what does not."""
    found = arguments({"type": "string", "pattern": "b+"})
    assert found.validate({"x": "abba"}) == {"x": "abba"}
    assert isinstance(found.validate({"x": "a"}), list)
    assert found.validate({"x": "b\n"}) == {"x": "b\n"}


def test_a_pattern_that_cannot_be_matched_in_linear_time_is_not_checked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Look-around and references back; the log says so, once."""
    caplog.set_level(logging.INFO, "dagexec")
    found = arguments({"type": "string", "pattern": "^(?=(a+)+$)only here"})
    assert found.validate({"x": "a" * 30}) == {"x": "a" * 30}
    assert found.validate({"x": "b"}) == {"x": "b"}
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "is not checked" in caplog.text


@pytest.mark.costs
def test_names_are_matched_in_linear_time() -> None:
    """`patternProperties`, alone and with what else there may be."""
    for more in ({}, {"additionalProperties": False}, {"unevaluatedProperties": False}):
        part = {"type": "object", "patternProperties": {"^(a+)+$": {"type": "integer"}}, **more}
        found = arguments(part)
        assert seconds(lambda found=found: found.validate({"x": {"a" * 40 + "!": 1}})) < 1
        assert isinstance(found.validate({"x": {"aa": "no integer"}}), list)
        assert found.validate({"x": {"aa": 1}}) == {"x": {"aa": 1}}
    closed = arguments(
        {"type": "object", "patternProperties": {"^a$": {}}, "additionalProperties": False}
    )
    assert isinstance(closed.validate({"x": {"b": 1}}), list)
    typed = arguments(
        {
            "type": "object",
            "patternProperties": {"^a$": {}},
            "additionalProperties": {"type": "null"},
        }
    )
    assert typed.validate({"x": {"a": 1, "b": None}}) == {"x": {"a": 1, "b": None}}
    assert isinstance(typed.validate({"x": {"b": 1}}), list)


def branching(depth: int, key: str = "allOf") -> dict[str, Any]:
    """Return definitions of which each refers twice to the next."""
    defs: dict[str, Any] = {
        f"d{at}": {key: [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(depth)
    }
    return {**defs, f"d{depth}": {"type": "string"}}


@pytest.mark.costs
@pytest.mark.parametrize("key", ["allOf", "anyOf", "oneOf"])
def test_references_that_branch_end_behind_a_limit(key: str) -> None:
    """Two to the power of forty steps; the limit is named."""
    found = None

    def check() -> None:
        nonlocal found
        described = arguments({"$ref": "#/$defs/d0"}, **{"$defs": branching(40, key)})
        found = described.validate({"x": 1})

    assert seconds(check) < 10
    assert isinstance(found, list)
    assert "20,000 steps" in found[0]


def test_large_arguments_have_more_steps() -> None:
    """The limit is for schemas, not for values."""
    found = arguments(
        {"type": "array", "items": {"$ref": "#/$defs/d"}}, **{"$defs": {"d": {"type": "integer"}}}
    )
    values = {"x": list(range(25_000))}
    assert found.validate(values) == values


@pytest.mark.costs
def test_definitions_of_such_schemas_are_made_at_once() -> None:
    """For every provider."""
    schema = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/d0"}},
        "$defs": branching(60, "anyOf"),
    }

    def define() -> None:
        widened(schema)
        for dialect in (OPENAI, ANTHROPIC):
            try:
                strict(schema, dialect)
            except NotStrict:
                continue

    assert seconds(define) < 2


def test_a_circle_is_no_strict_schema_where_there_may_be_none() -> None:
    """However it is reached."""
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/node"}},
        "required": ["next"],
    }
    other = {"type": "object", "properties": {"node": {"$ref": "#/$defs/node"}}}
    schema = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/other"}},
        "$defs": {"other": other, "node": node},
    }
    with pytest.raises(NotStrict, match="recursion"):
        strict(schema, ANTHROPIC)


def test_a_schema_that_is_too_deep_is_an_error_that_says_so() -> None:
    """Python's recursion limit is no answer."""
    part: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        part = {"type": "array", "items": part}
    with pytest.raises(ToolDefinitionError, match="deep"):
        arguments(part)


@pytest.mark.costs
def test_a_thousand_schemas_leave_no_classes_behind() -> None:
    """Attrs keeps the source of each class that it makes for good: none is made for each schema."""
    arguments({"type": "string", "pattern": "^a"})
    before = len(linecache.cache)
    made = [arguments({"type": "string", "pattern": f"^a{n}"}) for n in range(1000)]
    assert len(linecache.cache) == before
    assert [
        n for n, each in enumerate(made) if not isinstance(each.validate({"x": "a7"}), list)
    ] == [7]


def test_checks_in_many_threads_have_a_count_each() -> None:
    """One schema; together the checks take more steps than one may."""
    schema = {"$ref": "#/$defs/0", "$defs": {}}
    for n in range(10):
        below = {"$ref": f"#/$defs/{n + 1}"}
        schema["$defs"][str(n)] = {"allOf": [below, below]}
    schema["$defs"]["10"] = {"type": "integer"}
    root = {"properties": {"x": {"$ref": "#/$defs/0"}}, "$defs": schema["$defs"]}
    checks = SchemaArguments("f", root, ())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: checks.validate({"x": n}), range(12)))
    assert found == [{"x": n} for n in range(12)]
