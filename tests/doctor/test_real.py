"""The doctor before real processes: right on those that hang, silent on those that only wait."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from dagexec import doctor



def load(name):
    """Import a file of this folder: with importlib's import mode it is on no path."""
    spec = spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = load("programs_of_the_doctor")
pytestmark = [
    pytest.mark.real_time,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc"),
]
ALL = {
    **dict.fromkeys(programs.DEADLOCKS, "deadlock"),
    **dict.fromkeys(programs.STALLS, "stall"),
    **dict.fromkeys(programs.HEALTHY, "healthy"),
}
CODE = {**programs.DEADLOCKS, **programs.STALLS, **programs.HEALTHY}


def until(expected, pid, seconds=20.0):
    """Look until the verdict is as expected: a program on a busy machine gets there later."""
    end = time.monotonic() + seconds
    while True:
        diagnosis = doctor.examine(pid)
        if diagnosis.verdict == expected or time.monotonic() > end:
            return diagnosis


@pytest.mark.parametrize("name", ALL)
def test_verdict(name, start):
    """The verdict on each program; a healthy one must be so at the first look."""
    process = start(programs.PROLOGUE + CODE[name], settle=0.5)
    expected = ALL[name]
    diagnosis = until(expected, process.pid, 0 if expected == "healthy" else 20)
    assert diagnosis.verdict == expected, str(diagnosis)
    assert bool(diagnosis.findings) == (expected != "healthy")
    assert diagnosis.exit_code == {"healthy": 0, "deadlock": 1, "stall": 3}[expected]
