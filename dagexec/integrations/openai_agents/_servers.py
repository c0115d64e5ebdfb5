"""MCP servers of an agent, watched for results that tell of a failure.

The SDK makes a text of such a result and hands it to the model, as it does with any other: what
needs the call would take the text of the failure for its value.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, final

_TOLD: Final[ContextVar[list[None] | None]] = ContextVar("dagexec_mcp_told", default=None)


@contextmanager
def told() -> Generator[list[None]]:
    """Collect the failures that servers tell of in here, in tasks that are started in here too."""
    found: list[None] = []
    token = _TOLD.set(found)
    try:
        yield found
    finally:
        _TOLD.reset(token)


@final
class Server:
    """Stands for a server, and is it in everything but that it notes failures."""

    def __init__(self, server: Any) -> None:
        """Stand for a server that the user has made and connects."""
        object.__setattr__(self, "_server", server)

    def __getattr__(self, name: str) -> Any:
        if name == "_server":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._server, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._server, name, value)

    async def call_tool(self, *args: Any, **kwargs: Any) -> Any:
        """Call a tool, and note whether the result tells of a failure."""
        result = await self._server.call_tool(*args, **kwargs)
        found = _TOLD.get()
        if found is not None:
            # `isError` is the name in version 1 of the MCP package; FastMCP warns of it in others.
            told = result.is_error if hasattr(result, "is_error") else result.isError
            if told:
                found.append(None)
        return result
