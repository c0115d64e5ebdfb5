"""Programs on Temporal: the tests of those on DBOS, and what is Temporal's own."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Approve, DagexecError, Timeouts, tool
from dagexec.programs import Program, ProgramStopped
from tests.engines.test_programs import (
    test_a_program_comes_to_what_it_does_in_an_executor,
    test_a_program_that_fails_has_a_report,
    test_a_run_whose_tools_have_changed_on_the_way,
    test_an_answer_while_other_calls_run,
    test_cancelling_a_run,
    test_generated_programs_do_what_python_does,
    test_many_generated_programs,
    test_questions_are_answered_in_several_rounds,
    test_the_deadline_of_a_run,
    test_the_report_of_a_run_whose_tools_have_changed,
    test_tools_that_programs_cannot_tell_apart,
    test_what_is_refused,
)
from tests.engines.tools_for_engines import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagexec.engines.temporal import TemporalEngine

# What is imported is run here, on the engine of the fixture below.
__all__ = [
    "test_a_program_comes_to_what_it_does_in_an_executor",
    "test_a_program_that_fails_has_a_report",
    "test_a_run_whose_tools_have_changed_on_the_way",
    "test_an_answer_while_other_calls_run",
    "test_cancelling_a_run",
    "test_generated_programs_do_what_python_does",
    "test_many_generated_programs",
    "test_questions_are_answered_in_several_rounds",
    "test_the_deadline_of_a_run",
    "test_the_report_of_a_run_whose_tools_have_changed",
    "test_tools_that_programs_cannot_tell_apart",
    "test_what_is_refused",
]

pytestmark = [pytest.mark.real_time, pytest.mark.anyio]


def engine_at(address: str, name: str, tools: Any = TOOLS, **settings: Any) -> TemporalEngine:
    from dagexec.engines.temporal import TemporalEngine

    return TemporalEngine(
        tools, address=address, name=name, **{"lease": 3, "beat": 0.5, **settings}
    )


@pytest.fixture(
    params=[
        pytest.param(1000, id="in memory"),
        pytest.param(0, id="replayed at each task", marks=pytest.mark.slow),
    ]
)
def at(request: pytest.FixtureRequest, address: str, name: str) -> Callable[..., TemporalEngine]:
    """Return what makes an engine that shares nothing with any other test's."""
    return partial(engine_at, address, name, cached=request.param)


@tool(effect="read")
async def noise(size: int) -> str:
    """Return a text that can hardly be compressed."""
    return secrets.token_hex(size // 2)


@tool(effect="read")
async def length(value: str) -> int:
    return len(value)


@tool(effect="read")
async def total(a: str, b: str, c: str, d: str, e: str) -> int:
    return len(a + b + c + d + e)


@tool(effect="read")
async def double(value: int) -> int:
    return 2 * value


@tool(approval=True)
async def spend(amount: int) -> int:
    return amount


OWN = [noise, length, total, double, spend]
COMPUTES = """
n = 0
for i in range(150_000):
    n += i
a = double(n)
for i in range(150_000):
    n += i
[a, n]
"""

ENDLESS = "a = double(1)\nwhile a:\n    b = a\n"


class TestComputing:
    """A program that computes for seconds."""

    async def test_others_go_on(self, at):
        """It is interpreted in parts; another run of the same process is not held up."""
        async with at(OWN) as engine, asyncio.timeout(80):
            long = asyncio.create_task(engine.run(Program(COMPUTES)))
            await asyncio.sleep(0.1)
            report = await engine.run(Program("double(double(1))"))
            assert report.result == 4
            assert not long.done()
            total = sum(range(150_000))
            assert (await long).result == [2 * total, 2 * total]

    async def test_a_deadline_ends_it(self, at):
        """Between two parts; the report says where it stood."""
        async with at(OWN, timeouts=Timeouts(workflow=0.7)) as engine, asyncio.timeout(80):
            report = await engine.run(Program(ENDLESS))
        assert isinstance(report.error, ProgramStopped)
        assert report.elapsed < 5
        assert report["1"].ok

    async def test_a_cancel_ends_it(self, at):
        """The same, by a person."""
        async with at(OWN) as engine, asyncio.timeout(80):
            running = asyncio.create_task(engine.run(Program(ENDLESS), run_id="r"))
            await asyncio.sleep(0.3)
            assert isinstance((await engine.cancel("r")).error, ProgramStopped)
            assert isinstance((await running).error, ProgramStopped)


class TestSizes:
    """Values and arguments of all sizes, with a store and without."""

    async def test_large_values_in_a_store(self, at, tmp_path):
        """The program sees them, and hands them on; no history has them."""
        from dagexec.engines.temporal import FolderStore

        source = "a = noise(800_000)\nb = a + noise(100_000)\n[length(b), len(a), b[:0]]"
        store = FolderStore(tmp_path)
        async with at(OWN, store=store) as engine, asyncio.timeout(80):
            given = {"whole": "x" * 100_000}
            report = await engine.run(Program(source, variables=given), run_id="r")
            assert report.result == [900_000, 800_000, ""]
            history = await engine._runs._handle("r").fetch_history()
            assert sum(event.ByteSize() for event in history.events) < 50_000
        async with at(OWN, store=store) as engine, asyncio.timeout(80):
            again = await engine.report("r")
            assert again.result == report.result
            assert again.plan["3"].args["value"][:800_000] == report["1"].value

    @pytest.mark.slow
    async def test_what_does_not_travel(self, at):
        """A call whose arguments are too large fails alone; many that are large go in parts."""
        source = """
parts = [noise(900_000) for _ in range(5)]
try:
    total(parts[0], parts[1], parts[2], parts[3], parts[4])
except ToolError as error:
    print(str(error)[:47], "store=" in str(error))
sizes = [length(part) for part in parts]
[len(parts), sum(sizes)]
"""
        async with at(OWN) as engine, asyncio.timeout(60):
            report = await engine.run(Program(source), run_id="r")
            assert report.error is None
            assert report.result == [5, 5 * 900_000]
            text = "CallError: the arguments of the call are too la True"
            assert report.printed == f"{text}\n"
            history = await engine._runs._handle("r").fetch_history()
            assert max(event.ByteSize() for event in history.events) < 2_000_000

    async def test_a_program_that_is_too_large(self, at):
        """It is refused before it begins."""
        async with at(OWN) as engine, asyncio.timeout(20):
            given = {"x": secrets.token_hex(3_000_000)}
            with pytest.raises(DagexecError, match=r"the program, .* is too large for Temporal"):
                await engine.run(Program("len(x)", variables=given))

    async def test_a_store_that_fails(self, at, tmp_path):
        """Who interprets the program tries again."""
        from dagexec.engines.temporal import FolderStore

        class Rare(FolderStore):
            calls = 0

            async def get(self, key: str) -> bytes:
                Rare.calls += 1
                if Rare.calls < 4:
                    raise OSError("away")
                return await super().get(key)

        async with at(OWN, store=Rare(tmp_path)) as engine, asyncio.timeout(80):
            report = await engine.run(Program("a = noise(100_000)\nlen(a)"))
        assert report.result == 100_000


class TestMoving:
    """Runs that go on in a fresh history."""

    @pytest.fixture
    def early(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dagexec.engines.temporal import _launches, _workflow

        monkeypatch.setattr(_workflow, "MOVE_EVENTS", 100)
        monkeypatch.setattr(_launches, "WINDOW", 6)

    async def test_in_the_middle(self, at, early):
        """With what was made and not begun, an answer in between, and the end that was kept."""
        source = """
rows = [double(n) for n in range(40)]
paid = spend(rows[3])
total = 0
for row in rows:
    total = double(total + row) % 1000
print(total)
paid + total
"""
        async with at(OWN) as engine, asyncio.timeout(60):
            report = await engine.run(Program(source), run_id="r")
            assert report["41"].status == "pending"
            first = (await engine._runs._handle("r").describe()).run_id
            assert first != report.run_id
            report = await engine.resume("r", {"41": Approve()})
        total = 0
        for n in range(40):
            total = 2 * (total + 2 * n) % 1000
        assert (report.result, report.printed) == (6 + total, f"{total}\n")
        assert len(report) == 81
        async with at(OWN) as engine, asyncio.timeout(20):
            assert (await engine.report("r")).result == report.result


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_decider_that_lacks_a_tool(address, name, caplog):
    """It passes the run on to one that has it, and says so."""
    lacks = engine_at(address, name, [], calls=False)
    async with lacks, asyncio.timeout(100):
        asks = engine_at(address, name, OWN, calls=False, decides=False)
        async with asks:
            running = asyncio.create_task(asks.run(Program("double(4)")))
            await asyncio.sleep(3)
            assert not running.done()
            assert "it has no tool double: another one has to" in caplog.text
            async with engine_at(address, name, OWN):
                assert (await running).result == 8
