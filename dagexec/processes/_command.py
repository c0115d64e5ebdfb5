"""A command that is run to its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import anyio

from dagexec._errors import CommandFailed, ProcessError
from dagexec.processes._child import GRACE, Child
from dagexec.processes._guards import Guards
from dagexec.processes._output import KEEP


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command did.

    `stdout` and `stderr` are the last bytes of each, `stdout_bytes` and `stderr_bytes` how many
    there were. `returncode` is minus the number of the signal if one ended it. `elapsed` is in
    seconds. The command is not shown by `repr`: its arguments may hold secrets.
    """

    command: tuple[str, ...] = field(repr=False)
    returncode: int
    stdout: bytes
    stderr: bytes
    stdout_bytes: int
    stderr_bytes: int
    elapsed: float

    @property
    def ok(self) -> bool:
        """Whether it ended with exit code 0."""
        return self.returncode == 0

    @property
    def cut(self) -> bool:
        """Whether it wrote more than was kept, to either pipe."""
        return len(self.stdout) < self.stdout_bytes or len(self.stderr) < self.stderr_bytes

    @property
    def text(self) -> str:
        """What was kept of stdout, as text; what is not UTF-8 is replaced."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> CommandResult:
        """Return this result; raise CommandFailed, with the end of stderr, if it is not `ok`."""
        if self.ok:
            return self
        said = self.stderr.decode("utf-8", "replace").strip()[-2000:]
        how = f"exit code {self.returncode}"
        if self.returncode < 0:
            how = f"signal {-self.returncode}"
        msg = f"{self.command[0]} ended with {how}" + (f": {said}" if said else "")
        raise CommandFailed(msg, self)


async def run_command(
    command: Sequence[str],
    *,
    input: bytes | str = b"",  # noqa: A002 - the word of subprocess.run
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    guards: Guards | None = None,
    grace: float = GRACE,
    keep: int | None = KEEP,
) -> CommandResult:
    """Run a command to its end and return what it did.

    Both pipes are read all the time, whatever comes; all bytes are counted and the last `keep` of
    each kept (64 KiB; None for all). Nothing of it is left when this returns or raises: when the
    command has ended, been cancelled (its call's deadline, say) or broken a guard, its whole tree
    is ended too; see `Child` for how, and for what that takes on which platform.

    Args:
        command: Program and arguments; no shell.
        input: What it reads from stdin; with none, stdin is empty.
        cwd: Where it runs.
        env: Its environment, by default this process's.
        guards: `liveness`, `progress`, `wall` and `stderr` hold while it runs; `request` is for
            servers.
        grace: Seconds between SIGTERM and SIGKILL.
        keep: Bytes of each pipe that are kept.

    Raises OSError if it cannot be started, GuardExpired if it broke a guard. An exit code other
    than 0 is no error until `check()` is called on the result.
    """
    data = input.encode() if isinstance(input, str) else input
    child = Child(
        command, stdin=bool(data), cwd=cwd, env=env, guards=guards, grace=grace, keep=keep
    )
    began, returncode = anyio.current_time(), 0
    async with child:
        with child.expecting():
            if data:
                with contextlib.suppress(ProcessError):  # it need not read what it is given
                    await child.send(data)
                await child.close_stdin()
            returncode = await child.wait()
    return CommandResult(
        command=child.command,
        returncode=returncode,
        stdout=child.stdout.tail,
        stderr=child.stderr.tail,
        stdout_bytes=child.stdout.bytes,
        stderr_bytes=child.stderr.bytes,
        elapsed=anyio.current_time() - began,
    )
