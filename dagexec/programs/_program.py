"""A program: text that is checked as a whole, and run like a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

from dagexec._core.wrong_names import explained
from dagexec._tools.tool import Tool
from dagexec.programs._check import check_names, parse_for_any_tools
from dagexec.programs._earlier import EarlierCall
from dagexec.programs._json_values import plain
from dagexec.programs._live import LiveProgram
from dagexec.programs._source import ProgramSource, Started, functions_of


@explained
@final
class Program:
    """A program in a part of Python, whose functions are tools: `await executor.run(program)`.

    It is checked when it is made: raises `ProgramRefused` with every reason. Running it twice runs
    it anew.

    Args:
        source: The text.
        variables: Values that the program finds under these names, of JSON's kinds.
        definitions: Functions of earlier programs that it finds, as `report.program.definitions`
            gave them: text by name.
        earlier: What earlier attempts at it have done, if it corrects them: `calls_of(report)` of
            the last one. A call that is done is not made again; a write that may have taken effect
            raises ToolError instead.
        started: The reads that were started while it was written.
        max_steps: Statements that it may execute; an operation on a large value counts as many.
        max_calls: Calls of tools that it may make.
        max_printed: Characters of what it prints that are kept.
        max_memory: Bytes that its values may take which are alive, with the arguments of its calls.
    """

    def __init__(
        self,
        source: str,
        *,
        variables: Mapping[str, Any] | None = None,
        definitions: Mapping[str, str] | None = None,
        earlier: Iterable[EarlierCall] = (),
        started: Started | None = None,
        max_steps: int = 5_000_000,
        max_calls: int = 10_000,
        max_printed: int = 100_000,
        max_memory: int = 200_000_000,
    ) -> None:
        """Check the program; nothing of it runs."""
        self._tree = parse_for_any_tools(source)
        self.source = source
        self.variables = dict(variables or {})
        self.definitions = dict(definitions or {})
        self.earlier = tuple(earlier)
        self._started = started
        self._limits = {
            "max_steps": max_steps,
            "max_calls": max_calls,
            "max_printed": max_printed,
            "max_memory": max_memory,
        }

    @property
    def limits(self) -> dict[str, int]:
        """Its limits, by the names that they have when a program is made."""
        return dict(self._limits)

    def live(self, tools: Mapping[str, Tool[..., Any]]) -> ProgramSource:
        """Return a run of it, for an executor with these tools.

        Raises ProgramRefused if it calls `open` or `input`, and no tool has that name.
        """
        check_names(self.source, functions_of(tools))

        def begin(variables: dict[str, Any], definitions: dict[str, str]) -> LiveProgram:
            live = LiveProgram(
                self.source,
                functions_of(tools),
                variables=variables,
                tree=self._tree,
                definitions=definitions,
                **self._limits,
            )
            live.pipe.watches_writes = self._started is not None
            return live

        variables = plain(self.variables)
        found = variables, self.definitions
        return ProgramSource(begin, found, self.earlier, tools, self._started)

    def __repr__(self) -> str:
        """Return its size and its first line."""
        lines = self.source.strip().splitlines()
        return f"<Program of {len(lines)} lines: {lines[0][:60] if lines else ''}>"
