'''MCP: the tools of its servers as dagexec's, and an executor as a server.

An MCP server may stop answering, flood its pipe, or end in the middle of a call. Here each server
runs as a child process with guards (see `dagexec.processes`) or is reached by HTTP, and each call
ends whether the server is unresponsive, silent, noisy or dead:

```python
import asyncio
import sys
from pathlib import Path

from dagexec import Call, Executor
from dagexec.integrations.mcp import MCPTools

Path("server.py").write_text("""
from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")

@server.tool()
def stock(title: str) -> int:
    return {"Dune": 3}[title]

server.run("stdio")
""")


async def main():
    async with MCPTools([sys.executable, "server.py"]) as shop:  # and "http://localhost:8000/mcp"
        report = await Executor([*shop]).run([Call("s", "stock", {"title": "Dune"})])
    print(report.outputs)


asyncio.run(main())
```

```text
{'s': 3}
```

- `guards=Guards(request=30)` bounds a call from when it is made; a call that is given up is
  cancelled in the server too. A server that ends is started again (`restart=`); the calls that it
  had are failed, and a write among them says that it may have taken effect.
- `readOnlyHint` becomes `read`, `idempotentHint` `idempotent`, everything else `write`
  (`effects={"name": "read"}` overrides that).
- Progress comes to observers and live runs as `dagexec.lowlevel.Progress`; any tool can send it
  by `current_call().progress(3, 10)`.
- Several servers may be given, also as `{"name": server}` or a configuration file's entries;
  `prefix=True` calls their tools `name__tool`.
- A server that asks its user something (elicitation) asks as `ask()` does: the call waits with
  the question, and is made again with the answer; `elicit=False` tells servers that nobody is
  there.
- Calls that a server works on as a task are polled until the call's deadline, and cancelled with
  it.
- In a notebook, `await tools.open()` in one cell and `await tools.aclose()` in another.

The other way round, `dagexec serve --tools my_tools.py` is an MCP server whose one tool takes a
plan; see `dagexec.cli`.

Needs the extra `mcp`.
'''

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
