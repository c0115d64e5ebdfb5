"""A call that has come: how its handler is run, step by step, and what became of it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Final, final

from dagexec import CallError, Outcome
from dagexec.integrations._turns.conversation import Spoken
from dagexec.lowlevel import Asked

_UNSET: Final = object()
_WITHDRAWN: Final = "the agent has withdrawn this call"

Handler = Callable[[dict[str, Any] | None], Coroutine[Any, Any, Any]]
"""Runs a call as the framework does; gets arguments only where references stood in them."""


@final
class _Withdrawn(CallError):
    """The framework cancelled a call before it began."""


@final
@dataclass(slots=True, eq=False)
class Ticket:
    """A call that has come: how it is run, and what became of it."""

    spoken: Spoken
    handler: Handler
    context: Context
    ended: asyncio.Future[None]
    outcome: Outcome | None = None
    # What the handler returned or raised last, as the framework knows it.
    raw: Any = None
    error: BaseException | None = None
    # What the running handler waits for; it is withdrawn when the framework cancels the call.
    waits_for: Any = None
    withdrawn: bool = False
    running: bool = False

    def settle(self, outcome: Outcome) -> None:
        """Keep the outcome, and wake who waits for it."""
        self.outcome = outcome
        if outcome.status == "done":
            self.spoken.value = outcome.value
        if not self.ended.done():
            self.ended.set_result(None)

    async def perform(
        self,
        given: dict[str, Any] | None,
        base: Context,
        asks: tuple[type[BaseException], ...],
    ) -> Any:
        """Run the handler in the context of the framework, and return what it returns.

        What dagexec and its observers have set for this call since `base` counts inside of it too.
        Raises Asked for the errors that say that a person has to answer first.
        """
        if self.withdrawn:
            raise _Withdrawn(_WITHDRAWN)
        enter = self.context.run
        for variable, value in copy_context().items():
            if base.get(variable, _UNSET) is not value:
                enter(variable.set, value)
        self.raw, self.error = None, None
        self.running = True
        try:
            self.raw = raw = await stepped(self, self.handler(given))
        except asks as asking:
            self.error = asking
            raise Asked(str(asking)) from asking
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.running = False
            self.waits_for = None
        return raw

    def withdraw(self) -> None:
        """End the call: whoever started it has been cancelled."""
        self.withdrawn = True
        cancel = getattr(self.waits_for, "cancel", None)
        if self.running and cancel is not None:
            cancel()


@types.coroutine
def stepped(ticket: Ticket, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a handler with each of its steps run in the context of its ticket.

    A withdrawn one is cancelled as `Task.cancel` does it: what it waits for is cancelled, and
    where it waits for nothing that can be, the next step raises.
    """
    run = ticket.context.run
    step: Callable[..., Any] = coroutine.send
    given: Any = None
    told = False
    try:
        while True:
            ticket.waits_for = waits_for = run(step, given)
            try:
                given = yield waits_for
                step = coroutine.send
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation too goes to the handler
                step, given = coroutine.throw, error
                told = told or isinstance(error, asyncio.CancelledError)
            if ticket.withdrawn and not told:
                told = True
                step, given = coroutine.throw, asyncio.CancelledError()
    except StopIteration as end:
        return end.value
