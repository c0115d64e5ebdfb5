"""Who holds the ends of pipes, socket pairs and pseudo-terminals."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final, final

from dagexec._runtime.listener import PREFIX
from dagexec.doctor import _proc as proc
from dagexec.doctor._fill import fill
from dagexec.doctor._proc import Table
from dagexec.doctor._syscalls import Interest
from dagexec.doctor._unix import LISTENING, UnixSocket, unix_sockets
from dagexec.doctor._values import Channel, End, Wait

_TERMINAL: Final = re.compile(r"/dev/(pts/\d+|tty.*|console|ptmx|pts/ptmx)$")
# What a thread waits for that answers the doctor.
OWN_QUESTIONS: Final = "the doctor's own questions"


@final
class Channels:
    """Finds the other ends of descriptors; `seen` are the channels met so far."""

    def __init__(self, table: Table, blind: dict[str, None], hidden: tuple[int, ...] = ()) -> None:
        """Look into `table`; what cannot be seen is named in `blind`.

        `hidden` are descendants that may have inherited any end and cannot be looked at.
        """
        self.hidden = hidden
        self.table = table
        self.blind = blind
        self.seen: dict[str, Channel] = {}
        self._sockets: dict[int, UnixSocket] | None = None

    def wait(self, pid: int, interest: Interest, link: str) -> Wait:
        """Return what waiting for this descriptor of a process means."""
        if link.startswith("socket:"):
            return self._socket(pid, interest, link)
        if link.startswith("pipe:"):
            return self._pipe(pid, interest, link)
        if _TERMINAL.match(link):
            return self._terminal(pid, interest, link)
        try:
            # Not os.stat for others: a dead network mount would hold the doctor too.
            if stat.S_ISFIFO(os.stat(f"/proc/{pid}/fd/{interest.fd}").st_mode):  # noqa: PTH116
                return self._fifo(pid, interest, link)
        except OSError:
            pass
        return Wait("outside", fd=interest.fd, what="a file")

    # -------------------------------------------------------------------------------------- pipes

    def _pipe(self, pid: int, interest: Interest, link: str) -> Wait:
        channel = self.seen.get(link)
        if channel is None:
            channel = self.seen[link] = self._ends(link)
        fd = interest.fd
        try:
            reads, writes = proc.can_read_write(pid, fd)
        except OSError:
            return Wait("unknown", fd=fd, what="a descriptor that is not there any more")
        want = interest.want
        # To wait for data on an end that is only written means: until the readers have gone.
        if (want == "read" and not reads) or (want == "write" and not writes):
            want = "close"
        takes = want == "write" or (want == "close" and not reads)
        ends = channel.takers if takes else channel.givers
        if not ends:
            return self._nobody(fd, link)
        if want == "write" and channel.size is None:
            self._measure(channel, pid, fd)
        by = tuple(sorted({*self.hidden, *(end.pid for end in ends)}))
        return Wait(want, by, fd, link, edge=interest.edge)

    def _ends(self, link: str) -> Channel:
        takers: list[End] = []
        givers: list[End] = []
        for pid, fd in self.table.holders.get(link, ()):
            try:
                reads, writes = proc.can_read_write(pid, fd)
            except OSError:
                continue
            if reads:
                takers.append(End(pid, fd))
            if writes:
                givers.append(End(pid, fd))
        return Channel(link, tuple(takers), tuple(givers), link)

    def _measure(self, channel: Channel, pid: int, fd: int) -> None:
        level = fill(pid, fd)
        if level is not None:
            self.seen[channel.key] = Channel(
                channel.key, channel.takers, channel.givers, channel.read_as, *level
            )

    def _nobody(self, fd: int, link: str) -> Wait:
        """Return a wait for somebody who is out of sight; the kernel would not wait for nobody."""
        why = f"the other end of {link} is held by a process that cannot be seen"
        self.blind[why] = None
        return Wait("unknown", fd=fd, channel=link, what=why)

    def _fifo(self, pid: int, interest: Interest, link: str) -> Wait:
        """Return the wait for a named pipe, which anyone may open later to write to it."""
        wait = self._pipe(pid, interest, link)
        if wait.kind == "read" and pid in wait.by and not link.endswith(" (deleted)"):
            return Wait("outside", fd=interest.fd, what="whoever opens a named pipe")
        return wait

    # ------------------------------------------------------------------------------------ sockets

    def _socket(self, pid: int, interest: Interest, link: str) -> Wait:
        mine = self._table_of_sockets().get(_inode(link))
        if mine is not None and mine.peer and mine.state != LISTENING:
            return self._pair(pid, interest, link, mine)
        if mine is not None and Path(mine.path).name.startswith(PREFIX):
            return Wait("lock", (), interest.fd, what=OWN_QUESTIONS)
        what = "a network socket" if mine is None else "a connection"
        return Wait("outside", fd=interest.fd, what=what)

    def _pair(self, pid: int, interest: Interest, link: str, mine: UnixSocket) -> Wait:
        """Return the wait for a unix socket that is connected to another."""
        fd = interest.fd
        far = f"socket:[{mine.peer}]"
        ends = tuple(End(*each) for each in self.table.holders.get(far, ()))
        if not ends:
            return self._nobody(fd, link)
        by = tuple(sorted({end.pid for end in ends}))
        if by == (pid,) and interest.want == "read":
            return Wait("lock", by, fd, link, what="a wake-up (socket pair)", edge=interest.edge)
        queued = self._table_of_sockets().get(mine.peer, UnixSocket()).queued
        # What is written here is read there; what is read here was written there.
        self.seen[link] = Channel(link, ends, ends, far, queued)
        return Wait(interest.want, by, fd, link, edge=interest.edge)

    def _table_of_sockets(self) -> dict[int, UnixSocket]:
        if self._sockets is None:
            try:
                self._sockets = unix_sockets()
            except OSError as error:
                self.blind[f"unix sockets cannot be listed ({error.strerror or error})"] = None
                self._sockets = {}
        return self._sockets

    # ---------------------------------------------------------------------------------- terminals

    def _terminal(self, pid: int, interest: Interest, link: str) -> Wait:
        """Return the wait for a terminal: its slave's output goes to who holds its master."""
        fd = interest.fd
        if link.endswith("ptmx"):
            far = f"/dev/pts/{self._number(pid, fd)}"
            ends = tuple(End(*each) for each in self.table.holders.get(far, ()))
        elif interest.want != "write":
            return Wait("outside", fd=fd, what="a terminal")
        else:
            number = link.rpartition("/")[2]
            masters = [
                each
                for name in ("/dev/ptmx", "/dev/pts/ptmx")
                for each in self.table.holders.get(name, ())
            ]
            ends = tuple(End(*each) for each in masters if self._number(*each) == number)
            far = link
        if not ends:
            return Wait("outside", fd=fd, what="a terminal")
        by = tuple(sorted({end.pid for end in ends}))
        key = link if link == far else f"master of {far}"
        other = f"master of {far}" if link == far else far
        self.seen[key] = Channel(key, ends, ends, other)
        return Wait(interest.want, by, fd, key, edge=interest.edge)

    def _number(self, pid: int, fd: int) -> str:
        try:
            found = re.search(r"^tty-index:\s*(\d+)", proc.info(pid, fd), re.MULTILINE)
        except OSError:
            return ""
        return found[1] if found else ""


def _inode(link: str) -> int:
    return int(link.partition("[")[2].rstrip("]") or 0)
