"""Tools that run in processes, where another process can import them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from dagexec import Call, CallContext, Executor, Plan, current_call, tool


@tool(runs="process", effect="read")
def where() -> int:
    """Return the process id."""
    return os.getpid()


@tool(runs="process", effect="pure")
def double(x: int) -> int:
    """Double."""
    return 2 * x


@tool(runs="process")
def big(size: int) -> bytes:
    """Return so many bytes."""
    return b"x" * size


@tool(runs="process")
def length(data: bytes) -> int:
    """Return the length."""
    return len(data)


@tool(runs="process", effect="read")
def fail(kind: str) -> None:
    """Raise."""

    class Local(Exception):
        """Cannot be sent."""

    class Awkward(ValueError):
        """Can be sent, but not be made again."""

        def __init__(self, a, b):
            super().__init__(f"{a}{b}")

    raise {"value": ValueError("no"), "local": Local("mine"), "exit": SystemExit(4)}[kind]


@tool(runs="process")
def die(how: str) -> None:
    """End the process."""
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(100)


@tool(runs="process", effect="read")
def hang(mark: str) -> None:
    """Never return, nor let others end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    for new in (False, True):
        subprocess.Popen([sys.executable, "-c", code, mark], start_new_session=new)
    time.sleep(1000)


@tool(runs="process", effect="read")
def leaves_children(mark: str) -> int:
    """Return, with children left running."""
    for new in (False, True):
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(1000)", mark], start_new_session=new
        )
    return os.getpid()


@tool(runs="process", effect="read")
def leaves_a_thread() -> int:
    """Return, with a thread left running."""
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return os.getpid()


@tool(runs="process", effect="read")
def unsendable() -> object:
    """Return what cannot be pickled."""
    return lambda: None


@tool(runs="process", effect="read")
def prints() -> str:
    """Print, read stdin."""
    print("printed by a tool")
    return sys.stdin.read()


@tool(runs="process", effect="read")
def who(context: CallContext) -> tuple:
    """Return what is known of the call."""
    same = current_call()
    left = None if context.deadline is None else context.deadline - time.monotonic()
    return context.id, context.tool, context.run_id, same.idempotency_key, left


@tool(runs="process", effect="read")
def tells(count: int) -> None:
    """Tell of progress."""
    for n in range(count):
        current_call().progress(n + 1, count, "step")


@tool(runs="process", effect="read")
def node(depth: int) -> int:
    """Run three plans' worth below, by the executor that runs this."""
    name, args = ("node", {"depth": depth - 1}) if depth else ("leaf", {})
    report = executor.run_sync(Plan([Call(str(n), name, args) for n in range(3)]))
    report.raise_for_failures()
    return sum(report.outputs.values())


@tool(effect="read")
def leaf() -> int:
    """Be a leaf."""
    time.sleep(0.01)
    return 1


ALL = [
    where, double, big, length, fail, die, hang, leaves_children, leaves_a_thread, unsendable,
    prints, who, tells,
]  # fmt: skip
executor = Executor([node, leaf], concurrency=2)
