"""Programs in a reply that is still being written: their reads start as statements are complete."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, final

import anyio

from dagexec import Executor, Tool
from dagexec.programs import RUN_PROGRAM, EarlyProgram, Programs

_SOURCE: Final = re.compile(r'"source"\s*:\s*"')
# What of a JSON string can be read by itself: a pair of surrogates only as a whole.
_READABLE: Final = re.compile(
    r'(?:[^"\\]+|\\["\\/bfnrt]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*"
)
_FENCE: Final = re.compile(r"^ {0,3}(```+|~~~+)[ \t]*program\b[^\n]*\n", re.MULTILINE)
_THOUGHT: Final = "</think"


class Reader(Protocol):
    """Finds a program in a text that grows."""

    def more(self, text: str) -> str:
        """Return what there is of the program in the whole text that was not returned before."""
        ...


@final
class JsonSource:
    """The program in the arguments of a call, which are JSON."""

    def __init__(self) -> None:
        """Begin before the first character."""
        self._at: int | None = None

    def more(self, text: str) -> str:
        """Return what came of the text of `source`."""
        if self._at is None:
            found = _SOURCE.search(text)
            if found is None:
                return ""
            self._at = found.end()
        readable = _READABLE.match(text, self._at)
        assert readable is not None  # noqa: S101 - also of nothing
        self._at = readable.end()
        try:
            piece: str = json.loads(f'"{readable.group()}"', strict=False)
        except ValueError:
            return ""
        return piece


@final
class BlockSource:
    """The program in the first block of a text that is fenced as `program`."""

    def __init__(self) -> None:
        """Begin before the first character."""
        self._at: int | None = None
        self._looked = 0
        self._end: re.Pattern[str] | None = None

    def more(self, text: str) -> str:
        """Return what came of the block: whole lines."""
        if self._at is None:
            self._open(text)
        if self._at is None or self._end is None:
            return ""
        last = text.rfind("\n", self._at) + 1
        if not last:
            return ""
        piece = text[self._at : last]
        closing = self._end.search(piece)
        self._at = last
        if closing is not None:
            self._end = None
            piece = piece[: closing.start()]
        return piece

    def _open(self, text: str) -> None:
        if "<think" in text[:200] and _THOUGHT not in text:
            return
        begin = max(self._looked, text.rfind(_THOUGHT))
        found = _FENCE.search(text, begin)
        if found is None:
            self._looked = text.rfind("\n") + 1
            return
        self._at = found.end()
        self._end = re.compile(rf"^ {{0,3}}{re.escape(found[1])}", re.MULTILINE)


@final
class Ahead:
    """The programs of one reply that is streamed."""

    def __init__(
        self,
        programs: Programs,
        tools: Mapping[str, Tool[..., Any]],
        reader: Callable[[], Reader],
    ) -> None:
        """See nothing yet."""
        self._programs = programs
        self._tools = tools
        self._reader = reader
        self._seen: dict[object, tuple[EarlyProgram, Reader]] = {}
        self._begun: list[EarlyProgram] = []
        self._news = anyio.Event()
        # Without an executor nothing is run.
        self._accompanies = False

    def see(self, key: object, name: str, text: str) -> None:
        """Take a call that is being written."""
        if name != RUN_PROGRAM or not self._accompanies:
            return
        if key not in self._seen:
            program = self._programs.early(self._tools)
            self._seen[key] = program, self._reader()
            self._begun.append(program)
            self._news.set()
        program, reader = self._seen[key]
        piece = reader.more(text)
        if piece:
            program.feed(piece)

    def accompany(self, executor: Executor) -> Callable[[], Awaitable[object]] | None:
        """Return what runs the reads, if the executor has the tools."""
        if executor.concurrency == 0 or any(name not in executor.tools for name in self._tools):
            return None
        self._accompanies = True

        async def beside() -> None:
            async with anyio.create_task_group() as group:
                while True:
                    while self._begun:
                        program = self._begun.pop()
                        group.start_soon(self._programs.run_early, executor, program)
                    self._news = anyio.Event()
                    await self._news.wait()

        return beside
