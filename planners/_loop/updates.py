"""What a user interface is told while `solve` runs: pieces of text, and what calls do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, final

import anyio

from dagexec import Call, DagexecError, Outcome, Run
from dagexec.lowlevel import Added, Conclude, Settled, Started

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream

    from planners._loop.solution import Solution


@final
@dataclass(frozen=True, slots=True)
class Said:
    """A piece of what the model says; without `stream=True` all that it said in a reply."""

    text: str


@final
@dataclass(frozen=True, slots=True)
class CallBegan:
    """A call has started."""

    call: Call


@final
@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call has its outcome; one that was skipped never began."""

    call: Call
    outcome: Outcome


Update: TypeAlias = Said | CallBegan | CallEnded
OnUpdate: TypeAlias = Callable[[Update], object]


async def follow(run: Run, tell: OnUpdate) -> None:
    """Tell of the calls of a run, until its end."""
    calls: dict[str, Call] = {}
    async for event in run:
        if isinstance(event, Added):
            calls[event.call.id] = event.call
        elif isinstance(event, Started):
            tell(CallBegan(calls[event.call]))
        elif isinstance(event, Settled | Conclude) and event.call in calls:
            tell(CallEnded(calls[event.call], event.outcome))


@final
class Solving:
    """A `solve` under way, entered with `async with`: iterating gives its updates.

    `solution` is the answer, once the iteration or the block has ended. Leaving the block early
    cancels it.
    """

    def __init__(self, begin: Callable[[OnUpdate], Any]) -> None:
        """Keep how it is begun, given what hears of updates."""
        self._begin = begin
        self._stack = AsyncExitStack()
        self._updates: MemoryObjectReceiveStream[Update] | None = None
        self._solution: Solution | None = None

    @property
    def solution(self) -> Solution:
        """The answer; raises DagexecError before it is there."""
        if self._solution is None:
            raise DagexecError("the answer is not there yet: read the updates to their end first")
        return self._solution

    async def __aenter__(self) -> Solving:
        """Ask the model."""
        send, self._updates = anyio.create_memory_object_stream[Update](inf)
        group = await self._stack.enter_async_context(anyio.create_task_group())
        self._scope = group.cancel_scope

        async def drive() -> None:
            with send:
                self._solution = await self._begin(send.send_nowait)

        group.start_soon(drive)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """End it, if it has not ended; raise what `solve` raised, bare."""
        assert self._updates is not None  # noqa: S101 - entered
        self._updates.close()
        if self._solution is None:
            self._scope.cancel()
        try:
            return await self._stack.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from group.exceptions[0].__cause__
            raise

    def __aiter__(self) -> AsyncIterator[Update]:
        """Iterate over the updates; ends with the answer."""
        if self._updates is None:
            raise DagexecError("enter it first: async with solving(…) as updates")
        return self._updates.__aiter__()
