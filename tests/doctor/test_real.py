"""The doctor before real processes: right on those that hang, silent on those that only wait."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from dagexec import doctor
from dagexec.cli import main


def load(name):
    """Import a file of this folder: with importlib's import mode it is on no path."""
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = load("programs_of_the_doctor")
pytestmark = [
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # many programs to start, and machines that are slow
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc"),
]
EXPECTED = {
    **dict.fromkeys(programs.DEADLOCKS, "deadlock"),
    **dict.fromkeys(programs.STALLS, "stall"),
    **dict.fromkeys(programs.HEALTHY, "healthy"),
}
CODE = {**programs.DEADLOCKS, **programs.STALLS, **programs.HEALTHY}
# One of each kind in every run of the tests; all of them take some minutes.
QUICK = (
    "a parent reads stdout while its child fills stderr",
    "a ring of three",
    "a threaded parent",
    "an event loop that does not read",
    "a server whose stderr nobody drains",
    "both ends in one process",
    "an event loop with a heartbeat",
    "a slow reader in a pipeline",
)
BUSY = ("comput", "fast writer")
CASES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CODE]


def until(expected, *pids, seconds=90.0):
    """Look until the verdict is as expected: a program on a busy machine gets there later."""
    end = time.monotonic() + seconds
    while True:
        diagnosis = doctor.examine(*pids)
        if diagnosis.verdict == expected or time.monotonic() > end:
            return diagnosis


def program(name):
    """Return the whole code of a program."""
    return programs.PROLOGUE + CODE[name]


@pytest.mark.parametrize("name", CASES)
def test_verdict(name, start):
    """The verdict on each program; a healthy one must be so at the first look, within 5 s."""
    process = start(program(name), settle=0.5)
    expected = EXPECTED[name]
    diagnosis = until(expected, process.pid, seconds=0 if expected == "healthy" else 90)
    assert diagnosis.verdict == expected, str(diagnosis)
    assert bool(diagnosis.findings) == (expected != "healthy")
    assert diagnosis.exit_code == {"healthy": 0, "deadlock": 1, "stall": 3}[expected]


def test_all_that_are_healthy_at_once(start):
    """No false alarm in a crowd."""
    quiet = [name for name in programs.HEALTHY if not any(word in name for word in BUSY)]
    pids = [start(program(name)).pid for name in quiet]
    time.sleep(0.5)
    diagnosis = doctor.examine(*pids)
    assert diagnosis.verdict == "healthy", str(diagnosis)
    # A moment in which the machine had no time for it says nothing.
    took = [diagnosis.seconds]
    while min(took) >= 5 and len(took) < 10:
        took.append(doctor.examine(*pids).seconds)
    assert min(took) < 5


@pytest.mark.slow
def test_all_deadlocks_at_once(start):
    """Each is found in the crowd, and in time."""
    pids = {name: start(program(name)).pid for name in programs.DEADLOCKS}
    end = time.monotonic() + 120
    missing, took = list(pids), []
    while missing and time.monotonic() < end:
        diagnosis = doctor.examine(*pids.values())
        took.append(diagnosis.seconds)
        found = {pid for each in diagnosis.findings if each.kind == "deadlock" for pid in each.pids}
        missing = [name for name, pid in pids.items() if pid not in found]
    assert not missing
    assert min(took) < 5


def test_any_process_of_a_ring_will_do(start):
    """The doctor finds the others, although they are no descendants."""
    process = start(program("a ring of three"))
    diagnosis = until("deadlock", process.pid)
    (finding,) = diagnosis.findings
    assert len(finding.pids) == 3
    for pid in finding.pids:
        assert doctor.examine(pid).verdict == "deadlock"


# --------------------------------------------------------------------------------- random graphs

FUZZ = """
import json, os, select, sys, time
pipes, states = json.loads(sys.argv[1])
made = [os.pipe() for _ in pipes]

def become(number):
    for place, (readers, writers) in enumerate(pipes):
        for fd, holders in zip(made[place], (readers, writers)):
            if number not in holders:
                os.close(fd)
    kind, places = states[number]
    # From here on it sleeps nowhere but in its own call.
    os.write(1, f"{number} {os.getpid()}\\n".encode())
    if kind == "write":
        os.write(made[places[0]][1], b"x" * 2**20)
    elif kind == "read":
        os.read(made[places[0]][0], 1)
    elif kind == "select":
        select.select([made[each][0] for each in places], [], [])
    elif kind == "sleep":
        time.sleep(1000)
    time.sleep(1000)

for number in range(1, len(states)):
    if os.fork() == 0:
        become(number)
become(0)
"""


def drawn(rng):
    """Return random pipes (who holds their ends) and what each process does."""
    count = rng.randint(2, 5)
    everyone = range(count)
    pipes = []
    for _ in range(rng.randint(1, 5)):
        pipes.append([rng.sample(everyone, rng.choice((1, 1, 2))) for _ in range(2)])
    states = []
    for number in everyone:
        reads = [place for place, (readers, _) in enumerate(pipes) if number in readers]
        writes = [place for place, (_, writers) in enumerate(pipes) if number in writers]
        kinds = [("sleep", [])]
        kinds += [("read", [place]) for place in reads] * 3
        kinds += [("write", [place]) for place in writes] * 3
        # A process that polls a pipe which only it writes to is an event loop with its wake-up.
        apart = [place for place in reads if pipes[place][1] != [number]]
        kinds += [("select", apart)] * (len(apart) > 1)
        states.append(rng.choice(kinds))
    # A pipe is written or read here, not both: what one has written another could read.
    written = {states[n][1][0] for n in everyone if states[n][0] == "write"}
    for number in everyone:
        kind, places = states[number]
        if kind in ("read", "select") and written.intersection(places):
            states[number] = ("sleep", [])
    return pipes, states


def never(pipes, states):
    """Return the processes that can never go on, as a plain search finds them."""
    stuck = {number for number, (kind, _) in enumerate(states) if kind != "sleep"}
    while True:
        freed = set()
        for number in stuck:
            kind, places = states[number]
            ends = 0 if kind == "write" else 1
            helpers = {each for place in places for each in pipes[place][ends]} - {number}
            if helpers - stuck:
                freed.add(number)
        if not freed:
            return stuck
        stuck -= freed


@pytest.mark.parametrize(
    "seeds",
    [
        range(6),
        *(pytest.param(range(n, min(n + 8, 80)), marks=pytest.mark.slow) for n in range(6, 80, 8)),
    ],
    ids=str,
)
def test_random_graphs(seeds):
    """Processes with pipes between them at random: what is found is the truth, no more, no less."""
    with ThreadPoolExecutor(4) as pool:  # what takes the time is waiting
        for _ in pool.map(examine_random_graph, seeds):
            pass


def examine_random_graph(seed):
    """Start the processes of a random graph and look at them twice."""
    pipes, states = drawn(random.Random(seed))
    argv = [sys.executable, "-c", FUZZ, json.dumps([pipes, states])]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
    )  # unbuffered: select sees every line
    try:
        early = doctor.examine(process.pid)
        pids = settled(process.stdout, len(states))
        diagnosis = doctor.examine(process.pid)
        told = (seed, pipes, states, pids, str(early), str(diagnosis))
        stuck = {pids[number] for number in never(pipes, states)}
        # Who is stuck already when the others are only on their way is so for good.
        assert named(early) <= stuck, told
        assert {each["pid"] for each in diagnosis.waits if each["stuck"]} == stuck, told
        assert named(diagnosis) <= stuck, told
        assert (diagnosis.verdict == "deadlock") is bool(stuck), told
        if not any(kind == "write" for kind, _ in states):
            assert diagnosis.verdict in ("deadlock", "healthy"), told
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def settled(output, count):
    """Return the processes by number, once each stands in the call that it will not leave."""
    pids = {}
    while len(pids) < count:
        assert select.select([output], [], [], 90)[0], "the processes did not get ready"
        number, pid = output.readline().split()
        pids[int(number)] = int(pid)
    end = time.monotonic() + 90
    while not all(state(pid) == "S" for pid in pids.values()):
        assert time.monotonic() < end, "the processes did not settle"
        time.sleep(0.01)
    return pids


def state(pid):
    """Return the letter of a process's state; one that waits for a processor is R."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][0]


def named(diagnosis):
    """Return the processes that are in a deadlock."""
    return {pid for each in diagnosis.findings if each.kind == "deadlock" for pid in each.pids}


# ------------------------------------------------------------------------------------ the command


@pytest.mark.slow
def test_the_command(start, capsys):
    """Exit codes for scripts, JSON, sentences; and what it cannot do is an error in one line."""
    pid = start(program("a parent reads stdout while its child fills stderr")).pid
    until("deadlock", pid)
    argv = [sys.executable, "-m", "dagexec", "doctor", str(pid)]
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert told.returncode == 1, told
    assert told.stdout.startswith("deadlock: ")
    assert "is blocked writing to fd 2 (stderr), pipe:[" in told.stdout
    assert "(holds 65536 of 65536 bytes)" in told.stdout
    assert f"it should be read by pid {pid}" in told.stdout
    assert main(["doctor", "--json", str(pid)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["exit_code"]) == ("deadlock", 1)
    assert found["seconds"] < 5
    (full,) = [each for each in found["channels"] if each["used"] == 65536]
    assert full["size"] == 65536
    assert [each["pid"] for each in full["readers"]] == [pid]
    healthy = start(program("a timer")).pid
    assert main(["doctor", str(healthy)]) == 0
    assert main(["doctor", str(healthy), str(pid)]) == 1
    capsys.readouterr()
    assert main(["doctor", str(2**22 + 1)]) == 2
    assert capsys.readouterr().err == "dagexec: there is no process 4194305\n"
    for wrong in (["0"], ["x"]):
        assert main(["doctor", *wrong]) == 2
