"""The intake: reads the calls of a streamed plan into its run, while the run goes on."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, TypeGuard, final, runtime_checkable

from dagexec._core.events import Notice
from dagexec._core.names import cut, kind_of
from dagexec._core.outcomes import Cancelled
from dagexec._core.plan import Call, Plan
from dagexec._core.results import ProgramEnd
from dagexec._core.scheduler import Action, Added, Closed, Event
from dagexec._errors import DagexecError
from dagexec._runtime.state import RunState
from dagexec._tools.order import Order
from dagexec._tools.tool import Tool


class Sink(Protocol):
    """What records a stream before the machine is told of it: the recorder."""

    async def arrived(self, *events: Added) -> None:
        """Take calls of the stream that came together."""
        ...

    async def complete(self) -> None:
        """Take the end of the stream."""
        ...


@runtime_checkable
class Live(Protocol):
    """What can be run and finds its calls only while it runs: a program."""

    def live(self, tools: Mapping[str, Tool[..., Any]], /) -> AsyncIterator[Call]:
        """Return the source of one run of it, in an executor with these tools."""
        ...


@runtime_checkable
class Listens(Protocol):
    """A source that hears what becomes of its calls: that of a program.

    It may hand calls out ahead of what it is certain to come to: begun anew with the same outcomes,
    it may end without some of them.
    """

    def observe(self, item: Event | Action | Notice) -> None:
        """Hear what observers hear."""
        ...

    def at_hand(self) -> Sequence[Call]:
        """Return the calls that may start now beside the one that it gave last, without waiting."""
        ...

    def begun_with(self) -> dict[str, Any]:
        """Return what it was begun with beside its text, to be recorded: of JSON's kinds."""
        ...

    def go_on_with(self, begun: dict[str, Any]) -> None:
        """Take what the recorded run was begun with, before anything is asked of it."""
        ...

    def end(self) -> ProgramEnd:
        """Return what the program came to, so far."""
        ...


@runtime_checkable
class Accompanied(Protocol):
    """A source with work of its own beside its calls: programs that a model is still writing."""

    def accompany(self, executor: Any, /) -> Callable[[], Awaitable[object]] | None:
        """Return what goes on beside a run of this executor, and is cancelled when that has ended.

        None if there is nothing. It must not raise.
        """
        ...


# `isinstance` of a protocol takes longer than the rest of what a turn of one call costs to begin.


def is_live(plan: object) -> TypeGuard[Live]:
    """Whether it finds its calls only while it runs."""
    return hasattr(plan, "live")


def listener(source: object) -> Listens | None:
    """Return a source that hears what becomes of its calls; None for one that does not."""
    return source if hasattr(source, "at_hand") and isinstance(source, Listens) else None


def is_accompanied(source: object) -> TypeGuard[Accompanied]:
    """Whether a source has work of its own beside its calls."""
    return hasattr(source, "accompany")


# What an executor runs.
Runnable: TypeAlias = Plan | Live | AsyncIterable[Call] | Iterable[Call]


class SourceError(Exception):
    """The source of a streamed plan broke; the cause is what it raised."""


@final
class Intake:
    """Reads the source of one run."""

    __slots__ = ("_between", "_run", "_sink", "_tools")

    def __init__(
        self,
        run: RunState,
        sink: Sink | None,
        between: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Read nothing yet; without a sink the machine is told at once.

        `between` runs after each call, before the next one is asked for.
        """
        self._between = between
        self._run = run
        self._sink = sink
        self._tools = run.settings.tools

    async def read(self, source: AsyncIterator[Call]) -> None:
        """Feed a streamed plan; a source that breaks stops the run and keeps what is done."""
        run = self._run
        try:
            await self._read_all(source)
            if not run.machine.closed:
                # A source that came to an end may still say that its plan is not whole.
                why: str | None = getattr(source, "broken", None)
                if why is None:
                    await self._close()
                else:
                    run.interrupt(Cancelled(error=DagexecError(why)))
        except run.cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by the runner, with the report
            broken = SourceError()
            broken.__cause__ = error
            run.end_by(broken if isinstance(error, Exception) else error, Cancelled())

    async def _read_all(self, source: AsyncIterator[Call]) -> None:
        run, tools, sink = self._run, self._tools, self._sink
        order = Order(tools)
        # Of a reply that is whole already, nothing can be taken back: every call starts at once.
        certain = getattr(source, "certain", False) is True
        listening = listener(source)
        at_hand = _nothing if listening is None else listening.at_hand
        run.known = getattr(source, "known", run.known)
        async with aclosing(_closable(source)) as calls:
            async for call in calls:
                if run.machine.closed:
                    return
                events: list[Added] = []
                for each in (call, *at_hand()):
                    checked = order.add(self._checked(each))
                    tool = tools.get(checked.tool)
                    eager = certain or (tool is not None and tool.effect.eager)
                    events.append(Added(checked, eager=eager))
                if sink is None:
                    run.feed(*events)
                else:
                    await sink.arrived(*events)
                if self._between is not None:
                    await self._between()

    async def _close(self) -> None:
        if self._sink is None:
            self._run.feed(Closed())
        else:
            await self._sink.complete()

    def _checked(self, call: Call) -> Call:
        """Return a streamed call, with its problem if it cannot run: too late to refuse it."""
        given: object = call
        if not isinstance(given, Call):
            msg = f"an iterator of a plan gives calls, not {kind_of(given)}"
            raise DagexecError(msg)
        if call.problem is not None:
            return call
        if call.id in (*call.needs, *call.waits):
            return replace(call, problem="it refers to itself")
        tool = self._tools.get(call.tool)
        if tool is None:
            return replace(call, problem=f"there is no tool {cut(call.tool)!r}")
        problems = tool.problems(call.args)
        return replace(call, problem="; ".join(problems)) if problems else call


def _nothing() -> Sequence[Call]:
    return ()


async def all_of(source: AsyncIterator[Call]) -> list[Call]:
    """Read a whole source; raise SourceError where it breaks."""
    try:
        async with aclosing(_closable(source)) as calls:
            return [call async for call in calls]
    except Exception as error:
        raise SourceError from error


async def _closable(source: AsyncIterator[Call]) -> AsyncGenerator[Call]:
    """Close the user's iterator too when reading ends early, if it can be closed."""
    async with AsyncExitStack() as stack:
        if hasattr(source, "aclose"):
            await stack.enter_async_context(aclosing(source))  # type: ignore[type-var]
        async for call in source:
            yield call
