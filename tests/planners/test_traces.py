"""The count of turns that references save: its figures, and what it counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.benchmarks import traces
from tests.benchmarks.traces import FEATURES, Counts, counts_of, told

RECORDED = json.loads(Path(traces.__file__).with_suffix(".json").read_text())


def test_what_the_features_save() -> None:
    """Each feature saves turns or costs none; nothing that a server takes is refused."""
    counts = counts_of(RECORDED)
    steps = (counts.turns, counts.parallel, *counts.with_features)
    assert list(steps) == sorted(steps, reverse=True)
    assert steps[-1] < 0.6 * counts.turns
    assert counts.taken == counts.reachable > 30
    assert counts.false_refusals == 0 < counts.accepted
    assert "reachable by a path: 100.0%" in told(counts)
    assert "100.0%" in told(Counts())


def conversation(*turns: list[tuple[dict[str, Any], Any]], effect: str = "read") -> Any:
    """Return a conversation of calls of one tool, as arguments and results."""
    schema = {"type": "object", "properties": {"id": {"type": "string"}}}
    return {
        "question": "",
        "tools": [{"name": "get", "inputSchema": schema, "effect": effect}],
        "turns": [
            [{"tool": "get", "args": args, "result": result} for args, result in turn]
            for turn in turns
        ],
    }


def test_what_a_value_needs_to_be_said_ahead() -> None:
    """A path in text that is JSON is of no use without that feature."""
    counts = counts_of([conversation([({}, '{"a": {"id": "x-77"}}')], [({"id": "x-77"}, "x")])])
    assert (counts.turns, counts.parallel) == (3, 3)
    assert dict(zip(FEATURES, counts.with_features, strict=True)) == {
        "whole results": 3,
        "paths": 3,
        **dict.fromkeys(FEATURES[2:], 2),
    }


def test_a_write_waits_for_earlier_turns() -> None:
    """What it says may come from anywhere in them."""
    counts = counts_of([conversation([({}, "one")], [({}, "two")], effect="write")])
    assert (counts.parallel, counts.with_features[-1]) == (3, 3)


def test_a_value_that_no_result_has_needs_no_reference() -> None:
    """It is the model's own."""
    counts = counts_of([conversation([({}, "one")], [({"id": "other"}, "two")])])
    assert (counts.parallel, counts.taken) == (2, 0)
