"""MCP: the tools of its servers as dagexec's, and an executor as a server.

Needs the extra `mcp`.
"""

from importlib.util import find_spec as _find_spec

from dagexec._errors import MissingExtra as _MissingExtra

if _find_spec("mcp") is None:
    _msg = "dagexec.integrations.mcp needs the mcp package: pip install 'dagexec[mcp]'"
    raise _MissingExtra(_msg)

from dagexec.integrations.mcp._serve import PlanServer, serve_http, serve_stdio
from dagexec.integrations.mcp._servers import HttpServer, StdioServer
from dagexec.integrations.mcp._tools import MCPTools, ToolReportedError

__all__ = [
    "HttpServer",
    "MCPTools",
    "PlanServer",
    "StdioServer",
    "ToolReportedError",
    "serve_http",
    "serve_stdio",
]
