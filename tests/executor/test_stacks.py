"""Looking at other threads' frames harms nobody."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dagexec._concurrency.stacks import _uncollected, is_at, thread_frames

PROGRAM = Path(__file__).with_name("looks_at_frames.py")
OLD = pytest.mark.skipif(sys.version_info >= (3, 12), reason="later ones collect elsewhere")


@pytest.mark.real_time
@pytest.mark.parametrize("threshold", [50, 700])
def test_looking_at_a_busy_thread_does_not_crash_the_interpreter(threshold):
    """Python 3.11 crashed within a second or two: see `_Uncollected`."""
    command = [sys.executable, str(PROGRAM), "3", str(threshold)]
    path = os.pathsep.join([str(PROGRAM.parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen, enabled = done.stdout.split()
    assert int(seen) > 0
    assert enabled == "True"
    assert not done.stderr


@OLD
@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_put_back_as_it_was(enabled):
    """Also by a block in a block, as in a signal's handler."""
    try:
        if not enabled:
            gc.disable()
        with _uncollected:
            assert not gc.isenabled()
            thread_frames(threading.get_ident())
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_a_thread_that_has_ended_is_nowhere():
    """It has no frames, and nobody need look at it."""
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert is_at(thread.ident, ())
    assert thread_frames(thread.ident) == []


@OLD
@pytest.mark.real_time
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_forked_meanwhile_collects_and_can_look():
    """Another thread of the parent was inside of a block, and is not in the child."""
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with _uncollected:
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        fine = gc.isenabled() and bool(thread_frames(threading.get_ident()))
        os._exit(0 if fine else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gc.isenabled()
