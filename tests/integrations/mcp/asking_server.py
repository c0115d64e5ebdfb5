"""An MCP server made with the official package that asks its user, and makes tasks of calls.

python asking_server.py MARK FILE [PORT]: what its tools do is appended to FILE, a line each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    InputRequiredResult,
    RequestParams,
    Result,
)
from pydantic import BaseModel

LOG = Path(sys.argv[2])


def note(line: str) -> None:
    """Say what was done."""
    with LOG.open("a") as file:
        file.write(f"{line}\n")


class Sure(BaseModel):
    """A form with one field."""

    sure: bool


class Begun(Result):
    """A task that was begun."""

    task_id: str
    status: str = "working"
    ttl_ms: int | None = None
    poll_interval_ms: int = 20
    created_at: str = "2026-07-28T00:00:00Z"
    last_updated_at: str = "2026-07-28T00:00:00Z"
    result_type: str = "task"
    result: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class TaskParams(RequestParams):
    """Which task."""

    task_id: str
    input_responses: dict[str, Any] | None = None


class Tasks(Extension):
    """Makes a task of each call of `long`: three polls, a question, then the result."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self):
        self.polls = 0
        self.answer = None

    def methods(self):
        return [
            MethodBinding("tasks/get", TaskParams, self.get),
            MethodBinding("tasks/update", TaskParams, self.update),
            MethodBinding("tasks/cancel", TaskParams, self.cancel),
        ]

    async def intercept_tool_call(self, params, ctx, call_next):
        if params.name != "long":
            return await call_next(ctx)
        self.polls, self.answer = 0, None
        return Begun(task_id=f"task-of-{params.arguments['how']}")

    async def get(self, _, params):
        self.polls += 1
        task = Begun(task_id=params.task_id, result_type="complete")
        if params.task_id == "task-of-ever":
            return task
        if self.polls >= 3 and self.answer is None:
            task.status = "input_required"
            task.input_requests = {"q": question("go on?").model_dump(by_alias=True, mode="json")}
        elif self.answer is not None:
            task.status = "completed"
            text = f"{self.answer['action']} {self.answer.get('content')}"
            content = [{"type": "text", "text": text}]
            task.result = {"content": content, "structuredContent": {"result": text}}
        return task

    async def update(self, _, params):
        self.answer = params.input_responses["q"]
        return Result()

    async def cancel(self, _, params):
        note(f"cancelled {params.task_id}")
        return Result()


def question(message: str) -> ElicitRequest:
    """Ask for a form to be filled in."""
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


server = MCPServer("asking", extensions=[Tasks()])


@server.tool()
async def remove(path: str, ctx: Context) -> str:
    """Remove a file; asks before."""
    if ctx.protocol_version == "2026-07-28":
        if ctx.input_responses is None:
            return InputRequiredResult(  # type: ignore[return-value]
                input_requests={"q": question(f"Remove {path}?")}, request_state="s"
            )
        answer = ctx.input_responses["q"]
        action, sure = answer.action, bool((answer.content or {}).get("sure"))
    else:
        found = await ctx.elicit(f"Remove {path}?", Sure)
        action, sure = found.action, found.action == "accept" and found.data.sure
    note(f"{action} {sure} {path}")
    return f"{action} {sure}"


@server.tool()
async def sleepy(seconds: float) -> str:
    """Take long."""
    await anyio.sleep(seconds)
    note("slept")
    return "slept"


@server.tool()
async def long(how: str) -> str:
    """Be made a task of."""
    return how


VISITED = []


@server.tool()
async def visit() -> str:
    """Want a page to be visited first."""
    if not VISITED:
        VISITED.append(1)
        page = ElicitRequestURLParams(message="Log in", url="https://x.test/a", elicitation_id="1")
        raise UrlElicitationRequiredError([page])
    return "in"


if len(sys.argv) > 3:
    import uvicorn

    uvicorn.run(
        server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[3]), log_level="error"
    )
else:
    server.run("stdio")
