"""The judgement over values: by hand, recorded, and against a plain search for the truth."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec.doctor import Channel, End, Process, Sample, Thread, Wait, diagnose

PIPE = "pipe:[1]"


def sample(*processes, at=0.0, channels=()):
    """Return a sample of processes."""
    return Sample(
        at,
        tuple(each.pid for each in processes),
        {each.pid: each for each in processes},
        {each.key: each for each in channels},
    )


def process(pid, *waits, tid=None, polls=False, **more):
    """Return a process with one thread."""
    return Process(pid, threads=(Thread(tid or pid, waits=waits, polls=polls, mark="m"),), **more)


def write(*by, channel=PIPE):
    """Return a wait for room in a pipe."""
    return Wait("write", by, 1, channel)


def read(*by, channel="pipe:[2]", **more):
    """Return a wait for data in another."""
    return Wait("read", by, 0, channel, **more)


def verdict(*processes, later=None, used=(1, 1), seconds=3.0):
    """Return the verdict on two samples; `later` are the processes of the second."""
    first, second = (Channel(PIPE, (End(2, 3),), (End(1, 1),), PIPE, each, 65536) for each in used)
    samples = [
        sample(*processes, channels=[first]),
        sample(*(later or processes), at=seconds, channels=[second]),
    ]
    return diagnose(samples).verdict


def test_who_waits_for_whom():
    """The sentence names who is blocked on what, how full it is, and who should read it."""
    parent = Process(2, name="parent", threads=(Thread(2, call="read", waits=(read(1),)),))
    child = Process(1, 2, "child", (Thread(1, call="write", waits=(write(2),)),))
    channel = Channel(PIPE, (End(2, 5),), (End(1, 1),), PIPE, 65536, 65536)
    diagnosis = diagnose([sample(parent, child, channels=[channel])] * 2)
    assert diagnosis.verdict == "deadlock"
    (finding,) = diagnosis.findings
    assert finding.pids == finding.tids == (1, 2)
    assert "pid 1 (child) is blocked writing to fd 1 (stdout), pipe:[1]" in finding.text
    assert "(holds 65536 of 65536 bytes)" in finding.text
    assert "should be read by pid 2 (parent) at its fd 5" in finding.text
    assert "pid 2 (parent) waits for data in pipe:[2] (fd 0) from pid 1 (child)" in finding.text
    assert diagnosis.to_dict()["findings"][0]["text"] == finding.text


RINGS = {
    "writers": ([write(2)], [write(1)], "deadlock"),
    "readers": ([read(2)], [read(1)], "deadlock"),
    "a parent and its child": ([write(2)], [Wait("exit", (1,))], "deadlock"),
    "a timer": ([read(2)], [Wait("timer", seconds=30.0), read(1)], "healthy"),
    "the network": ([read(2)], [Wait("outside", what="a network socket"), read(1)], "healthy"),
    "what cannot be seen": ([read(2)], [Wait("unknown"), read(1)], "healthy"),
    "a way out": ([read(2)], [read(1, 3)], "healthy"),
    "locks on the way": ([read(2)], [Wait("lock", (2,)), read(1)], "stall"),
}


@pytest.mark.parametrize("name", RINGS)
def test_rings_of_two(name):
    """A ring is a deadlock unless someone in it has another way to go on."""
    first, second, expected = RINGS[name]
    assert verdict(process(1, *first), process(2, *second)) == expected


def test_progress_is_no_deadlock():
    """A thread that ran between the samples can go on, and so can whoever waits for it."""
    ring = process(1, read(2)), process(2, read(1))
    moved = Process(2, threads=(Thread(2, waits=(read(1),), mark="other"),))
    assert verdict(*ring) == "deadlock"
    assert verdict(*ring, later=(ring[0], moved)) == "healthy"


def test_the_unreadable_and_the_gone_may_do_anything():
    """Blindness is never an alarm."""
    assert verdict(process(1, read(2)), Process(2, readable=False)) == "healthy"
    assert verdict(process(1, read(2))) == "healthy"


WRITER = process(1, write(2))
READERS = {
    "a long sleep": (process(2, Wait("timer", seconds=60.0)), "stall"),
    "a short sleep": (process(2, Wait("timer", seconds=3.0)), "healthy"),
    "a loop that asks for other things": (
        process(2, Wait("outside", what="a network socket"), polls=True),
        "stall",
    ),
    "a loop that asks for the pipe": (
        process(2, read(1, channel=PIPE), Wait("timer", seconds=60.0), polls=True),
        "healthy",
    ),
    "a loop that was told once (EPOLLET)": (
        process(2, read(1, channel=PIPE, edge=True), Wait("timer", seconds=60.0), polls=True),
        "stall",
    ),
    "a plain call to the network": (
        process(2, Wait("outside", what="a network socket")),
        "healthy",
    ),
    "a person": (process(2, Wait("outside", what="a terminal"), polls=True), "healthy"),
    "stopped": (Process(2, threads=(Thread(2, "T", mark="m"),)), "stall"),
    "computing": (Process(2, threads=(Thread(2, "R", mark="m"),)), "healthy"),
    "in the disk": (Process(2, threads=(Thread(2, "D", mark="m"),)), "healthy"),
    "another process first": (process(2, read(3)), "healthy"),
    "the end of another process": (process(2, Wait("exit", (3,))), "healthy"),
    "a lock with a timeout": (process(2, Wait("lock", (2,)), Wait("timer", seconds=60.0)), "stall"),
}


@pytest.mark.parametrize("name", READERS)
def test_stalls(name):
    """Nobody waits to read, and nobody is on the way to it."""
    reader, expected = READERS[name]
    other = process(3, Wait("timer", seconds=60.0))
    assert verdict(WRITER, reader, other) == expected


def test_a_byte_that_moves_is_no_stall():
    """A slow reader takes some; so does one that reads byte by byte."""
    sleeper = process(2, Wait("timer", seconds=60.0))
    assert verdict(WRITER, sleeper, used=(65536, 65536)) == "stall"
    assert verdict(WRITER, sleeper, used=(65536, 65535)) == "healthy"


def test_a_reader_that_computed_is_no_stall():
    """Processor time between the samples, although it sleeps at both."""

    def reader(cpu):
        return Process(2, threads=(Thread(2, waits=(Wait("timer", seconds=60.0),), cpu=cpu),))

    assert verdict(WRITER, reader(0.0), later=(WRITER, reader(2.0))) == "healthy"


def test_a_circle_beside_someone_awake_is_a_stall():
    """One thread waits for the writer that waits for its process, whatever another does."""
    main = Thread(2, waits=(Wait("exit", (1,)),), mark="m")
    ticker = Thread(3, waits=(Wait("timer", seconds=1.0),), mark="m")
    assert verdict(WRITER, Process(2, threads=(main, ticker))) == "stall"
    assert verdict(WRITER, Process(2, threads=(ticker,))) == "healthy"


def test_an_idler_of_a_pool_does_not_hide_a_deadlock():
    """A thread that waits for work, and gives up after a time, will not read the pipe."""
    main = Thread(2, waits=(Wait("exit", (1,)),), mark="m")
    idler = Thread(3, waits=(Wait("timer", seconds=9.0), Wait("lock", (2,))), mark="m")
    assert verdict(WRITER, Process(2, threads=(main, idler))) == "deadlock"
    # Without a writer in it there is no harm in waiting on.
    assert verdict(process(1, read(2)), Process(2, threads=(main, idler))) == "healthy"


def test_locks_alone_are_a_stall_unless_something_is_expected():
    """A signal that the program handles, or a child that lives."""
    locked = (Thread(1, waits=(Wait("lock", (1,)),)), Thread(5, waits=(Wait("lock", (1,)),)))
    child = process(2, Wait("timer", seconds=60.0), parent=1)
    assert verdict(Process(1, threads=locked)) == "stall"
    assert verdict(Process(1, threads=locked, catches=True)) == "healthy"
    assert verdict(Process(1, threads=locked), child) == "healthy"
    assert verdict(Process(1, threads=locked), process(2, read(1), parent=1)) == "stall"


# ------------------------------------------------------------------------------ against the truth

waits = st.lists(
    st.one_of(
        st.builds(
            Wait,
            st.sampled_from(["write", "read", "exit"]),
            st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True).map(tuple),
            channel=st.just(PIPE),
        ),
        st.builds(Wait, st.sampled_from(["timer", "outside", "unknown"])),
    ),
    min_size=1,
    max_size=2,
).map(tuple)
states = st.sampled_from("SSSSSSSRT")
graphs = st.lists(st.lists(st.tuples(states, waits), min_size=1, max_size=2), max_size=5)


def built(graph):
    """Return a sample in which process n has the threads 10 n, 10 n + 1, and so on."""
    return sample(
        *(
            Process(
                pid,
                threads=tuple(
                    Thread(pid * 10 + place, state, waits=waits if state == "S" else ())
                    for place, (state, waits) in enumerate(threads)
                ),
            )
            for pid, threads in enumerate(graph, 1)
        )
    )


def truly_stuck(seen):
    """Return the largest set of threads of which none has a way to go on, by trying all sets."""
    owner = {each.tid: pid for pid, p in seen.processes.items() for each in p.threads}
    threads = {each.tid: each for p in seen.processes.values() for each in p.threads}
    for size in range(len(threads), 0, -1):
        for chosen in itertools.combinations(threads, size):
            if all(cannot_go_on(threads[tid], chosen, owner, seen) for tid in chosen):
                return set(chosen)
    return set()


def cannot_go_on(thread, chosen, owner, seen):
    """Whether nothing that a thread waits for can come from outside of the chosen."""
    if thread.state != "S":
        return False
    for wait in thread.waits:
        if wait.kind in ("timer", "outside", "unknown"):
            return False
        if any(pid not in seen.processes for pid in wait.by):
            return False
        helpers = [tid for tid, pid in owner.items() if pid in wait.by and tid != thread.tid]
        if any(tid not in chosen for tid in helpers):
            return False
    return True


@given(graphs)
def test_against_the_truth(graph):
    """Deadlock exactly if some threads can truly never go on; all waits here are for others."""
    seen = built(graph)
    stuck = truly_stuck(seen)
    diagnosis = diagnose([seen, seen])
    assert {each["tid"] for each in diagnosis.waits if each["stuck"]} == stuck
    assert (diagnosis.verdict == "deadlock") == bool(stuck)
    for finding in diagnosis.findings:
        if finding.kind == "deadlock":
            assert set(finding.tids) <= stuck
    writers = any(
        wait.kind == "write" for p in seen.processes.values() for t in p.threads for wait in t.waits
    )
    if diagnosis.verdict == "stall":
        assert writers


@given(graphs, st.integers(0, 9), st.integers(0, 9))
def test_one_more_that_is_awake_makes_nothing_worse(graph, pid, tid):
    """A thread that runs beside the others frees whoever waits for its process, and harms none."""
    before = diagnose([built(graph)] * 2)
    seen = built(graph)
    processes = dict(seen.processes)
    old = processes.get(pid, Process(pid))
    processes[pid] = Process(pid, threads=(*old.threads, Thread(1000 + tid, "R")))
    after = diagnose([Sample(0.0, seen.asked, processes, seen.channels)] * 2)
    stuck_before = {each["tid"] for each in before.waits if each["stuck"]}
    stuck_after = {each["tid"] for each in after.waits if each["stuck"]}
    assert stuck_after <= stuck_before
    if before.verdict == "healthy":
        assert after.verdict == "healthy"


def test_a_great_many():
    """Three hundred processes of ten threads each in a ring, in a moment."""
    size = 300
    processes = [
        Process(
            pid,
            threads=(
                Thread(pid * 100, waits=(write(pid % size + 1, channel=f"pipe:[{pid}]"),)),
                *(Thread(pid * 100 + n, waits=(Wait("lock", (pid,)),)) for n in range(1, 10)),
            ),
        )
        for pid in range(1, size + 1)
    ]
    diagnosis = diagnose([sample(*processes)] * 2)
    assert diagnosis.verdict == "deadlock"
    assert len(diagnosis.findings) == 1
    assert len(diagnosis.findings[0].tids) == 10 * size
    assert len(str(diagnosis)) < 100_000
