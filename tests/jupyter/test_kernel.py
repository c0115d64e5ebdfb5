"""Runs in a real kernel: the stop button, the picture that follows a run, what is shown."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # a kernel starts, and machines are slow
]

SETUP = """
import time
from pathlib import Path
import anyio
from dagexec import Call, Executor, Plan, Ref, tool

ended = {}
flag = Path("started")

@tool(effect="read")
async def sleepy(n: int) -> int:
    flag.touch()
    try:
        await anyio.sleep(30)  # one long timer: nothing else wakes the loop
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
        ended[n] = time.time()
    return n

@tool(effect="read")
async def quick(seconds: float = 0) -> int:
    await anyio.sleep(seconds)
    return 1

executor = Executor([sleepy, quick])
calls = [Call("a", "sleepy", {"n": 1}), Call("b", "sleepy", {"n": 2}), Call("c", "quick")]
"""
PNG = "image/svg+xml"


@pytest.fixture
def prepared(kernel, tmp_path):
    """Return a kernel with tools, in a folder of its own."""
    cell = kernel.run(f"import os; os.chdir({str(tmp_path)!r})\n" + SETUP)
    assert cell.error is None
    return kernel


@pytest.mark.parametrize(
    ("cell", "report"),
    [
        ("async with executor.start(calls) as run:\n    pass", "run.report"),
        ("async with executor.start(calls) as run:\n    async for _ in run: pass", "run.report"),
        (
            "from dagexec.integrations.jupyter import last_run\nawait executor.run(calls)",
            "last_run().report",
        ),
    ],
    ids=["start", "events", "run"],
)
def test_the_stop_button_stops_a_run(prepared, tmp_path, cell, report):
    """At once; the clean-up has run, and the next cell reads what is there."""
    stopped = prepared.run(cell, interrupt_when=tmp_path / "started")
    assert stopped.error in ("CancelledError", "KeyboardInterrupt")
    read = prepared.run(
        f"print(max(ended.values()) - {stopped.interrupted_at})\n"
        "print(sorted(ended))\n"
        f"print({{name: each.status for name, each in {report}.items()}}, {report}.outputs)"
    )
    took, cleaned, statuses = read.text.strip().split("\n")
    assert float(took) < 15  # 0.1 s on an idle machine; 30 s if nothing woke the loop
    assert cleaned == "[1, 2]"
    assert statuses == "{'a': 'cancelled', 'b': 'cancelled', 'c': 'done'} {'c': 1}"


def test_a_run_is_one_picture_that_is_drawn_in_place(prepared):
    """At most five times a second; the last state stays; nothing comes after the cell."""
    calls = [f'Call("c{n}", "quick", {{"seconds": {0.15 * n}}})' for n in range(10)]
    cell = prepared.run(f"async with executor.start([{', '.join(calls)}]) as run:\n    pass")
    assert cell.error is None
    assert cell.text == ""
    assert len(cell.shown) == 1
    name = cell.shown[0]["transient"]["display_id"]
    assert cell.updates
    assert {content["transient"]["display_id"] for _, content in cell.updates} == {name}
    # By the kernel's clock: what reads its messages may be late, and read many at once.
    took = float(prepared.run("print(run.report.elapsed)").text)
    assert len(cell.updates) <= took * 5 + 3
    last = cell.updates[-1][1]["data"]
    ET.fromstring(last[PNG])
    assert "10 done" in last["text/plain"]
    assert not any("▶" in line for line in last[PNG].split("<text")[1:])
    middle = [content["data"][PNG] for _, content in cell.updates[:-1]]
    assert all("▶" in svg for svg in middle)
    after = prepared.run("await anyio.sleep(0.5)")
    assert not after.updates


def test_runs_reports_plans_and_pictures_show_themselves(prepared):
    """As a cell's last line: the picture, and text for who cannot see it."""
    prepared.run('report = await executor.run([Call("c", "quick")])')
    for line in ("report", "report.plan", "report.diagram", "report.timeline"):
        cell = prepared.run(line)
        data = cell.shown[0]["data"]
        ET.fromstring(data[PNG])
        assert "c quick" in data["text/plain"]
    cell = prepared.run("from dagexec.integrations.jupyter import show\nshow(report.plan)")
    assert "c quick" in cell.shown[0]["data"]["text/plain"]


def test_nothing_is_drawn_where_nobody_wants_it(prepared):
    """By a call or by the environment; and never by `run`, or inside a tool."""
    one = 'async with executor.start([Call("c", "quick")]) as run:\n    pass'
    off = "from dagexec.integrations.jupyter import show_live\nshow_live(on=False)\n"
    assert not prepared.run(off + one).shown
    assert prepared.run("show_live(on=True)\n" + one).shown
    environment = 'import os\nos.environ["DAGEXEC_DISPLAY"] = "none"\n'
    assert not prepared.run(environment + one).shown
    prepared.run('del os.environ["DAGEXEC_DISPLAY"]')
    assert not prepared.run('_ = await executor.run([Call("c", "quick")])').shown
    nested = """
@tool(effect="read")
async def inner() -> int:
    async with nesting.start([Call("x", "quick")]) as run:
        pass
    return len(run.report)

nesting = Executor([inner, quick])
report = await nesting.run([Call("i", "inner")])
"""
    assert not prepared.run(nested).shown


@pytest.mark.slow
def test_looking_on_costs_next_to_nothing(prepared):
    """500 calls: a few drawings, and of a picture below 300 kB."""
    cell = prepared.run(
        'many = [Call(f"c{n}", "quick", {"seconds": 0.2}, after=(f"c{n - 60}",) if n > 60 else ())'
        " for n in range(500)]\n"
        "async with executor.start(many) as run:\n    pass\n"
        "print(run.report.ok, run._view.spent / run.report.elapsed)"
    )
    assert cell.error is None, cell.text
    ok, share = cell.text.split()
    assert ok == "True"
    assert float(share) < 0.2  # 0.017, measured by tests/benchmarks/pictures.py
    assert max(len(content["data"][PNG]) for _, content in cell.updates) < 300_000


def test_a_synchronous_tool_does_not_hold_the_stop_button(prepared, tmp_path):
    """Its thread is left behind, and the report counts it."""
    prepared.run(
        "@tool(effect='read')\n"
        "def blocks() -> int:\n"
        "    flag.touch()\n"
        "    time.sleep(60)\n"
        "blocking = Executor([blocks])"
    )
    cell = prepared.run(
        'began = time.time()\nasync with blocking.start([Call("s", "blocks")]) as run:\n    pass',
        interrupt_when=tmp_path / "started",
    )
    assert cell.error in ("CancelledError", "KeyboardInterrupt")
    read = prepared.run("print(run.report, run.report.abandoned)")
    assert "1 cancelled" in read.text
    assert read.text.strip().endswith(" 1")
