"""kill -9 between the calls of a journaled program: nothing that is done is done again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed.py")


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
