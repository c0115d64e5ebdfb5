"""Spans of real runs, kept by OpenTelemetry's own SDK."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import anyio
import pytest

from dagexec import Approve, Call, Executor, Ref, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.testing import ToolBox

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import StatusCode  # noqa: E402

from dagexec._core.events import Retrying, Waiting  # noqa: E402
from dagexec.integrations.otel import Tracing  # noqa: E402


@pytest.fixture
def spans():
    """Return a tracer and a function that gives the spans that have ended, by name."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return SimpleNamespace(
        tracer=provider.get_tracer("test"),
        ended=lambda: {span.name: span for span in exporter.get_finished_spans()},
        all=exporter.get_finished_spans,
    )


async def test_a_run_and_its_calls(spans):
    """Names and attributes of the conventions, siblings below the run, links for dependencies."""
    box = ToolBox()
    box.tool("search", seconds=1, returns="x")
    box.tool("fetch", seconds=2, returns="y")
    box.tool("bad", seconds=1, raises=ValueError("hush-hush"))
    box.tool("slow", seconds=99)
    calls = [
        Call("a", "search"),
        Call("b", "fetch", {"x": Ref("a")}),
        Call("c", "bad"),
        Call("d", "slow"),
        Call("e", "fetch", {"x": Ref("c")}),
    ]
    executor = Executor(
        box.tools,
        timeouts=Timeouts(call=5),
        concurrency=3,
        observers=[Tracing("shop", tracer=spans.tracer)],
    )
    await executor.run(calls, run_id="r1")
    ended = spans.ended()
    assert set(ended) == {
        "invoke_workflow shop",
        "execute_tool search",
        "execute_tool fetch",
        "execute_tool bad",
        "execute_tool slow",
    }
    run = ended["invoke_workflow shop"]
    assert run.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert run.attributes["dagexec.run.id"] == "r1"
    assert run.attributes["dagexec.calls.skipped"] == 1
    assert run.attributes["dagexec.calls"] == 5
    assert run.status.status_code is StatusCode.ERROR
    fetch = ended["execute_tool fetch"]
    assert fetch.parent.span_id == run.context.span_id
    attributes = dict(fetch.attributes)
    assert attributes["gen_ai.operation.name"] == "execute_tool"
    assert attributes["gen_ai.tool.name"] == "fetch"
    assert attributes["gen_ai.tool.call.id"] == "b"
    assert attributes["gen_ai.tool.type"] == "function"
    assert attributes["dagexec.outcome"] == "done"
    assert attributes["dagexec.attempts"] == 1
    assert attributes["dagexec.queue_time_s"] == 0
    assert attributes["dagexec.effect"] in ("pure", "read", "idempotent", "write")
    assert [link.context.span_id for link in fetch.links] == [
        ended["execute_tool search"].context.span_id
    ]
    bad = ended["execute_tool bad"]
    assert (bad.status.status_code, bad.attributes["error.type"]) == (
        StatusCode.ERROR,
        "ValueError",
    )
    assert ended["execute_tool slow"].attributes["error.type"] == "timeout"
    assert ended["execute_tool slow"].attributes["dagexec.deadline"] == "call"
    told = "".join(span.to_json() for span in spans.all())
    assert "hush-hush" not in told


async def test_queue_time_is_there(spans):
    """One slot: the second call waited for the first."""
    box = ToolBox()
    box.tool("work", seconds=2)
    tracing = Tracing(tracer=spans.tracer)
    await Executor(box.tools, concurrency=1, observers=[tracing]).run(
        [Call("a", "work"), Call("b", "work")]
    )
    queued = {
        span.attributes["dagexec.call.id"]: span.attributes["dagexec.queue_time_s"]
        for span in spans.all()
        if span.name == "execute_tool work"
    }
    assert queued == {"a": 0, "b": 2}


async def test_spans_of_a_tool_are_below_its_call(spans):
    """In parallel, in threads, and in a run inside a run; the caller's span is above all."""
    tracing = Tracing(tracer=spans.tracer)

    @tool(effect="read")
    async def outer(n: int) -> None:
        with spans.tracer.start_as_current_span(f"inside {n}"):
            await anyio.sleep(1)
        await inner.run([Call("x", "leaf")])

    @tool(effect="read")
    async def leaf() -> None:
        spans.tracer.start_span("leaf").end()

    inner = Executor([leaf], observers=[Tracing("inner", tracer=spans.tracer)])
    executor = Executor([outer], observers=[tracing])
    with spans.tracer.start_as_current_span("caller") as caller:
        await executor.run([Call("1", "outer", {"n": 1}), Call("2", "outer", {"n": 2})])
    calls = {
        span.attributes["dagexec.call.id"]: span
        for span in spans.all()
        if span.name == "execute_tool outer"
    }
    for n in "12":
        assert spans.ended()[f"inside {n}"].parent.span_id == calls[n].context.span_id
    inners = [span for span in spans.all() if span.name == "invoke_workflow inner"]
    assert {span.parent.span_id for span in inners} == {calls[n].context.span_id for n in "12"}
    assert spans.ended()["invoke_workflow dagexec"].parent.span_id == caller.context.span_id


async def test_content_and_attributes_of_others(spans):
    """Arguments and results only when asked for, secret ones never; a callback for the rest."""

    @tool(effect="read", secret=("key",))
    async def fetch(key: str, url: str) -> dict[str, object]:
        return {"text": url, "odd": object()}

    def attributes(call, outcome):
        return {"langsmith.span.kind": "tool", "x.status": f"{call.id} {outcome.status}"}

    tracing = Tracing(tracer=spans.tracer, content=True, span_attributes=attributes)
    await Executor([fetch], observers=[tracing]).run(
        [Call("a", "fetch", {"key": "hush-hush", "url": "u"})]
    )
    span = spans.ended()["execute_tool fetch"]
    assert span.attributes["gen_ai.tool.call.arguments"] == '{"key": "<secret>", "url": "u"}'
    assert span.attributes["gen_ai.tool.call.result"] == '{"text": "u", "odd": "<object>"}'
    assert span.attributes["langsmith.span.kind"] == "tool"
    assert span.attributes["x.status"] == "a done"


async def test_a_stopped_run_ends_its_spans(spans):
    """Cancelled calls have an outcome and are no errors."""
    box = ToolBox()
    box.tool("slow", seconds=99)
    tracing = Tracing(tracer=spans.tracer)
    executor = Executor(box.tools, observers=[tracing])
    with anyio.move_on_after(1):
        await executor.run([Call("a", "slow")])
    ended = spans.ended()
    assert ended["execute_tool slow"].attributes["dagexec.outcome"] == "cancelled"
    assert ended["execute_tool slow"].status.status_code is StatusCode.UNSET
    assert ended["invoke_workflow dagexec"].end_time


async def test_turns_and_workflows(spans):
    """Run below turn below workflow; a turn that broke is ended by the next."""
    box = ToolBox()
    box.tool("work", returns=1)
    tracing = Tracing("shop", tracer=spans.tracer)
    executor = Executor(box.tools, observers=[tracing])
    conversation = object()
    with tracing.workflow():
        for number in (1, 2, 3):
            turn = SimpleNamespace(number=number, conversation=conversation, report=None)
            tracing.before_turn(turn)
            turn.report = await executor.run([Call("a", "work")])
            if number != 2:
                tracing.after_turn(turn)
    ended = spans.ended()
    turns = [ended[f"turn {number}"] for number in (1, 2, 3)]
    runs = [span for span in spans.all() if span.attributes.get("dagexec.run.id")]
    assert [run.parent.span_id for run in runs] == [turn.context.span_id for turn in turns]
    whole = next(
        span
        for span in spans.all()
        if span.name == "invoke_workflow shop" and "dagexec.run.id" not in span.attributes
    )
    assert {turn.parent.span_id for turn in turns} == {whole.context.span_id}
    assert turns[0].attributes["dagexec.calls"] == 1


async def test_attempts_and_limits_are_events(spans):
    """From the notices between the scheduler's events."""
    box = ToolBox()
    box.tool("work", seconds=1, returns=1)
    tracing = Tracing(tracer=spans.tracer)
    executor = Executor(box.tools, observers=[tracing])
    async with executor.start([Call("a", "work")]) as run:
        await anyio.sleep(0.5)
        observer = run._runner.state.observers[0]
        observer(Waiting("a", ("api",)))
        observer(Retrying("a", 1, 0.25, KeyError("x")))
    ended = spans.ended()
    event = ended["execute_tool work"].events[0]
    assert event.name == "dagexec.retry"
    assert dict(event.attributes) == {
        "dagexec.attempt": 1,
        "dagexec.delay_s": 0.25,
        "error.type": "KeyError",
    }
    assert ended["invoke_workflow dagexec"].events[0].name == "dagexec.limit"


async def test_a_callback_that_fails_does_not_disturb_the_run(spans, caplog):
    """It is logged, and the run goes on."""

    def broken(call, outcome):
        raise LookupError("no")

    box = ToolBox()
    box.tool("work", returns=1)
    tracing = Tracing(tracer=spans.tracer, span_attributes=broken)
    report = await Executor(box.tools, observers=[tracing]).run([Call("a", "work")])
    assert report.ok
    assert "the run goes on" in caplog.text
    assert "execute_tool work" in spans.ended()


def test_nothing_is_loaded_where_it_is_off():
    """`import dagexec`, a run, and no opentelemetry."""
    code = (
        "import sys\nfrom dagexec import Call, Executor, tool\n"
        "@tool(effect='read')\ndef f() -> int: return 1\n"
        "assert Executor([f]).run_sync([Call('a', 'f')]).ok\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_the_turns_of_solve(spans):
    """The loop itself: each turn a span, its run below it, all of it below the workflow."""
    from dagexec.testing import ScriptedModel
    from planners import solve
    from planners.openai import ChatPlanner

    @tool(effect="read")
    async def look(n: int) -> int:
        return n

    tracing = Tracing("shop", tracer=spans.tracer)
    with tracing.workflow():
        await solve(
            "?",
            planner=ChatPlanner([look]),
            client=ScriptedModel([[("look", {"n": 1})], [("look", {"n": 2})], "Done."]).openai(),
            model="m",
            executor=Executor([look], observers=[tracing]),
            before_turn=tracing.before_turn,
            after_turn=tracing.after_turn,
        )
    ended = spans.ended()
    turns = [ended[f"turn {number}"].context.span_id for number in (1, 2, 3)]
    runs = [span for span in spans.all() if span.attributes.get("dagexec.run.id")]
    assert [run.parent.span_id for run in runs] == turns[:2]
    whole = next(span for span in spans.all() if span.parent is None)
    assert {ended[f"turn {number}"].parent.span_id for number in (1, 2, 3)} == {
        whole.context.span_id
    }
    calls = [span for span in spans.all() if span.name == "execute_tool look"]
    assert [call.parent.span_id for call in calls] == [run.context.span_id for run in runs]


async def test_a_resumed_run_has_its_spans(spans):
    """The calls that run have theirs; what had ended before counts, as what it became at last."""

    @tool(effect="read")
    async def look() -> int:
        return 1

    @tool(approval=True)
    async def pay(x: int) -> int:
        return x

    tracing = Tracing("shop", tracer=spans.tracer)
    executor = Executor([look, pay], observers=[tracing], journal=MemoryJournal())
    plan = [Call("l", "look"), Call("p", "pay", {"x": Ref("l")}), Call("q", "look", after=("p",))]
    await executor.run(plan, run_id="r")
    assert [span.name for span in spans.all()] == ["execute_tool look", "invoke_workflow shop"]
    await executor.resume("r", {"p": Approve()})
    *calls, run = spans.all()[2:]
    assert [span.name for span in calls] == ["execute_tool pay", "execute_tool look"]
    assert all(span.parent.span_id == run.context.span_id for span in calls)
    counts = {name: run.attributes.get(f"dagexec.calls.{name}") for name in ("done", "pending")}
    assert counts == {"done": 3, "pending": None}
    await executor.resume("r")
    assert spans.all()[-1].name == "invoke_workflow shop"
    assert spans.all()[-1].attributes["dagexec.calls.done"] == 3
