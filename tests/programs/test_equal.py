"""A program does what Python does: the same value, output, error and line, writes in order."""

from __future__ import annotations

import copy
import os
import random
from typing import Any

import pytest

from dagexec.programs._live import LiveProgram
from dagexec.programs._machine import ToolFunction
from tests.programs.generated import Account, World, Writer, by_python

# Programs that the slow test generates; more where more time is.
MANY = int(os.environ.get("DAGEXEC_FUZZ", "1000"))


class Cell:
    """A tool of the generated programs."""

    def __init__(self, name: str, *, ahead: bool) -> None:
        self.name = name
        self.ahead = ahead

    def conflicts(self, _args: Any, _other: Any, _others: Any) -> bool:
        return self.name != "pure"


TOOLS = {
    "read": ToolFunction(Cell("read", ahead=True), ("x",)),
    "pure": ToolFunction(Cell("pure", ahead=True), ("x",)),
    "write": ToolFunction(Cell("write", ahead=False), ("x", "y")),
}


def out_of_order(source: str, chance: random.Random) -> Account:
    """Run a program with calls that end in any order, some at once and some late."""
    world, program, running = World(), LiveProgram(source, TOOLS), []
    for _ in range(100_000):
        program.step()
        running += [program.calls.popleft() for _ in range(len(program.calls))]
        if program.over:
            break
        for _ in range(min(chance.choice([0, 1, 1, 2, 5]), len(running))):
            call = running.pop(chance.randrange(len(running)))
            try:
                value = copy.deepcopy(getattr(world, call.tool)(**call.args))
            except Exception as error:
                program.settle(call.id, None, error)
            else:
                program.settle(call.id, value)
    assert program.over, f"it does not end:\n{source}"
    error = program.error
    cause = None if error is None else error.__cause__
    told = None if cause is None else (type(cause).__name__, str(cause), error.line)
    result = repr(program.result) if error is None else None
    return Account(result, program.printed, told, world.writes, world.cells)


def check(seeds: range) -> None:
    for seed in seeds:
        source = Writer(random.Random(seed)).program()
        assert out_of_order(source, random.Random(seed)) == by_python(source), f"{seed}:\n{source}"


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_generated_programs_do_what_python_does(first: int) -> None:
    check(range(first, first + 100))


@pytest.mark.slow
@pytest.mark.timeout(60 + MANY // 2)  # coverage and a busy machine make it slower
def test_many_of_them() -> None:
    check(range(1_000, 1_000 + MANY))


SITUATIONS = {
    "a list changes behind a value that is still to come": """
rows = [3]
later = read(1)["all"] + rows
rows.append(9)
later
""",
    "an alias of a part of a result": """
r = read(2)
part = r["all"]
part.append(7)
[r, part]
""",
    "what a handler sees is what Python left": """
seen = []
x = 0
try:
    x = 1
    read(5)
    x = 2
    seen.append(x)
except KeyError as problem:
    seen.append((x, str(problem)))
[x, seen]
""",
    "a write behind a failure never starts": """
read(5)
write(1, 2)
""",
    "the first failure counts, not the first to end": """
a = read("no")
b = read(5)
[a, b]
""",
    "finally runs once, with what was there": """
log = []
def f(n):
    try:
        log.append(n)
        return read(n)["n"]
    finally:
        log.append("done")
try:
    f(1); f(5); f(2)
except KeyError:
    pass
log
""",
    "nested handlers": """
out = []
for i in range(3):
    try:
        try:
            out.append(read(i * 5)["n"])
        except KeyError:
            out.append("inner")
            raise ValueError(i)
        else:
            out.append("else")
    except ValueError as e:
        out.append(e.args)
out
""",
    "closures and defaults": """
def counter():
    n = 0
    def more(step=read(1)["n"]):
        nonlocal n
        n += step
        return n
    return more
c = counter()
[c(), c(2), c(step=read(2)["n"])]
""",
    "in-place addition of a list that is still to come": """
xs = read(1)["all"]
ys = xs
xs += [1]
ys
""",
    "printing before a change": """
xs = [read(1)["n"]]
print(xs, f"{xs}")
xs.append(2)
print(xs)
""",
    "short circuits": """
a = read(0)["n"] or write(3, 1)
b = read(1)["n"] and pure(9)
c = any(pure(i) > 3 for i in range(5))
d = next((i for i in range(9) if pure(i) > 20), None)
[a, b, c, d]
""",
    "errors of operations on results": """
total = 0
for i in range(3):
    total += read(i)["missing"]
""",
    "a function that changes its argument": """
def push(xs, x):
    xs.append(x)
    return len(xs)
xs = []
[push(xs, read(1)["n"]), push(xs, read(2)["n"]), xs]
""",
    "stars": """
a, *b = read(1)["all"]
def f(*args, **named):
    return [args, named]
f(*b, *[1], x=a, **{"y": 2})
""",
    "while with a value that decides": """
n = 1
while read(n % 4)["n"] < 3:
    n += 1
else:
    n = -n
n
""",
    "an argument is what it was when the call was written": """
xs = [1]
d = {"k": xs}
told = []
try:
    read(d.get("k", read(1)["n"]))
    write(1, 2)
    xs.append(pure(4))
except ValueError as e:
    told.append(str(e))
write(1, [d.get("k", read(1)["n"]), read(2)["n"]])
xs.append(3)
write(2, d)
xs.append(4)
told
""",
    "an augmented operator names itself": """
told = []
for wrong in [[1], {"a": 1}, None]:
    for kind in range(5):
        x = wrong
        try:
            if kind == 0:
                x %= 2
            elif kind == 1:
                x -= 2
            elif kind == 2:
                x **= 2
            elif kind == 3:
                x //= read(1)["n"]
            else:
                x >>= 1
        except TypeError as e:
            told.append(str(e))
told
""",
    "a variable that was deleted": """
try:
    read(5)
except KeyError as e:
    pass
e
""",
}


@pytest.mark.parametrize("source", SITUATIONS.values(), ids=SITUATIONS.keys())
@pytest.mark.parametrize("seed", range(5))
def test_situations_do_what_python_does(source: str, seed: int) -> None:
    text = source.strip()
    if not text.splitlines()[-1].startswith((" ", "write")):
        pass
    else:
        text += "\nNone"
    assert out_of_order(text, random.Random(seed)) == by_python(text)
