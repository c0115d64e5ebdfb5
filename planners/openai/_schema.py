"""JSON Schemas as OpenAI's structured output takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

# What only says how a value is shown or begins.
_LEFT_OUT = ("default", "title", "examples")


def strictly(schema: dict[str, Any]) -> dict[str, Any]:
    """Return `schema` and `strict`: the model is held to a schema where every field is required.

    A schema with objects of any names cannot be held to, and is sent as it is.
    """
    try:
        return {"schema": _strict(schema), "strict": True}
    except LookupError:
        return {"schema": schema, "strict": False}


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in cast("list[Any]", schema)]
    if not isinstance(schema, Mapping):
        return schema
    given = cast("Mapping[str, Any]", schema)
    body = {name: each for name, each in given.items() if name not in _LEFT_OUT}
    if body.get("type") == "object":
        _close(body)
    for key in _NAMED:
        if key in body:
            body[key] = {name: _strict(each) for name, each in body[key].items()}
    for key in _NESTED:
        if key in body:
            body[key] = _strict(body[key])
    return body


def _close(body: dict[str, Any]) -> None:
    if not body.get("properties") or body.get("additionalProperties", False) is not False:
        raise LookupError
    body["additionalProperties"] = False
    body["required"] = [*body["properties"]]


_NAMED = ("properties", "$defs")
_NESTED = ("items", "prefixItems", "anyOf", "allOf", "oneOf")
