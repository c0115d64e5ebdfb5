"""What came out of a child: counted, its end kept, cut into lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, final

import anyio
from anyio.lowlevel import checkpoint

from dagexec._errors import LineTooLong, ProcessError

# Bytes of a pipe that are kept when nothing else is asked for.
KEEP: Final = 64 * 1024
# The longest line that is read, in bytes without its end.
LONGEST_LINE: Final = 4 * 1024 * 1024
# Bytes of lines that may wait for their reader before the pipe is left to fill up.
HIGH_WATER: Final = 2 * LONGEST_LINE
# Lines that are given out before the event loop turns.
_BURST: Final = 64


@final
class Output:
    """One pipe of a child: `bytes` counts all that came, `tail` is the end of it."""

    __slots__ = ("_chunks", "_keep", "_kept", "bytes")

    def __init__(self, keep: int | None = KEEP) -> None:
        """Keep so many bytes at most; None keeps all of them."""
        self.bytes = 0
        self._keep = keep
        self._kept = 0
        self._chunks: deque[bytes] = deque()

    def add(self, chunk: bytes) -> None:
        """Count a chunk and keep it for the time being."""
        self.bytes += len(chunk)
        self._kept += len(chunk)
        self._chunks.append(chunk)
        if self._keep is not None:
            while self._chunks and self._kept - len(self._chunks[0]) >= self._keep:
                self._kept -= len(self._chunks.popleft())

    @property
    def tail(self) -> bytes:
        """The last bytes that came; all of them if there were no more than are kept."""
        joined = b"".join(self._chunks)
        return joined if self._keep is None else joined[max(0, len(joined) - self._keep) :]

    @property
    def text(self) -> str:
        """The tail as text; what is not UTF-8 is replaced."""
        return self.tail.decode("utf-8", "replace")

    @property
    def cut(self) -> bool:
        """Whether the tail is not all that came."""
        return self._keep is not None and self.bytes > self._keep


@final
class Lines:
    """Lines between a task that reads a pipe and one that wants them.

    A line is joined from its pieces once: to append to a buffer for each would take time with the
    square of its length.
    """

    __slots__ = ("_burst", "_error", "_lines", "_open", "_pieces", "_room", "_size", "_started")

    def __init__(self) -> None:
        """Start empty; must be made in an event loop."""
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._pieces: list[bytes] = []
        self._started = 0
        self._error: ProcessError | None = None
        self._open = True
        self._room = anyio.Event()
        self._burst = 0

    # The task that reads the pipe.

    @property
    def full(self) -> bool:
        """Whether so much waits for its reader that no more should be read."""
        return self._open and self._size > HIGH_WATER

    def add(self, chunk: bytes) -> None:
        """Take a chunk; what comes after a line that is too long is dropped."""
        if not self._open:
            return
        for piece in _pieces(chunk):
            if self._started + len(piece.rstrip(b"\n")) > LONGEST_LINE:
                shown = LONGEST_LINE // 1024**2
                msg = f"a line of more than {shown} MiB was refused; all lines before it were read"
                self.end(LineTooLong(msg))
                return
            self._pieces.append(piece)
            self._started += len(piece)
            if piece.endswith(b"\n"):
                self._finish_line()
        self._wake()

    def _finish_line(self) -> None:
        self._lines.append(b"".join(self._pieces))
        self._size += self._started
        self._pieces.clear()
        self._started = 0

    def end(self, error: ProcessError | None = None) -> None:
        """Say that nothing more comes; a line without its end is given out as it is."""
        if not self._open:
            return
        self._open = False
        self._error = error
        if self._pieces and not isinstance(error, LineTooLong):
            self._finish_line()
        self._wake()

    # Both.

    async def changed(self) -> None:
        """Wait until the other side has done something."""
        await self._room.wait()

    def _wake(self) -> None:
        self._room.set()
        self._room = anyio.Event()

    # The task that wants the lines.

    def __aiter__(self) -> Lines:
        """Iterate over the lines; no generator, which would have to be closed."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next line with its end; raise the error that ended it, if one did."""
        self._burst += 1
        if self._burst >= _BURST:
            self._burst = 0
            await checkpoint()
        while not self._lines:
            if self._error is not None:
                raise self._error
            if not self._open:
                raise StopAsyncIteration
            await self.changed()
        line = self._lines.popleft()
        was_full = self._size > HIGH_WATER
        self._size -= len(line)
        if was_full and self._size <= HIGH_WATER:
            self._wake()
        return line


def _pieces(chunk: bytes) -> Iterator[bytes]:
    """Cut behind each line feed, and nowhere else: `splitlines` knows more ends than a pipe."""
    start = 0
    while (end := chunk.find(b"\n", start)) >= 0:
        yield chunk[start : end + 1]
        start = end + 1
    if start < len(chunk):
        yield chunk[start:]
