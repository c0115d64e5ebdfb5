"""System calls as /proc shows them, and what they wait for."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec.doctor._syscalls import NUMBERS, Interest, decode, epoll_interests

# What the threads of a test wait in, as the doctor names it.
WAITS = {"read": ["read"], "lock": ["lock"], "recv": ["lock"], "timer": ["timer"]}
TAIL = "0x7ffe5c9de7e8 0x7f0488429350"


def line(number, *args):
    """Return the kernel's line for a call."""
    given = [*args, *[0] * (6 - len(args))]
    return " ".join([str(number), *map(hex, given), TAIL])


def read(text, memory=b"", machine="x86_64"):
    """Decode a line, with memory that begins at address 4096."""

    def peek(address, size):
        if not 4096 <= address <= 4096 + len(memory) - size:
            raise OSError
        return memory[address - 4096 : address - 4096 + size]

    return decode(text, machine, peek)


def test_a_recorded_writer():
    """`yes` in front of a pipe that nobody reads, as recorded."""
    recorded = "1 0x1 0x562bfe4a5b60 0x2000 0x7f048834a4f0 0x0 0x0 0x7ffe5c9de7e8 0x7f0488429350"
    request = read(recorded)
    assert request.call == "write"
    assert request.interests == (Interest(1, "write"),)
    assert read("running") is None
    assert read("-1 0x7ffe5c9de7e8 0x7f0488429350").unknown
    assert read(line(9999)).unknown == "system call 9999"
    assert read(recorded.replace(TAIL, "0xffbfe7e8 0xf7f29350")).unknown == "it is a 32-bit program"


def test_the_same_on_another_machine():
    """Numbers differ, what they mean does not."""
    assert read(line(64, 1), machine="aarch64").interests == (Interest(1, "write"),)
    assert read(line(63, 0), machine="riscv64").interests == (Interest(0, "read"),)
    for table in NUMBERS.values():
        for number in table:
            assert read(line(number)) is not None


def test_poll():
    """Descriptors, what they are wanted for, and the time."""
    memory = struct.pack("=ihhihhihhihh", 5, 1, 0, 6, 4, 0, -1, 1, 0, 7, 0, 0)
    request = read(line(7, 4096, 4, 2**64 - 1), memory)
    assert request.polls
    assert request.seconds is None
    assert request.interests == (
        Interest(5, "read"),
        Interest(6, "write"),
        Interest(7, "close"),
    )
    assert read(line(7, 4096, 4, 1500), memory).seconds == 1.5
    assert read(line(7, 4096, 4, 86_400_000), memory).seconds is None
    assert read(line(7, 1, 4, 1500), memory).unknown


def test_select():
    """Sets of bits, and a timeval."""
    reads, writes = (1 << 3 | 1 << 70).to_bytes(16, "little"), (1 << 4).to_bytes(16, "little")
    memory = reads + writes + struct.pack("=qq", 2, 500_000)
    request = read(line(23, 71, 4096, 4112, 0, 4128), memory)
    assert request.interests == (Interest(3, "read"), Interest(70, "read"), Interest(4, "write"))
    assert request.seconds == pytest.approx(2.5)


def test_epoll():
    """Descriptors, as fdinfo lists them; one that was told once and is off waits for nothing."""
    text = (
        "pos:\t0\nflags:\t02000002\n"
        "tfd:        4 events:       19 data:                4  pos:0 ino:1 sdev:1\n"
        "tfd:        5 events: 80000019 data:                5  pos:0 ino:1 sdev:1\n"
        "tfd:        6 events:        c data:                6  pos:0 ino:1 sdev:1\n"
        "tfd:        7 events: 40000000 data:                7  pos:0 ino:1 sdev:1\n"
        "tfd:        8 events:       18 data:                8  pos:0 ino:1 sdev:1\n"
    )
    assert epoll_interests(text) == (
        Interest(4, "read"),
        Interest(5, "read", edge=True),
        Interest(6, "write"),
        Interest(8, "close"),
    )
    assert read(line(232, 3, 0, 10, 2**32 - 1)).seconds is None
    assert read(line(232, 3, 0, 10, 250)).seconds == 0.25


def test_futexes_children_and_sleep():
    """The rest of what threads wait in."""
    assert read(line(202, 4096, 0x189)).futex == 4096
    assert not read(line(202, 4096, 0x189)).shared
    assert read(line(202, 4096, 0x109)).shared
    later = struct.pack("=qq", int(time.monotonic()) + 60, 0)
    assert 50 < read(line(202, 1, 0x89, 0, 4096), later).seconds <= 60
    assert read(line(61, 2**64 - 1)).child == 0
    assert read(line(61, 77)).child == 77
    assert read(line(247, 1, 77)).child == 77
    assert read(line(247, 3, 9)).child_fd == 9
    assert read(line(35, 4096), struct.pack("=qq", 3, 0)).seconds == 3
    assert 50 < read(line(230, 1, 1, 4096), later).seconds <= 60
    assert read(line(230, 1, 1, 1)).seconds is not None


@given(st.lists(st.integers(0, 2**64 - 1), min_size=9, max_size=9), st.binary(max_size=300))
def test_any_line_and_any_memory(numbers, memory):
    """A program can put anything into its registers; the doctor must not fall over it."""
    text = " ".join([str(numbers[0] % 500), *map(hex, numbers[1:])])
    read(text, memory)


@pytest.mark.real_time
@pytest.mark.timeout(120)  # for machines that are slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_every_wait_of_a_real_thread():
    """Each kind of wait, in a thread of this process, read back."""
    from dagexec.doctor import read as look

    reader, writer = os.pipe()
    one, other = socket.socketpair()
    lock = threading.Lock()
    lock.acquire()
    waits = {
        "read": lambda: os.read(reader, 1),
        "lock": lock.acquire,
        "recv": lambda: one.recv(1),
        "timer": lambda: time.sleep(100),
    }
    ids = {}

    def run(name):
        ids[name] = threading.get_native_id()
        waits[name]()

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in waits]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + 40
        while True:
            process = look((os.getpid(),)).processes[os.getpid()]
            seen = {thread.tid: thread for thread in process.threads}
            found = {name: seen[tid] for name, tid in ids.items() if tid in seen}
            kinds = {name: [wait.kind for wait in each.waits] for name, each in found.items()}
            # On a slow machine a thread gets to its call later; a lock may be Python's own.
            if kinds == WAITS or time.monotonic() > end:
                break
            time.sleep(0.05)
        assert kinds == WAITS
        assert seen[ids["read"]].waits[0].by == (os.getpid(),)
        assert seen[threading.main_thread().native_id].state == "R"
    finally:
        os.write(writer, b"x")
        other.send(b"x")
        lock.release()
        for thread in threads[:3]:
            thread.join(10)
        for each in (one, other):
            each.close()
        for fd in (reader, writer):
            os.close(fd)
