"""What goes wrong in a program: before it runs, while it runs, and how a model is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dagexec._errors import DagexecError


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """One thing in a program that is outside of the language: where, what, and what to write."""

    line: int
    column: int
    message: str

    def __str__(self) -> str:
        """Return place and message on one line."""
        return f"line {self.line}, column {self.column}: {self.message}"


@final
class ProgramRefused(DagexecError):
    """A program is not in the language; nothing of it has run. `faults` has every reason."""

    def __init__(self, faults: tuple[Fault, ...], source: str) -> None:
        """Name each fault and quote its line."""
        self.faults = faults
        lines = source.splitlines()
        parts = [f"{fault}\n{quoted(lines, fault.line, fault.column)}" for fault in faults]
        super().__init__("the program was not run:\n" + "\n".join(parts))


@final
class ProgramFailed(DagexecError):
    """A program ended with an error; `line` is where, `__cause__` what was raised there."""

    def __init__(self, text: str, error: BaseException, line: int) -> None:
        """Keep the line that raised, and what it raised, beside the text for a model."""
        self.line = line
        super().__init__(text)
        self.__cause__ = error


@final
class ProgramStopped(DagexecError):
    """The run of a program ended before the program did; its text says where it stood."""


class ToolError(Exception):
    """A tool call of a program is not done; its text is what a model is told of such a call.

    `tool` names the tool, `call` the call, `status` is the status of its outcome.
    """

    def __init__(self, text: str = "", tool: str = "", call: str = "", status: str = "") -> None:
        """Keep what a program may look at."""
        super().__init__(text)
        self.tool = tool
        self.call = call
        self.status = status


class LimitReached(DagexecError):
    """A program used more than it may: steps, depth, sizes or printed characters."""


def quoted(lines: list[str], line: int, column: int) -> str:
    """Return a line of the source, and a caret below `column` (from 1) if there is one."""
    if not 1 <= line <= len(lines):
        return ""
    text = lines[line - 1]
    shown = f"    {text[:200]}"
    if column <= 0:
        return shown
    return f"{shown}\n    {' ' * min(column - 1, 200)}^"


def with_line(error: BaseException, line: int) -> BaseException:
    """Remember where an error was raised first."""
    if getattr(error, "program_line", None) is None:
        error.program_line = line  # type: ignore[attr-defined]
    return error
