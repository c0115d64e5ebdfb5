"""A program that runs: the source of a live plan, which hears what becomes of its calls.

The program is a coroutine that this steps by itself: it gives up its turn where it waits for a
value, and what it may start meanwhile is handed out, call by call, to the run that reads it.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, final

from dagexec.programs import _gathers
from dagexec.programs._check import modules_of, parse
from dagexec.programs._definitions import definitions_of, preceded
from dagexec.programs._entries import Ready, Squash
from dagexec.programs._errors import LimitReached, ProgramFailed
from dagexec.programs._left import left_by
from dagexec.programs._machine import Machine, ToolFunction
from dagexec.programs._memory import MOST_BYTES
from dagexec.programs._pipeline import Pipeline
from dagexec.programs._scopes import Frame
from dagexec.programs._statements import Statements
from dagexec.programs._values import MOST, Meter, weigh
from dagexec.programs._where import failure_text, operands, values_at


@final
class LiveProgram:
    """One run of a program, without I/O: `step`, take `calls`, `settle` them, until `over`."""

    def __init__(
        self,
        source: str,
        tools: Mapping[str, ToolFunction],
        *,
        variables: dict[str, Any] | None = None,
        tree: ast.Module | None = None,
        definitions: Mapping[str, str] | None = None,
        max_steps: int = 5_000_000,
        max_calls: int = 10_000,
        max_printed: int = 100_000,
        max_memory: int = MOST_BYTES,
    ) -> None:
        """Read the program; raise ProgramRefused for what is not in the language.

        `tree` is what `parse` gave, of one that was checked before; `definitions` are functions of
        earlier programs, by name.
        """
        self.source = source
        tree, last = _with_result(parse(source, tools) if tree is None else tree)
        self.definitions: dict[str, str] = {}
        if definitions:
            tree = preceded(tree, definitions)
        texts = (source, *(definitions or {}).values())
        if any(_gathers.WORD in each for each in texts):
            _gathers.mark(tree, modules_of(tree))
        self.pipe = Pipeline(max_calls, max_steps, max_memory)
        compiler = Statements(Machine(self.pipe), tools)
        self._frame = Frame(None)
        self._frame.vars.update(variables or {})
        self.pipe.frames.append(self._frame)
        try:
            self._code, _ = compiler.program(
                tree, set(self._frame.vars), imports="import" in source or bool(definitions)
            )
        except RecursionError:
            msg = "the program is nested too deep; give parts of it names"
            raise LimitReached(msg) from None
        self._tree, self._last = tree, last
        # Of a program that failed, the variables that it left.
        self.left: dict[str, Any] = {}
        self._max_printed = max_printed
        self.over = False
        self.result: Any = None
        self.printed = ""
        self.error: ProgramFailed | LimitReached | None = None
        self._inbox: deque[tuple[str, Any, Exception | None]] = deque()
        self._body: Coroutine[None, None, None] | None = None

    @property
    def calls(self) -> deque[Ready]:
        """The calls that may start, for the driver to take."""
        return self.pipe.calls

    @property
    def pausing(self) -> bool:
        """Whether it only let the event loop turn, and goes on with the next step."""
        return self.pipe.breathing

    @property
    def begun(self) -> bool:
        """Whether it was stepped."""
        return self._body is not None

    @property
    def has_news(self) -> bool:
        """Whether it was told what it has not heard: the next step brings it."""
        return bool(self._inbox)

    @property
    def printed_so_far(self) -> str:
        """What it printed, as far as all before it has ended."""
        return self.printed if self.over else self.pipe.output(self._max_printed)

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the program, as it left them."""
        return self._frame.vars

    def settle(self, name: str, value: Any, error: Exception | None = None) -> None:
        """Tell what became of a call; the program hears of it at the next step."""
        self._inbox.append((name, value, error))

    def step(self) -> None:
        """Go on until the program has to wait, or has ended."""
        while self._inbox:
            self.pipe.settle(*self._inbox.popleft())
        if self.over:
            return
        self.pipe.advance()
        self.pipe.breathing = False
        Meter.spent = 0  # what another program has left
        if self._body is None:
            self._body = self._run()
        try:
            self._body.send(None)
        except StopIteration:
            self.over = True

    def waited_for(self) -> list[str]:
        """Return the calls that were handed out and have not given a value."""
        there = {name for name, _, error in self._inbox if error is None}
        return [name for name in self.pipe.under_way() if name not in there]

    def close(self) -> None:
        """End it where it stands; it is not `over` then."""
        if self._body is not None:
            self._body.close()

    async def _run(self) -> None:
        pipe, frame = self.pipe, self._frame
        error: BaseException | None = None
        line, values = 0, ""
        ahead_of: int | None = None
        try:
            try:
                jump = await self._code.run(frame) if self._code.waits else self._code.run(frame)
            except Exception as raised:  # noqa: BLE001 - of the program, told in `error`
                error, line = raised, getattr(raised, "program_line", None) or pipe.line
                values = values_at(self.source, line, frame.vars)
                jump = None
            await pipe.drain()
            if error is None:
                value = jump.value if jump is not None else frame.vars.get(_RESULT)
                error, line = await self._settle_result(value), pipe.line
        except Squash as squash:
            pipe.take_back(squash.entry)
            entry = squash.entry
            error = entry.error
            # One that was a value first was raised where that was asked for.
            line = ahead_of = getattr(error, "program_line", None) or entry.line
            values = operands(entry.inputs) if entry.callee is None else ""
        frame.vars.pop(_RESULT, None)
        self.printed = pipe.output(self._max_printed)
        if error is not None:
            is_limit = isinstance(error, LimitReached)
            text = failure_text(error, line, self.source, "" if is_limit else values)
            self.error = LimitReached(text) if is_limit else ProgramFailed(text, error, line)
            self.left = left_by(self._tree, frame.vars, ahead_of)
        elif not pipe.tries:
            await self._settle_variables()
        names = self.left if error is not None else frame.vars
        self.definitions = definitions_of(self._tree, frame.vars, frame, names)

    async def _settle_result(self, value: Any) -> Exception | None:
        """Keep what the program comes to; return why that cannot be."""
        try:
            self.result = await self.pipe.force_deep(value)
            weigh(self.result, MOST, "the result")
        except (RecursionError, LimitReached) as raised:
            self.result = None
            return raised
        return None

    async def _settle_variables(self) -> None:
        """Put what came in the place of promises: all calls have ended."""
        variables = self._frame.vars
        for name, value in variables.items():
            with suppress(RecursionError):  # what is nested too deep stays as it is
                variables[name] = await self.pipe.force_deep(value)


_RESULT = "result of the program"


def _with_result(tree: ast.Module) -> tuple[ast.Module, bool]:
    """Keep the value of the last expression in a variable that no program can name."""
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        keep = ast.copy_location(ast.Assign([ast.Name(_RESULT, ast.Store())], last.value), last)
        ast.copy_location(keep.targets[0], last)
        return ast.Module([*tree.body[:-1], keep], []), True
    return tree, False
