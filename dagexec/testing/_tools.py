"""Tools that follow a script, and a log of what they did and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import anyio

from dagexec._errors import DagexecError
from dagexec._tools.context import current_call
from dagexec._tools.tool import Tool

__all__ = ["Script", "Span", "ToolBox"]

ANY_ARGUMENTS: Mapping[str, Any] = {"type": "object", "additionalProperties": True}


@final
@dataclass(frozen=True, slots=True)
class Script:
    """What a scripted tool does each time it is called, in this order.

    It sleeps, fails if it is to fail, and returns. `seconds` and `returns` may be functions of the
    call's arguments (given by keyword).
    """

    seconds: float | Callable[..., float] = 0.0
    """How long it sleeps, in seconds of the event loop's clock."""
    returns: Any = None
    """Its value; a callable is called with the arguments and gives the value."""
    raises: BaseException | Sequence[BaseException | None] | None = None
    """The error of every call, or a list: of the first call, the second ...; then it returns."""
    hangs: bool = False
    """Sleeps for ever instead of `seconds`."""
    swallows: int = 0
    """How many cancellations of one call it ignores, each time going back to sleep."""
    cleanup: float = 0.0
    """Seconds of shielded work after a cancellation, before it ends."""


@dataclass(slots=True)
class Span:
    """One execution of a scripted tool; times in seconds on the box's clock."""

    tool: str
    args: dict[str, Any]
    started: float
    call: str | None = None
    """The id of the call in the run; None outside of a run."""
    ended: float | None = None
    how: Literal["running", "returned", "raised", "cancelled"] = "running"
    swallowed: int = 0
    """Cancellations that it was given and ignored."""


@final
class ToolBox:
    """Makes scripted async tools and keeps the log of all of them.

    >>> box = ToolBox()
    >>> tools = [box.tool("search", seconds=2, returns=["a"]), box.tool("read", hangs=True)]

    Times count from the first start of a tool, on the event loop's clock: exact in virtual time.
    """

    def __init__(self) -> None:
        self.log: list[Span] = []
        """Every execution, in the order of the starts."""
        self.peak = 0
        """The largest number of executions that ran at the same time."""
        self.tools: list[Tool[..., Any]] = []
        """The tools that this box has made, in that order."""
        self._origin: float | None = None

    def tool(
        self,
        name: str,
        script: Script | None = None,
        /,
        *,
        seconds: float | Callable[..., float] = 0.0,
        returns: Any = None,
        raises: BaseException | Sequence[BaseException | None] | None = None,
        hangs: bool = False,
        swallows: int = 0,
        cleanup: float = 0.0,
        parameters: Mapping[str, Any] = ANY_ARGUMENTS,
        **options: Any,
    ) -> Tool[..., Any]:
        """Make a tool that follows a script: `script`, or else the fields of one, see `Script`.

        `parameters` is its JSON schema (any arguments by default), `options` are those of `Tool`:
        effect, timeout, retry, limits ... The tool is also added to `tools`.
        """
        from dagexec._tools.tool import (
            Tool,  # pydantic and jsonschema: not for a test of time alone
        )

        plan = script or Script(seconds, returns, raises, hangs, swallows, cleanup)
        tool = Tool.from_schema(name, dict(parameters), self.function(name, plan), **options)
        self.tools.append(tool)
        return tool

    def function(self, name: str, script: Script) -> Callable[..., Any]:
        """Return the bare coroutine function of a tool, for what is not a `dagexec.Tool`."""
        runs = 0

        async def scripted(**args: Any) -> Any:
            nonlocal runs
            runs += 1
            span = self._start(name, args)
            try:
                await _sleep(script, args, span)
                _fail(script.raises, runs)
                value = script.returns(**args) if callable(script.returns) else script.returns
            except anyio.get_cancelled_exc_class():
                await _clean_up(script.cleanup)
                self._end(span, "cancelled")
                raise
            except BaseException:
                self._end(span, "raised")
                raise
            self._end(span, "returned")
            return value

        scripted.__name__ = scripted.__qualname__ = name
        return scripted

    @property
    def order(self) -> list[str]:
        """Names of the tools, in the order in which they started."""
        return [span.tool for span in self.log]

    @property
    def running(self) -> list[Span]:
        """What has started and has not ended: empty after a run that kept its promises."""
        return [span for span in self.log if span.ended is None]

    @property
    def times(self) -> dict[str, tuple[float, float | None]]:
        """Start and end of each tool's last execution, rounded to a nanosecond, by tool name."""
        return {
            span.tool: (
                round(span.started, 9),
                span.ended if span.ended is None else round(span.ended, 9),
            )
            for span in self.log
        }

    def spans(self, tool: str) -> list[Span]:
        """Return the executions of one tool, in the order of their starts."""
        return [span for span in self.log if span.tool == tool]

    def _start(self, tool: str, args: dict[str, Any]) -> Span:
        if self._origin is None:
            self._origin = anyio.current_time()
        try:
            call = current_call().id
        except DagexecError:
            call = None
        span = Span(tool, args, anyio.current_time() - self._origin, call)
        self.log.append(span)
        self.peak = max(self.peak, len(self.running))
        return span

    def _end(self, span: Span, how: Literal["returned", "raised", "cancelled"]) -> None:
        span.ended = anyio.current_time() - (self._origin or 0.0)
        span.how = how


async def _sleep(script: Script, args: dict[str, Any], span: Span) -> None:
    seconds = script.seconds(**args) if callable(script.seconds) else script.seconds
    end = anyio.current_time() + seconds
    while True:
        try:
            if script.hangs:
                await anyio.sleep_forever()
            await anyio.sleep_until(end)
        except anyio.get_cancelled_exc_class():
            if span.swallowed == script.swallows:
                raise
            span.swallowed += 1
        else:
            return


def _fail(raises: BaseException | Sequence[BaseException | None] | None, run: int) -> None:
    """Raise the error of the run with this number, counted from 1, if there is one."""
    if isinstance(raises, Sequence):
        raises = raises[run - 1] if run <= len(raises) else None
    if raises is not None:
        raise raises


async def _clean_up(seconds: float) -> None:
    if seconds:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(seconds)
