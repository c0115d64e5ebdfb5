"""Tool definitions: widened for references, and strict."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from anthropic.types import ToolParam
from openai.types.chat import ChatCompletionFunctionToolParam
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel, Field, TypeAdapter

from dagexec import Tool, tool
from dagexec.lowlevel import widened


class Item(BaseModel):
    """An item with itself inside."""

    name: str
    count: int = 1
    inner: list[Item] = []


class Reference(BaseModel):
    """A user's model with the name that the widened schemas want."""

    page: int


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    tricks: list[str]


@tool(effect="read")
def closed(
    query: Annotated[str, Field(min_length=1)],
    item: Item,
    *,
    source: Reference | None = None,
    mode: Literal["a", "b"] = "a",
    limit: Annotated[int, Field(ge=1, le=9)] = 5,
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None,
) -> None:
    """Do everything that a strict schema can say.

    Args:
        limit: how many
    """


@tool(effect="read")
def loose(pair: tuple[int, str], anything: Any = None, by_name: dict[str, int] | None = None):
    """Do what a strict schema cannot say."""


@tool(effect="read")
def nothing() -> None:
    """Take no arguments."""


REF = {"$ref": "1.items[0]"}
TEMPLATE = {"$template": "${1}"}
ITEM = {"name": "n"}


def of(wire, made, **options):
    """Return the parameters that the provider gets for one tool."""
    return wire.schemas(wire.planner([made], **options))[made.name]


def nodes(schema):
    """Return every schema inside a schema, references followed by their definition only."""
    found = []
    if isinstance(schema, list):
        for part in schema:
            found += nodes(part)
    if isinstance(schema, dict):
        found.append(schema)
        for key, part in schema.items():
            if key in ("properties", "$defs"):
                for inner in part.values():
                    found += nodes(inner)
            elif key in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
                found += nodes(part)
    return found


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"query": REF},
        {"query": TEMPLATE},
        {"item": REF},
        {"item": {"name": TEMPLATE, "count": REF}},
        {"item": {"name": "n", "inner": REF}},
        {"item": {"name": "n", "inner": [REF, {"name": REF, "inner": [{"name": TEMPLATE}]}]}},
        {"source": {"page": REF}},
        {"mode": REF},
        {"limit": REF},
        {"pet": {"kind": "dog", "tricks": [REF, TEMPLATE]}},
        {"pet": REF},
    ],
)
def test_every_place_takes_a_reference(wire, change, strict):
    """Parameters, nested properties and items accept both forms; plain values as before."""
    planner = wire.planner([closed], strict=strict)
    validator = checked(json.dumps(wire.schemas(planner)["closed"]))
    args = {"query": "q", "item": ITEM, **change}
    if flags(wire, planner) == [True]:
        args = filled(args)
    validator.validate(args)


@cache
def checked(text):
    """Return a validator for a schema, which is checked itself; that takes long."""
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def filled(args):
    """Return arguments with null for everything optional, as strict mode has them."""
    optional = dict.fromkeys(("source", "mode", "limit", "pet"))
    item = args["item"]
    return {**optional, **args, "item": item if "$ref" in item else filled_item(item)}


def filled_item(item):
    """Return an item with null for everything optional, at every depth."""
    full = {"count": None, "inner": None, **item}
    if isinstance(full["inner"], list):
        full["inner"] = [part if "$ref" in part else filled_item(part) for part in full["inner"]]
    return full


@pytest.mark.parametrize(
    "change",
    [
        {"query": 5},
        {"limit": TEMPLATE},
        {"limit": "5"},
        {"item": {"name": "n", "count": "c"}},
        {"mode": "c"},
    ],
)
def test_what_was_wrong_stays_wrong(wire, change):
    """Widening admits references and nothing else."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"query": "q", "item": ITEM, **change}, of(wire, closed))


@pytest.mark.parametrize("query", [{"$ref": 5}, {"$ref": "1", "more": 1}], ids=str)
def test_references_that_are_none_are_told_where_schemas_say_only_object(wire, query):
    """Definitions are short, the instructions have the rules; the call's answer names the fault."""
    planner = wire.planner([closed])
    (call,) = planner.plan(wire.reply(("closed", {"query": query, "item": ITEM}))).calls
    assert call.problem is not None


def test_the_forms_stand_once_and_references_lead_somewhere(wire):
    """In a strict schema the forms are definitions with names of their own; nothing dangles."""
    schema = widened(closed.parameters, exact=True)
    assert json.dumps(schema).count('"$template": {"type"') == 1
    assert schema["$defs"]["Reference"]["properties"]["page"]
    assert "Reference_" in schema["$defs"]
    for node in nodes(schema):
        if isinstance(node.get("$ref"), str):
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
    assert schema["properties"]["limit"]["description"] == "how many"
    assert of(wire, closed)["properties"]["limit"]["description"] == "how many"


def test_without_references_the_schema_is_the_tools_own(wire):
    """references=False leaves the schema as the tool has it."""
    assert of(wire, closed, references=False) == closed.parameters
    assert of(wire, nothing)["properties"] == {}


@pytest.mark.parametrize("references", [True, False])
def test_strict_schemas_keep_the_rules(wires, references):
    """Objects are closed, all properties required, and no keyword is one that strict refuses."""
    allowed = {
        *("type", "properties", "required", "additionalProperties", "items", "anyOf", "enum"),
        *("const", "$ref", "$defs", "description"),
    }
    for wire in wires.values():
        planner = wire.planner([closed, nothing], strict=True, references=references)
        numbers = set() if wire.api == "messages" else {"minimum", "maximum"}
        # Recursion is what Anthropic's strict mode cannot do.
        assert flags(wire, planner) == [wire.api != "messages", True]
        if wire.api == "messages":
            continue
        for node in nodes(wire.schemas(planner)["closed"]):
            assert set(node) <= allowed | numbers
            assert "$ref" not in node or len(node) == 1
            if "properties" in node:
                assert node["additionalProperties"] is False
                assert node["required"] == list(node["properties"])
        wanted = "(minLength: 1)"
        assert wanted in wire.schemas(planner)["closed"]["properties"]["query"]["description"]


def flags(wire, planner):
    """Return whether each tool is sent as strict."""
    tools = [item["function"] if wire.api == "chat" else item for item in planner.tools]
    return [bool(item.get("strict", False)) for item in tools]


def test_what_cannot_be_strict_is_sent_without(wire):
    """Tuples, free keys and values of any type cost a tool its strictness, and only that tool."""

    @tool(effect="read")
    def simple(a: int, b: int | None = None) -> None:
        """Add."""

    planner = wire.planner([loose, simple], strict=True)
    assert flags(wire, planner) == [False, True]
    jsonschema.validate(
        {"pair": [REF, TEMPLATE], "by_name": {"a": REF}}, wire.schemas(planner)["loose"]
    )
    assert flags(wire, wire.planner([simple])) == [False]


def test_strict_nulls_are_dropped_before_the_call(wire):
    """What strict mode made nullable arrives as not given, nested ones too."""
    planner = wire.planner([closed], strict=True)
    args = filled({"query": "q", "item": {"name": "n", "inner": [{"name": "m"}]}})
    (call,) = planner.plan(wire.reply(("closed", args))).calls
    assert call.problem is None
    assert call.args == {
        "query": "q",
        "item": {"name": "n", "inner": [{"name": "m"}]},
        "source": None,
        "pet": None,
    }


def test_schemas_from_elsewhere(wire):
    """Pointers into the schema, draft-7 definitions and unions at the top still resolve."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "first": {
                "type": "array",
                "items": {"type": "object", "properties": {"a": {"type": "integer"}}},
            },
            "again": {"$ref": "#/properties/first/items"},
            "named": {"$ref": "#/definitions/My Thing"},
            "any": {},
            "yes": True,
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "definitions": {"My Thing": {"type": ["string", "null"]}},
        "required": ["again"],
    }
    made = Tool.from_schema("foreign", schema, lambda **args: args, effect="read")
    found = of(wire, made)
    assert "definitions" not in found
    args = {"first": [{"a": REF}, REF], "again": {"a": 5}, "named": TEMPLATE, "any": REF, "yes": 1}
    jsonschema.validate({**args, "map": {"k": TEMPLATE}}, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"again": {"a": "x"}}, found)


def test_a_deep_schema_is_widened_in_linear_time(wire):
    """Forty levels of objects take no longer than forty steps."""
    schema = {"type": "string"}
    for _ in range(40):
        schema = {
            "type": "object",
            "properties": {"a": schema, "b": {"type": "array", "items": schema}},
        }
        schema["properties"]["b"]["items"] = {"type": "integer"}
    made = Tool.from_schema("deep", schema, lambda **args: args, effect="read")
    assert len(json.dumps(of(wire, made))) < 40_000


@pytest.mark.parametrize("strict", [True, False])
def test_definitions_fit_the_sdk(wires, strict):
    """The definitions are those that the SDKs' own parameter types describe."""
    types = {
        "chat": ChatCompletionFunctionToolParam,
        "responses": FunctionToolParam,
        "messages": ToolParam,
    }
    for api, wire in wires.items():
        for definition in wire.planner([closed, loose, nothing], strict=strict).tools:
            TypeAdapter(types[api]).validate_python(definition)
    assert all("strict" in item for item in wires["responses"].planner([closed]).tools)


def test_definitions_are_copies(wire):
    """Changing what was handed out changes nothing."""
    planner = wire.planner([closed])
    planner.tools[0].clear()
    assert planner.tools[0]


def test_instructions_show_the_forms(wire):
    """The model is told how to refer."""
    text = wire.planner([closed]).instructions
    for part in (
        '{"$ref": "1.items[0].url"}',
        '{"$template": "Compare ${1} with ${2}"}',
        "$literal",
    ):
        assert part in text
