"""The program of a worker process: runs tools, one call at a time, until its stdin ends.

Started as a script, by its path, so that nothing has to be importable before the parent has said
where things are. Frames go both ways, each with a header: how long its body is, the number of the
call that it belongs to, the number of a question within that call, and its kind. A body is a
pickle. Only this process writes them: what a tool forks has no part in it.
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
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

HEADER = struct.Struct(">QQQB")
# To the worker: what it has to be like, a tool, a call, the report of a run inside a call.
PREPARE, LOAD, CALL, REPLY = 1, 2, 3, 4
# From it: it has the tool, how a call ended (with 1 for the question if something of it is left),
# a plan that a tool runs, progress.
READY, DONE, FAILED, RUN, PROGRESS = 5, 6, 7, 8, 9
PR_SET_CHILD_SUBREAPER = 36


class Pipe:
    """Frames over two file descriptors; what a tool prints goes to stderr."""

    def __init__(self) -> None:
        """Take stdin and stdout away from the tools."""
        self.owner = os.getpid()
        self._in, self._out = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def receive(self) -> tuple[int, int, int, bytes]:
        """Return the next frame: call, question, kind, body; raise EOFError at the end."""
        size, call, question, kind = HEADER.unpack(self._read(HEADER.size))
        return call, question, kind, self._read(size)

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = os.read(self._in, min(size, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def send(self, call: int, question: int, kind: int, body: bytes) -> None:
        """Write a frame; may be called from any thread, and writes nothing in a forked child."""
        with self._lock:
            if os.getpid() != self.owner:
                return
            for data in (HEADER.pack(len(body), call, question, kind), body):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._out, view) :]

    def leave(self) -> None:
        """Let go of it, in a child that a tool has forked."""
        for fd in (self._in, self._out):
            with contextlib.suppress(OSError):
                os.close(fd)


class Link:
    """The way of one call to the executor; see `dagexec._tools.here`.

    Threads of a tool may ask side by side. Whoever waits first reads, for the others too.
    """

    def __init__(self, pipe: Pipe, number: int, tools: tuple[str, ...]) -> None:
        """Take the call's number, and the names of the executor's tools."""
        self.tools = tools
        self._pipe = pipe
        self._number = number
        self._questions = count(1)
        self._open: set[int] = set()
        self._replies: dict[int, bytes] = {}
        self._news = threading.Condition()
        self._reading = False
        self._ended = False

    def run(self, plan: Any, run_id: str | None) -> Any:
        """Have a plan run by the executor, and wait for its report."""
        from dagexec._errors import DagexecError

        body = pickle.dumps((plan, run_id))
        with self._news:
            if self._ended:
                msg = "the call that this process ran has ended: a thread of it runs a plan"
                raise DagexecError(msg)
            question = next(self._questions)
            self._open.add(question)
        try:
            self._pipe.send(self._number, question, RUN, body)
            kind, value = pickle.loads(self._reply(question))  # noqa: S301 - from the parent
        finally:
            with self._news:
                self._open.discard(question)
        if kind == "raise":
            raise value
        return value

    def _reply(self, question: int) -> bytes:
        while True:
            with self._news:
                while self._reading and question not in self._replies:
                    self._news.wait()
                if question in self._replies:
                    return self._replies.pop(question)
                self._reading = True
            try:
                number, answered, _, body = self._pipe.receive()
                if number == self._number:
                    self._replies[answered] = body
            finally:
                with self._news:
                    self._reading = False
                    self._news.notify_all()

    def tell(self, progress: Any) -> None:
        """Pass progress on."""
        if not self._ended:
            self._pipe.send(self._number, 0, PROGRESS, pickle.dumps(progress))

    def end(self) -> bool:
        """End with the call; return whether a thread still waits for a plan."""
        with self._news:
            self._ended = True
            return bool(self._open)


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


class Server:
    """What this process is for."""

    def __init__(self) -> None:
        """Take the pipes, and children whose parent ends."""
        self.pipe = Pipe()
        self.tools: dict[str, Any] = {}
        self._link: Link | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """A child that a tool has forked is a process like any other; its plans are its own."""
        self.pipe.leave()
        with contextlib.suppress(ImportError):
            from dagexec._tools.here import here

            here.link = None

    def serve(self) -> None:
        """Do what comes until there is no more."""
        doing: dict[int, Callable[[int, Any], None]] = {
            PREPARE: self._prepare,
            LOAD: self._load,
            CALL: self._call,
        }
        while True:
            number, _, kind, body = self.pipe.receive()
            if kind in doing:  # not a reply that came too late
                doing[kind](number, pickle.loads(body))  # noqa: S301 - from the parent

    def _prepare(self, number: int, data: dict[str, Any]) -> None:
        self._tried(number, lambda: prepare(data))

    def _load(self, number: int, data: dict[str, Any]) -> None:
        def load() -> None:
            find(data["module"], data["file"])
            self.tools[data["name"]] = pickle.loads(data["tool"])  # noqa: S301 - from the parent

        self._tried(number, load)

    def _tried(self, number: int, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - the parent decides what it means
            self._only_here(error)
            self.pipe.send(number, 0, FAILED, failed(error))
        else:
            self._only_here(None)
            self.pipe.send(number, 0, READY, b"")

    def _call(self, number: int, frame: dict[str, Any]) -> None:
        """Run one call, and send how it ended."""
        from dagexec._tools.here import here

        here.link = self._link = link = Link(self.pipe, number, frame["tools"])
        error: BaseException | None = None
        try:
            value = self._invoke(link, frame)
            self._only_here(None)
            kind, body = DONE, sendable(value)
        except BaseException as raised:  # noqa: BLE001 - the parent decides what it means
            error = raised
            self._only_here(raised)
            kind, body = FAILED, failed(raised)
        waits = link.end()
        del error
        self.pipe.send(number, int(waits or leftovers()), kind, body)

    def _invoke(self, link: Link, frame: dict[str, Any]) -> Any:
        from contextvars import copy_context

        from dagexec._core.plan import Call
        from dagexec._tools.context import context_of, enter_call
        from dagexec._tools.settle import settled_here

        tool = self.tools[frame["name"]]
        arguments = pickle.loads(frame["arguments"])  # noqa: S301 - from the parent
        context = copy_context()
        facts = facts_of(Call(frame["id"], frame["name"], {}), link, frame, context)
        context.run(enter_call, facts)
        if tool.needs_context is not None:
            arguments[tool.needs_context] = context_of(facts)
        value = context.run(tool.function, **arguments)
        self._only_here(None)
        return context.run(settled_here, value, frame["seconds"])

    def _only_here(self, error: BaseException | None) -> None:
        """End a forked child that comes back out of what it was forked in: it must not go on."""
        if os.getpid() != self.pipe.owner:
            end_child(error)


def facts_of(call: Any, link: Link, frame: dict[str, Any], context: Any) -> Any:
    """Return what the context of a call is made of."""
    from dagexec._tools.context import Surroundings, enter_call

    left: float | None = frame["seconds"]
    deadline = float("inf") if left is None else time.monotonic() + left
    tell = link.tell if frame["told"] else None
    around = Surroundings(frame["run_id"], context, (), enter_call, tell=tell)
    return call, around, None, deadline, None, (frame["attempt"], None)


def end_child(error: BaseException | None) -> NoReturn:
    """End this process, a child that a tool has forked, as multiprocessing ends its own."""
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def sendable(value: Any) -> bytes:
    """Return a value as it is sent; raise ProcessError, because its tool has run all the same."""
    try:
        return pickle.dumps(value)
    except Exception as error:
        from dagexec._errors import ProcessError

        msg = f"it returned {type(value).__name__}, which cannot be sent from its process: {error}"
        lost = ProcessError(msg)
        lost.maybe = True
        raise lost from error


def failed(error: BaseException) -> bytes:
    """Return the body for an exception, or for what can be said of one that cannot be sent."""
    text = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"In its process:\n{text}")
        body = pickle.dumps(error)
        pickle.loads(body)  # noqa: S301 - one that pickles may still not unpickle
    except Exception:  # noqa: BLE001 - pickle raises what it likes
        from dagexec._errors import DagexecError

        said = DagexecError(f"{type(error).__name__}: {error}")
        said.add_note(f"In its process:\n{text}")
        return pickle.dumps(said)
    return body


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
    server = Server()
    sys.path.pop(0)  # the folder of this script
    adopt()
    with contextlib.suppress(EOFError, BrokenPipeError):
        server.serve()


if __name__ == "__main__":
    main()
