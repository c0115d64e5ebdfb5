"""kill -9 at the calls of journaled programs: nothing that is done is done again.

`killed` is one program that kills itself at some of its calls. `killed_anywhere` kills generated
ones at each boundary of a call: before a tool begins, behind its effect, and when its outcome is
recorded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NO_TRIO

SCRIPT = Path(__file__).with_name("killed.py")
ANYWHERE = Path(__file__).with_name("killed_anywhere.py")
# Programs that the slow test kills at each of their boundaries, some twenty a program.
MANY = int(os.environ.get("DAGEXEC_FUZZ", "1000")) // 250
ROOT = Path(__file__).parents[2]
BACKENDS = ["asyncio", pytest.param("trio", marks=NO_TRIO)]


@pytest.mark.real_time
@pytest.mark.parametrize("places", [(0, 2, 4), (1, 1, 3)])
def test_a_killed_program_repeats_nothing(tmp_path: Path, places: tuple[int, ...]) -> None:
    for place in places:
        ended = subprocess.run(
            [sys.executable, str(SCRIPT), str(tmp_path), str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "-1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == "110", ended.stderr
    assert (tmp_path / "writes").read_text().split() == ["0", "1", "2", "3", "4", "100"]


def kill_anywhere(folder: Path, first: int, count: int, backend: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(ANYWHERE), str(folder), str(first), str(count), backend],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith(f"{count} programs were killed at "), ended.stdout


@pytest.mark.real_time
@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_at_each_boundary_a_program_does_what_python_does(
    tmp_path: Path, backend: str
) -> None:
    kill_anywhere(tmp_path, {"asyncio": 6, "trio": 4}[backend], 1, backend)


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.timeout(60 + 30 * MANY)
@pytest.mark.parametrize("backend", BACKENDS)
def test_many_programs_killed_at_each_boundary(tmp_path: Path, backend: str) -> None:
    kill_anywhere(tmp_path, 1_000, MANY, backend)
