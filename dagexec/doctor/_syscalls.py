"""What a blocked system call waits for, read from its number and arguments.

The line is that of `/proc/PID/task/TID/syscall`: number, six arguments, stack pointer, program
counter, all but the first in hexadecimal (proc(5)). Numbers are those of Linux's tables for x86_64
(arch/x86/entry/syscalls) and of include/uapi/asm-generic/unistd.h for aarch64 and riscv64.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

Memory: TypeAlias = "Callable[[int, int], bytes]"

_X86_64: Final = {
    0: "read", 1: "write", 7: "poll", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev",
    23: "select", 34: "pause", 35: "nanosleep", 40: "sendfile", 42: "connect", 43: "accept",
    44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4",
    128: "rt_sigtimedwait", 130: "rt_sigsuspend", 202: "futex", 230: "clock_nanosleep",
    232: "epoll_wait", 247: "waitid", 270: "pselect6", 271: "ppoll", 275: "splice", 276: "tee",
    278: "vmsplice", 281: "epoll_pwait", 288: "accept4", 295: "preadv", 296: "pwritev",
    299: "recvmmsg", 307: "sendmmsg", 441: "epoll_pwait2", 449: "futex_waitv", 455: "futex_wait",
}  # fmt: skip
_GENERIC: Final = {
    22: "epoll_pwait", 63: "read", 64: "write", 65: "readv", 66: "writev", 67: "pread64",
    68: "pwrite64", 69: "preadv", 70: "pwritev", 71: "sendfile", 72: "pselect6", 73: "ppoll",
    75: "vmsplice", 76: "splice", 77: "tee", 95: "waitid", 98: "futex", 101: "nanosleep",
    115: "clock_nanosleep", 133: "rt_sigsuspend", 137: "rt_sigtimedwait", 202: "accept",
    203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg",
    242: "accept4", 243: "recvmmsg", 260: "wait4", 269: "sendmmsg", 441: "epoll_pwait2",
    449: "futex_waitv", 455: "futex_wait",
}  # fmt: skip
NUMBERS: Final[Mapping[str, Mapping[int, str]]] = {
    "x86_64": _X86_64,
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
}

_FIELDS: Final = 9

# A timer further away than this is an event loop's way to say "none" (trio's is a day).
NEVER: Final = 3600.0
_FUTEX_PRIVATE: Final = 128
_FUTEX_WAITS: Final = {0: False, 6: True, 9: True, 11: True, 13: True}  # operation: absolute time?
_POLL_IN, _POLL_OUT = 0x0043, 0x0304  # POLLIN PRI RDNORM; POLLOUT WRNORM WRBAND
_EPOLL_ONESHOT, _EPOLL_EDGE = 1 << 30, 1 << 31
_MANY: Final = 65_536

Want: TypeAlias = Literal["read", "write", "close"]


@final
@dataclass(frozen=True, slots=True)
class Interest:
    """A file descriptor that a thread waits for."""

    fd: int
    want: Want
    edge: bool = False


@final
@dataclass(frozen=True, slots=True)
class Request:
    """What a system call asked for.

    `seconds` is the time left or, where it is `whole`, the time that it was given; None without.
    `epoll` is a descriptor whose interests are elsewhere. `child` is the process awaited, 0 for any
    child, `child_fd` the same as a pidfd. `futex` is an address, `shared` whether other processes
    may use it. `outside` names what lies outside of all programs, `unknown` is what cannot be read.
    """

    call: str
    interests: tuple[Interest, ...] = ()
    seconds: float | None = None
    polls: bool = False
    epoll: int | None = None
    child: int | None = None
    child_fd: int | None = None
    futex: int | None = None
    shared: bool = False
    outside: str = ""
    unknown: str = ""
    whole: bool = False


def decode(line: str, machine: str, memory: Memory) -> Request | None:
    """Return what the call waits for; None for a thread that runs.

    `memory(address, size)` reads the process's memory and raises OSError where it must not.
    """
    fields = line.split()
    if not fields or fields[0] == "running":
        return None
    number = int(fields[0])
    if number < 0 or len(fields) < _FIELDS:
        return Request("", unknown="it waits outside of any system call")
    args = [int(each, 16) for each in fields[1:7]]
    if int(fields[7], 16) < 1 << 32:  # another table of numbers
        return Request("", unknown="it is a 32-bit program")
    name = NUMBERS.get(machine, {}).get(number)
    if name is None:
        return Request(f"system call {number}", unknown=f"system call {number}")
    try:
        return _decoders[name](name, args, memory)
    except (OSError, struct.error, OverflowError, ValueError):
        return Request(name, unknown="its memory cannot be read")


def epoll_interests(fdinfo: str) -> tuple[Interest, ...]:
    """Return what an epoll descriptor waits for, from the text of its `/proc/PID/fdinfo`."""
    found: list[Interest] = []
    for line in fdinfo.splitlines():
        if not line.startswith("tfd:"):
            continue
        words = line.split()
        fd, events = int(words[1]), int(words[3], 16)
        if events & _POLL_IN or events & _POLL_OUT or not events & _EPOLL_ONESHOT:
            found += _interests(fd, events, edge=bool(events & _EPOLL_EDGE))
    return tuple(found)


def _interests(fd: int, events: int, *, edge: bool = False) -> list[Interest]:
    found: list[Interest] = []
    if events & _POLL_IN:
        found.append(Interest(fd, "read", edge))
    if events & _POLL_OUT:
        found.append(Interest(fd, "write", edge))
    return found or [Interest(fd, "close", edge)]


# ----------------------------------------------------------------------------------- each kind


def _one(want: Want) -> Callable[[str, list[int], Memory], Request]:
    return lambda name, args, _: Request(name, (Interest(_signed(args[0]), want),))


def _outside(what: str) -> Callable[[str, list[int], Memory], Request]:
    return lambda name, _, __: Request(name, outside=what)


def _moves(source: int, target: int) -> Callable[[str, list[int], Memory], Request]:
    """Return a decoder of calls that move data: it does not say which side they wait for."""
    return lambda name, args, _: Request(
        name, (Interest(_signed(args[target]), "write"), Interest(_signed(args[source]), "read"))
    )


def _poll(name: str, args: list[int], memory: Memory) -> Request:
    count = args[1]
    if count > _MANY:
        return Request(name, unknown="it polls too much to look at")
    text = memory(args[0], 8 * count) if count else b""
    interests: list[Interest] = []
    for index in range(count):
        fd, events, _ = struct.unpack_from("=ihh", text, 8 * index)
        if fd >= 0:
            interests += _interests(fd, events & 0xFFFF)
    seconds = _milliseconds(args[2]) if name == "poll" else _timespec(args[2], memory)
    return Request(name, tuple(interests), near(seconds), polls=True, whole=True)


def _select(name: str, args: list[int], memory: Memory) -> Request:
    interests: list[Interest] = []
    count = min(_signed(args[0]), _MANY)
    wants: tuple[Want, ...] = ("read", "write", "read")
    for address, want in zip(args[1:4], wants, strict=True):
        if address:
            # Whole words: the kernel reads and writes sets of `unsigned long`.
            bits = int.from_bytes(memory(address, (count + 63) // 64 * 8), "little")
            interests += (Interest(fd, want) for fd in range(count) if bits >> fd & 1)
    seconds = _timespec(args[4], memory)
    if name == "select" and seconds is not None:  # a timeval: microseconds
        whole = int(seconds)
        seconds = whole + (seconds - whole) * 1000
    return Request(name, tuple(interests), near(seconds), polls=True, whole=True)


def _epoll(name: str, args: list[int], memory: Memory) -> Request:
    timed = name == "epoll_pwait2"
    seconds = _timespec(args[3], memory) if timed else _milliseconds(args[3])
    return Request(name, (), near(seconds), polls=True, epoll=_signed(args[0]), whole=True)


def _wait4(name: str, args: list[int], _: Memory) -> Request:
    return Request(name, child=max(_signed(args[0]), 0))


def _waitid(name: str, args: list[int], _: Memory) -> Request:
    kind = args[0]
    if kind == 3:  # noqa: PLR2004 - P_PIDFD
        return Request(name, child_fd=_signed(args[1]))
    return Request(name, child=_signed(args[1]) if kind == 1 else 0)


def _futex(name: str, args: list[int], memory: Memory) -> Request:
    operation = args[1] & 0x7F
    if operation not in _FUTEX_WAITS:
        return Request(name, unknown=f"futex operation {operation}")
    seconds: float | None = None
    absolute = _FUTEX_WAITS[operation]
    if args[3]:
        seconds = _timespec(args[3], memory)
        if seconds is not None and absolute:
            # FUTEX_CLOCK_REALTIME: which clock the point in time is on.
            clock = time.time() if args[1] & 0x100 else time.monotonic()
            seconds = max(seconds - clock, 0.0)
    shared = not args[1] & _FUTEX_PRIVATE
    whole = not absolute
    return Request(name, seconds=near(seconds), futex=args[0], shared=shared, whole=whole)


def _futex2(name: str, _: list[int], __: Memory) -> Request:
    return Request(name, unknown="a futex of several words")


def _sleep(name: str, args: list[int], memory: Memory) -> Request:
    absolute = False
    try:
        if name == "nanosleep":
            seconds = _timespec(args[0], memory)
        else:
            absolute = bool(args[1] & 1)  # TIMER_ABSTIME
            seconds = _timespec(args[2], memory)
    except OSError:
        seconds = None
    if absolute and seconds is not None:
        clock = time.time() if args[0] == time.CLOCK_REALTIME else time.monotonic()
        seconds = max(seconds - clock, 0.0)
    return Request(name, seconds=NEVER if seconds is None else seconds, whole=not absolute)


def near(seconds: float | None) -> float | None:
    """Return the time, or None for one so far away that it is none."""
    return None if seconds is None or seconds >= NEVER else seconds


def _milliseconds(value: int) -> float | None:
    signed = _signed(value)
    return None if signed < 0 else signed / 1000


def _timespec(address: int, memory: Memory) -> float | None:
    if not address:
        return None
    seconds, nanoseconds = struct.unpack("=qq", memory(address, 16))
    return float(seconds + nanoseconds / 1e9)


def _signed(value: int) -> int:
    """Return the C int in the low half of a register."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


_decoders: Final[Mapping[str, Callable[[str, list[int], Memory], Request]]] = {
    **dict.fromkeys(("read", "readv", "pread64", "preadv"), _one("read")),
    **dict.fromkeys(("recvfrom", "recvmsg", "recvmmsg"), _one("read")),
    **dict.fromkeys(("write", "writev", "pwrite64", "pwritev"), _one("write")),
    **dict.fromkeys(("sendto", "sendmsg", "sendmmsg"), _one("write")),
    "vmsplice": _one("write"),
    "sendfile": _moves(1, 0),
    "splice": _moves(0, 2),
    "tee": _moves(0, 1),
    **dict.fromkeys(("poll", "ppoll"), _poll),
    **dict.fromkeys(("select", "pselect6"), _select),
    **dict.fromkeys(("epoll_wait", "epoll_pwait", "epoll_pwait2"), _epoll),
    "wait4": _wait4,
    "waitid": _waitid,
    "futex": _futex,
    **dict.fromkeys(("futex_wait", "futex_waitv"), _futex2),
    **dict.fromkeys(("nanosleep", "clock_nanosleep"), _sleep),
    **dict.fromkeys(("accept", "accept4"), _one("read")),
    **dict.fromkeys(("pause", "rt_sigsuspend", "rt_sigtimedwait"), _outside("a signal")),
    "connect": _outside("a connection"),
}
