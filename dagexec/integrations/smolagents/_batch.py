"""The tool calls of one reply, in the event loop beside the agent's thread."""

# smolagents has no types to be checked.
# mypy: ignore-errors
# pyright: basic

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, final

from smolagents import AgentError
from smolagents.agent_types import AgentType

from dagexec import CallError, Outcome
from dagexec.integrations._turns.answers import answer_to
from dagexec.integrations._turns.conversation import Spoken, parsed
from dagexec.integrations._turns.turn import Turn
from dagexec.lowlevel import run_in_thread

_STOPPED: Final = "Cancelled: the agent was interrupted. It may have taken effect."
_NOT_RUN: Final = "Not run: the agent was interrupted."

Process = Callable[[Any, Any], Any]
"""Runs one call as the framework does, with these arguments; returns its output."""


@final
@dataclass(slots=True, eq=False)
class Record:
    """A tool call of the reply and what became of it."""

    spoken: Spoken
    # The call as the framework knows it.
    call: Any
    arguments: Any
    began: bool = False
    output: Any = None
    error: Exception | None = None
    # For the model, where there is no output.
    text: str = _NOT_RUN


class Leaving(Exception):
    """A tool wants the interpreter to end; `cause` is raised again in the agent's thread."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(repr(cause))
        self.cause = cause


@final
@dataclass(slots=True)
class Batch:
    """The tool calls of one reply."""

    home: Any  # a `Home`, until it runs
    turn: Callable[[], Turn]
    records: list[Record]
    process: Process
    _ended: SimpleQueue[Record | BaseException | None] = field(default_factory=SimpleQueue)
    _over: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _main: asyncio.Task[None] | None = None
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> Iterator[Record]:
        """Yield each call as it ends; whoever stops reading ends them all."""
        home, self.home = self.home, None
        with home.lent() as loop:
            self._loop = loop
            loop.call_soon_threadsafe(self._begin, copy_context())
            try:
                while (ended := self._ended.get()) is not None:
                    if isinstance(ended, BaseException):
                        raise ended
                    yield ended
            finally:
                self.stop()
                self._over.wait()
                # Timers of the loop that were cancelled hold this for a while, but not the agent.
                self.process, self.turn, self.records = _gone, _gone, []

    def stop(self) -> None:
        """End what still runs, from any thread."""
        with self._lock:
            self._stopped = True
            if self._main is not None and self._loop is not None and not self._over.is_set():
                self._loop.call_soon_threadsafe(self._main.cancel)

    # ---------------------------------------------------------------------------- in the event loop

    def _begin(self, context: Context) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            main = loop.create_task(self._all(), name="dagexec smolagents", context=context)
            self._main = main
            if self._stopped:
                main.cancel()
        main.add_done_callback(self._end)

    def _end(self, main: asyncio.Task[None]) -> None:
        with self._lock:
            self._over.set()
        error = None if main.cancelled() else main.exception()
        if error is not None:
            self._ended.put(error)
        self._ended.put(None)

    async def _all(self) -> None:
        turn = self.turn()
        tasks = [asyncio.create_task(self._one(turn, record)) for record in self.records]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await turn.aclose()

    async def _one(self, turn: Turn, record: Record) -> None:
        try:
            ticket = await turn.run(record.spoken.key, partial(self._perform, record))
            assert ticket.outcome is not None  # noqa: S101 - a ticket comes back with one
            if isinstance(record.error, Leaving):
                self._ended.put(record.error.cause)
            _judge(record, ticket.outcome, turn)
        except asyncio.CancelledError:
            record.text = _STOPPED if record.began else _NOT_RUN
            record.output = None
            raise
        finally:
            self._ended.put(record)

    async def _perform(self, record: Record, values: dict[str, Any] | None) -> Any:
        """Run a call as the framework does, in a thread."""
        given = record.arguments if values is None else _fitting(record.spoken, values)
        record.began, record.output, record.error = True, None, None
        try:
            output = await run_in_thread(lambda: self.process(record.call, given))
        except AgentError as error:
            record.error = error
            # What a retry looks at is what the tool raised.
            raise error.__cause__ if isinstance(error.__cause__, Exception) else error from None
        except Exception as error:
            record.error = error
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            # In the event loop it would end the other turns too.
            record.error = leaving = Leaving(error)
            raise leaving from error
        record.output = output
        return value_of(output.output)


def _gone(*_: Any) -> Any:
    """Stand in the place of what a turn that has ended does no more."""
    raise CallError("the turn has ended")


def value_of(output: Any) -> Any:
    """Return what other calls get of an output, without the framework's wrapping."""
    return output.to_raw() if isinstance(output, AgentType) else output


def _judge(record: Record, outcome: Outcome, turn: Turn) -> None:
    """Decide what the model is told of a call."""
    if outcome.status == "done":
        return
    record.output = None
    error = record.error if outcome.status == "failed" else None
    if error is not None and not isinstance(error.__cause__, CallError):
        record.text = str(error)
        return
    record.error = error
    record.text = answer_to(outcome, turn.conversation.named)


def _fitting(spoken: Spoken, values: dict[str, Any]) -> dict[str, Any]:
    """Return arguments in which a text that is JSON is data, where no text is wanted."""
    args = spoken.args or {}
    return {
        name: parsed(value, whole=True)
        if isinstance(args.get(name), dict) and "$ref" in args[name] and name not in spoken.texts
        else value
        for name, value in values.items()
    }
