"""The tools of MCP servers as dagexec's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, final

from anyio import create_task_group
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams

from dagexec._concurrency.restart import Restart
from dagexec._core.wrong_names import explained
from dagexec._errors import CallError, DagexecError, ToolDefinitionError
from dagexec._tools.context import CallContext, current_call
from dagexec._tools.options import EffectName
from dagexec._tools.tool import Effect, Tool
from dagexec.integrations.mcp._asking import Asking
from dagexec.integrations.mcp._connection import Connection
from dagexec.integrations.mcp._contents import part_of
from dagexec.integrations.mcp._elicitation import answering, pages_of
from dagexec.integrations.mcp._servers import Given, named_servers
from dagexec.integrations.mcp._session import How
from dagexec.integrations.mcp._tasks import call_as_task, wants_task
from dagexec.processes import Guards

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult, ToolAnnotations
    from mcp_types import Tool as ListedTool


_log: Final = logging.getLogger("dagexec")

GRACE: Final = 10.0
CONNECT: Final = 30.0
# How often a call is made again because its server wants a page to be visited first.
MOST_VISITS: Final = 5


class ToolReportedError(CallError):
    """A tool of an MCP server answered that it failed; the text is the server's, for the model."""


@explained
@final
class MCPTools:
    """The tools of one or more MCP servers, for as long as the block runs.

        async with MCPTools(["python", "server.py"], "http://localhost:8000/mcp") as tools:
            executor = Executor([*tools, mine])

    A server is a command as a list (it is run as a supervised child, see
    `dagexec.processes.Child`), an http(s) URL, `mcp.StdioServerParameters`, an entry of the usual
    configuration files, or a mapping of names to any of these.

    Whatever a server does, a call ends: after `guards.request` seconds (30), which count from when
    the call is made, or earlier at the executor's own deadline; the server is then told to cancel,
    and its connection is given up when it does not even read that within a second. A server that
    ends is started again as `restart` says; the calls that it had are failed, and a write among
    them says that it may have taken effect. Its stderr is read, counted and kept (64 KiB).

    A server that asks its user something (MCP's elicitation) asks by `dagexec.ask`: the call
    becomes pending with the question `{"server", "tool", "message", "schema" or "url"}`, the server
    is told that the call is cancelled, and with the answer the call is made again from its start.
    The answer is the form filled in, the value of its only field, True or False, None to decline,
    or `{"action": "accept" | "decline" | "cancel", "content": {...}}`.

    A call that the server works on as a task is polled until its end; the call's own deadline
    bounds it then, not `guards.request`, and cancels the task.

    The block may be entered in one task and left in another, as a notebook's cells do: there,
    `await tools.open()` and `await tools.aclose()`.

    Args:
        servers: The servers.
        guards: What a server must not do; `request` holds for servers over HTTP too.
        connect: Seconds for starting a server, the handshake and the list of tools.
        grace: Seconds that a server has to end.
        restart: When one that was lost is connected to again.
        prefix: Whether tools are called `server__tool`.
        effects: The effect of tools by name, where the server's annotations are not to be trusted
            or say nothing. Without: `readOnlyHint` is `read`, `idempotentHint` is `idempotent`,
            everything else `write`.
        protocol: "auto", "legacy" (the handshake until 2025-11), or a later version of MCP.
        arguments: "advise": what a server's schema does not allow is sent on where it need not be a
            fault, and the server judges; "enforce": it is refused (see `Tool.from_schema`).
        elicit: Whether servers may ask a person (see above); False tells them that nobody is there.

    Raises DagexecError for what is no server; entering raises ProcessGone or GuardExpired for a
    server that cannot be reached, and ToolDefinitionError if two tools have the same name.
    """

    def __init__(
        self,
        *servers: Given | Mapping[str, Given],
        guards: Guards | None = None,
        connect: float = CONNECT,
        grace: float = GRACE,
        restart: Restart | None = None,
        prefix: bool = False,
        effects: Mapping[str, Effect | EffectName] | None = None,
        protocol: str = "auto",
        elicit: bool = True,
        arguments: Literal["advise", "enforce"] = "advise",
    ) -> None:
        """Start nothing yet."""
        self._prefix = prefix
        self._arguments: Literal["advise", "enforce"] = arguments
        self._effects: dict[str, Effect | EffectName] = dict(effects or {})
        self._tools: list[Tool[..., Any]] = []
        self._open = False
        how = How(Guards() if guards is None else guards, connect, grace, protocol, elicit)
        self.connections: dict[str, Connection] = {
            name: Connection(name, server, how, Restart() if restart is None else restart)
            for name, server in named_servers(servers).items()
        }

    # ---------------------------------------------------------------------------- open and close

    async def open(self) -> MCPTools:
        """Connect to all servers, side by side; see the class for what it raises."""
        if self._open:
            msg = "these MCP tools are open already"
            raise DagexecError(msg)
        self._open = True
        try:
            try:
                async with create_task_group() as group:
                    for connection in self.connections.values():
                        group.start_soon(connection.open)
            except BaseExceptionGroup as failed:
                # One server's reason says more than a group of one; the others were cancelled.
                first = failed.exceptions[0]
                raise first from first.__cause__
            self._tools = self._made()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """End all connections and their processes, side by side."""
        self._open = False
        async with create_task_group() as group:
            for connection in self.connections.values():
                group.start_soon(connection.close)

    async def __aenter__(self) -> MCPTools:
        """Connect to all servers."""
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all connections and their processes."""
        await self.aclose()

    # --------------------------------------------------------------------------------- the tools

    @property
    def tools(self) -> list[Tool[..., Any]]:
        """The tools of all servers; empty before they are connected to."""
        return list(self._tools)

    def __iter__(self) -> Iterator[Tool[..., Any]]:
        """Iterate over the tools."""
        return iter(self.tools)

    def __len__(self) -> int:
        """Return how many tools there are."""
        return len(self._tools)

    def __getitem__(self, name: str) -> Tool[..., Any]:
        """Return a tool by its name; raise KeyError."""
        for tool in self._tools:
            if tool.name == name:
                return tool
        raise KeyError(name)

    def _made(self) -> list[Tool[..., Any]]:
        made: dict[str, tuple[str, Tool[..., Any]]] = {}
        for server, connection in self.connections.items():
            for listed in connection.listed:
                tool = self._tool(server, connection, listed)
                if tool is None:
                    continue
                if tool.name in made:
                    msg = (
                        f"MCP servers {made[tool.name][0]!r} and {server!r} both have a tool"
                        f" {tool.name!r}: use MCPTools(..., prefix=True)"
                    )
                    raise ToolDefinitionError(msg)
                made[tool.name] = (server, tool)
        return [tool for _, tool in made.values()]

    def _tool(
        self, server: str, connection: Connection, listed: ListedTool
    ) -> Tool[..., Any] | None:
        name = f"{server}__{listed.name}" if self._prefix else listed.name
        effect = self._effects.get(name) or effect_of(listed.annotations)
        try:
            return Tool.from_schema(
                name,
                listed.input_schema,
                _Remote(connection, listed),
                description=listed.description or listed.title or "",
                effect=effect,
                arguments=self._arguments,
            )
        except ToolDefinitionError as error:
            # One tool that cannot be used must not cost the others.
            _log.warning("MCP server %r: a tool is left out: %s", server, error)
            return None

    def __repr__(self) -> str:
        names = ", ".join(self.connections)
        return f"<MCPTools of {names}: {len(self._tools)} tools>"


@final
class _Remote:
    """Calls one tool of a server; what a `Tool` has for its function."""

    def __init__(self, connection: Connection, listed: ListedTool) -> None:
        self._connection = connection
        self._listed = listed
        self._name = listed.name
        self._wrapped = _is_wrapped(listed.output_schema)
        self._answer = answering(connection.name, listed.name)
        self.__name__ = listed.name

    async def __call__(self, /, **arguments: Any) -> Any:
        """Call the tool; raise ToolReportedError if it answers that it failed."""
        tell = partial(_tell, current_call())
        what, patience = f"a call of {self._name!r}", self._connection.how.patience

        async def call(client: Client, asking: Asking) -> CallToolResult:
            asking.handed = True
            if wants_task(client, self._listed):
                params = CallToolRequestParams(name=self._name, arguments=arguments)
                return await call_as_task(client, params, asking, patience, tell)
            return await client.call_tool(self._name, arguments, progress_callback=tell)

        for _ in range(MOST_VISITS):
            try:
                return self._value(await self._connection.request(call, what, self._answer))
            except MCPError as error:
                pages = pages_of(error)
                if not pages:
                    raise
                await self._visit(pages)
        msg = f"{self._name!r} asks to visit a page again and again"
        raise ToolReportedError(msg)

    async def _visit(self, pages: list[Any]) -> None:
        """Let a person visit the pages that the server wants before the call."""
        for page in pages:
            if (await self._answer(page)).action != "accept":
                msg = f"{self._name!r} needs a page to be visited, and that was declined"
                raise ToolReportedError(msg)

    def _value(self, result: CallToolResult) -> Any:
        if result.is_error:
            text = "\n".join(text for each in result.content if (text := getattr(each, "text", "")))
            raise ToolReportedError(text or f"{self._name!r} failed without a reason")
        structured: Any = result.structured_content
        if structured is not None and self._wrapped and "result" in structured:
            structured = structured["result"]
        if structured is None:
            texts = [each.text for each in result.content if each.type == "text"]
            if len(texts) == len(result.content):
                return "\n".join(texts)
            parts = [part_of(each) for each in result.content]
        else:
            # Text beside it is its JSON for those who know no structure: one value.
            media = [part_of(each) for each in result.content if each.type != "text"]
            if not media:
                return structured
            parts = [structured, *media]
        return parts[0] if len(parts) == 1 else parts


async def _tell(
    context: CallContext, progress: float, total: float | None, message: str | None
) -> None:
    context.progress(progress, total, message)


def _is_wrapped(schema: dict[str, Any] | None) -> bool:
    """Whether a server puts a value that is no object into {"result": value}, as Python's do."""
    return schema is not None and list(schema.get("properties", ())) == ["result"]


def effect_of(annotations: ToolAnnotations | None) -> Effect:
    """Return the effect that a server claims for its tool; `write` without a claim."""
    if annotations is None:
        return Effect.write
    if annotations.read_only_hint:
        return Effect.read
    return Effect.idempotent if annotations.idempotent_hint else Effect.write
