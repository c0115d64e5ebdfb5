"""An executor as an MCP server with one tool, which takes a plan.

Any MCP client can then send a graph of calls and gets all outcomes in one answer: no turn of a
model between two calls that depend on each other.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio
import mcp_types as types
from mcp.server import Server
from mcp.server.stdio import stdio_server

from dagexec._core.plan import Plan
from dagexec._core.report import Report
from dagexec._errors import DagexecError, PlanError, text_of
from dagexec._runtime.executor import Executor
from dagexec._tools.tool import Tool
from dagexec.lowlevel import Conclude, Progress, Settled

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext


_log: Final = logging.getLogger("dagexec")

NAME: Final = "run_plan"
_HOW: Final = """\
Run a plan: several calls of the tools below at once. A call starts as soon as the calls that it
refers to are done, the others run side by side, and one failure costs only the calls that need it.
To use another call's result as an argument, write {"$ref": "id"}, with a path where you need a part
of it: {"$ref": "id.items[0].url"}; or in a text: {"$template": "Compare ${a} with ${b.title}"}.
Plain strings are never references. "after" names calls to wait for without their results.

Tools:
"""


@final
class PlanServer:
    """Serves an executor over MCP: `await server.stdio()`, or `server.http_app()` for ASGI."""

    def __init__(self, executor: Executor, *, name: str = "dagexec") -> None:
        """Describe the executor's tools; nothing is served yet."""
        from dagexec import __version__

        self._executor = executor
        self.server: Server[Any] = Server(
            name,
            version=__version__,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        self.tool = types.Tool(
            name=NAME,
            description=_HOW + "\n".join(map(_described, executor.tools.values())),
            input_schema=_schema(executor),
            annotations=types.ToolAnnotations(
                read_only_hint=all(each.effect.eager for each in executor.tools.values()),
            ),
        )

    async def stdio(self) -> None:
        """Serve on stdin and stdout until stdin ends; what tools print goes to stderr."""
        async with stdio_server() as (inward, outward):
            await self.server.run(inward, outward, self.server.create_initialization_options())

    def http_app(self, path: str = "/mcp") -> Any:
        """Return an ASGI application that serves by streamable HTTP, for a loopback address."""
        return self.server.streamable_http_app(streamable_http_path=path)

    async def _list(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        del context, params
        return types.ListToolsResult(tools=[self.tool])

    async def _call(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name != NAME:
            return _answer(f"there is no tool {params.name!r}; there is: {NAME}", failed=True)
        try:
            plan = Plan.from_dict(params.arguments or {})
            report = await self._run(context, plan)
        except PlanError as error:
            return _answer(str(error), failed=True)
        except DagexecError as error:
            _log.exception("a plan that came by MCP could not be run")
            return _answer(str(error), failed=True)
        found = described(report)
        text = json.dumps(found, ensure_ascii=False, default=str)
        return _answer(text, structured=cast("dict[str, Any]", json.loads(text)))

    async def _run(self, context: ServerRequestContext[Any], plan: Plan) -> Report:
        """Run it, and tell the client of each call that ends; its cancellation cancels the run."""
        ended = 0
        async with self._executor.start(plan) as run:
            async for event in run:
                if isinstance(event, Settled | Conclude):
                    ended += 1
                    what = f"{event.call}: {event.outcome.status}"
                    await context.session.report_progress(ended, len(plan), what)
                elif isinstance(event, Progress):
                    what = f"{event.call}: {event.done:g}"
                    what += "" if event.total is None else f" of {event.total:g}"
                    what += "" if event.message is None else f" ({event.message})"
                    await context.session.report_progress(ended, len(plan), what)
        return run.report


def described(report: Report) -> dict[str, Any]:
    """Return what a client gets of a report: a line, and what became of each call."""
    outcomes: dict[str, Any] = report.to_dict()["outcomes"]
    results: dict[str, Any] = {}
    for name, outcome in report.items():
        result: dict[str, Any] = {"status": outcome.status}
        if outcome.ok:
            result["value"] = outcomes[name].get("value")
        elif outcome.error is not None:
            # The text of any other exception may hold what is not meant for a client.
            own = isinstance(outcome.error, DagexecError)
            result["error"] = text_of(outcome.error) if own else type(outcome.error).__name__
        for key in ("because", "scope", "question"):
            if getattr(outcome, key) is not None:
                result[key] = getattr(outcome, key)
        if outcome.maybe:
            result["note"] = "it may have taken effect all the same"
        results[name] = result
    return {"summary": str(report), "ok": report.ok, "results": results}


def _answer(
    text: str, *, failed: bool = False, structured: dict[str, Any] | None = None
) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=structured,
        is_error=failed,
    )


def _described(tool: Tool[..., Any]) -> str:
    parameters = json.dumps(tool.parameters, ensure_ascii=False)
    return f"- {tool.name} ({tool.effect}): {tool.description}\n  arguments: {parameters}"


def _schema(executor: Executor) -> dict[str, Any]:
    call = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "a name of your own, for references"},
            "tool": {"type": "string", "enum": list(executor.tools)},
            "args": {"type": "object", "description": "the tool's arguments, or references"},
            "after": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["id", "tool"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"calls": {"type": "array", "items": call, "minItems": 1}},
        "required": ["calls"],
        "additionalProperties": False,
    }


async def serve_stdio(executor: Executor) -> None:
    """Serve an executor on stdin and stdout, and end what belongs to it."""
    async with executor:
        await PlanServer(executor).stdio()


async def serve_http(executor: Executor, port: int) -> None:
    """Serve an executor by streamable HTTP on the loopback address; asyncio only (uvicorn)."""
    import uvicorn

    config = uvicorn.Config(
        PlanServer(executor).http_app(), host="127.0.0.1", port=port, log_level="warning"
    )
    async with executor:
        with anyio.CancelScope():
            await uvicorn.Server(config).serve()
