"""A reply that is read while it is being written: what all such streams of calls have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from inspect import isawaitable
from typing import Any, Final, Self, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from dagexec import Call, DagexecError
from planners._core.edge import described

# Seconds that closing a connection may take when nobody reads from it any more.
_CLOSING: Final = 1.0

Events: TypeAlias = "AsyncIterator[Any] | Iterator[Any]"


class ReplyStream(AsyncIterator[Call], ABC):
    """Reads events and hands out the calls that are complete; how is its subclasses' affair."""

    def __init__(
        self, source: Any, events: Events, on_event: Callable[[Any], object] | None
    ) -> None:
        """Read nothing yet; `events` are those of `source`, which is closed with them."""
        self.response: dict[str, Any] | None = None
        self.broken: str | None = None
        self.whole = False
        self._source = source
        self._events = events
        self._on_event = on_event
        # Calls that are complete and were not handed out.
        self._ready: deque[Call] = deque()
        self._begun = False
        # Whether nothing more will be read.
        self._over = False

    @property
    def heard(self) -> list[Any]:
        """What `replay` needs beside the response, as JSON."""
        return []

    def __aiter__(self) -> Self:
        """Return itself: a stream can be read once."""
        return self

    async def __anext__(self) -> Call:
        """Return the next complete call."""
        self._begin_once()
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            try:
                event = await _next(self._events)
                if event is None:
                    self._finish()
                else:
                    if self._on_event is not None:
                        self._on_event(event)
                    self._take(event)
            except BaseException:
                await self._break_off()
                raise
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Stop reading and close the source; keep the calls that are complete."""
        self._begin_once()
        if not self._over:
            await self._break_off()

    def replay(self, heard: Iterable[Any], *, whole: bool) -> None:
        """Hear again what an earlier stream of this reply had `heard`, instead of the source."""
        self._begin_once()
        for event in heard:
            self._take(event)
        if whole:
            self._finish()
        else:
            self._over = True
            self._break()

    @abstractmethod
    def _begin(self) -> None:
        """Begin the turn, before anything is read."""

    @abstractmethod
    def _take(self, event: Any) -> None:
        """Read one event."""

    @abstractmethod
    def _finish(self) -> None:
        """Take the end of the events; raise `ended_early` if it is not that of the reply."""

    @abstractmethod
    def _break(self) -> None:
        """Keep the complete calls of a reply whose end will not come."""

    def _begin_once(self) -> None:
        if not self._begun:
            self._begin()
            self._begun = True

    async def _break_off(self) -> None:
        if not self._over:
            self._over = True
            self._break()
        await self._close()

    async def _close(self) -> None:
        both = (self._events,) if self._events is self._source else (self._events, self._source)
        for source in both:
            close = getattr(source, "aclose", None) or getattr(source, "close", None)
            if close is None:
                continue
            with anyio.move_on_after(_CLOSING, shield=True):
                done = close()
                if isawaitable(done):
                    await done


def events_of(source: Any, refused: Callable[[object], DagexecError]) -> Any:
    """Return an iterator over the events of a stream; raise DagexecError for anything else."""
    # The SDKs' streams are their own iterators; what their __aiter__ returns is one more generator.
    if hasattr(source, "__anext__"):
        return source
    if hasattr(source, "__aiter__"):
        return aiter(source)
    if hasattr(source, "__iter__") and not isinstance(source, str | bytes):
        return iter(source)
    if hasattr(source, "__aenter__") or hasattr(source, "__await__"):
        msg = (
            f"stream() takes the stream itself, not {described(source)}: await the SDK's"
            " create(..., stream=True), or enter its stream(...) with `async with`"
        )
        raise DagexecError(msg)
    raise refused(source)


def ended_early() -> DagexecError:
    """Return the error for a stream that ends before its reply does."""
    return DagexecError(
        "the stream ended before the reply did: nothing said why the model stopped."
        " What was complete is kept; ask again for the rest"
    )


async def _next(events: Any) -> Any:
    """Return the next event; None at the end."""
    if not hasattr(events, "__anext__"):
        await checkpoint()  # calls start while the events of a list are read, too
        return next(events, None)
    try:
        return await anext(events)
    except StopAsyncIteration:
        return None
