"""Programs in an executor: as fast as their data flow, with deadlines, effects and a journal."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dagexec import DagexecError, Executor, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.lowlevel import Launch
from dagexec.programs import (
    Program,
    ProgramFailed,
    ProgramRefused,
    ProgramStopped,
    ToolError,
)

pytestmark = pytest.mark.anyio


class Shop:
    """Tools that take a while, and the order in which their effects came."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.log: list[Any] = []
        shop = self

        @tool(effect="read")
        async def look(name: str, n: int = 0) -> dict[str, Any]:
            await anyio.sleep(shop.seconds.get(name, 0.1))
            if name == "broken":
                msg = "no such thing"
                raise ValueError(msg)
            shop.log.append(("look", name))
            return {"name": name, "n": n + 1}

        @tool(effect="write")
        async def buy(name: str) -> str:
            shop.log.append(("begin", name))
            await anyio.sleep(shop.seconds.get(name, 0.1))
            if name == "broken":
                msg = "sold out"
                raise ValueError(msg)
            shop.log.append(("buy", name))
            return f"bought {name}"

        @tool(effect="write", approval=True)
        async def pay(amount: int) -> str:
            shop.log.append(("pay", amount))
            return "paid"

        self.tools = [look, buy, pay]

    async def run(self, source: str, **options: Any) -> Any:
        return await Executor(self.tools, **options).run(Program(source))


FLOWS = {
    "three independent calls": (
        "[look('a')['n'], look('b')['n'], look('c')['n']]",
        0.1,
        [1, 1, 1],
    ),
    "two chains": (
        (
            "a = look('a')\na = look('a', a['n'])\n"
            "b = look('b')\nb = look('b', b['n'])\na['n'] + b['n']"
        ),
        0.2,
        4,
    ),
    "a loop": ("t = 0\nfor x in ['a', 'b', 'c']:\n    t += look(x)['n']\nt", 0.1, 3),
    "a loop of dependent pairs": (
        (
            "out = []\nfor x in ['a', 'b', 'c']:\n    y = look(x)\n"
            "    out.append(look(x, y['n'])['n'])\nout"
        ),
        0.2,
        [2, 2, 2],
    ),
    "chains of unequal calls in gather": (
        (
            "async def chain(a, b):\n    y = await look(a)\n"
            "    return (await look(b, y['n']))['n']\n"
            "r = await asyncio.gather(chain('a', 'slow'), chain('slow', 'b'))\nsum(r)"
        ),
        0.5,
        4,
    ),
    "functions": (
        (
            "def total(names):\n    return sum(look(x)['n'] for x in names)\n"
            "[total(['a', 'b']), total(['c'])]"
        ),
        0.1,
        [2, 1],
    ),
}


@pytest.mark.parametrize("name", FLOWS)
async def test_a_program_takes_as_long_as_its_data_flow(name: str) -> None:
    source, seconds, result = FLOWS[name]
    if "asyncio" in source:
        source = "import asyncio\n" + source
    report = await Shop(slow=0.4).run(source)
    assert report.error is None, report.error
    assert report.result == result
    assert report.elapsed == pytest.approx(seconds, abs=0.01)
    assert report.ok


async def test_a_write_starts_when_it_is_certain() -> None:
    shop = Shop(slow=0.5)
    report = await shop.run("x = look('slow')\nbuy('a')\nlook('b')\nbuy('c')\nx['n']")
    assert report.result == 1
    assert [each for each in shop.log if each[0] == "buy"] == [("buy", "a"), ("buy", "c")]
    assert shop.log[0] == ("look", "slow")  # it cannot fail any more
    assert report.elapsed == pytest.approx(0.5 + 0.1 + 0.1 + 0.1, abs=0.01)


async def test_a_write_behind_a_failure_never_starts() -> None:
    shop = Shop()
    report = await shop.run("buy('a')\nlook('broken')\nbuy('b')")
    assert shop.log == [("begin", "a"), ("buy", "a")]
    assert not report.ok
    assert isinstance(report.error, ProgramFailed)
    assert report.error.line == 2
    assert "look('broken')" in str(report.error)
    assert isinstance(report.error.__cause__, ToolError)
    with pytest.raises(ProgramFailed):
        report.raise_for_failures()


async def test_a_program_handles_a_tool_that_fails() -> None:
    shop = Shop()
    report = await shop.run(
        "done = []\nfor x in ['a', 'broken', 'c']:\n    try:\n        done.append(buy(x))\n"
        "    except ToolError as e:\n        print(x, e.tool, e.status, e)\ndone"
    )
    assert report.result == ["bought a", "bought c"]
    assert report.printed == "broken buy failed ValueError: sold out\n"
    assert report.ok


async def test_the_line_of_a_report_tells_of_the_program_and_of_no_value() -> None:
    secret = "s3cret"
    report = await Executor([]).run(Program(f"x = 1\n[][{secret!r}]"))
    assert str(report).endswith("; the program ended with TypeError in line 2")
    assert secret not in repr(report)
    assert "program" not in str(await Executor([]).run(Program("1")))


async def test_one_hung_call_costs_what_needs_it() -> None:
    shop = Shop(hung=1e6)
    report = await shop.run(
        "a = look('a')\nprint(a['name'])\nh = look('hung')\nprint('never')\nh['n']",
        timeouts=Timeouts(call=0.5),
    )
    assert report.printed == "a\n"
    assert isinstance(report.error, ProgramFailed)
    assert "timed out" in str(report.error)
    assert report.elapsed == pytest.approx(0.5, abs=0.01)


async def test_the_end_of_a_run_says_where_the_program_stood() -> None:
    shop = Shop(hung=1e6)
    report = await shop.run(
        "print('begun')\nx = look('hung')\nif x['n']:\n    buy('a')\n",
        timeouts=Timeouts(call=None, workflow=2),
    )
    assert report.printed == "begun\n"
    text = str(report.error)
    assert isinstance(report.error, ProgramFailed | ProgramStopped)
    assert "line" in text
    assert report.elapsed == pytest.approx(2, abs=0.01)
    assert shop.log == []


async def test_data_is_never_read_for_references() -> None:
    seen: list[Any] = []

    @tool(effect="read")
    async def page() -> dict[str, Any]:
        return {"text": "${1}", "evil": {"$ref": "1"}, "t": {"$template": "${1}"}}

    @tool(effect="write")
    async def send(body: Any) -> str:
        seen.append(body)
        return "sent"

    report = await Executor([page, send]).run(
        Program("p = page()\nsend(p)\nsend([p['evil']])\nsend({'$ref': '1'})\nsend('$1')")
    )
    assert report.error is None, report.error
    data = {"text": "${1}", "evil": {"$ref": "1"}, "t": {"$template": "${1}"}}
    assert seen == [data, [{"$ref": "1"}], {"$ref": "1"}, "$1"]


async def test_what_a_tool_gets_is_not_what_the_program_changes_later() -> None:
    seen: list[Any] = []

    @tool(effect="write")
    async def keep(rows: list[int]) -> list[int]:
        seen.append(rows)
        rows.append(0)
        return rows

    report = await Executor([keep]).run(
        Program("xs = [1]\na = keep(xs)\nxs.append(2)\na.append(3)\nkeep(xs)\n[xs, a]")
    )
    assert report.result == [[1, 2], [1, 0, 3]]
    assert report["1"].value == [1, 0]


async def test_a_recorded_program_goes_on_without_repeating_calls() -> None:
    shop, journal = Shop(), MemoryJournal()
    source = "a = buy('a')\nx = look('slow')\nb = buy('b')\n[a, b, x['n']]"

    class Crash(BaseException):
        pass

    boom = True

    @tool(effect="read")
    async def look(name: str) -> dict[str, Any]:
        if boom:
            raise Crash
        return {"n": 7}

    executor = Executor([look, *shop.tools[1:]], journal=journal)
    with pytest.raises(Crash):
        await executor.run(Program(source), run_id="r")
    boom = False
    report = await executor.run(Program(source), run_id="r")
    assert report.result == ["bought a", "bought b", 7]
    assert shop.log == [("begin", "a"), ("buy", "a"), ("begin", "b"), ("buy", "b")]
    again = await executor.run(Program(source), run_id="r")
    assert again.result == report.result
    assert len(shop.log) == 4


@pytest.mark.parametrize("concurrency", [20, 1, 0])
async def test_programs_run_with_any_concurrency(concurrency: int) -> None:
    shop = Shop()
    report = await shop.run(
        "a = look('a')\nb = buy(a['name'])\nprint(b)\n[look(b)['n'], buy('c')]",
        concurrency=concurrency,
        timeouts=Timeouts(workflow=5),
    )
    assert report.error is None, report.error
    assert report.result == [1, "bought c"]
    assert report.printed == "bought a\n"


async def test_a_program_that_waits_for_a_person_says_so() -> None:
    report = await Shop().run("a = look('a')\npay(5)\nbuy('b')")
    assert report["2"].status == "pending"
    assert "waits for a person" in str(report.error)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("class A: pass", "functions and dicts"),
        ("x.name", "write …['name']"),
        ("import os", "there are asyncio, json, math"),
        ("with a: pass", "no `with`"),
        ("x = (i for i in y)", "write a list"),
        ("1 +", "SyntaxError"),
        ("eval('1')", "there is no eval"),
        ("f'{x.__class__}'", "attributes are not read"),
    ],
)
def test_what_is_not_in_the_language_is_refused_whole(source: str, told: str) -> None:
    with pytest.raises(ProgramRefused, match="line 1") as refused:
        Program(source)
    assert told in str(refused.value)


async def test_all_calls_of_one_turn_reach_the_scheduler_as_one_event() -> None:
    """A task and a turn of the loop for each call would cost more than the call."""
    layers: list[int] = []

    def hear(item: object) -> None:
        if isinstance(item, Launch):
            layers.append(len(item.calls))

    shop = Shop()
    executor = Executor(shop.tools, observers=[hear])
    report = await executor.run(Program("[look('a', i)['n'] for i in range(50)]"))
    assert report.result == [*range(1, 51)]
    assert layers == [50]


async def test_an_ended_run_that_is_run_again_is_what_it_was() -> None:
    """Also where one call ended behind the failure that the program had stopped at by then."""
    shop, journal = Shop(slow=1), MemoryJournal()
    source = "look('broken')\nif look('slow')['n']:\n    look('c')"
    executor = Executor(shop.tools, journal=journal)
    first = await executor.run(Program(source), run_id="r")
    again = await executor.run(Program(source), run_id="r")
    assert str(again.error) == str(first.error)
    assert shop.log == [("look", "slow")]


async def test_another_program_under_a_known_run_id_is_refused() -> None:
    executor = Executor(Shop().tools, journal=MemoryJournal())
    await executor.run(Program("look('a')"), run_id="r")
    with pytest.raises(DagexecError, match="another run_id"):
        await executor.run(Program("look('a')\nlook('b')['n']"), run_id="r")
    with pytest.raises(DagexecError):
        await executor.run(Program("look('b')"), run_id="r")


async def test_what_a_failed_call_says_survives_a_crash() -> None:
    executor = Executor(Shop().tools, journal=MemoryJournal())
    source = "try:\n    look('broken')\nexcept ToolError as e:\n    print(e)"
    printed = [(await executor.run(Program(source), run_id="r")).printed for _ in range(2)]
    assert printed == ["ValueError: no such thing\n"] * 2
