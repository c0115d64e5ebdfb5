"""dagexec's tools as Pydantic AI's."""

from __future__ import annotations

from typing import Any

import pydantic_ai
from pydantic_ai import ModelRetry

from dagexec import ArgumentError, Tool, current_call
from dagexec._tools.settle import run_tool


def to_pydantic_ai(tool: Tool[..., Any]) -> pydantic_ai.Tool[Any]:
    """Return a dagexec tool as a tool of Pydantic AI, with the same name, texts and schema.

    `Dag(tools=[...])` does so with the tools that it is given, and keeps their options. Arguments
    that do not fit come back to the model as a retry.
    """

    async def run(**args: Any) -> Any:
        try:
            checked = tool.validate(args)
        except ArgumentError as error:
            raise ModelRetry(str(error)) from error
        if tool.needs_context is not None:
            checked[tool.needs_context] = current_call()
        return await run_tool(tool, checked)

    return pydantic_ai.Tool[Any].from_schema(run, tool.name, tool.description, tool.parameters)
