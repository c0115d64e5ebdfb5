"""Tools that the tests run with an Executor, with an engine, and in workers of their own."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from dagexec import CallContext, Tool, ask, current_call, tool
from dagexec.limits import Retry

# How often each call was tried in this process, by run and call.
tries: Counter[tuple[str, str]] = Counter()


@dataclass
class Point:
    """A value with a type of its own."""

    x: int
    y: Decimal


@tool(effect="read")
async def add(x: int, y: int = 0) -> int:
    return x + y


@tool(effect="read")
def point(x: int) -> Point:
    return Point(x, Decimal("1.5"))


@tool(effect="read")
async def item(key: str) -> dict[str, object]:
    return {key: [1, 2, {"deep": key}], "$ref": "a.b", "n": None}


@tool(effect="read")
async def same(value: object) -> object:
    return value


@tool
async def fail(why: object = "no") -> None:
    raise ValueError(f"it failed: {why}")


@tool(effect="pure")
async def square(x: int) -> int:
    current = current_call()
    tries[current.run_id, f"square {x}"] += 1
    return x * x


@tool(effect="pure")
async def broken(x: int) -> int:
    raise RuntimeError(f"broken {x}")


@tool(effect="idempotent", retry=Retry(attempts=3, base=0.001))
async def flaky(good_at: int, context: CallContext) -> str:
    tries[context.run_id, context.id] += 1
    if tries[context.run_id, context.id] < good_at:
        raise ConnectionError("not yet")
    return f"attempt {context.attempt}"


@tool(timeout=0.05)
async def slow_write(x: int) -> int:
    await asyncio.sleep(60)
    return x


@tool(effect="read", timeout=0.05)
async def slow_read(x: int) -> int:
    await asyncio.sleep(60)
    return x


@tool(effect="read", timeout=60)
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@tool(timeout=60)
async def long_write(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@tool(approval=True)
async def pay(amount: float) -> str:
    return f"paid {amount}"


@tool(approval=lambda args: args["amount"] > 10)
async def pay_much(amount: float) -> str:
    return f"paid {amount}"


@tool
async def question(what: str) -> str:
    first = await ask({"what": what})
    second = await ask({"again": what})
    return f"{first} {second}"


@tool(reads=("file:{path}",), effect="read")
async def read(path: str) -> str:
    return path


@tool(writes=("file:{path}",))
async def write(path: str) -> str:
    return path


@tool
async def unwritable() -> object:
    return object()


@tool(effect="read")
async def key() -> str:
    return current_call().idempotency_key


@tool(effect="read")
async def get(x: object = 0) -> object:
    return x


@tool(effect="read", secret=("token",))
async def login(token: str) -> str:
    return token


@tool(effect="read", secret=("token",), approval=True)
async def login_if(token: str) -> str:
    return token


TOOLS: list[Tool] = [
    add, point, item, same, fail, square, broken, flaky, slow_write, slow_read, nap, long_write,
    pay, pay_much, question, read, write, unwritable, key,
]  # fmt: skip
