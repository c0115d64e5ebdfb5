"""What the doctor sees at one moment: processes, threads, what each waits for, and channels.

Plain values, without a trace of where they came from: the judgement in `_graph` can be tested on
values written by hand, and on values recorded from a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final

# What a thread can wait for:
# write: room in a channel; read: data in one; close: its other end; exit: a process to end;
# lock: another thread of the same program (a lock, a wake-up pipe); timer; outside: a person,
# the network, a device; unknown: what the doctor could not see.
Kind: TypeAlias = Literal["write", "read", "close", "exit", "lock", "timer", "outside", "unknown"]

# Channels over which one process waits for another, and the end of a process.
BETWEEN: Final = ("write", "read", "close", "exit")


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that would let a thread go on; any one of a thread's is enough.

    `by` are the ids of the processes that can bring it about, `seconds` how long a timer has left
    or, if it is `whole`, was set to; `what` a few words for the reader. `edge`: it is told of new
    data only (EPOLLET), so it may leave old data where it is.
    """

    kind: Kind
    by: tuple[int, ...] = ()
    fd: int | None = None
    channel: str | None = None
    what: str = ""
    seconds: float | None = None
    edge: bool = False
    whole: bool = False


@final
@dataclass(frozen=True, slots=True)
class Thread:
    """A thread: its state as /proc gives it (R, S, D, T, Z …), its system call, its waits.

    `mark` changes whenever the thread has run; `cpu` are the seconds that it has computed.
    `polls`: it waits for several things at once, as event loops do.
    """

    tid: int
    state: str = "S"
    call: str = ""
    waits: tuple[Wait, ...] = ()
    mark: str = ""
    cpu: float = 0.0
    polls: bool = False


@final
@dataclass(frozen=True, slots=True)
class Process:
    """A process. `catches`: it handles signals that a program is told things by.

    One that could not be read (of another user, for example) has no threads and is not `readable`.
    """

    pid: int
    parent: int = 0
    name: str = ""
    threads: tuple[Thread, ...] = ()
    catches: bool = False
    readable: bool = True


@final
@dataclass(frozen=True, slots=True)
class End:
    """An open end of a channel."""

    pid: int
    fd: int


@final
@dataclass(frozen=True, slots=True)
class Channel:
    """A pipe, or one side of a socket pair or pseudo-terminal, as its writers see it.

    `takers` hold the end at which it is read, under the name `read_as`; `givers` the one at which
    it is written. `used` and `size` are bytes, None where they cannot be seen.
    """

    key: str
    takers: tuple[End, ...] = ()
    givers: tuple[End, ...] = ()
    read_as: str = ""
    used: int | None = None
    size: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """Everything seen at one moment; `at` is in seconds, of any clock that only goes forward."""

    at: float
    asked: tuple[int, ...]
    processes: Mapping[int, Process]
    channels: Mapping[str, Channel] = field(default_factory=dict[str, Channel])
    # What could not be seen, in words.
    blind: tuple[str, ...] = ()
