"""What /proc says, file by file. Everything here may raise OSError: processes end at any time."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

# Programs whose first argument says more than their own name.
_INTERPRETERS: Final = re.compile(r"(python|pypy|node|ruby|perl|bash|dash|zsh|sh|deno|bun)[\d.]*$")
# What is surely a file and no value of an option.
_SCRIPT: Final = re.compile(r"(/[^\s]{1,200}|[^\s/-][^\s]{0,200}\.(py|pyz|[cm]?[jt]s|rb|pl|sh))$")
# HUP, USR1, USR2, ALRM, TERM. Not INT: Python itself handles that in every program.
_TELLING: Final = sum(1 << (number - 1) for number in (1, 10, 12, 14, 15))
_CHILD: Final = 1 << 16  # SIGCHLD
_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# States of a process that has ended: zombie, dead.
ENDED: Final = ("Z", "X", "x")
_FIXED: Final = 2  # stat's fields before the state: id and name


@final
@dataclass(frozen=True, slots=True)
class Table:
    """All processes at one moment: parents, descriptors, and who holds what.

    `holders` are (process, descriptor) by what the descriptor's link says, `hidden` the processes
    whose descriptors could not be read.
    """

    parents: dict[int, int] = field(default_factory=dict[int, int])
    links: dict[int, dict[int, str]] = field(default_factory=dict[int, dict[int, str]])
    holders: dict[str, list[tuple[int, int]]] = field(
        default_factory=dict[str, list[tuple[int, int]]]
    )
    hidden: set[int] = field(default_factory=set[int])

    def children(self, pid: int) -> list[int]:
        """Return the children of a process."""
        return [child for child, parent in self.parents.items() if parent == pid]

    def tree(self, roots: tuple[int, ...]) -> list[int]:
        """Return processes and all their descendants."""
        below: dict[int, list[int]] = {}
        for child, parent in self.parents.items():
            below.setdefault(parent, []).append(child)
        found: dict[int, None] = {}
        todo = list(roots)
        while todo:
            pid = todo.pop()
            if pid not in found:
                found[pid] = None
                todo += below.get(pid, ())
        return list(found)


def read_table() -> Table:
    """Look at every process; those that end meanwhile are left out."""
    table = Table()
    # A Path for each file of /proc takes too long.
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:  # noqa: PTH208
        try:
            state, parent = stat_fields(f"/proc/{pid}/stat")[:2]
        except OSError:
            continue
        table.parents[pid] = int(parent)
        try:
            table.links[pid] = _links(pid)
        except PermissionError:
            if state not in ENDED:
                table.hidden.add(pid)
        except OSError:
            continue
    for pid, links in table.links.items():
        for fd, link in links.items():
            table.holders.setdefault(link, []).append((pid, fd))
    return table


def _links(pid: int) -> dict[int, str]:
    links: dict[int, str] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
        try:
            links[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
        except FileNotFoundError:
            continue
    return links


def text(path: str) -> str:
    """Return a file's text."""
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read()


def stat_fields(path: str) -> list[str]:
    """Return the fields of a `stat` file from the state on; a name may hold anything."""
    return text(path).rpartition(")")[2].split()


def cpu_seconds(fields: list[str]) -> float:
    """Return the seconds computed, from the fields of `stat`."""
    return (int(fields[13 - _FIXED]) + int(fields[14 - _FIXED])) / _TICKS


def switches(status: str) -> str:
    """Return how often a thread was put on and off a processor, from its `status`."""
    return " ".join(re.findall(r"ctxt_switches:\s*(\d+)", status))


def catches(pid: int) -> bool:
    """Whether a process handles signals by which programs are told to do something."""
    return bool(_caught(pid) & _TELLING)


def catches_only_children(pid: int) -> bool:
    """Whether the one thing that a process wants to be told is that a child has ended."""
    caught = _caught(pid)
    return bool(caught & _CHILD) and not caught & _TELLING


def _caught(pid: int) -> int:
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)", text(f"/proc/{pid}/status"), re.MULTILINE)
    return int(found[1], 16) if found else 0


def info(pid: int, fd: int) -> str:
    """Return what the kernel says of a descriptor."""
    return text(f"/proc/{pid}/fdinfo/{fd}")


def can_read_write(pid: int, fd: int) -> tuple[bool, bool]:
    """Return whether a descriptor is open for reading and for writing."""
    found = re.search(r"^flags:\s*([0-7]+)", info(pid, fd), re.MULTILINE)
    mode = int(found[1], 8) & os.O_ACCMODE if found else os.O_RDWR
    return mode != os.O_WRONLY, mode != os.O_RDONLY


def mapping(pid: int, address: int) -> tuple[str, str] | None:
    """Return device and inode of the shared mapping at an address; None where it is private."""
    for line in text(f"/proc/{pid}/maps").splitlines():
        words = line.split(None, 5)
        low, _, high = words[0].partition("-")
        if int(low, 16) <= address < int(high, 16):
            return (words[3], words[4]) if words[1].endswith("s") and words[4] != "0" else None
    return None


def maps_it(pid: int, place: tuple[str, str]) -> bool:
    """Whether a process shares the mapping with this device and inode."""
    try:
        lines = text(f"/proc/{pid}/maps").splitlines()
    except OSError:
        return False
    return any(tuple(line.split(None, 5)[3:5]) == place for line in lines)


def memory(pid: int, address: int, size: int) -> bytes:
    """Return bytes of a process's memory."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:  # noqa: PTH123
        return os.pread(file.fileno(), size, address)


def process_name(pid: int) -> str:
    """Return a short name: the program, and the script that an interpreter runs.

    No other arguments: they may hold secrets.
    """
    try:
        words = text(f"/proc/{pid}/cmdline").split("\0")[:-1]
        if not words or not words[0]:
            return text(f"/proc/{pid}/comm").strip()
    except OSError:
        return ""
    program = Path(words[0]).name
    if not _INTERPRETERS.match(program):
        return program
    return " ".join((program, *_script(words[1:])))


def _script(words: list[str]) -> list[str]:
    """Return what an interpreter runs, out of its arguments."""
    for place, word in enumerate(words):
        if word == "-m":
            return words[place : place + 2]
        if word in ("-c", "-e", "-p", "--eval", "--print"):
            return [word]
        if _SCRIPT.match(word):
            return [Path(word).name]
    return []
