"""`asyncio.gather(…, return_exceptions=True)`: errors as values, as asyncio has them."""

from __future__ import annotations

import ast
import asyncio
import textwrap
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import Executor, tool
from dagexec.programs import Program, ProgramRefused
from dagexec.testing import run_virtual

pytestmark = pytest.mark.anyio

HEAD = "import asyncio\n"
# Stands for it in the programs below.
ERRORS = "return_exceptions=True"


class ToolError(Exception):
    """What a tool's failure is in a program."""


class World:
    """Reads of which odd ones fail, and writes; `log` has what was done, in order."""

    def __init__(self):
        self.log = []
        made = [tool(self.get, effect="read"), tool(self.put, effect="write")]
        self.executor = Executor(made)

    async def get(self, x: Any, seconds: float = 1.0) -> Any:
        """Return twice the number; odd ones fail."""
        await anyio.sleep(seconds)
        if type(x) is not int or x % 2:
            msg = f"no {x!r}"
            raise ValueError(msg)
        self.log.append(x)
        return 2 * x

    async def put(self, x: Any) -> Any:
        """Write a number; odd ones fail."""
        await anyio.sleep(0.5)
        self.log.append(("put", x))
        if x % 2:
            msg = f"cannot put {x}"
            raise ValueError(msg)
        return x


def program(source):
    """Return a program as it is written."""
    return HEAD + textwrap.dedent(source).replace("ERRORS", ERRORS)


async def run(source, world=None):
    """Return the result of a program, its report, and how long it took."""
    world = world or World()
    begun = anyio.current_time()
    report = await world.executor.run(Program(program(source)))
    return report.result, report, anyio.current_time() - begun


SAID = "[str(each) for each in r]"
NO = "ValueError: no {}".format

ROWS = [
    ("r = await asyncio.gather(get(2), get(1), ERRORS)", ["4", NO(1)]),
    (
        "r = await asyncio.gather(*[get(i) for i in range(3)], ERRORS)",
        ["0", NO(1), "4"],
    ),
    (
        "r = await asyncio.gather(*(get(i) for i in range(3)), ERRORS)",
        ["0", NO(1), "4"],
    ),
    (
        "r = await asyncio.gather(*[get(0), get(1)], get(3), ERRORS)",
        ["0", NO(1), NO(3)],
    ),
    (
        "r = await asyncio.gather(get(2) / 0, get(2)['x'], ERRORS)",
        ["division by zero", "'int' object is not subscriptable"],
    ),
    ("r = await asyncio.gather(get(get(1)), get(get(2)), ERRORS)", [NO(1), "8"]),
    ("ts = [get(0), get(1)]\nr = await asyncio.gather(*ts, ERRORS)", ["0", NO(1)]),
    (
        (
            "ts = []\nfor i in range(3):\n    ts.append(asyncio.create_task(get(i)))\n"
            "r = await asyncio.gather(*ts, ERRORS)"
        ),
        ["0", NO(1), "4"],
    ),
    (
        (
            "ts = {i: get(i) for i in range(2)}\n"
            "r = await asyncio.gather(*ts.values(), ERRORS)\n"
            "r = [f'{k}={v}' for k, v in zip(ts, r)]"
        ),
        ["0=0", f"1={NO(1)}"],
    ),
    (
        (
            "ts = {}\nfor i in range(2):\n    ts[i] = get(i)\n"
            "r = await asyncio.gather(*ts.values(), ERRORS)"
        ),
        ["0", NO(1)],
    ),
    (
        ("a = asyncio.create_task(get(1))\nb = get(2)\nr = await asyncio.gather(a, b, ERRORS)"),
        [NO(1), "4"],
    ),
    (
        (
            "async def f(i):\n    x = await get(i)\n    return x + await get(x)\n"
            "r = await asyncio.gather(*[f(i) for i in range(3)], ERRORS)"
        ),
        ["0", NO(1), "12"],
    ),
    (
        (
            "async def f(i):\n    a, b = await asyncio.gather(get(i), get(1), ERRORS)\n"
            "    return [str(a), str(b)]\n"
            "r = await asyncio.gather(*[f(i) for i in (1, 2)], ERRORS)"
        ),
        [str([NO(1), NO(1)]), str(["4", NO(1)])],
    ),
    (
        (
            "async def f(i):\n    z = get(1)\n"
            "    a, b = await asyncio.gather(get(i), get(z), ERRORS)\n    return a\n"
            "r = await asyncio.gather(*[f(i) for i in (1, 2)], ERRORS)"
        ),
        [NO(1), NO(1)],
    ),
]


@pytest.mark.parametrize(("source", "values"), ROWS)
async def test_errors_are_values(source, values):
    """However it is written, and side by side: no call waits for one that it does not need."""
    result, report, seconds = await run(f"{source}\n{SAID}")
    assert report.error is None
    assert result == values
    assert seconds <= 2.0 + 1e-9


async def test_a_function_that_changes_things_is_run_whole():
    """What it did before it failed stands, and nothing of what stands behind that."""
    result, report, _ = await run("""
        log = []
        async def f(i):
            log.append(i)
            x = await get(i)
            log.append(x)
            return x
        r = await asyncio.gather(*[f(i) for i in range(3)], ERRORS)
        [log, str(r[1])]
    """)
    assert report.error is None
    assert result == [[0, 0, 1, 2, 4], NO(1)]


@pytest.mark.parametrize(
    "part",
    [
        "sorted([x, x], key=note)",
        "sorted([x, x], key=other)",
        "list(map(lambda n: log.append(n), [x, x]))",
    ],
)
async def test_a_function_that_is_handed_on_may_change_things_too(part):
    """What stands behind a failure never happened, however it would have been called."""
    result, report, _ = await run(f"""
        log = []
        def note(n):
            log.append(n)
            return n
        other = note
        async def f(i):
            x = await get(i)
            return {part}
        r = await asyncio.gather(*[f(i) for i in range(3)], ERRORS)
        log
    """)
    assert report.error is None
    assert result == [0, 0, 4, 4]


async def test_writes_keep_their_order_and_go_on():
    """A write that fails is a value, and those behind it are done, each once."""
    world = World()
    result, report, _ = await run(
        "r = await asyncio.gather(put(2), put(1), put(4), ERRORS)\n"
        "put(6)\n[str(each) for each in r]",
        world,
    )
    assert report.error is None
    assert result == ["2", "ValueError: cannot put 1", "4"]
    assert world.log == [("put", 2), ("put", 1), ("put", 4), ("put", 6)]


async def test_a_write_behind_a_failure_in_one_expression_never_happens():
    """It is a part of the expression that failed."""
    world = World()
    result, _, _ = await run(
        "r = await asyncio.gather(put(get(1)), put(2 + get(3)), put(8), ERRORS)\n" + SAID,
        world,
    )
    assert result == [NO(1), NO(3), "8"]
    assert world.log == [("put", 8)]


async def test_what_failed_before_it_ends_the_program():
    """The first line that fails is the error, as line by line."""
    _, report, _ = await run("x = get(1)\nr = await asyncio.gather(get(3), ERRORS)")
    assert report.error is not None
    assert report.error.line == 2
    result, report, _ = await run("""
        try:
            r = await asyncio.gather(get(1), ERRORS)
            x = get(3)
        except ToolError as error:
            r = [r[0], error]
        [str(each) for each in r]
    """)
    assert result == [NO(1), NO(3)]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "ts = [get(1)]\nprint(ts)\nr = await asyncio.gather(*ts, ERRORS)",
            "write them into gather",
        ),
        (
            "r = await asyncio.gather(*map(get, [1]), ERRORS)",
            "write them into gather",
        ),
        (
            "x = True\nr = await asyncio.gather(get(1), return_exceptions=x)",
            "is True or False here",
        ),
        (
            "def made():\n    return [get(1)]\nts = made()\nr = await asyncio.gather(*ts, ERRORS)",
            "write them into gather",
        ),
        ("ts = [get(1)]\nr = await asyncio.gather(ts, ERRORS)", "write them into gather"),
        ("r = await asyncio.gather(get(1), loop=None)", "gather has one argument with a name"),
    ],
)
def test_what_cannot_be_seen_is_refused(source, told):
    """With what to write instead; it is never left out in silence."""
    with pytest.raises(ProgramRefused, match=told):
        Program(program(source))


async def test_without_it_an_error_is_raised():
    """As ever."""
    _, report, _ = await run("r = await asyncio.gather(get(1), return_exceptions=False)")
    assert report.error is not None


NUMBER = st.integers(0, 5)
PART = st.recursive(
    NUMBER.map("await get({})".format),
    lambda inner: st.one_of(
        inner.map("await get({})".format),
        st.tuples(inner, NUMBER).map("({0[0]}) // {0[1]}".format),
        st.tuples(inner, inner).map("[{0[0]}, {0[1]}][0]".format),
        inner.map("(({}) if n % 2 else n)".format),
        st.tuples(inner, NUMBER).map("await f({0[0]}, {0[1]})".format),
        st.tuples(inner, NUMBER).map("await g({0[0]}, {0[1]})".format),
    ),
    max_leaves=4,
)
FUNCTIONS = """
async def f(x, n):
    y = await get(n)
    return x + y
async def g(x, n):
    if x > n:
        return await get(x)
    parts = await asyncio.gather(get(x), get(n), ERRORS)
    return [str(each) for each in parts]
"""


def program_of(parts, numbers):
    """Return a program that gathers such parts, and once more for each number."""
    wrapped = [f"async def part{k}(n):\n    return {part}\n" for k, part in enumerate(parts)]
    calls = ", ".join(f"part{k}({k})" for k in range(len(parts)))
    return (
        FUNCTIONS
        + "".join(wrapped)
        + f"r = await asyncio.gather({calls}, ERRORS)\n"
        + f"s = await asyncio.gather(*[part0(n) for n in {numbers}], ERRORS)\n"
        + "[f'{type(each).__name__} {each}' for each in [*r, *s]]"
    )


async def by_asyncio(source):
    """Return the last value of a program, by Python itself."""

    async def get(x):
        if type(x) is not int or x % 2:
            msg = f"ValueError: no {x!r}"
            raise ToolError(msg)
        return 2 * x

    tree = ast.parse(source)
    tree.body[-1] = ast.Assign([ast.Name("result", ast.Store())], tree.body[-1].value)
    names = {"get": get, "asyncio": asyncio, "ToolError": ToolError}
    code = compile(ast.fix_missing_locations(tree), "p", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, names)
    if made is not None:
        await made
    return names["result"]


@given(st.lists(PART, min_size=1, max_size=4), st.lists(NUMBER, max_size=3))
def test_as_asyncio_has_it(parts, numbers):
    """Random expressions, some of which fail, by both."""
    source = program_of(parts, numbers)
    expected = asyncio.run(by_asyncio(source.replace("ERRORS", ERRORS)))

    async def ours():
        return await run(source)

    result, report, _ = run_virtual(ours)
    assert report.error is None
    assert result == expected
