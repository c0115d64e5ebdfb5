"""Temporal's limits: at each, a run would hang or end without a word, but for the engine."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import (
    Approve,
    Call,
    DagexecError,
    Deny,
    Each,
    Ref,
    Template,
    Timeouts,
    current_call,
    tool,
)
from dagexec.limits import Limiter, Rate
from tests.engines.temporal.server import served
from tests.engines.temporal.test_runs import events, exists, handle_of, statuses

if TYPE_CHECKING:
    from dagexec.engines.temporal import TemporalEngine

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]

ran: Counter[str] = Counter()
MB = 1_000_000


@dataclass
class Page:
    """A value with a type of its own, and lists in it."""

    title: str
    lines: list[str]


def noise(size: int, seed: int = 0) -> str:
    """Return a text that cannot be compressed to less than three quarters."""
    return random.Random(seed).randbytes(size // 2).hex()


@tool
async def make(size: int, seed: int = 0) -> str:
    ran[current_call().run_id] += 1
    return noise(size, seed)


@tool(effect="read")
async def page(size: int) -> Page:
    return Page("a page", [noise(size, each) for each in range(3)])


@tool(effect="read")
async def length(value: Any) -> int:
    return len(value)


@tool(effect="read")
async def nap(seconds: float = 0) -> float:
    await asyncio.sleep(seconds)
    return seconds


@tool(timeout=None)
async def held() -> str:
    ran[current_call().run_id] += 1
    await asyncio.sleep(1 if ran[current_call().run_id] > 1 else 30)
    return "done"


@tool(approval=True)
async def pay(amount: int = 0) -> int:
    return amount


@tool
async def loud(size: int) -> None:
    raise ValueError(noise(size))


TOOLS = [make, page, length, nap, held, pay, loud]


def engine_at(address: str, name: str, tools: list[Any] = TOOLS, **settings: Any) -> TemporalEngine:
    from dagexec.engines.temporal import TemporalEngine

    given = {"timeouts": Timeouts(call=None, workflow=None), "lease": 3, "beat": 0.2, **settings}
    return TemporalEngine(tools, address=address, name=name, **given)


class TestSizes:
    async def test_a_value_that_is_too_large(self, address, name):
        """The call has failed, once: the server would let the tool run again and again."""
        plan = [Call("a", "make", {"size": 6 * MB}), Call("b", "length", {"value": Ref("a")})]
        async with engine_at(address, name) as engine, asyncio.timeout(20):
            report = await engine.run(plan, run_id=name)
        assert statuses(report) == {"a": "failed", "b": "skipped"}
        assert "store=" in str(report["a"].error)
        assert report["a"].maybe
        assert report["a"].attempts == 1
        assert ran[name] == 1

    async def test_arguments_that_are_too_large(self, address, name):
        """Two values that travel, and together do not; the run would hang for ever."""
        plan = [
            *(Call(each, "make", {"size": 3 * MB, "seed": ord(each)}) for each in "ab"),
            Call("c", "length", {"value": [Ref("a"), Ref("b")]}),
            Call("d", "length", {"value": Ref("a")}),
        ]
        async with engine_at(address, name) as engine, asyncio.timeout(30):
            report = await engine.run(plan)
        assert statuses(report) == {"a": "done", "b": "done", "c": "failed", "d": "done"}
        assert "arguments of the call are too large" in str(report["c"].error)
        assert report["c"].started is None

    async def test_a_report_that_is_too_large_to_return(self, address, name):
        """It is read in pages, while the run waits for a person and when it has ended."""
        plan = [Call(f"m{each}", "make", {"size": 2 * MB, "seed": each}) for each in range(3)]
        async with engine_at(address, name) as engine, asyncio.timeout(50):
            report = await engine.run([*plan, Call("p", "pay")], run_id="r")
            assert report["p"].status == "pending"
            report = await engine.resume("r", {"p": Approve()})
            assert report.ok
            assert report["m2"].value == noise(2 * MB, 2)
            assert (await engine.report("r")).to_dict() == report.to_dict()

    async def test_a_plan_that_is_too_large(self, address, name):
        """Refused before anything runs."""
        plan = [Call("a", "length", {"value": noise(6 * MB)})]
        async with engine_at(address, name) as engine, asyncio.timeout(20):
            with pytest.raises(DagexecError, match="plan is too large"):
                await engine.run(plan)

    async def test_answers_that_are_too_large(self, address, name):
        """Refused, and the run waits on; many that fit, at once, are more than one task takes."""
        plan = [Call(f"p{each}", "pay", {"amount": each}) for each in range(3)]
        async with engine_at(address, name) as engine, asyncio.timeout(40):
            await engine.run(plan, run_id="r")
            with pytest.raises(DagexecError, match="answers are too large"):
                await engine.resume("r", {"p0": Deny(noise(3 * MB))})
            assert {*statuses(await engine.report("r")).values()} == {"pending"}
            answers = [{f"p{each}": Deny(noise(MB, each))} for each in range(3)]
            await asyncio.gather(*(engine.resume("r", each) for each in answers))
            report = await engine.report("r")
        assert {*statuses(report).values()} == {"failed"}

    async def test_an_error_that_is_too_large(self, address, name):
        """Its text is cut; that the tool raised, and what, is told."""
        async with engine_at(address, name) as engine, asyncio.timeout(20):
            report = await engine.run([Call("a", "loud", {"size": 6 * MB})])
        assert str(report["a"].error).startswith("ValueError: ")
        assert "6000000 characters in all" in str(report["a"].error)
        assert not report["a"].maybe

    async def test_many_large_launches_in_one_turn(self, address, name):
        """More than the server takes in one task of a workflow, which it would end at once."""
        plan = [Call(f"c{each}", "length", {"value": noise(20_000, each)}) for each in range(100)]
        plan.append(Call("m", "make", {"size": 100_000}))
        plan += [Call(f"d{each}", "length", {"value": [Ref("m"), each]}) for each in range(100)]
        async with engine_at(address, name) as engine, asyncio.timeout(50):
            report = await engine.run(plan)
        assert report.ok

    async def test_more_calls_than_may_be_under_way(self, address, name):
        """2,001 would hang for ever; here nobody works, and the deadline of the run holds."""
        plan = [Call(f"c{each}", "nap") for each in range(2100)]
        settings = {"calls": False, "timeouts": Timeouts(workflow=3)}
        async with engine_at(address, name, **settings) as engine, asyncio.timeout(50):
            report = await engine.run(plan)
        assert Counter(statuses(report).values()) == {"timed_out": 2100}
        assert all(each.started is None for each in report.values())


class TestMoves:
    async def test_between_rounds(self, short_lived, name):
        """Twelve answers one by one: several histories, one run."""
        plan = [Call(f"p{each}", "pay", {"amount": each}) for each in range(12)]
        async with engine_at(short_lived, name) as engine, asyncio.timeout(50):
            await engine.run(plan, run_id="r")
            first = (await handle_of(engine, "r").describe()).run_id
            for each in range(12):
                report = await engine.resume("r", {f"p{each}": Approve()})
            assert report.outputs == {f"p{each}": each for each in range(12)}
            assert (await handle_of(engine, "r").describe()).run_id != first
            assert await events(engine, "r") < 60
            assert (await engine.run(plan, run_id="r")).to_dict() == report.to_dict()

    async def test_by_who_asks_again_and_again(self, needed, name, monkeypatch):
        """A server takes so many updates of one history, and refuses all that come then."""
        from dagexec.engines.temporal import _workflow

        monkeypatch.setattr(_workflow, "MOVE_UPDATES", 10)
        plan = [Call("p", "pay"), Call("q", "pay")]
        with served("history.maxTotalUpdates=20") as own:
            async with engine_at(own.address, name) as engine, asyncio.timeout(40):
                for _ in range(25):
                    report = await engine.run(plan, run_id="r")
                    assert {*statuses(report).values()} == {"pending"}
                await engine.resume("r", {"p": Approve()})
                busy = [Call("n", "nap", {"seconds": 2}), Call("l", "length", {"value": [1]})]
                asked = [engine.run(busy, run_id="s") for _ in range(9)]
                first = asyncio.create_task(engine.run(busy, run_id="s"))
                await asyncio.sleep(0.5)
                reports = await asyncio.gather(first, *asked)
                report = await engine.resume("r", {"q": Approve()})
        assert report.ok
        assert all(each.ok for each in reports)

    @pytest.fixture
    def early(self, monkeypatch):
        from dagexec.engines.temporal import _launches, _workflow

        monkeypatch.setattr(_workflow, "MOVE_EVENTS", 150)
        monkeypatch.setattr(_launches, "WINDOW", 10)

    async def test_in_the_middle(self, address, name, early):
        """What has not begun waits for a fresh history; deadlines are kept, and all who wait."""
        plan = [Call(f"n{each}", "nap", {"seconds": 0.01}) for each in range(60)]
        plan += [Call(f"l{each}", "length", {"value": [Ref(f"n{each}")]}) for each in range(60)]
        async with engine_at(address, name) as engine, asyncio.timeout(50):
            runs = [asyncio.create_task(engine.run(plan, run_id="r")) for _ in range(2)]
            await exists(engine, "r")
            first = (await handle_of(engine, "r").describe()).run_id
            reports = await asyncio.gather(*runs)
            assert (await handle_of(engine, "r").describe()).run_id != first
            assert await events(engine, "r") < 400
        assert reports[0].ok
        assert len(reports[0]) == 120
        assert reports[0].to_dict() == reports[1].to_dict()

    async def test_a_deadline_goes_along(self, address, name, early):
        """A run has one time, however many histories."""
        plan = [Call("n0", "nap", {"seconds": 0.1})]
        plan += [
            Call(f"n{each}", "nap", {"seconds": 0.1}, after=(f"n{each - 1}",))
            for each in range(1, 90)
        ]
        settings = {"timeouts": Timeouts(workflow=5)}
        async with engine_at(address, name, **settings) as engine, asyncio.timeout(40):
            begun = time.monotonic()
            report = await engine.run(plan)
            took = time.monotonic() - begun
        assert {*statuses(report).values()} == {"done", "timed_out"}
        assert 4.9 <= took < 9  # a worker's clock is the first to see it
        assert report.elapsed <= took  # what moves take is no part of it

    @pytest.mark.parametrize("delay", [0.2, 0.6, 1.0, 1.4])
    async def test_a_cancel_beside(self, address, name, early, delay):
        """It ends the run, whatever it does at that moment."""
        plan = [Call(f"n{each}", "nap", {"seconds": 0.05}) for each in range(300)]
        async with engine_at(address, name) as engine, asyncio.timeout(30):
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await exists(engine, "r")
            await asyncio.sleep(delay)
            report = await engine.cancel("r")
            assert (await waiting).to_dict() == report.to_dict()
        assert {*statuses(report).values()} <= {"done", "cancelled"}
        assert "cancelled" in statuses(report).values()


class TestBytesOfAHistory:
    """The server ends a run whose history is larger than 50 MB; here than 2.5 MB."""

    @pytest.fixture
    def narrow(self, needed, monkeypatch):
        from dagexec.engines.temporal import _launches, _workflow

        monkeypatch.setattr(_workflow, "MOVE_BYTES", 1_000_000)
        monkeypatch.setattr(_launches, "FULL", 1_500_000)
        monkeypatch.setattr(_launches, "WINDOW", 15)
        with served("limit.historySize.error=2500000") as own:
            yield own.address

    async def test_it_moves_in_time(self, narrow, name):
        """Arguments of 3 MB in all, and little that has to go along."""
        plan = [Call("m", "make", {"size": 100_000})]
        plan += [Call(f"l{each}", "length", {"value": [Ref("m"), each]}) for each in range(60)]
        async with engine_at(narrow, name) as engine, asyncio.timeout(50):
            report = await engine.run(plan, run_id="r")
            described = (await handle_of(engine, "r").describe()).raw_description
        assert report.ok, report.exceptions
        assert described.workflow_execution_info.history_size_bytes < 2_500_000

    async def test_what_cannot_move_ends(self, narrow, name, monkeypatch):
        """Values of 5 MB in all: calls that find no room any more have failed, nothing is lost."""
        from dagexec.engines.temporal import _workflow

        # As it is: what may go along is smaller than what makes a history move.
        monkeypatch.setattr(_workflow, "MOVE_BYTES", 2_200_000)
        sizes = {f"m{each}": 100_000 for each in range(80)}
        plan = [Call(each, "make", {"size": 100_000, "seed": int(each[1:])}) for each in sizes]
        plan.append(Call("l", "length", {"value": Ref("m79")}))
        async with engine_at(narrow, name) as engine, asyncio.timeout(50):
            report = await engine.run(plan, run_id="r")
        counts = Counter(statuses(report).values())
        assert counts["done"] > 20, counts
        assert (counts["failed"] > 20, report["l"].status) == (True, "skipped")
        assert "store=" in str(report["m79"].error)
        assert not report["m79"].maybe


class TestAsking:
    async def test_many_who_wait(self, address, name):
        """More than may wait by Update at a time: all have their report."""
        plan = [Call("n", "nap", {"seconds": 1}), Call("p", "pay")]
        async with engine_at(address, name) as engine, asyncio.timeout(50):
            reports = await asyncio.gather(*(engine.run(plan, run_id="r") for _ in range(15)))
        assert len({str(report.to_dict()) for report in reports}) == 1

    async def test_an_answer_while_many_wait(self, address, name):
        """A server lets ten Updates wait: those who wait leave some of them for answers."""
        plan = [Call("n", "nap", {"seconds": 8}), Call("p", "pay"), Call("q", "pay")]
        async with engine_at(address, name) as engine, asyncio.timeout(50):
            waiting = [asyncio.create_task(engine.run(plan, run_id="r")) for _ in range(15)]
            await exists(engine, "r")
            while len(await engine.report("r")) < 2:
                await asyncio.sleep(0.1)
            answering = asyncio.create_task(engine.resume("r", {"p": Approve()}))
            while (report := await engine.report("r"))["p"].status != "done":
                await asyncio.sleep(0.1)
            assert "n" not in report
            reports = await asyncio.gather(answering, *waiting)
        assert {str(statuses(each)) for each in reports} == {
            "{'n': 'done', 'p': 'done', 'q': 'pending'}"
        }

    async def test_what_cannot_be_read_ends(self, address, name):
        """An error in the workflow's own code would be tried again for ever."""
        from dagexec.engines.temporal._wire import RUN, queue_of, workflow_id

        async with engine_at(address, name) as engine, asyncio.timeout(20):
            client = engine._runs._client  # type: ignore[union-attr]
            for run_id, spec in (("r", '{"calls": 1}'), ("s", "no JSON")):
                await client.start_workflow(
                    RUN, spec, id=workflow_id(name, run_id), task_queue=queue_of(name)
                )
                with pytest.raises(DagexecError, match="broke off"):
                    await engine.cancel(run_id)

    async def test_who_waits_for_what_never_comes(self, address, name):
        """A stranger's Update for an answer that nobody gave does not keep a run open."""
        async with engine_at(address, name) as engine, asyncio.timeout(20):
            waiting = asyncio.create_task(engine.run([Call("p", "pay")], run_id="r"))
            await exists(engine, "r")
            asked = asyncio.create_task(handle_of(engine, "r").execute_update("ended", 10**9))
            await waiting
            report = await engine.resume("r", {"p": Approve()})
            await asyncio.wait([asked])
        assert report.ok

    @pytest.mark.parametrize("result", ["no JSON", '{"outcome": 1}', 5, b"\0"])
    async def test_a_result_that_cannot_be_read(self, address, name, result):
        """In a callback such an error would be swallowed, and the run would wait for ever."""
        from dagexec.engines.temporal._wire import workflow_id

        async with engine_at(address, name, calls=False) as engine, asyncio.timeout(20):
            client = engine._runs._client  # type: ignore[union-attr]
            plan = [Call("a", "nap"), Call("l", "length", {"value": Ref("a")})]
            waiting = asyncio.create_task(engine.run(plan, run_id="r"))
            await known_to_wait(engine)
            await client.get_async_activity_handle(
                workflow_id=workflow_id(name, "r"), run_id=None, activity_id="a#1"
            ).complete(result)
            report = await waiting
        assert statuses(report) == {"a": "failed", "l": "skipped"}
        assert "its result cannot be read" in str(report["a"].error)


async def known_to_wait(engine: TemporalEngine) -> None:
    """Wait until a call of run `r` waits for a worker."""
    await exists(engine, "r")
    while True:
        described = (await handle_of(engine, "r").describe()).raw_description
        if described.pending_activities:
            return
        await asyncio.sleep(0.02)


class TestValues:
    @pytest.mark.parametrize("size", [1000, 100_000, 5 * MB])
    async def test_of_many_sizes(self, address, name, tmp_path, size):
        """Whole, by path, in a template, for each, with types, as defaults; a small history."""
        from dagexec.engines.temporal import FolderStore

        plan = [
            Call("p", "page", {"size": size}),
            Call("whole", "length", {"value": Template("{}", Ref("p", ("title",)))}),
            Call("one", "length", {"value": Ref("p", ("lines", 0))}),
            Call("each", "length", {"value": Each(Ref("p", ("lines",)))}),
            Call("all", "length", {"value": Ref("p", ("lines",))}),
            Call("sum", "length", {"value": Ref("each")}),
            Call("none", "length", {"value": Ref("p", ("title", "none"), default="four")}),
            Call("bad", "loud", {"size": 2}),
            Call("lost", "length", {"value": Ref("bad", default=noise(min(size, 100_000)))}),
        ]
        store = FolderStore(tmp_path)
        async with engine_at(address, name, store=store) as engine, asyncio.timeout(40):
            report = await engine.run(plan, run_id="r")
            size_of = (await handle_of(engine, "r").describe()).raw_description
            assert size_of.workflow_execution_info.history_size_bytes < 300_000
        assert report["p"].value == Page("a page", [noise(size, each) for each in range(3)])
        names = ("whole", "one", "each", "all", "sum", "none", "lost")
        lengths = {name: report[name].value for name in names}
        assert lengths == {
            "whole": 6,
            "one": size,
            "each": [size] * 3,
            "all": 3,
            "sum": 3,
            "none": 4,
            "lost": min(size, 100_000),
        }

    @pytest.mark.timeout(150)
    async def test_50_mb_in_a_bucket(self, address, name, values):
        """Made by one call and used by others, as in a folder; no byte of it is in the history."""
        from dagexec.engines.temporal import S3Store

        plan = [
            Call("p", "page", {"size": 50 * MB // 3}),
            Call("whole", "length", {"value": Ref("p", ("title",))}),
            Call("one", "length", {"value": Ref("p", ("lines", 2))}),
            Call("all", "length", {"value": Ref("p", ("lines",))}),
        ]
        store = S3Store(values.url, **values.options)
        async with engine_at(address, name, store=store) as engine, asyncio.timeout(120):
            report = await engine.run(plan, run_id="r")
            size_of = (await handle_of(engine, "r").describe()).raw_description
            assert size_of.workflow_execution_info.history_size_bytes < 150_000
        assert report.ok, report.exceptions
        assert [len(line) for line in report["p"].value.lines] == [50 * MB // 3 // 2 * 2] * 3
        lengths = [report[name].value for name in ("whole", "one", "all")]
        assert lengths == [6, 50 * MB // 3 // 2 * 2, 3]

    async def test_a_store_that_fails(self, address, name):
        """What cannot be kept is a failure; what cannot be fetched is fetched again."""

        class Broken:
            def __init__(self) -> None:
                self.kept: dict[str, bytes] = {}
                self.gets = 0

            async def put(self, key: str, value: bytes) -> None:
                if len(value) > 200_000:
                    raise OSError("the disk is full")
                self.kept[key] = value

            async def get(self, key: str) -> bytes:
                self.gets += 1
                if self.gets < 3:
                    raise OSError("the network is away")
                return self.kept[key]

        plan = [
            Call("a", "make", {"size": 100_000}),
            Call("b", "length", {"value": Ref("a")}),
            Call("c", "make", {"size": 300_000}),
        ]
        async with engine_at(address, name, store=Broken()) as engine, asyncio.timeout(40):
            report = await engine.run(plan, run_id=name)
        assert report["b"].value == 100_000
        assert report["c"].status == "failed"
        assert "the disk is full" in str(report["c"].error)
        assert ran[name] == 2

    @pytest.mark.parametrize("how", ["wait", "cancel"])
    async def test_a_store_that_takes_longer_than_a_lease(self, address, name, how):
        """The worker counts as alive; a cancel comes too late for what the tool has done."""

        class Slow:
            def __init__(self) -> None:
                self.kept: dict[str, bytes] = {}
                self.puts = 0

            async def put(self, key: str, value: bytes) -> None:
                self.puts += 1
                await asyncio.sleep(2.5)
                self.kept[key] = value

            async def get(self, key: str) -> bytes:
                await asyncio.sleep(2.5)
                return self.kept[key]

        plan = [Call("a", "make", {"size": 100_000}), Call("b", "length", {"value": Ref("a")})]
        store = Slow()
        async with engine_at(address, name, store=store, lease=1) as engine, asyncio.timeout(40):
            waiting = asyncio.create_task(engine.run(plan, run_id=name))
            if how == "cancel":
                while not store.puts:
                    await asyncio.sleep(0.02)
                await engine.cancel(name)
            report = await waiting
        ended = {"a": "done", "b": "done" if how == "wait" else "cancelled"}
        assert statuses(report) == ended
        assert report["a"].value == noise(100_000)
        assert (ran[name], store.puts) == (1, 1)

    async def test_a_store_that_lost_a_value(self, address, name, tmp_path):
        """Who asks for a report is told so in one line, and so is who has no store at all."""
        from dagexec.engines.temporal import FolderStore

        plan = [Call("a", "make", {"size": 100_000}), Call("p", "pay")]
        store = FolderStore(tmp_path / "values")
        async with engine_at(address, name, store=store) as engine, asyncio.timeout(40):
            await engine.run(plan, run_id="r")
            for file in (tmp_path / "values").iterdir():
                file.unlink()
            for use in (engine.report, engine.cancel):
                with pytest.raises(DagexecError, match="'r' cannot be fetched from the store"):
                    await use("r")
        async with engine_at(address, name) as engine, asyncio.timeout(40):
            with pytest.raises(DagexecError, match="give the engine the same store="):
                await engine.report("r")


class TestQueues:
    async def test_a_rate_for_all_workers(self, address, name):
        """Two engines of one name keep to one rate together."""
        starts: list[float] = []

        async def note() -> None:
            starts.append(time.monotonic())

        rate = Limiter(f"rate-{name}", rates={"requests": Rate(30, per=2)})
        tools = [tool(note, effect="read", limits=[rate])]
        plan = [Call(f"c{each}", "note") for each in range(40)]
        async with engine_at(address, name, tools) as engine, engine_at(address, name, tools):
            async with asyncio.timeout(30):
                assert (await engine.run(plan)).ok
        starts.sort()
        assert max(sum(at <= each < at + 2 for each in starts) for at in starts) <= 33
        assert starts[-1] - starts[0] > 2

    async def test_workers_of_their_own(self, address, name):
        """A tool's queue is served by those that say so; a queue that nobody serves is late."""
        plan = [Call("a", "nap"), Call("m", "make", {"size": 10}, after=("a",))]
        queues = {"make": "gpu"}
        common = engine_at(address, name, queues=queues, timeouts=Timeouts(workflow=3))
        gpu = engine_at(address, name, queues=queues, serves=("gpu",), decides=False)
        async with common, asyncio.timeout(40):
            report = await common.run(plan, run_id="r1")
            assert statuses(report) == {"a": "done", "m": "timed_out"}
            assert report["m"].started is None
            async with gpu:
                report = await common.run(plan, run_id="r2")
        assert report.ok

    async def test_a_worker_that_lacks_the_tool(self, address, name):
        """It passes the call on."""
        plan = [Call(f"l{each}", "length", {"value": [each]}) for each in range(6)]
        less = engine_at(address, name, [nap])
        async with less, engine_at(address, name) as engine, asyncio.timeout(40):
            assert (await engine.run(plan)).ok

    async def test_a_tool_that_no_worker_has(self, address, name, monkeypatch, caplog):
        """After some tries the call has failed: it never began, and one line says why."""
        from dagexec.engines.temporal import _calls

        monkeypatch.setattr(_calls, "_ELSEWHERE", 0.01)
        asking = engine_at(address, name, calls=False)
        less = engine_at(address, name, [nap], decides=False)
        async with asking, less, asyncio.timeout(40):
            report = await asking.run([Call("m", "make", {"size": 1})])
        assert report["m"].status == "failed"
        assert not report["m"].maybe
        assert "has the tool 'make'; start a worker that has it" in str(report["m"].error)
        assert "Traceback" not in caplog.text


async def test_a_client_of_ones_own(address, name):
    """With a codec that hides everything: no argument, value or summary stands in the history."""
    from temporalio.client import Client
    from temporalio.converter import DataConverter

    from tests.engines.temporal.codec import Hiding

    converter = DataConverter(payload_codec=Hiding())
    client = await Client.connect(address, data_converter=converter)
    async with engine_at(address, name, client=client) as engine, asyncio.timeout(40):
        plan = [Call("c", "length", {"value": "hunter2"}), Call("p", "pay", {"amount": 1})]
        await engine.run(plan, run_id="r")
        report = await engine.resume("r", {"p": Approve()})
        history = await handle_of(engine, "r").fetch_history()
    assert report.outputs == {"c": 7, "p": 1}
    text = json.dumps(history.to_json_dict())
    assert "hunter2" not in text


async def test_a_client_with_a_converter_for_pydantic(address, name):
    """Values with types of their own come back as they were: what travels is text and bytes."""
    from temporalio.client import Client
    from temporalio.contrib.pydantic import pydantic_data_converter

    client = await Client.connect(address, data_converter=pydantic_data_converter)
    plan = [
        Call("p", "page", {"size": 100}),
        Call("q", "pay", {"amount": 1}),
        Call("l", "length", {"value": Ref("p", ("lines",))}),
    ]
    async with engine_at(address, name, client=client) as engine, asyncio.timeout(40):
        await engine.run(plan, run_id="r")
        report = await engine.resume("r", {"q": Approve()})
    assert report["p"].value == Page("a page", [noise(100, each) for each in range(3)])
    assert {each: report[each].value for each in "ql"} == {"q": 1, "l": 3}


async def test_a_client_that_cannot_be(address, name):
    """One line: for two engines of a name on one, for a lazy one, for one of nowhere."""
    from temporalio.client import Client

    client = await Client.connect(address)
    lazy = await Client.connect(address, lazy=True)
    nowhere = await Client.connect("127.0.0.1:1", lazy=True)
    async with engine_at(address, name, client=client):
        for each in (client, lazy, nowhere):
            with pytest.raises(DagexecError, match="does not work with this client") as caught:
                async with engine_at(address, name, client=each):
                    pass
            assert "\n" not in str(caught.value)
    async with engine_at(address, name, client=client) as engine, asyncio.timeout(20):
        assert (await engine.run([Call("a", "length", {"value": [1]})])).ok


async def test_a_worker_that_its_library_ends(address, name, caplog):
    """Another one takes its place, and whoever waits gets a report."""
    async with engine_at(address, name) as engine, asyncio.timeout(40):
        await asyncio.sleep(1.2)
        (worker,) = engine._process._workers.values()  # type: ignore[union-attr]
        broken = RuntimeError("it lost its thread")
        worker._activity_worker._fail_worker_exception_queue.put_nowait(broken)  # type: ignore[union-attr]
        report = await engine.run([Call("a", "length", {"value": [1]})])
        while worker in engine._process._workers.values():  # type: ignore[union-attr]
            await asyncio.sleep(0.05)
        again = await engine.run([Call("a", "length", {"value": [1, 2]})])
    assert (report.ok, again.outputs) == (True, {"a": 2})
    assert "another one takes its place" in caplog.text
