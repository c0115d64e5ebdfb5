"""On DBOS, one trace from who asks for a run to what a tool does, in whichever process that is."""

from __future__ import annotations

import asyncio
import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec.engines.dbos import _traces
from tests.engines.processes import run_python

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]

# Calls here, in a thread and by a queue, and one that waits for a person; in a process of its own,
# because a provider is for all of it.
PROGRAM = """
import asyncio, json
from dagexec import Approve, Call, Ref, tool
from dagexec.engines.dbos import DbosEngine
from dagexec.limits import Limiter
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("tests")

@tool(effect="read")
async def fetch():
    with tracer.start_as_current_span("fetch"):
        pass

@tool
def store():
    with tracer.start_as_current_span("store"):
        pass

@tool(limits=[Limiter("mail", in_flight=2)])
async def send():
    with tracer.start_as_current_span("send"):
        pass

@tool(approval=True)
async def pay():
    with tracer.start_as_current_span("pay"):
        raise ValueError("no")

async def main():
    plan = [Call("f", "fetch"), Call("s", "store"), Call("m", "send"), Call("p", "pay")]
    made = DbosEngine([fetch, store, send, pay], database_url=URL, name=NAME, polling=0.05)
    async with made as engine:
        with tracer.start_as_current_span("request"):
            context.attach(baggage.set_baggage("user", "hunter2"))
            await engine.run(plan, run_id="r")
        with tracer.start_as_current_span("answer"):
            await engine.resume("r", {"p": Approve()})
        await engine.run([Call("f", "fetch")], run_id="outside")

asyncio.run(main())
print(json.dumps([
    {
        "name": span.name,
        "id": span.context.span_id,
        "trace": span.context.trace_id,
        "parent": span.parent.span_id if span.parent else None,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes),
    }
    for span in spans.get_finished_spans()
]))
"""


async def test_one_trace(url, name):
    """Each round has the one of who asked for it, each call a span below, which names it."""
    pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry's SDK is not installed")
    code = f"URL, NAME = {url!r}, {name!r}\n{PROGRAM}"
    found = json.loads((await asyncio.to_thread(run_python, code)).splitlines()[-1])
    by_id = {span["id"]: span for span in found}
    (request,) = (span for span in found if span["name"] == "request")
    (answer,) = (span for span in found if span["name"] == "answer")
    cases = [("fetch", "f", request), ("store", "s", request), ("send", "m", request)]
    for wanted, call, asked in [*cases, ("pay", "p", answer)]:
        spans = [span for span in found if span["name"] == wanted]
        (span,) = (each for each in spans if each["trace"] == asked["trace"])
        around = by_id[span["parent"]]
        assert around["name"] == f"execute_tool {wanted}"
        assert around["parent"] == asked["id"]
        named = {"dagexec.run.id": "r", "dagexec.call.id": call, "gen_ai.tool.name": wanted}
        assert named.items() <= around["attributes"].items()
        assert around["status"] == ("ERROR" if wanted == "pay" else "UNSET")
    (alone,) = (
        span
        for span in found
        if span["name"] == "fetch" and span["trace"] not in (request["trace"], answer["trace"])
    )
    assert alone["parent"] is None
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as connection:
        query = "select inputs from dbos.workflow_input where workflow_uuid like %s"
        cursor = await connection.execute(query, (f"dagexec:{name}|%",))
        stored = str(await cursor.fetchall())
    assert "traceparent" in stored
    assert "hunter2" not in stored


async def test_a_worker_without_opentelemetry(monkeypatch):
    """It runs the call all the same."""

    async def attempt() -> dict[str, Any]:
        return {"outcome": {"status": "done"}}

    monkeypatch.setattr(_traces, "sys", SimpleNamespace(modules={}))
    assert _traces.carried() == {}
    assert (await _traces.below({"trace": {"traceparent": "x"}}, attempt()))["outcome"]
