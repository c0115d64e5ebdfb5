"""The command as a process of its own: signals, pipes, a terminal, the demonstration."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TOOLS = str(Path(__file__).with_name("tools_for_cli.py"))
COMMAND = [sys.executable, "-m", "dagexec"]
WAITING = [
    {"id": "s", "tool": "search", "args": {"query": "x"}},
    {"id": "w", "tool": "wait", "args": {"seconds": 45}},
]

pytestmark = [pytest.mark.real_time, pytest.mark.timeout(240)]  # interpreters start


@pytest.fixture
def waiting(tmp_path):
    """Return a file with a plan that would take long."""
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(WAITING))
    return str(file)


def _environment(**more):
    return {**os.environ, "PYTHONIOENCODING": "utf-8", **more}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a console interrupt is no signal there")
def test_an_interrupt_is_130_and_keeps_what_is_done(waiting):
    """At once, without a traceback; the report so far is on stdout."""
    argv = [*COMMAND, "run", waiting, "--tools", TOOLS, "--timeout", "1"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(), text=True
    )
    try:
        # Ready once it is silent in its loop: a heartbeat tells that the run has begun.
        assert process.stderr is not None
        assert "running" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)  # by itself it would go on for 40 s
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    outcomes = json.loads(out)["outcomes"]
    assert outcomes["s"]["status"] == "done"
    assert outcomes["w"]["status"] == "cancelled"


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_gets_the_live_table(waiting):
    """On a real terminal the table is drawn, then taken away for the lines that stay."""
    import pty

    reader, writer = pty.openpty()
    argv = [*COMMAND, "run", waiting, "--tools", TOOLS, "--workflow-timeout", "1.5"]
    environment = _environment(TERM="xterm", COLUMNS="100", LINES="30")
    environment.pop("DAGEXEC_DISPLAY", None)
    environment.pop("NO_COLOR", None)
    with os.fdopen(reader, "rb", buffering=0) as master:
        ended = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=writer, env=environment, check=False
        )
        os.close(writer)
        seen = b""
        try:
            while part := master.read(65536):
                seen += part
        except OSError:  # Linux says EIO where the other side is closed
            pass
    text = seen.decode()
    assert ended.returncode == 1
    assert "dagexec  1/2 done  1 running" in text
    assert "\x1b[2F\x1b[J" in text
    assert "1 timed_out" in text.rpartition("\x1b[J")[2], "the table was not taken away at last"


def test_a_reader_that_leaves_is_no_error():
    """`dagexec show … | head` ends without a complaint."""
    calls = [{"id": f"c{index}", "tool": "t", "args": {}} for index in range(50_000)]
    with tempfile.TemporaryFile() as plan:
        plan.write(json.dumps(calls).encode())
        plan.seek(0)
        process = subprocess.Popen(
            [*COMMAND, "show", "-"], stdin=plan, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
        process.wait(60)


def _measured(argv, **environment):
    """Run a program; return how it ended, and the seconds that the processor worked for it."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        argv, env=_environment(**environment), capture_output=True, encoding="utf-8", check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_the_demonstration():
    """Under ten seconds, all parts there, and nothing left in the temporary folder.

    The processor's seconds and the runs' own: a machine that is busy with other things is not
    what is measured, nor one on which the providers' packages alone take that long to import.
    """
    with tempfile.TemporaryDirectory() as folder:
        ended, seconds = _measured(
            [*COMMAND, "demo"], TMPDIR=folder, TEMP=folder, DAGEXEC_DISPLAY="plain"
        )
        assert not list(Path(folder).iterdir())
    assert ended.returncode == 0, ended.stderr
    found = re.findall(r"^The outcomes: .* in ([\d.]+) (m?s)\b", ended.stdout, re.MULTILINE)
    runs = sum(float(time) / (1_000 if unit == "ms" else 1) for time, unit in found)
    assert runs > 0
    if runs + seconds >= 10:
        _, imports = _measured([sys.executable, "-c", "import anthropic, openai"])
        assert runs + seconds < 3 * imports
    assert "Traceback" not in ended.stderr
    out = ended.stdout
    for part in (
        "openai.ChatCompletion",
        "openai.Response",
        "anthropic.Message",
        "8 calls: 5 done, 1 failed, 1 timed_out, 1 skipped",
        "Dune: 7 sold, 9.5 EUR at Alba. Now only $9!",
        '"role": "tool"',
        '"type": "function_call_output"',
        '"is_error": true',
    ):
        assert part in out
    answered = re.findall(r'"(?:tool_call_id|call_id|tool_use_id)": "([^"]+)"', out)
    assert len(answered) == len(set(answered)) == 8 + 5 + 5
    assert "▶ 1 query" in ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGTERM is no signal there")
def test_a_service_manager_ends_it_as_the_interrupt_key_does(waiting):
    """SIGTERM: 143, no traceback, and the report so far is on stdout."""
    argv = [*COMMAND, "run", waiting, "--tools", TOOLS, "--timeout", "1"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(), text=True
    )
    try:
        assert process.stderr is not None
        assert "running" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "interrupted" in err
    assert "Traceback" not in err
    assert json.loads(out)["outcomes"]["w"]["status"] == "cancelled"


def test_check_names_a_package_that_hides_planners(tmp_path):
    """A folder `planners` of the user's own; one without `__init__.py` hides nothing."""
    (tmp_path / "planners").mkdir()
    plan = tmp_path / "plan.json"
    plan.write_text('{"calls": []}')
    argv = [*COMMAND, "check", str(plan)]
    environment = _environment(PYTHONPATH=str(Path(__file__).parents[2]), PYTHONSAFEPATH="1")

    def said():
        found = subprocess.run(
            argv, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )
        assert found.returncode == 0
        return found.stderr

    assert "hides" not in said()
    (tmp_path / "planners" / "__init__.py").write_text("")
    assert "No module named 'planners.openai'" in said()
    assert "Rename it" in said()
