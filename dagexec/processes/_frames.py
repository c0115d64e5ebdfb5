"""One worker process, seen from the executor: frames over its pipes.

A frame carries the number of the call that it belongs to, so that what comes too late, or from what
a tool has forked, is never taken for another call's. `_worker.py` is the other end.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import threading
from typing import Any, NamedTuple, final

from dagexec.processes._system import WINDOWS, discard, read, write
from dagexec.processes._worker import HEADER


@final
class Frame(NamedTuple):
    """What a worker process said: of which call, to which question, of which kind."""

    call: int
    question: int
    kind: int
    body: bytes


@final
class Process:
    """One worker process; talked to by one task, or one thread, at a time."""

    def __init__(self, process: subprocess.Popen[bytes], tag: str, *, knows_main: bool) -> None:
        """Take over what was just started."""
        self.process = process
        self.tag = tag
        self.knows_main = knows_main
        # Names of the tools that it has.
        self.tools: set[str] = set()
        self._number = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._discarded = False

    def next_number(self) -> int:
        """Return the number of a new call, or of a step of its start."""
        self._number += 1
        return self._number

    def discard(self) -> None:
        """Kill it with all that it has started, once; blocks for a moment."""
        with self._lock:
            done, self._discarded = self._discarded, True
        if not done:
            discard(self.process, self.tag)

    # ------------------------------------------------------------------------- in an event loop

    async def send(self, call: int, question: int, kind: int, body: bytes) -> None:
        """Write a frame; raise OSError if nobody can read it."""
        assert self.process.stdin is not None  # noqa: S101 - asked for
        fd = self.process.stdin.fileno()
        for data in (HEADER.pack(len(body), call, question, kind), body):
            view = memoryview(data)
            while view:
                view = view[await write(fd, view) :]

    async def receive(self, number: int) -> Frame:
        """Return the next frame of a call; raise EOFError when there is no more."""
        while True:
            size, call, question, kind = HEADER.unpack(await self._exactly(HEADER.size))
            body = await self._exactly(size)
            if call == number:  # else from a thread that an earlier call has left
                return Frame(call, question, kind, body)

    async def _exactly(self, size: int) -> bytes:
        assert self.process.stdout is not None  # noqa: S101 - asked for
        parts, have = [self._rest], len(self._rest)
        while have < size:
            part = await read(self.process.stdout.fileno())
            if not part:
                raise EOFError
            parts.append(part)
            have += len(part)
        joined = b"".join(parts)
        self._rest = joined[size:]
        return joined[:size]

    # ------------------------------------------------------------------------------ in a thread

    def ask(self, kind: int, question: Any) -> Frame:
        """Write a frame and wait for the answer to it; blocks until the process ends.

        Raises OSError or EOFError if it has ended.
        """
        assert self.process.stdin is not None  # noqa: S101 - both were asked for
        assert self.process.stdout is not None  # noqa: S101
        out, back = self.process.stdin.fileno(), self.process.stdout.fileno()
        number = self.next_number()
        body = pickle.dumps(question)
        self._block(out, back, blocking=True)
        try:
            for data in (HEADER.pack(len(body), number, 0, kind), body):
                view = memoryview(data)
                while view:
                    view = view[os.write(out, view) :]
            while True:
                size, call, answered, said = HEADER.unpack(self._read(back, HEADER.size))
                frame = Frame(call, answered, said, self._read(back, size))
                if frame.call == number:
                    return frame
        finally:
            self._block(out, back, blocking=False)

    @staticmethod
    def _block(*fds: int, blocking: bool) -> None:
        if not WINDOWS:
            for fd in fds:
                os.set_blocking(fd, blocking)

    def _read(self, fd: int, size: int) -> bytes:
        have = bytearray(self._rest)
        while len(have) < size:
            part = os.read(fd, size - len(have))
            if not part:
                raise EOFError
            have += part
        self._rest = bytes(have[size:])
        return bytes(have[:size])
