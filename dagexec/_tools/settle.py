"""What a tool returned becomes a value: awaited, collected, no longer anybody else's.

A value is settled when nothing is left to be awaited in it (coroutines, tasks, objects with
`__await__`) and nothing that can be read only once (iterators, generators, asynchronous ones, open
files and cursors): those become lists. Its containers are copied, see `dagexec._core.copies`. All
of this belongs to the call: it happens under the call's own deadline, in the call's context, and
what it raises is the call's failure. Whoever runs tools calls `settled`; where there is no event
loop, in a thread, `collected` does the part that needs none, and in a process of its own
`settled_here` does all of it.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from io import IOBase
from time import monotonic
from typing import Any, Final, cast

import anyio
from anyio.lowlevel import checkpoint

from dagexec._concurrency.threads import enclosing_thread_call, run_in_thread
from dagexec._core.copies import PLAIN, own
from dagexec._errors import DagexecError
from dagexec._tools.context import current_call, inside_a_call
from dagexec._tools.tool import Tool

# What is kept of an iterator. Beyond, it is read on without being kept, until it ends (then the
# call fails) or its deadline comes: an endless one must cost time only.
MOST_ITEMS: Final = 1_000_000
MOST_BYTES: Final = 256 * 1024 * 1024
# Seconds of reading after which the event loop gets its turn.
_TURN: Final = 0.005
# How many values may come out of one another: an awaitable whose value is an iterator of them, …
_DEPTH: Final = 32


def settled(value: Any) -> Any:
    """Return the settled value, or a coroutine that returns it where something must be awaited."""
    if type(value) in PLAIN:
        return value
    unread: list[Any] = []

    def note(item: Any) -> Any:
        if _is_unread(item):
            unread.append(item)
        return item

    kept = own(value, note)
    return _read(kept, unread) if unread else kept


def collected(value: Any, is_over: Callable[[], bool], *, ends: bool) -> Any:
    """Return a value whose iterators are lists; what must be awaited stays as it is.

    For code that may block. When `is_over` says so, reading ends and TimeoutError is raised;
    `ends` says whether it ever will.
    """
    if type(value) in PLAIN:
        return value

    def read(item: Any) -> Any:
        if not _is_iterator(item) or inspect.isawaitable(item):
            return item
        items = _Items()
        for each in _closing(item):
            items.add(each, ends=ends)
            if items.look() and is_over():
                msg = "the call was over before the iterator that its tool returned"
                raise TimeoutError(msg)
        return [collected(each, is_over, ends=ends) for each in items.all()]

    return own(value, read)


def collected_here(value: Any) -> Any:
    """Return a value as `collected` does, in the thread of the call whose tool returned it."""
    thread = enclosing_thread_call()
    if thread is None:
        return collected(value, lambda: False, ends=False)
    return collected(value, lambda: thread.abandoned, ends=_has_deadline())


async def run_tool(tool: Tool[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a tool for a framework that runs it itself, and return its settled value."""
    if tool.runs == "async":
        value = settled(await tool.function(**arguments))
    else:
        value = settled(await run_in_thread(lambda: collected_here(tool.function(**arguments))))
    if inspect.iscoroutine(value):
        value = await cast("Coroutine[Any, Any, Any]", value)
    return value


def settled_here(value: Any, seconds: float | None) -> Any:
    """Return the settled value, in a process that its parent ends after so many seconds."""
    value = settled(value)
    if not inspect.iscoroutine(value):
        return value
    waiting: Coroutine[Any, Any, Any] = value

    async def wait() -> Any:
        with anyio.fail_after(seconds):
            return await waiting

    return anyio.run(wait)


# ------------------------------------------------------------------------------- what is to be read


def _is_unread(value: Any) -> bool:
    kind = cast("type[Any]", type(value))
    return hasattr(kind, "__anext__") or inspect.isawaitable(value) or _is_iterator(value)


def _is_iterator(value: Any) -> bool:
    kind = cast("type[Any]", type(value))
    if not hasattr(kind, "__next__") or not hasattr(kind, "__iter__"):
        return False
    return not isinstance(value, IOBase) or (not value.closed and value.readable())


class _Items:
    """What has been read so far; keeps a bounded part of it."""

    __slots__ = ("_bytes", "_count", "_items", "_turn")

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._bytes = 0
        self._count = 0
        self._turn = monotonic()

    def add(self, item: Any, *, ends: bool) -> None:
        self._count += 1
        if self._count > MOST_ITEMS or self._bytes > MOST_BYTES:
            self._items.clear()
            if not ends:
                self.all()
            return
        self._items.append(item)
        self._bytes += sys.getsizeof(item, 64)

    def look(self) -> bool:
        """Whether it is time to look at something else than the iterator.

        Asked for each item: one alone may have taken longer than that.
        """
        now = monotonic()
        if now - self._turn < _TURN:
            return False
        self._turn = now
        return True

    def all(self) -> list[Any]:
        if self._count > len(self._items):
            msg = (
                f"the tool returned an iterator of {self._count:,} items; a value holds at most"
                f" {MOST_ITEMS:,} of them, or {MOST_BYTES >> 20} MB: return less, or a file's name"
            )
            raise DagexecError(msg)
        return self._items


# --------------------------------------------------------------------------------------- to read it


async def _read(value: Any, unread: list[Any], depth: int = 0) -> Any:
    """Read what is unread in a value, one after the other, and what comes out of it too."""
    read: dict[int, Any] = {}
    try:
        for item in unread:
            if id(item) not in read:
                read[id(item)] = await _one(item, depth + 1)
    finally:
        for item in unread:
            if id(item) not in read and inspect.iscoroutine(item):
                item.close()  # or Python would complain that it was never awaited
    return own(value, lambda item: read.get(id(item), item))


async def _one(item: Any, depth: int) -> Any:
    if depth > _DEPTH:
        msg = f"the tool returned what is still to be awaited or read after {_DEPTH} times"
        raise DagexecError(msg)
    if inspect.isawaitable(item):
        found = await item
    elif hasattr(cast("Any", type(item)), "__anext__"):
        found = await _all_of_async(item)
    else:
        found = await _all_of(item)
    unread: list[Any] = []

    def note(each: Any) -> Any:
        if _is_unread(each):
            unread.append(each)
        return each

    kept = own(found, note)
    return await _read(kept, unread, depth) if unread else kept


def _will_end() -> bool:
    """Whether reading for ever will be ended; a framework may do it in a task of its own."""
    return anyio.current_effective_deadline() < math.inf or _has_deadline()


def _has_deadline() -> bool:
    return inside_a_call() and current_call().deadline is not None


async def _all_of(iterator: Any) -> list[Any]:
    items, ends = _Items(), _will_end()
    for each in _closing(iterator):
        items.add(each, ends=ends)
        if items.look():
            await checkpoint()
    return items.all()


async def _all_of_async(iterator: AsyncIterator[Any]) -> list[Any]:
    items, ends = _Items(), _will_end()
    try:
        async for each in iterator:
            items.add(each, ends=ends)
            if items.look():
                await checkpoint()
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
    return items.all()


def _closing(iterator: Any) -> Iterator[Any]:
    """Yield what an iterator yields, and close it if reading ends before it does."""
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None and not isinstance(iterator, IOBase):
            close()
