"""The lines of a program's calls: in the graph, on the timeline, in the page and in traces."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dagexec import Call, Executor, Report, tool
from dagexec.programs import Program

pytestmark = pytest.mark.anyio
SOURCE = "a = look('a')\nb = look('b')\n\nlook(a + b)\nlook('broken')"


@tool(effect="read")
async def look(name: str) -> str:
    await anyio.sleep(1)
    if name == "broken":
        raise ValueError
    return name


async def test_each_picture_shows_the_line_of_each_call() -> None:
    report = await Executor([look]).run(Program(SOURCE))
    notes = {node.id: node.note.rpartition(", ")[2] for node in report.diagram.nodes}
    assert notes == {"1": "line 1", "2": "line 2", "3": "line 4", "4": "line 5"}
    assert [bar.note.rpartition(", ")[2] for bar in report.timeline.bars] == list(notes.values())
    for text in (str(report.diagram), str(report.timeline), report.to_html(), report.to_svg()):
        assert "line 4" in text
    assert "line 5" in report.diagram.spoken()


async def test_the_picture_of_a_program_that_runs_shows_lines() -> None:
    async with Executor([look]).start(Program(SOURCE)) as run:
        await anyio.sleep(0.5)
        assert "line 2" in str(run.diagram)
        assert "line 2" in str(run.timeline)


async def test_a_plan_has_no_lines() -> None:
    report = await Executor([look]).run([Call("1", "look", {"name": "a"})])
    assert "line" not in report.diagram.nodes[0].note
    assert report.plan["1"].line is None


async def test_a_report_from_json_is_shown_without_them() -> None:
    report = await Executor([look]).run(Program(SOURCE))
    assert "look" in str(Report.from_json(report.to_json()).diagram)


async def test_spans_have_the_line() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from dagexec.integrations.otel import Tracing

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(tracer=provider.get_tracer("test"))
    await Executor([look], observers=[tracing]).run(Program(SOURCE))
    spans: list[dict[str, Any]] = [
        dict(each.attributes or {}) for each in exporter.get_finished_spans()
    ]
    lines = {
        each["dagexec.call.id"]: each["code.line.number"]
        for each in spans
        if "dagexec.call.id" in each
    }
    assert lines == {"1": 1, "2": 2, "3": 4, "4": 5}
