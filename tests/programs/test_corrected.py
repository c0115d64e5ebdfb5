"""What an error says, and a corrected program that takes what is done from the attempt before."""

from __future__ import annotations

import copy
import os
import random
from collections import Counter
from typing import Any

import anyio
import pytest

from dagexec import Call, Executor, Timeouts, tool
from dagexec.programs import (
    EarlierCall,
    LimitReached,
    Program,
    Programs,
    ToolError,
    calls_of,
    program_tool,
    told,
)
from tests.programs.generated import World, Writer

# Programs that the slow test corrects.
MANY = int(os.environ.get("DAGEXEC_FUZZ", "1000")) // 5

pytestmark = pytest.mark.anyio


class Shop:
    """A shop whose orders are counted."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.looks: list[str] = []

        @tool(effect="read")
        async def look(name: str) -> dict[str, Any]:
            self.looks.append(name)
            if name == "broken":
                msg = "no such thing"
                raise ValueError(msg)
            return {"name": name}

        @tool
        async def buy(name: str, n: int = 1) -> str:
            self.orders.append(name)
            if name == "hung":
                await anyio.sleep(1e6)
            return f"{n} x {name}"

        self.executor = Executor([look, buy], timeouts=Timeouts(call=5))

    async def run(self, source: str, earlier: Any = ()) -> Any:
        return await self.executor.run(Program(source, earlier=earlier))

    def done(self, report: Any) -> list[EarlierCall]:
        return calls_of(report, self.executor.tools)


async def test_a_corrected_program_repeats_nothing_that_is_done() -> None:
    shop = Shop()
    report = await shop.run("buy('a')\nx = look('a')\nbuy(x['nmae'])")
    assert report.error is not None
    again = await shop.run("buy('a', n=1)\nx = look('a')\nbuy(x['name'] + '!')", shop.done(report))
    assert again.result == "1 x a!"
    assert shop.orders == ["a", "a!"]
    assert shop.looks == ["a"]
    assert {call.tool for call in again.program.reused.values()} == {"buy", "look"}


async def test_equal_calls_are_taken_once_each_and_in_order() -> None:
    shop = Shop()
    report = await shop.run("buy('a')\nbuy('a')\nno")
    again = await shop.run("[buy('a') for i in range(3)]", shop.done(report))
    assert again.result == ["1 x a"] * 3
    assert shop.orders == ["a"] * 3


async def test_what_an_attempt_did_not_come_to_is_there_for_the_next() -> None:
    shop = Shop()
    first = await shop.run("buy('a')\nbuy('b')\nno")
    second = await shop.run("buy('a')\nno\nbuy('b')", shop.done(first))
    third = await shop.run("buy('a')\nbuy('b')\nbuy('c')", shop.done(second))
    assert third.error is None
    assert shop.orders == ["a", "b", "c"]


async def test_a_write_that_may_have_taken_effect_is_not_repeated_in_silence() -> None:
    shop = Shop()
    report = await shop.run("buy('hung')")
    assert "timed out" in str(report.error)
    again = await shop.run("buy('hung')", shop.done(report))
    assert isinstance(again.error.__cause__, ToolError)
    assert "may have taken effect" in str(again.error)
    assert shop.orders == ["hung"]
    wanted = [each for each in shop.done(report) if each.tool != "buy"]
    await shop.run("buy('hung')", wanted)
    assert shop.orders == ["hung", "hung"]


async def test_a_failed_call_runs_again() -> None:
    shop = Shop()
    report = await shop.run("look('broken')")
    await shop.run("look('broken')", shop.done(report))
    assert shop.looks == ["broken", "broken"]


async def test_earlier_calls_go_through_json() -> None:
    call = EarlierCall("buy", {"name": "a"}, [1, {"b": None}], "")
    assert EarlierCall.from_dict(call.to_dict()) == call


@pytest.mark.parametrize("seed", range(20))
async def test_an_error_anywhere_costs_no_write_twice(seed: int) -> None:
    chance, shop = random.Random(seed), Shop()
    lines = [f"buy('{number}')" for number in range(10)]
    for name in ("x", "y", "z"):
        lines.insert(chance.randrange(len(lines)), f"{name} = look(buy('{name}'))['name']")
    done: list[EarlierCall] = []
    for _ in range(4):
        broken = list(lines)
        broken.insert(chance.randrange(len(lines) + 1), "1 / 0")
        done = shop.done(await shop.run("\n".join(broken), done))
    report = await shop.run("\n".join(lines), done)
    assert report.error is None, report.error
    assert sorted(shop.orders) == sorted([*map(str, range(10)), "x", "y", "z"])


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = {'name': 1}\ny = x['nmae']", "    y = x['nmae']\n        ^\n    x = {'name': 1}"),
        ("x = look('a')\ny = x['n']", "    y = x['n']\n        ^\n    the values there: {'name'"),
        ("a = 1\nb = 2 / (a - 1)", "    b = 2 / (a - 1)\n        ^\n    a = 1"),
        ("x = look('broken')", "    x = look('broken')\n        ^"),
        ("é = [1, 2]; x = foo", "    é = [1, 2]; x = foo\n                    ^"),
        ("def f(x):\n    return x['k']\nf({})", "line 2: KeyError: 'k'\n        return x['k']\n"),
    ],
)
async def test_an_error_has_line_caret_and_values(source: str, told: str) -> None:
    report = await Shop().run(source)
    assert told in str(report.error)


@pytest.mark.parametrize(
    "source",
    ["x = [1]\nx.append(x)\nbuy(x)", "x = [1]\nfor i in range(40): x = [x, x]\nbuy(x)"],
)
async def test_an_argument_has_an_end(source: str) -> None:
    shop = Shop()
    report = await shop.run(source)
    assert "line" in str(report.error)
    assert shop.orders == []


async def test_what_a_program_leaves() -> None:
    source = "x = look('a')\ny = [x, (1, {2})]\ndef f(): pass\nz = [1]\nz.append(z)"
    report = await Shop().run(source)
    assert report.program.variables == {"x": {"name": "a"}, "y": [{"name": "a"}, [1, [2]]]}
    assert (await Shop().run("x = 1\nno")).program.variables == {}


async def test_a_limit_names_its_line() -> None:
    report = await Shop().run("x = 1\nx = 'a' * 10 ** 9")
    assert isinstance(report.error, LimitReached)
    assert "line 2" in str(report.error)


async def test_what_is_secret_is_in_no_text() -> None:
    """A model is told of calls by their other arguments; they are compared whole all the same."""
    paid: list[str] = []

    @tool(secret=["card"])
    async def pay(amount: int, card: str) -> str:
        paid.append(card)
        if amount < 0:
            raise ValueError("no such amount")
        return f"paid {amount}"

    executor = Executor([pay])

    async def answer(source: str, before: dict[int, Any]) -> dict[str, Any]:
        programs = Programs(lambda: before)
        inside = Executor([program_tool(executor, programs, text=False)])
        report = await inside.run([Call("2", "run_program", {"source": source})])
        return report["2"].value

    first = await answer("pay(1, '4111')\npay(-2, '4222')", {})
    assert "pay(amount=1, card='<secret>')" in told(first)
    assert "pay(amount=-2, card='<secret>')" in told(first)
    assert "4111" not in told(first)  # the line that failed is quoted, the others are not
    assert "4111" not in repr([EarlierCall.from_dict(each) for each in first["calls"]])
    second = await answer("pay(1, '4111')\npay(1, '4333')", {1: first})
    assert paid == ["4111", "4222", "4333"]
    assert "card='<secret>'" in told(second)
    assert "4111" not in told(second)


async def corrected(seed: int) -> tuple[int, int]:
    """Run a generated program with an error in some line, then without.

    Return how many writes were done, and how many of them were repeated: more often than the
    attempt with most of them had asked for.
    """
    chance, done = random.Random(seed), Counter[str]()
    world = World()

    @tool(effect="read")
    async def read(x: Any) -> Any:
        return copy.deepcopy(world.read(x))

    @tool(effect="pure")
    async def pure(x: Any) -> Any:
        return world.pure(x)

    @tool
    async def write(x: Any, y: Any = 0) -> Any:
        value = world.write(x, y)
        done[repr([x, y])] += 1
        return value

    executor = Executor([read, pure, write])
    lines = Writer(chance).program().splitlines()
    plain = [n for n, line in enumerate(lines) if not line.lstrip().startswith(("el", "ex", "fi"))]
    broken, at = list(lines), chance.choice(plain)
    broken.insert(at, " " * (len(lines[at]) - len(lines[at].lstrip())) + "1 / 0")
    earlier: list[EarlierCall] = []
    asked: list[Counter[str]] = []
    for text in (broken, lines):
        before = Counter(done)
        report = await executor.run(Program("\n".join(text), earlier=earlier))
        earlier = calls_of(report, executor.tools)
        reused = [each for each in report.program.reused.values() if each.tool == "write"]
        asked.append(
            done - before + Counter(repr([e.args["x"], e.args.get("y", 0)]) for e in reused)
        )
    total = asked[0] | asked[1]
    return sum(done.values()), sum((done - total).values())


async def test_a_generated_program_that_is_corrected_repeats_no_write() -> None:
    found = [await corrected(seed) for seed in range(60)]
    assert sum(writes for writes, _ in found) > 20
    assert not any(repeated for _, repeated in found)


@pytest.mark.slow
async def test_many_programs_that_are_corrected() -> None:
    found = [await corrected(seed) for seed in range(1_000, 1_000 + MANY)]
    assert not any(repeated for _, repeated in found)


LEFT = {
    "what was assigned before the error": (
        "x = 1\ny = [x, 2]\nno",
        {"x": 1, "y": [1, 2]},
    ),
    "what was changed before the error": (
        "y = []\nfor i in range(3): y.append(i)\n1 / 0\nz = 1",
        {"y": [0, 1, 2], "i": 2},
    ),
    "a result, though the program ran ahead": (
        "a = look('a')\nlook('broken')\nb = look('b')",
        {"a": {"name": "a"}},
    ),
    "not what was assigned ahead": (
        "x = 1\nlook('broken')\nx = 2\nz = 3",
        {},
    ),
    "not what was changed ahead": (
        "x = [1]\ny = x\nz = [5]\nlook('broken')\nx.append(2)",
        {"z": [5]},
    ),
    "not what an alias changed": (
        "x = [[1]]\nn = 1\nz = [5]\nlook('broken')\nfor row in x: row.append(2)",
        {"n": 1, "z": [5]},
    ),
    "not what a part without a name changed": (
        "x = [[1]]\nn = 1\nlook('broken')\n[row.append(2) for row in x]",
        {"n": 1},
    ),
    "not what a function may have changed": (
        "x = [1]\nn = 1\ndef f(): x.append(look('a'))\nlook('broken')\nf()",
        {"n": 1},
    ),
    "a failure in a function": (
        "n = 1\nxs = ['a', 'broken']\ndef f(x): return look(x)\nys = [f(x) for x in xs]\nm = 2",
        {"n": 1},
    ),
}


@pytest.mark.parametrize("name", LEFT)
async def test_a_program_that_failed_leaves_its_variables(name: str) -> None:
    source, expected = LEFT[name]
    report = await Shop().run(source)
    assert report.error is not None
    assert report.program.left == expected


async def test_the_next_program_finds_what_one_that_failed_left() -> None:
    shop, before = Shop(), dict[int, Any]()
    run_program = program_tool(shop.executor, Programs(lambda: before), text=False)
    inside = Executor([run_program])

    async def answer(number: int, source: str) -> dict[str, Any]:
        report = await inside.run([Call(str(number), "run_program", {"source": source})])
        before[number] = report[str(number)].value
        return before[number]

    first = await answer(1, "a = look('a')\nb = [1]\nno")
    assert "Variables that the next program finds: a, b" in told(first)
    second = await answer(2, "a['name'] + str(b)")
    assert second["result"] == "a[1]"
    assert shop.looks == ["a"]
