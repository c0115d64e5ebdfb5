"""The tool uses of one reply: each is handed in, runs as the framework runs it, and is answered."""

# Strands is not installed beside all of dagexec's extras, so its types are not there to be checked.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, final

from strands.hooks import AfterToolCallEvent
from strands.tools.executors._executor import ToolExecutor
from strands.types._events import ToolInterruptEvent
from strands.types.events import ToolResultEvent

from dagexec import CallError, Outcome
from dagexec.integrations._turns.answers import answer_to
from dagexec.integrations._turns.conversation import NOTHING, Spoken, parsed
from dagexec.integrations._turns.ticket import Ticket
from dagexec.integrations._turns.turn import Turn
from dagexec.integrations.strands._messages import value_of
from dagexec.integrations.strands._tools import failure

_STOPPED: Final = "Tool execution cancelled"
_OVER: Final = object()


class Waits(Exception):
    """A call has no final result yet: a person was asked, or it goes on in the background."""


class _Refused(CallError):
    """The framework answers a call with an error; nothing was raised."""


class Setting(NamedTuple):
    """What the framework hands to an executor beside the tool uses."""

    agent: Any
    cycle_trace: Any
    cycle_span: Any
    invocation_state: dict[str, Any]
    structured_output: Any


@final
@dataclass(slots=True, eq=False)
class Record:
    """A tool use of the reply and what the framework made of it last."""

    spoken: Spoken
    use: dict[str, Any]
    # With values in the place of references; None as long as it has not begun.
    given: dict[str, Any] | None = None
    began: float = 0.0
    native: Any = NOTHING
    result: Any = None
    interrupted: bool = False
    # What a hook raised: it ends the agent's run, as always.
    raised: Exception | None = None

    def keep(self, value: Any) -> None:
        """Keep what the tool's function returned."""
        self.native = value

    def begin(self, given: dict[str, Any]) -> None:
        """Forget an attempt before."""
        self.given, self.began = given, time.monotonic()
        self.native, self.result, self.raised = NOTHING, None, None
        self.interrupted = False


CURRENT: Final[ContextVar[Record | None]] = ContextVar("dagexec_strands_call", default=None)


@final
@dataclass(slots=True)
class Batch:
    """The tool uses of one reply."""

    setting: Setting
    turn: Turn
    records: list[Record]
    _events: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)

    async def run(self, results: list[Any]) -> AsyncGenerator[Any, None]:
        """Yield the events of all calls; add their results, in the model's order."""
        tasks = [asyncio.create_task(self._one(record)) for record in self.records]
        open_ = len(tasks)
        try:
            while open_:
                event, taken = await self._events.get()
                if event is _OVER:
                    open_ -= 1
                elif isinstance(event, Exception):
                    raise event
                else:
                    yield event
                    taken.set()
            results += [each.result.tool_result for each in self.records if each.result is not None]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.turn.aclose()

    async def _emit(self, event: Any) -> None:
        """Hand an event to the agent, and wait until it is taken, as the framework does."""
        taken = asyncio.Event()
        self._events.put_nowait((event, taken))
        await taken.wait()

    async def _one(self, record: Record) -> None:
        try:
            ticket = await self.turn.run(record.spoken.key, partial(self._perform, record))
            if record.raised is not None:
                raise record.raised  # noqa: TRY301
            await self._tell(record, ticket)
        except Exception as error:  # noqa: BLE001 - the agent's run ends with it
            self._events.put_nowait((error, None))
        finally:
            self._events.put_nowait((_OVER, None))

    async def _perform(self, record: Record, values: dict[str, Any] | None) -> Any:
        """Run a call as the framework does, hooks and middleware included."""
        given = record.use
        if values is not None:
            given = {**given, "input": _fitting(record.spoken, values)}
        record.begin(given)
        agent = self.setting.agent
        if cancelled(agent):
            record.result = ToolResultEvent(failure(given.get("toolUseId"), _STOPPED))
            raise _Refused(_STOPPED)
        CURRENT.set(record)
        setting = self.setting
        stream = ToolExecutor._stream_with_trace(  # noqa: SLF001
            agent,
            given,
            [],
            setting.cycle_trace,
            setting.cycle_span,
            setting.invocation_state,
            setting.structured_output,
        )
        found = None
        try:
            async with aclosing(stream):
                async for event in stream:
                    if isinstance(event, ToolResultEvent):
                        found = event
                    else:
                        record.interrupted |= isinstance(event, ToolInterruptEvent)
                        await self._emit(event)
        except Exception as error:
            record.raised = error
            raise
        return self._judged(record, found)

    @staticmethod
    def _judged(record: Record, found: Any) -> Any:
        if record.interrupted:
            raise Waits
        record.result = found
        if found is None:
            msg = "the framework gave no result"
            raise _Refused(msg)
        if found.backgrounded:
            raise Waits
        result = found.tool_result
        if result.get("status") == "error":
            raise found.exception or _Refused(_text(result))
        return value_of(result, record.native)

    async def _tell(self, record: Record, ticket: Ticket) -> None:
        """Answer a call, unless it comes again when a person has answered."""
        outcome = ticket.outcome
        assert outcome is not None  # noqa: S101 - a ticket comes back with one
        if outcome.status not in ("done", "failed", "pending"):
            record.result = None  # it came too late
        if record.result is None and not self._comes_again(record, outcome):
            record.result = await self._answered(record, outcome)
        if record.result is not None:
            await self._emit(record.result)

    def _comes_again(self, record: Record, outcome: Outcome) -> bool:
        """Whether the framework starts a call again after an interrupt."""
        if outcome.status != "pending":
            return False
        return record.interrupted or any(
            each.interrupted for each in self.records if each.spoken.key == outcome.because
        )

    async def _answered(self, record: Record, outcome: Outcome) -> Any:
        text = answer_to(outcome, self.turn.conversation.named)
        result = failure(record.use.get("toolUseId"), text)
        if record.given is None:
            return ToolResultEvent(result, exception=outcome.error)
        # Its hooks have heard of its beginning.
        setting = self.setting
        after, _ = await setting.agent.hooks.invoke_callbacks_async(
            AfterToolCallEvent(
                agent=setting.agent,
                selected_tool=setting.agent.tool_registry.registry.get(record.given["name"]),
                tool_use=record.given,
                invocation_state=setting.invocation_state,
                result=result,
                exception=outcome.error,
                duration=time.monotonic() - record.began,
            )
        )
        return ToolResultEvent(after.result, exception=after.exception)


def cancelled(agent: Any) -> bool:
    """Whether the agent's run was cancelled, as the framework's own executors see it."""
    observe = getattr(agent, "_observe_cancellation", None)
    return bool(observe()) if observe is not None else agent.cancel_signal.is_set()


def _fitting(spoken: Spoken, values: dict[str, Any]) -> dict[str, Any]:
    """Return arguments in which a text that is JSON is data, where no text is wanted."""
    args = spoken.args or {}
    return {
        name: parsed(value, whole=True)
        if isinstance(args.get(name), dict) and "$ref" in args[name] and name not in spoken.texts
        else value
        for name, value in values.items()
    }


def _text(result: dict[str, Any]) -> str:
    return " ".join(block.get("text", "") for block in result.get("content") or ()).strip()
