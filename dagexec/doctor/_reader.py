"""Reads a `Sample` from /proc: the processes asked for, their descendants, and whoever they need.

It needs no rights but those of the processes' own user. What it is not allowed to see counts as
something that may go on at any time, so that blindness never becomes an alarm, and is named.
"""

from __future__ import annotations

import os
import sys
import time
from typing import final

from dagexec._errors import DagexecError
from dagexec.doctor import _proc as proc
from dagexec.doctor._channels import OWN_QUESTIONS, Channels
from dagexec.doctor._syscalls import NUMBERS, Interest, Request, decode, epoll_interests, near
from dagexec.doctor._values import Process, Sample, Thread, Wait


def read(pids: tuple[int, ...]) -> Sample:
    """Look once at these processes and all that they wait for.

    Raises DagexecError where there is no Linux /proc, for a process that is not there, and where
    none of those asked for may be looked at.
    """
    if not sys.platform.startswith("linux"):
        msg = f"the doctor reads Linux's /proc; on {sys.platform} use py-spy or the like"
        raise DagexecError(msg)
    at = time.monotonic()
    reader = _Reader(pids)
    processes: dict[int, Process] = {}
    todo = reader.table.tree(pids)
    while todo:
        pid = todo.pop()
        if pid in processes:
            continue
        processes[pid] = process = reader.process(pid)
        todo += {by for thread in process.threads for wait in thread.waits for by in wait.by}
    return Sample(at, pids, processes, reader.channels.seen, tuple(reader.blind))


@final
class _Reader:
    """One look at the machine."""

    def __init__(self, pids: tuple[int, ...]) -> None:
        self.machine = os.uname().machine
        self.table = proc.read_table()
        self.blind: dict[str, None] = {}
        gone = [pid for pid in pids if pid not in self.table.parents]
        if gone:
            msg = f"there is no process {', '.join(map(str, gone))}"
            raise DagexecError(msg)
        if all(pid in self.table.hidden for pid in pids):
            msg = (
                f"not allowed to look at process {', '.join(map(str, pids))}:"
                " run the doctor as the user whose processes they are, or as root"
            )
            raise DagexecError(msg)
        if self.machine not in NUMBERS:
            msg = f"the doctor does not know the system calls of {self.machine}"
            raise DagexecError(msg)
        tree = set(self.table.tree(pids))
        # What they cannot have inherited they do not hold: one asked for by itself is no suspect.
        hidden = [pid for pid in self.table.hidden & tree if self.table.parents[pid] in tree]
        self.channels = Channels(self.table, self.blind, tuple(hidden))

    def process(self, pid: int) -> Process:
        """Read a process; one that has ended or may not be seen is not readable."""
        parent = self.table.parents.get(pid, 0)
        name = proc.process_name(pid)
        try:
            tids = [int(each) for each in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
            catches = proc.catches(pid)
            threads = [thread for tid in tids if (thread := self.thread(pid, tid)) is not None]
        except PermissionError:
            self.blind[f"process {pid} ({name}) belongs to another user"] = None
            return Process(pid, parent, name, readable=False)
        except OSError:
            return Process(pid, parent, name, readable=False)
        return Process(pid, parent, name, tuple(threads), catches=catches)

    def thread(self, pid: int, tid: int) -> Thread | None:
        """Read a thread; None for one that has ended. Raises OSError where it may not be seen."""
        folder = f"/proc/{pid}/task/{tid}"
        try:
            fields = proc.stat_fields(f"{folder}/stat")
            if fields[0] in proc.ENDED:
                return None
            mark = proc.switches(proc.text(f"{folder}/status"))
        except (FileNotFoundError, ProcessLookupError):
            return None
        line, request = self._request(pid, folder)
        cpu = proc.cpu_seconds(fields)
        if request is None:
            return Thread(tid, "R" if fields[0] == "S" else fields[0], mark=mark, cpu=cpu)
        if fields[0] != "S":
            return Thread(tid, fields[0], request.call, mark=f"{mark} {line}", cpu=cpu)
        waits = tuple(self._waits(pid, request))
        if any(wait.what == OWN_QUESTIONS for wait in waits):
            return None  # a thread that waits for the doctor waits for nobody else
        mark = f"{mark} {line}"
        return Thread(tid, "S", request.call, waits, mark, cpu, request.polls)

    def _request(self, pid: int, folder: str) -> tuple[str, Request | None]:
        try:
            line = proc.text(f"{folder}/syscall").strip()
        except PermissionError:
            why = f"not allowed to see the system calls of process {pid} ({proc.process_name(pid)})"
            self.blind[why] = None
            return "", Request("", unknown=why)
        except FileNotFoundError:
            why = "this kernel has no /proc/PID/syscall"
            self.blind[why] = None
            return "", Request("", unknown=why)
        except ProcessLookupError:
            return "", None
        return line, decode(line, self.machine, lambda at, size: proc.memory(pid, at, size))

    # ------------------------------------------------------------------------ what it waits for

    def _waits(self, pid: int, request: Request) -> list[Wait]:
        if request.unknown:
            return [Wait("unknown", what=request.unknown)]
        if request.outside:
            return [self._outside(pid, request.outside)]
        waits: list[Wait] = []
        if request.seconds is not None:
            seconds, whole = request.seconds, request.whole
            waits.append(Wait("timer", seconds=seconds, what="a timer", whole=whole))
        if request.futex is not None:
            waits.append(self._lock(pid, request))
        if request.child is not None or request.child_fd is not None:
            waits.append(self._exit(pid, request))
        return waits + self._descriptors(pid, request)

    def _outside(self, pid: int, what: str) -> Wait:
        """Return the wait for what lies outside; a shell's `wait` is one for SIGCHLD."""
        if what == "a signal" and proc.catches_only_children(pid):
            children = tuple(self.table.children(pid))
            if children:
                return self._end_of(children)
        return Wait("outside", what=what)

    def _descriptors(self, pid: int, request: Request) -> list[Wait]:
        interests: tuple[Interest, ...] | None = request.interests
        if request.epoll is not None:
            interests = self._epoll(pid, request.epoll)
        if interests is None:
            return [Wait("unknown", what="an epoll that cannot be read")]
        waits = [self._descriptor(pid, interest) for interest in interests]
        if request.call in ("splice", "tee", "sendfile"):
            return [each for each in waits if not self._has_room(each)] or waits
        return waits

    def _has_room(self, wait: Wait) -> bool:
        channel = self.channels.seen.get(wait.channel or "")
        return wait.kind == "write" and channel is not None and channel.used == 0

    def _epoll(self, pid: int, fd: int, depth: int = 0) -> tuple[Interest, ...] | None:
        try:
            interests = epoll_interests(proc.info(pid, fd))
        except OSError:
            return None
        found: list[Interest] = []
        for each in interests:
            nested = self.table.links.get(pid, {}).get(each.fd) == "anon_inode:[eventpoll]"
            below = self._epoll(pid, each.fd, depth + 1) if nested and depth < 4 else None  # noqa: PLR2004
            found += (each,) if below is None else below
        return tuple(found)

    def _lock(self, pid: int, request: Request) -> Wait:
        by: tuple[int, ...] = (pid,)
        if request.shared and request.futex is not None:
            try:
                place = proc.mapping(pid, request.futex)
            except OSError:
                return Wait("unknown", what="a lock that cannot be read")
            if place is not None:
                by = tuple(each for each in self.table.links if proc.maps_it(each, place))
        what = "a lock" if by == (pid,) else "a lock shared between processes"
        return Wait("lock", by, what=what)

    def _exit(self, pid: int, request: Request) -> Wait:
        if request.child_fd is not None:
            return self._descriptor_of_process(pid, request.child_fd)
        children = self.table.children(pid)
        wanted = tuple(each for each in children if request.child in (0, each))
        if not wanted:
            return Wait("unknown", what="a child that has ended")
        return self._end_of(wanted)

    def _end_of(self, pids: tuple[int, ...], fd: int | None = None) -> Wait:
        for each in pids:
            try:
                if proc.stat_fields(f"/proc/{each}/stat")[0] in proc.ENDED:
                    return Wait("unknown", what="a child that has ended")
            except OSError:
                return Wait("unknown", what="a child that has ended")
        return Wait("exit", pids, fd, what="the end of a process")

    def _descriptor_of_process(self, pid: int, fd: int) -> Wait:
        target = _field(proc_info(pid, fd), "Pid")
        if target is None or target <= 0:
            return Wait("unknown", fd=fd, what="a process that has ended")
        return self._end_of((target,), fd)

    def _descriptor(self, pid: int, interest: Interest) -> Wait:
        """Return what waiting for a descriptor means."""
        fd = interest.fd
        link = self.table.links.get(pid, {}).get(fd)
        if link is None:
            return Wait("unknown", fd=fd, what="a descriptor that is not there any more")
        if link.startswith(("pipe:", "socket:", "/")):
            return self.channels.wait(pid, interest, link)
        kind = link.removeprefix("anon_inode:").strip("[]")
        if kind == "eventfd":
            return Wait("lock", self._sharers(pid, fd), fd, what="a wake-up (eventfd)")
        if kind == "timerfd":
            return self._timer(pid, fd)
        if kind.startswith("pidfd"):
            return self._descriptor_of_process(pid, fd)
        return Wait("outside", fd=fd, what=kind)

    def _sharers(self, pid: int, fd: int) -> tuple[int, ...]:
        """Return the processes that hold the same eventfd."""
        wanted = _field(proc_info(pid, fd), "eventfd-id")
        others = self.table.holders.get("anon_inode:[eventfd]", ())
        same = {each for each, other in others if _same(each, other, wanted)}
        return tuple(sorted({pid, *same}))

    def _timer(self, pid: int, fd: int) -> Wait:
        text = proc_info(pid, fd).partition("it_value: (")[2].partition(")")[0]
        seconds, _, nanoseconds = text.partition(",")
        left = float(seconds or 0) + float(nanoseconds or 0) / 1e9
        if not left:
            return Wait("lock", (pid,), fd, what="a timer that is not set")
        return Wait("timer", fd=fd, seconds=near(left) or left, what="a timer")


def proc_info(pid: int, fd: int) -> str:
    """Return the kernel's text on a descriptor, empty where there is none."""
    try:
        return proc.info(pid, fd)
    except OSError:
        return ""


def _field(text: str, name: str) -> int | None:
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.partition(":")[2])
    return None


def _same(pid: int, fd: int, wanted: int | None) -> bool:
    return wanted is not None and _field(proc_info(pid, fd), "eventfd-id") == wanted
