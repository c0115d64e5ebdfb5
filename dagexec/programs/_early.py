"""Reads of a program that start while a model is still writing it.

What is written by now is run as a program of its own, whose writes are held: it finds out which
reads can start. When the whole program is there it is run from its first line, as always, and takes
the values of these reads for its own: those of the same tool with the same arguments, each once and
in order, if no write that may touch what they read comes before them in the program. So what comes
of it is what comes of the whole program, whatever was guessed before.

A read that failed or timed out has failed in the program, too; one that waits for a person, or was
cancelled, the program makes itself. In the report of the program a read that was started early is a
call as any other, which began when the program did. One that the program does not come to is
cancelled, and is in no report.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, final

import anyio
from anyio.lowlevel import checkpoint

from dagexec._core.events import Action, Conclude, Event, Notice, Settled
from dagexec._core.outcomes import Cancelled, Outcome
from dagexec._core.plan import Call
from dagexec._core.results import ProgramEnd
from dagexec._errors import DagexecError
from dagexec._tools.tool import Tool
from dagexec.programs._check import parse
from dagexec.programs._earlier import EarlierCall, Reusable, key_of
from dagexec.programs._entries import Ready
from dagexec.programs._errors import LimitReached, ProgramRefused
from dagexec.programs._json_values import plain
from dagexec.programs._live import LiveProgram
from dagexec.programs._source import argument_of, copied, counts, functions_of, gives
from dagexec.programs._written import WrittenStatements

# Steps that guessing may take, and characters that may be read again, in all.
_STEPS: Final = 200_000
_CHARACTERS: Final = 400_000
_CALLS: Final = 1_000

# Returns, for what is written by now, its variables and functions, and what earlier attempts at it
# have done.
Begin = Callable[[str], tuple[dict[str, Any], dict[str, str], Sequence[EarlierCall]]]


@final
class EarlyCall:
    """A read that was started before its program was whole."""

    def __init__(self) -> None:
        """Begin without an outcome."""
        self.outcome: Outcome | None = None
        self._heard: list[Callable[[Outcome], object]] = []

    def tell(self, hear: Callable[[Outcome], object]) -> None:
        """Call `hear` with the outcome when it is there."""
        self._heard.append(hear)

    def end(self, outcome: Outcome) -> None:
        """Take the outcome; only the first one counts."""
        if self.outcome is None:
            self.outcome = outcome
            for hear in self._heard:
                hear(outcome)


@final
class EarlyProgram:
    """A program that is still being written, as the source of a run of the reads that can start.

    `feed` it with what is written. `take` gives its reads to the whole program; `close` ends it.
    """

    certain: Final = True

    def __init__(
        self, tools: Mapping[str, Tool[..., Any]], begin: Begin, more: Iterable[str] = ()
    ) -> None:
        """Begin before the first character, with the functions that the program may call.

        `more` are names of earlier programs' functions.
        """
        self._tools = tools
        self._functions = functions_of(tools)
        self._begin = begin
        self._written = WrittenStatements()
        self._source = ""
        # Names that a call of a tool can be behind.
        self._names = {*self._functions, *more}
        self._left = [_STEPS, _CHARACTERS]
        # Whether there is something to run that was not run yet, and whether nothing more starts.
        self._fresh = False
        self._over = False
        self.closed = anyio.Event()
        self._news = anyio.Event()
        self._live: LiveProgram | None = None
        self._reusable: Reusable | None = None
        # All reads by tool and arguments, and by the id that they have in the run.
        self._by_key: dict[str, list[EarlyCall]] = {}
        self._by_id: dict[str, EarlyCall] = {}
        self._used: dict[str, int] = {}
        self._given: dict[str, int] = {}
        self._out: deque[Call] = deque()

    @property
    def text(self) -> str:
        """What is written by now."""
        return self._written.text

    @property
    def started(self) -> int:
        """How many reads were started."""
        return len(self._by_id)

    def feed(self, piece: str) -> None:
        """Take what was written since."""
        if self._over:
            return
        chunk = self._written.feed(piece)
        if not chunk:
            return
        self._source += chunk
        self._left[1] -= len(self._source)
        try:
            names = self._names_in(parse(chunk, self._functions))
        except ProgramRefused:
            self.close()
            return
        if self._left[1] < 0:
            self._over = True
        elif names:
            self._fresh = True
            self._news.set()

    def _names_in(self, tree: ast.Module) -> bool:
        found = False
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in self._names:
                found = True
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._names.add(node.name)
        return found

    def take(self, tool: str, args: Mapping[str, Any]) -> EarlyCall | None:
        """Return the next read of this tool with these arguments for the whole program, or None."""
        key = key_of(tool, args, self._tools)
        calls = self._by_key.get(key, ())
        place = self._given.get(key, 0)
        if place >= len(calls):
            return None
        self._given[key] = place + 1
        found = calls[place]
        return found if found.outcome is None or counts(found.outcome) else None

    def stop(self) -> None:
        """Start nothing more; what is under way goes on."""
        self._over = True
        self._live = None

    def close(self) -> None:
        """End it, and with it what is under way."""
        self.stop()
        self.closed.set()
        self._news.set()

    def end_all(self) -> None:
        """Give up what has no outcome: its run is over."""
        for call in self._by_id.values():
            call.end(Cancelled())

    # ----------------------------------------------------------------------- the source of its run

    def __aiter__(self) -> EarlyProgram:
        """Iterate over the reads that can start, once."""
        return self

    async def __anext__(self) -> Call:
        """Return the next read that can start."""
        while not self._out:
            if self.closed.is_set():
                raise StopAsyncIteration
            self._news = anyio.Event()
            if self._go_on():
                await checkpoint()
            elif not self._out:
                await self._news.wait()
        return self._out.popleft()

    def _go_on(self) -> bool:
        """Run what is written as far as it comes; return whether it only let the loop turn."""
        if self._fresh and not self._over:
            self._fresh = False
            self._live = self._anew()
        live = self._live
        if live is None:
            return False
        live.step()
        while live.calls:
            self._hand_out(live, live.calls.popleft())
        return live.pausing

    def _anew(self) -> LiveProgram | None:
        if self._live is not None:
            self._left[0] -= self._live.pipe.steps
            self._live.close()
        self._used = {}
        if self._left[0] <= 0:
            return None
        variables, definitions, earlier = self._begin(self._source)
        self._reusable = Reusable(earlier, self._tools) if earlier else None
        try:
            live = LiveProgram(
                self._source,
                self._functions,
                variables=copied(variables),
                definitions=definitions,
                max_steps=self._left[0],
                max_calls=_CALLS,
            )
        except (ProgramRefused, LimitReached):
            return None
        live.pipe.holds_writes = True
        return live

    def _hand_out(self, live: LiveProgram, ready: Ready) -> None:
        if self._tools[ready.tool].approval:
            return  # a person is asked for what is certain
        try:
            args = {name: argument_of(value) for name, value in ready.args.items()}
        except (LimitReached, ValueError):
            return
        if not self._is_reused(live, ready):
            self._started(live, ready, args)

    def _is_reused(self, live: LiveProgram, ready: Ready) -> bool:
        """Whether an earlier attempt has made this call."""
        reusable = self._reusable
        reused = None if reusable is None else reusable.take(ready.id, ready.tool, ready.args)
        if reused is None:
            return False
        if not reused.doubt:
            live.settle(ready.id, plain(reused.value))
            self._news.set()
        return True

    def _started(self, live: LiveProgram, ready: Ready, args: dict[str, Any]) -> None:
        """Start a read, unless it was started when less was written."""
        key = key_of(ready.tool, ready.args, self._tools)
        calls, place = self._by_key.setdefault(key, []), self._used.get(key, 0)
        self._used[key] = place + 1
        if place < len(calls):
            call = calls[place]
        else:
            call = EarlyCall()
            calls.append(call)
            name = str(len(self._by_id) + 1)
            self._by_id[name] = call
            self._out.append(Call(name, ready.tool, args, line=ready.line))

        def hear(outcome: Outcome) -> None:
            if self._live is live:
                live.settle(ready.id, *gives(ready.id, outcome, ready.tool))
                self._news.set()

        if call.outcome is None:
            call.tell(hear)
        elif call.outcome.status != "pending":
            hear(call.outcome)

    def at_hand(self) -> list[Call]:
        """Return all other reads that can start."""
        found = list(self._out)
        self._out.clear()
        return found

    def observe(self, item: Event | Action | Notice) -> None:
        """Hear what a run tells its observers."""
        if isinstance(item, Settled | Conclude) and item.call in self._by_id:
            self._by_id[item.call].end(item.outcome)

    def begun_with(self) -> dict[str, Any]:
        """Return nothing: its run is not recorded."""
        return {}

    def go_on_with(self, begun: dict[str, Any]) -> None:
        """Refuse: its run is not recorded."""
        del begun
        raise DagexecError("the reads of a program that is being written are not recorded")

    async def aclose(self) -> None:
        """End it."""
        self.close()

    def end(self) -> ProgramEnd:
        """Return nothing: it never ends."""
        return ProgramEnd()
