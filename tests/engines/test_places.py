"""Where rounds are decided and calls run, seen from the database; and what operators do there."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dagexec import Approve, Call, DagexecError, Ref, Timeouts, current_call, tool
from dagexec.limits import Limiter
from dagexec.programs import Program
from tests.engines import worker
from tests.engines.parity import PLANS
from tests.engines.processes import begun, lines, wait_for
from tests.engines.test_workers import asking
from tests.engines.tools_for_engines import TOOLS, get

if TYPE_CHECKING:
    from dagexec.engines.dbos import DbosEngine

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]


def engine_at(url: str, name: str, tools: Any, **settings: Any) -> DbosEngine:
    from dagexec.engines.dbos import DbosEngine

    return DbosEngine(tools, database_url=url, name=name, polling=0.05, **settings)


async def rows(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(query.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def workflows(url: str, name: str) -> dict[str, str]:
    """Return the ids of an engine's workflows, each with the process that has it."""
    query = (
        "select workflow_uuid, executor_id from dbos.workflow_status where workflow_uuid like %s"
    )
    return dict(await rows(url, query, f"dagexec:{name}|%"))


@tool
async def send(x: int) -> int:
    return x


async def test_calls_of_the_process_that_decides_are_no_workflows(url, name, monkeypatch):
    """Reads and writes, side by side and one after the other, more than there are places."""
    monkeypatch.setattr("dagexec.engines.dbos._here._PATIENCE", 60.0)  # the machine may be busy
    plan = [Call("a0", "send", {"x": 0})]
    plan += [Call(f"a{n}", "get", {"x": Ref(f"a{n - 1}")}) for n in range(1, 6)]
    plan += [Call(f"b{n}", ("get", "send")[n % 2], {"x": n}) for n in range(40)]
    async with engine_at(url, name, [get, send], concurrency=4) as engine:
        report = await engine.run(plan, run_id="r")
        process = engine._process
        assert process is not None
        assert process._bell._busy == 0
        assert process.site.ends._running == {}
        assert process.site.ends._waiters == {}
    assert report.outputs == {f"a{n}": 0 for n in range(6)} | {f"b{n}": n for n in range(40)}
    assert [*await workflows(url, name)] == [f"dagexec:{name}|r|1"]


async def test_values_that_are_too_large_for_one_record(url, name):
    """They are recorded one after the other, each as it is."""

    @tool(effect="read")
    async def large(x: int) -> str:
        await asyncio.sleep(0.1)
        return str(x) * 2_000_000

    plan = [Call(f"c{n}", "large", {"x": n}) for n in range(10)]
    async with engine_at(url, name, [large]) as engine:
        report = await engine.run(plan, run_id="r")
    assert report.outputs == {f"c{n}": str(n) * 2_000_000 for n in range(10)}
    query = "select max(length(output)) from dbos.operation_outputs where workflow_uuid = %s"
    ((longest,),) = await rows(url, query, f"dagexec:{name}|r|1")
    assert 2_000_000 < longest < 5_000_000


async def test_a_call_that_does_not_stop(url, name, monkeypatch):
    """The run ends without it, soon after it was cancelled, and the engine goes on."""
    monkeypatch.setattr("dagexec.engines._drive.GRACE", 1.0)
    seen: list[str] = []
    freed = asyncio.Event()

    @tool
    async def stubborn() -> None:
        seen.append("began")
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                time.sleep(0.001)  # it is told again and again

    async with engine_at(url, name, [stubborn, get]) as engine:
        waiting = asyncio.create_task(engine.run([Call("a", "stubborn")], run_id="r"))
        async with asyncio.timeout(20):
            while not seen:
                await asyncio.sleep(0.01)
            report = await engine.cancel("r")
        assert (await waiting).to_dict() == report.to_dict()
        assert (report["a"].status, report["a"].maybe) == ("cancelled", True)
        assert seen[:2] == ["began", "cancelled"]
        assert (await engine.run([Call("a", "get", {"x": 1})])).ok
        freed.set()


@pytest.mark.timeout(120)
async def test_a_worker_decides_the_runs_of_who_only_asks(start, url, name, tmp_path):
    """With their answers; what is asked goes on in the same way."""
    async with asking(url, name, tmp_path) as engine:
        await asyncio.to_thread(start().wait_until_ready)
        report = await engine.run(worker.questions(), run_id="r")
        assert report["last"].status == "pending"
        answers = {"pay1": Approve(), "pay2": Approve(), "what": "this"}
        report = await engine.resume("r", answers)
        assert report.ok
        own = engine._process
        assert own is not None
        found = await workflows(url, name)
    assert own.database.executor_id not in {
        found[f"dagexec:{name}|r|1"],
        found[f"dagexec:{name}|r|2"],
    }


@pytest.mark.timeout(120)
async def test_what_was_under_way_is_a_workflow_in_its_second_life(start, url, name, tmp_path):
    """So DBOS counts the workers that it takes down. What has ended stays as it was."""
    plan = [
        Call("a", "look"),
        Call("s", "send", {"value": Ref("a")}),
        Call("l", "look", {"value": Ref("s"), "seconds": worker.HELD}),
        Call("z", "look", {"value": Ref("l")}),
    ]
    async with asking(url, name, tmp_path) as engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(plan, run_id="r"))
        await asyncio.to_thread(wait_for, lambda: begun(tmp_path)["l"] == 1)
        # The start of what only looks is recorded a little later.
        await asyncio.sleep(0.3)
        await asyncio.to_thread(start().wait_until_ready)
        await asyncio.to_thread(first.kill)
        report = await waiting
        found = await workflows(url, name)
    assert report.outputs == {
        "a": "a()",
        "s": "s(a())",
        "l": "l(s(a()))",
        "z": "z(l(s(a())))",
    }
    assert begun(tmp_path) == {"a": 1, "s": 1, "l": 2, "z": 1}
    assert [line.attempt for line in lines(tmp_path) if line.call == "l"][-1] == 2
    assert f"dagexec:{name}|r|1|l" in found
    assert f"dagexec:{name}|r|1|s" not in found


@pytest.mark.timeout(120)
async def test_a_worker_that_lacks_a_tool(start, url, name, tmp_path, caplog):
    """It passes calls of it on to others, and says so, as during a rolling update."""
    caplog.set_level(logging.WARNING, "dagexec")
    worker.FOLDER = tmp_path
    other = await asyncio.to_thread(start().wait_until_ready)
    tools = [each for each in worker.TOOLS if each.name != "send"]
    no_deadline = Timeouts(call=None, workflow=None)
    async with engine_at(url, name, tools, concurrency=4, timeouts=no_deadline):
        other.tell(run="r", plan="mixed")
        report = await asyncio.to_thread(other.answer)
    assert {body["status"] for body in report.values()} == {"done"}
    assert {*begun(tmp_path).values()} == {1}
    assert any("has no tool 'send'" in each.getMessage() for each in caplog.records)


async def test_ids_that_are_too_long_for_a_key(url, name):
    """They are a part of the id of a workflow, of which an index takes so much."""
    run_id, call = (f"{uuid4().hex}".join(f"{n:x}" for n in range(300)) for _ in range(2))
    mail = Limiter(f"mail {name}", in_flight=1)

    @tool(limits=mail)
    async def slow() -> str:
        return current_call().id

    async with engine_at(url, name, [slow, get]) as engine:
        report = await engine.run([Call(call, "slow")], run_id=run_id)
        assert report.outputs == {call: call}
        assert (await engine.run([Call(call, "slow")], run_id=run_id)).ok
        other = await engine.run([Call(call, "get")], run_id=f"{run_id}!")
        assert other.outputs == {call: 0}


class TestWhatOperatorsDo:
    """With DBOS's own means, while a run is under way."""

    @staticmethod
    async def under_way(engine: DbosEngine, plan: list[Call], began: list[str]) -> Any:
        waiting = asyncio.create_task(engine.run(plan, run_id="r"))
        async with asyncio.timeout(20):
            while not began:
                await asyncio.sleep(0.01)
        return waiting

    async def test_a_run_that_is_forked_writes_nothing_twice(self, url, name):
        """The fork is refused; the run itself goes on."""
        from dbos import DBOS

        began: list[str] = []
        freed = asyncio.Event()

        @tool
        async def slow() -> str:
            began.append(current_call().id)
            await freed.wait()
            return "done"

        async with engine_at(url, name, [slow]) as engine:
            waiting = await self.under_way(engine, [Call("a", "slow")], began)
            fork = await DBOS.fork_workflow_async(f"dagexec:{name}|r|1", 1)
            with pytest.raises(Exception, match="is not run again by its fork"):
                await fork.get_result()
            freed.set()
            report = await waiting
        assert report.outputs == {"a": "done"}
        assert began == ["a"]

    async def test_a_run_that_is_deleted(self, start, url, name, tmp_path):
        """Who waits for it in another process is told."""
        plan = [Call("a", "look", {"seconds": worker.HELD})]
        async with asking(url, name, tmp_path) as engine:
            await asyncio.to_thread(start().wait_until_ready)
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await asyncio.to_thread(wait_for, lambda: bool(lines(tmp_path)))
            query = "delete from dbos.workflow_status where workflow_uuid = %s"
            await rows(url, query, f"dagexec:{name}|r|1")
            with pytest.raises(DagexecError, match=r"broke off .*it was deleted"):
                await waiting

    async def test_a_call_that_is_deleted_in_its_queue(self, url, name):
        """It has failed, and the run comes to its end."""
        began: list[str] = []
        freed = asyncio.Event()
        mail = Limiter(f"mail {name}", in_flight=1)

        @tool(limits=mail)
        async def slow() -> str:
            began.append(current_call().id)
            await freed.wait()
            return "done"

        async with engine_at(url, name, [slow]) as engine:
            plan = [Call("a", "slow"), Call("b", "slow")]
            waiting = await self.under_way(engine, plan, began)
            (left,) = {"a", "b"} - {*began}
            query = "delete from dbos.workflow_status where workflow_uuid = %s"
            await rows(url, query, f"dagexec:{name}|r|1|{left}")
            freed.set()
            report = await waiting
        assert report[began[0]].status == "done"
        assert report[left].status == "failed"
        assert "it was deleted" in str(report[left].error)

    async def test_a_server_that_ends_all_connections(self, url, name):
        """A pooler that closes them, a failover: the next run takes no pause for it."""
        async with engine_at(url, name, [get]) as engine:
            assert (await engine.run([Call("a", "get", {"x": 1})])).ok
            query = (
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where pid <> pg_backend_pid() and datname = current_database()"
            )
            await rows(url, query)
            began = time.monotonic()
            assert (await engine.run([Call("a", "get", {"x": 1})])).ok
            assert time.monotonic() - began < 5


class TestReport:
    """What is known of a run now."""

    async def test_while_it_goes_on(self, url, name):
        """What has ended and what waits for a person; later the report that `run` returns."""
        freed = asyncio.Event()

        @tool
        async def slow(x: int) -> int:
            await freed.wait()
            return x

        plan = [
            Call("a", "get", {"x": 1}),
            Call("b", "slow", {"x": Ref("a")}),
            Call("c", "get", {"x": Ref("b")}),
            Call("p", "ask_for", {"x": Ref("a")}),
        ]

        @tool(approval=True)
        async def ask_for(x: int) -> int:
            return x

        async with engine_at(url, name, [get, slow, ask_for]) as engine:
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            with pytest.raises(DagexecError, match="knows no run 'other'"):
                await engine.report("other")
            async with asyncio.timeout(20):
                while True:
                    await asyncio.sleep(0.05)
                    with suppress(DagexecError):  # not begun yet
                        report = await engine.report("r")
                        if "p" in report:
                            break
            assert {each: report[each].status for each in report} == {"a": "done", "p": "pending"}
            answered = asyncio.create_task(engine.resume("r", {"p": Approve()}))
            async with asyncio.timeout(20):
                while "p" not in (report := await engine.report("r")) or not report["p"].ok:
                    await asyncio.sleep(0.05)
            freed.set()
            report = await waiting
            assert report.ok
            assert (await engine.report("r")).to_dict() == report.to_dict()
            assert (await answered).to_dict() == report.to_dict()

    async def test_what_its_steps_say_is_what_it_came_to(self, url, name):
        """Of all kinds of plans, and of a program, whether or not their calls went by queues."""
        from dagexec.engines.dbos._seen import seen

        source = (
            "xs = [same(n) for n in range(5)]\ny = 0\nfor n in range(3000):\n    y += n\nsum(xs)"
        )
        async with engine_at(url, name, TOOLS, concurrency=3) as engine:
            process = engine._process
            assert process is not None
            runs: dict[str, Any] = {**PLANS, "program": Program(source)}
            for run_id, what in runs.items():
                await engine.run(what, run_id=run_id)
                spec = await process.site.spec(run_id, 1)
                found = await seen(process.site, engine._front.drive, spec)
                result = await process.site.result(run_id, 1)
                assert found["log"] == result["log"], run_id


class TestClosing:
    """An engine that is closed while something runs."""

    @pytest.mark.parametrize("by_queue", [False, True])
    async def test_calls_that_end_within_the_grace(self, url, name, by_queue):
        """They are kept, a write is not in doubt, and what comes next goes on elsewhere."""
        began: list[str] = []
        limits = [Limiter(f"mail {name}", in_flight=5)] if by_queue else []

        @tool(limits=limits)
        async def slow() -> str:
            began.append(current_call().id)
            await asyncio.sleep(1)
            return "done"

        @tool
        async def then(x: str) -> str:
            began.append(current_call().id)
            return x

        plan = [Call("a", "slow"), Call("b", "then", {"x": Ref("a")})]
        async with engine_at(url, name, [slow, then], grace=30) as engine:
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            async with asyncio.timeout(20):
                while not began:
                    await asyncio.sleep(0.01)
            closing = time.monotonic()
        assert time.monotonic() - closing < 20
        with pytest.raises(DagexecError, match="the engine was closed while the run 'r' was"):
            await waiting
        assert began == ["a"]
        async with engine_at(url, name, [slow, then]) as engine:
            report = await engine.run(plan, run_id="r")
        assert report.outputs == {"a": "done", "b": "done"}
        assert began == ["a", "b"]

    async def test_a_grace_that_is_over(self, url, name):
        """It ends after its time, or when the close is cancelled."""
        began: list[str] = []

        @tool
        async def slow() -> str:
            began.append(current_call().id)
            await asyncio.sleep(60)
            return "done"

        for run_id, grace in (("r", 0.5), ("s", 50)):
            began.clear()
            engine = engine_at(url, name, [slow], grace=grace)
            await engine.__aenter__()
            waiting = asyncio.create_task(engine.run([Call("a", "slow")], run_id=run_id))
            async with asyncio.timeout(20):
                while not began:
                    await asyncio.sleep(0.01)
                closing = asyncio.create_task(engine.aclose())
                await asyncio.sleep(1)
                closing.cancel()
                await asyncio.wait((closing,))
                with pytest.raises(DagexecError, match="the engine was closed while"):
                    await waiting
        async with engine_at(url, name, [slow]) as engine:
            report = await engine.run([Call("a", "slow")], run_id="r")
        assert report["a"].status == "in_doubt"

    @pytest.mark.parametrize("grace", [-1, True, "5", float("nan")])
    async def test_what_is_no_grace(self, url, name, grace):
        """It is said what to give."""
        with pytest.raises(DagexecError, match="give a number of seconds"):
            engine_at(url, name, [get], grace=grace)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (lambda engine: engine.run([Call("a", "get")], run_id=3), "no id of a run"),
        (lambda engine: engine.resume(None), "no id of a run"),
        (lambda engine: engine.cancel(["r"]), "no id of a run"),
        (lambda engine: engine.resume("r", Approve()), "answers by call id"),
    ],
    ids=["run", "resume", "cancel", "answers"],
)
async def test_what_is_no_id_and_no_answers(url, name, asked, text):
    """It is said what to give."""
    async with engine_at(url, name, [get]) as engine:
        with pytest.raises(DagexecError, match=text):
            await asked(engine)
