"""An MCP server made with the official package.

python good_server.py MARK [PORT]
"""

from __future__ import annotations

import sys

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("good")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def put(items: list[str]) -> dict[str, int]:
    """Count."""
    return {"count": len(items)}


@server.tool()
async def slow(steps: int, ctx: Context) -> str:
    """Take long, and tell how far it is."""
    for n in range(steps):
        await ctx.report_progress(n + 1, steps, f"step {n + 1}")
        await anyio.sleep(0.01)
    return "done"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("no such city")


if len(sys.argv) > 2:
    import uvicorn

    uvicorn.run(
        server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[2]), log_level="error"
    )
else:
    server.run("stdio")
