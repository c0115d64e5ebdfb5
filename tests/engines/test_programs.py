"""Programs on an engine: what an Executor makes of them, over deaths, days and processes.

The tests take the engine from a fixture: `temporal/test_programs.py` runs them on Temporal.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Approve, DagexecError, Deny, Executor, Report, Timeouts, current_call, tool
from dagexec.journal import MemoryJournal
from dagexec.programs import Program, ProgramFailed, ProgramRefused, ProgramStopped
from tests.engines.programs import account_of
from tests.engines.tools_for_engines import TOOLS
from tests.programs.generated import World, Writer, by_python
from tests.programs.killed_anywhere import Strict

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagexec.engines.dbos import DbosEngine

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]

PROGRAMS = {
    "a loop, a function, what is printed": """
def twice(x):
    return add(x, x)
rows = [twice(i) for i in range(4)]
for row in rows:
    print(row)
sum(rows)
""",
    "calls that need one another": """
a = add(1, 2)
b = add(a, a)
while b < 20:
    b = add(b, a)
f"{a} and {b}"
""",
    "a tool that fails, and a handler": """
seen = []
for i in range(3):
    try:
        seen.append(fail(i) if i == 1 else add(i))
    except ToolError as e:
        seen.append([e.tool, e.status, str(e)])
seen
""",
    "an error of the program's own": "a = add(1)\nprint('so far')\nwrite('x')\n{}['k']",
    "a tool that fails, and no handler": "x = add(1)\ny = fail('why')\nwrite('never')\n[x, y]",
    "hung calls": """
out = []
for hung in (slow_read, slow_write):
    try:
        hung(1)
    except ToolError as e:
        out.append([e.status, str(e)])
out + [add(5)]
""",
    "writes on named resources": """
write("a")
read("a")
write("b")
for p in "abc":
    write(p)
[read(p) for p in "abc"]
""",
    "writes on none, behind approvals that are not needed": """
[pay_much(n) for n in (1, 2)] + [point(3)["x"], item("k")["k"][2]["deep"]]
""",
    "identical pure calls": "[square(2), square(2), square(square(2))]",
    "retries": "[flaky(1), flaky(3)]",
    "arguments that do not fit": "try:\n    add('no')\nexcept ToolError as e:\n    e.status",
    "a value that cannot be kept": "unwritable()",
    "no calls": "x = [i * i for i in range(5)]\nprint(x)\nx[-1]",
    "a limit": "while True:\n    pass",
}
WAITING = """
rows = [add(n) for n in (1, 2)]
first = pay(3)
where = question("where")
print(sum(rows))
second = pay_much(sum(rows) * 10)
write("end")
[first, where, second]
"""


def engine_at(url: str, name: str, tools: Any = TOOLS, **settings: Any) -> DbosEngine:
    from dagexec.engines.dbos import DbosEngine

    return DbosEngine(tools, database_url=url, name=name, polling=0.05, **settings)


@pytest.fixture
def at(url: str, name: str) -> Callable[..., Any]:
    """Return what makes an engine that shares nothing with any other test's."""
    return partial(engine_at, url, name)


def program(source: str) -> Program:
    return Program(source, max_steps=20_000)


def came_to(report: Report) -> dict[str, Any]:
    """Return what a report says of a program and its calls, without times."""
    end = report.program
    assert end is not None
    cause = None if end.error is None else end.error.__cause__
    return {
        "result": end.result,
        "printed": end.printed,
        "error": (type(end.error), str(end.error), None if cause is None else str(cause)),
        "lines": dict(end.lines),
        "variables": dict(end.variables),
        "left": dict(end.left),
        "calls": [(call.id, call.tool, report[call.id].status) for call in report.plan],
    }


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"on_failure": "stop"}, marks=pytest.mark.slow),
        pytest.param({"barrier": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
async def test_a_program_comes_to_what_it_does_in_an_executor(at, settings):
    """Results, output, errors with lines, calls; asked again, and by another process later."""
    alone = Executor(TOOLS, journal=MemoryJournal(), **settings)
    expected = {
        each: came_to(await alone.run(program(source), run_id=f"alone {each}"))
        for each, source in PROGRAMS.items()
    }
    async with at(**settings) as engine, asyncio.timeout(50):
        reports = await asyncio.gather(
            *(engine.run(program(source), run_id=each) for each, source in PROGRAMS.items())
        )
    assert {each: came_to(report) for each, report in zip(PROGRAMS, reports, strict=True)} == (
        expected
    )
    async with at(**settings) as engine, asyncio.timeout(50):
        for each, source in PROGRAMS.items():
            assert came_to(await engine.run(program(source), run_id=each)) == expected[each]
            assert came_to(await engine.resume(each)) == expected[each]


async def test_questions_are_answered_in_several_rounds(at):
    """What does not depend on them is done meanwhile; each time by another engine."""
    alone = Executor(TOOLS, journal=MemoryJournal())
    given = program(WAITING)
    expected = [came_to(await alone.run(given, run_id="r"))]
    rounds: list[dict[str, object]] = [{"3": Approve()}, {"4": "here"}, {"4": "there"}]
    rounds += [{"5": Deny("too much")}]
    for answers in rounds:
        expected.append(came_to(await alone.resume("r", answers, plan=given)))
    assert expected[0]["printed"] == "3\n"
    async with at() as engine, asyncio.timeout(20):
        assert came_to(await engine.run(given, run_id="r")) == expected[0]
    for answers, each in zip(rounds, expected[1:], strict=True):
        async with at() as engine, asyncio.timeout(20):
            assert came_to(await engine.resume("r", answers)) == each
            with pytest.raises(DagexecError, match="no call '99' to answer"):
                await engine.resume("r", {"99": Approve()})


async def test_an_answer_while_other_calls_run(at):
    """What waits for it goes on at once; what hangs holds only what needs it."""
    source = "slow = nap(1.5)\nwho = question('who')\nb = read('x')\nnap(0)\n[who, b, slow]"
    async with at() as engine, asyncio.timeout(20):
        task = asyncio.create_task(engine.run(Program(source), run_id="r"))
        while True:
            try:
                report = await engine.resume("r", {"2": "me"})
                break
            except DagexecError:  # it has not begun yet
                await asyncio.sleep(0.02)
        assert report["2"].status == "pending"
        assert report["3"].status == "done"
        assert (await engine.resume("r", {"2": "too"})).result == ["me too", "x", 1.5]
        assert (await task).run_id == "r"


class Worlds:
    """A world for each run, and tools for generated programs."""

    def __init__(self) -> None:
        self.worlds: dict[str, World] = {}
        chance = random.Random(1)

        async def use(kind: str, *args: Any) -> Any:
            await asyncio.sleep(chance.choice([0, 0, 0.01]))
            world = self.worlds.setdefault(current_call().run_id, World())
            return getattr(world, kind)(*args)

        @tool(effect="read")
        async def read(x: Any) -> Any:
            return await use("read", x)

        @tool(effect="pure")
        async def pure(x: Any) -> Any:
            return await use("pure", x)

        @tool(effect="write")
        async def write(x: Any, y: Any = 0) -> Any:
            return await use("write", x, y)

        self.tools = [read, pure, write]


async def generated(at: Callable[..., Any], seeds: range) -> None:
    worlds = Worlds()
    sources = {f"r{seed}": Writer(random.Random(seed)).program() for seed in seeds}
    async with at(worlds.tools) as engine, asyncio.timeout(300):
        for first in range(0, len(sources), 8):
            part = dict([*sources.items()][first : first + 8])
            reports = await asyncio.gather(
                *(engine.run(Program(source), run_id=each) for each, source in part.items())
            )
            for (each, source), report in zip(part.items(), reports, strict=True):
                world = worlds.worlds.get(each, World())
                assert account_of(report, world) == by_python(source, Strict()), source


async def test_generated_programs_do_what_python_does(at):
    """In result, output, error, and in the order of their writes."""
    await generated(at, range(8))


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_many_generated_programs(at):
    """The same, of more."""
    await generated(at, range(100, 140))


async def test_what_is_refused(at):
    """Another program under the same id, a plan under it, and what is outside the language."""
    async with at() as engine, asyncio.timeout(20):
        odd = Program("x", variables={"x": float("nan")})
        assert str((await engine.run(odd, run_id="odd")).result) == "nan"
        assert str((await engine.run(odd, run_id="odd")).result) == "nan"
        report = await engine.run(Program("add(x, 1)", variables={"x": 1}), run_id="r")
        assert report.result == 2
        with pytest.raises(DagexecError, match="begun with another program: its source differs"):
            await engine.run(Program("add(x, 2)", variables={"x": 1}), run_id="r")
        with pytest.raises(DagexecError, match="its variables differ"):
            await engine.run(Program("add(x, 1)", variables={"x": 2}), run_id="r")
        with pytest.raises(DagexecError, match="begun with another plan"):
            await engine.run([], run_id="r")
        await engine.run([], run_id="p")
        with pytest.raises(DagexecError, match="begun with another plan"):
            await engine.run(Program("1"), run_id="p")
        with pytest.raises(ProgramRefused, match="import"):
            await engine.run(Program("import os"), run_id="n")


async def test_tools_that_programs_cannot_tell_apart(at):
    """Refused before anything is stored."""
    tools = [tool(lambda: 1, name=each, effect="read") for each in ("a-b", "a_b")]
    async with at(tools) as engine, asyncio.timeout(20):
        with pytest.raises(DagexecError, match="have one name in programs"):
            await engine.run(Program("1"), run_id="n")
        with pytest.raises(DagexecError, match="knows no run 'n'"):
            await engine.resume("n")


async def test_the_deadline_of_a_run(at):
    """What is done is kept; the report says where the program stood, now and later."""
    source = "a = add(1)\nn = nap(50)\nprint(a)\nb = add(a)\nif n:\n    write('x')\nb"
    async with at(timeouts=Timeouts(call=None, workflow=1)) as engine:
        report = await engine.run(Program(source), run_id="r")
        for each in (report, await engine.resume("r")):
            statuses = {name: outcome.status for name, outcome in each.items()}
            assert statuses == {"1": "done", "2": "timed_out", "3": "done"}
            assert isinstance(each.error, ProgramStopped)
            assert "at line 5; it waited for nap() (call 2, line 2)" in str(each.error)
            assert each.printed == "1\n"


async def test_cancelling_a_run(at):
    """Of a program that waits for a person, and of one whose call runs."""
    async with at() as engine, asyncio.timeout(20):
        await engine.run(Program("p = pay(1)\nadd(p)"), run_id="waits")
        report = await engine.cancel("waits")
        assert report["1"].status == "cancelled"
        assert isinstance(report.error, ProgramStopped)
        task = asyncio.create_task(engine.run(Program("nap(50)"), run_id="runs"))
        await asyncio.sleep(0.5)
        report = await engine.cancel("runs")
        assert report["1"].status == "cancelled"
        assert isinstance((await task).error, ProgramStopped)


async def test_a_program_that_fails_has_a_report(at):
    """With the line, and what it left."""
    async with at() as engine, asyncio.timeout(20):
        report = await engine.run(Program("x = add(1)\ny = x + 'a'\nwrite(y)"))
    assert isinstance(report.error, ProgramFailed)
    assert report.error.line == 2
    assert not report.ok
    assert report.program is not None
    assert report.program.left == {"x": 1}


async def test_the_report_of_a_run_whose_tools_have_changed(at, caplog):
    """Today's tools lead the program elsewhere: it says what it came to then."""
    source = "a = get(1, 2)\nprint(a)\ns = {a, 'x'}\nget(a)\n[s, (a, 1)][0:]\n{}[a]"

    @tool(name="get", effect="read")
    async def before(x: object, y: object = 0) -> object:
        return x

    @tool(name="get", effect="read")
    async def after(z: object, y: object = 0) -> object:
        return z

    async with at([before]) as engine:
        report = await engine.run(Program(source), run_id="failed")
        whole = await engine.run(Program("x = get((1, 2))\n[{'a', 1}, (1, 2), len]"), run_id="r")
    async with at([after]) as engine:
        again = await engine.resume("failed")
        assert "says what was recorded" in caplog.text
        assert str(again.error) == str(report.error)
        assert isinstance(again.error, ProgramFailed)
        assert isinstance(report.error, ProgramFailed)
        assert again.error.line == report.error.line
        assert "KeyError" in str(again.error.__cause__)
        for part in ("printed", "lines", "left", "variables", "definitions"):
            assert getattr(again.program, part) == getattr(report.program, part)
        again = await engine.resume("r")
        assert again.printed == whole.printed
        assert again.result == repr(whole.result)


async def test_a_run_whose_tools_have_changed_on_the_way(at):
    """The process that goes on with it finds out, and begins none of the other calls."""
    seen: list[object] = []

    @tool(name="get", effect="read")
    async def before(x: object, y: object = 0) -> object:
        seen.append(x)
        return x

    @tool(name="get", effect="read")
    async def after(y: object, x: object = 0) -> object:
        seen.append(y)
        return y

    @tool(effect="read", timeout=60)
    async def hang() -> None:
        if "hangs" not in seen:
            seen.append("hangs")
            await asyncio.sleep(50)

    source = "a = get(1)\nh = hang()\nb = get(a + 1)\nif h is None:\n    get(b)\nb"
    async with at([before, hang]) as engine:
        task = asyncio.create_task(engine.run(Program(source), run_id="r"))
        async with asyncio.timeout(20):
            while not {1, 2, "hangs"} <= {*seen}:
                await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    done = [*seen]
    async with at([after, hang]) as engine, asyncio.timeout(20):
        with pytest.raises(
            DagexecError, match=r"broke off .* (another call of|it comes to call \d of) get\(\)"
        ):
            await engine.resume("r")
    assert 3 not in seen
    assert [each for each in seen if each == 1] == [1]
    assert seen[: len(done)] == done
