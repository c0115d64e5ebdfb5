"""Runs by their ids, deadlines, and limits, on a real server."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from contextlib import suppress

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
    current_call,
    tool,
)
from dagexec.limits import Limiter, Rate

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec.engines.dbos import DbosEngine
from dagexec.engines.dbos import __doc__ as guide
from tests.engines.processes import run_python
from tests.engines.tools_for_engines import TOOLS, get, login, login_if

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]


spans: list[tuple[float, float]] = []


async def span(seconds: float) -> None:
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    spans.append((begun, time.monotonic()))


class TestRuns:
    """Runs by their ids."""

    async def test_the_same_id_again(self, url, name):
        """The report, and nothing runs; another plan is an error, and so is an unknown run."""
        plan = [Call("a", "get", {"x": 1}), Call("b", "get", {"x": Ref("a")})]
        async with DbosEngine([get], database_url=url, name=name) as engine:
            first, second = await asyncio.gather(
                engine.run(plan, run_id="r"), engine.run(plan, run_id="r")
            )
            assert first.to_dict() == second.to_dict()
            third = await engine.run(plan, run_id="r")
            assert third.to_dict() == first.to_dict()
            assert first.outputs == {"a": 1, "b": 1}
            assert first.run_id == "r"
            with pytest.raises(DagexecError, match="begun with another plan"):
                await engine.run(plan[:1], run_id="r")
            with pytest.raises(DagexecError, match="knows no run 'x'"):
                await engine.resume("x")
            with pytest.raises(DagexecError, match="knows no run 'x'"):
                await engine.cancel("x")
            assert (await engine.resume("r")).to_dict() == first.to_dict()
        assert first.critical_path == ("a", "b")
        assert "a get" in str(first.timeline)
        assert "b get" in str(first.diagram)

    async def test_what_can_be_read_once(self, url, name):
        """It is read where its call ran: two dependants, anywhere, get all of it."""

        @tool(effect="read")
        async def given() -> object:
            return {"a": (each for each in "xy"), "b": asyncio.sleep(0, iter([1]))}

        plan = [Call("a", "given"), *(Call(each, "get", {"x": Ref("a")}) for each in "bc")]
        async with DbosEngine([get, given], database_url=url, name=name) as engine:
            report = await engine.run(plan)
        assert report.outputs == {each: {"a": ["x", "y"], "b": [1]} for each in "abc"}

    async def test_ids_of_any_text(self, url, name):
        """No id can be taken for another's, nor for one of the engine's own."""
        plan = [Call(each, "get", {"x": each}) for each in ("|", "a|1", "cancel", "é", "%7C")]
        async with DbosEngine([get], database_url=url, name=name) as engine:
            for run_id in ("a", "a|1", "a|1|a", "", "\0 \ud800", "x" * 500):
                report = await engine.run(plan, run_id=run_id)
                assert report.outputs == {call.id: call.id for call in plan}

    async def test_two_engines_in_one_process(self, url, name):
        """There is one DBOS in a process."""
        async with DbosEngine([get], database_url=url, name=name) as engine:
            with pytest.raises(DagexecError, match="open in this process already"):
                async with DbosEngine([get], database_url=url, name=name):
                    pass
            assert (await engine.run([Call("a", "get")])).ok

    async def test_a_program_with_a_dbos_of_its_own(self, url, name):
        """It is left alone, and the error says what to do."""
        code = (
            "import asyncio, dagexec\nfrom dbos import DBOS\n"
            "from dagexec.engines.dbos import DbosEngine\n"
            f"url, name = {url!r}, {name!r}\n"
            "DBOS(config={'name': 'own', 'system_database_url': url})\n"
            "async def main():\n"
            "    async with DbosEngine([], database_url=url, name=name):\n"
            "        pass\n"
            "try:\n"
            "    asyncio.run(main())\n"
            "except dagexec.DagexecError as error:\n"
            "    print(error)\n"
            "print(DBOS.executor_id)"
        )
        assert await asyncio.to_thread(run_python, code) == (
            "this program uses DBOS itself, and there is one DBOS in a process:"
            " open the engine in a process of its own\nlocal\n"
        )

    async def test_opened_again(self, url, name):
        """An engine can be opened more than once, and leaves the event loop as it was."""
        engine = DbosEngine([get], database_url=url, name=name)
        for _ in range(2):
            async with engine:
                assert (await engine.run([Call("a", "get", {"x": 5})], run_id="r")).outputs == {
                    "a": 5
                }
            assert await asyncio.to_thread(lambda: 7) == 7

    async def test_no_run_inside_a_tool(self, url, name):
        """A call that waits for the queues that it holds a place in could wait for ever."""

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

        tools = [nest, nest_in_an_executor, get]
        async with DbosEngine(tools, database_url=url, name=name) as engine:
            report = await engine.run([Call("n", "nest"), Call("m", "nest_in_an_executor")])
        assert "inside of tools with an Executor" in report["n"].value
        assert report["m"].value == {"a": 3}

    async def test_plans_that_cannot_be(self, url, name):
        """Refused before anything runs."""

        async def stream():
            yield Call("a", "get")

        async with DbosEngine([get], database_url=url, name=name) as engine:
            with pytest.raises(PlanError, match="there is no tool 'none'"):
                await engine.run([Call("a", "none")])
            with pytest.raises(DagexecError, match="whole plans"):
                await engine.run(stream())

    async def test_secrets_do_not_travel(self, url, name):
        """Refused, by name and without the value; a reference is no secret."""
        tools = [get, login, login_if]
        async with DbosEngine(tools, database_url=url, name=name) as engine:
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

    async def test_answers_that_do_not_fit(self, url, name):
        """Refused before anything is done; the same answer again is none."""
        plan = [Call("p", "pay", {"amount": 3}), Call("s", "same", {"value": Ref("p")})]
        async with DbosEngine(TOOLS, database_url=url, name=name) as engine:
            await engine.run(plan, run_id="r")
            for answers, text in (
                ({"x": Approve()}, "no call 'x' to answer; waiting for an answer: p"),
                ({"s": Approve()}, "answer that call"),
                ({"p": "yes"}, "waits to be approved"),
                ({"p": Edit({"amount": "much"})}, "do not fit"),
            ):
                with pytest.raises(DagexecError, match=text):
                    await engine.resume("r", answers)
            report = await engine.resume("r", {"p": Approve()})
            assert report.outputs == {"p": "paid 3.0", "s": "paid 3.0"}
            assert (await engine.resume("r", {"p": Approve()})).outputs == report.outputs
            with pytest.raises(DagexecError, match="does not wait for an answer"):
                await engine.resume("r", {"p": Deny("late")})

    async def test_a_cancelled_run(self, url, name):
        """What has not ended is cancelled, in the queues and where it runs, and that is kept."""
        plan = [
            Call("a", "add", {"x": 1}),
            Call("b", "nap", {"seconds": 50}),
            Call("c", "long_write", {"seconds": 50}),
            Call("d", "same", {"value": Ref("b")}),
        ]
        async with DbosEngine(TOOLS, database_url=url, name=name) as engine:
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await asyncio.sleep(2.5)
            report = await engine.cancel("r")
            assert (await waiting).to_dict() == report.to_dict()
            assert (await engine.run(plan, run_id="r")).to_dict() == report.to_dict()
        statuses = {each: outcome.status for each, outcome in report.items()}
        assert statuses == {"a": "done", "b": "cancelled", "c": "cancelled", "d": "cancelled"}
        assert report["c"].maybe
        assert report.elapsed < 20

    async def test_an_answer_while_others_run(self, url, name):
        """An approved call goes on at once, and so does what needs it; also before it asks."""
        began, went_on = asyncio.Event(), asyncio.Event()

        @tool
        async def waits() -> None:
            began.set()
            await went_on.wait()

        @tool
        async def goes_on(value: str) -> str:
            went_on.set()
            return value

        plan = [
            Call("n", "waits"),
            Call("p", "pay", {"amount": 3}),
            Call("s", "goes_on", {"value": Ref("p")}),
            Call("d", "question", {"what": "where"}),
        ]
        tools = [*TOOLS, waits, goes_on]
        async with DbosEngine(tools, database_url=url, name=name, polling=0.05) as engine:
            begun = asyncio.create_task(engine.run(plan, run_id="r"))
            await began.wait()
            answered = [{"p": Approve()}, {"d": "here"}]
            reports = await asyncio.gather(begun, *(engine.resume("r", each) for each in answered))
            report = await engine.run(plan, run_id="r")
            assert reports[0]["s"].value == "paid 3.0"
            # The answer was to the first question, and not taken for the second one's.
            assert report["d"].question == {"again": "where"}
            assert (await engine.resume("r", {"d": "there"}))["d"].value == "here there"

    async def test_two_who_answer_while_others_run(self, url, name):
        """One is taken, the other is told that it came too late, or was the same."""
        plan = [Call("n", "nap", {"seconds": 3}), Call("p", "pay", {"amount": 3})]
        async with DbosEngine(TOOLS, database_url=url, name=name, polling=0.05) as engine:
            begun = asyncio.create_task(engine.run(plan, run_id="r"))
            await asyncio.sleep(1)
            answers = [Approve(), Approve(), Deny("no")]
            found = await asyncio.gather(
                *(engine.resume("r", {"p": each}) for each in answers), return_exceptions=True
            )
            last = await begun
        told = [each for each in found if not isinstance(each, BaseException)]
        assert {each["p"].status for each in told} == {last["p"].status}
        late = [each for each in found if isinstance(each, BaseException)]
        assert all("does not wait for an answer" in str(each) for each in late)
        assert len(told) in (1, 2)

    async def test_a_cancelled_run_that_waits_for_a_person(self, url, name):
        """It ends, and nothing of it runs; nor does an answer start it again."""
        plan = [Call("p", "pay", {"amount": 1}), Call("s", "same", {"value": Ref("p")})]
        async with DbosEngine(TOOLS, database_url=url, name=name) as engine:
            await engine.run(plan, run_id="r")
            report = await engine.cancel("r")
            assert {each.status for each in report.values()} == {"cancelled"}
            with pytest.raises(DagexecError, match="does not wait"):
                await engine.resume("r", {"p": Approve()})
            assert (await engine.run(plan, run_id="r")).to_dict() == report.to_dict()
            assert (await engine.cancel("r")).to_dict() == report.to_dict()

    async def test_a_caller_that_is_cancelled(self, url, name):
        """It stops waiting, and the run goes on."""
        plan = [Call("a", "nap", {"seconds": 2}), Call("b", "same", {"value": Ref("a")})]
        async with DbosEngine(TOOLS, database_url=url, name=name) as engine:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await engine.run(plan, run_id="r")
            assert (await engine.run(plan, run_id="r")).outputs == {"a": 2, "b": 2}

    async def test_a_caller_that_is_cancelled_while_the_run_begins(self, url, name):
        """It begins all the same; what the database says is under way here is run."""
        async with DbosEngine([get], database_url=url, name=name) as engine:
            for count in range(20):
                plan = [Call("a", "get", {"x": count})]
                asking = asyncio.create_task(engine.run(plan, run_id=f"r{count}"))
                await asyncio.sleep(count * 0.0003)
                asking.cancel()
                with suppress(asyncio.CancelledError):
                    await asking
                async with asyncio.timeout(10):
                    assert (await engine.run(plan, run_id=f"r{count}")).ok

    async def test_a_done_call_that_was_deleted_does_not_run_again(self, url, name):
        """A run that goes on in a second life knows by its own steps what it had launched.

        A call with a limit is a workflow of its own.
        """
        import psycopg

        began: list[str] = []

        @tool(limits=Limiter("mail", in_flight=5))
        async def send() -> None:
            began.append(current_call().id)

        @tool(effect="read")
        async def hold(x: object) -> str:
            began.append(current_call().id)
            await asyncio.sleep(60 if began.count("b") == 1 else 0)
            return "held"

        def opened() -> DbosEngine:
            return DbosEngine([send, hold], database_url=url, name=name, polling=0.05)

        plan = [Call("a", "send"), Call("b", "hold", {"x": Ref("a")})]
        async with opened() as engine:
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            while "b" not in began:
                await asyncio.sleep(0.01)
        waiting.cancel()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            ids = [f"dagexec:{name}|r|1|a"]
            await connection.execute(
                "delete from dbos.workflow_status where workflow_uuid = any(%s)", (ids,)
            )
        async with opened() as engine:
            report = await engine.run(plan, run_id="r")
        assert began == ["a", "b"]
        assert report["a"].status == "failed"
        assert report["b"].because == "a"

    async def test_tools_see_the_context_of_the_program(self, url, name):
        """ContextVars, loop and thread are those of who opened the engine; DBOS is not seen."""
        from contextvars import ContextVar

        from dbos import DBOS

        var: ContextVar[str] = ContextVar("var", default="unset")
        loop = asyncio.get_running_loop()

        @tool(effect="read")
        async def look() -> list[object]:
            here = asyncio.get_running_loop() is loop
            return [var.get(), here, DBOS.workflow_id, current_call().deadline is not None]

        var.set("mine")
        async with DbosEngine([look], database_url=url, name=name) as engine:
            report = await engine.run([Call("a", "look")])
        assert report["a"].value == ["mine", True, None, True]


class TestOpeningAndClosing:
    """One DBOS in a process, and one server for many."""

    async def test_a_close_that_is_cancelled(self, url, name):
        """It comes to its end: a DBOS that went on would let no engine be opened any more."""
        for pause in (0.0, 0.02):
            engine = DbosEngine([get], database_url=url, name=name)
            await engine.__aenter__()
            closing = asyncio.create_task(engine.aclose())
            await asyncio.sleep(pause)
            closing.cancel()
            await asyncio.sleep(0)
            closing.cancel()
            with suppress(asyncio.CancelledError):
                await closing
            async with engine:
                assert (await engine.run([Call("a", "get", {"x": 1})])).ok

    async def test_a_database_that_the_user_cannot_make(self, url, server, name):
        """Says so, and how to make it."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(f"create role {name} login")
        place = server.replace("tests@", f"{name}@") + "/missing"
        engine = DbosEngine([get], database_url=place, name=name)
        with pytest.raises(DagexecError, match=f"createdb --owner {name} missing"):
            await engine.__aenter__()


class TestWithoutAQueue:
    """Calls that begin in the process that decided them."""

    async def test_a_chain_waits_for_no_look_into_a_queue(self, url, name):
        """Three looks would take three times the polling, the whole chain takes less than one."""
        plan = [Call("c0", "get"), *(Call(f"c{n}", "get", {"x": Ref(f"c{n - 1}")}) for n in (1, 2))]
        async with DbosEngine([get], database_url=url, name=name, polling=10) as engine:
            report = await engine.run(plan)
        assert report.ok
        assert report.elapsed < 25

    async def test_what_exceeds_the_places_waits_in_the_queue(self, url, name):
        """No more than may run at a time, whichever way they came."""
        spans.clear()
        plan = [Call(f"c{each}", "span", {"seconds": 0.2}) for each in range(6)]
        settings = {"database_url": url, "name": name, "polling": 0.05, "concurrency": 2}
        async with DbosEngine([span], **settings) as engine:
            assert (await engine.run(plan)).ok
        assert len(spans) == 6
        assert max(sum(b <= at < e for b, e in spans) for at, _ in spans) == 2


class TestTheGuide:
    """Its example."""

    async def test_the_example_runs(self, url, name):
        """Unchanged but for the URL, and prints what stands behind it."""
        example = re.compile(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
        ((code, printed),) = example.findall(guide)
        place = "postgresql://shop:secret@localhost:5432/shop"
        assert place in code
        code = code.replace(place, url).replace('"shop"', f'"{name}"')
        assert await asyncio.to_thread(run_python, code) == printed


class TestLimits:
    """What queues keep to."""

    async def test_so_many_at_a_time(self, url, name):
        """A cap counts for all calls of all tools that share the limiter."""
        spans.clear()
        cap = Limiter(f"cap {name}", in_flight=2)
        tools = [
            tool(span, name=each, limits=[cap], effect="read", timeout=50) for each in ("a", "b")
        ]
        plan = [Call(f"c{each}", "ab"[each % 2], {"seconds": 0.2}) for each in range(8)]
        async with DbosEngine(tools, database_url=url, name=name, polling=0.05) as engine:
            report = await engine.run(plan)
        assert report.ok
        most = max(
            sum(begun <= moment < ended for begun, ended in spans) for moment, _ in sorted(spans)
        )
        assert most == 2

    @pytest.mark.slow
    async def test_so_many_in_what_time(self, url, name):
        """A rate is kept in every window of its length."""
        spans.clear()
        rate = Limiter(f"rate {name}", rates={"requests": Rate(3, per=3.0)})
        tools = [tool(span, name="a", limits=[rate], effect="read")]
        plan = [Call(f"c{each}", "a", {"seconds": 0}) for each in range(9)]
        async with DbosEngine(tools, database_url=url, name=name, polling=0.05) as engine:
            report = await engine.run(plan)
        assert report.ok
        begun = sorted(moment for moment, _ in spans)
        assert begun[-1] - begun[0] > 5
        # What a worker began is a little later than what the queue let go.
        assert all(later - earlier > 2 for earlier, later in zip(begun, begun[3:], strict=False))

    async def test_so_many_in_a_process(self, url, name):
        """`concurrency` counts for one worker."""
        spans.clear()
        tools = [tool(span, name="a", effect="read")]
        plan = [Call(f"c{each}", "a", {"seconds": 0.1}) for each in range(9)]
        async with DbosEngine(
            tools, database_url=url, name=name, concurrency=3, polling=0.05
        ) as engine:
            assert (await engine.run(plan)).ok
        most = max(
            sum(begun <= moment < ended for begun, ended in spans) for moment, _ in sorted(spans)
        )
        assert most <= 3


class TestDeadlinesInQueues:
    """Deadlines of what no worker takes."""

    async def test_nobody_works(self, url, name, caplog):
        """The deadline of a run holds although no worker is there."""
        caplog.set_level(logging.WARNING)
        engine = DbosEngine(
            [get], database_url=url, name=name, calls=False, timeouts=Timeouts(workflow=1)
        )
        async with engine:
            report = await engine.run([Call("a", "get"), Call("b", "get", {"x": Ref("a")})])
        assert [outcome.status for outcome in report.values()] == ["timed_out"] * 2
        assert [outcome.scope for outcome in report.values()] == ["workflow"] * 2
        assert report["a"].started is None
        assert not report["a"].maybe
        assert 1 <= report.elapsed < 20
