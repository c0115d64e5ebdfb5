"""Runs in a notebook: a heartbeat for the kernel's loop, and a picture that follows the run.

Imported only where a kernel is running. IPython is taken from the kernel that has loaded it, and
never imported from here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Sized
from contextlib import contextmanager
from typing import Any, Final, Literal, Protocol, cast, final

from dagexec._pictures.adaptive import adaptive, themed
from dagexec._pictures.svg import THEMES, card, label

_log: Final = logging.getLogger("dagexec")

# A kernel turns its interrupt into a callback of the event loop, which a loop that sleeps until a
# timer or a socket wakes it does not notice (ipykernel #881). Seconds between two wake-ups.
BEAT: Final = 0.1
# Seconds between two drawings, at least, and the share of a run's time that they may take.
REDRAW: Final = 0.2
SHARE: Final = 0.015
# Calls of a plan whose first picture, in which nothing has happened yet, is only a line.
_LARGE: Final = 100

_settings: Final = {"live": True}
# The run that was started last: a `Run`, which this floor does not know.
_last: Final[list[Any]] = []


class Shown(Protocol):
    """What a run's picture is made of; a report is it."""

    @property
    def plan(self) -> Sized:
        """The calls."""
        ...

    def to_svg(self, *, theme: Literal["light", "dark"] = "light") -> str:
        """Return the picture."""
        ...

    def to_text(self) -> str:
        """Return the text."""
        ...


class Followed(Protocol):
    """A run that a picture follows: its report so far, and a count of what has happened."""

    @property
    def report(self) -> Shown:
        """What the run has come to so far."""
        ...

    @property
    def changes(self) -> int:
        """How much has happened; a picture is drawn anew only if it grew."""
        ...


def kernel_shell() -> Any:
    """Return the shell of the kernel that this process is, or None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


@contextmanager
def heartbeat(seconds: float = BEAT) -> Generator[None]:
    """Wake the event loop now and then while the block runs; on asyncio, elsewhere do nothing."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        yield
        return

    timer: asyncio.TimerHandle | None = None

    def beat() -> None:
        nonlocal timer
        timer = loop.call_later(seconds, beat)

    beat()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def remember(run: Followed) -> None:
    """Keep the last run, so that an interrupted cell's report can still be read."""
    _last[:] = [run]


def last_run() -> Any:
    """Return the run that was started last in this kernel, or None."""
    return _last[0] if _last else None


def show_live(*, on: bool) -> None:
    """Switch the pictures of live runs on or off, for this kernel."""
    _settings["live"] = on


def view_of(run: Followed) -> View | None:
    """Return a picture of a run that follows it, or None where none is wanted."""
    wanted = _settings["live"] and os.environ.get("DAGEXEC_DISPLAY", "auto") != "none"
    if not wanted or kernel_shell() is None:
        return None
    try:
        from IPython import display as ipython

        show: Callable[..., Any] = cast("Any", ipython).display
        return View(run, show)
    except Exception:  # noqa: BLE001 - a picture must not disturb the run
        _log.exception("the picture of a run could not be shown; the run goes on")
        return None


@final
class View:
    """One picture in a cell's output, drawn anew in place as the run goes on."""

    def __init__(self, run: Followed, display: Callable[..., Any]) -> None:
        """Show the run as it is now; from here on it is drawn by the event loop's timer."""
        self._run = run
        self._began = self._drawn_at = time.perf_counter()
        # Processor time that drawing took, in seconds: all of it, and the last time.
        self.spent = 0.0
        self._cost = 0.0
        self._seen = -1
        self._timer: asyncio.TimerHandle | None = None
        # Made here, in the cell itself: output of what a cell leaves behind may be lost.
        began = time.thread_time()
        self._handle: Any = display(self._first(run.report), raw=True, display_id=True)
        self._account(began)
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._schedule()

    def _schedule(self) -> None:
        if self._loop is not None:
            self._timer = self._loop.call_later(REDRAW, self._tick)

    def _account(self, began: float) -> None:
        self._drawn_at = time.perf_counter()
        self._cost = time.thread_time() - began
        self.spent += self._cost

    def _tick(self) -> None:
        self._schedule()
        now = time.perf_counter()
        # A large graph is drawn less often: looking on must cost next to nothing.
        affordable = self.spent + self._cost <= SHARE * (now - self._began)
        # Also when nothing happened, once a second: the bars of what runs grow.
        changed = self._run.changes != self._seen or now - self._drawn_at >= 1.0
        if affordable and changed:
            self._draw()

    def _draw(self, *, last: bool = False) -> None:
        if self._handle is None:
            return
        began = time.thread_time()
        self._seen = self._run.changes
        try:
            self._handle.update(self._bundle(self._run.report, last=last), raw=True)
        except Exception:  # noqa: BLE001 - a picture must not disturb the run
            _log.exception("the picture of a run could not be drawn; the run goes on")
            self._stop()
            self._handle = None
        self._account(began)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None

    def close(self) -> None:
        """Draw the end, which is what stays."""
        self._stop()
        self._draw(last=True)

    def _first(self, report: Shown) -> dict[str, str]:
        if len(report.plan) <= _LARGE:
            return self._bundle(report)
        theme, text = THEMES["light"], f"{len(report.plan)} calls …"
        line = label(12, 26, text, fill=theme.faint)
        svg = card([line], (300, 42), theme, title=text, desc=text)
        return {"image/svg+xml": adaptive(svg), "text/plain": f"{report!r}"}

    def _bundle(self, report: Shown, *, last: bool = False) -> dict[str, str]:
        # The text is for readers who cannot see the picture, and for a notebook that is opened
        # again: JupyterLab shows no SVG of one that it has not run itself.
        text = report.to_text() if last else f"{report!r}"
        shown = {"image/svg+xml": adaptive(report.to_svg()), "text/plain": text}
        if last:  # while it is drawn again and again, one picture is enough
            shown["text/html"] = themed(report.to_svg(), report.to_svg(theme="dark"))
        return shown
