"""A supervised child: its pipes read from the start, its end seen, its whole tree ended with it."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, final

import anyio
from anyio import CancelScope, ClosedResourceError, create_task_group

from dagexec._core.wrong_names import explained
from dagexec._errors import DagexecError, GuardExpired, ProcessError, ProcessGone
from dagexec.processes._guards import Guards
from dagexec.processes._output import KEEP, Lines, Output
from dagexec.processes._sentry import LOOK, Expecting, Sentry
from dagexec.processes._system import (
    Spawning,
    close_pipes,
    discard,
    exit_of,
    in_thread,
    read,
    write,
)
from dagexec.processes._tree import SEES_TREE, kill_tree, members, signal_tree, tagged
from dagexec.processes._watchdog import watchdog

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

_log: Final = logging.getLogger("dagexec")

# Seconds between SIGTERM's request, or the end of stdin, and SIGKILL.
GRACE: Final = 10.0
# The part of the grace that a child has to end by itself when its stdin is closed.
QUIET: Final = 0.2
# Seconds for what a child leaves behind when it ends, and for reading what is left in its pipes.
LEFTOVERS: Final = 1.0
# Seconds after SIGKILL until a process that does not die is given up, with a line in the log.
UNKILLABLE: Final = 5.0
# Characters of stderr that are shown with the end of a child.
LAST_WORDS: Final = 500


@explained
@final
class Child:
    """A child process, entered with `async with`, which ends it and all that it has started.

    Both pipes are read from the start, by tasks of their own, whether or not anybody asks for what
    comes: `stdout` and `stderr` count the bytes and keep the last `keep` of them (64 KiB; None for
    all). With `lines=True` stdout is also given out line by line, by `lines()`; then it is left to
    fill up when 8 MiB wait for their reader. With `stdin=True`, `send()` writes.

    Leaving the block stops it: stdin is closed; what has not ended after a fifth of `grace` gets
    SIGTERM, and after `grace` (10 s) SIGKILL, with all of its tree. When it ends by itself, what it
    leaves behind gets SIGTERM and a second later SIGKILL. When this process dies, however it does,
    a small shell does the same for it (POSIX).

    The tree is its process group and session and, on Linux, whatever has inherited its
    environment or descends from it. Elsewhere on POSIX it is the group, and a child that calls
    `setsid` is not found. On Windows it is what `taskkill /T` finds, at SIGKILL's place.

    Entering raises OSError if it cannot be started. What the child does wrong is a `ProcessError`
    of what was waiting for it: `send`, `lines`, `request` or `wait`, not of the block.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: bool = True,
        lines: bool = False,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        guards: Guards | None = None,
        grace: float = GRACE,
        keep: int | None = KEEP,
    ) -> None:
        """Start nothing yet. `command` is program and arguments, never a line for a shell."""
        self.command = checked(command)
        self.guards = Guards() if guards is None else guards
        self.stdout = Output(keep)
        self.stderr = Output(keep)
        self.returncode: int | None = None
        """The exit code, minus the number of the signal that ended it; None while it runs."""
        self.sent = 0
        """How many bytes it was sent."""
        self.failure: ProcessError | None = None
        """The guard that it broke, or None."""
        self.grace = grace
        self._has_stdin = stdin
        self._cwd = cwd
        self._environment, self._tag = tagged(os.environ if env is None else env)
        self._wants_lines = lines
        self._lines: Lines
        self._process: subprocess.Popen[bytes]
        self._entered = False
        self._stack = AsyncExitStack()
        self._scope = CancelScope(shield=True)
        self._group: TaskGroup
        self._pipes = 2
        self._drained: anyio.Event
        self._exited: anyio.Event
        self._stopped: anyio.Event
        self._stopping = False
        self._stdin_open = stdin
        self._half_sent = False
        self._writing: anyio.Lock
        self._sentry: Sentry

    # ------------------------------------------------------------------------------ the block

    async def __aenter__(self) -> Child:
        """Start it; raise OSError if that cannot be done."""
        if self._entered:
            msg = "a child can be started once; make another"
            raise DagexecError(msg)
        self._entered = True
        self._lines = Lines()
        self._drained, self._exited, self._stopped = anyio.Event(), anyio.Event(), anyio.Event()
        self._writing = anyio.Lock()
        spawning = Spawning(self.command, self._environment, self._tag)
        self._process = await spawning.start(stdin=self._has_stdin, cwd=self._cwd)
        self._sentry = Sentry(self.guards, self._process.pid, self._tag)
        try:
            group = await self._stack.enter_async_context(create_task_group())
            group.start_soon(self._serve)
        except BaseException:
            discard(self._process, self._tag)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Stop it and wait for the end of its whole tree."""
        try:
            await self.stop()
        finally:
            self._scope.cancel()
            try:
                await self._stack.__aexit__(kind, error, traceback)
            except BaseExceptionGroup:
                # The group wraps the block's error; it goes on by itself, as from other blocks.
                if error is None:
                    raise
        return False

    async def _serve(self) -> None:
        """Watch over it; shielded, because it must be watched until it has ended."""
        process = self._process
        assert process.stdout is not None  # noqa: S101 - both were asked for
        assert process.stderr is not None  # noqa: S101
        try:
            with self._scope:
                async with create_task_group() as self._group:
                    self._group.start_soon(self._watch)
                    self._group.start_soon(self._drain, process.stdout.fileno(), self.stdout)
                    self._group.start_soon(self._drain, process.stderr.fileno(), self.stderr)
                    self._group.start_soon(self._sentry.watch, self._break)
        finally:
            if not self._stopped.is_set():
                # Cancelled by the event loop itself, past every shield: nobody watches any more.
                discard(process, self._tag)
                self._finish()

    # -------------------------------------------------------------------------- what it is for

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it can be talked to: it was started, has not ended and is not being stopped."""
        return self._entered and not self._stopping and not self._exited.is_set()

    async def send(self, data: bytes) -> None:
        """Write all of `data` to its stdin; one message at a time.

        Raises ProcessGone if it cannot be written: the child has ended or closed its stdin, or an
        earlier message was cut off in the middle.
        """
        async with self._writing:
            self._refuse_broken_stdin()
            pipe = self._process.stdin
            assert pipe is not None  # noqa: S101 - asked for
            view = memoryview(data)
            try:
                while view:
                    sent = await write(pipe.fileno(), view)
                    self.sent += sent
                    view = view[sent:]
                    self._half_sent = bool(view) and (self._half_sent or sent > 0)
            except (OSError, ValueError, ClosedResourceError) as error:
                raise self.gone() from error

    def _refuse_broken_stdin(self) -> None:
        if not self._has_stdin:
            msg = "this child has no stdin: make it with stdin=True"
            raise DagexecError(msg)
        if not self._stdin_open or self._exited.is_set():
            raise self.gone()
        if self._half_sent:
            msg = f"{self}: a message to it was cut off in the middle; it cannot be sent another"
            raise ProcessGone(msg)

    @property
    def half_sent(self) -> bool:
        """Whether a message is only partly written: being written, or cut off for good."""
        return self._half_sent

    async def close_stdin(self) -> None:
        """Tell it that no more will come."""
        async with self._writing:
            self._close_stdin()

    def lines(self) -> AsyncIterator[bytes]:
        r"""Iterate over the lines of stdout, with their `\n`, from the first one on.

        Ends when the child has ended or closed its stdout; raises LineTooLong behind the last line
        before one of more than 4 MiB, and GuardExpired when it was stopped for a guard.
        """
        if not self._wants_lines:
            msg = "the lines of this child are not kept: make it with lines=True"
            raise DagexecError(msg)
        return self._lines

    @asynccontextmanager
    async def request(self) -> AsyncGenerator[None]:
        """Expect an answer for as long as the block runs, at most `guards.request` seconds.

        Raises GuardExpired when that time is over; the child goes on.
        """
        seconds = self.guards.request
        with anyio.move_on_after(seconds) as scope, self.expecting():
            yield
        if scope.cancelled_caught:
            msg = f"{self}: no answer within {seconds:g} s"
            raise GuardExpired(msg, "request")

    def expecting(self) -> Expecting:
        """Return a context in which the guards `liveness` and `progress` hold."""
        return Expecting(self._sentry)

    async def exited(self) -> int | None:
        """Wait until it has ended itself, whatever still holds its output; return its exit code."""
        await self._exited.wait()
        return self.returncode

    async def wait(self) -> int:
        """Wait until it and its tree have ended; return its exit code.

        Raises GuardExpired if it was stopped for breaking a guard.
        """
        await self._stopped.wait()
        if self.failure is not None:
            raise self.failure
        assert self.returncode is not None  # noqa: S101 - it has ended
        return self.returncode

    def gone(self) -> ProcessError:
        """Return the error that says how it ended, or that it cannot be talked to."""
        if self.failure is not None:
            return self.failure
        if self.returncode is not None:
            gone = ProcessGone(f"{self} ended with exit code {self.returncode}")
            said = self.stderr.text.strip()[-LAST_WORDS:]
            if said:
                # Not in its text, which a model may get to see.
                gone.add_note(f"Its stderr ends with: {said}")
            return gone
        return ProcessGone(f"{self} has closed its input or output")

    def __str__(self) -> str:
        """Name it without its arguments, which may hold secrets."""
        pid = f" (pid {self._process.pid})" if self._entered and hasattr(self, "_process") else ""
        return f"{os.path.basename(self.command[0])}{pid}"  # noqa: PTH119 - a command, no path

    def __repr__(self) -> str:
        state = "running" if self.running else f"exit code {self.returncode}"
        return f"<Child {self}: {state}>"

    # ------------------------------------------------------------------------------- its end

    async def stop(self, grace: float | None = None) -> None:
        """End it and its whole tree, and wait until that is done; safe to call again.

        Takes `grace` seconds at most, and a little more if SIGKILL was needed. Cancellation waits.
        """
        with CancelScope(shield=True):
            if self._stopping:
                await self._stopped.wait()
                return
            self._stopping = True
            try:
                await self._wind_down(self.grace if grace is None else grace)
            except BaseException:
                # Cancelled by the event loop itself, past every shield.
                discard(self._process, self._tag)
                raise
            finally:
                self._finish()

    async def _wind_down(self, grace: float) -> None:
        self._close_stdin()
        if not self._exited.is_set() and self._has_stdin:
            with anyio.move_on_after(grace * QUIET):
                await self._exited.wait()
        if not self._exited.is_set():
            await in_thread(self._signal, False)  # noqa: FBT003
            with anyio.move_on_after(grace * (1 - QUIET if self._has_stdin else 1)):
                await self._exited.wait()
        if self._stopped.is_set():
            return  # its event loop has ended it meanwhile
        if not self._exited.is_set() or await self._leaves_some(min(grace, LEFTOVERS)):
            await self._kill()
        with anyio.move_on_after(LEFTOVERS):
            await self._drained.wait()
        if not self._drained.is_set():
            _log.warning("%s has ended, but something outside of its tree holds its output", self)

    async def _leaves_some(self, seconds: float) -> bool:
        """Ask what it left behind to end; return whether some of that is still there."""
        left: bool = await in_thread(self._signal, False)  # noqa: FBT003
        deadline = anyio.current_time() + seconds
        while left and anyio.current_time() < deadline:
            await anyio.sleep(0.02)
            left = await in_thread(self._has_members)
        return left

    async def _kill(self) -> None:
        dead = await in_thread(kill_tree, self._process.pid, self._tag)
        with anyio.move_on_after(UNKILLABLE):
            await self._exited.wait()
        if not dead or not self._exited.is_set():
            _log.warning("%s: processes of its tree do not die, even by SIGKILL", self)

    def _signal(self, kill: bool) -> bool:  # noqa: FBT001 - called by position, from a thread
        return signal_tree(self._process.pid, self._tag, kill=kill)

    def _has_members(self) -> bool:
        return not SEES_TREE or bool(members(self._process.pid, self._tag))

    def _finish(self) -> None:
        """Reap it and let go of everything."""
        if self._stopped.is_set():
            return
        self._process.poll()
        if self.returncode is None:
            self.returncode = self._process.returncode
        self._exited.set()
        self._lines.end(self.failure)
        self._scope.cancel()
        close_pipes(self._process)
        watchdog.remove(self._process.pid)
        self._stopped.set()

    def _close_stdin(self) -> None:
        pipe = self._process.stdin
        if self._stdin_open and pipe is not None:
            self._stdin_open = False
            if self._half_sent or self._writing.locked():
                # Wakes the task that waits to write, with ClosedResourceError.
                anyio.notify_closing(pipe.fileno())
            pipe.close()

    # ------------------------------------------------------------------------ watching over it

    async def _watch(self) -> None:
        self.returncode = await exit_of(self._process)
        self._exited.set()
        await self.stop()

    async def _drain(self, fd: int, output: Output) -> None:
        lines = self._lines if output is self.stdout and self._wants_lines else None
        limit = self.guards.stderr if output is self.stderr else None
        while chunk := await read(fd):
            output.add(chunk)
            self._sentry.hear()
            if limit is not None and output.bytes > limit:
                self._break("stderr", f"wrote more than {limit} bytes to stderr")
            if lines is not None:
                lines.add(chunk)
                while lines.full and not self._stopping:
                    await self._wait_for_room(lines)
        if lines is not None:
            lines.end()
        self._pipes -= 1
        if not self._pipes:
            self._drained.set()

    async def _wait_for_room(self, lines: Lines) -> None:
        """Leave the pipe alone; the child does nothing wrong meanwhile."""
        with anyio.move_on_after(LOOK):
            await lines.changed()
        self._sentry.hear()

    def _break(self, guard: str, what: str) -> None:
        """Stop it for a guard that it broke."""
        if self.failure is None and not self._stopping:
            self.failure = GuardExpired(f"{self} {what}; it was stopped", guard)
            self._group.start_soon(self.stop)


def checked(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command as program and arguments; raise DagexecError for anything else."""
    given: object = command
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not command:
        msg = (
            f"a command is a list of program and arguments, not {type(command).__name__}; to run"
            ' a line with a shell, and never one with text from a model in it: ["sh", "-c", line]'
        )
        raise DagexecError(msg)
    return tuple(os.fspath(part) for part in command)
