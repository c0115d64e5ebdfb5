"""Tools for the command's tests."""

from __future__ import annotations

import anyio

from dagexec import tool


@tool(effect="read")
async def search(query: str) -> list[str]:
    """Search."""
    return [f"{query}-1", f"{query}-2"]


@tool(effect="pure")
def shout(text: str) -> str:
    """Shout."""
    return text.upper()


@tool(effect="read", timeout=50)
async def wait(seconds: float) -> str:
    """Wait."""
    await anyio.sleep(seconds)
    return "up"


@tool(effect="read")
async def fail(text: str) -> str:
    """Fail."""
    raise ValueError(text)


def plain(text: str) -> str:
    """No tool yet."""
    return text


chosen = [plain, search]
