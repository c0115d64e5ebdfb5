"""MCP over the pipes of a supervised child.

The client of the `mcp` package starts a server with a transport of its own, whose stderr goes
where nobody counts it, whose lines have no limit, which does not watch for the end of the process
and which waits for writes before it looks at a timeout. This one takes its place; the protocol
above it is the package's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final

import anyio
from anyio import create_task_group
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from dagexec._errors import ProcessError
from dagexec.processes import Child

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


_log: Final = logging.getLogger("dagexec")

# Seconds between the end of a server and that of what waits for it, for what it wrote last.
AFTERMATH: Final = 0.1


@final
class Pipes:
    """Messages to and from a child.

    `ended` is set when no more can come, and `error` then says why. `junk` counts lines that were
    no messages; `queued` and `sent` count the messages to it.
    """

    def __init__(self, child: Child) -> None:
        """Must be made in the event loop; nothing is read before `open`."""
        self.child = child
        self.ended = anyio.Event()
        self.error: ProcessError | None = None
        self.junk = 0
        self.queued = 0
        self.sent = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Any]:
        """Yield the pair of streams that the package's client wants of a transport."""
        # Of no size, so that reading stops while the client is busy; and without a bound, so that
        # the client never waits to write: it would do so before it looks at a deadline.
        inward_end, inward = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outward, outward_end = anyio.create_memory_object_stream[SessionMessage](math.inf)
        async with create_task_group() as group:
            group.start_soon(self._read, inward_end)
            group.start_soon(self._write, outward_end)
            group.start_soon(self._watch)
            try:
                yield inward, _Counting(outward, self)
            finally:
                group.cancel_scope.cancel()
                for stream in (inward_end, inward, outward, outward_end):
                    stream.close()

    async def _read(self, inward: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        with inward:
            try:
                async for line in self.child.lines():
                    message = self._parsed(line)
                    if message is not None:
                        await inward.send(message)
            except ProcessError as error:
                self.end(error)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            await self._end_by_child()

    async def _end_by_child(self) -> None:
        """Say that the child has gone, and how if it is ending just now."""
        with anyio.move_on_after(AFTERMATH):
            await self.child.exited()
        self.end(self.child.gone())

    def _parsed(self, line: bytes) -> SessionMessage | None:
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            if line.strip():
                self.junk += 1
                if self.junk == 1:
                    _log.warning(
                        "%s writes to stdout what is no message; such lines are counted, and"
                        " dropped",
                        self.child,
                    )
            return None

    async def _write(self, outward: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async for message in outward:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            try:
                await self.child.send(text.encode() + b"\n")
            except ProcessError:
                await self._end_by_child()
                return
            self.sent += 1

    async def _watch(self) -> None:
        """See its end apart from the end of its output, which others may hold open."""
        await self.child.exited()
        await anyio.sleep(AFTERMATH)
        self.end(self.child.gone())

    def end(self, error: ProcessError) -> None:
        """Say why no more can come; the first reason is kept."""
        self.error = self.error or error
        self.ended.set()


@final
class _Counting:
    """The stream that the client writes to; counts what comes."""

    def __init__(self, stream: MemoryObjectSendStream[SessionMessage], pipes: Pipes) -> None:
        self._stream = stream
        self._pipes = pipes

    async def send(self, item: SessionMessage) -> None:
        self._pipes.queued += 1
        await self._stream.send(item)

    async def aclose(self) -> None:
        self._stream.close()

    async def __aenter__(self) -> _Counting:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stream.close()
