"""Recorded runs of this format are decided alike: no server, and no tool is known."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("temporalio", reason="the extra temporal is not installed")

FOLDER = ROOT / "tests" / "engines" / "temporal"
FILE = FOLDER / "histories-dagexec-1.json.gz"
PROGRAMS = FOLDER / "histories-dagexec-1-programs.json.gz"
pytestmark = pytest.mark.real_time

REPLAY = """
import asyncio, json, sys
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from dagexec.engines.temporal import _launches, _workflow

async def main():
    histories = json.load(sys.stdin)
    for moved in (False, True):
        if moved:
            _workflow.MOVE_EVENTS, _launches.WINDOW = 80, 5
        replayer = Replayer(
            workflows=[_workflow.RunWorkflow], workflow_runner=UnsandboxedWorkflowRunner()
        )
        for name, body in histories.items():
            if (":moved " in name) == moved:
                history = WorkflowHistory.from_json(name.split(" ")[0], body)
                result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
                print(name, "failed" if result.replay_failure else "ok")
    print(sorted(each for each in sys.modules if each.startswith("tests")))
    sys.stdout.flush()
    import os
    os._exit(0)

asyncio.run(main())
"""


def histories(file: Path = FILE) -> dict[str, Any]:
    """Return the recorded histories by workflow and run."""
    found: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
    return found


def replayed(given: dict[str, Any], seed: str = "17") -> list[str]:
    """Replay histories in a process of their own; return what became of each."""
    done = subprocess.run(
        [sys.executable, "-c", REPLAY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
        input=json.dumps(given),
        text=True,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, modules = done.stdout.splitlines()
    assert modules == "[]"
    return lines


@pytest.mark.parametrize("seed", ["17", "0"])
@pytest.mark.parametrize("file", [FILE, PROGRAMS], ids=["plans", "programs"])
def test_recorded_runs_are_decided_alike(file, seed):
    """With other hash seeds than that of who recorded them.

    Values with types, failures, items, answers in the middle, cancels, deadlines, moves.

    Programs are not interpreted again: what was decided is in the history.
    """
    given = histories(file)
    assert len(given) > 12
    lines = replayed(given, seed)
    assert sorted(lines) == sorted(f"{name} ok" for name in given)


def test_another_order_is_noticed():
    """The test above can fail: calls that were launched in another order are another run."""
    given = {name: body for name, body in histories().items() if "conflicts" in name}
    ((name, body),) = given.items()
    launches = [
        each["activityTaskScheduledEventAttributes"]
        for each in body["events"]
        if "activityTaskScheduledEventAttributes" in each
    ]
    ids = [each["activityId"] for each in launches]
    assert len(ids) > 2
    for each, other in zip(launches, ids[::-1], strict=True):
        each["activityId"] = other
    assert replayed(given)[-1] == f"{name} failed"  # behind the library's own log
