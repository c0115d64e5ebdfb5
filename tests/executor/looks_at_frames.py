"""One thread calls functions of all sizes and leaves garbage; another looks at its frames.

Run by tests/executor/test_stacks.py. Arguments: seconds, and how many objects make a collection.
"""

from __future__ import annotations

import faulthandler
import gc
import random
import sys
import threading
import time

from dagexec._concurrency.stacks import is_at, thread_frames

FUNCTIONS = []


class Finalized:
    """Garbage that needs a collection, and runs code then, so that other threads go on."""

    def __init__(self) -> None:
        """Make a circle."""
        self.me = self

    def __del__(self) -> None:
        """Take a moment."""
        for _ in range(200):
            pass


def function_with(count: int):
    """Return a function whose frame has that many variables, and which calls another one."""
    names = [f"v{each}" for each in range(count)]
    lines = [f"  {name} = 1" for name in names]
    code = "\n".join(
        [
            "def called(depth):",
            *lines,
            "  if depth == 0:",
            "    Finalized()",
            "    return 1",
            f"  return FUNCTIONS[random.randrange(40)](depth - 1) + len([{', '.join(names)}])",
        ]
    )
    namespace = {"FUNCTIONS": FUNCTIONS, "Finalized": Finalized, "random": random}
    exec(code, namespace)
    return namespace["called"]


def main(seconds: float, threshold: int) -> None:
    """Run for some seconds; print how often the frames were seen."""
    faulthandler.enable()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(threshold)
    FUNCTIONS.extend(function_with(count) for count in range(40))
    ident = threading.get_ident()
    ended = threading.Event()
    seen = 0

    def look() -> None:
        nonlocal seen
        while not ended.is_set():
            if not is_at(ident, ()):
                seen += len(thread_frames(ident)) > 0

    looking = threading.Thread(target=look)
    looking.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        FUNCTIONS[random.randrange(40)](random.randrange(30))
    ended.set()
    looking.join()
    print(seen, gc.isenabled())


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
