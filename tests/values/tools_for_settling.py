"""Tools that return what has still to be read, where a worker process can import them."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from pathlib import Path

import anyio

from dagexec import current_call, tool
from dagexec._tools import settle


async def after(value: object, seconds: float = 0.001) -> object:
    await anyio.sleep(seconds)
    return value


class Later:
    """An object that can be awaited."""

    def __await__(self):
        yield from anyio.sleep(0.001).__await__()
        return iter([1, 2])


async def numbers(count: int):
    for number in range(count):
        await anyio.sleep(0.001)
        yield number


def cursor():
    return sqlite3.connect(":memory:", check_same_thread=False).execute("VALUES (1, 'a')")


INSIDE = {"a": [[1], 2], "b": ([0],)}
MAKES = {
    "map": (lambda: map(str, [1, 2]), ["1", "2"]),
    "glob": (lambda: Path(__file__).parent.glob(Path(__file__).name), [Path(__file__)]),
    "generator": (lambda: (each * 2 for each in range(3)), [0, 2, 4]),
    "cursor": (cursor, [(1, "a")]),
    "coroutine": (lambda: after("x"), "x"),
    "awaitable of an iterator": (Later, [1, 2]),
    "async generator": (lambda: numbers(3), [0, 1, 2]),
    "inside": (lambda: {"a": [iter([1]), after(2)], "b": (numbers(1),)}, INSIDE),
    "iterator of coroutines": (lambda: (after(each) for each in "ab"), ["a", "b"]),
}  # fmt: skip


def forever(waits: bool = False):
    yield from itertools.count()


async def forever_async(waits: bool):
    for number in itertools.count():
        if waits:
            await anyio.sleep(0.001)
        yield number


ENDLESS = {
    "generator": forever,
    "async generator": lambda: forever_async(waits=False),
    "async generator that waits": lambda: forever_async(waits=True),
    "coroutine": lambda: after(1, 3600),
    "blocking generator": lambda: (time.sleep(0.001) for _ in itertools.count()),
}


@tool(runs="process", effect="read")
def there(kind: str) -> object:
    """Return what has to be read, in a process of its own."""
    return MAKES[kind][0]()


@tool(runs="process", effect="read", timeout=1.5)
def endless_there(kind: str, pid: str) -> object:
    """Return what never ends; keep less of it than usual."""
    settle.MOST_ITEMS = 1000
    Path(pid).write_text(str(os.getpid()))
    return ENDLESS[kind]()


@tool(runs="process", effect="read")
def named_there() -> object:
    """Return what knows for which call it is read, and raises half way."""

    def read():
        yield 1
        raise ValueError(f"half way of {current_call().id}")

    return read()
