"""A program as the source of a live plan: its calls go into a run as they may start."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any, Final, final

import anyio
from anyio.lowlevel import checkpoint

from dagexec._core.events import Action, Closed, Conclude, Event, Notice, Settled
from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._core.refs import Literal
from dagexec._core.results import ProgramEnd
from dagexec._core.told import MAYBE, too_late
from dagexec._errors import DagexecError, text_of
from dagexec._tools.resources import Access
from dagexec._tools.tool import Tool
from dagexec.programs._errors import ProgramStopped, ToolError, quoted
from dagexec.programs._live import LiveProgram
from dagexec.programs._machine import ToolFunction
from dagexec.programs._pipeline import Ready
from dagexec.programs._promise import Callee

_PLAIN: Final = (str, int, float, bool, type(None))


@final
class ToolCallee:
    """A tool, as the pipeline sees it."""

    def __init__(self, tool: Tool[..., Any]) -> None:
        """See one tool."""
        self.name = tool.name
        self.ahead = tool.effect.eager
        self.tool = tool
        self._pure = tool.effect == "pure"
        self.named = bool(tool.reads or tool.writes)

    def conflicts(self, args: dict[str, Any], other: Callee, others: dict[str, Any]) -> bool:
        """Whether a call must wait for an earlier write: they touch the same resource.

        Tools that name no resource may all touch the same, unless they are pure.
        """
        if self._pure:
            return False
        assert isinstance(other, ToolCallee)  # noqa: S101 - there is no other kind here
        if not self.named or not other.named:
            return self.named is other.named
        mine, theirs = self.tool.resources(args), other.tool.resources(others)
        return any(_overlap(one, two) for one in mine for two in theirs if one.write or two.write)


def _overlap(one: Access, two: Access) -> bool:
    if one.exact and two.exact:
        return one.resource == two.resource
    return one.resource.startswith(two.resource) or two.resource.startswith(one.resource)


def functions_of(tools: Mapping[str, Tool[..., Any]]) -> dict[str, ToolFunction]:
    """Return tools as functions of programs: by names that are identifiers."""
    made: dict[str, ToolFunction] = {}
    for tool in tools.values():
        name = identifier(tool.name)
        if name in made:
            msg = f"tools {made[name].callee.name!r} and {tool.name!r} have one name in programs"
            raise DagexecError(msg)
        params = tuple(tool.parameters.get("properties", {}))
        made[name] = ToolFunction(ToolCallee(tool), params)
    return made


def identifier(name: str) -> str:
    """Return the name of a tool as an identifier: `get-user` is `get_user` in a program."""
    text = "".join(each if each.isalnum() or each == "_" else "_" for each in name)
    if not text.isidentifier():
        text = f"_{text}"
    return f"{text}_" if keyword.iskeyword(text) else text


@final
class ProgramSource:
    """The calls of one run of a program; hears what becomes of them.

    `certain` says that each call may start when its inputs are there, whatever its effect: a
    program hands a write out only when it is certain to come to it.
    """

    certain: Final = True

    def __init__(self, live: LiveProgram) -> None:
        """Begin at the program's first line."""
        self._live = live
        self._news = anyio.Event()
        self._open: dict[str, int] = {}
        self._lines: dict[str, int] = {}
        # The calls that wait for a person.
        self._waiting: dict[str, None] = {}
        # Why the plan is not whole, once it is known that it never will be; read by the intake.
        self.broken: str | None = None
        # Of a run that was recorded: what had become of calls, and whether it has all of them.
        self._past: dict[str, Outcome] = {}
        self._whole = False

    def __aiter__(self) -> ProgramSource:
        """Iterate over its calls, once."""
        return self

    async def __anext__(self) -> Call:
        """Return the next call that may start; the end comes with that of the program."""
        live = self._live
        while True:
            if live.calls:
                return self._handed_out(live.calls.popleft())
            if live.over:
                raise StopAsyncIteration
            self._news = anyio.Event()
            live.step()
            if self._waiting and len(self._waiting) == len(self._open) and not live.calls:
                self.broken = "a call of the program waits for a person"
                raise StopAsyncIteration
            if not live.calls and not live.over:
                if live.pausing:
                    await checkpoint()
                else:
                    await self._news.wait()

    def _handed_out(self, ready: Ready) -> Call:
        self._lines[ready.id] = ready.line
        self._open[ready.id] = ready.line
        past = self._past.pop(ready.id, None)
        if past is not None:
            self._hear(ready.id, past)
        elif self._whole:
            msg = f"the program makes a call {ready.id!r} that its recorded run does not have"
            raise DagexecError(msg)
        return Call(ready.id, ready.tool, {k: _given(v) for k, v in ready.args.items()})

    async def aclose(self) -> None:
        """End the program where it stands."""
        self._live.close()

    def observe(self, item: Event | Action | Notice) -> None:
        """Hear what a run tells its observers."""
        if isinstance(item, Settled | Conclude):
            if item.call in self._open:
                self._hear(item.call, item.outcome)
            elif item.call not in self._lines:
                self._past[item.call] = item.outcome
        elif isinstance(item, Closed):
            self._whole = not self._live.over

    def _hear(self, name: str, outcome: Outcome) -> None:
        if outcome.status == "pending":
            self._waiting[name] = None
        else:
            del self._open[name]
            self._waiting.pop(name, None)
            self._live.settle(name, *_come(name, outcome, self._tool_of(name)))
        self._news.set()

    def _tool_of(self, name: str) -> str:
        return self._live.pipe.tool_of(name)

    def end(self) -> ProgramEnd:
        """Return what the program came to, so far."""
        live = self._live
        error: DagexecError | None = live.error
        if error is None and not live.over:
            line = live.pipe.line
            why = self.broken or "the run ended"
            names = ", ".join(f"{each} (line {at})" for each, at in list(self._open.items())[:5])
            waits = f"; it waited for call {names}" if names else ""
            where = quoted(live.source.splitlines(), line, 0)
            error = ProgramStopped(f"{why} while the program stood at line {line}{waits}\n{where}")
        return ProgramEnd(live.result, live.printed_so_far, error, dict(self._lines))


def _given(value: Any) -> Any:
    """Return a value of a program as an argument: data, in which nothing is read as a reference."""
    return value if type(value) in _PLAIN else Literal(_as_json(value))


def _as_json(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) is dict:
        return {
            key if type(key) is str else str(key): _as_json(item) for key, item in value.items()
        }
    if type(value) in (list, tuple, set, frozenset, range) or hasattr(value, "__iter__"):
        return [_as_json(item) for item in value]
    return str(value)


def _come(name: str, outcome: Outcome, tool: str) -> tuple[Any, Exception | None]:
    """Return what a call gives in the program: its value, or the error that it raises there."""
    if outcome.status == "done":
        return plain(outcome.value), None
    return None, ToolError(_text(outcome), tool, name, outcome.status)


def _text(outcome: Outcome) -> str:
    maybe = f" {MAYBE}" if outcome.maybe else ""
    match outcome.status:
        case "failed" if outcome.error is not None:
            return f"{type(outcome.error).__name__}: {text_of(outcome.error)}{maybe}"
        case "timed_out":
            return f"timed out: {too_late(outcome)}{maybe}"
        case "skipped":
            return f"skipped, because call {outcome.because} is not done"
        case status:
            return f"{status}{maybe}"


def plain(value: Any) -> Any:
    """Return what a tool returned as a value of programs: JSON's kinds, and its own copy."""
    if type(value) in _PLAIN:
        return value
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [plain(item) for item in value]
    from pydantic_core import to_jsonable_python  # pydantic: only where a value is no JSON

    return to_jsonable_python(value, fallback=str, serialize_unknown=True)
