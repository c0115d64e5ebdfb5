"""One session with a server, from the handshake until it is lost or closed."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio
from anyio import CancelScope, create_task_group
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, ElicitResult, Implementation

from dagexec._errors import DagexecError, GuardExpired, ProcessError, ProcessGone
from dagexec.integrations.mcp._asking import Asking, Turns, current_asking
from dagexec.integrations.mcp._servers import Server, StdioServer
from dagexec.integrations.mcp._tasks import Tasks
from dagexec.integrations.mcp._transport import AFTERMATH, Pipes
from dagexec.processes import Child, Guards

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


# Seconds that a call which was given up may take to let go, before the session is.
RELUCTANCE: Final = 1.0
# Pages of tools that are read.
MOST_PAGES: Final = 100
# Where a message says which task it is about.
RELATED_TASK: Final = "io.modelcontextprotocol/related-task"


@final
@dataclass(frozen=True, slots=True)
class How:
    """How a server is connected to. Times in seconds."""

    guards: Guards
    connect: float
    grace: float
    mode: str
    # Whether the server may ask a person.
    elicit: bool

    @property
    def patience(self) -> float:
        """Seconds for the answer to one request; inf without a limit."""
        return math.inf if self.guards.request is None else self.guards.request


class Lost(Exception):
    """The session was gone before a request was answered."""


@final
class Session:
    """What there is while a server is connected to; a lost one is never used again.

    `over` is set when it takes no more calls, and `cause` then says why. Ending its process may
    take longer, and goes on inside `live`.
    """

    def __init__(self, title: str, server: Server, how: How, connected: Callable[[], None]) -> None:
        """Start nothing yet; `connected` is called when calls may come."""
        self.title = title
        self.listed: list[Any] = []
        self.cause: BaseException | None = None
        self.is_up = False
        self.over = anyio.Event()
        self.child: Child | None = None
        self._server = server
        self._how = how
        self._connected = connected
        self._turns = Turns()
        self._client: Client | None = None
        self._group: TaskGroup | None = None
        self._pipes: Pipes | None = None

    # ---------------------------------------------------------------------------- its own task

    async def live(self) -> None:
        """Connect, serve calls until it is lost, and end what was started for it."""
        try:
            # One scope round the whole session: what is entered under a deadline must be left
            # before the deadline's scope is, so the deadline goes when the handshake is done.
            limit = CancelScope(deadline=anyio.current_time() + self._how.connect)
            with limit:
                async with AsyncExitStack() as stack:
                    client = await self._shake_hands(stack)
                    self.listed = await _all_tools(client)
                    limit.deadline = math.inf
                    await self._serve(client)
            if limit.cancelled_caught:
                seconds = self._how.connect
                msg = f"{self.title} did not answer within {seconds:g} s of being connected to"
                self._end(GuardExpired(msg, "request"))
        except Exception as error:  # noqa: BLE001 - kept, and told to every call
            self._end(single(error))
        finally:
            self._end(ProcessGone("the connection was closed"))

    async def _serve(self, client: Client) -> None:
        """Let calls use the client until the session is lost or closed."""
        try:
            async with create_task_group() as self._group:
                self._client = client
                self.is_up = True
                self._connected()
                if self._pipes is not None:
                    self._group.start_soon(self._follow, self._pipes)
                await self.over.wait()
                self._group.cancel_scope.cancel()
        finally:
            self.is_up = False
            self._client = self._group = None

    async def _follow(self, pipes: Pipes) -> None:
        await pipes.ended.wait()
        self._lose(pipes.error or ProcessGone(f"{self.title} was lost"))

    def _lose(self, cause: BaseException) -> None:
        """Take no more calls; those that wait end with the cause."""
        if self._pipes is not None and isinstance(cause, ProcessError):
            self._pipes.end(cause)
        self._end(cause)

    def _end(self, cause: BaseException) -> None:
        self.is_up = False
        self.cause = self.cause or cause
        self.over.set()

    async def _shake_hands(self, stack: AsyncExitStack) -> Client:
        """Return a client after the handshake of whichever era the server speaks."""
        modes = ("legacy", "auto") if self._how.mode == "auto" else (self._how.mode,)
        for mode in modes:
            inner = AsyncExitStack()
            try:
                transport = await inner.enter_async_context(self._transport())
                client = Client(
                    transport,
                    mode=mode,
                    cache=None,
                    client_info=Implementation(name="dagexec", version=_version()),
                    elicitation_callback=self._elicit if self._how.elicit else None,
                    extensions=[Tasks(self._how.patience)],
                )
                await inner.enter_async_context(client)
            except Exception as raised:  # noqa: BLE001 - raised again below
                # The handshake of the protocol until 2025-11 is tried first: a server that does
                # not know the newer question may leave it without an answer.
                error = single(raised)
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
                guards=self._how.guards,
                grace=self._how.grace,
            )
            async with child:
                self.child, self._pipes = child, Pipes(child)
                yield self._pipes.open()
            return
        async with AsyncExitStack() as stack:
            http = server.client
            if http is None:
                http = create_mcp_http_client(headers=dict(server.headers))
                await stack.enter_async_context(http)
            yield streamable_http_client(server.url, http_client=http)

    async def _elicit(self, context: Any, params: Any) -> ElicitResult:
        """Let a person answer what the server asks; called by the package's client."""
        meta: dict[str, Any] = context.meta or {}
        related: dict[str, Any] = meta.get(RELATED_TASK) or {}
        asking = await self._turns.whose(related.get("taskId"))
        return ElicitResult(action="cancel") if asking is None else await asking.ask(params)

    # ------------------------------------------------------------------------------- for calls

    def begin(self, function: Callable[[Client, Asking], Awaitable[Any]], asking: Asking) -> None:
        """Carry out a request in the session's own task; `asking` tells of its end."""
        asking.session = self
        assert self._group is not None  # noqa: S101 - it is up
        self._group.start_soon(self._carry_out, function, asking)

    async def _carry_out(
        self, function: Callable[[Client, Asking], Awaitable[Any]], asking: Asking
    ) -> None:
        client, child = self._client, self.child
        asking.error = Lost()  # unless it comes to another end
        current_asking.set(asking)
        try:
            with asking.scope:
                async with self._turns.turn(asking):
                    with nullcontext() if child is None else child.expecting():
                        if client is not None:
                            asking.value = await function(client, asking)
                            asking.error = None
        except Exception as error:  # noqa: BLE001 - raised again by who asked
            asking.error = error
            if child is None and _ends_http(error):
                self._lose(error)
        finally:
            asking.end()

    def let_go(self, asking: Asking) -> None:
        """Give a request up: the client tells the server, in the session's own task."""
        asking.scope.cancel()
        if self._group is not None and asking.handed:
            self._group.start_soon(self._insist, asking)

    async def _insist(self, asking: Asking) -> None:
        """End a session whose client or server does not let go of a request."""
        with anyio.move_on_after(RELUCTANCE):
            await asking.done.wait()
        pipes = self._pipes
        if not asking.done.is_set() or (pipes is not None and not await _is_read(pipes)):
            self._lose(ProcessGone(f"{self.title} does not read its input any more"))

    async def explained(self, asking: Asking, what: str) -> BaseException:
        """Return what to raise for a request that failed; a lost session has a reason."""
        error = asking.error
        assert error is not None  # noqa: S101 - checked by the caller
        closed = isinstance(error, MCPError) and error.error.code == CONNECTION_CLOSED
        if not closed and not isinstance(error, Lost):
            return error
        cause = await self._reason(self._pipes)
        lost: ProcessError = ProcessGone(f"{self.title}: {what} was cut off: {cause}")
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
        return self.cause or ProcessGone("the connection was closed")


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


def single(error: BaseException) -> BaseException:
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
