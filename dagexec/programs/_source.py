"""A program as the source of a live plan: its calls go into a run as they may start."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol, final

import anyio
from anyio.lowlevel import checkpoint

from dagexec._core.events import Action, Closed, Conclude, Event, Notice, Reopened, Settled
from dagexec._core.outcome_json import RecordedError
from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._core.refs import Literal
from dagexec._core.results import ProgramEnd
from dagexec._core.told import MAYBE, too_late
from dagexec._errors import DagexecError, text_of
from dagexec._tools.resources import Access
from dagexec._tools.tool import Tool
from dagexec.programs._earlier import NOT_AGAIN, EarlierCall, Reusable
from dagexec.programs._entries import Ready
from dagexec.programs._errors import LimitReached, ProgramStopped, ToolError, quoted
from dagexec.programs._json_values import PLAIN, as_json, plain
from dagexec.programs._live import LiveProgram
from dagexec.programs._machine import ToolFunction, identifier
from dagexec.programs._promise import Callee
from dagexec.programs._values import CONTAINERS, MOST, weigh

# Why the plan of a program is not whole that has nothing to do but to wait for a person.
_STANDS: Final = "a call of the program waits for a person"
# What a person decides; the program waits for it.
_UNDECIDED: Final = ("pending", "in_doubt")
_OTHER: Final = (
    "the program waits for a call ({}) that its recorded run does not have; run another program"
    " under another run_id"
)


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


def copied(variables: dict[str, Any]) -> dict[str, Any]:
    """Return variables that a program may change."""
    copy: dict[str, Any] = plain(variables)
    return copy


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


def counts(outcome: Outcome) -> bool:
    """Whether the outcome of a read that was started early is that of the program's call."""
    own = outcome.status == "timed_out" and outcome.scope == "call"
    return own or outcome.status in ("done", "failed")


class StartedCall(Protocol):
    """A read that was started before its program was whole."""

    outcome: Outcome | None

    def tell(self, hear: Callable[[Outcome], object]) -> None:
        """Call `hear` with the outcome when it is there."""
        ...


class Started(Protocol):
    """What has such reads."""

    def take(self, tool: str, args: Mapping[str, Any], /) -> StartedCall | None:
        """Return the next one of this tool with these arguments, or None."""
        ...


@final
class ProgramSource:
    """The calls of one run of a program; hears what becomes of them.

    `certain` says that each call may start when its inputs are there, whatever its effect: a
    program hands a write out only when it is certain to come to it.
    """

    certain: Final = True

    def __init__(
        self,
        begin: Callable[[dict[str, Any], dict[str, str]], LiveProgram],
        found: tuple[dict[str, Any], dict[str, str]],
        earlier: Sequence[EarlierCall],
        tools: Mapping[str, Tool[..., Any]],
        early: Started | None = None,
    ) -> None:
        """Begin at the program's first line, with what it finds there.

        `begin` makes the program with what it has `found`, variables and functions; `earlier` is
        what earlier attempts at it have done, `early` the reads that were started before it was
        whole.
        """
        self._early = early
        # Outcomes of such reads, by the ids of the calls that need not start for it.
        self.known: dict[str, Outcome] = {}
        # Those of them that the program waits for, and those that have come.
        self._awaited: set[str] = set()
        self._come: deque[Call] = deque()
        self._began = 0.0
        self._begin = begin
        self._tools = tools
        variables, self._definitions = found
        self._given = variables, tuple(earlier)
        self._live = begin(copied(variables), self._definitions)
        self._earlier = Reusable(earlier, tools) if earlier else None
        self._end: ProgramEnd | None = None
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
        # The first call that such a run does not have; empty if it has all.
        self._beyond = ""

    def __aiter__(self) -> ProgramSource:
        """Iterate over its calls, once."""
        self._began = anyio.current_time()
        return self

    async def __anext__(self) -> Call:
        """Return the next call that may start; the end comes with that of the program."""
        live = self._live
        while True:
            if self._come:
                return self._come.popleft()
            if live.calls:
                call = self._handed_out(live.calls.popleft())
                if call is not None:
                    return call
                continue
            if live.over:
                raise StopAsyncIteration
            self._news = anyio.Event()
            live.step()
            if self._stands():
                self.stand()
                raise StopAsyncIteration
            if not live.calls and not live.over:
                await self._turn()

    def _stands(self) -> bool:
        """Whether nothing is under way but what waits for a person."""
        if self._awaited or self._come or self._live.calls:
            return False
        return bool(self._waiting) and len(self._waiting) == len(self._open)

    async def _turn(self) -> None:
        """Wait until the program can go on."""
        if self._live.pausing:
            await checkpoint()
        elif self._whole:
            raise DagexecError(_OTHER.format(self._beyond or "without an outcome"))
        else:
            await self._news.wait()

    @property
    def due(self) -> bool:
        """Whether `advance` would lead further."""
        live = self._live
        return not live.over and (not live.begun or live.pausing or live.has_news)

    @property
    def pausing(self) -> bool:
        """Whether the program computes, and only lets others have their turn."""
        return self._live.pausing and not self._live.over

    @property
    def over(self) -> bool:
        """Whether the program has ended."""
        return self._live.over

    def stand(self) -> None:
        """Take note that the program waits for a person, and for nothing else."""
        self.broken = _STANDS

    def advance(self) -> list[Call]:
        """Go on until the program waits or pauses; return the calls that may start now.

        For those who drive a run without waiting in it, and do not iterate.
        """
        self._live.step()
        return self.at_hand()

    def at_hand(self) -> list[Call]:
        """Return all other calls that may start now."""
        found = list(self._come)
        self._come.clear()
        while self._live.calls:
            call = self._handed_out(self._live.calls.popleft())
            if call is not None:
                found.append(call)
        return found

    def _handed_out(self, ready: Ready) -> Call | None:
        """Return a call for the run; None for one whose outcome is known without it."""
        self._lines[ready.id] = ready.line
        try:
            args = {name: argument_of(value) for name, value in ready.args.items()}
        except (LimitReached, ValueError) as error:
            self._live.settle(ready.id, None, error)
            return None
        if self._earlier is not None and self._reused(ready, self._earlier):
            return None
        made = Call(ready.id, ready.tool, args, line=ready.line)
        if self._early is not None and ready.first and self._is_early(made, ready, self._early):
            return None
        self._open[ready.id] = ready.line
        past = self._past.pop(ready.id, None)
        if past is not None:
            self._hear(ready.id, past)
        elif self._whole:
            # Behind a failure that the recorded run knew before it came this far.
            self._beyond = self._beyond or ready.id
            del self._open[ready.id]
            return None
        return made

    def _is_early(self, call: Call, ready: Ready, early: Started) -> bool:
        """Whether a call was started before the program was whole, and has not ended yet.

        Of one that is done the outcome is kept, and the call need not start.
        """
        if call.id in self._past or self._whole:
            return False
        found = early.take(ready.tool, ready.args)
        if found is None:
            return False
        if found.outcome is not None:
            self.known[call.id] = replace(found.outcome, started=0.0, ended=0.0, queued=0.0)
            return False

        def hear(outcome: Outcome) -> None:
            self._awaited.discard(call.id)
            self._open[call.id] = ready.line
            if counts(outcome):
                ended = anyio.current_time() - self._began
                self.known[call.id] = replace(outcome, started=0.0, ended=ended, queued=0.0)
            self._come.append(call)
            self._news.set()

        self._awaited.add(call.id)
        found.tell(hear)
        return True

    def _reused(self, ready: Ready, earlier: Reusable) -> bool:
        """Whether an earlier attempt has made this call; the program hears what came of it then."""
        found = earlier.take(ready.id, ready.tool, ready.args)
        if found is None:
            return False
        if found.doubt:
            text = f"not run again: {NOT_AGAIN.format(found.doubt)}"
            error = ToolError(text, ready.tool, ready.id, "in_doubt")
            self._live.settle(ready.id, None, error)
        else:
            self._live.settle(ready.id, plain(found.value))
        return True

    def begun_with(self) -> dict[str, Any]:
        """Return its variables and what earlier attempts have done; without what is secret."""
        variables, earlier = self._given
        open_ones = [each for each in earlier if not self._is_secret(each)]
        begun: dict[str, Any] = {}
        if variables:
            begun["variables"] = variables
        if self._definitions:
            begun["definitions"] = self._definitions
        if open_ones:
            begun["earlier"] = [each.to_dict() for each in open_ones]
        if len(open_ones) < len(earlier):
            begun["secret"] = True
        return begun

    def _is_secret(self, call: EarlierCall) -> bool:
        tool = self._tools.get(call.tool)
        return tool is not None and not call.args.keys().isdisjoint(tool.secret)

    def go_on_with(self, begun: dict[str, Any]) -> None:
        """Begin with what the recorded run began with."""
        variables = begun.get("variables", {})
        earlier = [EarlierCall.from_dict(each) for each in begun.get("earlier", ())]
        given = [each for each in self._given[1] if self._is_secret(each)]
        if begun.get("secret") and not given:
            msg = (
                "an earlier attempt at this program made calls with arguments that are secret, so"
                " they are in no journal: resume it where the conversation is, in"
                " planner.equipped(executor)"
            )
            raise DagexecError(msg)
        if begun.get("secret"):
            earlier = list(self._given[1])
        self._given = variables, tuple(earlier)
        self._definitions = begun.get("definitions", {})
        self._live = self._begin(copied(variables), self._definitions)
        self._earlier = Reusable(earlier, self._tools) if earlier else None

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
        elif isinstance(item, Reopened):
            self._past.pop(item.call, None)
            self._waiting.pop(item.call, None)
        elif isinstance(item, Closed):
            self._whole = not self._live.over

    def _hear(self, name: str, outcome: Outcome) -> None:
        if outcome.status in _UNDECIDED:
            self._waiting[name] = None
        else:
            del self._open[name]
            self._waiting.pop(name, None)
            self._live.settle(name, *gives(name, outcome, self._tool_of(name)))
        self._news.set()

    def _tool_of(self, name: str) -> str:
        return self._live.pipe.tool_of(name)

    def end(self) -> ProgramEnd:
        """Return what the program came to, so far."""
        live = self._live
        if self._end is not None:
            return self._end
        error: DagexecError | None = live.error
        if error is None and not live.over:
            line = live.pipe.line
            why = self.broken or "the run ended"
            names = ", ".join(
                f"{identifier(self._tool_of(each))}() (call {each}, line {self._lines[each]})"
                for each in live.waited_for()[:5]
            )
            waits = f"; it waited for {names}" if names else ""
            where = quoted(live.source.splitlines(), line, 0)
            error = ProgramStopped(f"{why} while the program stood at line {line}{waits}\n{where}")
        earlier = self._earlier
        end = ProgramEnd(
            live.result,
            live.printed_so_far,
            error,
            dict(self._lines),
            _kept(live.variables) if live.over and error is None else {},
            {} if earlier is None else dict(earlier.taken),
            () if earlier is None else tuple(earlier.left),
            _kept(live.left) if live.over else {},
            dict(live.definitions),
        )
        if live.over:
            self._end = end
        return end


def _kept(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a program that are data, and not too large."""
    kept: dict[str, Any] = {}
    for name, value in variables.items():
        if type(value) not in PLAIN and type(value) not in CONTAINERS:
            continue
        with suppress(LimitReached, ValueError):
            kept[name] = bounded(value)
    return kept


def argument_of(value: Any) -> Any:
    """Return a value of a program as an argument: data, in which nothing is read as a reference."""
    return value if type(value) in PLAIN else Literal(bounded(value))


def bounded(value: Any) -> Any:
    """Return a value as JSON's kinds; raise LimitReached or ValueError for one that has no end."""
    if type(value) in PLAIN:
        return value
    weigh(value, MOST)
    try:
        return as_json(value)
    except RecursionError:
        raise ValueError("Circular reference detected") from None


def gives(name: str, outcome: Outcome, tool: str) -> tuple[Any, Exception | None]:
    """Return what a call gives in the program: its value, or the error that it raises there."""
    if outcome.status == "done":
        return plain(outcome.value), None
    return None, ToolError(_text(outcome), tool, name, outcome.status)


def _text(outcome: Outcome) -> str:
    maybe = f" {MAYBE}" if outcome.maybe else ""
    match outcome.status:
        case "failed" if isinstance(outcome.error, RecordedError):
            return f"{text_of(outcome.error)}{maybe}"  # as it was before the crash
        case "failed" if outcome.error is not None:
            return f"{type(outcome.error).__name__}: {text_of(outcome.error)}{maybe}"
        case "timed_out":
            return f"timed out: {too_late(outcome)}{maybe}"
        case "skipped":
            return f"skipped, because call {outcome.because} is not done"
        case status:
            return f"{status}{maybe}"
