"""What ends the command from outside: SIGTERM, as a service manager sends it, ends it as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import final


@final
class Told:
    """Whether it was SIGTERM that ended the command."""

    terminate: bool = False


@contextmanager
def interrupted_by_sigterm() -> Generator[Told]:
    """Let SIGTERM do what the interrupt key does, so that a run ends and its report is written.

    Only in the main thread, and only where nothing else handles it.
    """
    told = Told()

    def handle(number: int, frame: FrameType | None) -> None:
        del number
        told.terminate = True
        # The event loop's own while it runs: it cancels the main task first.
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
            return
        raise KeyboardInterrupt  # what a shell starts in its background ignores the key

    free = threading.current_thread() is threading.main_thread()
    if not free or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield told
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
