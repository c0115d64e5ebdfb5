"""What definitions with references cost, in characters of a whole catalogue."""

from __future__ import annotations

import json

from dagexec import Tool
from dagexec.lowlevel import schemas, widened

# The mix of a large server: 117 tools with 6 parameters, most of them texts, short descriptions.
WORDS = "The account of the repository that holds the issue (case does not matter)."
TEXT = {"type": "string", "description": WORDS}
KINDS = (
    *[TEXT] * 11,
    *[{"type": "number", "description": WORDS}] * 4,
    *[{"type": "boolean", "description": WORDS}] * 2,
    {"type": "string", "enum": ["asc", "desc"], "description": WORDS},
    {"type": "array", "items": {"type": "string"}, "description": WORDS},
    {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"path": TEXT, "content": TEXT},
            "required": ["path", "content"],
            "additionalProperties": False,
        },
        "description": WORDS,
    },
    {"anyOf": [{"type": "string"}, {"type": "null"}], "description": WORDS},
    {"type": ["integer", "null"], "description": WORDS},
    {"type": "object", "description": WORDS},
)


def catalogue():
    """Return a catalogue of tools' schemas."""
    for number in range(117):
        chosen = [KINDS[(number * 6 + index) % len(KINDS)] for index in range(6)]
        yield {
            "type": "object",
            "properties": {f"parameter_{index}": part for index, part in enumerate(chosen)},
            "required": ["parameter_0"],
        }


def sent(tools, change):
    """Return how many characters a catalogue takes in a request."""
    text = WORDS * 2
    return sum(
        len(json.dumps({"name": "a_tool_name", "description": text, "parameters": change(each)}))
        for each in tools
    )


def test_definitions_cost_at_most_15_percent_more():
    """With every parameter open to references."""
    tools = list(catalogue())
    assert sent(tools, widened) <= 1.15 * sent(tools, schemas.normalised)


def test_each_kind_of_place():
    """What it costs, and that a place which takes any object is left alone."""
    made = Tool.from_schema("f", {"properties": dict(enumerate_(KINDS))}, dict)
    wide = widened(made.parameters)["properties"]
    assert wide["0"]["type"] == ["string", "object"]
    assert wide["22"] == KINDS[22]
    assert wide["17"]["anyOf"] == [{"enum": ["asc", "desc"]}, {"type": "object"}]
    assert wide["21"]["type"] == ["integer", "null", "object"]


def enumerate_(parts):
    """Name parts by their position."""
    return [(str(index), part) for index, part in enumerate(parts)]
