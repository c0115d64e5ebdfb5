"""Tools: dagexec's as Strands', and the framework's as a turn runs them."""

# Strands is not installed beside all of dagexec's extras, so its types are not there to be checked.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import inspect
from collections.abc import AsyncGenerator, Callable
from functools import partial, wraps
from typing import Any

from strands.types.tools import AgentTool

from dagexec import ArgumentError, CallError, Tool, current_call
from dagexec._tools.settle import run_tool
from dagexec.lowlevel import as_text, run_in_thread


class OwnTool(AgentTool):
    """A tool of dagexec as Strands'."""

    def __init__(self, tool: Tool[..., Any]) -> None:
        """Take its name and its texts."""
        super().__init__()
        self._tool = tool
        self._keep: Callable[[Any], None] = _forget

    @property
    def tool_name(self) -> str:
        """Return its name."""
        return self._tool.name

    @property
    def tool_spec(self) -> Any:
        """Return its name, its description and its schema."""
        tool = self._tool
        return {
            "name": tool.name,
            "description": tool.description or tool.name,
            "inputSchema": {"json": tool.parameters},
        }

    @property
    def tool_type(self) -> str:
        """Return the kind of tool."""
        return "dagexec"

    async def stream(
        self, tool_use: Any, invocation_state: dict[str, Any], **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        """Run it, inside of a turn."""
        del invocation_state, kwargs
        from strands.types.events import ToolResultEvent

        tool, id_ = self._tool, tool_use["toolUseId"]
        try:
            checked = tool.validate(tool_use["input"])
            if tool.needs_context is not None:
                checked[tool.needs_context] = current_call()
            value = await run_tool(tool, checked)
        except (ArgumentError, CallError) as error:
            yield ToolResultEvent(failure(id_, str(error)), exception=error)
            return
        self._keep(value)
        content = [{"text": value if isinstance(value, str) else as_text(value)}]
        yield ToolResultEvent({"toolUseId": id_, "status": "success", "content": content})


def failure(id_: Any, text: str) -> dict[str, Any]:
    """Return the result of a call that has none."""
    return {"toolUseId": str(id_), "status": "error", "content": [{"text": text}]}


def watched(tool: Any, keep: Callable[[Any], None]) -> Any:
    """Return a tool that keeps what its function returned.

    Where the function is synchronous, its thread can be left behind: one of asyncio's own would
    hold up the end of the event loop, and with it the agent's answer.
    """
    if isinstance(tool, OwnTool):
        one = copy.copy(tool)
        one._keep = keep  # noqa: SLF001
        return one
    function: Any = getattr(tool, "_tool_func", None)
    if function is None or inspect.isasyncgenfunction(function):
        return tool
    asynchronous = inspect.iscoroutinefunction(function)

    @wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        if asynchronous:
            value = await function(*args, **kwargs)
        else:
            value = await run_in_thread(partial(function, *args, **kwargs))
        keep(value)
        return value

    one = copy.copy(tool)
    one._tool_func = run  # noqa: SLF001
    return one


def _forget(value: Any) -> None:
    del value
