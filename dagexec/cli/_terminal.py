"""Where the command writes, and how a run is shown while it lasts."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Generator
from typing import Any, Final, TextIO, final

import anyio

from dagexec import Executor, Plan, Report, Run
from dagexec._pictures.glyphs import printable
from dagexec.cli._display import View, ending, view_for
from dagexec.programs import Program

DISPLAYS: Final = ("auto", "live", "plain", "none")

# JSON allows these inside strings as they are; a terminal obeys some, and UTF-8 refuses surrogates.
_UNSAFE: Final = re.compile(r"[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@final
class Terminal:
    """Stdout for results, stderr for the eye.

    Args:
        display: how runs are shown: live, plain, none, or auto for live where stderr is a
            terminal. None asks DAGEXEC_DISPLAY, then is auto.
        verbose: whether every start and every end has a line; the run then ends without a summary.
    """

    def __init__(self, display: str | None = None, *, verbose: bool = False) -> None:
        """Take the process's streams; a character that they cannot show must end no run."""
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self.verbose = verbose
        self.display = _display(display, self.err)
        self.run: Run | None = None
        for stream in (self.out, self.err):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")

    def write(self, text: str = "") -> None:
        """Write a line of a result."""
        self.out.write(text + "\n")
        self.out.flush()

    def write_json(self, value: Any, *, indent: int | None = None) -> None:
        """Write a result as JSON, in which nothing can move a cursor."""
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        self.write(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))

    def write_text(self, text: str) -> None:
        """Write a line of a result that holds what others wrote, cleaned and in one line."""
        self.write(printable(" ".join(text.split())))

    def note(self, text: str) -> None:
        """Write a line for the eye, cleaned of what a terminal would obey."""
        _to_eye(self.err, printable(text) + "\n")

    def error(self, text: str) -> None:
        """Say in one line what is wrong."""
        self.note(f"dagexec: {' '.join(text.split())}")

    async def watch(
        self, executor: Executor, plan: Plan | Program, run_id: str | None = None
    ) -> Report:
        """Run a plan, show it while it runs, and say at its end what is not done."""
        view = view_for(self.display, executor, self.err, verbose=self.verbose)
        try:
            with _without_lines_on_failures(shown=self.display != "none"):
                async with executor.start(plan, run_id=run_id) as self.run:
                    await _show(self.run, view)
        finally:
            # Also behind an interrupt: the live view must not stay half drawn.
            view.close()
        if self.display != "none" and not self.verbose:
            for line in ending(self.run.report, told=self.display == "plain"):
                self.note(line)
        return self.run.report


@contextlib.contextmanager
def _without_lines_on_failures(*, shown: bool) -> Generator[None]:
    """Keep the log from repeating what is shown: which calls failed or timed out."""

    def other(record: logging.LogRecord) -> bool:
        return not hasattr(record, "dagexec_call")

    log = logging.getLogger("dagexec")
    if shown:
        log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)


async def _show(run: Run, view: View) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_tick, view)
        async for item in run:
            view.take(item)
        group.cancel_scope.cancel()


async def _tick(view: View) -> None:
    while True:
        view.tick()
        await anyio.sleep(view.interval)


def _display(asked: str | None, err: TextIO) -> str:
    mode = asked or os.environ.get("DAGEXEC_DISPLAY") or "auto"
    if mode in DISPLAYS and mode != "auto":
        return mode
    return "live" if err.isatty() and os.environ.get("TERM") != "dumb" else "plain"


def _to_eye(stream: TextIO, text: str) -> None:
    # Whoever closed stderr does not want to see anything; the run is not about that.
    with contextlib.suppress(OSError, ValueError):
        stream.write(text)
        stream.flush()
