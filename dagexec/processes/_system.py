"""The few calls to the operating system that must not block an event loop, the same on all loops.

asyncio's own subprocess support waits for the end of the pipes when asked for the end of the
process, and stops reading a pipe that nobody asks for; trio's reads only what is asked for. Here
pipes are read by whoever waits for them to be readable, and the end of a process is seen by its
pidfd. Where the platform lacks that (Windows' pipes, macOS' processes), a daemon thread waits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, final
from weakref import WeakSet

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from dagexec._concurrency import forks
from dagexec._concurrency.threads import ThreadCall
from dagexec.processes._tree import kill_tree
from dagexec.processes._watchdog import watchdog

_log: Final = logging.getLogger("dagexec")

CHUNK: Final = 256 * 1024
WINDOWS: Final = sys.platform == "win32"
# Whether the end of a process can be waited for without a thread, and without reaping it.
SEES_EXIT: Final = hasattr(os, "pidfd_open")


async def in_thread(function: Callable[..., Any], *args: object) -> Any:
    """Run a short function in a thread of dagexec's own; shielded from cancellation."""
    with CancelScope(shield=True):
        return await ThreadCall().run(partial(function, *args))


async def read(fd: int) -> bytes:
    """Return the next bytes of a pipe, none at its end."""
    if WINDOWS:
        return bytes(await ThreadCall().run(partial(os.read, fd, CHUNK)))
    while True:
        try:
            chunk = os.read(fd, CHUNK)
        except BlockingIOError:
            await anyio.wait_readable(fd)
        except OSError:  # EIO and the like: no more will come
            return b""
        else:
            await checkpoint()
            return chunk


async def write(fd: int, data: memoryview) -> int:
    """Write what fits; return how many bytes that were. Raises OSError if nobody can read it."""
    if WINDOWS:
        return int(await ThreadCall().run(partial(os.write, fd, data)))
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            await anyio.wait_writable(fd)


async def exit_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process and return its exit code, minus the signal that killed it.

    On Linux it is not reaped: until that happens its number, and its group's, stay its own.
    """
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or not allowed to
        return int(await ThreadCall().run(process.wait))
    try:
        await anyio.wait_readable(fd)
    finally:
        os.close(fd)
    try:
        found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - it has ended
    except ChildProcessError:  # somebody else waits for all children of this process
        found = None
    if found is None:
        return process.poll() or 0
    exited = found.si_code == os.CLD_EXITED
    return found.si_status if exited else -found.si_status


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended; it is not reaped where that can be avoided."""
    if not SEES_EXIT:
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


@final
class Spawning:
    """Starts a process in a thread: fork takes long in a large process.

    A cancellation that no scope shields from (`asyncio.Task.cancel`) must not lose the child, so
    who comes second, the thread or the cancelled task, ends it.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], tag: str) -> None:
        """Keep what to start."""
        self._command = command
        self._environment = environment
        self._tag = tag
        self._lock = threading.Lock()
        self._unwanted = False
        self._process: subprocess.Popen[bytes] | None = None

    async def start(
        self, *, stdin: bool, cwd: str | os.PathLike[str] | None = None, stderr: bool = True
    ) -> Any:
        """Return the process; raise OSError if it cannot be started.

        Without `stderr` it writes to this process's own.
        """
        try:
            return await in_thread(partial(self.start_now, stdin=stdin, cwd=cwd, stderr=stderr))
        except BaseException:
            with self._lock:
                self._unwanted = True
            if self._process is not None:
                discard(self._process, self._tag)
            raise

    def start_now(
        self, *, stdin: bool, cwd: str | os.PathLike[str] | None = None, stderr: bool = True
    ) -> subprocess.Popen[bytes]:
        """Return the process, from a thread; raise OSError if it cannot be started."""
        pipes = {
            "stdin": subprocess.PIPE if stdin else subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE if stderr else None,
        }
        options: dict[str, Any] = {**pipes, "start_new_session": True}
        if WINDOWS:
            flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            options = {**pipes, "creationflags": flags}
        process = subprocess.Popen[bytes](
            list(self._command),
            cwd=cwd,
            env=dict(self._environment),
            bufsize=0,
            **options,
        )
        _started.add(process)
        watchdog.add(process.pid, self._tag)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None and not WINDOWS:
                os.set_blocking(pipe.fileno(), False)
        with self._lock:
            self._process = process
            unwanted = self._unwanted
        if unwanted:
            discard(process, self._tag)
        return process


_started: WeakSet[subprocess.Popen[bytes]] = WeakSet()


def _forget() -> None:
    """Close the pipes in a forked child: a process must see the end of its parent's."""
    for process in list(_started):
        close_pipes(process)
        if process.returncode is None:
            process.returncode = 0  # not this process's child, so nothing to wait for
    _started.clear()


forks.in_child(_forget)


def discard(process: subprocess.Popen[bytes], tag: str) -> None:
    """Kill a process and its tree at once, and let go of all that belongs to it."""
    if not kill_tree(process.pid, tag):
        _log.warning("pid %d: processes of its tree do not die, even by SIGKILL", process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
    close_pipes(process)
    watchdog.remove(process.pid)


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close this side of a process's pipes."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
