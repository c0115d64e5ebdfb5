"""A `try` round one value holds nothing up, and comes to what Python does."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from dagexec import Executor, tool
from dagexec.programs import Program
from tests.programs.generated import by_python
from tests.programs.test_equal import out_of_order

pytestmark = pytest.mark.anyio


@tool(effect="read")
async def get(x: int) -> int:
    """Return twice the number after a second; odd ones fail."""
    await anyio.sleep(1)
    if x % 2:
        msg = f"no {x}"
        raise ValueError(msg)
    return 2 * x


@tool
async def put(x: int) -> int:
    """Write a number; odd ones fail."""
    await anyio.sleep(1)
    if x % 2:
        msg = f"cannot put {x}"
        raise ValueError(msg)
    return x


FORMS = {
    "append": """
out = []
for x in range(4):
    try:
        out.append(get(x))
    except Exception as e:
        out.append(None)
out
""",
    "item": """
out = {}
for x in range(4):
    try:
        out[x] = get(x) + 1
    except ToolError as e:
        out[x] = {"error": str(e), "x": x, "kind": type(e).__name__}
out
""",
    "name": """
out = []
for x in range(4):
    try:
        r = get(x)
    except (KeyError, ToolError):
        r = f"none of {x}"
    out.append(r)
out
""",
    "function": """
def safe(x):
    try:
        return get(x)
    except ToolError as e:
        return {"error": repr(e) if False else str(e)}
[safe(x) for x in range(4)]
""".replace("repr(e) if False else ", ""),
}


@pytest.mark.parametrize("source", FORMS.values(), ids=FORMS.keys())
async def test_the_next_turn_does_not_wait(source: str, anyio_backend: Any) -> None:
    begun = anyio.current_time()
    report = await Executor([get, put]).run(Program(source))
    assert report.error is None, report.error
    assert anyio.current_time() - begun == pytest.approx(1, abs=0.1)
    values = list(report.result.values()) if type(report.result) is dict else report.result
    assert len(values) == 4
    assert [type(each) is int for each in values] == [True, False, True, False]
    assert [*report] == ["1", "2", "3", "4"]


async def test_writes_stay_one_by_one(anyio_backend: Any) -> None:
    source = FORMS["append"].replace("get(", "put(")
    begun = anyio.current_time()
    report = await Executor([get, put]).run(Program(source))
    assert anyio.current_time() - begun == pytest.approx(4, abs=0.1)
    assert report.result == [0, None, 2, None]


async def test_a_failure_that_no_handler_has_ends_the_program_at_its_line(
    anyio_backend: Any,
) -> None:
    source = """
out = []
for x in [0, 2, 1, 3, 4]:
    try:
        out.append(get(x))
    except (KeyError, IndexError):
        out.append(None)
put(2)
"""
    report = await Executor([get, put]).run(Program(source))
    assert report.error is not None
    assert report.error.line == 5
    assert "no 1" in str(report.error)
    assert all(each.tool == "get" for each in report.plan)


class Tries:
    """Writes random programs of such a `try`; with `errors`, also such as are no data."""

    def __init__(self, chance: random.Random, *, errors: bool = False) -> None:
        self.chance = chance
        self.errors = errors

    def value(self, depth: int = 2) -> str:
        chance = self.chance
        leaf = chance.choice(["x", "a", str(chance.randint(0, 12)), "xs[x]", "d['k']"])
        if not depth:
            return leaf
        sub = lambda: self.value(depth - 1)  # noqa: E731
        return chance.choice(
            [
                f"read({sub()})['n']",
                f"pure({sub()})",
                f"read({sub()})",
                f"(pure({sub()}) + read({sub()})['n'])",
                f"pure({sub()}) // {sub()}",
                f"[read({sub()}), {'xs' if self.errors else 'x'}]",
                f"f({sub()})",
                f"safe({sub()})",
                f"write({sub()}, x)",
                f"(pure({sub()}) if {sub()} else {sub()})",
                "ValueError(pure(x))" if self.errors else leaf,
                leaf,
            ]
        )

    def other(self) -> str:
        return self.chance.choice(
            [
                "None", "x", "str(e)", "f'{x}: {e}'", "[x, repr(e)]", "a", "missing", "f'{x:q}'",
                "{'x': x, 'kind': type(e).__name__}", "later",
                *(["e", "xs", "d"] if self.errors else []),
            ]
        )  # fmt: skip

    def form(self) -> str:
        return self.chance.choice(
            ["xs.append({})", "d[x] = {}", "d['k'] = {}", "a = {}", "xs[0] = {}"]
        )

    def attempt(self, depth: int, form: str) -> list[str]:
        pad = "    " * depth
        kinds = self.chance.choice(
            ["Exception as e", "KeyError as e", "(ValueError, TypeError) as e", "Exception as e"]
        )
        lines = [f"{pad}try:", f"{pad}    " + form.format(self.value())]
        lines += [f"{pad}except {kinds}:", f"{pad}    " + form.format(self.other())]
        if self.chance.random() < 0.2:
            lines += [f"{pad}except ZeroDivisionError:", f"{pad}    " + form.format("x")]
        return lines

    def program(self) -> str:
        chance = self.chance
        lines = ["a = 1", "x = 0", "xs = [1, 2]", "d = {'k': 2}", "later = 5", "def f(p):"]
        lines += chance.choice([["    return read(p)['n']"], ["    xs.append(p)", "    return p"]])
        inner = [each.replace("safe(", "pure(") for each in self.attempt(1, "return {}")]
        lines += ["def safe(x, a=2):", *inner]
        for _ in range(chance.randint(1, 4)):
            loop = chance.random() < 0.8
            if loop:
                lines.append(f"for x in range({chance.randint(1, 5)}):")
            depth = int(loop)
            pad = "    " * depth
            outer = chance.random() < 0.3
            if outer:
                lines.append(f"{pad}try:")
            lines += self.attempt(depth + outer, self.form())
            if chance.random() < 0.5:
                lines.append("    " * (depth + outer) + chance.choice(
                    ["xs.append(x)", "write(x, 3)", "print(a, len(xs))", "a = 2", "xs[0] = 7",
                     "d = {'k': x}", "xs = xs[-3:]", "later += 1", "print(xs, d)"]
                ))  # fmt: skip
            if outer:
                lines += [f"{pad}except Exception as other:", f"{pad}    print('outer', other)"]
            if chance.random() < 0.3:
                lines.append(f"{pad}write(2, len(xs))")
        return "\n".join([*lines, "[a, xs, d, later]"])


def check(seeds: range) -> None:
    for seed in seeds:
        source = Tries(random.Random(seed), errors=seed % 2 == 0).program()
        for order in range(2):
            found = out_of_order(source, random.Random(seed + order))
            assert found == by_python(source), f"{seed}:\n{source}"


def test_random_ones_do_what_python_does() -> None:
    check(range(100))


@pytest.mark.slow
def test_many_random_ones_do_what_python_does() -> None:
    check(range(1_000, 2_000))
