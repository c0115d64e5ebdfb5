"""What a tool returns, as a JSON Schema for a program that calls it."""

from __future__ import annotations

import inspect
import typing
from typing import Any, Final

from dagexec import Tool

# What they say of a value is nothing. A text is passed on as it is, and may be any JSON.
_SAYS_NOTHING: Final = (inspect.Signature.empty, Any, object, str, None, type(None))


def returned(tool: Tool[..., Any]) -> dict[str, Any] | None:
    """Return the schema of the JSON that a tool's function is annotated to return; None for none.

    It is that of the value as it is sent: of a dataclass, a pydantic model or a `TypedDict` an
    object, of a date a text.
    """
    function = inspect.unwrap(tool.raw)
    try:
        hint = typing.get_type_hints(function, include_extras=True).get("return")
    except Exception:  # noqa: BLE001 - names that are not there at run time
        return None
    if hint in _SAYS_NOTHING:
        return None
    # pydantic takes longer to import than the rest.
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        schema = TypeAdapter(hint).json_schema(mode="serialization")
    except (PydanticUserError, TypeError):  # a type without a JSON form
        return None
    return schema or None
