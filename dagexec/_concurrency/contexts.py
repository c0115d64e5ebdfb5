"""Run a coroutine in a ContextVar context of its own, without a task of its own."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")


def _same(begun: float, coroutine: object) -> None:
    """Take no notice of how long a step took."""


async def in_context(context: Context, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine` with each of its steps run in `context`.

    Calls of one worker share its task, and must not see the ContextVars that others set. A task
    for each would cost twenty times as much as this.
    """
    try:
        waits_for = context.run(coroutine.send, None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    return await go_on(context, coroutine, waits_for)  # type: ignore[no-any-return]


@types.coroutine
def go_on(
    context: Context,
    coroutine: Coroutine[Any, Any, Any],
    waits_for: Any,
    on_throw: Callable[[BaseException], object] = bool,
    *,
    on_step: Callable[[float, object], object] = _same,
    slow: float = float("inf"),
) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine that has been run up to its first wait, which is `waits_for`.

    `on_throw` is told of each exception that is thrown into it, `on_step` when a step began that
    took more than `slow` seconds. Otherwise it does what `await` does (PEP 380).
    """
    run = context.run
    try:
        while True:
            step = coroutine.send
            try:
                given = yield waits_for
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation too goes to the tool
                on_throw(error)
                step, given = coroutine.throw, error
            else:
                # trio sends its exceptions wrapped (outcome.Error); asyncio sends None.
                sent = None if given is None else getattr(given, "error", None)
                if sent is not None:
                    on_throw(sent)
            begun = monotonic()
            try:
                waits_for = run(step, given)
            finally:
                del given
                if monotonic() - begun > slow:
                    on_step(begun, coroutine)
    except StopIteration as end:
        return end.value
