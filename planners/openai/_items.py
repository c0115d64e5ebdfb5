"""The items of the Responses API that are calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from planners._core.edge import get, plain

# Items with a tool's name, and the field that holds their arguments.
CALLS: Final[Mapping[str, str]] = {"function_call": "arguments", "custom_tool_call": "input"}


def is_call(item: Any) -> bool:
    """Whether an item is one that the client answers."""
    return get(item, "type", "") in CALLS


def arguments_of(value: Any) -> str:
    """Return arguments as text; some servers send the object itself."""
    return value if isinstance(value, str) else json.dumps(plain(value))
