"""No workload needs more instructions for a call than what is kept, within the tolerance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEPT = json.loads((ROOT / "tests/benchmarks/instructions.json").read_text(encoding="utf-8"))
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
TOLERANCE = 0.03


@pytest.mark.real_time
@pytest.mark.timeout(240)  # each instruction is counted, and machines are slow
@pytest.mark.skipif(VERSION not in KEPT, reason=f"no instruction counts are kept for {VERSION}")
def test_a_call_costs_no_more_than_it_did():
    """One that is worth its cost: `python -m tests.benchmarks.instructions --update`."""
    command = [sys.executable, "-m", "tests.benchmarks.instructions", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)
    assert found.keys() == KEPT[VERSION].keys()
    assert all(found.values()), "nothing was counted"
    dear = {name: n for name, n in found.items() if n > KEPT[VERSION][name] * (1 + TOLERANCE)}
    assert not dear, f"more instructions for a call than the {KEPT[VERSION]} kept: {dear}"
