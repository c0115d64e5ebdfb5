"""Schemas from elsewhere advise, and texts that are JSON are read where no text is taken."""

from __future__ import annotations

import pytest

from dagexec import Call, Executor, Plan, Ref, Tool, ToolDefinitionError, tool
from dagexec._errors import ArgumentError

# The shape of a server's schema that is stricter than the server.
SCHEMA = {
    "type": "object",
    "properties": {
        "parent": {
            "type": "object",
            "properties": {"page_id": {"type": "string"}},
            "required": ["page_id"],
            "additionalProperties": False,
        },
        "sort": {"enum": ["ascending", "descending"]},
        "when": {"type": "string", "format": "date", "maxLength": 3},
        "filter": {
            "anyOf": [
                {"type": "object", "required": ["and"], "additionalProperties": False},
                {"type": "object", "required": ["or"]},
            ]
        },
        "size": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["parent"],
    "additionalProperties": False,
}
PARENT = {"page_id": "p"}


def made(arguments="advise"):
    """Make a tool of the schema."""
    return Tool.from_schema("create", SCHEMA, lambda **args: args, arguments=arguments)


@pytest.mark.parametrize(
    "args",
    [
        {"parent": {"database_id": "d"}},
        {"parent": {"page_id": "p", "type": "page_id"}},
        {},  # a name that is missing, and one that is unknown
        {"parent": PARENT, "sorting": "name"},
        {"parent": PARENT, "sort": "Ascending"},
        {"parent": PARENT, "when": "tomorrow"},
        {"parent": PARENT, "filter": {"property": "x"}},
        {"parent": PARENT, "size": "5"},
        {"parent": PARENT, "tags": [5, {"name": "x"}]},
    ],
    ids=str,
)
def test_the_callee_judges_what_need_not_be_a_fault(args):
    """The arguments go on as they are, in the run and in what is checked before it."""
    assert made().validate(args) == args
    assert made().problems(args) == []
    with pytest.raises(ArgumentError):
        made("enforce").validate(args)
    assert made("enforce").problems(args)
    other = "tags" if "size" in args else "size"
    assert made("enforce").problems({**args, other: Ref("1")})
    assert made().problems({**args, other: Ref("1")}) == []


@pytest.mark.parametrize(
    "args",
    [{"parent": 3}, {"parent": PARENT, "size": "many"}, {"parent": PARENT, "sort": "size"}],
    ids=str,
)
def test_what_is_certain_is_told_at_once(args):
    """Another kind of value, a choice that is none."""
    with pytest.raises(ArgumentError):
        made().validate(args)


def test_the_setting_is_checked_and_kept():
    """Also by a tool that is made of the tool."""
    with pytest.raises(ToolDefinitionError, match="neither"):
        made("maybe")
    again = tool(made("enforce"), name="other")
    with pytest.raises(ArgumentError):
        again.validate({"parent": {}})


@tool(effect="read")
async def lookup(
    ids: list[int], options: dict[str, list[int]] | None = None, note: str = ""
) -> list:
    """Look up."""
    return [ids, options, note]


def test_json_text_for_an_array_or_an_object():
    """In Python's tools and in foreign ones, also inside of arguments."""
    assert lookup.validate({"ids": "[1, 2]"}) == {"ids": [1, 2]}
    assert lookup.validate({"ids": [1], "options": '{"a": "[2]"}'}) == {
        "ids": [1],
        "options": {"a": [2]},
    }
    assert lookup.problems({"ids": "[1]", "note": Ref("1")}) == []
    assert made("enforce").validate({"parent": '{"page_id": "p"}'}) == {"parent": PARENT}
    assert made("enforce").validate({"parent": PARENT, "tags": '["a"]'})["tags"] == ["a"]


def test_text_stays_text_where_it_is_taken():
    """JSON or not."""
    assert lookup.validate({"ids": [1], "note": "[1]"})["note"] == "[1]"
    either = Tool.from_schema("f", {"properties": {"a": {"type": ["string", "array"]}}}, dict)
    assert either.validate({"a": "[1]"}) == {"a": "[1]"}
    for wrong in ("[1", '{"a": 1}', "1", "none", '["x"]'):
        with pytest.raises(ArgumentError):
            lookup.validate({"ids": wrong})


def test_a_schema_that_contains_itself():
    """Is read as deep as the value goes."""
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}
    schema = {"properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {"N": node}}
    tree = Tool.from_schema("f", schema, dict, arguments="enforce")
    assert tree.validate({"n": '{"next": "{}"}'}) == {"n": {"next": {}}}


@pytest.mark.anyio
async def test_a_whole_text_becomes_an_object_for_a_parameter_that_takes_no_text():
    """Only there; for others it stays the text that it is."""

    @tool(effect="read")
    async def say() -> str:
        return "[1, 2]"

    @tool(effect="read")
    async def echo(text: str) -> str:
        return text

    calls = [
        Call("1", "say"),
        Call("2", "lookup", {"ids": {"$ref": "1"}}),
        Call("3", "echo", {"text": {"$ref": "1"}}),
    ]
    report = await Executor([say, echo, lookup]).run(Plan(calls))
    assert report["2"].value == [[1, 2], None, ""]
    assert report["3"].value == "[1, 2]"
