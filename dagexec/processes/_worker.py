"""The program of a worker process: runs tools, one call at a time, until its stdin ends.

Started as a script, by its path, so that nothing has to be importable before the parent has said
where things are. Frames of eight bytes of length and a pickle go both ways: from the parent ("tell
me", what a call needs), to it the progress, the plans that a tool runs itself, and the end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

LENGTH = struct.Struct(">Q")
PR_SET_CHILD_SUBREAPER = 36


class Pipe:
    """Frames over two file descriptors; what a tool prints goes to stderr."""

    def __init__(self) -> None:
        """Take stdin and stdout away from the tools."""
        self._in, self._out = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def receive(self) -> Any:
        """Return what is in the next frame; raise EOFError at the end."""
        return pickle.loads(self._read(LENGTH.unpack(self._read(LENGTH.size))[0]))  # noqa: S301 - from the parent

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = os.read(self._in, min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def send(self, frame: bytes) -> None:
        """Write a frame; may be called from any thread."""
        with self._lock:
            for data in (LENGTH.pack(len(frame)), frame):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._out, view) :]


class Link:
    """The way to the executor; see `dagexec._tools.here`."""

    def __init__(self, pipe: Pipe, tools: tuple[str, ...]) -> None:
        """Take the names of the executor's tools."""
        self.tools = tools
        self._pipe = pipe

    def run(self, plan: Any, run_id: str | None) -> Any:
        """Have a plan run by the executor, and wait for its report."""
        self._pipe.send(pickle.dumps(("run", plan, run_id)))
        kind, value = self._pipe.receive()
        if kind == "raise":
            raise value
        return value

    def tell(self, progress: Any) -> None:
        """Pass progress on."""
        self._pipe.send(pickle.dumps(("progress", progress)))


def prepare(data: dict[str, Any]) -> None:
    """Make this process look like the parent, as multiprocessing does for its own."""
    from multiprocessing import spawn

    main = {key: data.pop(key) for key in tuple(data) if key.startswith("init_main")}
    spawn.prepare(data)
    from dagexec._tools.here import here

    if main:
        here.importing = True
        try:
            spawn.prepare(main)
        finally:
            here.importing = False


def find(module: str, file: str | None) -> None:
    """Import the module of a tool, from its file if its name does not lead there."""
    if module in sys.modules or module == "__main__":
        return
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec(module) is not None:
            return
    if file is None:
        return
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is not None and spec.loader is not None:
        made = importlib.util.module_from_spec(spec)
        sys.modules[module] = made
        spec.loader.exec_module(made)


def call(pipe: Pipe, frame: dict[str, Any], tools: dict[str, Any]) -> bytes:
    """Run one call and return the frame that ends it."""
    from dagexec._core.plan import Call
    from dagexec._tools.context import Surroundings, context_of, enter_call
    from dagexec._tools.here import here

    here.link = link = Link(pipe, frame["tools"])
    try:
        tool = tools.get(frame["name"])
        if tool is None:
            find(frame["module"], frame["file"])
            tool = tools[frame["name"]] = pickle.loads(frame["tool"])  # noqa: S301 - from the parent
        arguments = frame["arguments"]
        arguments = pickle.loads(arguments)  # noqa: S301 - from the parent
        from contextvars import copy_context

        context = copy_context()
        left: float | None = frame["seconds"]
        deadline = float("inf") if left is None else time.monotonic() + left
        tell = link.tell if frame["told"] else None
        surroundings = Surroundings(frame["run_id"], context, (), enter_call, tell=tell)
        trial = (frame["attempt"], None)
        facts: Any = (
            Call(frame["id"], frame["name"], {}),
            surroundings,
            None,
            deadline,
            None,
            trial,
        )
        context.run(enter_call, facts)
        if tool.needs_context is not None:
            arguments[tool.needs_context] = context_of(facts)
        value = context.run(tool.function, **arguments)
    except BaseException as error:  # noqa: BLE001 - the parent decides what it means
        return failed(error)
    finally:
        here.link = None
    try:
        return pickle.dumps(("done", value, leftovers()))
    except Exception as error:  # noqa: BLE001 - pickle raises what it likes
        from dagexec._errors import DagexecError

        msg = f"it returned {type(value).__name__}, which cannot be sent from its process: {error}"
        return failed(DagexecError(msg))


def failed(error: BaseException) -> bytes:
    """Return the frame for an exception, or for what can be said of one that cannot be sent."""
    text = "".join(traceback.format_exception(error))
    try:
        sent = error
        sent.add_note(f"In its process:\n{text}")
        frame = pickle.dumps(("failed", sent, leftovers()))
        pickle.loads(frame)  # noqa: S301 - one that pickles may still not unpickle
    except Exception:  # noqa: BLE001 - pickle raises what it likes
        from dagexec._errors import DagexecError

        said = DagexecError(f"{type(error).__name__}: {error}")
        said.add_note(f"In its process:\n{text}")
        return pickle.dumps(("failed", said, leftovers()))
    return frame


def leftovers() -> bool:
    """Whether the tool left something running here: children, or threads that are no daemons."""
    threads = any(not each.daemon for each in threading.enumerate()[1:])
    try:
        for task in Path("/proc/self/task").iterdir():
            if (task / "children").read_bytes().strip():
                return True
    except OSError:
        return threads
    return threads


def adopt() -> None:
    """Become the parent of children whose parent ends, so that they can be found (Linux)."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """Serve until stdin ends."""
    pipe = Pipe()
    sys.path.pop(0)  # the folder of this script
    adopt()
    tools: dict[str, Any] = {}
    try:
        prepare(pipe.receive())
        while True:
            frame = pipe.receive()
            pipe.send(call(pipe, frame, tools))
    except (EOFError, BrokenPipeError):
        return
    except BaseException as error:  # noqa: BLE001 - the main script could not be imported, say
        with contextlib.suppress(OSError):
            pipe.send(failed(error))


if __name__ == "__main__":
    main()
