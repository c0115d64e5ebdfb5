"""The application of the guide to services, under a real server."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import dagexec.integrations.services as guide

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.timeout(120),
    pytest.mark.integration,
    pytest.mark.skipif(os.name == "nt", reason="SIGTERM is no signal there"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path):
    """Yield the address of the application, its process and its log; its call takes 20 s."""
    for name in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    code = re.search(r"^```python\n(.*?)^```$", guide.__doc__ or "", re.MULTILINE | re.DOTALL)
    assert code is not None
    text = code[1].replace("await anyio.sleep(0.01)", "await _long()") + LONG
    (tmp_path / "app.py").write_text(text, "utf-8")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--timeout-graceful-shutdown", "1"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
        )
    try:
        found = waited(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8")))
        yield found[0], process, log
    finally:
        process.kill()
        process.wait()


LONG = """

async def _long():
    try:
        if not app.state.quick:
            print("begun", flush=True)
        await anyio.sleep(0.01 if app.state.quick else 20)
    except BaseException:
        print("cancelled", flush=True)
        raise


app.state.quick = True


@app.post("/slow")
def slow():
    app.state.quick = False
"""


def waited(found):
    """Return what is found within a minute."""
    for _ in range(600):
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError("not found")


def test_answers_streams_disconnects_and_sigterm(server):
    """A client that leaves ends its run; so does the end of the grace period."""
    address, process, log = server
    told = httpx.post(f"{address}/ask", params={"question": "?"}, timeout=60).json()
    assert told["answer"] == "Dune costs 9.50."
    assert [row["status"] for row in told["calls"]] == ["done"]
    lines = httpx.post(f"{address}/stream", params={"question": "?"}, timeout=60).text.split("\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert events[0] == {"call": "price", "status": "done"}
    assert "".join(each.get("text", "") for each in events) == "Dune costs 9.50."
    httpx.post(f"{address}/slow", timeout=60)
    for count, path in enumerate(("ask", "stream"), 1):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/{path}", params={"question": "?"}, timeout=1)
        waited(lambda count=count: log.read_text("utf-8").count("cancelled") == count)
    sending = [sys.executable, "-c", f"import httpx; httpx.post('{address}/ask?question=x')"]
    with subprocess.Popen(sending, stderr=subprocess.DEVNULL) as client:
        waited(lambda: log.read_text("utf-8").count("begun") == 3)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        client.kill()
    assert log.read_text("utf-8").count("cancelled") == 3
