"""A connection to one server, in a task of its own, and the calls that wait for it.

The package's client is never awaited by a call itself: it runs in the connection's task, and the
call waits for an event under its own deadline. So a deadline holds whatever the client or the
server does, and a call that was given up costs the connection only if it does not let go.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, final

import anyio
from anyio import CancelScope, create_task_group
from anyio.lowlevel import current_token

from dagexec._concurrency.loop_task import LoopTask
from dagexec._concurrency.restart import Restart, Restarts
from dagexec._errors import DagexecError, GuardExpired, ProcessGone
from dagexec.integrations.mcp._asking import Asking
from dagexec.integrations.mcp._servers import Server
from dagexec.integrations.mcp._session import How, Session

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import ElicitResult


_log: Final = logging.getLogger("dagexec")

# Seconds that leaving a connection may take on top of the grace of its process.
PATIENCE: Final = 10.0


@final
class Connection:
    """A server, connected to again when it is lost, as its policy allows."""

    def __init__(self, name: str, server: Server, how: How, restart: Restart) -> None:
        """Start nothing yet."""
        self.name = name
        self.restarts = 0
        self.listed: list[Any] = []
        """The tools that it told of, as mcp_types.Tool."""
        self._server = server
        self.how = how
        self._policy = Restarts(restart)
        self._host: LoopTask | None = None
        self._closing = False
        self._changed: anyio.Event
        # The newest session; older ones may still be ending their processes.
        self._session: Session | None = None
        # Why it was lost last, and whether that is for good.
        self._cause: BaseException | None = None
        self._lost = False

    # ------------------------------------------------------------------------- for its owner

    async def open(self) -> None:
        """Connect and read the list of tools; raise what went wrong."""
        self._changed = anyio.Event()
        self._closing = self._lost = False
        name = f"the connection to MCP server {self.name!r}"
        self._host = LoopTask(name, self._live, at_end=self._change)
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
            with anyio.move_on_after(self.how.grace + PATIENCE):
                await host.ended.wait()
            if not host.ended.is_set():
                _log.error("the connection to MCP server %r does not end; left behind", self.name)
        self._host = None

    @property
    def pid(self) -> int | None:
        """The id of its process while there is one."""
        child = None if self._session is None else self._session.child
        return None if child is None or child.returncode is not None else child.pid

    @property
    def stderr(self) -> str:
        """The last 64 KiB that its process wrote to stderr."""
        child = None if self._session is None else self._session.child
        return "" if child is None else child.stderr.text

    # ---------------------------------------------------------------------------- for calls

    async def request(
        self,
        function: Callable[[Client, Asking], Awaitable[Any]],
        what: str,
        answer: Callable[[Any], Awaitable[ElicitResult]],
    ) -> Any:
        """Carry out a request; return its result, or raise why there is none.

        `answer` is awaited with what the server asks meanwhile, in the caller's task.

        Raises GuardExpired after `guards.request` seconds, ProcessGone if the server is lost,
        MCPError if it answers with one. `maybe` of the first two says whether it may have begun.
        """
        asking = Asking()
        while True:
            await self._wait_for(asking, function, what, answer)
            if asking.error is None:
                return asking.value
            if not asking.again:
                assert asking.session is not None  # noqa: S101 - it has ended, so it had begun
                raise await asking.session.explained(asking, what)
            asking = Asking(alone=True)

    async def _wait_for(
        self,
        asking: Asking,
        function: Callable[[Client, Asking], Awaitable[Any]],
        what: str,
        answer: Callable[[Any], Awaitable[ElicitResult]],
    ) -> None:
        """Wait until a request has ended; give it up when the call is."""
        seconds = self.how.guards.request
        with anyio.move_on_after(seconds) as asking.limit:
            try:
                session = await self._until_up()
                session.begin(function, asking)
                while not asking.done.is_set():
                    for question in await asking.questions():
                        question.answer(await answer(question.params))
            finally:
                if asking.session is not None and not asking.done.is_set():
                    asking.session.let_go(asking)
        if asking.limit.cancelled_caught and not asking.done.is_set():
            late = GuardExpired(f"{self}: {what} got no answer within {seconds:g} s", "request")
            late.maybe = asking.handed
            raise late

    async def _until_up(self) -> Session:
        if self._host is not None and self._host.loop is not current_token().native_token:
            msg = f"{self} was opened in another event loop; open its tools in this one"
            raise DagexecError(msg)
        while self._session is None or not self._session.is_up:
            if self._host is None or self._closing:
                msg = f"{self} is not connected: use its tools inside `async with MCPTools(...)`"
                raise DagexecError(msg)
            if self._lost or self._host.ended.is_set():
                msg = f"{self} cannot be reached: {self._cause or self._host.error}"
                raise ProcessGone(msg) from self._cause
            await self._changed.wait()
        return self._session

    # ------------------------------------------------------------------------ its own task

    async def _live(self) -> None:
        """Connect, and connect again, until it is closed or the policy says no."""
        try:
            async with create_task_group() as sessions:
                while not self._closing:
                    # A lost one ends its process meanwhile: nobody waits for its grace.
                    session = Session(str(self), self._server, self.how, self._change)
                    self._session = session
                    sessions.start_soon(session.live)
                    await session.over.wait()
                    self.listed = session.listed or self.listed
                    self._cause = session.cause
                    if not await self._may_go_on():
                        break
                self._lost = True
                self._change()
        finally:
            self._lost = True
            self._change()

    async def _may_go_on(self) -> bool:
        """Wait until it may be connected to again; return False if it may not."""
        if self._closing:
            return False
        delay = self._policy.delay(anyio.current_time()) if self.listed else None
        again = "given up" if delay is None else f"connecting again in {delay:g} s"
        why = "; ".join([str(self._cause), *getattr(self._cause, "__notes__", ())])
        _log.warning("%s was lost: %s; %s", self, why, again)
        if delay is None:
            return False
        self.restarts += 1
        await anyio.sleep(delay)
        return True

    def _change(self) -> None:
        if self._session is not None and self._session.is_up:
            self.listed = self._session.listed
        self._changed.set()
        self._changed = anyio.Event()

    def __str__(self) -> str:
        return f"MCP server {self.name!r}"
