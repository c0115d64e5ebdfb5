"""Runs by their ids: asked for again, answered, cancelled, looked at; on a real server."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import (
    Approve,
    Call,
    DagexecError,
    Deny,
    Edit,
    Executor,
    PlanError,
    Ref,
    Timeouts,
    ask,
    current_call,
    tool,
)
from tests.engines.processes import run_python
from tests.engines.tools_for_engines import TOOLS, get, login, login_if

if TYPE_CHECKING:
    from temporalio.client import Client

    from dagexec.engines.temporal import TemporalEngine

# The library's own threads may abort an interpreter that ends: temporalio/sdk-python#300.
ENDS_AT_ONCE = "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n"
pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]


@tool
async def doubtful(x: int = 0) -> object:
    return await ask(x)


@tool
async def unhurried() -> object:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    return await ask("late")


async def late_to_know(address: str) -> Client:
    """Return a client whose first cancel finds nothing."""
    from temporalio.client import Client, Interceptor, OutboundInterceptor
    from temporalio.service import RPCError, RPCStatusCode

    class Late(OutboundInterceptor):
        async def cancel_workflow(self, input: Any) -> None:  # noqa: A002 - the library's name
            if not cancels:
                cancels.append(input.id)
                raise RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")
            await super().cancel_workflow(input)

    class Known(Interceptor):
        def intercept_client(self, next: Any) -> Any:  # noqa: A002 - the library's name
            return Late(next)

    cancels: list[str] = []
    return await Client.connect(address, interceptors=[Known()])


def engine_at(address: str, name: str, **settings: Any) -> TemporalEngine:
    # Not without memory: where tests look at a run all the time, the library then drops tasks of
    # the workflow among its queries, and the server waits ten seconds for each.
    return engine_of(address, name, TOOLS, **settings)


def engine_of(address: str, name: str, tools: list[Any], **settings: Any) -> TemporalEngine:
    from dagexec.engines.temporal import TemporalEngine

    return TemporalEngine(tools, address=address, name=name, **settings)


class Away:
    """A handle of a run whose server is away for the first time that it is asked for anything."""

    def __init__(self, handle: Any, asked: list[str]) -> None:
        self._handle = handle
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        from temporalio.service import RPCError, RPCStatusCode

        async def unavailable() -> None:
            raise RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")

        if name in self._asked:
            return getattr(self._handle, name)
        self._asked.append(name)
        return unavailable


async def test_a_server_that_is_away(address, name, monkeypatch, caplog):
    """Who waits goes on waiting, and who only looks is told."""
    plan = [Call("n", "nap", {"seconds": 0.5}), Call("p", "pay", {"amount": 1})]
    async with engine_at(address, name) as engine, asyncio.timeout(20):
        real, asked = engine._runs._handle, ["execute_update", "query"]
        monkeypatch.setattr(engine._runs, "_handle", lambda run_id: Away(real(run_id), asked))
        assert statuses(await engine.run(plan, run_id="r")) == {"n": "done", "p": "pending"}
        with pytest.raises(DagexecError, match="cannot be asked about the run 'r': tcp connect"):
            await engine.report("r")
        assert (await engine.report("r"))["n"].status == "done"
        asked.remove("result")
        assert statuses(await engine.cancel("r")) == {"n": "done", "p": "cancelled"}
    assert {*asked} == {"execute_update", "query", "describe", "result", "cancel"}
    assert caplog.text.count("cannot be reached, trying again") == 3


async def test_the_same_id_again(address, name):
    """The report, and nothing runs; another plan is an error, and so is an unknown run."""
    plan = [Call("a", "get", {"x": 1}), Call("b", "get", {"x": Ref("a")})]
    async with engine_of(address, name, [get]) as engine:
        first, second = await asyncio.gather(
            engine.run(plan, run_id="r"), engine.run(plan, run_id="r")
        )
        assert first.to_dict() == second.to_dict()
        assert (await engine.run(plan, run_id="r")).to_dict() == first.to_dict()
        assert first.outputs == {"a": 1, "b": 1}
        assert first.run_id == "r"
        with pytest.raises(DagexecError, match="begun with another plan"):
            await engine.run(plan[:1], run_id="r")
        for use in (engine.resume, engine.cancel, engine.report):
            with pytest.raises(DagexecError, match="knows no run 'x'"):
                await use("x")
        for use in (engine.resume, engine.cancel, engine.report):
            assert (await use("r")).to_dict() == first.to_dict()
    assert first.critical_path == ("a", "b")


async def test_what_is_no_id_and_no_answer(address, name):
    """One line for each, before the server is asked."""
    plan = [Call("a", "get", {"x": 1})]
    async with engine_of(address, name, [get]) as engine:
        for use in (engine.resume, engine.cancel, engine.report):
            for none in (5, None, b"r"):
                with pytest.raises(DagexecError, match="is no id of a run"):
                    await use(none)
        with pytest.raises(DagexecError, match="run_id=5 is no id of a run"):
            await engine.run(plan, run_id=5)
        await engine.run(plan, run_id="r")
        for none in (["a"], "a", 5):
            with pytest.raises(DagexecError, match="takes answers by call id"):
                await engine.resume("r", none)


async def test_ids_of_any_text(address, name):
    """Long, unicode, newline, half a surrogate pair: none hangs, none is taken for another."""
    texts = ("|", "a|1", "cancel", "é", "%7C", "a\nb", "\ud800", "\0", "x" * 2000, "x" * 2001)
    plan = [Call(each, "get", {"x": each}) for each in texts]
    async with engine_of(address, name, [get]) as engine, asyncio.timeout(40):
        for run_id in ("a", "a|1", "", "\0 \ud800", "x" * 2000, "x" * 2001, "é"):
            report = await engine.run(plan, run_id=run_id)
            assert report.outputs == {call.id: call.id for call in plan}
            assert report.run_id == run_id


async def test_an_engine_opened_again_and_two_of_them(address, name):
    """Unlike DBOS's, more than one may be open in a process."""
    one, other = (engine_of(address, f"{name}{each}", [get]) for each in "ab")
    for count in range(2):
        async with one, other:
            for engine in (one, other):
                report = await engine.run([Call("a", "get", {"x": count})], run_id=f"{count}")
                assert report.outputs == {"a": count}
            with pytest.raises(DagexecError, match="open already"):
                async with one:
                    pass


async def test_another_event_loop(address, name):
    """Refused there: the engine is open in this one."""
    async with engine_of(address, name, [get]) as engine:

        def elsewhere() -> str:
            with pytest.raises(DagexecError) as caught:
                asyncio.run(engine.run([Call("a", "get")]))
            return str(caught.value)

        assert "open in another event loop" in await asyncio.to_thread(elsewhere)


async def test_inside_of_tools(address, name):
    """A run that waits for its own worker is refused; one of an Executor's is not."""

    @tool(effect="read")
    async def nest() -> str:
        try:
            await engine.run([Call("a", "get")])
        except DagexecError as error:
            return str(error)
        return ""

    @tool(effect="read")
    async def nest_in_an_executor() -> object:
        return (await Executor([get]).run([Call("a", "get", {"x": 3})])).outputs

    async with engine_of(address, name, [nest, nest_in_an_executor, get]) as engine:
        report = await engine.run([Call("n", "nest"), Call("m", "nest_in_an_executor")])
    assert "inside of tools with an Executor" in report["n"].value
    assert report["m"].value == {"a": 3}


async def test_plans_that_cannot_be(address, name):
    """Refused before anything runs."""

    async def stream():
        yield Call("a", "get")

    async with engine_of(address, name, [get]) as engine:
        with pytest.raises(PlanError, match="there is no tool 'none'"):
            await engine.run([Call("a", "none")])
        with pytest.raises(DagexecError, match="whole plans"):
            await engine.run(stream())


async def test_secrets_do_not_travel(address, name):
    """Refused, by name and without the value; a reference is no secret."""
    async with engine_of(address, name, [get, login, login_if]) as engine:
        with pytest.raises(DagexecError, match="'token' of call 'a' is secret") as caught:
            await engine.run([Call("a", "login", {"token": "hunter2"})])
        assert "hunter2" not in str(caught.value)
        plan = [
            Call("g", "get", {"x": "t"}),
            Call("a", "login", {"token": Ref("g")}),
            Call("b", "login_if", {"token": Ref("g")}),
        ]
        report = await engine.run(plan, run_id="r")
        assert report["a"].value == "t"
        assert report["b"].question["args"] == {"token": "<secret>"}
        with pytest.raises(DagexecError, match="'token' of call 'b' is secret"):
            await engine.resume("r", {"b": Edit({"token": "hunter2"})})
        report = await engine.resume("r", {"b": Edit({"token": "<secret>"})})
        assert report["b"].value == "t"


async def test_tools_see_the_context_of_the_program(address, name):
    """ContextVars, loop and thread are those of who opened the engine; Temporal is not seen."""
    from contextvars import ContextVar

    from temporalio import activity

    var: ContextVar[str] = ContextVar("var", default="unset")
    loop = asyncio.get_running_loop()

    @tool(effect="read")
    async def look() -> list[object]:
        here = asyncio.get_running_loop() is loop
        return [var.get(), here, activity.in_activity(), current_call().deadline is not None]

    var.set("mine")
    async with engine_of(address, name, [look]) as engine:
        report = await engine.run([Call("a", "look")])
    assert report["a"].value == ["mine", True, False, True]


class TestAnswers:
    async def test_answers_that_do_not_fit(self, address, name):
        """Refused before anything is done; the same answer again is none."""
        plan = [Call("p", "pay", {"amount": 3}), Call("s", "same", {"value": Ref("p")})]
        async with engine_at(address, name) as engine:
            await engine.run(plan, run_id="r")
            before = await events(engine, "r")
            for answers, text in (
                ({"x": Approve()}, "no call 'x' to answer; waiting for an answer: p"),
                ({"s": Approve()}, "answer that call"),
                ({"p": "yes"}, "waits to be approved"),
                ({"p": Edit({"amount": "much"})}, "do not fit"),
            ):
                with pytest.raises(DagexecError, match=text):
                    await engine.resume("r", answers)
            assert await events(engine, "r") == before
            report = await engine.resume("r", {"p": Approve()})
            assert report.outputs == {"p": "paid 3.0", "s": "paid 3.0"}
            assert (await engine.resume("r", {"p": Approve()})).outputs == report.outputs
            with pytest.raises(DagexecError, match="does not wait for an answer"):
                await engine.resume("r", {"p": Deny("late")})

    async def test_one_that_is_refused_leaves_nothing(self, address, name):
        """The workflow checks again, and says no before it takes anything down."""
        from temporalio.client import WorkflowUpdateFailedError

        async with engine_at(address, name) as engine:
            await engine.run([Call("p", "pay", {"amount": 3})], run_id="r")
            handle = handle_of(engine, "r")
            before = await events(engine, "r")
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update("answer", '{"q":{}}')
            assert await events(engine, "r") == before

    async def test_while_others_run(self, address, name):
        """An approved call goes on at once, and so does what needs it."""
        plan = [
            Call("n", "nap", {"seconds": 3}),
            Call("p", "pay", {"amount": 3}),
            Call("s", "same", {"value": Ref("p")}),
        ]
        async with engine_at(address, name) as engine:
            begun = asyncio.create_task(engine.run(plan, run_id="r"))
            await known(engine, "r", lambda report: "p" in report)
            answered = asyncio.create_task(engine.resume("r", {"p": Approve()}))
            report = await known(engine, "r", lambda report: "s" in report)
            assert report.outputs == {"p": "paid 3.0", "s": "paid 3.0"}
            assert "n" not in report
            reports = await asyncio.gather(begun, answered)
        assert [each.outputs for each in reports] == [
            {"n": 3, "p": "paid 3.0", "s": "paid 3.0"}
        ] * 2
        assert reports[0]["s"].ended < 2.5

    async def test_two_at_once(self, address, name):
        """One is taken, the other is told that it came too late, or was the same."""
        async with engine_at(address, name) as engine:
            await engine.run([Call("p", "pay", {"amount": 3})], run_id="r")
            answers = [Approve(), Approve(), Deny("no"), Deny("no")]
            found = await asyncio.gather(
                *(engine.resume("r", {"p": each}) for each in answers), return_exceptions=True
            )
            last = await engine.report("r")
        told = [each for each in found if not isinstance(each, BaseException)]
        assert {each["p"].status for each in told} == {last["p"].status}
        late = [each for each in found if isinstance(each, BaseException)]
        assert all("does not wait for an answer" in str(each) for each in late)
        assert len(told) == 2

    async def test_beside_a_cancel(self, address, name):
        """Either comes first: all who asked are told the same end."""
        plan = [Call("p", "pay", {"amount": 3}), Call("s", "same", {"value": Ref("p")})]
        async with engine_at(address, name, beat=0.2) as engine, asyncio.timeout(40):
            for each in range(6):
                run_id = f"r{each}"
                await engine.run(plan, run_id=run_id)
                asked = [engine.resume(run_id, {"p": Approve()}), engine.cancel(run_id)]
                found = await asyncio.gather(*asked[:: 1 - 2 * (each % 2)], return_exceptions=True)
                last = await engine.report(run_id)
                told = [one for one in found if not isinstance(one, BaseException)]
                late = [one for one in found if isinstance(one, BaseException)]
                assert told
                assert {str(one.to_dict()) for one in told} == {str(last.to_dict())}
                assert all("does not wait for an answer" in str(one) for one in late)
                assert {*statuses(last).values()} <= {"done", "cancelled"}

    async def test_before_the_call_asks(self, address, name):
        """An answer to a call that does not wait yet waits for it."""
        plan = [
            Call("n", "nap", {"seconds": 1}),
            Call("p", "pay", {"amount": 3}, after=("n",)),
        ]
        async with engine_at(address, name) as engine:
            begun = asyncio.create_task(engine.run(plan, run_id="r"))
            await known(engine, "r", lambda _: True)
            report = await engine.resume("r", {"p": Approve()})
            assert report["p"].value == "paid 3.0"
            await begun


class TestEnds:
    async def test_a_cancelled_run(self, address, name):
        """What has not ended is cancelled, where it waits and where it runs, and that is kept."""
        plan = [
            Call("a", "add", {"x": 1}),
            Call("b", "nap", {"seconds": 50}),
            Call("c", "long_write", {"seconds": 50}),
            Call("d", "same", {"value": Ref("b")}),
            Call("p", "pay", {"amount": 1}),
        ]
        async with engine_at(address, name, beat=0.2) as engine:
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await known(engine, "r", lambda report: {"a", "p"} <= {*report})
            begun = time.monotonic()
            report = await engine.cancel("r")
            assert time.monotonic() - begun < 3
            assert (await waiting).to_dict() == report.to_dict()
            assert (await engine.run(plan, run_id="r")).to_dict() == report.to_dict()
            assert (await engine.cancel("r")).to_dict() == report.to_dict()
        assert statuses(report) == {"a": "done", **dict.fromkeys("bcdp", "cancelled")}
        assert [call for call in "abcdp" if report[call].maybe] == ["c"]

    async def test_one_that_waits_for_a_person(self, address, name):
        """It ends, and nothing of it runs."""
        plan = [Call("p", "pay", {"amount": 1}), Call("s", "same", {"value": Ref("p")})]
        async with engine_at(address, name) as engine:
            await engine.run(plan, run_id="r")
            report = await engine.cancel("r")
            assert statuses(report) == {"p": "cancelled", "s": "cancelled"}
            with pytest.raises(DagexecError, match="does not wait"):
                await engine.resume("r", {"p": Approve()})

    async def test_one_that_begins_at_this_moment(self, address, name):
        """The server does not know it yet, says so, and knows it a moment later."""
        asking = engine_at(address, name, calls=False, decides=False)
        plan = [Call("p", "pay", {"amount": 1})]
        client = await late_to_know(address)
        async with asking, engine_of(address, name, TOOLS, client=client) as engine:
            waiting = asyncio.create_task(asking.run(plan, run_id="r"))
            await exists(asking, "r")
            async with asyncio.timeout(10):
                report = await engine.cancel("r")
            await waiting
        assert statuses(report) == {"p": "cancelled"}

    async def test_one_whose_call_asks_at_this_moment(self, address, name):
        """Nobody would answer it: the run ends."""
        plan = [Call("u", "unhurried"), Call("s", "same", {"value": Ref("u")})]
        tools = [*TOOLS, unhurried]
        async with engine_of(address, name, tools, beat=0.2) as engine, asyncio.timeout(20):
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await exists(engine, "r")
            await asyncio.sleep(0.5)
            report = await engine.cancel("r")
            assert (await waiting).to_dict() == report.to_dict()
        assert statuses(report) == {"u": "cancelled", "s": "cancelled"}

    async def test_one_that_nobody_took_up(self, address, name):
        """Cancelled before any worker looked at it: all is cancelled, nothing ran."""
        asking = engine_at(address, name, calls=False, decides=False)
        plan = [Call("w", "long_write", {"seconds": 0}), Call("s", "same", {"value": Ref("w")})]
        async with asking:
            waiting = asyncio.create_task(asking.run(plan, run_id="r"))
            await exists(asking, "r")
            await handle_of(asking, "r").cancel()
            async with engine_at(address, name):
                report = await waiting
        assert statuses(report) == {"w": "cancelled", "s": "cancelled"}
        assert not report["w"].maybe

    async def test_a_caller_that_is_cancelled(self, address, name):
        """It stops waiting, by its own cancellation, bare; the run goes on."""
        plan = [Call("a", "nap", {"seconds": 2}), Call("b", "same", {"value": Ref("a")})]
        async with engine_at(address, name) as engine:
            task = asyncio.create_task(engine.run(plan, run_id="r"))
            await asyncio.sleep(0.7)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await engine.run(plan, run_id="r")).outputs == {"a": 2, "b": 2}

    async def test_an_engine_that_is_closed_meanwhile(self, address, name):
        """Who waits is told so; the run goes on where an engine is open."""
        plan = [Call("a", "nap", {"seconds": 1}), Call("b", "same", {"value": Ref("a")})]
        engine = engine_at(address, name)
        async with engine:
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await known(engine, "r", lambda _: True)
        with pytest.raises(DagexecError, match="closed while the run 'r' was waited for"):
            await waiting
        async with engine:
            assert (await engine.run(plan, run_id="r")).outputs == {"a": 1, "b": 1}

    async def test_a_run_that_is_terminated(self, address, name):
        """It has no outcomes, and whoever waits is told so."""
        plan = [Call("b", "nap", {"seconds": 50})]
        async with engine_at(address, name) as engine:
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await known(engine, "r", lambda _: True)
            await handle_of(engine, "r").terminate()
            with pytest.raises(DagexecError, match=r"'r' broke off .* it was terminated"):
                await waiting
            for use in (engine.resume, engine.cancel, engine.report):
                with pytest.raises(DagexecError, match="broke off"):
                    await use("r")

    async def test_a_deadline_that_nobody_works_against(self, address, name, caplog):
        """The deadline of a run holds although no worker takes its calls."""
        engine = engine_at(address, name, calls=False, timeouts=Timeouts(workflow=1))
        async with engine:
            report = await engine.run([Call("a", "add", {"x": 1}), Call("s", "same", {"value": 1})])
        assert statuses(report) == dict.fromkeys("as", "timed_out")
        assert report["a"].scope == "workflow"
        assert report["a"].started is None
        assert 1 <= report.elapsed < 5

    async def test_nobody_decides(self, address, name, caplog, monkeypatch):
        """A warning names the queue that no worker looks into."""
        from dagexec.engines.temporal import _runs

        monkeypatch.setattr(_runs, "_PATIENCE", 0.3)
        caplog.set_level(logging.WARNING)
        async with engine_at(address, name, calls=False, decides=False) as engine:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await engine.run([Call("a", "add", {"x": 1})], run_id="r")
            with pytest.raises(DagexecError, match="'r' cannot be read now: no worker") as caught:
                await engine.report("r")
        assert f"'dagexec-1:{name}'" in caplog.text
        assert f"'dagexec-1:{name}'" in str(caught.value)

    async def test_nobody_decides_any_more(self, address, name, caplog):
        """Who looks is told, who answers waits until somebody does, and that is logged."""
        asking = engine_at(address, name, calls=False, decides=False)
        async with asking, asyncio.timeout(80):
            async with engine_at(address, name):
                await asking.run([Call("p", "pay", {"amount": 1})], run_id="r")
            with pytest.raises(DagexecError, match="'r' cannot be read now"):
                await asking.report("r")
            answering = asyncio.create_task(asking.resume("r", {"p": Approve()}))
            while "nobody says yet what is known of the run 'r'" not in caplog.text:
                await asyncio.sleep(0.1)
            async with engine_at(address, name):
                assert (await answering).ok


async def test_the_example_of_the_guide(address, name):
    """Unchanged but for the address, and prints what stands behind it."""
    from dagexec.engines.temporal import __doc__ as guide

    example = re.compile(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    ((code, printed),) = example.findall(guide)
    assert "localhost:7233" in code
    code = code.replace("localhost:7233", address).replace('"shop"', f'"{name}"')
    assert await asyncio.to_thread(run_python, code + ENDS_AT_ONCE) == printed


async def test_nothing_on_the_standard_output(address, name):
    """The library's own log goes to Python's: a command's output is its own."""
    code = (
        "import asyncio, dagexec\n"
        "from dagexec.engines.temporal import TemporalEngine\n"
        "from tests.engines.tools_for_engines import TOOLS\n"
        "async def main():\n"
        f"    engine = TemporalEngine(TOOLS, address={address!r}, name={name!r})\n"
        "    async with engine:\n"
        "        plan = [dagexec.Call('a', 'add', {'x': 1})]\n"
        "        print((await engine.run(plan)).outputs)\n"
        "asyncio.run(main())\n"
    )
    assert await asyncio.to_thread(run_python, code + ENDS_AT_ONCE) == "{'a': 1}\n"


async def test_no_values_in_the_log(address, name, caplog):
    """An application that logs everything does not log what travels."""
    caplog.set_level(logging.DEBUG)
    async with engine_at(address, name) as engine:
        report = await engine.run([Call("a", "same", {"value": "hunter2"})])
    assert report.outputs == {"a": "hunter2"}
    assert "run ended" in caplog.text
    assert "hunter2" not in caplog.text


async def test_one_trace(address, name):
    """From who asks to what a tool does: the client's interceptor makes the spans in between."""
    pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry's SDK is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from temporalio.client import Client
    from temporalio.contrib.opentelemetry import TracingInterceptor

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("tests")

    @tool(effect="read")
    async def fetch() -> None:
        with tracer.start_as_current_span("fetch"):
            pass

    @tool
    def store() -> None:
        with tracer.start_as_current_span("store"):
            pass

    client = await Client.connect(address, interceptors=[TracingInterceptor(tracer)])
    async with engine_of(address, name, [fetch, store], client=client) as engine:
        with tracer.start_as_current_span("request"):
            await engine.run([Call("f", "fetch"), Call("s", "store")], run_id="r")
    found = {span.context.span_id: span for span in spans.get_finished_spans()}
    assert len({span.context.trace_id for span in found.values()}) == 1
    for wanted, call in (("fetch", "f"), ("store", "s")):
        (span,) = (each for each in found.values() if each.name == wanted)
        activity = found[span.parent.span_id]
        named = {"dagexec.run.id": "r", "dagexec.call.id": call, "gen_ai.tool.name": wanted}
        assert named.items() <= dict(activity.attributes).items()


def statuses(report: Any) -> dict[str, str]:
    return {name: outcome.status for name, outcome in report.items()}


def handle_of(engine: TemporalEngine, run_id: str) -> Any:
    return engine._runs._handle(run_id)  # type: ignore[union-attr]


async def events(engine: TemporalEngine, run_id: str) -> int:
    return (await handle_of(engine, run_id).describe()).history_length


async def exists(engine: TemporalEngine, run_id: str) -> None:
    from temporalio.service import RPCError

    async with asyncio.timeout(20):
        while True:
            try:
                await events(engine, run_id)
            except RPCError:
                await asyncio.sleep(0.02)
            else:
                return


async def known(engine: TemporalEngine, run_id: str, happened: Any) -> Any:
    """Look at a run until something is known of it."""
    await exists(engine, run_id)
    async with asyncio.timeout(20):
        while not happened(report := await engine.report(run_id)):
            await asyncio.sleep(0.05)
    return report
