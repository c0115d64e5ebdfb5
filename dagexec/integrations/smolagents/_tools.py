"""Tools: dagexec's as smolagents', and the framework's as a model is shown them."""

# smolagents has no types to be checked.
# mypy: ignore-errors
# pyright: basic

from __future__ import annotations

import copy
from typing import Any, Final

from smolagents import Tool as BaseTool

from dagexec import Tool, current_call
from dagexec._tools.settle import run_tool
from dagexec.lowlevel import run_in_loop, widened

# What the framework knows as the type of an argument; it writes "any" as a text in schemas.
_TYPES: Final = frozenset({"string", "boolean", "integer", "number", "array", "object", "null"})
# The framework's own: its argument is the answer to the task.
FINAL: Final = "final_answer"


class OwnTool(BaseTool):
    """A tool of dagexec as smolagents'."""

    skip_forward_signature_validation = True

    def __init__(self, tool: Tool[..., Any]) -> None:
        """Take its name, its texts and its schema."""
        self.name = tool.name
        self.description = tool.description or tool.name
        self.inputs = _inputs(tool.parameters)
        self.output_type = "any"
        self._tool = tool
        super().__init__()

    def forward(self, **args: Any) -> Any:
        """Run it, inside of a turn."""
        tool = self._tool
        checked = tool.validate(args)
        if tool.needs_context is not None:
            checked[tool.needs_context] = current_call()
        return run_in_loop(lambda: run_tool(tool, checked))


def _inputs(schema: dict[str, Any]) -> dict[str, Any]:
    required = schema.get("required", ())
    found: dict[str, Any] = {}
    for name, part in schema.get("properties", {}).items():
        one = {"type": "any", "description": name, **part}
        kinds = one["type"] if isinstance(one["type"], list) else [one["type"]]
        if not _TYPES.issuperset(kinds) or "$ref" in one or "anyOf" in one:
            one = {"type": "any", "description": one["description"]}
        if name not in required:
            one["nullable"] = True
        found[name] = one
    return found


def shown(tool: Any) -> Any:
    """Return a tool, or an agent that is one, whose arguments also take references."""
    inputs = getattr(tool, "inputs", None)
    if not isinstance(inputs, dict) or not inputs or tool.name == FINAL:
        return tool
    parts = {
        name: {**part, "type": "string"} if part.get("type") == "any" else part
        for name, part in inputs.items()
    }
    one = copy.copy(tool)
    one.inputs = widened({"type": "object", "properties": parts})["properties"]
    return one


def takes_text(tool: Any) -> list[str]:
    """Return the arguments that take a text."""
    inputs = getattr(tool, "inputs", None)
    if not isinstance(inputs, dict):
        return []
    return [name for name, part in inputs.items() if {"string", "any"} & _kinds(part)]


def _kinds(part: Any) -> set[str]:
    kinds = part.get("type", ()) if isinstance(part, dict) else ()
    return {kinds} if isinstance(kinds, str) else set(kinds)
