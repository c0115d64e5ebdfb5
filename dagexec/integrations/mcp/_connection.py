"""A connection to one server, in a task of its own, and the calls that wait for it.

The package's client is never awaited by a call itself: it runs in the connection's task, and the
call waits for an event under its own deadline. So a deadline holds whatever the client or the
server does, and a call that was given up costs the connection only if it does not let go.
"""

from __future__ import annotations

import logging
import math
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio
from anyio import CancelScope, create_task_group
from anyio.lowlevel import current_token
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, Implementation

from dagexec._concurrency.loop_task import Host
from dagexec._concurrency.restart import Restart, Restarts
from dagexec._errors import DagexecError, GuardExpired, ProcessError, ProcessGone
from dagexec.integrations.mcp._servers import StdioServer
from dagexec.integrations.mcp._transport import AFTERMATH, Pipes
from dagexec.processes import Child, Guards

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anyio.abc import TaskGroup

    from dagexec.integrations.mcp._servers import Server

_log: Final = logging.getLogger("dagexec")

# Seconds that a call which was given up may take to let go, before the connection is.
RELUCTANCE: Final = 1.0
# Seconds that leaving a connection may take on top of the grace of its process.
PATIENCE: Final = 10.0
# Pages of tools that are read.
MOST_PAGES: Final = 100


@final
class Asking:
    """One request, made by a call and carried out by the connection's task."""

    __slots__ = ("done", "error", "handed", "pipes", "scope", "value")

    def __init__(self) -> None:
        """Must be made in the event loop."""
        self.done = anyio.Event()
        self.scope = CancelScope()
        self.value: Any = None
        self.error: BaseException | None = None
        # Whether the client has it: from then on the server may have it too.
        self.handed = False
        # What it was sent by, if the server has pipes.
        self.pipes: Pipes | None = None


@final
class Connection:
    """A server, connected to again when it is lost, as its policy allows."""

    def __init__(
        self,
        name: str,
        server: Server,
        *,
        guards: Guards,
        connect: float,
        grace: float,
        restart: Restart,
        mode: str,
    ) -> None:
        """Start nothing yet."""
        self.name = name
        self.restarts = 0
        self.listed: list[Any] = []
        """The tools that it told of, as mcp_types.Tool."""
        self._server = server
        self._guards = guards
        self._connect = connect
        self._grace = grace
        self._policy = Restarts(restart)
        self._mode = mode
        self._host: Host | None = None
        self._closing = False
        self._changed: anyio.Event
        # What is there while it is up.
        self._client: Client | None = None
        self._group: TaskGroup | None = None
        self._child: Child | None = None
        self._pipes: Pipes | None = None
        self._down: anyio.Event
        # Why it was lost last, and whether that is for good.
        self._cause: BaseException | None = None
        self._lost = False

    # ------------------------------------------------------------------------- for its owner

    async def open(self) -> None:
        """Connect and read the list of tools; raise what went wrong."""
        self._changed = anyio.Event()
        self._closing = self._lost = False
        self._host = Host(f"the connection to MCP server {self.name!r}", self._live)
        try:
            await self._until_up()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the connection and its process; takes `grace` and a little more at most."""
        host = self._host
        if host is None:
            return
        self._closing = True
        host.cancel()
        with CancelScope(shield=True):
            with anyio.move_on_after(self._grace + PATIENCE):
                await host.ended.wait()
            if not host.ended.is_set():
                _log.error("the connection to MCP server %r does not end; left behind", self.name)
        self._host = None

    @property
    def pid(self) -> int | None:
        """The id of its process while there is one."""
        return (
            None if self._child is None or self._child.returncode is not None else self._child.pid
        )

    @property
    def stderr(self) -> str:
        """The last 64 KiB that its process wrote to stderr."""
        return "" if self._child is None else self._child.stderr.text

    # ---------------------------------------------------------------------------- for calls

    async def request(self, function: Callable[[Client, Asking], Awaitable[Any]], what: str) -> Any:
        """Carry out a request; return its result, or raise why there is none.

        Raises GuardExpired after `guards.request` seconds, ProcessGone if the server is lost,
        MCPError if it answers with one. `maybe` of the first two says whether it may have begun.
        """
        seconds = self._guards.request
        asking = Asking()
        with anyio.move_on_after(seconds) as scope:
            try:
                await self._until_up()
                assert self._group is not None  # noqa: S101 - it is up
                self._group.start_soon(self._carry_out, function, asking)
                await asking.done.wait()
            finally:
                if not asking.done.is_set():
                    self._let_go(asking)
        if scope.cancelled_caught and not asking.done.is_set():
            late = GuardExpired(f"{self}: {what} got no answer within {seconds:g} s", "request")
            late.maybe = asking.handed
            raise late
        if asking.error is None:
            return asking.value
        raise await self._explained(asking, what)

    async def _explained(self, asking: Asking, what: str) -> BaseException:
        """Return what to raise for a request that failed; a lost connection has a reason."""
        error = asking.error
        assert error is not None  # noqa: S101 - looked at by who calls this
        closed = isinstance(error, MCPError) and error.error.code == CONNECTION_CLOSED
        if not closed and not isinstance(error, _Lost):
            return error
        cause = await self._reason(asking.pipes)
        lost: ProcessError = ProcessGone(f"{self}: {what} was cut off: {cause}")
        if isinstance(cause, GuardExpired):
            lost = GuardExpired(str(lost), cause.guard)
        lost.maybe = asking.handed
        lost.__cause__ = cause
        return lost

    async def _reason(self, pipes: Pipes | None) -> BaseException:
        if pipes is not None:
            # Nobody looks at the pipes any more when the handshake was cut off.
            with anyio.move_on_after(2 * AFTERMATH):
                await pipes.ended.wait()
            return pipes.error or pipes.child.gone()
        return self._cause or ProcessGone("the connection was closed")

    async def _until_up(self) -> None:
        if self._host is not None and self._host.loop is not current_token().native_token:
            msg = f"{self} was opened in another event loop; open its tools in this one"
            raise DagexecError(msg)
        while self._client is None:
            if self._host is None or self._closing:
                msg = f"{self} is not connected: use its tools inside `async with MCPTools(...)`"
                raise DagexecError(msg)
            if self._lost or self._host.ended.is_set():
                msg = f"{self} cannot be reached: {self._cause or self._host.error}"
                raise ProcessGone(msg) from self._cause
            await self._changed.wait()

    def _let_go(self, asking: Asking) -> None:
        """Give a request up: the client tells the server, in the connection's own task."""
        asking.scope.cancel()
        if self._group is not None and asking.handed:
            self._group.start_soon(self._insist, asking)

    async def _insist(self, asking: Asking) -> None:
        """End a connection whose client or server does not let go of a request."""
        with anyio.move_on_after(RELUCTANCE):
            await asking.done.wait()
        pipes = asking.pipes
        if not asking.done.is_set() or (pipes is not None and not await _is_read(pipes)):
            self._lose(ProcessGone(f"{self} does not read its input any more"))

    async def _carry_out(
        self, function: Callable[[Client, Asking], Awaitable[Any]], asking: Asking
    ) -> None:
        client, child = self._client, self._child
        asking.pipes = self._pipes
        asking.error = _Lost()  # unless it comes to another end
        try:
            with asking.scope, nullcontext() if child is None else child.expecting():
                if client is not None:
                    asking.value = await function(client, asking)
                    asking.error = None
        except Exception as error:  # noqa: BLE001 - raised again by who asked
            asking.error = error
            if child is None and _ends_http(error):
                self._lose(error)
        finally:
            asking.done.set()

    # ------------------------------------------------------------------------ its own task

    async def _live(self) -> None:
        """Connect, and connect again, until it is closed or the policy says no."""
        try:
            while not self._closing:
                try:
                    await self._live_once()
                except Exception as error:  # noqa: BLE001 - kept, and told to every call
                    self._cause = _single(error)
                if self._closing:
                    return
                delay = self._policy.delay(anyio.current_time()) if self.listed else None
                again = "given up" if delay is None else f"connecting again in {delay:g} s"
                why = "; ".join([str(self._cause), *getattr(self._cause, "__notes__", ())])
                _log.warning("%s was lost: %s; %s", self, why, again)
                if delay is None:
                    return
                self.restarts += 1
                await anyio.sleep(delay)
        finally:
            self._lost = True
            self._change()

    async def _live_once(self) -> None:
        self._down = anyio.Event()
        # One scope round the whole connection: what is entered under a deadline must be left
        # before the deadline's scope is, so the deadline goes when the handshake is done.
        with CancelScope(deadline=anyio.current_time() + self._connect) as scope:
            async with AsyncExitStack() as stack:
                client = await self._connected(stack)
                self.listed = await _all_tools(client)
                scope.deadline = math.inf
                await self._serve(client)
        if scope.cancelled_caught:
            msg = f"{self} did not answer within {self._connect:g} s of being connected to"
            raise GuardExpired(msg, "request")

    async def _serve(self, client: Client) -> None:
        """Let calls use the client until the connection is lost or closed."""
        try:
            async with create_task_group() as self._group:
                self._client, self._cause = client, None
                self._change()
                if self._pipes is not None:
                    self._group.start_soon(self._follow, self._pipes)
                await self._down.wait()
                self._group.cancel_scope.cancel()
        finally:
            self._client = self._group = None

    async def _follow(self, pipes: Pipes) -> None:
        await pipes.ended.wait()
        self._lose(pipes.error or ProcessGone(f"{self} was lost"))

    def _lose(self, cause: BaseException) -> None:
        """End this connection; the calls that wait for it end with the cause."""
        self._cause = cause
        if self._pipes is not None and isinstance(cause, ProcessError):
            self._pipes.end(cause)
        self._client = None
        self._down.set()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _connected(self, stack: AsyncExitStack) -> Client:
        """Return a client after the handshake of whichever era the server speaks."""
        modes = ("legacy", "auto") if self._mode == "auto" else (self._mode,)
        for mode in modes:
            inner = AsyncExitStack()
            try:
                transport = await inner.enter_async_context(self._transport())
                client = Client(
                    transport,
                    mode=mode,
                    cache=None,
                    client_info=Implementation(name="dagexec", version=_version()),
                )
                await inner.enter_async_context(client)
            except Exception as raised:  # noqa: BLE001 - raised again below
                # The handshake of the protocol until 2025-11 is tried first: a server that does
                # not know the newer question may leave it without an answer.
                error = _single(raised)
                closed = isinstance(error, MCPError) and error.error.code == CONNECTION_CLOSED
                reason = await self._reason(self._pipes) if closed else error
                await inner.aclose()
                if closed or not isinstance(error, MCPError) or mode == modes[-1]:
                    raise reason from (None if reason is error else error)
            except BaseException:
                await inner.aclose()
                raise
            else:
                stack.push_async_callback(inner.aclose)
                return client
        raise AssertionError

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[Any]:
        server = self._server
        if isinstance(server, StdioServer):
            child = Child(
                server.command,
                lines=True,
                env=server.environment,
                cwd=server.cwd,
                guards=self._guards,
                grace=self._grace,
            )
            async with child:
                self._child, self._pipes = child, Pipes(child)
                yield self._pipes.open()
            return
        async with AsyncExitStack() as stack:
            http = server.client
            if http is None:
                http = create_mcp_http_client(headers=dict(server.headers))
                await stack.enter_async_context(http)
            yield streamable_http_client(server.url, http_client=http)

    def __str__(self) -> str:
        return f"MCP server {self.name!r}"


async def _is_read(pipes: Pipes) -> bool:
    """Wait until all that was queued has been written; return False if nothing moves."""
    queued, sent, since = pipes.queued, pipes.child.sent, anyio.current_time()
    while pipes.sent < queued:
        if pipes.child.sent != sent:
            sent, since = pipes.child.sent, anyio.current_time()
        elif anyio.current_time() - since > RELUCTANCE:
            return False
        await anyio.sleep(RELUCTANCE / 20)
    return True


class _Lost(Exception):
    """The connection was gone before a request was answered."""


def _ends_http(error: Exception) -> bool:
    """Whether an error says that a session over HTTP is of no more use."""
    if isinstance(error, MCPError):
        # The package's own words for a 404: the server has forgotten the session.
        return error.error.code == CONNECTION_CLOSED or "Session terminated" in str(error)
    return not isinstance(error, DagexecError | ValueError | RuntimeError)


async def _all_tools(client: Client) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _single(error: BaseException) -> BaseException:
    """Return the one error in a group, or the group."""
    found: Any = error
    while isinstance(found, BaseExceptionGroup):
        members: tuple[Any, ...] = cast("Any", found).exceptions
        if len(members) != 1:
            break
        (found,) = members
    return cast("BaseException", found)


def _version() -> str:
    from dagexec import __version__

    return __version__
