"""Counters and histograms of real runs, read by OpenTelemetry's own SDK."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from dagexec import Approve, Call, Executor, Ref, Timeouts, tool
from dagexec._errors import RateLimited
from dagexec.journal import MemoryJournal
from dagexec.limits import Retry
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

from dagexec.integrations.otel import Metrics, Tracing  # noqa: E402


class Read:
    """A meter, and what was measured by it."""

    def __init__(self):
        self.reader = InMemoryMetricReader()
        self.metrics = Metrics(meter=MeterProvider([self.reader]).get_meter("test"))

    def points(self, name):
        """Return value (of a histogram count and sum) by the attributes' values, sorted."""
        data = self.reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            key = tuple(value for _, value in sorted(point.attributes.items()))
                            value = getattr(point, "value", None)
                            found[key] = (point.count, point.sum) if value is None else value
        return found


@tool(effect="read")
async def look(x: object = 1) -> object:
    """Take a second."""
    await anyio.sleep(1)
    return x


@tool(effect="read")
async def fail() -> None:
    """Fail after a second."""
    await anyio.sleep(1)
    raise ValueError("secret")


@tool(approval=True)
async def pay() -> str:
    """Wait for a person, then take a second."""
    await anyio.sleep(1)
    return "paid"


async def test_calls_by_tool_and_outcome():
    """Durations and queue times are histograms; what never started has neither."""
    read = Read()
    executor = Executor(
        [look, fail, pay], concurrency=1, observers=[read.metrics], timeouts=Timeouts(call=5)
    )
    calls = [
        Call("a", "look"),
        Call("b", "look"),
        Call("c", "fail"),
        Call("d", "look", {"x": Ref("c")}),
        Call("e", "pay"),
    ]
    await executor.run(calls)
    assert read.points("dagexec.calls") == {
        ("done", "look"): 2,
        ("failed", "fail"): 1,
        ("skipped", "look"): 1,
        ("pending", "pay"): 1,
    }
    assert read.points("gen_ai.client.operation.duration") == {
        ("execute_tool", "look"): (2, pytest.approx(2)),
        ("ValueError", "execute_tool", "fail"): (1, pytest.approx(1)),
    }
    assert read.points("dagexec.call.queue_time")["look",] == (2, pytest.approx(1))
    assert read.points("dagexec.calls.active") == {("look",): 0, ("fail",): 0}
    await executor.run([Call("a", "look")])
    assert read.points("dagexec.calls")["done", "look"] == 3


async def test_what_runs_now():
    """An up-down counter, also of a run that is cancelled in the middle."""
    read = Read()
    executor = Executor([look], observers=[read.metrics])
    async with executor.start([Call("a", "look"), Call("b", "look")]) as run:
        await anyio.sleep(0.5)
        assert read.points("dagexec.calls.active") == {("look",): 2}
        run.cancel()
    assert read.points("dagexec.calls.active") == {("look",): 0}
    assert read.points("dagexec.calls") == {("cancelled", "look"): 2}


async def test_retries_and_refusals():
    """A refusal that is tried again is both."""
    errors = [RateLimited("later", retry_after=1), ValueError("no"), None]

    @tool(effect="read", retry=Retry(attempts=3, on=(ValueError, RateLimited)))
    async def flaky() -> str:
        """Be refused, fail, and work."""
        error = errors.pop(0)
        if error is not None:
            raise error
        return "worked"

    @tool(effect="read")
    async def refused() -> str:
        """Be refused, with no retry."""
        raise RateLimited("later")

    read = Read()
    executor = Executor([flaky, refused], observers=[read.metrics])
    report = await executor.run([Call("a", "flaky"), Call("b", "refused")])
    assert report["a"].ok
    assert read.points("dagexec.call.refusals") == {("flaky",): 1, ("refused",): 1}
    assert read.points("dagexec.call.retries") == {
        ("RateLimited", "flaky"): 1,
        ("ValueError", "flaky"): 1,
    }


async def test_a_resumed_run_counts_only_what_happens_then():
    """What is recorded was counted when it happened."""
    read = Read()
    executor = Executor([look, pay], observers=[read.metrics], journal=MemoryJournal())
    await executor.run([Call("a", "look"), Call("b", "pay")], run_id="r")
    await executor.resume("r", {"b": Approve()})
    assert read.points("dagexec.calls") == {
        ("done", "look"): 1,
        ("pending", "pay"): 1,
        ("done", "pay"): 1,
    }
    await executor.resume("r")
    assert read.points("dagexec.calls")["done", "look"] == 1


@pytest.mark.real_time
async def test_a_blocked_loop_and_a_thread_left_behind():
    """Seconds of the first, a count of the second."""
    release = threading.Event()

    @tool
    async def blocks() -> None:
        """Block the event loop."""
        time.sleep(0.3)

    @tool(timeout=0.5)
    def stuck() -> None:
        """Never end in time."""
        release.wait(20)

    read = Read()
    try:
        executor = Executor([blocks, stuck], observers=[read.metrics])
        await executor.run([Call("a", "blocks")])
        await executor.run([Call("b", "stuck")])
    finally:
        release.set()
    assert read.points("dagexec.loop.blocked")["blocks",] >= 0.29
    assert read.points("dagexec.threads.abandoned") == {("stuck",): 1}


REPLIES = {
    ChatPlanner: {
        "choices": [
            {
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "tool_calls": [
                        {
                            "id": "provider-7",
                            "type": "function",
                            "function": {"name": "look", "arguments": "{}"},
                        }
                    ],
                },
            }
        ]
    },
    ResponsesPlanner: {
        "output": [
            {"type": "function_call", "call_id": "provider-7", "name": "look", "arguments": "{}"}
        ]
    },
    MessagesPlanner: {
        "role": "assistant",
        "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "provider-7", "name": "look", "input": {}}],
    },
}


@pytest.mark.parametrize("kind", REPLIES)
async def test_a_span_has_the_id_that_the_provider_gave(kind):
    """The call's own is beside it; of a plan by hand they are the same."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    executor = Executor([look], observers=[Tracing("t", tracer=provider.get_tracer("test"))])
    plan = kind([look]).plan(REPLIES[kind])
    assert plan["1"].provider_id == "provider-7"
    assert plan["1"] == Call("1", "look", {})
    await executor.run(plan)
    await executor.run([Call("x", "look")])
    ids = [
        (span.attributes["gen_ai.tool.call.id"], span.attributes["dagexec.call.id"])
        for span in exporter.get_finished_spans()
        if span.name == "execute_tool look"
    ]
    assert ids == [("provider-7", "1"), ("x", "x")]
